// holdfast: tests of frame_deadline: a frame that takes too long is late, an idle connection between two frames is not.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/frame_deadline.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <optional>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::errc;
using holdfast::error_code;
using holdfast::manual_clock;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct scene {
    /// Sends, and lets the reader see it.
    void send(std::string_view bytes)
    {
        net::write(both.second, net::buffer(bytes.data(), bytes.size()));
        tests::await_readable(both.first);
        settle();
    }

    void settle()
    {
        io.restart();
        io.poll();
    }

    void next()
    {
        completed = 0;
        lines.async_next([this](error_code ec, std::optional<std::string_view> f) {
            ++completed;
            error = ec;
            frame = f ? std::optional<std::string>(*f) : std::nullopt;
        });
        settle();
    }

    void ticks(int n)
    {
        for (; n != 0; --n) {
            manual_clock::advance(1s);
            for (int turn = 0; turn != 8; ++turn)
                settle();
        }
    }

    net::io_context io;
    holdfast::heartbeat_timer<net::any_io_executor, manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    holdfast::frame_deadline in_time{heartbeats, 5s};
    std::pair<tcp::socket, tcp::socket> both = tests::socket_pair(io);
    holdfast::frame_reader<tcp::socket> lines{both.first, {.max_frame_bytes = 3000, .deadline = &in_time}};
    int completed = 0;
    error_code error;
    std::optional<std::string> frame;
};

} // namespace

TEST_CASE("a byte now and then does not help: the frame is late, once the deadline has passed and not before")
{
    scene s;
    s.next();
    for (int i = 0; i != 5; ++i) {
        s.send("x");
        s.ticks(1);
        CHECK(s.completed == 0);
    }
    s.send("x");
    s.ticks(1);
    REQUIRE(s.completed == 1);
    CHECK(s.error == errc::frame_timeout);
    s.next();
    CHECK(s.error == errc::frame_timeout);                  // and stays so
    net::write(s.both.first, net::buffer("too slow\n", 9)); // writing works
    std::string reject_message(9, ' ');
    net::read(s.both.second, net::buffer(reject_message));
    CHECK(reject_message == "too slow\n");
}

TEST_CASE("a quiet peer between two frames is not late, and holds no slot of the timer")
{
    scene s;
    s.next();
    s.ticks(100);
    CHECK(s.completed == 0);
    CHECK(s.heartbeats.counters().sweeps == 0); // nothing was watched
    s.send("whole\n");
    CHECK(s.frame == "whole");
    s.next();
    s.ticks(100);
    CHECK(s.completed == 0);
    CHECK(s.heartbeats.counters().sweeps == 0);
}

TEST_CASE("the deadline of a reader that has failed does not befall the connection that got its number")
{
    scene s;
    s.next();
    s.send("half");
    s.both.second.shutdown(tcp::socket::shutdown_send);
    tests::await_readable(s.both.first);
    s.settle();
    REQUIRE(s.completed == 1);
    CHECK(s.error == errc::truncated_frame);
    auto others = tests::socket_pair(s.io);
    const int number = s.both.first.native_handle();
    s.both.first.close();
    const int copy = ::fcntl(others.first.native_handle(), F_DUPFD_CLOEXEC, number);
    REQUIRE(copy == number);
    s.ticks(10);
    others.first.non_blocking(true);
    char byte = 0;
    error_code ec;
    others.first.read_some(net::buffer(&byte, 1), ec);
    CHECK(ec == net::error::would_block); // and not the end of the stream
    ::close(copy);
}

TEST_CASE("each frame has a deadline of its own")
{
    scene s;
    for (int i = 0; i != 10; ++i) {
        s.next();
        s.send("half");
        s.ticks(4);
        CHECK(s.completed == 0);
        s.send(" a line\n");
        CHECK(s.frame == (i == 0 ? "half a line" : "next half a line"));
        s.next();
        s.ticks(100);
        s.send("next "); // begins here, not where the reader began to wait
        s.ticks(1);
        CHECK(s.completed == 0);
        s.send("\n");
        CHECK(s.frame == "next ");
        s.next();
        s.send("next ");
        s.ticks(1);
        s.send("\nnext "); // of the next frame, with the end of the one before
    }
}

TEST_CASE("a frame that grows out of its buffer keeps its deadline, and one that is begun while the user is busy "
          "has none yet")
{
    scene s;
    s.next();
    s.send(std::string(500, 'x'));
    s.ticks(3);
    s.send(std::string(1500, 'x'));
    s.ticks(2);
    CHECK(s.completed == 0);
    s.ticks(1);
    CHECK(s.error == errc::frame_timeout);

    scene busy;
    busy.next();
    busy.send("one\ntw");
    CHECK(busy.frame == "one");
    busy.ticks(100);
    busy.next();
    busy.send("o\n");
    CHECK(busy.frame == "two");
}

TEST_CASE("a reader may go while a frame of its own is under way")
{
    net::io_context io;
    holdfast::heartbeat_timer<net::any_io_executor, manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    holdfast::frame_deadline in_time{heartbeats, 2s};
    auto [server, client] = tests::socket_pair(io);
    {
        holdfast::frame_reader lines{server, {.deadline = &in_time}};
        net::write(client, net::buffer("part", 4));
        tests::await_readable(server);
        bool failed = false;
        lines.async_next([&](error_code ec, auto) { failed = bool(ec); });
        io.poll();
        CHECK(heartbeats.watched() == 1);
        server.cancel();
        io.poll();
        CHECK(failed);
    }
    CHECK(heartbeats.watched() == 0);
}

TEST_CASE("deadlines that are made and destroyed while nothing is watched leave no entry")
{
    net::io_context io;
    holdfast::heartbeat_timer<net::any_io_executor, manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    const auto round = [&] {
        for (int i = 0; i != 1000; ++i)
            holdfast::frame_deadline deadline{heartbeats, 2s};
    };
    round();
    const std::size_t before = tests::bytes_in_use;
    round();
    CHECK(tests::bytes_in_use == before);
}

TEST_CASE("a deadline's limit is 1 to 65,534 ticks or for ever, anything else is refused by name")
{
    using std::chrono::nanoseconds;
    net::io_context io;
    holdfast::heartbeat_timer<net::any_io_executor, manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    for (const nanoseconds limit : {nanoseconds(1s), nanoseconds(65'534s), nanoseconds::max()})
        CHECK_NOTHROW(holdfast::frame_deadline(heartbeats, limit));
    for (const nanoseconds limit : {nanoseconds(0), nanoseconds(1), nanoseconds(-1), nanoseconds::min(),
                                    nanoseconds(65'535s), nanoseconds::max() - nanoseconds(1)})
        CHECK_THROWS_WITH(holdfast::frame_deadline(heartbeats, limit),
                          Catch::Matchers::StartsWith("frame_deadline limit must be 1 to 65,534 ticks"));
}

TEST_CASE("a reader that takes over a frame times it anew")
{
    scene s;
    s.next();
    s.send("half");
    s.ticks(4);
    s.both.first.cancel();
    s.settle();
    CHECK(s.heartbeats.watched() == 1);
    holdfast::frame_reader second{std::move(s.lines), holdfast::framing::line{}};
    CHECK(s.heartbeats.watched() == 0);
    error_code error;
    second.async_next([&](error_code ec, std::optional<std::string_view>) { error = ec; });
    s.settle();
    s.ticks(4);
    CHECK_FALSE(error);
    CHECK(s.heartbeats.watched() == 1);
    s.ticks(2);
    CHECK(error == errc::frame_timeout);
}

TEST_CASE("a frame that cannot be timed for want of memory fails with no_memory, nothing of it is lost")
{
    if (!tests::counts_bytes) return; // a sanitizer has its own operator new
    int untimed = 0;
    for (long nth = 0; nth != 8; ++nth) {
        scene s;
        s.next();
        net::write(s.both.second, net::buffer("half", 4));
        tests::await_readable(s.both.first);
        tests::until_failure = nth;
        s.settle();
        tests::until_failure = -1;
        if (s.completed == 1) {
            CHECK(s.error == net::error::no_memory);
            if (s.lines.buffered() == "half") ++untimed;
            s.next(); // with memory it is read, and timed
        }
        s.ticks(7);
        CHECK(s.completed == 1);
        CHECK(s.error == errc::frame_timeout);
    }
    CHECK(untimed > 0);
}
