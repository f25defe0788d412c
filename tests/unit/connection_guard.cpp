// holdfast: tests of connection_guard: closed on every path, said exactly once, and nothing lost by a
// graceful close.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::connection_guard;
using holdfast::errc;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct ends {
    int times = 0;
    connection_end last;
    bool descriptor_was_open = false;
};

/// Notes every end, and whether the descriptor was still open then.
struct record {
    ends* to;
    int descriptor;
    void operator()(const connection_end& end) const noexcept
    {
        ++to->times;
        to->last = end;
        to->descriptor_was_open = tests::is_open_descriptor(descriptor);
    }
};
using guard = connection_guard<tcp::socket, record>;

guard watch(tcp::socket socket, ends& to)
{
    const int descriptor = socket.native_handle();
    return guard(std::move(socket), {&to, descriptor});
}

/// Exactly one end so far, with the descriptor closed before it.
bool ended_once(const ends& e, close_reason reason)
{
    INFO("ended " << e.times << " times, for: " << e.last.reason);
    CHECK(e.times == 1);
    CHECK(e.last.reason == reason);
    CHECK_FALSE(e.descriptor_was_open);
    return e.times == 1 && e.last.reason == reason && !e.descriptor_was_open;
}

/// Writes until neither side's buffers take any more.
std::string fill(tcp::socket& socket)
{
    std::string written;
    const std::string block(64 * 1024, 'x');
    socket.non_blocking(true);
    for (error_code ec; !ec;) {
        written.append(block, 0, socket.write_some(net::buffer(block), ec));
        if (ec) CHECK(ec == net::error::would_block);
    }
    return written;
}

const std::array all_cancellations{net::cancellation_type::terminal, net::cancellation_type::partial,
                                   net::cancellation_type::total};

static_assert(std::is_nothrow_move_constructible_v<guard>);
static_assert(!std::is_copy_constructible_v<guard>);
static_assert(holdfast::abortable<guard>);
static_assert(!holdfast::connection_finalizer<void (*)(const connection_end&)>); // could throw

} // namespace

TEST_CASE("close() closes the descriptor, then finalizes with reason, error and age, later attempts do nothing")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    {
        guard peer = watch(std::move(server), e);
        CHECK(peer.is_open());
        CHECK(peer.reason() == close_reason::none);
        const auto before = std::chrono::steady_clock::now();
        while (std::chrono::steady_clock::now() == before) {
        }
        peer.close(close_reason::io_error, net::error::broken_pipe);
        REQUIRE(ended_once(e, close_reason::io_error));
        CHECK(e.last.error == net::error::broken_pipe);
        CHECK(e.last.age > 0ns);
        CHECK(e.last.age <= peer.age());
        CHECK_FALSE(peer.is_open());
        CHECK(peer.reason() == close_reason::io_error);
        peer.close();
        peer.abort(close_reason::heartbeat_timeout);
        bool done = false;
        peer.async_close({}, [&](error_code ec) {
            CHECK_FALSE(ec);
            done = true;
        });
        tests::run(io);
        CHECK(done);
        CHECK(peer.reason() == close_reason::io_error);
    }
    CHECK(ended_once(e, close_reason::io_error));
    CHECK(tests::read_to_end(client).end == net::error::eof);
}

TEST_CASE("without a reason, close() and abort() are local, and close() lets the peer see the end of the stream")
{
    net::io_context io;
    ends closed, aborted;
    auto [a, a_peer] = tests::socket_pair(io);
    auto [b, b_peer] = tests::socket_pair(io);
    guard first = watch(std::move(a), closed);
    guard second = watch(std::move(b), aborted);
    first.close();
    second.abort();
    CHECK(ended_once(closed, close_reason::local));
    CHECK(ended_once(aborted, close_reason::local));
    CHECK_FALSE(closed.last.error);
    CHECK(tests::read_to_end(a_peer).end == net::error::eof);
}

TEST_CASE("abort() resets the connection, whatever lies unsent")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    const auto written = fill(peer.stream());
    peer.abort(close_reason::heartbeat_timeout);
    REQUIRE(ended_once(e, close_reason::heartbeat_timeout));
    const auto got = tests::read_to_end(client);
    CHECK(got.end == net::error::connection_reset);
    CHECK(got.bytes.size() < written.size());
}

TEST_CASE("the destructor closes what was not closed: by return, and by an exception that passes")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    SECTION("return")
    {
        {
            const guard peer = watch(std::move(server), e);
        }
        CHECK(ended_once(e, close_reason::abandoned));
    }
    SECTION("exception")
    {
        try {
            const guard peer = watch(std::move(server), e);
            throw std::runtime_error("thrown by the session");
        } catch (const std::runtime_error&) {
        }
        CHECK(ended_once(e, close_reason::exception));
    }
    SECTION("exception, after it was closed")
    {
        try {
            guard peer = watch(std::move(server), e);
            peer.close(close_reason::drained);
            throw std::runtime_error("thrown by the session");
        } catch (const std::runtime_error&) {
        }
        CHECK(ended_once(e, close_reason::drained));
    }
    CHECK(tests::read_to_end(client).end == net::error::eof);
}

TEST_CASE("an exception that leaves a coroutine ends its connection for that reason, local variable or parameter")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    bool told = false;
    const auto fails = [&](std::exception_ptr p) { told = p != nullptr; };
    SECTION("a local variable")
    {
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                const guard peer = watch(std::move(server), e);
                co_await net::post(net::use_awaitable);
                throw std::runtime_error("thrown by the session");
            },
            fails);
        tests::run(io);
    }
    SECTION("a parameter, awaited by another coroutine")
    {
        static constexpr auto serve = [](guard) -> net::awaitable<void> {
            co_await net::post(net::use_awaitable);
            throw std::runtime_error("thrown by the session");
        };
        net::co_spawn(io, [&]() -> net::awaitable<void> { co_await serve(watch(std::move(server), e)); }, fails);
        tests::run(io);
    }
    SECTION("a parameter of a coroutine that was spawned itself")
    {
        static constexpr auto serve = [](guard) -> net::awaitable<void> {
            co_await net::post(net::use_awaitable);
            throw std::runtime_error("thrown by the session");
        };
        net::co_spawn(io, serve(watch(std::move(server), e)), fails);
        tests::run(io);
    }
    CHECK(told);
    CHECK(ended_once(e, close_reason::exception));
}

TEST_CASE("a cancelled coroutine ends its connection once")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    net::cancellation_signal stop;
    bool ended = false;
    net::co_spawn(
        io,
        [&]() -> net::awaitable<void> {
            guard peer = watch(std::move(server), e);
            char byte;
            co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
        },
        net::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr p) { ended = p != nullptr; }));
    io.poll();
    CHECK(e.times == 0);
    stop.emit(net::cancellation_type::terminal);
    tests::run(io);
    CHECK(ended);
    CHECK(ended_once(e, close_reason::exception));
}

TEST_CASE("the first cause wins: the end that the session names for the peer's FIN or reset is kept")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    error_code seen;
    close_reason named = close_reason::none;
    SECTION("FIN")
    {
        client.shutdown(tcp::socket::shutdown_send);
        named = close_reason::peer_closed;
    }
    SECTION("reset")
    {
        tests::reset(client);
        named = close_reason::peer_reset;
    }
    {
        guard peer = watch(std::move(server), e);
        char byte;
        peer.stream().async_read_some(net::buffer(&byte, 1), [&](error_code ec, std::size_t) {
            seen = ec;
            peer.close(named, ec);
            peer.abort(close_reason::heartbeat_timeout);
        });
        tests::run(io);
    }
    CHECK(ended_once(e, named));
    CHECK(seen);
    CHECK(e.last.error == seen);
}

TEST_CASE("an error stands for the reason that its cause has")
{
    using holdfast::reason_of;
    CHECK(reason_of({}) == close_reason::local);
    CHECK(reason_of(net::error::eof) == close_reason::peer_closed);
    CHECK(reason_of(errc::truncated_frame) == close_reason::peer_closed);
    CHECK(reason_of(net::error::connection_reset) == close_reason::peer_reset);
    CHECK(reason_of(net::error::broken_pipe) == close_reason::peer_reset);
    CHECK(reason_of(net::error::operation_aborted) == close_reason::cancelled);
    CHECK(reason_of(net::error::no_memory) == close_reason::out_of_memory);
    CHECK(reason_of(net::error::not_connected) == close_reason::peer_reset);
    CHECK(reason_of(errc::outbox_full) == close_reason::send_queue_overflow);
    for (const auto e : {errc::frame_too_long, errc::malformed_frame, errc::frame_timeout})
        CHECK(reason_of(e) == close_reason::frame_limit);
    CHECK(reason_of(net::error::host_unreachable) == close_reason::io_error);
}

#if !defined(HOLDFAST_USE_BOOST_ASIO)
TEST_CASE("an error is restored from its value and its category's number, and is unspecific beyond 255 categories")
{
    struct category final : std::error_category {
        [[nodiscard]] const char* name() const noexcept override { return "test"; }
        [[nodiscard]] std::string message(int) const override { return {}; }
    };
    const std::array<category, 300> known;
    holdfast::detail::error_categories numbers;
    for (int round = 0; round != 2; ++round)
        for (std::size_t i = 0; i != known.size(); ++i) {
            const auto number = numbers.number_of(known[i]);
            const error_code expected =
                i < 255 ? error_code(-7, known[i]) : error_code(std::make_error_code(std::errc::io_error));
            CHECK(numbers.error(-7, number) == expected);
        }
}

TEST_CASE("threads that note errors of the same categories agree on their numbers")
{
    const std::array<const std::error_category*, 4> known{&std::system_category(), &std::generic_category(),
                                                          &std::iostream_category(), &std::future_category()};
    holdfast::detail::error_categories numbers;
    std::array<std::array<std::uint8_t, 4>, 4> found{};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != found.size(); ++t)
        threads.emplace_back([&, t] {
            for (std::size_t i = 0; i != known.size(); ++i) // each from another one on
                found[t][(t + i) % known.size()] = numbers.number_of(*known[(t + i) % known.size()]);
        });
    for (auto& thread : threads)
        thread.join();
    for (const auto& numbers_of_one : found) {
        CHECK(numbers_of_one == found[0]);
        for (std::size_t i = 0; i != known.size(); ++i)
            CHECK(numbers.error(1, numbers_of_one[i]) == error_code(1, *known[i]));
    }
}
#endif

TEST_CASE("an exception stands for its error, for want of memory, or for itself")
{
    const auto end_of = [](auto exception) { return holdfast::end_by(std::make_exception_ptr(exception)); };
    const connection_end reset = end_of(holdfast::system_error(net::error::connection_reset));
    CHECK(reset.reason == close_reason::peer_reset);
    CHECK(reset.error == net::error::connection_reset);
    CHECK(end_of(std::bad_alloc()).reason == close_reason::out_of_memory);
    CHECK(end_of(std::runtime_error("a bug")).reason == close_reason::exception);
    CHECK_FALSE(end_of(42).error);
}

TEST_CASE("when the io_context is destroyed with an operation pending, its connection is finalized once")
{
    ends e;
    net::io_context clients;
    auto io = std::make_optional<net::io_context>();
    auto [server, client] = tests::socket_pair(*io, clients);
    SECTION("a coroutine that reads")
    {
        net::co_spawn(
            *io,
            [](guard peer) -> net::awaitable<void> {
                char byte;
                co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
            }(watch(std::move(server), e)),
            net::detached);
        io->poll();
        CHECK(e.times == 0);
        io.reset();
        CHECK(ended_once(e, close_reason::context_destroyed));
    }
    SECTION("a coroutine that waits for a timer, which was made before any guard or after")
    {
        const bool before = GENERATE(true, false);
        if (before) net::steady_timer(*io).cancel();
        net::co_spawn(
            *io,
            [](guard peer) -> net::awaitable<void> {
                net::steady_timer never(peer.get_executor(), net::steady_timer::time_point::max());
                co_await never.async_wait(net::use_awaitable);
            }(watch(std::move(server), e)),
            net::detached);
        io->poll();
        CHECK(e.times == 0);
        io.reset();
        CHECK(ended_once(e, close_reason::context_destroyed));
    }
    SECTION("a handler that was posted and never ran: the context was stopped")
    {
        net::post(*io, [peer = watch(std::move(server), e)] { FAIL("it ran"); });
        io->stop();
        io->poll();
        CHECK(e.times == 0);
        io.reset();
        CHECK(ended_once(e, close_reason::context_destroyed));
    }
    SECTION("an async_close, which had been the first cause")
    {
        guard peer = watch(std::move(server), e);
        peer.async_close({}, net::detached);
        io->poll();
        CHECK(e.times == 0);
        io.reset();
        CHECK(ended_once(e, close_reason::local));
    }
}

TEST_CASE("a guard that is move-assigned over is replaced, and the other one is taken over without an end")
{
    net::io_context io;
    auto [a, a_peer] = tests::socket_pair(io);
    auto [b, b_peer] = tests::socket_pair(io);
    ends first, second;
    {
        guard peer = watch(std::move(a), first);
        guard other = watch(std::move(b), second);
        const int descriptor = other.stream().native_handle();
        peer = std::move(other);
        CHECK(ended_once(first, close_reason::replaced));
        CHECK(second.times == 0);
        CHECK(peer.is_open());
        CHECK(peer.stream().native_handle() == descriptor);
        CHECK_FALSE(other.is_open());
        guard& self = peer;
        peer = std::move(self);
        CHECK(peer.is_open());
        CHECK(second.times == 0);
        other = watch(tcp::socket(io), first); // a moved-from guard can be filled again
        other.close();
    }
    CHECK(first.times == 2);
    CHECK(ended_once(second, close_reason::abandoned));
}

TEST_CASE("a moved-from guard is silent, and none of its members does anything")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    {
        guard peer = watch(std::move(server), e);
        guard owner = std::move(peer);
        peer.close();
        peer.abort();
        peer.async_close({}, net::detached);
        tests::run(io);
        CHECK(e.times == 0);
        CHECK(peer.reason() == close_reason::none);
        CHECK(owner.is_open());
        CHECK(tests::is_open_descriptor(owner.stream().native_handle()));
    }
    CHECK(ended_once(e, close_reason::abandoned));
}

TEST_CASE("release_unbounded() returns the open stream, and the finalizer is called once, for released")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    std::optional<tcp::socket> kept;
    {
        guard peer = watch(std::move(server), e);
        kept = peer.release_unbounded();
        CHECK_FALSE(peer.is_open());
    }
    CHECK(e.times == 1);
    CHECK(e.last.reason == close_reason::released);
    CHECK(e.descriptor_was_open);
    REQUIRE(kept->is_open());
    kept->write_some(net::buffer("hello", 5));
    kept->close();
    CHECK(tests::read_to_end(client).bytes == "hello");
}

TEST_CASE("the finalizer may close and abort once more, which does nothing")
{
    struct closes_again {
        void** self; // a guard with this finalizer: complete only within the call
        int* times;
        void operator()(const connection_end&) const noexcept
        {
            ++*times;
            auto& guard = *static_cast<connection_guard<tcp::socket, closes_again>*>(*self);
            guard.close();
            guard.abort();
        }
    };
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    int times = 0;
    void* self = nullptr;
    {
        connection_guard<tcp::socket, closes_again> peer(std::move(server), {&self, &times});
        self = &peer;
        peer.close();
        CHECK(times == 1);
    }
    CHECK(times == 1);
}

TEST_CASE("a guard may be destroyed by its finalizer, when that is the last thing it does")
{
    struct erases {
        void* owner;
        int* times;
        void operator()(const connection_end&) const noexcept
        {
            ++*times;
            static_cast<std::unique_ptr<connection_guard<tcp::socket, erases>>*>(owner)->reset();
        }
    };
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    int times = 0;
    std::unique_ptr<connection_guard<tcp::socket, erases>> owner;
    owner = std::make_unique<connection_guard<tcp::socket, erases>>(std::move(server), erases{&owner, &times});
    owner->close();
    CHECK(times == 1);
    CHECK(owner == nullptr);
}

TEST_CASE("a finalizer may destroy the guard that releases its stream, or that another is assigned over")
{
    struct erases {
        void* owner = nullptr;
        std::string name{"a string of the finalizer's own that is too long for its object"};
        std::size_t* length = nullptr;
        void operator()(const connection_end&) const noexcept
        {
            using owned = std::unique_ptr<connection_guard<tcp::socket, erases>>;
            if (owner != nullptr) static_cast<owned*>(owner)->reset();
            if (length != nullptr) *length = name.size(); // the finalizer outlives the guard
        }
    };
    using erased = connection_guard<tcp::socket, erases>;
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    auto [next, next_client] = tests::socket_pair(io);
    std::size_t length = 0;
    std::unique_ptr<erased> owner;
    owner = std::make_unique<erased>(std::move(server), erases{.owner = &owner, .length = &length});
    SECTION("released")
    {
        tcp::socket kept = owner->release_unbounded();
        CHECK(kept.is_open());
    }
    SECTION("assigned over") { *owner = erased(std::move(next), erases{}); }
    CHECK(owner == nullptr);
    CHECK(length == erases{}.name.size());
}

TEST_CASE("a guard may be destroyed within the handler of its own operation")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    auto peer = std::make_unique<guard>(watch(std::move(server), e));
    char byte;
    peer->stream().async_read_some(net::buffer(&byte, 1), [&](error_code, std::size_t) { peer.reset(); });
    client.write_some(net::buffer("x", 1));
    tests::run(io);
    CHECK(ended_once(e, close_reason::abandoned));
}

TEST_CASE("pending operations complete with operation_aborted when the guard closes or is destroyed")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    error_code seen;
    auto peer = std::make_optional(watch(std::move(server), e));
    char byte;
    peer->stream().async_read_some(net::buffer(&byte, 1), [&](error_code ec, std::size_t) { seen = ec; });
    SECTION("closed") { peer->close(); }
    SECTION("aborted") { peer->abort(); }
    SECTION("destroyed") { peer.reset(); }
    tests::run(io);
    CHECK(seen == net::error::operation_aborted);
    CHECK(e.times == 1);
}

TEST_CASE("the finalizer gets the address of a peer that is still connected")
{
    net::io_context io;
    ends e;
    SECTION("IPv4")
    {
        auto [server, client] = tests::socket_pair(io);
        guard peer = watch(std::move(server), e);
        peer.close();
        CHECK(e.last.peer.ip() == client.local_endpoint().address());
        CHECK(e.last.peer.port() == client.local_endpoint().port());
        CHECK(e.last.peer.process() == 0);
        std::ostringstream text;
        text << client.local_endpoint();
        CHECK(e.last.peer.text().view() == text.str());
    }
    SECTION("a local socket")
    {
        auto [server, client] = tests::local_pair(io);
        const int descriptor = server.native_handle();
        connection_guard<net::local::stream_protocol::socket, record> peer(std::move(server), {&e, descriptor});
        peer.close();
        CHECK(e.last.peer.process() == ::getpid());
        CHECK(e.last.peer.text().view() == "pid " + std::to_string(::getpid()));
        CHECK_FALSE(e.last.peer.ip());
    }
    SECTION("a peer that has reset the connection")
    {
        auto [server, client] = tests::socket_pair(io);
        guard peer = watch(std::move(server), e);
        tests::reset(client);
        tests::await_readable(peer.stream());
        peer.close();
        CHECK_FALSE(e.last.peer);
        CHECK(e.last.peer.text().view() == "unknown");
    }
}

TEST_CASE("an end prints as one line: reason, age, and peer and error where they are known")
{
    std::ostringstream plain, failed;
    plain << connection_end{close_reason::peer_closed, {}, 1500ms};
    failed << connection_end{close_reason::peer_reset, net::error::connection_reset, 2s};
    CHECK(plain.str() == "closed by peer after 1.5 s");
    CHECK(failed.str().find("reset by peer after 2 s (") == 0);
    CHECK(failed.str().find(error_code(net::error::connection_reset).message()) != std::string::npos);
    connection_end known{close_reason::local};
    known.peer = holdfast::peer_address(tcp::endpoint(net::ip::address_v4::loopback(), 4711));
    std::ostringstream with_peer;
    with_peer << known;
    CHECK(with_peer.str() == "closed here after 0 s, peer 127.0.0.1:4711");
}

TEST_CASE("guards allocate nothing: not to be made, moved, closed, aborted, or destroyed")
{
    net::io_context io;
    connection_guard(tcp::socket(io)).close(); // the context's first
    auto [a, a_peer] = tests::socket_pair(io);
    auto [b, b_peer] = tests::socket_pair(io);
    auto [c, c_peer] = tests::socket_pair(io);
    ends e;
    const auto allocated = tests::allocations_in([&, &a_ = a, &b_ = b, &c_ = c] {
        guard first = watch(std::move(a_), e);
        guard moved = std::move(first);
        moved.close();
        guard second = watch(std::move(b_), e);
        second.abort(close_reason::heartbeat_timeout);
        guard third = watch(std::move(c_), e);
    });
    CHECK(allocated == 0);
    CHECK(e.times == 3);
}

TEST_CASE("a plain close() with unread input loses what was written, and async_close() delivers every byte of it")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    client.write_some(net::buffer("input that the server never reads", 33));
    guard peer = watch(std::move(server), e);
    const auto written = fill(peer.stream());
    SECTION("close")
    {
        peer.close();
        const auto got = tests::read_to_end(client);
        CHECK(got.end == net::error::connection_reset);
        CHECK(got.bytes.size() < written.size());
    }
    SECTION("async_close")
    {
        error_code result = net::error::in_progress;
        peer.async_close({}, [&](error_code ec) { result = ec; });
        const auto got = tests::read_to_end(client);
        CHECK(got.end == net::error::eof);
        CHECK(got.bytes == written);
        CHECK(e.times == 0);
        client.close();
        tests::run(io);
        CHECK_FALSE(result);
        CHECK(ended_once(e, close_reason::local));
        CHECK_FALSE(e.last.error);
    }
}

TEST_CASE("a peer that continues to send 10 MB gets every byte written before async_close, and no reset")
{
    net::io_context io;
    auto [server, client_socket] = tests::socket_pair(io);
    tcp::socket client = std::move(client_socket);
    ends e;
    guard peer = watch(std::move(server), e);
    const auto written = fill(peer.stream());
    std::string got;
    error_code read_end, write_end, result = net::error::in_progress;
    const std::string flood(10'000'000, 'y');
    net::async_read(client, net::dynamic_buffer(got), [&](error_code ec, std::size_t) { read_end = ec; });
    net::async_write(client, net::buffer(flood), [&](error_code ec, std::size_t) {
        write_end = ec;
        client.shutdown(tcp::socket::shutdown_send);
    });
    peer.async_close({.deadline = 30s, .drain_bytes = flood.size()}, [&](error_code ec) { result = ec; });
    tests::run(io);
    CHECK_FALSE(result);
    CHECK_FALSE(write_end);
    CHECK(read_end == net::error::eof);
    CHECK((got == written));
    CHECK(ended_once(e, close_reason::local));
}

TEST_CASE("the end of a peer that was there before async_close, all it sent having been read, is the first cause")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    auto expected = close_reason::peer_closed;
    client.write_some(net::buffer("x", 1));
    SECTION("read to the end")
    {
        client.shutdown(tcp::socket::shutdown_send);
        char byte;
        peer.stream().read_some(net::buffer(&byte, 1));
        tests::await_readable(peer.stream());
    }
    SECTION("bytes left unread")
    {
        client.shutdown(tcp::socket::shutdown_send);
        expected = close_reason::local;
    }
    error_code result = net::error::in_progress;
    peer.async_close({}, [&](error_code ec) { result = ec; });
    client.close();
    tests::run(io);
    CHECK_FALSE(result);
    CHECK(ended_once(e, expected));
}

TEST_CASE("where a drain shut the receiving side down, async_close still delivers all to a peer that continues to send")
{
    net::io_context io;
    auto [server, client_socket] = tests::socket_pair(io);
    tcp::socket client = std::move(client_socket);
    ends e;
    guard peer = watch(std::move(server), e);
    const auto written = fill(peer.stream());
    ::shutdown(peer.stream().native_handle(), SHUT_RD); // as the registry does from elsewhere
    error_code result = net::error::in_progress, read_end;
    peer.async_close({.deadline = 30s}, [&](error_code ec) { result = ec; });
    client.write_some(net::buffer("still talking", 13)); // an early end would make the kernel reset at this
    std::string got;
    net::async_read(client, net::dynamic_buffer(got), [&](error_code ec, std::size_t) {
        read_end = ec;
        CHECK(e.times == 0);
        client.close();
    });
    tests::run(io);
    CHECK(read_end == net::error::eof);
    CHECK((got == written));
    CHECK_FALSE(result);
    CHECK(ended_once(e, close_reason::local));
}

TEST_CASE("a peer that never closes is closed at the deadline of async_close, with close_incomplete")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    peer.stream().write_some(net::buffer("bye", 3));
    error_code result;
    peer.async_close({.deadline = 50ms}, [&](error_code ec) {
        result = ec;
        CHECK(e.times == 1); // the connection has ended before the operation completes
    });
    tests::run(io);
    CHECK(result == error_code(errc::close_incomplete));
    CHECK(ended_once(e, close_reason::local));
    CHECK(e.last.error == error_code(errc::close_incomplete));
    CHECK(tests::read_to_end(client).bytes == "bye");
}

TEST_CASE("a peer that drips a byte now and then keeps async_close no longer than its deadline")
{
    net::io_context io;
    auto [server, client_socket] = tests::socket_pair(io);
    tcp::socket client = std::move(client_socket);
    ends e;
    guard peer = watch(std::move(server), e);
    error_code result;
    peer.async_close({.deadline = 60ms}, [&](error_code ec) { result = ec; });
    int dripped = 0;
    tests::run(io, [&]() -> net::awaitable<void> {
        net::steady_timer pause(io);
        for (error_code ec; !ec; ++dripped) {
            client.write_some(net::buffer("x", 1), ec);
            pause.expires_after(5ms);
            co_await pause.async_wait(net::use_awaitable);
        }
    });
    CHECK(dripped > 1);
    CHECK(result == error_code(errc::close_incomplete));
    CHECK(ended_once(e, close_reason::local));
}

TEST_CASE("async_close reads at most drain_bytes of the peer's: up to the bound is success, a byte more is not")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    const std::string input(5000, 'z');
    net::write(client, net::buffer(input));
    error_code result = net::error::in_progress;
    const auto note = [&](error_code ec) { result = ec; };
    SECTION("exactly the bound")
    {
        client.shutdown(tcp::socket::shutdown_send);
        peer.async_close({.deadline = 30s, .drain_bytes = input.size()}, note);
        tests::run(io);
        CHECK_FALSE(result);
    }
    SECTION("a byte more, and the peer stays")
    {
        peer.async_close({.deadline = 30s, .drain_bytes = input.size() - 1}, note);
        tests::run(io);
        CHECK(result == error_code(errc::close_incomplete));
    }
    SECTION("none at all")
    {
        peer.async_close({.deadline = 30s, .drain_bytes = 0}, note);
        tests::run(io);
        CHECK(result == error_code(errc::close_incomplete));
    }
    CHECK(ended_once(e, close_reason::local));
}

TEST_CASE("async_close never completes inside the initiating call, whatever it finds")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    SECTION("an end of stream that is there already") { client.close(); }
    SECTION("a connection that the peer has reset") { tests::reset(client); }
    SECTION("a connection that was closed here") { peer.close(); }
    int completions = 0;
    peer.async_close({}, [&](error_code) { ++completions; });
    CHECK(completions == 0);
    CHECK_FALSE(peer.is_open());
    tests::run(io);
    CHECK(completions == 1);
    CHECK(e.times == 1);
}

TEST_CASE("async_close after the peer's reset succeeds, and the connection has ended for that")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    tests::reset(client);
    tests::await_readable(peer.stream());
    error_code read_end, result = net::error::in_progress;
    char byte = 0;
    SECTION("which no operation has met")
    {
        peer.async_close([&](error_code ec) { result = ec; });
        tests::run(io);
        CHECK(e.last.error == net::error::connection_reset);
    }
    SECTION("which a read has met")
    {
        peer.stream().read_some(net::buffer(&byte, 1), read_end);
        CHECK(read_end == net::error::connection_reset);
        peer.async_close([&](error_code ec) { result = ec; });
        tests::run(io);
        CHECK(e.last.error);
    }
    SECTION("which a read has met and noted")
    {
        peer.stream().read_some(net::buffer(&byte, 1), read_end);
        peer.note(read_end);
        peer.async_close([&](error_code ec) { result = ec; });
        tests::run(io);
        CHECK(e.last.error == net::error::connection_reset);
    }
    SECTION("for which the session has closed it")
    {
        peer.stream().read_some(net::buffer(&byte, 1), read_end);
        peer.close(holdfast::reason_of(read_end), read_end);
        peer.async_close([&](error_code ec) { result = ec; });
        tests::run(io);
    }
    CHECK_FALSE(result);
    CHECK(ended_once(e, close_reason::peer_reset));
}

TEST_CASE("a peer's reset in the middle of async_close is an ordinary end of it")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    peer.stream().write_some(net::buffer("bye", 3));
    error_code result = net::error::in_progress;
    peer.async_close([&](error_code ec) { result = ec; });
    io.poll();
    tests::reset(client);
    tests::run(io);
    CHECK_FALSE(result);
    CHECK(ended_once(e, close_reason::local));
    CHECK(e.last.error == net::error::connection_reset);
}

TEST_CASE("async_close delivers all to a peer that has ended its own side and reads slowly")
{
    net::io_context io;
    auto [server, client_socket] = tests::socket_pair(io);
    tcp::socket client = std::move(client_socket);
    ends e;
    guard peer = watch(std::move(server), e);
    const auto written = fill(peer.stream());
    client.shutdown(tcp::socket::shutdown_send);
    tests::await_readable(peer.stream());
    error_code result = net::error::in_progress, read_end;
    peer.async_close({.deadline = 30s}, [&](error_code ec) { result = ec; });
    for (int i = 0; i != 3; ++i)
        io.run_one_for(20ms);
    CHECK(e.times == 0);
    std::string got;
    net::async_read(client, net::dynamic_buffer(got), [&](error_code ec, std::size_t) { read_end = ec; });
    tests::run(io);
    CHECK(read_end == net::error::eof);
    CHECK((got == written));
    CHECK_FALSE(result);
    CHECK(ended_once(e, close_reason::peer_closed));
}

TEST_CASE("no close ever blocks, whatever time SO_LINGER has")
{
    const std::string way = GENERATE("close", "destroyed", "async_close at its deadline", "async_close cancelled");
    INFO(way);
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    const auto started = std::chrono::steady_clock::now();
    {
        guard peer = watch(std::move(server), e);
        fill(peer.stream());
        peer.stream().set_option(net::socket_base::linger(true, 60));
        net::cancellation_signal stop;
        if (way == "close") peer.close();
        if (way == "async_close at its deadline") peer.async_close({.deadline = 1ms}, net::detached);
        if (way == "async_close cancelled") {
            peer.async_close({.deadline = 1h}, net::bind_cancellation_slot(stop.slot(), net::detached));
            stop.emit(net::cancellation_type::terminal);
        }
        tests::run(io);
    }
    CHECK(e.times == 1);
    CHECK(std::chrono::steady_clock::now() - started < 50s); // a close that blocks takes a minute
}

TEST_CASE("what is sent in time is delivered by close(), and what the peer does not take is not kept")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    {
        guard peer = watch(std::move(server), e);
        SECTION("sent")
        {
            peer.stream().write_some(net::buffer("bye", 3));
            peer.close();
            const auto got = tests::read_to_end(client);
            CHECK(got.bytes == "bye");
            CHECK(got.end == net::error::eof);
        }
        SECTION("unsent, closed")
        {
            fill(peer.stream());
            peer.close();
            CHECK(tests::read_to_end(client).end == net::error::connection_reset);
        }
        SECTION("unsent, destroyed") { fill(peer.stream()); }
    }
    CHECK(e.times == 1);
}

TEST_CASE("after async_close was initiated the guard may be destroyed, moved or assigned to at once")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    auto [other, other_peer] = tests::socket_pair(io);
    ends e, other_ends;
    error_code result = net::error::in_progress;
    auto peer = std::make_optional(watch(std::move(server), e));
    peer->stream().write_some(net::buffer("bye", 3));
    peer->async_close({}, [&](error_code ec) { result = ec; });
    CHECK_FALSE(peer->is_open());
    CHECK(peer->reason() == close_reason::local);
    SECTION("destroyed") { peer.reset(); }
    SECTION("moved")
    {
        const guard moved = std::move(*peer);
        CHECK_FALSE(moved.is_open());
    }
    SECTION("assigned to")
    {
        *peer = watch(std::move(other), other_ends);
        CHECK(peer->is_open());
    }
    CHECK(e.times == 0);
    const auto got = tests::read_to_end(client);
    CHECK(got.bytes == "bye");
    CHECK(got.end == net::error::eof);
    client.close();
    tests::run(io);
    CHECK_FALSE(result);
    CHECK(ended_once(e, close_reason::local));
    CHECK(other_ends.times == 0);
}

TEST_CASE("cancelling async_close by any type closes at once, with operation_aborted")
{
    for (const auto type : all_cancellations) {
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        ends e;
        guard peer = watch(std::move(server), e);
        net::cancellation_signal stop;
        error_code result;
        peer.async_close({.deadline = 1h},
                         net::bind_cancellation_slot(stop.slot(), [&](error_code ec) { result = ec; }));
        io.poll();
        CHECK(e.times == 0);
        stop.emit(type);
        tests::run(io);
        CHECK(result == net::error::operation_aborted);
        CHECK(ended_once(e, close_reason::local));
    }
}

TEST_CASE("a cancellation that arrives between async_close's steps is not forgotten")
{
    net::io_context later; // runs the operation's steps when the test lets it
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const int descriptor = server.native_handle();
    ends e;
    guard peer = watch(std::move(server), e);
    net::cancellation_signal stop;
    error_code result;
    peer.async_close(
        {.deadline = 1h},
        net::bind_cancellation_slot(stop.slot(), net::bind_executor(later, [&](error_code ec) { result = ec; })));
    client.write_some(net::buffer("x", 1));
    ::pollfd readable{descriptor, POLLIN, 0};
    REQUIRE(::poll(&readable, 1, 30'000) == 1);
    io.poll(); // the wait is over, and its completion is queued
    stop.emit(net::cancellation_type::terminal);
    tests::run_until(io, [&] {
        later.restart();
        later.poll();
        return e.times != 0;
    });
    CHECK(result == net::error::operation_aborted);
    CHECK(ended_once(e, close_reason::local));
}

TEST_CASE("async_close takes callbacks, use_awaitable and use_future, and by default use_awaitable")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    client.close();
    SECTION("use_future")
    {
        std::future<void> done = peer.async_close({}, net::use_future);
        tests::run(io);
        done.get();
    }
    SECTION("use_awaitable")
    {
        tests::run(io, [&]() -> net::awaitable<void> { co_await peer.async_close(net::use_awaitable); });
    }
    SECTION("the default")
    {
        tests::run(io, [&]() -> net::awaitable<void> { co_await peer.async_close(); });
    }
    SECTION("the default, with options")
    {
        tests::run(io, [&]() -> net::awaitable<void> { co_await peer.async_close({.deadline = 30s}); });
    }
    SECTION("options of every size")
    {
        using holdfast::close_options;
        const close_options all{std::chrono::steady_clock::duration::max(), SIZE_MAX};
        tests::run(io, [&]() -> net::awaitable<void> { co_await peer.async_close(all); });
    }
    CHECK(ended_once(e, close_reason::peer_closed));
}

TEST_CASE("async_close has returned the handler's memory before it calls the handler")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    tests::tracked memory;
    std::size_t held = 99;
    peer.async_close({}, tests::allocating_from(memory, [&](error_code) { held = memory.outstanding; }));
    CHECK(memory.total != 0);
    client.close();
    tests::run(io);
    CHECK(held == 0);
    CHECK(memory.outstanding == 0);
}

TEST_CASE("async_close that finds no memory to begin throws, and its connection has ended")
{
    bool failed = true;
    long n = 0;
    for (; failed; ++n) {
        INFO("allocation " << n);
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        ends e;
        guard peer = watch(std::move(server), e);
        tests::tracked memory;
        int completed = 0;
        bool threw = false;
        tests::until_failure = n;
        try {
            peer.async_close({}, tests::allocating_from(memory, [&](error_code) { ++completed; }));
        } catch (const std::bad_alloc&) {
            threw = true;
        }
        failed = tests::until_failure < 0;
        tests::until_failure = -1;
        CHECK(threw == failed);
        CHECK_FALSE(peer.is_open());
        if (threw) CHECK(ended_once(e, close_reason::out_of_memory));
        client.close();
        tests::run(io);
        CHECK(completed == (threw ? 0 : 1));
        CHECK(e.times == 1);
        CHECK(memory.outstanding == 0);
    }
    CHECK((n > 2 || !tests::counts_bytes)); // the connection's block, and the handler's
}

TEST_CASE("where memory runs out in the middle of async_close, the connection ends at once all the same")
{
    if (!tests::counts_bytes) return; // no allocation can be made to fail here
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ends e;
    guard peer = watch(std::move(server), e);
    tests::tracked memory;
    int completed = 0;
    bool threw = false;
    peer.async_close({}, tests::allocating_from(memory, [&](error_code) { ++completed; }));
    net::write(client, net::buffer("x", 1)); // it is discarded, and the next wait begun: with what?
    tests::until_failure = 0;
    try {
        io.run();
    } catch (const std::bad_alloc&) {
        threw = true;
    }
    tests::until_failure = -1;
    CHECK(threw);
    CHECK(ended_once(e, close_reason::out_of_memory));
    tests::run(io);
    CHECK(completed == 0);
    CHECK(memory.outstanding == 0);
}

TEST_CASE("local sockets are guarded and gracefully closed like any other")
{
    net::io_context io;
    auto [server, client] = tests::local_pair(io);
    struct count {
        int* times;
        void operator()(const connection_end&) const noexcept { ++*times; }
    };
    int times = 0;
    connection_guard peer(std::move(server), count{&times});
    SECTION("close") { peer.close(); }
    SECTION("abort") { peer.abort(); }
    SECTION("async_close")
    {
        error_code result = net::error::in_progress;
        peer.stream().write_some(net::buffer("bye", 3));
        peer.async_close({}, [&](error_code ec) { result = ec; });
        CHECK(tests::read_to_end(client).bytes == "bye");
        client.close();
        tests::run(io);
        CHECK_FALSE(result);
    }
    CHECK(times == 1);
    CHECK_FALSE(peer.is_open());
}

TEST_CASE("a user's layered stream is closed at its lowest layer")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const int descriptor = server.native_handle();
    ends e;
    connection_guard<tests::layered_stream, record> peer(tests::layered_stream(std::move(server)), {&e, descriptor});
    SECTION("close")
    {
        peer.close();
        CHECK(tests::read_to_end(client).end == net::error::eof);
    }
    SECTION("abort")
    {
        peer.abort();
        CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    }
    SECTION("async_close")
    {
        peer.async_close({}, net::detached);
        CHECK(tests::read_to_end(client).end == net::error::eof);
        client.close();
        tests::run(io);
    }
    CHECK(ended_once(e, close_reason::local));
}
