// holdfast: what becomes of an operation on a connection when memory runs out between two of its steps?
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/tls_server.hpp"
#include "support/websocket.hpp"

#include <holdfast/buffer_pool.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/read_rate_limit.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <array>
#include <chrono>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace net = holdfast::net;
using holdfast::error_code;
using tests::tcp;
using namespace std::chrono_literals;

namespace {

struct outcome {
    bool failed = false;   // an allocation did
    bool left_run = false; // with an exception
    int completed = 0;
    error_code error;
};

/// Runs what is ready while the n-th allocation fails, and those after it where that is so for good.
outcome poll_without_memory(net::io_context& io, long n)
{
    outcome seen;
    tests::until_failure = n;
    try {
        io.restart();
        while (io.poll() != 0) {
        }
    } catch (const std::bad_alloc&) {
        seen.left_run = true;
    }
    seen.failed = tests::until_failure <= 0;
    tests::until_failure = -1;
    return seen;
}

/// `take(n)` has the n-th allocation fail within an operation, or all from that on, which then completes with no_memory,
/// once, or goes on.
void each_allocation_fails(const std::function<outcome(long)>& take, bool for_good = false)
{
    if (!tests::counts_bytes) return; // no allocation can be made to fail here
    INFO((for_good ? "for good" : "once"));
    int told = 0;
    for (long n = 0;; ++n) {
        INFO("allocation " << n);
        outcome seen;
        // In a thread of its own, which has no memory in Asio's caches yet.
        std::thread([&] {
            tests::fail_for_good = for_good;
            seen = take(n);
        }).join();
        CHECK_FALSE(seen.left_run);
        CHECK(seen.completed == 1);
        if (seen.error) {
            CHECK(seen.error == net::error::no_memory);
            ++told;
        }
        if (!seen.failed) break;
    }
    CHECK(told > 0);
}

/// The reads of a reader, and what they have completed with.
template <class Reader>
struct reads {
    void next()
    {
        from.async_next([this](error_code ec, const auto& message) {
            ++completed;
            error = ec;
            if (message) text = text_of(*message);
        });
    }
    /// The read is completed by now, or will be. Where it has failed, nothing is lost: the next one reads the message.
    outcome ended(net::io_context& io, outcome seen)
    {
        tests::run_until(io, [&] { return completed != 0; });
        seen.completed = completed;
        seen.error = error;
        if (error) {
            next();
            tests::run_until(io, [&] { return completed == 2; });
            CHECK_FALSE(error);
        }
        return seen;
    }

    static std::string_view text_of(std::string_view frame) { return frame; }
    static std::string_view text_of(const holdfast::websocket_message& message) { return message.data; }

    Reader& from;
    int completed = 0;
    error_code error{};
    std::string text{};
};

/// A line comes in two parts, and memory runs out at the first one.
template <class Stream>
outcome read_line(net::io_context& io, Stream& from, const std::function<void(std::string_view)>& send,
                  std::string_view half, long n)
{
    holdfast::frame_reader<Stream> lines{from, {.max_frame_bytes = 3000}};
    reads line{lines};
    line.next();
    io.poll();
    send(half);
    outcome seen = poll_without_memory(io, n);
    send("line\n");
    seen = line.ended(io, seen);
    CHECK(line.text == std::string(half) + "line");
    return seen;
}

/// A line comes whose rate has the reading pause, and memory runs out as the pause begins: in the initiating function, or
/// in a step that has read a part of the line.
outcome pause_reading(bool initiating, long n)
{
    using namespace std::chrono_literals;
    net::io_context io;
    holdfast::heartbeat_timer<net::any_io_executor, holdfast::manual_clock> heartbeats{io,
                                                                                       {.tick = 100ms, .timeout = 1s}};
    holdfast::read_rate_limit limit{heartbeats, {.bytes_per_second = 10, .byte_burst = 4}};
    holdfast::read_rate rate{limit};
    auto both = tests::socket_pair(io);
    holdfast::frame_reader<tcp::socket> lines{both.first, {.max_frame_bytes = 3000, .rate = &rate}};
    reads line{lines};
    outcome seen;
    const auto tick_until_completed = [&] {
        for (int ticks = 0; line.completed == 0 && ticks != 100; ++ticks) {
            holdfast::manual_clock::advance(100ms);
            io.restart();
            while (io.poll() != 0) {
            }
        }
    };
    if (initiating) {
        rate.received(7);
        net::write(both.second, net::buffer("a line\n", 7));
        tests::until_failure = n;
        try {
            line.next();
        } catch (const std::bad_alloc&) {
            seen.left_run = true;
        }
        seen.failed = tests::until_failure < 0;
        tests::until_failure = -1;
        CHECK(line.completed == 0);
    } else {
        line.next();
        io.poll();
        net::write(both.second, net::buffer("a line", 6));
        tests::await_readable(both.first);
        seen = poll_without_memory(io, n);
        net::write(both.second, net::buffer("\n", 1));
    }
    tick_until_completed();
    seen.completed = line.completed;
    seen.error = line.error;
    if (line.error) { // the reader is as it was
        line.completed = 0;
        line.next();
        tick_until_completed();
        CHECK_FALSE(line.error);
    }
    CHECK(line.text == "a line");
    return seen;
}

} // namespace

TEST_CASE("a reader that pauses for its rate")
{
    for (const bool initiating : {false, true}) {
        INFO((initiating ? "in the initiating function" : "in a step"));
        each_allocation_fails([=](long n) { return pause_reading(initiating, n); });
    }
    each_allocation_fails([](long n) { return pause_reading(false, n); }, true);
}

TEMPLATE_TEST_CASE("a timer of heartbeats ticks on, whichever allocation fails", "", net::any_io_executor,
                   net::io_context::executor_type)
{
    if (!tests::counts_bytes) return;
    bool failed = false;
    long n = 0;
    do {
        INFO("allocation " << n);
        int died = 0;
        std::thread([&] { // which has no memory in Asio's caches yet
            net::io_context io;
            holdfast::heartbeat_timer<TestType> timer{io.get_executor(), {.tick = 2ms, .timeout = 4ms}};
            auto on_death = [&] { ++died; };
            const auto first = timer.watch(on_death);
            tests::until_failure = n;
            const auto run = [&](int deaths) {
                const auto end = std::chrono::steady_clock::now() + 10s;
                while (died != deaths && std::chrono::steady_clock::now() < end)
                    try {
                        io.run_one_until(end);
                    } catch (const std::bad_alloc&) {
                        io.restart();
                    }
            };
            run(1);
            failed = tests::until_failure < 0;
            tests::until_failure = -1;
            const auto second = timer.watch(on_death);
            run(2);
        })
            .join();
        CHECK(died == 2);
        ++n;
    } while (failed);
}

TEST_CASE("a reader of a socket")
{
    const std::string long_half(1500, 'x'); // for which the first buffer is too small
    for (const std::string_view half : {std::string_view("half a "), std::string_view(long_half)})
        for (const bool for_good : {false, true})
            each_allocation_fails(
                [half](long n) {
                    net::io_context io;
                    auto both = tests::socket_pair(io);
                    return read_line(
                        io, both.first,
                        [&both](std::string_view text) {
                            net::write(both.second, net::buffer(text));
                            tests::await_readable(both.first);
                        },
                        half, n);
                },
                for_good);
}

TEST_CASE("a reader that waits for a buffer")
{
    for (const bool for_good : {false, true})
        each_allocation_fails(
            [](long n) {
                net::io_context io;
                auto both = tests::socket_pair(io);
                holdfast::buffer_pool pool{io, {.max_bytes = 1024}};
                auto all = pool.try_borrow(1024);
                holdfast::frame_reader<tcp::socket, holdfast::framing::line, holdfast::buffer_pool> lines{both.first,
                                                                                                          pool};
                reads line{lines};
                line.next();
                io.poll();
                net::write(both.second, net::buffer("a line\n", 7));
                tests::await_readable(both.first);
                outcome seen = poll_without_memory(io, n);
                all.release();
                seen = line.ended(io, seen);
                CHECK(line.text == "a line");
                return seen;
            },
            for_good);
}

TEST_CASE("a reader that leaves its turn to others")
{
    for (const bool for_good : {false, true})
        each_allocation_fails(
            [](long n) {
                net::io_context io;
                auto both = tests::socket_pair(io);
                holdfast::outbox outbox{both.first};
                holdfast::websocket_reader messages{both.first, outbox};
                reads message{messages};
                message.next();
                io.poll();
                std::string pongs; // of which a turn reads some
                for (int i = 0; i != 200; ++i)
                    pongs += tests::client_frame(0x8a, std::string(120, 'p'));
                net::write(both.second, net::buffer(pongs));
                tests::await_readable(both.first);
                outcome seen = poll_without_memory(io, n);
                net::write(both.second, net::buffer(tests::client_frame(0x81, "text")));
                seen = message.ended(io, seen);
                CHECK(message.text == "text");
                return seen;
            },
            for_good);
}

TEST_CASE("a reader of TLS", "[tls]")
{
    for (const auto& v : tests::variants)
        for (const bool for_good : {false, true}) {
            INFO(v.name);
            each_allocation_fails(
                [&v](long n) {
                    tests::tls_server f(v);
                    f.handshake();
                    return read_line(
                        f.io, *f.server,
                        [&f](std::string_view text) {
                            f.client->send(f.client->seal(text));
                            tests::await_readable(f.server->lowest_layer());
                        },
                        "half a ", n);
                },
                for_good);
        }
}

TEST_CASE("what follows plaintext that was lost for want of memory is not delivered", "[tls]")
{
    if (!tests::counts_bytes) return; // no allocation can be made to fail here
    const std::string text = tests::text_of(500);
    for (const auto& v : tests::variants) {
        INFO(v.name);
        for (long n = 0;; ++n) {
            INFO("allocation " << n);
            tests::tls_server f(v);
            f.handshake();
            std::string records;
            for (std::size_t i = 0; i != text.size(); i += 100)
                records += f.client->seal(text.substr(i, 100));
            f.client->send(records);
            tests::await_readable(f.server->lowest_layer());
            bool failed = false;
            std::string all;
            all.reserve(2 * text.size());
            error_code error;
            const auto read = [&] {
                std::array<char, 30> part;
                all.append(part.data(), f.server->try_read_some(net::buffer(part), error));
            };
            std::thread([&] { // without memory in Asio's caches
                tests::until_failure = n;
                while (!error && all.size() != text.size())
                    read();
                failed = tests::until_failure < 0;
                tests::until_failure = -1;
                for (int i = 0; all.size() != text.size() && i != 20; ++i)
                    read();
            })
                .join();
            CHECK(text.starts_with(all));
            CHECK((failed || all == text));
            if (!failed) break;
        }
    }
}
