// holdfast: tests of layers upon an acceptor's connection: permit, census, finalizer, reasons, drain and async_close
// stay with the connection.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/note_end.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::error_code;
using tests::note_end;
using tests::tcp;
using tests::tls_stream;
namespace net = holdfast::net;
namespace ssl = net::ssl;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp, note_end>;
using connection = acceptor_type::connection_type;

/// A layer that cannot be moved.
class fixed_layer : public tests::layered_stream {
public:
    using tests::layered_stream::layered_stream;
    fixed_layer(const fixed_layer&) = delete;
};

/// An acceptor of one connection at a time, with one client.
struct one_connection {
    one_connection()
    {
        ends.reserve(8);
        acceptor.async_accept([this](error_code ec, connection accepted) {
            REQUIRE_FALSE(ec);
            peer.emplace(std::move(accepted));
        });
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [this] { return peer.has_value(); });
    }

    void run_a_little()
    {
        for (int i = 0; i != 5; ++i) {
            io.restart();
            io.poll();
        }
    }

    /// Whether another client would be let in.
    bool has_room()
    {
        bool accepted = false;
        net::cancellation_signal stop;
        tcp::socket next(io);
        next.connect(acceptor.local_endpoint());
        acceptor.async_accept(
            net::bind_cancellation_slot(stop.slot(), [&](error_code ec, connection) { accepted = !ec; }));
        run_a_little();
        stop.emit(net::cancellation_type::terminal);
        run_a_little();
        return accepted;
    }

    std::vector<connection_end> ends;
    net::io_context io;
    acceptor_type acceptor{
        io.get_executor(), {net::ip::address_v4::loopback(), 0}, {.max_connections = 1}, note_end{&ends}};
    tcp::socket client{io};
    std::optional<connection> peer;
};

template <class Layered>
std::uint64_t only_id(const Layered& acceptor)
{
    std::uint64_t id = 0;
    acceptor.census().for_each([&](const holdfast::census_entry& entry) { id = entry.id; });
    return id;
}

} // namespace

TEST_CASE("a layered connection keeps its permit and its entry until it ends, on every path")
{
    one_connection one;
    const auto address = one.client.local_endpoint();
    {
        auto layered = holdfast::upgrade<tests::layered_stream>(std::move(*one.peer));
        one.peer.reset();
        CHECK(one.ends.empty());
        CHECK(one.acceptor.census().live() == 1);
        CHECK_FALSE(one.has_room());
        auto moved = std::move(layered);
        CHECK(moved.is_open());
        std::size_t shown = 0;
        one.acceptor.census().for_each([&](const holdfast::census_entry&) { ++shown; });
        CHECK(shown == 1);
        SECTION("closed") { moved.close(close_reason::max_lifetime); }
        SECTION("aborted") { moved.abort(close_reason::max_lifetime); }
        SECTION("by async_close")
        {
            moved.note(holdfast::errc::frame_too_long);
            moved.async_close(net::detached);
            one.client.close();
            tests::run_until(one.io, [&] { return !one.ends.empty(); });
        }
        SECTION("by the acceptor") { CHECK(one.acceptor.end(only_id(one.acceptor), close_reason::refused)); }
        SECTION("destroyed") {}
    }
    REQUIRE(one.ends.size() == 1);
    CHECK(one.ends[0].peer.port() == address.port());
    CHECK(one.acceptor.census().live() == 0);
    CHECK(one.has_room());
}

TEST_CASE("a layer is made by its constructor, or by a function whose layer cannot even be moved")
{
    one_connection one;
    auto fixed =
        holdfast::upgrade(std::move(*one.peer), [](tcp::socket socket) { return fixed_layer(std::move(socket)); });
    auto* const address = &fixed.stream();
    auto moved = std::move(fixed);
    CHECK(&moved.stream() == address); // operations may be pending on it
    moved.stream().next_layer().write_some(net::buffer("hello", 5));
    moved.async_close(net::detached);
    CHECK(tests::read_to_end(one.client).bytes == "hello");
    one.client.close();
    tests::run_until(one.io, [&] { return !one.ends.empty(); });
    CHECK(one.ends[0].reason == close_reason::local);
}

TEST_CASE("a layer of a layer, and of a guard without an acceptor")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    std::vector<connection_end> ends;
    holdfast::connection_guard plain(std::move(server), note_end{&ends});
    using outer = fixed_layer;
    auto first = holdfast::upgrade<tests::layered_stream>(std::move(plain));
    CHECK_FALSE(plain.is_open());
    auto second = holdfast::upgrade(std::move(first),
                                    [](tests::layered_stream layer) { return outer(std::move(layer.next_layer())); });
    second.close(close_reason::refused);
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].reason == close_reason::refused);
}

TEST_CASE("a layer that cannot be made ends the connection, and gives back what it held")
{
    one_connection one;
    const auto fails = [](tcp::socket socket) -> tests::layered_stream {
        if (socket.is_open()) throw std::runtime_error("no layer");
        return tests::layered_stream(std::move(socket));
    };
    CHECK_THROWS_AS(holdfast::upgrade(std::move(*one.peer), fails), std::runtime_error);
    REQUIRE(one.ends.size() == 1);
    CHECK(one.ends[0].reason == close_reason::exception);
    CHECK(one.acceptor.census().live() == 0);
    CHECK(tests::read_to_end(one.client).end == net::error::eof);
}

TEST_CASE("a drain or an end that comes while the layer is being made takes effect once it is there")
{
    one_connection one;
    const bool drains = GENERATE(true, false);
    const auto id = only_id(one.acceptor);
    auto layered = holdfast::upgrade(std::move(*one.peer), [&](tcp::socket socket) {
        if (drains) {
            one.acceptor.async_drain({}, net::detached);
            one.io.poll();
        } else {
            CHECK(one.acceptor.end(id, close_reason::refused));
        }
        return tests::layered_stream(std::move(socket));
    });
    CHECK(layered.draining() == drains);
    error_code read_end;
    char byte;
    layered.stream().async_read_some(net::buffer(&byte, 1), [&](error_code ec, std::size_t) { read_end = ec; });
    tests::run_until(one.io, [&] { return bool(read_end); });
    layered.close();
    CHECK(one.ends[0].reason == (drains ? close_reason::drained : close_reason::refused));
}

TEST_CASE("TLS upon an acceptor's connection: handshake, an answer, close_notify, and the permit is back")
{
    one_connection one;
    tests::anonymous_context context;
    tls_stream client(std::move(one.client), context);
    auto secure = std::make_optional(holdfast::upgrade<tls_stream>(std::move(*one.peer), context));
    error_code result = net::error::in_progress, read_end;
    std::string got;
    client.async_handshake(ssl::stream_base::client, [&](error_code ec) {
        REQUIRE_FALSE(ec);
        net::async_read(client, net::dynamic_buffer(got), [&](error_code end, std::size_t) {
            read_end = end;
            client.async_shutdown([&](error_code) { client.lowest_layer().close(); });
        });
    });
    secure->stream().async_handshake(ssl::stream_base::server, [&](error_code ec) {
        REQUIRE_FALSE(ec);
        net::async_write(secure->stream(), net::buffer("hello", 5), [&](error_code, std::size_t) {
            secure->async_close([&](error_code closed) { result = closed; });
        });
    });
    tests::run_until(one.io, [&] { return result != net::error::in_progress; });
    CHECK_FALSE(result);
    CHECK(got == "hello");
    CHECK(read_end == net::error::eof);
    REQUIRE(one.ends.size() == 1);
    CHECK(one.ends[0].reason == close_reason::local);
    CHECK(one.has_room());
}

TEST_CASE("a TLS client that leaves without close_notify has a reason of its own, and a drain is not mistaken for it")
{
    one_connection one;
    tests::anonymous_context context;
    tls_stream client(std::move(one.client), context);
    auto secure = std::make_optional(holdfast::upgrade<tls_stream>(std::move(*one.peer), context));
    int shaken = 0;
    client.async_handshake(ssl::stream_base::client, [&](error_code) { ++shaken; });
    secure->stream().async_handshake(ssl::stream_base::server, [&](error_code) { ++shaken; });
    tests::run_until(one.io, [&] { return shaken == 2; });
    char byte;
    error_code read_end;
    secure->stream().async_read_some(net::buffer(&byte, 1), [&](error_code ec, std::size_t) { read_end = ec; });
    auto expected = close_reason::none;
    SECTION("the client's end of its TCP stream")
    {
        client.lowest_layer().close();
        expected = close_reason::peer_truncated;
    }
    SECTION("a drain")
    {
        one.acceptor.async_drain({}, net::detached);
        expected = close_reason::drained;
    }
    tests::run_until(one.io, [&] { return bool(read_end); });
    CHECK(holdfast::reason_of(read_end) == close_reason::peer_truncated);
    CHECK((read_end == holdfast::condition::peer_gone));
    secure->note(read_end);
    secure.reset();
    REQUIRE(one.ends.size() == 1);
    CHECK(one.ends[0].reason == expected);
    CHECK(one.ends[0].error == read_end);
}

TEST_CASE("a layered stream lives until the operations that keep it have ended, after its guard was destroyed")
{
    net::io_context io;
    tests::anonymous_context context;
    auto [server, client_socket] = tests::socket_pair(io);
    server.set_option(net::socket_base::send_buffer_size(65536)); // else the kernel may take all that is written below
    client_socket.set_option(net::socket_base::receive_buffer_size(65536));
    tls_stream client(std::move(client_socket), context);
    auto secure = std::make_optional(holdfast::connection_guard(tls_stream(std::move(server), context)));
    int shaken = 0;
    client.async_handshake(ssl::stream_base::client, [&](error_code) { ++shaken; });
    secure->stream().async_handshake(ssl::stream_base::server, [&](error_code) { ++shaken; });
    tests::run_until(io, [&] { return shaken == 2; });
    const auto block = std::make_shared<std::string>(4'000'000, 'x'); // the client does not read it
    error_code result;
    net::async_write(secure->stream(), net::buffer(*block),
                     [&result, block, stream = secure->keep_stream()](error_code ec, std::size_t) { result = ec; });
    io.poll();
    try {
        secure->abort(close_reason::heartbeat_timeout); // a slow reader
        auto owner = std::move(secure);
        secure.reset();
        throw std::runtime_error("what the aborted operation makes the session throw");
    } catch (const std::runtime_error&) { // the guard is gone, the write pending
    }
    tests::run_until(io, [&] { return bool(result); });
    CHECK(result);
}
