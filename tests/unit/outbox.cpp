// holdfast: tests of outbox: gathered writes, what becomes of a slow reader, and nothing held while nothing
// is queued.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/held_stream.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/serialize/json.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <future>
#include <latch>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

#include <netinet/tcp.h>

using holdfast::close_reason;
using holdfast::conflate;
using holdfast::connection_end;
using holdfast::control_place;
using holdfast::errc;
using holdfast::error_code;
using holdfast::outbox;
using holdfast::outbox_options;
using holdfast::overflow_policy;
using holdfast::payload;
using tests::held_stream;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using concrete_socket = net::basic_stream_socket<tcp, net::io_context::executor_type>;

static_assert(std::is_trivially_destructible_v<outbox_options>);
static_assert(net::is_const_buffer_sequence<holdfast::detail::outbox_buffers>::value);

/// How an operation has ended.
struct ended {
    int times = 0;
    error_code error;

    auto handler()
    {
        return [this](error_code ec) {
            ++times;
            error = ec;
        };
    }
};

/// Notes how the connection ends.
struct note_end {
    std::vector<connection_end>* to;
    std::function<void()>* then = nullptr;

    void operator()(const connection_end& end) const noexcept
    {
        to->push_back(end);
        if (then != nullptr) (*then)();
    }
};
using guard = holdfast::connection_guard<tcp::socket, note_end>;

/// A server's side that ends as the test notes, and a client.
struct connection {
    net::io_context io;
    std::vector<connection_end> ends;
    std::pair<tcp::socket, tcp::socket> sockets = tests::socket_pair(io);
    guard peer{std::move(sockets.first), {&ends}};
    tcp::socket& client = sockets.second;
};

/// Runs all that is ready.
void settle(net::io_context& io)
{
    io.restart();
    io.poll();
}

/// Pushes messages of 1,000 bytes until one is refused, and runs the loop in between; that error.
template <class Box>
error_code push_until_refused(net::io_context& io, Box& box, char letter = 'x')
{
    const payload message(std::string(1000, letter));
    for (int i = 0; i != 100'000; ++i) {
        if (const error_code ec = box.push(message)) return ec;
        settle(io);
    }
    return {};
}

/// Reads what is there, and lets the other side write, until `done()`.
template <class Done>
std::string read_until(net::io_context& io, tcp::socket& socket, Done done)
{
    std::string all;
    std::string chunk(65536, '\0');
    socket.non_blocking(true);
    tests::run_until(io, [&] {
        error_code ec;
        for (std::size_t n = 1; n != 0; all.append(chunk, 0, n))
            n = socket.read_some(net::buffer(chunk), ec);
        return done(all);
    });
    return all;
}

/// How many segments with data the kernel has sent.
std::uint32_t data_segments(tcp::socket& socket)
{
    // Linux's struct tcp_info (linux/tcp.h) is longer than libc's, and the two headers exclude each other.
    struct longer_tcp_info {
        std::array<std::byte, 156> before;
        std::uint32_t data_segs_out;
    } info{};
    socklen_t size = sizeof info;
    REQUIRE(::getsockopt(socket.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    REQUIRE(size == sizeof info);
    return info.data_segs_out;
}

auto rows(int count)
{
    return std::views::iota(0, count) | std::views::transform([](int i) { return 100'000'000 + i; });
}

} // namespace

TEST_CASE("what is pushed in one turn of the loop is sent in one write, of up to 64 messages")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream};
    const payload message("0123456789");
    for (int i = 0; i != 150; ++i)
        CHECK_FALSE(box.push(message));
    CHECK(stream.writes == 0); // not inside push
    settle(io);
    CHECK(stream.offered().size() == 640);
    for (const std::size_t next : {640U, 220U}) {
        stream.take();
        settle(io);
        CHECK(stream.offered().size() == next);
        CHECK(stream.writes == (next == 640 ? 2 : 3)); // the stream throws at two writes at once
    }
    stream.take();
    settle(io);
    CHECK_FALSE(stream.in_flight());
    CHECK(stream.taken.size() == 1500);
    CHECK(message.use_count() == 1);
}

TEST_CASE("a thousand messages in one turn are sixteen system calls: as many segments, each sent at once")
{
    connection c;
    c.peer.stream().set_option(tcp::no_delay(true));
    outbox box{c.peer};
    const payload message("0123456789");
    for (int i = 0; i != 1000; ++i)
        REQUIRE_FALSE(box.push(message));
    const std::string all = read_until(c.io, c.client, [&](const std::string& got) { return got.size() == 10'000; });
    CHECK(all.size() == 10'000);
    CHECK(data_segments(c.peer.stream()) == 16);
}

TEST_CASE("every byte arrives once and in order, whatever is pushed, and however little the peer takes")
{
    connection c;
    c.peer.stream().set_option(net::socket_base::send_buffer_size(4096));
    outbox box{c.peer, {.high_watermark = 1 << 20, .chunk_bytes = 1000}};
    std::string expected;
    for (int i = 0; i != 300; ++i) {
        const std::string text(static_cast<std::size_t>(i * 7 % 900), static_cast<char>('a' + i % 26));
        CHECK_FALSE(box.push(payload(text)));
        expected += text;
        if (i % 100 == 50) {
            CHECK_FALSE(box.push_streamed<holdfast::ndjson>(rows(5000)));
            expected += holdfast::serialize_to_string<holdfast::ndjson>(rows(5000));
        }
    }
    CHECK(read_until(c.io, c.client, [&](const std::string& all) {
              return all.size() >= expected.size() && box.queued() == 0;
          }) == expected);
    CHECK(c.ends.empty());
    CHECK(box.queued() == 0);
    CHECK(box.queue_memory() == 0);
}

TEST_CASE("disconnect ends the connection once, by a reset, and says why, closing is final")
{
    connection c;
    outbox box{c.peer};
    CHECK(push_until_refused(c.io, box) == errc::outbox_full);
    REQUIRE(c.ends.size() == 1);
    CHECK(c.ends[0].reason == close_reason::send_queue_overflow);
    CHECK(c.ends[0].error == errc::outbox_full);
    CHECK_FALSE(c.peer.is_open());
    CHECK(box.push(payload("x")) == errc::outbox_full);
    CHECK(box.push(payload("x"), conflate{1}) == errc::outbox_full);
    CHECK(box.push_control(payload("x")) == errc::outbox_full);
    CHECK(box.push_streamed(1) == errc::outbox_full);
    CHECK(box.error() == errc::outbox_full);
    CHECK(c.ends.size() == 1);
    settle(c.io);
    CHECK(box.queued() == 0);
    CHECK(box.queued_bytes() == 0);
    CHECK(tests::read_to_end(c.client).end == net::error::connection_reset);
}

TEST_CASE("the finalizer may destroy the outbox in the middle of a push")
{
    net::io_context io;
    std::vector<connection_end> ends;
    auto [server, client] = tests::socket_pair(io);
    struct session {
        session(tcp::socket socket, const note_end& end) : peer(std::move(socket), end) {}
        guard peer;
        outbox<tcp::socket> box{peer};
    };
    std::unique_ptr<session> live;
    std::function<void()> destroy = [&] { std::exchange(live, nullptr)->box.close(); };
    live = std::make_unique<session>(std::move(server), note_end{&ends, &destroy});
    const payload message(std::string(1000, 'x'));
    error_code ec;
    while (!ec) {
        ec = live->box.push(message);
        settle(io);
    }
    CHECK(ec == errc::outbox_full);
    CHECK_FALSE(live);
    CHECK(ends.size() == 1);
    settle(io);
    CHECK(message.use_count() == 1);
}

TEST_CASE("wait: push refuses, async_push waits for the low mark, first in, first out")
{
    net::io_context io;
    held_stream stream(io);
    constexpr std::size_t each = 10 + 16;
    outbox box{stream, {.high_watermark = 4 * each, .low_watermark = 2 * each, .on_overflow = overflow_policy::wait}};
    const payload message("0123456789");
    for (int i = 0; i != 4; ++i)
        CHECK_FALSE(box.push(message));
    CHECK(box.queued_bytes() == 4 * each); // exactly at the mark
    CHECK(box.push(message) == errc::outbox_full);
    std::string order;
    for (const char name : {'a', 'b', 'c'})
        box.async_push(payload(std::string(10, name)), [&order, name](error_code ec) {
            CHECK_FALSE(ec);
            order += name;
        });
    CHECK(box.push(payload("x")) == errc::outbox_full); // would pass those who wait
    settle(io);
    CHECK(stream.offered().size() == 20); // half of the mark
    stream.take(10);
    settle(io);
    CHECK(order.empty()); // three are left, and the low mark is two
    CHECK(box.push(payload("x")) == errc::outbox_full);
    stream.take();
    settle(io);
    CHECK(order == "ab");
    CHECK(box.queued_bytes() == 4 * each);
    while (stream.in_flight()) {
        stream.take();
        settle(io);
    }
    CHECK(order == "abc");
    CHECK(stream.taken == "0123456789012345678901234567890123456789aaaaaaaaaabbbbbbbbbbcccccccccc");
    ended o; // with room there is no wait, but the completion is not inside the call either
    box.async_push(message, o.handler());
    CHECK(o.times == 0);
    settle(io);
    CHECK(o.times == 1);
    stream.take();
    settle(io);
}

TEST_CASE("an operation that waits for space completes, whatever closes the outbox")
{
    net::io_context io;
    ended first, second, flushed;
    error_code expected = errc::outbox_closed;
    auto stream = std::make_unique<held_stream>(io);
    std::optional<outbox<held_stream>> box(std::in_place, *stream,
                                           outbox_options{.high_watermark = 100, .on_overflow = overflow_policy::wait});
    const payload message(std::string(80, 'x'));
    CHECK_FALSE(box->push(message));
    settle(io);
    box->async_push(message, first.handler());
    box->async_push(message, conflate{1}, second.handler());
    SECTION("close()") { box->close(); }
    SECTION("close(reason)")
    {
        expected = net::error::shut_down;
        box->close(expected);
        box->close(); // the first one counts
        CHECK(box->push(message) == expected);
    }
    SECTION("async_close()")
    {
        box->async_close(flushed.handler());
        CHECK(box->push(message) == errc::outbox_closed);
    }
    SECTION("its destruction") { box.reset(); }
    SECTION("a failed write")
    {
        expected = net::error::connection_reset;
        stream->fail(net::error::connection_reset);
    }
    settle(io);
    CHECK(first.times == 1);
    CHECK(first.error == expected);
    CHECK(second.times == 1);
    CHECK(second.error == expected);
    CHECK(flushed.times == 0);
    if (stream->in_flight()) stream->take();
    settle(io);
    box.reset();
    CHECK(message.use_count() == 1);
}

TEST_CASE("a wait for space can be cancelled, then those after it continue, and one that is done succeeds")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, {.high_watermark = 100, .low_watermark = 100, .on_overflow = overflow_policy::wait}};
    CHECK_FALSE(box.push(payload(std::string(34, 'x')))); // 50 are free
    settle(io);
    net::cancellation_signal cancel;
    ended large, small;
    const auto type =
        GENERATE(net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total);
    box.async_push(payload(std::string(84, 'l')), net::bind_cancellation_slot(cancel.slot(), large.handler()));
    box.async_push(payload(std::string(34, 's')), small.handler());
    settle(io);
    CHECK(small.times == 0); // not before the large one
    cancel.emit(type);
    settle(io);
    CHECK(large.times == 1);
    CHECK(large.error == net::error::operation_aborted);
    CHECK(small.times == 1);
    CHECK_FALSE(small.error);
    ended late;
    box.async_push(payload(std::string(34, 't')), net::bind_cancellation_slot(cancel.slot(), late.handler()));
    stream.take();
    io.restart();
    for (const std::size_t before = stream.writes; stream.writes == before;)
        REQUIRE(io.poll_one() == 1);
    cancel.emit(type); // it is let in, and not yet told
    while (stream.in_flight()) {
        stream.take();
        settle(io);
    }
    CHECK(late.times == 1);
    CHECK_FALSE(late.error);
    CHECK(stream.taken.find('l') == std::string::npos);
    CHECK(stream.taken.ends_with(std::string(34, 't')));
}

TEST_CASE("a message that is too large is refused at once, whatever waits")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, {.high_watermark = 100, .on_overflow = overflow_policy::wait}};
    CHECK(box.push(payload(std::string(85, 'x'))) == errc::exceeds_high_watermark);
    CHECK_FALSE(box.push(payload(std::string(84, 'x'))));
    ended waits, refused;
    box.async_push(payload("x"), waits.handler());
    box.async_push(payload(std::string(85, 'x')), refused.handler());
    settle(io);
    CHECK(refused.times == 1);
    CHECK(refused.error == errc::exceeds_high_watermark);
    CHECK(waits.times == 0);
    stream.take();
    settle(io);
    CHECK(waits.times == 1);
    stream.take();
    settle(io);
}

TEST_CASE("drop_oldest and conflate: a peer that reads again gets the newest messages, in bounded bytes")
{
    connection c;
    outbox box{c.peer, {.high_watermark = 20'000, .on_overflow = overflow_policy::drop_oldest}};
    std::size_t most = 0;
    std::size_t refused = 0;
    const bool keyed = GENERATE(false, true);
    constexpr int count = 100'000;
    constexpr int keys = 100;
    for (int i = 0; i != count; ++i) {
        const payload message("[" + std::to_string(i % keys) + ":" + std::to_string(i) + std::string(80, ' ') + "]");
        const error_code ec =
            keyed ? box.push(message, conflate{static_cast<std::uint64_t>(i % keys)}) : box.push(message);
        refused += bool(ec);
        if (i % 10 == 0) settle(c.io);
        most = std::max(most, box.queued_bytes());
    }
    CHECK(refused == 0);
    CHECK(most <= 20'000);
    CHECK((keyed ? box.conflated() : box.dropped()) > 0);
    if (keyed) CHECK(box.dropped() == 0);
    std::vector<int> newest(keys, -1);
    std::string all = read_until(c.io, c.client, [&](const std::string&) { return box.queued() == 0; });
    c.peer.close();
    all += tests::read_to_end(c.client).bytes;
    int last = -1;
    bool in_order = true;
    for (std::size_t at = 0; (at = all.find('[', at)) != std::string::npos; ++at) {
        const int key = std::stoi(all.substr(at + 1, 20));
        const int n = std::stoi(all.substr(all.find(':', at) + 1, 20));
        in_order = in_order && n > newest[static_cast<std::size_t>(key)] && (keyed || n > last);
        newest[static_cast<std::size_t>(key)] = n;
        last = n;
    }
    CHECK(in_order);
    for (int key = 0; key != keys; ++key)
        CHECK((newest[static_cast<std::size_t>(key)] == count - keys + key));
}

TEST_CASE("a pong and a reject_message pass a full queue")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, {.high_watermark = 170, .reserve_bytes = 100, .on_overflow = overflow_policy::wait}};
    CHECK_FALSE(box.push(payload(std::string(100, 'x'))));
    CHECK_FALSE(box.push(payload(std::string(34, 'y'))));
    CHECK(box.push(payload("zzzzz")) == errc::outbox_full);
    settle(io);
    CHECK_FALSE(box.push_control(payload("bye")));
    CHECK_FALSE(box.push_control(payload("pong"), control_place::next));
    CHECK(box.control_bytes() == 4 + 3 + 32);
    ended closed;
    box.async_close(closed.handler());
    CHECK(box.push_control(payload("late")) == errc::outbox_closed);
    while (stream.in_flight()) {
        stream.take();
        settle(io);
    }
    CHECK(stream.taken == std::string(100, 'x') + "pong" + std::string(34, 'y') + "bye");
    CHECK(closed.times == 1);
    CHECK_FALSE(closed.error);
}

TEST_CASE("the soft clock: too much for too long ends the connection, less in between begins it anew")
{
    connection c;
    outbox box{c.peer, {.high_watermark = 1 << 20, .soft_limit_ticks = 3, .soft_watermark = 500'000}};
    const payload message(std::string(1000, 'x'));
    const auto fill = [&] {
        while (box.queued_bytes() <= 600'000) {
            REQUIRE_FALSE(box.push(message));
            settle(c.io);
        }
    };
    fill();
    box.tick();
    box.tick();
    const bool emptied = GENERATE(false, true);
    if (emptied) { // between two ticks
        read_until(c.io, c.client, [&](const std::string&) { return box.queued() == 0; });
        fill();
        box.tick();
        box.tick();
    }
    CHECK(c.ends.empty());
    box.tick();
    REQUIRE(c.ends.size() == 1);
    CHECK(c.ends[0].reason == close_reason::send_queue_overflow);
    box.tick();
    settle(c.io);
    CHECK(c.ends.size() == 1);
}

TEST_CASE(
    "a write that fails ends the connection for the reason that the error stands for, and completes a pending flush")
{
    connection c;
    outbox box{c.peer};
    CHECK_FALSE(box.push(payload("x")));
    tests::reset(c.client);
    ended flushed;
    box.async_flush(flushed.handler());
    tests::run_until(c.io, [&] { return box.push(payload("x")) != error_code(); });
    REQUIRE(c.ends.size() == 1);
    CHECK(c.ends[0].reason == close_reason::peer_reset);
    tests::run_until(c.io, [&] { return flushed.times != 0; });
    CHECK(box.queued() == 0);
    ended again;
    box.async_flush(again.handler());
    settle(c.io);
    CHECK(again.error == box.error());
    CHECK(again.error);
}

TEST_CASE("a bare socket is closed in a guard's place")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    outbox box{server};
    CHECK(push_until_refused(io, box) == errc::outbox_full);
    CHECK_FALSE(server.is_open());
    CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    settle(io);
}

TEST_CASE("a source that fails half-way ends the connection by a reset: what was sent does not look whole")
{
    connection c;
    outbox box{c.peer, {.chunk_bytes = 64}};
    const auto failing = std::views::iota(0, 100) | std::views::transform([](int i) {
                             if (i == 50) throw std::runtime_error("no such row");
                             return i;
                         });
    CHECK_FALSE(box.push(payload("before")));
    CHECK_FALSE(box.push_streamed(failing));
    CHECK_FALSE(box.push(payload("behind")));
    tests::run_until(c.io, [&] { return !c.ends.empty(); });
    CHECK(c.ends[0].reason == close_reason::io_error);
    CHECK(c.ends[0].error == errc::source_failed);
    CHECK(tests::read_to_end(c.client).end == net::error::connection_reset);
}

TEST_CASE("an outbox that is destroyed with a message sent in part leaves a connection that ends by a reset")
{
    connection c;
    const bool streamed = GENERATE(false, true);
    {
        outbox box{c.peer, {.high_watermark = 64u << 20}};
        if (streamed)
            CHECK_FALSE(box.push_streamed(rows(5'000'000)));
        else
            CHECK_FALSE(box.push(payload(std::string(60'000'000, 'x'))));
        for (int i = 0; i != 100; ++i)
            settle(c.io);
        CHECK(box.queued() == 1);
    }
    c.peer.close();
    settle(c.io);
    CHECK(tests::read_to_end(c.client).end == net::error::connection_reset);
}

TEST_CASE("an outbox that is destroyed while a write is pending leaves a connection that ends by a reset: the kernel "
          "may take a part of it")
{
    connection c;
    {
        outbox box{c.peer};
        c.peer.stream().non_blocking(true);
        error_code full;
        while (!full) // so nothing of the message is sent
            c.peer.stream().write_some(net::buffer(std::string(65536, 'x')), full);
        CHECK_FALSE(box.push(payload("message")));
        settle(c.io);
        CHECK(box.queued() == 1);
    }
    c.peer.close();
    settle(c.io);
    CHECK(tests::read_to_end(c.client).end == net::error::connection_reset);
}

TEST_CASE("a pending flush completes when the outbox is destroyed with a write pending")
{
    net::io_context io;
    held_stream stream(io);
    auto box = std::make_unique<outbox<held_stream>>(stream);
    CHECK_FALSE(box->push(payload("message")));
    settle(io);
    ended flushed, closed;
    net::cancellation_signal too_late;
    box->async_flush(net::bind_cancellation_slot(too_late.slot(), flushed.handler()));
    box->async_close(closed.handler());
    box.reset();
    too_late.emit(net::cancellation_type::terminal);
    settle(io);
    CHECK(flushed.times == 1);
    CHECK(flushed.error == errc::outbox_closed);
    CHECK(closed.times == 1);
    CHECK(closed.error == errc::outbox_closed);
    stream.take();
    settle(io);
}

TEST_CASE("a streamed message is made when its turn comes, in one chunk of memory")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, {.chunk_bytes = 16}};
    int made = 0;
    auto counted = std::views::iota(0, 10) | std::views::transform([&](int i) {
                       ++made;
                       return 1'000'000 + i;
                   });
    CHECK_FALSE(box.push(payload("first")));
    CHECK_FALSE(box.push_streamed(counted));
    CHECK_FALSE(box.push(payload("last")));
    settle(io);
    CHECK(stream.offered() == "first");
    CHECK(made == 0);
    stream.take();
    settle(io);
    CHECK(stream.offered().size() == 16);
    CHECK(made <= 3);
    while (stream.in_flight()) {
        stream.take(7);
        settle(io);
    }
    std::string expected = "first[";
    for (int i = 0; i != 10; ++i)
        expected += std::to_string(1'000'000 + i) + (i != 9 ? "," : "]last");
    CHECK(stream.taken == expected);
}

TEST_CASE("a streamed message that interleaves lets others through between its chunks")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, {.chunk_bytes = 8}};
    CHECK_FALSE(box.push_streamed(std::string(20, 'a'), {.interleave = true}));
    CHECK_FALSE(box.push_streamed(std::string(9, 'b'), {.interleave = true}));
    CHECK_FALSE(box.push(payload("-")));
    settle(io);
    while (stream.in_flight()) {
        stream.take();
        settle(io);
    }
    CHECK(stream.taken == "\"aaaaaaa\"bbbbbbb-aaaaaaaabb\"aaaaa\"");
}

TEST_CASE("coroutines: push, wait, flush, close, with a heartbeat that progress touches")
{
    connection c;
    holdfast::heartbeat_timer<> heartbeats{c.io.get_executor()};
    tests::run(c.io, [&]() -> net::awaitable<void> {
        auto heartbeat = heartbeats.watch(c.peer);
        outbox box{c.peer, {.on_overflow = overflow_policy::wait, .progress = heartbeat}};
        co_await box.async_push(payload("one "));
        co_await box.async_push(payload("two "), conflate{2});
        box.push_streamed(3);
        co_await box.async_flush();
        CHECK(box.queued() == 0);
        co_await box.async_flush(); // nothing to wait for
        box.push(payload(" four"));
        co_await box.async_close();
        CHECK_FALSE(box.is_open());
        c.peer.close();
    });
    CHECK(tests::read_to_end(c.client).bytes == "one two 3 four");
}

TEST_CASE("a stream of layers is written to as well")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    tests::layered_stream stream(std::move(server));
    outbox box{stream};
    for (int i = 0; i != 100; ++i)
        CHECK_FALSE(box.push(payload("x")));
    ended closed;
    box.async_close(closed.handler());
    tests::run(io);
    CHECK(closed.times == 1);
    stream.next_layer().close();
    CHECK(tests::read_to_end(client).bytes == std::string(100, 'x'));
}

TEST_CASE("the context may be destroyed with a write pending, with waiters, before or after the outbox")
{
    const payload message(std::string(80, 'x'));
    ended waits, flushes;
    std::optional<net::io_context> io(std::in_place);
    auto pair = tests::socket_pair(*io);
    auto box = std::make_unique<outbox<tcp::socket>>(pair.first, outbox_options{.on_overflow = overflow_policy::wait});
    const bool posted_only = GENERATE(false, true);
    if (!posted_only)
        CHECK(push_until_refused(*io, *box) == errc::outbox_full);
    else
        CHECK_FALSE(box->push(message));
    for (int i = 0; i != 1000; ++i)
        box->async_push(message, waits.handler());
    box->async_flush(flushes.handler());
    SECTION("before")
    {
        pair.first.close();
        pair.second.close();
        box.reset();
        pair = {tcp::socket(*io), tcp::socket(*io)};
    }
    SECTION("its outbox in a coroutine of the context's own")
    {
        box.reset();
        net::co_spawn(
            *io,
            [](tcp::socket socket, payload m) -> net::awaitable<void> {
                outbox own{socket, {.high_watermark = 200, .on_overflow = overflow_policy::wait}};
                for (;;)
                    co_await own.async_push(m);
            }(std::move(pair.first), message),
            net::detached);
        for (int i = 0; i != 1000; ++i)
            settle(*io);
        CHECK(message.use_count() > 1);
        pair = {tcp::socket(*io), tcp::socket(*io)};
    }
    std::optional<std::pair<tcp::socket, tcp::socket>> sockets(std::move(pair));
    sockets.reset();
    box.reset();
    io.reset();
    CHECK(waits.times <= 1000);
    CHECK(message.use_count() == 1);
}

TEST_CASE("an outbox that is destroyed leaves a pending write its own memory")
{
    net::io_context io;
    held_stream stream(io);
    const payload message("0123456789");
    const bool streamed = GENERATE(false, true);
    {
        outbox box{stream};
        if (streamed)
            box.push_streamed(std::string("0123456"));
        else
            box.push(message);
        settle(io);
        box.push(message); // not being sent
    }
    CHECK(message.use_count() == (streamed ? 1 : 2));
    stream.take();
    settle(io);
    CHECK(stream.taken.size() == (streamed ? 9 : 10));
    CHECK_FALSE(stream.in_flight());
    CHECK(message.use_count() == 1);
}

TEST_CASE("an idle outbox holds no memory but itself, a burst costs a fixed number of allocations, and a push "
          "within it none")
{
    net::io_context io;
    auto [any, client] = tests::socket_pair(io);
    concrete_socket server(io, tcp::v4(), any.release());
    client.non_blocking(true);
    std::string waste(1 << 20, '\0');
    const payload message("0123456789");
    outbox box{server, {.low_watermark = 0}};
    STATIC_REQUIRE(sizeof(outbox<tcp::socket>) <= 64 + sizeof(error_code)); // as its documentation says
    const auto burst = [&](int count) {
        for (int i = 0; i != count; ++i)
            if (box.push(message)) throw 0;
        settle(io);
        error_code ec;
        client.read_some(net::buffer(waste), ec);
    };
    burst(64);
    const std::size_t bytes = tests::bytes_in_use;
    const std::size_t of_8 = tests::allocations_in([&] { burst(8); });
    const std::size_t of_64 = tests::allocations_in([&] { burst(64); });
    const std::size_t of_1000 = tests::allocations_in([&] { burst(1000); });
    const std::size_t left = tests::bytes_in_use - bytes;
    CHECK(left == 0);
    CHECK(box.queue_memory() == 0);
    CHECK(of_8 == 1);         // what is held while busy, with the first places
    CHECK(of_64 == of_8 + 3); // the places double
    CHECK(of_1000 == of_8 + 7);
    CHECK(box.push(message) == error_code());
    CHECK(tests::allocations_in([&] {
              for (int i = 0; i != 7; ++i)
                  if (box.push(message)) throw 0;
          }) == 0);
    settle(io);
}

TEST_CASE("worst_case_bytes saturates: no option and no message size wraps it")
{
    constexpr std::size_t largest = std::numeric_limits<std::size_t>::max();
    constexpr std::size_t values[] = {0, 1, 1 << 20, largest / 2, largest - 1, largest};
    for (const std::size_t high : values)
        for (const std::uint32_t reserve : {0U, 1U, 0xFFFF'FFFEU, 0xFFFF'FFFFU})
            for (const std::size_t smallest : values)
                for (const std::uint32_t chunk : {0U, 1U, 1U << 31U, (1U << 31U) + 1, 0xFFFF'FFFFU}) {
                    const std::size_t bytes = holdfast::worst_case_bytes(
                        {.high_watermark = high, .reserve_bytes = reserve, .chunk_bytes = chunk}, smallest);
                    if (bytes < high || bytes < reserve || bytes < chunk)
                        FAIL(bytes << " for " << high << ", " << reserve << ", " << smallest << ", " << chunk);
                }
    STATIC_REQUIRE(holdfast::worst_case_bytes({.high_watermark = largest}) == largest);
}

TEST_CASE("worst_case_bytes is a bound, whatever the messages' size, and not a wild one")
{
    const std::size_t size = GENERATE(1U, 20U, 1000U);
    const outbox_options options{.high_watermark = 50'000, .on_overflow = overflow_policy::wait, .chunk_bytes = 4096};
    constexpr outbox_options constant{.high_watermark = 1000};
    STATIC_REQUIRE(holdfast::worst_case_bytes(constant) > 1000);
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, options};
    const std::string text(size, 'x');
    settle(io);
    const std::size_t before = tests::bytes_in_use;
    tests::peak_bytes = before;
    for (std::size_t i = 0; !box.push(payload(text)); ++i)
        if (i == 100) settle(io); // a write is pending while the places grow
    const std::size_t taken = tests::peak_bytes - before;
    CHECK(taken <= holdfast::worst_case_bytes(options, size));
    if (tests::counts_bytes) CHECK(holdfast::worst_case_bytes(options, size) <= 2 * taken + options.chunk_bytes);
    while (stream.in_flight() || box.queued() != 0) {
        if (stream.in_flight()) stream.take();
        settle(io);
    }
}

TEST_CASE("a waiter's memory comes from its handler's allocator")
{
    net::io_context io;
    held_stream stream(io);
    outbox box{stream, {.high_watermark = 100, .on_overflow = overflow_policy::wait}};
    CHECK_FALSE(box.push(payload(std::string(84, 'x'))));
    tests::tracked memory;
    ended o;
    const payload message("x");
    settle(io);
    box.async_push(message, tests::allocating_from(memory, o.handler()));
    CHECK(memory.outstanding == 2); // the waiter, and Asio's wait
    stream.take();
    settle(io);
    CHECK(o.times == 1);
    CHECK(memory.outstanding == 0);
    stream.take();
    settle(io);
}

TEST_CASE("without memory a push says so, and nothing is queued or held")
{
    net::io_context io;
    auto [any, client] = tests::socket_pair(io);
    concrete_socket server(io, tcp::v4(), any.release());
    const payload message("x");
    outbox box{server};
    for (const std::size_t queued : {0U, 8U}) { // the first message needs memory for the write, the ninth for its place
        INFO(queued << " queued");
        tests::until_failure = 0;
        const error_code ec = box.push(message);
        const bool failed = tests::until_failure < 0;
        tests::until_failure = -1;
        CHECK(failed == tests::counts_bytes); // under TSan all succeed
        if (!failed) continue;
        CHECK(ec == net::error::no_memory);
        CHECK(box.queued() == queued);
        CHECK(box.queued_bytes() == queued * (sizeof(holdfast::detail::outbox_item) + 1));
        CHECK(message.use_count() == 1 + queued);
        while (box.queued() != 8)
            CHECK_FALSE(box.push(message));
    }
    settle(io);
    CHECK(message.use_count() == 1);
}

TEST_CASE("TCP_NOTSENT_LOWAT is set where the options say so, and a stream without it works")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    outbox box{server, {.notsent_lowat_bytes = 4321}};
    int value = 0;
    socklen_t size = sizeof value;
    CHECK(::getsockopt(server.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, &size) == 0);
    CHECK(value == 4321);
    auto [local, peer] = tests::local_pair(io);
    outbox other{local, {.notsent_lowat_bytes = 4321}};
    CHECK_FALSE(other.push(payload("x")));
    settle(io);
    CHECK(other.queued() == 0);
    held_stream held(io);
    outbox third{held, {.notsent_lowat_bytes = 4321}};
}

TEST_CASE("eight threads push by posting to the outbox's strand: the mark holds, each message is sent once, and the "
          "policy applies once")
{
    net::io_context io;
    std::vector<connection_end> ends;
    auto [any, client] = tests::socket_pair(io);
    using strand = net::strand<net::io_context::executor_type>;
    strand shard = net::make_strand(io);
    using socket = net::basic_stream_socket<tcp, strand>;
    holdfast::connection_guard<socket, note_end> peer(socket(shard, tcp::v4(), any.release()), {&ends});
    const bool overflows = GENERATE(false, true);
    if (overflows) { // so small that they can't hold it all
        client.set_option(net::socket_base::receive_buffer_size(4096));
        peer.stream().set_option(net::socket_base::send_buffer_size(4096));
    }
    outbox<socket> box{peer,
                       {.high_watermark = 50'000,
                        .on_overflow = overflows ? overflow_policy::disconnect : overflow_policy::drop_oldest}};
    const payload message(std::string(100, 'x'));
    std::size_t most = 0; // the strand's
    auto work = net::make_work_guard(io);
    std::latch posted(8);
    std::vector<std::thread> threads;
    for (int i = 0; i != 8; ++i)
        threads.emplace_back([&] {
            for (int n = 0; n != 2500; ++n)
                net::post(shard, [&, message] {
                    box.push(message);
                    most = std::max(most, box.queued_bytes());
                });
            posted.count_down();
            io.run();
        });
    std::string waste(65536, '\0');
    if (!overflows) { // it reads
        client.non_blocking(true);
        std::size_t got = 0;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        for (bool all = false; !all;) {
            error_code ec;
            got += client.read_some(net::buffer(waste), ec);
            std::promise<std::uint64_t> dropped;
            net::post(shard, [&] { dropped.set_value(box.dropped()); });
            all = got + 100 * dropped.get_future().get() == 8 * 2500 * 100;
            if (std::chrono::steady_clock::now() > deadline) std::abort();
        }
    }
    posted.wait();
    work.reset();
    for (auto& each : threads)
        each.join();
    CHECK(most <= 50'000);
    CHECK(ends.size() == (overflows ? 1 : 0));
    io.restart();
    io.poll();
    CHECK(message.use_count() == 1);
}
