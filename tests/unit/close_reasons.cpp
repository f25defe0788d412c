// holdfast: tests of every way a session's connection can end: each with its reason, its error, one
// finalizer.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/note_end.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::error_code;
using tests::note_end;
using tests::tcp;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp, note_end>;
using connection = acceptor_type::connection_type;

/// A server with one client.
class one_session {
public:
    template <class Session>
    explicit one_session(Session s)
    {
        ends.reserve(8);
        acceptor->async_serve(std::move(s), net::detached);
        client.connect(acceptor->local_endpoint());
        tests::run_until(*io, [&] { return acceptor->census().peak() == 1; });
        io->poll();
    }

    /// Runs until the session has ended; checks that it did so once, and that the client sees it.
    const connection_end& end()
    {
        tests::run_until(*io, [&] { return acceptor->census().live() == 0; });
        CHECK(acceptor->census().ended() == 1);
        return only_end();
    }

    const connection_end& only_end()
    {
        REQUIRE(ends.size() == 1);
        if (acceptor) CHECK(acceptor->census().ended(ends[0].reason) == 1);
        return ends[0];
    }

    std::vector<connection_end> ends;
    net::io_context clients;
    std::optional<net::io_context> io{std::in_place};
    std::optional<acceptor_type> acceptor{std::in_place, io->get_executor(),
                                          tcp::endpoint(net::ip::address_v4::loopback(), 0),
                                          holdfast::acceptor_options{}, note_end{&ends}};
    tcp::socket client{clients};
};

/// An allocator that never has any.
template <class T = void>
struct no_memory {
    using value_type = T;

    no_memory() = default;
    template <class U>
    no_memory(const no_memory<U>&) noexcept
    {
    }

    T* allocate(std::size_t) { throw std::bad_alloc(); }
    void deallocate(T*, std::size_t) noexcept {}
    bool operator==(const no_memory&) const = default;
};

/// Reads without holdfast's parts: whatever goes wrong is an exception, and is noted nowhere.
net::awaitable<void> read_all(connection& peer)
{
    for (char byte;;)
        co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
}

/// The same as a session: the exception destroys the connection.
net::awaitable<void> read_on(connection peer) { co_await read_all(peer); }

} // namespace

TEST_CASE("a session that returns with its connection open has abandoned it")
{
    one_session one{[](connection) -> net::awaitable<void> { co_return; }};
    CHECK(one.end().reason == close_reason::abandoned);
    CHECK(tests::read_to_end(one.client).end == net::error::eof);
}

TEST_CASE("the peer's end of stream, met by a read")
{
    one_session one{read_on};
    one.client.shutdown(tcp::socket::shutdown_send);
    const auto& end = one.end();
    CHECK(end.reason == close_reason::peer_closed);
    CHECK(end.error == net::error::eof);
}

TEST_CASE("the peer's end of stream, met by a frame_reader and followed by async_close")
{
    one_session one{[](connection peer) -> net::awaitable<void> {
        holdfast::frame_reader lines{peer};
        while (co_await lines.async_next()) {
        }
        co_await peer.async_close();
    }};
    one.client.close();
    CHECK(one.end().reason == close_reason::peer_closed);
}

TEST_CASE("the peer's reset, met by a read and by a write")
{
    SECTION("read")
    {
        one_session one{read_on};
        tests::reset(one.client);
        const auto& end = one.end();
        CHECK(end.reason == close_reason::peer_reset);
        CHECK(end.error == net::error::not_connected); // the read has taken the first error
    }
    SECTION("write")
    {
        one_session one{[](connection peer) -> net::awaitable<void> {
            const std::string block(1 << 20, 'x');
            for (;;)
                co_await net::async_write(peer.stream(), net::buffer(block), net::use_awaitable);
        }};
        tests::reset(one.client);
        CHECK(one.end().reason == close_reason::peer_reset);
    }
}

TEST_CASE("another error of a read")
{
    one_session one{[](connection peer) -> net::awaitable<void> {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        ::close(ends[1]);
        ::dup2(ends[0], peer.stream().native_handle()); // no socket any more
        ::close(ends[0]);
        holdfast::frame_reader lines{peer};
        co_await lines.async_next();
    }};
    const auto& end = one.end();
    CHECK(end.reason == close_reason::io_error);
    CHECK(end.error);
}

TEST_CASE("a heartbeat's time-out, which is the first cause although the session then fails")
{
    std::optional<holdfast::heartbeat_timer<>> heartbeats;
    one_session one{[&](connection peer) -> net::awaitable<void> {
        heartbeats.emplace(peer.get_executor(), holdfast::heartbeat_options{.tick = 1ms, .timeout = 5ms});
        const auto heartbeat = heartbeats->watch(peer);
        co_await read_all(peer);
    }};
    CHECK(one.end().reason == close_reason::heartbeat_timeout);
    CHECK(tests::read_to_end(one.client).end == net::error::connection_reset);
    heartbeats.reset();
}

TEST_CASE("a frame beyond the limit")
{
    one_session one{[](connection peer) -> net::awaitable<void> {
        holdfast::frame_reader lines{peer, {.max_frame_bytes = 8}};
        while (co_await lines.async_next()) {
        }
    }};
    one.client.write_some(net::buffer("an endless line", 15));
    const auto& end = one.end();
    CHECK(end.reason == close_reason::frame_limit);
    CHECK(end.error == error_code(holdfast::errc::frame_too_long));
}

TEST_CASE("bad input of any kind ends its own connection, with a reason, and the server continues")
{
    one_session one{[](connection peer) -> net::awaitable<void> {
        holdfast::frame_reader messages{peer, {.max_frame_bytes = 100}, framing::varint_length{}};
        while (const auto message = co_await messages.async_next())
            co_await net::async_write(peer.stream(), net::buffer(*message), net::use_awaitable);
        co_await peer.async_close();
    }};
    struct bad_input {
        std::string bytes;
        void (*then)(tcp::socket&);
        close_reason reason;
        error_code error;
    };
    const auto wait = [](tcp::socket&) {};
    const auto close = [](tcp::socket& client) { client.close(); };
    const auto reset = [](tcp::socket& client) { tests::reset(client); };
    const bad_input all[] = {
        {"\xFF\xFF\xFF\xFF\x0F", wait, close_reason::frame_limit, holdfast::errc::frame_too_long},
        {std::string(11, '\xFF'), wait, close_reason::frame_limit, holdfast::errc::malformed_frame},
        {"\x05"
         "cut",
         close, close_reason::peer_closed, holdfast::errc::truncated_frame},
        {"\xFF", close, close_reason::peer_closed, holdfast::errc::truncated_frame},
        {"\x05"
         "cut",
         reset, close_reason::peer_reset, net::error::connection_reset},
    };
    one.client.close();
    one.end();
    for (const auto& bad : all) {
        one.ends.clear();
        tcp::socket client(one.clients), next(one.clients);
        client.connect(one.acceptor->local_endpoint());
        net::write(client, net::buffer(bad.bytes));
        bad.then(client);
        next.connect(one.acceptor->local_endpoint());
        net::write(next, net::buffer("\x02hi", 3));
        tests::run_until(*one.io, [&] { return one.ends.size() == 1 && next.available() == 2; });
        INFO(bad.error.message());
        CHECK(one.ends[0].reason == bad.reason);
        CHECK(one.ends[0].error == bad.error);
        next.close();
        tests::run_until(*one.io, [&] { return one.acceptor->census().live() == 0; });
    }
}

TEST_CASE("what a part of the session names: lifetime, queue, refusal")
{
    for (const auto reason : {close_reason::max_lifetime, close_reason::send_queue_overflow, close_reason::refused}) {
        one_session one{[reason](connection peer) -> net::awaitable<void> {
            peer.abort(reason);
            co_await read_all(peer); // fails, which is no cause any more
        }};
        CHECK(one.end().reason == reason);
    }
}

TEST_CASE("a drain that the session follows, and one whose deadline comes first")
{
    SECTION("followed")
    {
        one_session one{[](connection peer) -> net::awaitable<void> {
            holdfast::frame_reader lines{peer};
            while (co_await lines.async_next()) {
            }
            CHECK(peer.draining());
            co_await peer.async_close();
        }};
        one.acceptor->async_drain({}, net::detached);
        tests::run_until(*one.io, [&] {
            char byte;
            return ::recv(one.client.native_handle(), &byte, 1, MSG_DONTWAIT) == 0;
        });
        one.client.close();
        CHECK(one.end().reason == close_reason::drained);
    }
    SECTION("not followed")
    {
        one_session one{[](connection peer) -> net::awaitable<void> {
            const std::string block(1 << 20, 'x');
            for (;;) // a client that does not read
                co_await net::async_write(peer.stream(), net::buffer(block), net::use_awaitable);
        }};
        one.acceptor->async_drain({.deadline = 0s}, net::detached);
        CHECK(one.end().reason == close_reason::drain_deadline);
    }
}

TEST_CASE("the end by the census's id, from another thread's point of view")
{
    one_session one{read_on};
    std::uint64_t id = 0;
    one.acceptor->census().for_each([&](const holdfast::census_entry& entry) { id = entry.id; });
    CHECK_FALSE(one.acceptor->end(id + 1));
    CHECK(one.acceptor->end(id, close_reason::refused));
    CHECK(one.end().reason == close_reason::refused);
    CHECK_FALSE(one.acceptor->end(id));
}

TEST_CASE("a drain that a session learns by an exception of its read")
{
    one_session one{read_on};
    one.acceptor->async_drain({}, net::detached);
    CHECK(one.end().reason == close_reason::drained);
}

TEST_CASE("an exception is not the peer's end while there is more to read")
{
    one_session one{[](connection peer) -> net::awaitable<void> {
        co_await peer.stream().async_wait(tcp::socket::wait_read, net::use_awaitable);
        throw std::runtime_error("thrown by the session");
    }};
    one.client.write_some(net::buffer("unread", 6));
    one.client.shutdown(tcp::socket::shutdown_send);
    const auto& end = one.end();
    CHECK(end.reason == close_reason::exception);
    CHECK(!end.error);
}

TEST_CASE("a coroutine refers to its lambda's captures, also when accepting has stopped")
{
    std::vector<std::string> seen;
    one_session one{[&seen, text = std::string(100, 't')](connection peer) -> net::awaitable<void> {
        char byte;
        co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
        seen.push_back(text);
        peer.close();
    }};
    one.acceptor->close();
    one.io->poll(); // async_serve has completed
    one.client.write_some(net::buffer("x", 1));
    CHECK(one.end().reason == close_reason::local);
    CHECK(seen == std::vector{std::string(100, 't')});
}

TEST_CASE("an exception, and one that stands for want of memory")
{
    SECTION("exception")
    {
        one_session one{[](connection) -> net::awaitable<void> {
            throw std::runtime_error("thrown by the session");
            co_return;
        }};
        CHECK(one.end().reason == close_reason::exception);
    }
    // By a callback: what a coroutine awaits must not throw when it is initiated, or Asio ends the program.
    SECTION("bad_alloc while the handler of an operation is made")
    {
        one_session one{[](connection peer) -> net::awaitable<void> {
            char byte;
            try {
                peer.stream().async_read_some(net::buffer(&byte, 1),
                                              net::bind_allocator(no_memory<>(), [](error_code, std::size_t) {}));
            } catch (...) {
                const connection_end end = holdfast::end_by(std::current_exception());
                peer.close(end.reason, end.error);
            }
            co_return;
        }};
        const auto& end = one.end();
        CHECK(end.reason == close_reason::out_of_memory);
        CHECK(end.error == net::error::no_memory);
    }
}

TEST_CASE("a noted error is the reason of a connection that its owner leaves without closing it")
{
    const auto session = [](auto... notes) {
        return [=](connection peer) -> net::awaitable<void> {
            (peer.note(notes), ...);
            co_return;
        };
    };
    const error_code frame = holdfast::errc::frame_too_long;
    const error_code none, reset = net::error::connection_reset, aborted = net::error::operation_aborted;
    const auto ends_for = [](auto s, close_reason reason, const error_code& error) {
        one_session one{std::move(s)};
        const auto& end = one.end();
        CHECK(end.reason == reason);
        CHECK(end.error == error);
    };
    SECTION("the first one") { ends_for(session(none, frame, reset), close_reason::frame_limit, frame); }
    SECTION("no error is none") { ends_for(session(none), close_reason::abandoned, {}); }
    SECTION("a cancellation is no cause where the session went on")
    {
        ends_for(session(aborted), close_reason::abandoned, {});
    }
    SECTION("a cancellation gives way to an error")
    {
        ends_for(session(aborted, reset, frame), close_reason::peer_reset, reset);
    }
    SECTION("a cancellation that leaves the session")
    {
        ends_for(
            [=](connection peer) -> net::awaitable<void> {
                peer.note(aborted);
                throw holdfast::system_error(aborted);
                co_return;
            },
            close_reason::cancelled, aborted);
    }
    SECTION("an exception that carries it")
    {
        ends_for(
            [=](connection peer) -> net::awaitable<void> {
                peer.note(frame);
                throw holdfast::system_error(frame);
                co_return;
            },
            close_reason::frame_limit, frame);
    }
    SECTION("an explicit close says itself why")
    {
        ends_for(
            [=](connection peer) -> net::awaitable<void> {
                peer.note(frame);
                peer.close(close_reason::refused);
                co_return;
            },
            close_reason::refused, {});
    }
}

TEST_CASE("a cancellation")
{
    net::cancellation_signal stop;
    one_session one{[&](connection peer) -> net::awaitable<void> {
        holdfast::frame_reader lines{peer};
        co_await lines.async_next(net::bind_cancellation_slot(stop.slot(), net::use_awaitable));
    }};
    stop.emit(net::cancellation_type::terminal);
    CHECK(one.end().reason == close_reason::cancelled);
}

TEST_CASE("the context is destroyed while the session waits, stopped or not")
{
    one_session one{read_on};
    SECTION("running") {}
    SECTION("stopped, and never run again") { one.io->stop(); }
    one.acceptor.reset();
    CHECK(one.ends.empty());
    one.io.reset();
    CHECK(one.only_end().reason == close_reason::context_destroyed);
}

TEST_CASE("the context is destroyed while async_close waits: one end, for the close, and the permit is back")
{
    net::io_context elsewhere;
    holdfast::async_semaphore room(elsewhere.get_executor(), 2); // the next new client's permit is taken too
    std::vector<connection_end> ends;
    std::optional<net::io_context> io(std::in_place);
    tcp::socket client(elsewhere);
    {
        acceptor_type acceptor(io->get_executor(), {net::ip::address_v4::loopback(), 0},
                               {.connection_semaphore = &room}, note_end{&ends});
        acceptor.async_serve(
            [](connection peer) -> net::awaitable<void> { co_await peer.async_close({}, net::use_awaitable); },
            net::detached);
        client.connect(acceptor.local_endpoint());
        tests::run_until(*io, [&] { return acceptor.census().peak() == 1; });
        io->poll();
    }
    CHECK(room.available() == 0);
    CHECK(ends.empty());
    io.reset();
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].reason == close_reason::local);
    CHECK(room.available() == 2);
}

TEST_CASE("the stream is handed back to the session, open")
{
    std::optional<tcp::socket> kept;
    one_session one{[&](connection peer) -> net::awaitable<void> {
        kept.emplace(peer.release_unbounded());
        co_return;
    }};
    CHECK(one.end().reason == close_reason::released);
    kept->write_some(net::buffer("still here", 10));
    kept->close();
    CHECK(tests::read_to_end(one.client).bytes == "still here");
}

TEST_CASE("a connection that the session moves away ends where its new owner ends it")
{
    std::optional<connection> kept;
    one_session one{[&](connection peer) -> net::awaitable<void> {
        kept.emplace(std::move(peer));
        co_return;
    }};
    one.io->poll();
    CHECK(one.ends.empty());
    SECTION("destroyed")
    {
        kept.reset();
        CHECK(one.end().reason == close_reason::abandoned);
    }
    SECTION("replaced")
    {
        *kept = [&] {
            std::optional<connection> next;
            net::io_context& io = *one.io;
            acceptor_type other{io.get_executor(), {net::ip::address_v4::loopback(), 0}, {}, note_end{&one.ends}};
            tcp::socket second(one.clients);
            second.connect(other.local_endpoint());
            other.async_accept([&](error_code, connection peer) { next.emplace(std::move(peer)); });
            tests::run_until(io, [&] { return next.has_value(); });
            return std::move(*next);
        }();
        CHECK(one.ends.size() == 1);
        CHECK(one.ends[0].reason == close_reason::replaced);
        CHECK(one.acceptor->census().ended(close_reason::replaced) == 1);
        kept.reset();
        CHECK(one.ends.size() == 2);
    }
}
