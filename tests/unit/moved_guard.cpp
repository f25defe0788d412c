// holdfast: tests of guards whose stream has left them: moved from, being closed, released; over TCP and over TLS.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/adapters/tls_stream.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/write_streamed.hpp>

#include <chrono>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct note_last {
    std::optional<holdfast::connection_end>* last;
    void operator()(const holdfast::connection_end& end) const noexcept { *last = end; }
};

template <class Stream>
struct guarded {
    using guard = holdfast::connection_guard<Stream, note_last>;

    guarded()
    {
        auto [a, b] = tests::socket_pair(io);
        address = a.remote_endpoint();
        peer.emplace(std::move(b));
        server.emplace(make(std::move(a)), note_last{&end});
    }

    Stream make(tcp::socket socket)
    {
        if constexpr (std::is_same_v<Stream, tcp::socket>)
            return socket;
        else if constexpr (std::is_same_v<Stream, tests::tls_stream>)
            return Stream(std::move(socket), context);
        else
            return Stream(std::move(socket), ::SSL_new(context.native_handle()));
    }

    net::io_context io;
    tests::anonymous_context context;
    tcp::endpoint address;
    std::optional<holdfast::connection_end> end;
    std::optional<guard> server;
    std::optional<tcp::socket> peer;
};

/// What a guard that has no stream any more has to answer.
template <class Guard>
void check_without_stream(net::io_context& io, Guard& empty)
{
    CHECK(empty.get_executor() == io.get_executor());
    CHECK_FALSE(empty.is_open());
    empty.note(net::error::eof);
    empty.close();
    empty.abort();
    error_code closed = net::error::in_progress;
    empty.async_close([&](error_code ec) { closed = ec; });
    CHECK(closed == net::error::in_progress);
    io.poll();
    io.restart();
    CHECK_FALSE(closed);
}

/// Operations on the stream of such a guard fail. (Not those of ssl::stream: it stays where it is.)
template <class Guard>
void check_stream_fails(net::io_context& io, Guard& empty)
{
    error_code read, written;
    std::size_t completed = 0;
    char bytes[10];
    empty.stream().async_read_some(net::buffer(bytes), [&](error_code ec, std::size_t n) {
        read = ec;
        completed += 1 + n;
    });
    empty.stream().async_write_some(net::buffer("x", 1), [&](error_code ec, std::size_t n) {
        written = ec;
        completed += 1 + n;
    });
    CHECK(completed == 0);
    io.poll();
    io.restart();
    CHECK(completed == 2);
    CHECK(read == net::error::bad_descriptor);
    CHECK(written == net::error::bad_descriptor);
}

/// The library's operations on such a guard fail, whatever its stream.
template <class Guard>
void check_operations_fail(net::io_context& io, Guard& empty)
{
    error_code read, written;
    std::size_t completed = 0;
    holdfast::frame_reader lines{empty};
    lines.async_next([&](error_code ec, std::optional<std::string_view> line) {
        read = ec;
        CHECK_FALSE(line);
        ++completed;
    });
    holdfast::outbox outbox{empty};
    (void)outbox.push(holdfast::payload("hello"));
    holdfast::async_write_streamed(empty, 12345, [&](error_code ec, std::size_t n) {
        written = ec;
        completed += 1 + n;
    });
    CHECK(completed == 0);
    io.poll();
    io.restart();
    CHECK(completed == 2);
    CHECK(written == net::error::bad_descriptor);
    CHECK(read == net::error::bad_descriptor);
    CHECK(outbox.error() == net::error::bad_descriptor);
}

} // namespace

TEMPLATE_TEST_CASE("a guard that was moved from has ended, the other one has the connection", "", tcp::socket,
                   tests::tls_stream, holdfast::tls_stream<>)
{
    guarded<TestType> both;
    auto& empty = *both.server;
    auto owner = std::move(empty);
    check_without_stream(both.io, empty);
    CHECK(empty.reason() == close_reason::none);
    if constexpr (!std::is_same_v<TestType, tests::tls_stream>) check_stream_fails(both.io, empty);
    check_operations_fail(both.io, empty);
    CHECK(owner.is_open());
    CHECK(owner.stream().lowest_layer().is_open());
    CHECK_FALSE(both.end);

    both.server.reset(); // the empty one goes first
    CHECK(owner.stream().lowest_layer().is_open());
    owner.close();
    CHECK(both.end);
    if constexpr (std::is_same_v<TestType,
                                 holdfast::tls_stream<>>) { // also of a stream alone, whose new owner has closed
        auto stream = both.make(tests::socket_pair(both.io).first);
        {
            const auto moved = std::move(stream);
        }
        error_code read;
        char byte = 0;
        stream.async_read_some(net::buffer(&byte, 1), [&](error_code ec, std::size_t) { read = ec; });
        tests::run(both.io);
        CHECK(read == net::error::bad_descriptor);
    }
}

TEMPLATE_TEST_CASE("a pending read leaves the stream to the guard that it has moved to", "", tests::tls_stream,
                   holdfast::tls_stream<>)
{
    guarded<TestType> both;
    holdfast::frame_reader lines{*both.server};
    error_code read;
    lines.async_next([&](error_code ec, std::optional<std::string_view> line) {
        read = ec;
        CHECK_FALSE(line);
    });
    both.io.poll();
    both.io.restart();
    REQUIRE_FALSE(read);
    auto owner = std::move(*both.server);
    net::write(*both.peer, net::buffer("hello", 5));
    tests::run(both.io);
    CHECK(read == net::error::bad_descriptor);
    CHECK(owner.stream().lowest_layer().available() == 5);
}

TEST_CASE("a read in the middle of a frame does not go on when its guard has moved")
{
    net::io_context io;
    auto [a, b] = tests::socket_pair(io);
    holdfast::connection_guard server{tests::layered_stream(std::move(a))};
    holdfast::frame_reader lines{server};
    std::optional<error_code> read;
    lines.async_next([&](error_code ec, std::optional<std::string_view> line) {
        read = ec;
        CHECK_FALSE(line);
    });
    auto owner = std::move(server);
    net::write(b, net::buffer("part of a line", 14));
    tests::await_readable(owner.stream().next_layer());
    io.poll();
    io.restart();
    REQUIRE(read);
    CHECK(*read == net::error::bad_descriptor);
    CHECK(lines.buffered() == "part of a line");
}

TEMPLATE_TEST_CASE("a guard has ended while its async_close is pending", "", tcp::socket, tests::tls_stream,
                   holdfast::tls_stream<>)
{
    guarded<TestType> both;
    auto& closing = *both.server;
    net::cancellation_signal cancel;
    error_code result = net::error::in_progress;
    closing.async_close({.deadline = 1h},
                        net::bind_cancellation_slot(cancel.slot(), [&](error_code ec) { result = ec; }));
    both.io.poll();
    both.io.restart();
    REQUIRE(result == net::error::in_progress);
    check_without_stream(both.io, closing);
    CHECK(closing.reason() == close_reason::local);
    if constexpr (!std::is_same_v<TestType, tests::tls_stream>) check_stream_fails(both.io, closing);
    check_operations_fail(both.io, closing);
    REQUIRE(result == net::error::in_progress);

    cancel.emit(net::cancellation_type::terminal);
    tests::run(both.io);
    CHECK(result == net::error::operation_aborted);
    CHECK(both.end);
}

TEMPLATE_TEST_CASE("release_unbounded returns the open stream, the finalizer gets the peer's address", "", tcp::socket,
                   tests::tls_stream, holdfast::tls_stream<>)
{
    guarded<TestType> both;
    TestType stream = both.server->release_unbounded();
    CHECK(stream.lowest_layer().is_open());
    REQUIRE(both.end);
    CHECK(both.end->reason == close_reason::released);
    CHECK(both.end->peer.ip() == both.address.address());
    CHECK_FALSE(both.server->is_open());
    both.server.reset();
    CHECK(stream.lowest_layer().is_open());
}
