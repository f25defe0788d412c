// holdfast: does a rate limit read no more than it allows, and lose, delay and keep nothing else?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/read_rate_limit.hpp>
#include <holdfast/testing/manual_clock.hpp>
#include <holdfast/websocket.hpp>

#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::errc;
using holdfast::error_code;
using holdfast::rate_policy;
using holdfast::read_rate;
using holdfast::read_rate_limit;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using timer = holdfast::heartbeat_timer<net::any_io_executor, holdfast::manual_clock>;

/// A context whose clock is advanced by hand, and a connection.
struct fixture {
    explicit fixture(const holdfast::read_rate_options& options)
    {
        limit.emplace(heartbeats, options);
        rate.emplace(*limit);
    }

    void settle()
    {
        for (int i = 0; i != 20; ++i) {
            io.restart();
            io.poll();
        }
    }

    void tick(int times = 1)
    {
        for (int i = 0; i != times; ++i) {
            holdfast::manual_clock::advance(100ms);
            settle();
        }
    }

    void send(std::string_view bytes) { net::write(peer, net::buffer(bytes)); }

    net::io_context io;
    timer heartbeats{io, {.tick = 100ms, .timeout = 1s}};
    std::pair<tcp::socket, tcp::socket> ends = tests::socket_pair(io);
    tcp::socket& socket = ends.first;
    tcp::socket& peer = ends.second;
    std::optional<read_rate_limit> limit;
    std::optional<read_rate> rate;
};

/// Reads frame after frame, and counts them.
template <class Reader>
struct counting {
    explicit counting(Reader& from) : reader(from) { next(); }

    void next()
    {
        reader.async_next([this](error_code ec, const auto& frame) {
            if (!ec && frame) {
                ++frames;
                next();
            } else {
                end = ec;
            }
        });
    }

    Reader& reader;
    int frames = 0;
    std::optional<error_code> end;
};

std::string lines(int n)
{
    std::string all;
    for (int i = 0; i != n; ++i)
        all += "line\n";
    return all;
}

} // namespace

TEST_CASE("a burst of messages is read at once, then those of each tick, and none is lost")
{
    fixture f({.messages_per_second = 10, .message_burst = 5});
    holdfast::frame_reader reader(f.socket, {.rate = &*f.rate});
    f.send(lines(20));
    f.peer.shutdown(tcp::socket::shutdown_send);
    counting all(reader);
    f.settle();
    CHECK(all.frames == 5);
    f.tick();
    CHECK(all.frames <= 6);
    for (int ticks = 2; ticks <= 14; ticks += 2) {
        f.tick(ticks == 2 ? 1 : 2);
        INFO(ticks);
        CHECK(all.frames >= 5 + ticks - 2);
        CHECK(all.frames <= 5 + ticks);
    }
    f.tick(4);
    CHECK(all.frames == 20);
    CHECK(all.end == error_code());
}

TEST_CASE("a quiet time allows a burst again, however long it was, and no more")
{
    fixture f({.messages_per_second = 10, .message_burst = 5});
    holdfast::frame_reader reader(f.socket, {.rate = &*f.rate});
    counting all(reader);
    f.send(lines(5));
    f.settle();
    CHECK(all.frames == 5);
    holdfast::manual_clock::advance(1h);
    f.tick(2);
    f.send(lines(50));
    f.settle();
    CHECK(all.frames == 10);
}

TEST_CASE("bytes beyond the rate stay in the socket: the peer has to wait")
{
    fixture f({.bytes_per_second = 1000, .byte_burst = 4000});
    f.peer.set_option(net::socket_base::send_buffer_size(8192));
    f.socket.set_option(net::socket_base::receive_buffer_size(8192));
    f.peer.non_blocking(true);
    holdfast::frame_reader reader(f.socket, {.max_frame_bytes = 1'000'000, .buffer_bytes = 1024, .rate = &*f.rate});
    counting all(reader);
    std::size_t sent = 0;
    const auto fill = [&] {
        for (;;) {
            error_code ec;
            sent += f.peer.send(net::buffer(std::string(4096, 'x')), 0, ec);
            if (ec) break;
            f.settle();
        }
    };
    fill();
    const std::size_t first = sent;
    fill();
    CHECK(sent == first);
    CHECK(first < 100'000);
    f.tick(1000);                // 100 s
    tests::run_until(f.io, [&] { // the kernel announces the room that reading has made, sooner or later
        f.tick();                // bytes that it had to send again arrive after the ticks above
        fill();
        return sent > first;
    });
    CHECK(reader.buffered().size() < 4000 + 100'000 + 2 * 131'072); // one read may be the size of the buffer
    CHECK(all.frames == 0);
    CHECK_FALSE(all.end);
}

TEST_CASE("a message larger than the burst is read, and the next one waits the longer")
{
    fixture f({.bytes_per_second = 1000, .byte_burst = 500});
    holdfast::frame_reader reader(f.socket, {.buffer_bytes = 4096, .rate = &*f.rate});
    counting all(reader);
    std::string large(2500, 'x');
    large.push_back('\n');
    f.send(large);
    f.settle();
    CHECK(all.frames == 1); // there was credit when it was read
    f.send("next\n");
    f.tick(18);
    CHECK(all.frames == 1);
    f.tick(4);
    CHECK(all.frames == 2);
}

TEST_CASE("by policy the message beyond the rate ends the connection, for its own reason, and what complies does not")
{
    fixture f({.messages_per_second = 10, .message_burst = 5, .on_exceeded = rate_policy::disconnect});
    std::optional<connection_end> ended;
    const auto note = [&ended](const connection_end& end) noexcept { ended = end; };
    {
        holdfast::connection_guard guard(std::move(f.socket), note);
        holdfast::frame_reader reader(guard, {.rate = &*f.rate});
        counting all(reader);
        for (int i = 0; i != 10; ++i) { // at the rate
            f.send(lines(1));
            f.tick();
        }
        f.tick(10);
        CHECK(all.frames == 10);
        CHECK_FALSE(all.end);
        f.send(lines(5));
        f.settle();
        CHECK(all.frames == 15);
        CHECK_FALSE(all.end);
        f.send(lines(1));
        f.settle();
        CHECK(all.frames == 15);
        REQUIRE(all.end);
        CHECK(*all.end == errc::rate_exceeded);
        CHECK(*all.end == holdfast::condition::limit_exceeded);
        f.tick(50);
        all.next(); // it stays so
        f.settle();
        CHECK(all.end == error_code(errc::rate_exceeded));
        CHECK(f.rate->exceeded());
    }
    REQUIRE(ended);
    CHECK(ended->reason == close_reason::rate_limit);
}

TEST_CASE("bytes of a message that never ends count by policy as soon as they arrive")
{
    fixture f({.bytes_per_second = 100, .byte_burst = 1000, .on_exceeded = rate_policy::disconnect});
    holdfast::frame_reader reader(f.socket, {.rate = &*f.rate});
    counting all(reader);
    f.send(std::string(1000, 'x'));
    f.settle();
    CHECK_FALSE(all.end);
    f.send("x");
    f.settle();
    CHECK(all.end == error_code(errc::rate_exceeded));
}

TEST_CASE("no heartbeat times out because its peer is paused, and a silent one does as before")
{
    struct aborted {
        void abort(close_reason) { called = true; }
        bool called = false;
    } victim;
    fixture f({.messages_per_second = 0.2, .message_burst = 1});
    auto heartbeat = f.heartbeats.watch(victim);
    holdfast::frame_reader reader(f.socket, {.progress = heartbeat, .rate = &*f.rate});
    counting all(reader);
    f.send(lines(2));
    f.tick(40); // 4 s: four time-outs
    CHECK(all.frames == 1);
    CHECK_FALSE(victim.called);
    f.tick(15);
    CHECK(all.frames == 2);
    f.tick(200);
    CHECK(victim.called);
}

TEST_CASE("a pause ends by cancellation, with the limit, with the context, and when the connection is gone")
{
    struct stuck : fixture {
        stuck() : fixture({.messages_per_second = 0.001, .message_burst = 1})
        {
            send(lines(3));
            all.emplace(reader);
            settle();
            REQUIRE(all->frames == 1);
        }
        holdfast::frame_reader<tcp::socket> reader{socket, {.rate = &*rate}};
        std::optional<counting<holdfast::frame_reader<tcp::socket>>> all;
    };
    SECTION("reset by the peer")
    {
        stuck s;
        tests::reset(s.peer);
        s.tick(2);
        CHECK(s.all->end);
    }
    SECTION("closed here")
    {
        stuck s;
        s.socket.close();
        s.tick(2);
        CHECK(s.all->end);
    }
    SECTION("the peer's end of stream does not end it: its messages count")
    {
        stuck s;
        s.peer.shutdown(tcp::socket::shutdown_send);
        s.tick(20);
        CHECK(s.all->frames == 1);
        CHECK_FALSE(s.all->end);
    }
    SECTION("with the limit")
    {
        stuck s;
        s.limit.reset();
        s.settle();
        CHECK(s.all->end == error_code(net::error::operation_aborted));
    }
    SECTION("with the context") { stuck s; }
    SECTION("by cancellation, and the message is for the next operation")
    {
        fixture f({.messages_per_second = 1, .message_burst = 1});
        holdfast::frame_reader reader(f.socket, {.rate = &*f.rate});
        f.send(lines(2));
        std::string got;
        const auto note = [&](error_code, std::optional<std::string_view> line) { got = line.value_or("none"); };
        reader.async_next(note);
        f.settle();
        CHECK(got == "line");
        net::cancellation_signal stop;
        std::optional<error_code> result;
        reader.async_next(net::bind_cancellation_slot(
            stop.slot(), [&](error_code ec, std::optional<std::string_view>) { result = ec; }));
        f.settle();
        CHECK_FALSE(result);
        stop.emit(net::cancellation_type::total);
        f.settle();
        CHECK(result == error_code(net::error::operation_aborted));
        got.clear();
        reader.async_next(note);
        f.tick(12);
        CHECK(got == "line");
    }
}

TEST_CASE("a drain ends a pause at its next look")
{
    using acceptor = holdfast::bounded_acceptor<tcp>;
    fixture f({.messages_per_second = 0.001, .message_burst = 1});
    acceptor server(f.io, {net::ip::address_v4::loopback(), 0});
    std::optional<acceptor::connection_type> peer;
    server.async_accept([&](error_code, acceptor::connection_type made) { peer.emplace(std::move(made)); });
    tcp::socket client(f.io);
    client.connect(server.local_endpoint());
    tests::run_until(f.io, [&] { return peer.has_value(); });
    holdfast::frame_reader reader(*peer, {.rate = &*f.rate});
    counting all(reader);
    net::write(client, net::buffer(lines(3)));
    tests::run_until(f.io, [&] { return all.frames == 1; });
    f.tick(10);
    CHECK(all.frames == 1);
    std::optional<std::size_t> reset;
    server.async_drain({.deadline = 20s}, [&](error_code, std::size_t n) { reset = n; });
    tests::run_until(f.io, [&] { return peer->draining(); });
    f.tick(2);
    CHECK(all.end == error_code());
    peer.reset();
    tests::run_until(f.io, [&] { return reset.has_value(); });
    CHECK(reset == 0U);
}

TEST_CASE(
    "a reader that takes over another's bytes has the same allowance, and bytes that are read raw are no messages")
{
    fixture f({.messages_per_second = 1, .message_burst = 2});
    holdfast::frame_reader first(f.socket, {.rate = &*f.rate});
    f.send(lines(4));
    std::string got;
    const auto note = [&](error_code ec, std::optional<std::string_view> bytes) {
        got = ec ? ec.message() : std::string(bytes.value_or("none"));
    };
    first.async_next(note);
    f.settle();
    CHECK(got == "line");
    first.async_read_exactly(5, note);
    f.settle();
    CHECK(got == "line\n");
    holdfast::frame_reader second(std::move(first), holdfast::framing::line{});
    second.async_next(note);
    f.settle();
    CHECK(got == "line");
    got = "nothing";
    second.async_next(note);
    f.settle();
    CHECK(got == "nothing");
    f.tick(12);
    CHECK(got == "line");
}

TEST_CASE("of a WebSocket messages count, and pings by their bytes")
{
    fixture f({.messages_per_second = 10, .bytes_per_second = 10'000, .message_burst = 3, .byte_burst = 2000});
    holdfast::outbox outbox(f.socket, {.reserve_bytes = 1024});
    holdfast::websocket_reader reader(f.socket, outbox, {.rate = &*f.rate});
    const std::string message("\x81\x82\0\0\0\0hi", 8);
    const std::string ping("\x89\x82\0\0\0\0hi", 8);
    std::string all = ping + ping;
    for (int i = 0; i != 6; ++i)
        all += message;
    f.send(all);
    {
        counting messages(reader);
        f.settle();
        CHECK(messages.frames == 3);
        f.tick(4);
        CHECK(messages.frames == 6);
        std::string flood;
        for (int i = 0; i != 1000; ++i)
            flood += ping;
        f.send(flood + message);
        f.settle();
        CHECK(messages.frames == 6);
        f.tick(12);
        CHECK(messages.frames == 7);
        f.socket.close();
        f.settle();
    }
}

TEST_CASE("options out of range are refused, and rates of zero are none")
{
    using limits = std::numeric_limits<double>;
    const auto refused = [](const holdfast::read_rate_options& options) {
        try {
            const fixture f(options);
            return false;
        } catch (const std::invalid_argument&) {
            return true;
        }
    };
    for (const double wrong : {-1.0, -limits::denorm_min(), 1e12 * 1.01, limits::infinity(), limits::quiet_NaN()}) {
        CHECK(refused({.messages_per_second = wrong}));
        CHECK(refused({.bytes_per_second = wrong}));
    }
    for (const double wrong : {-1.0, 1e15 * 1.01, limits::infinity(), limits::quiet_NaN()}) {
        CHECK(refused({.message_burst = wrong}));
        CHECK(refused({.byte_burst = wrong}));
    }
    for (const double rate : {0.0, limits::denorm_min(), 1e-9, 1.0, 1e12})
        CHECK_FALSE(refused({.messages_per_second = rate, .bytes_per_second = rate, .message_burst = 1e15}));
    fixture f({});
    holdfast::frame_reader reader(f.socket, {.rate = &*f.rate});
    counting all(reader);
    f.send(lines(1000));
    f.settle();
    CHECK(all.frames == 1000);
}
