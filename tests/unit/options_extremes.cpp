// holdfast: tests that every option, walked through its extremes, is refused or works: none wraps, none is ignored.
// tests/options.py checks that each options structure of the library is walked here or in a test that it names.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/adapters/deflate.hpp>
#include <holdfast/adapters/websocket_deflate.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/bounded_spawner.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/http/exchange.hpp>
#include <holdfast/keepalive.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/replay_ring.hpp>
#include <holdfast/websocket.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using namespace holdfast;
using tests::tcp;

namespace {

enum class use { refused, works, no_memory };

/// 0, 1, the largest two, and below zero the smallest two, of a number or a duration.
template <class T>
std::vector<T> extremes()
{
    using limits = std::numeric_limits<T>;
    if constexpr (std::integral<T>) {
        std::vector<T> all{0, 1, limits::max() - 1, limits::max()};
        if (std::signed_integral<T>) all.insert(all.end(), {limits::min(), static_cast<T>(-1)});
        return all;
    } else {
        return {T::zero(), T(1), T::max() - T(1), T::max(), T::min(), T(-1)};
    }
}

/// Walks one option. `valid` says what it takes; another value is refused with the option's name.
template <class Options, class T, class Valid, class Apply>
void walk(const std::string& name, T Options::* option, Valid valid, Apply apply, Options options = {})
{
    const std::vector<T> values = extremes<T>();
    for (std::size_t i = 0; i != values.size(); ++i) {
        const T value = values[i];
        INFO(name << ", extreme " << i << ", valid: " << valid(value));
        options.*option = value;
        use found = use::works;
        std::string why;
        try {
            apply(options);
        } catch (const std::invalid_argument& error) {
            found = use::refused;
            why = error.what();
        } catch (const std::bad_alloc&) {
            found = use::no_memory;
        }
        CHECK((found == use::refused) == !valid(value));
        if (found == use::refused) CHECK(why.find(name) != std::string::npos);
    }
}

constexpr auto any = [](auto) { return true; };
constexpr auto at_least_1 = [](auto value) { return value >= decltype(value){1}; };
constexpr auto not_negative = [](auto value) { return value >= decltype(value){}; };

/// A connection whose peer has ended its stream: whatever waits for that, ends.
struct ended_peer {
    ended_peer()
    {
        auto [a, b] = tests::socket_pair(io);
        peer.emplace(std::move(a));
        b.shutdown(tcp::socket::shutdown_send);
        other.emplace(std::move(b));
    }
    net::io_context io;
    std::optional<connection_guard<>> peer;
    std::optional<tcp::socket> other;
};

} // namespace

TEST_CASE("close_options: a negative deadline is refused, and leaves the connection open")
{
    const auto apply = [](const close_options& options) {
        ended_peer test;
        std::optional<error_code> result;
        try {
            test.peer->async_close(options, [&](error_code ec) { result = ec; });
        } catch (const std::invalid_argument&) {
            CHECK(test.peer->is_open());
            throw;
        }
        test.other->close();
        tests::run(test.io);
        CHECK(result);
    };
    walk("deadline", &close_options::deadline, not_negative, apply);
    walk("drain_bytes", &close_options::drain_bytes, any, apply);
}

TEST_CASE("websocket_options and websocket_close_options")
{
    const auto read = [](const websocket_options& options) {
        ended_peer test;
        outbox box{*test.peer};
        websocket_reader reader{*test.peer, box, options};
        std::optional<error_code> result;
        reader.async_next([&](error_code ec, auto&&...) { result = ec; });
        tests::run(test.io);
        CHECK(result);
    };
    walk("max_message_bytes", &websocket_options::max_message_bytes, at_least_1, read);
    walk("buffer_bytes", &websocket_options::buffer_bytes, any, read);

    const auto close = [](const websocket_close_options& options) {
        ended_peer test;
        outbox box{*test.peer};
        std::optional<error_code> result;
        async_close_websocket(*test.peer, box, options, [&](error_code ec) { result = ec; });
        test.other->close();
        tests::run(test.io);
        CHECK(result);
    };
    walk("deadline", &websocket_close_options::deadline, not_negative, close);
    walk("drain_bytes", &websocket_close_options::drain_bytes, any, close);
}

TEST_CASE("semaphore_options, spawner_options and buffer_pool_options")
{
    walk("max_waiting", &semaphore_options::max_waiting, any, [](const semaphore_options& options) {
        net::io_context io;
        async_semaphore one(io, 1, options);
        const permit taken = one.try_acquire();
        std::optional<error_code> result;
        one.async_acquire([&](error_code ec, permit) { result = ec; });
        tests::run_until(io, [&] { return result || one.waiting() == 1; });
        CHECK(result.has_value() == (options.max_waiting == 0));
    });
    walk("max_children", &spawner_options::max_children, at_least_1, [](const spawner_options& options) {
        net::io_context io;
        int ran = 0;
        const auto child = [&]() -> net::awaitable<void> {
            ++ran;
            co_return;
        };
        async_with_spawner(
            io.get_executor(), options,
            [&](bounded_spawner& children) -> net::awaitable<void> { co_await children.async_spawn(child()); },
            net::detached);
        tests::run(io);
        CHECK(ran == 1);
    });
    const auto borrow = [](const buffer_pool_options& options) {
        net::io_context io;
        buffer_pool pool(io, options);
        std::optional<error_code> result;
        pool.async_borrow(64, [&](error_code ec, auto&&...) { result = ec; });
        tests::run(io);
        CHECK(result == (options.max_bytes < 64 ? error_code(errc::exceeds_limit) : error_code()));
    };
    walk("max_bytes", &buffer_pool_options::max_bytes, any, borrow);
    walk("keep_bytes", &buffer_pool_options::keep_bytes, any, borrow);
}

TEST_CASE("replay_ring_options")
{
    const auto keep = [](const replay_ring_options& options) {
        replay_ring ring(options);
        CHECK(ring.push(payload("text")).id == 1);
    };
    walk("max_bytes", &replay_ring_options::max_bytes, at_least_1, keep);
    walk("max_age", &replay_ring_options::max_age, at_least_1, keep);
}

TEST_CASE("keepalive_options: the kernel's refusal is an error, and no sum overflows")
{
    const auto set = [](const keepalive_options& options) {
        ended_peer test;
        if (keepalive(test.peer->stream(), options)) // which throws nothing
            throw std::invalid_argument("idle, interval, probes or unacknowledged");
    };
    const auto some = [](auto value) { return value == decltype(value){1}; };
    walk("idle", &keepalive_options::idle, some, set);
    walk("interval", &keepalive_options::interval, some, set);
    walk("probes", &keepalive_options::probes, some, set);
    walk("unacknowledged", &keepalive_options::unacknowledged, not_negative, set);
}

TEST_CASE("deflate_options and websocket_deflate_options: sizes saturate, and are refused before anything is shifted")
{
    const auto none = [](auto) { return false; };
    const auto pool = [](const deflate_options& options) {
        net::io_context io;
        CHECK(options.compressor_bytes() > 14 * 1024);
        deflate_pool(io, options);
    };
    walk("compressors", &deflate_options::compressors, at_least_1, pool);
    walk("level", &deflate_options::level, [](int level) { return level == 0 || level == 1; }, pool);
    walk("window_bits", &deflate_options::window_bits, none, pool);
    walk("memory_level", &deflate_options::memory_level, [](int level) { return level == 1; }, pool);

    const auto websocket = [](const websocket_deflate_options& options) {
        CHECK(options.bytes() > 10 * 1024);
        const bool many = options.compressors > 1000 || options.decompressors > 1000;
        if (many) CHECK(options.bytes() == std::numeric_limits<std::size_t>::max());
        const websocket_deflate made(options);
    };
    walk("compressors", &websocket_deflate_options::compressors, at_least_1, websocket);
    walk("decompressors", &websocket_deflate_options::decompressors, at_least_1, websocket);
    walk("threshold", &websocket_deflate_options::threshold, any, websocket);
    walk("level", &websocket_deflate_options::level, [](int level) { return level == 1; }, websocket);
    walk("window_bits", &websocket_deflate_options::window_bits, none, websocket);
    walk("memory_level", &websocket_deflate_options::memory_level, [](int level) { return level == 1; }, websocket);
    walk("client_window_bits", &websocket_deflate_options::client_window_bits, none, websocket);
}

TEST_CASE("http_exchange_options")
{
    walk("max_content_bytes", &http_exchange_options::max_content_bytes, any, [](const http_exchange_options& options) {
        for (const auto length : {"0", "1", "18446744073709551614", "18446744073709551615"}) {
            const http_exchange exchange(
                "POST", 11,
                [&](std::string_view name) -> std::string_view {
                    return name == "Host" ? "x" : name == "Content-Length" ? length : std::string_view();
                },
                options);
            CHECK(bool(exchange) == (std::stoull(length) <= options.max_content_bytes));
        }
    });
}
