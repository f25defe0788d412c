// holdfast: tests of a WebSocket session against clients that flood, drip, do not read and vanish, and against its own
// end inside its handlers.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/held_stream.hpp"
#include "support/note_end.hpp"
#include "support/websocket.hpp"

#include <holdfast/frame_deadline.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialized_payload.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using holdfast::errc;
using holdfast::error_code;
using holdfast::manual_clock;
using tests::client_frame;
using tests::server_frame;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using guard = holdfast::connection_guard<tcp::socket>;
using message = std::optional<holdfast::websocket_message>;

/// A server's side of a connection, with its parts, and a client.
struct scene {
    explicit scene(const holdfast::websocket_options& options = {}) : reader(peer, pool, outbox, options) {}

    void next()
    {
        reader.async_next([this](error_code ec, const message& m) {
            ++completed;
            error = ec;
            text = m ? std::optional<std::string>(m->data) : std::nullopt;
        });
    }

    void settle()
    {
        for (int turn = 0; turn != 4; ++turn) {
            io.restart();
            io.poll();
        }
    }

    /// Sends, and lets the reader see it.
    void send(std::string_view bytes)
    {
        net::write(client, net::buffer(bytes.data(), bytes.size()));
        tests::await_readable(peer.stream());
        settle();
    }

    net::io_context io;
    std::pair<tcp::socket, tcp::socket> both = tests::socket_pair(io);
    tcp::socket& client = both.second;
    guard peer{std::move(both.first)};
    holdfast::buffer_pool pool{io};
    holdfast::outbox<tcp::socket> outbox{peer, {.reserve_bytes = 1024}};
    holdfast::websocket_reader<guard, holdfast::buffer_pool> reader;
    int completed = 0;
    error_code error;
    std::optional<std::string> text;
};

} // namespace

TEST_CASE("an idle WebSocket holds no buffer, one within a message holds one")
{
    scene s;
    s.next();
    s.settle();
    CHECK(s.pool.counters().lent_bytes == 0);
    s.send(client_frame(0x01, ""));
    CHECK(s.pool.counters().lent_bytes == 1024);
    s.send(client_frame(0x80, "a"));
    CHECK(s.text == "a");
    s.next();
    s.settle();
    CHECK(s.pool.counters().lent_bytes == 0);
    s.send(client_frame(0x89, "ping"));
    CHECK(s.pool.counters().lent_bytes == 0);
    CHECK(s.completed == 1);
    s.client.close();
    s.settle();
}

TEST_CASE("pings of a client that does not read: the reserve bounds the pongs, and the newest one is sent")
{
    net::io_context io;
    auto both = tests::socket_pair(io);
    tests::held_stream writes(io); // the kernel's buffers are full
    holdfast::outbox outbox{writes, {.reserve_bytes = 1024}};
    holdfast::buffer_pool pool{io};
    holdfast::websocket_reader<tcp::socket, holdfast::buffer_pool> reader{both.first, pool, outbox};
    int completed = 0;
    reader.async_next([&](error_code, const message&) { ++completed; });
    const auto settle = [&] {
        for (int turn = 0; turn != 4; ++turn) {
            io.restart();
            io.poll();
        }
    };
    for (int i = 0; i != 1000; ++i) {
        net::write(both.second, net::buffer(client_frame(0x89, "ping " + std::to_string(i))));
        tests::await_readable(both.first);
        settle();
        CHECK(outbox.control_bytes() <= 1024);
    }
    CHECK(outbox.conflated() > 900);
    CHECK(pool.counters().peak_bytes == 1024);
    CHECK(completed == 0);
    while (writes.in_flight()) {
        writes.take();
        settle();
    }
    CHECK(writes.taken.starts_with(server_frame(0x8a, "ping 0")));
    CHECK(writes.taken.ends_with(server_frame(0x8a, "ping 999")));
    both.second.close();
    settle();
    CHECK(completed == 1);
}

TEST_CASE("a long ping after as many short ones as the reserve takes, all in one packet, is answered")
{
    scene s;
    s.next();
    s.settle();
    std::string pings;
    for (int i = 0; i != 100; ++i)
        pings += client_frame(0x89, "");
    const std::string longest(125, 'x');
    s.send(pings + client_frame(0x89, longest));
    CHECK(s.outbox.queued() == 0);
    const std::string answered = server_frame(0x8a, longest);
    std::string got(s.client.available(), '\0');
    net::read(s.client, net::buffer(got));
    CHECK(got.ends_with(answered));
    s.client.close();
    s.settle();
}

TEST_CASE("empty fragments without end take one buffer, and others have their turn")
{
    scene s;
    std::string flood = client_frame(0x01, "");
    const std::string empty = client_frame(0x00, "");
    while (flood.size() < 200'000)
        flood += empty;
    std::size_t sent = 0;
    s.client.non_blocking(true);
    for (error_code ec; !ec && sent != flood.size();) // all that the kernel takes, before the reader begins
        sent += s.client.write_some(net::buffer(flood.data() + sent, flood.size() - sent), ec);
    REQUIRE(sent > 60'000);
    s.client.non_blocking(false);
    int turns = 0;
    bool finished = false;
    std::function<void()> other = [&] {
        ++turns;
        if (!finished) net::post(s.io, other);
    };
    net::post(s.io, other);
    s.next();
    tests::run_until(s.io, [&] { return s.peer.stream().available() == 0; });
    CHECK(turns > 2);
    CHECK(s.pool.counters().peak_bytes == 1024);
    const std::string end = flood.substr(sent) + client_frame(0x80, "end");
    net::write(s.client, net::buffer(end));
    tests::run_until(s.io, [&] { return s.completed != 0; });
    CHECK(s.text == "end");
    finished = true;
    s.client.close();
    s.settle();
}

TEST_CASE("a message that arrives byte by byte is late, though control frames arrive in time")
{
    net::io_context io;
    auto both = tests::socket_pair(io);
    holdfast::heartbeat_timer<net::any_io_executor, manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    holdfast::frame_deadline in_time{heartbeats, 5s};
    holdfast::outbox outbox{both.first};
    holdfast::websocket_reader reader{both.first, outbox, {.deadline = &in_time}};
    int completed = 0;
    error_code error;
    reader.async_next([&](error_code ec, const message&) {
        ++completed;
        error = ec;
    });
    const auto settle = [&] {
        for (int turn = 0; turn != 8; ++turn) {
            io.restart();
            io.poll();
        }
    };
    const auto send = [&](const std::string& bytes) {
        net::write(both.second, net::buffer(bytes));
        tests::await_readable(both.first);
        settle();
        manual_clock::advance(1s);
        settle();
    };
    for (int i = 0; i != 20; ++i)
        send(client_frame(0x89, "")); // idle, for longer than the deadline
    CHECK(completed == 0);
    send(client_frame(0x01, "a"));
    for (int i = 0; i != 4; ++i) {
        CHECK(completed == 0);
        send(client_frame(0x00, "b") + client_frame(0x89, ""));
    }
    for (int i = 0; i != 2; ++i) {
        manual_clock::advance(1s);
        settle();
    }
    CHECK(completed == 1);
    CHECK(error == errc::frame_timeout);
}

TEST_CASE("a client that resets after any byte ends the session with an error of the stream, or with an end")
{
    const std::string bytes = client_frame(0x01, "ab") + client_frame(0x89, "p") + client_frame(0x80, "c") +
                              client_frame(0x88, tests::close_payload(1000, "bye"));
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        net::io_context io;
        auto both = tests::socket_pair(io);
        guard peer(std::move(both.first));
        tests::websocket_session result;
        net::co_spawn(io, tests::echo_messages(peer, {}, result), net::detached);
        io.poll();
        net::write(both.second, net::buffer(bytes.data(), size));
        tests::reset(both.second);
        io.restart();
        tests::run(io);
        INFO(size);
        CHECK_FALSE(peer.is_open());
        CHECK((!result.error || result.error == net::error::connection_reset || result.error == errc::truncated_frame));
    }
}

TEST_CASE("a cancelled read loses no byte of a message")
{
    scene s;
    net::cancellation_signal cancel;
    const std::string bytes = client_frame(0x01, "abc") + client_frame(0x80, "def");
    for (std::size_t i = 0; i + 1 != bytes.size(); ++i) {
        error_code ec;
        s.reader.async_next(net::bind_cancellation_slot(cancel.slot(), [&](error_code e, const message&) { ec = e; }));
        s.send(bytes.substr(i, 1));
        cancel.emit(net::cancellation_type::total);
        s.settle();
        CHECK(ec == net::error::operation_aborted);
    }
    s.next();
    s.send(bytes.substr(bytes.size() - 1));
    CHECK(s.text == "abcdef");
    s.client.close();
}

TEST_CASE("a session may end inside its handler, by itself or because a push ends it")
{
    struct session {
        explicit session(tcp::socket socket, bool& gone)
            : peer(std::move(socket)), outbox(peer, {.high_watermark = 100}), reader(peer, outbox), gone_(gone)
        {
        }
        ~session() { gone_ = true; }

        void next()
        {
            reader.async_next([this](error_code ec, const message& m) {
                if (ec || !m) {
                    delete this;
                    return;
                }
                while (!outbox.push(holdfast::websocket_frame(m->data))) { // until it overflows
                }
                next();
            });
        }

        guard peer;
        holdfast::outbox<tcp::socket> outbox;
        holdfast::websocket_reader<guard> reader;
        bool& gone_;
    };
    for (const auto& bytes :
         {client_frame(0x81, "a"), client_frame(0x88, ""), client_frame(0x83, ""), std::string("\x81")}) {
        net::io_context io;
        auto both = tests::socket_pair(io);
        bool gone = false;
        (new session(std::move(both.first), gone))->next();
        net::write(both.second, net::buffer(bytes));
        if (bytes.size() == 1) both.second.close();
        tests::run(io);
        CHECK(gone);
    }
}

TEST_CASE("an allocation that fails while a WebSocket closes ends its connection, or is thrown to the caller")
{
    // With this executor Asio itself allocates nothing to call a handler, which would be lost.
    using socket = net::basic_stream_socket<tcp, net::io_context::executor_type>;
    bool all_succeeded = false;
    for (long n = 0; !all_succeeded; ++n) {
        INFO("allocation " << n);
        REQUIRE(n != 100);
        net::io_context io;
        auto both = tests::socket_pair(io);
        holdfast::connection_guard<socket> peer(socket(io, tcp::v4(), both.first.release()));
        holdfast::outbox outbox{peer};
        outbox.push(holdfast::websocket_frame("last words"));
        both.second.shutdown(tcp::socket::shutdown_send);
        bool begun = false;
        int completed = 0;
        tests::until_failure = n;
        try {
            holdfast::async_close_websocket(peer, outbox, [&](error_code) { ++completed; });
            begun = true;
            io.run();
        } catch (const std::bad_alloc&) {
            tests::until_failure = -1;
            if (begun) CHECK_FALSE(peer.is_open());
        }
        all_succeeded = tests::until_failure >= 0;
        tests::until_failure = -1;
        io.restart();
        io.run();
        CHECK(completed <= 1);
        CHECK((completed == 1 || !all_succeeded));
        if (begun) CHECK_FALSE(peer.is_open());
    }
}

TEST_CASE("an allocation that fails while a WebSocket closes whose handler owns it ends it for lack of memory, once")
{
    using socket = net::basic_stream_socket<tcp, net::io_context::executor_type>; // as above
    struct session {
        session(net::io_context& io, tcp::socket from, std::vector<holdfast::connection_end>& ends)
            : peer(socket(io, tcp::v4(), from.release()), tests::note_end{&ends}), outbox(peer)
        {
        }

        holdfast::connection_guard<socket, tests::note_end> peer;
        holdfast::outbox<socket> outbox;
    };
    bool all_succeeded = false;
    for (long n = 0; !all_succeeded; ++n) {
        INFO("allocation " << n);
        REQUIRE(n != 100);
        net::io_context io;
        auto both = tests::socket_pair(io);
        std::vector<holdfast::connection_end> ends;
        ends.reserve(2); // a finalizer may not throw
        auto open = std::make_shared<session>(io, std::move(both.first), ends);
        open->outbox.push(holdfast::websocket_frame("last words"));
        both.second.shutdown(tcp::socket::shutdown_send);
        session& its = *open;
        tests::until_failure = n;
        bool begun = false;
        try {
            holdfast::async_close_websocket(its.peer, its.outbox, [owner = std::move(open)](error_code) {});
            begun = true;
            io.run();
        } catch (const std::bad_alloc&) {
            tests::until_failure = -1;
            REQUIRE(ends.size() == 1);
            if (begun) CHECK(ends[0].reason == holdfast::close_reason::out_of_memory);
        }
        all_succeeded = tests::until_failure >= 0;
        tests::until_failure = -1;
        io.restart();
        io.run();
        CHECK(ends.size() == 1);
    }
}

TEST_CASE("a close is cancelled between any two of its steps")
{
    for (int steps = 0; steps != 12; ++steps) {
        INFO(steps << " handlers before");
        scene s; // whose client does not answer
        net::cancellation_signal stop;
        std::optional<error_code> result;
        holdfast::async_close_websocket(s.peer, s.outbox, {.deadline = std::chrono::hours(1)},
                                        net::bind_cancellation_slot(stop.slot(), [&](error_code ec) { result = ec; }));
        for (int n = 0; n != steps; ++n)
            s.io.poll_one();
        CHECK_FALSE(result);
        stop.emit(net::cancellation_type::terminal);
        s.settle();
        CHECK(result == error_code(net::error::operation_aborted));
        CHECK_FALSE(s.peer.is_open());
    }
}

TEST_CASE("pings and pongs go between the fragments of a streamed message, nothing else does, and Close is last")
{
    scene s;
    s.peer.stream().set_option(net::socket_base::send_buffer_size(4096));
    s.client.set_option(net::socket_base::receive_buffer_size(4096));
    const std::vector<std::string> rows(4000, "a row of the snapshot");
    const holdfast::framed fragments{holdfast::framing::websocket_fragments{}, holdfast::json{}};
    CHECK_FALSE(s.outbox.push_streamed(holdfast::formatted(rows, fragments), {.interleave_control = true}));
    CHECK_FALSE(s.outbox.push(holdfast::websocket_frame("next")));
    s.next();
    s.settle();
    s.send(client_frame(0x89, "?"));
    CHECK_FALSE(s.outbox.push_control(holdfast::websocket_ping(), holdfast::control_place::next));
    bool closed = false;
    holdfast::async_close_websocket(
        s.peer, s.outbox, {.code = holdfast::websocket_close_code::going_away, .reason = "bye"}, [&](error_code ec) {
            CHECK_FALSE(ec);
            closed = true;
        });
    std::string got;
    std::thread client([&] {
        got = tests::read_to_end(s.client).bytes;
        error_code ignored;
        s.client.shutdown(tcp::socket::shutdown_send, ignored);
    });
    tests::run_until(s.io, [&] { return closed; });
    client.join();

    std::string snapshot;
    std::string order; // of the frames: f for a fragment
    for (std::string_view rest = got; !rest.empty();) {
        const auto h = holdfast::detail::websocket_header::parse(rest);
        REQUIRE(h.complete);
        const std::string_view payload = rest.substr(h.size, h.length);
        REQUIRE(payload.size() == h.length);
        rest.remove_prefix(h.size + h.length);
        if (!h.is_control() && payload != "next") snapshot += payload;
        const char what = h.opcode == 9       ? 'p'
                          : h.opcode == 10    ? 'q'
                          : h.opcode == 8     ? 'c'
                          : payload == "next" ? 'n'
                                              : 'f';
        if (order.empty() || order.back() != what || what != 'f') order += what;
        if (what == 'c') CHECK(payload == tests::close_payload(1001, "bye"));
    }
    CHECK(order == "fqpfnc");
    CHECK(snapshot == holdfast::serialize_to_payload<holdfast::json>(rows).text());
}

TEST_CASE("sessions on four threads, each on its strand, echo and answer pings, with one message for all of them")
{
    net::io_context io;
    constexpr int clients = 16;
    const holdfast::payload shared = holdfast::websocket_frame("for all");
    std::vector<std::pair<tcp::socket, tcp::socket>> pairs;
    for (int i = 0; i != clients; ++i)
        pairs.push_back(tests::socket_pair(io));
    for (auto& both : pairs) {
        const auto serve = [](tcp::socket socket, holdfast::payload all) -> net::awaitable<void> {
            guard peer(std::move(socket));
            holdfast::outbox outbox{peer, tests::echo_outbox};
            holdfast::websocket_reader messages{peer, outbox};
            while (const auto m = co_await messages.async_next(net::use_awaitable)) {
                outbox.push(holdfast::websocket_frame(m->data));
                outbox.push(all);
            }
            co_await holdfast::async_close_websocket(peer, outbox, net::use_awaitable);
        };
        const int descriptor = both.first.release();
        auto strand = net::make_strand(io);
        net::co_spawn(strand, serve(tcp::socket(strand, tcp::v4(), descriptor), shared), net::detached);
    }
    const std::string bytes = client_frame(0x81, "Hello") + client_frame(0x89, "?");
    for (int round = 0; round != 50; ++round)
        for (auto& both : pairs)
            net::write(both.second, net::buffer(bytes));
    for (auto& both : pairs)
        net::write(both.second, net::buffer(client_frame(0x88, "")));
    for (auto& both : pairs)
        both.second.shutdown(tcp::socket::shutdown_send);
    std::vector<std::thread> threads;
    for (int i = 0; i != 4; ++i)
        threads.emplace_back([&] { io.run(); });
    for (auto& each : threads)
        each.join();
    for (auto& both : pairs) {
        const auto got = tests::read_to_end(both.second).bytes;
        const std::size_t each = server_frame(0x81, "Hello").size() + shared.size() + server_frame(0x8a, "?").size();
        CHECK(got.size() == 50 * each + 2);
    }
}
