// holdfast: tests of tls_stream with peers that break the protocol, stall, or flood: each ends or is borne, and no byte
// is delivered that was not sent.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/tls_server.hpp"

#include <holdfast/connection_guard.hpp>

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>

using namespace std::chrono_literals;
using holdfast::error_code;
using tests::tls_server;
using tests::tls_variant;
using tests::variants;
namespace net = holdfast::net;

namespace {

void settle(net::io_context& io)
{
    for (int i = 0; i != 3; ++i) {
        io.restart();
        io.poll();
    }
}

/// All that the client has received and not read, as bytes.
std::string raw(tests::tcp::socket& socket)
{
    tests::await_readable(socket);
    std::string bytes(65536, '\0');
    const auto n = ::recv(socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return bytes;
}

} // namespace

TEST_CASE("a handshake that comes one byte at a time completes, and what follows it is read", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    tls_server f(v);
    std::optional<error_code> done;
    f.server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
    bool shaken = false;
    tests::run_until(f.io, [&] {
        f.client->receive();
        shaken = ::SSL_do_handshake(f.client->ssl()) == 1;
        ::ERR_clear_error();
        for (const char byte : f.client->take_output()) {
            f.client->send({&byte, 1});
            settle(f.io);
        }
        return done && shaken;
    });
    REQUIRE_FALSE(*done);
    CHECK(f.server->compact() == (v.compact && v.version == TLS1_3_VERSION));
    f.read();
    f.client->send(f.client->seal("text"));
    f.await_read();
    CHECK(*f.got == "text");
}

TEST_CASE("data that comes in one segment with the end of the handshake is read, and nothing of it is lost", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    tls_server f(v);
    std::optional<error_code> done;
    f.server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
    std::string last;
    tests::run_until(f.io, [&] {
        f.client->receive();
        const bool shaken = ::SSL_do_handshake(f.client->ssl()) == 1;
        ::ERR_clear_error();
        last = f.client->take_output();
        if (shaken) {
            last += f.client->seal("first");
            last += f.client->seal("second");
        }
        f.client->send(last);
        return shaken;
    });
    tests::run_until(f.io, [&] { return done.has_value(); });
    REQUIRE_FALSE(*done);
    std::string all;
    while (all.size() != 11) {
        f.read();
        f.await_read();
        REQUIRE_FALSE(f.read_error);
        all += *f.got;
    }
    CHECK(all == "firstsecond");
}

TEST_CASE("a peer's fatal alert is the read's error, by its number", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    tls_server f(v);
    f.handshake();
    f.client->read(); // the tickets
    f.read();
    bool written = false;
    net::async_write(*f.server, net::buffer("text", 4), [&](error_code, std::size_t) { written = true; });
    tests::run_until(f.io, [&] { return written; });
    std::string sealed = raw(f.client->socket());
    sealed.back() = static_cast<char>(sealed.back() ^ 1); // the client cannot open it, and says so
    ::BIO_write(::SSL_get_rbio(f.client->ssl()), sealed.data(), static_cast<int>(sealed.size()));
    f.client->read();
    f.await_read();
    CHECK(ERR_GET_REASON(static_cast<unsigned long>(f.read_error.value())) ==
          SSL_AD_REASON_OFFSET + SSL_AD_BAD_RECORD_MAC);
    CHECK(holdfast::reason_of(f.read_error) == holdfast::close_reason::layer_failed);
    CHECK(f.got->empty());
}

TEST_CASE("a record that ends at any byte with the peer's stream is a truncation, and nothing of it is delivered",
          "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    std::size_t size = 0;
    {
        tls_server probe(v);
        probe.handshake();
        size = probe.client->seal("secret").size();
    }
    for (std::size_t cut = 0; cut != size; ++cut) {
        tls_server f(v);
        f.handshake();
        f.read();
        f.client->send(f.client->seal("secret").substr(0, cut));
        f.client->socket().shutdown(tests::tcp::socket::shutdown_send);
        f.await_read();
        REQUIRE(f.read_error == net::ssl::error::stream_truncated);
        REQUIRE(f.got->empty());
    }
}

TEST_CASE("floods of KeyUpdates end the connection, whether they request one or not", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    if (v.version == TLS1_2_VERSION) return;
    INFO(v.name);
    const int kind = GENERATE(SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED);
    tls_server f(v);
    f.handshake();
    f.read();
    for (int i = 0; i != 200 && !f.got; ++i) {
        ::SSL_key_update(f.client->ssl(), kind);
        ::SSL_do_handshake(f.client->ssl());
        f.client->send(f.client->take_output());
        settle(f.io);
    }
    f.await_read();
    CHECK(f.read_error);
}

TEST_CASE("of a thousand KeyUpdates that arrive at once all are refused within one read of the socket", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    if (v.version == TLS1_2_VERSION) return;
    INFO(v.name);
    tls_server f(v, 0);
    f.handshake();
    std::string updates;
    for (int i = 0; i != 1000; ++i) {
        ::SSL_key_update(f.client->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
        ::SSL_do_handshake(f.client->ssl());
        updates += f.client->take_output();
    }
    f.client->send(updates);
    tests::run_until(f.io, [&] { return f.server->lowest_layer().available() >= updates.size(); });
    f.read();
    f.await_read();
    CHECK(ERR_GET_REASON(static_cast<unsigned long>(f.read_error.value())) == SSL_R_UNEXPECTED_MESSAGE);
    CHECK(f.got->empty());
    const std::size_t left = f.server->lowest_layer().available() + f.server->pending();
    CHECK(updates.size() - left <= 2 * holdfast::detail::tls_max_record);
}

TEST_CASE("records of one byte, padded to 16 KB, give that byte each", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    if (v.version == TLS1_2_VERSION) return;
    INFO(v.name);
    tls_server f(v);
    ::SSL_set_block_padding(f.client->ssl(), 16384); // OpenSSL 3.2 and newer apply it to the keys that come after it
    f.handshake();
    const std::string record = f.client->seal("x");
    CHECK(record.size() > 16384);
    std::string all;
    f.read();
    for (int i = 0; i != 20; ++i) {
        f.client->send(i == 0 ? record : f.client->seal("x"));
        tests::run_until(f.io, [&] { return f.got.has_value(); });
        REQUIRE_FALSE(f.read_error);
        all += *f.got;
        f.read();
    }
    CHECK(all == std::string(20, 'x'));
}

TEST_CASE("a TLS 1.2 client that renegotiates is refused", "[tls]")
{
    tls_server f(variants[0]);
    f.handshake();
    f.read();
    ::SSL_renegotiate(f.client->ssl());
    ::SSL_do_handshake(f.client->ssl());
    ::ERR_clear_error();
    f.client->send(f.client->take_output());
    settle(f.io);
    tests::await_readable(f.client->socket());
    f.client->read();
    CHECK(f.client->reason() == SSL_R_NO_RENEGOTIATION);
    CHECK((!f.got || f.got->empty()));
}

TEST_CASE("what is no TLS at all fails the handshake with an error that says so", "[tls]")
{
    const bool compact = GENERATE(false, true);
    tls_server f({"", compact});
    std::optional<error_code> done;
    f.server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
    SECTION("HTTP")
    {
        f.client->send("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
        tests::run_until(f.io, [&] { return done.has_value(); });
        CHECK(ERR_GET_REASON(static_cast<unsigned long>(done->value())) == SSL_R_HTTP_REQUEST);
    }
    SECTION("garbage")
    {
        f.client->send(std::string(2000, '\xa5'));
        tests::run_until(f.io, [&] { return done.has_value(); });
        CHECK(*done);
    }
    SECTION("an end in the middle")
    {
        ::SSL_do_handshake(f.client->ssl());
        f.client->send(f.client->take_output().substr(0, 20));
        f.client->socket().shutdown(tests::tcp::socket::shutdown_send);
        tests::run_until(f.io, [&] { return done.has_value(); });
        CHECK(*done == net::ssl::error::stream_truncated);
    }
    CHECK(holdfast::reason_of(*done) != holdfast::close_reason::local);
}

TEST_CASE("a peer that never answers close_notify is closed at the deadline, one that does, in order", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    const bool answers = GENERATE(true, false);
    tls_server f(v);
    f.handshake();
    holdfast::connection_guard guard(std::move(*f.server));
    const int descriptor = guard.stream().lowest_layer().native_handle();
    std::optional<error_code> closed;
    guard.async_close({.deadline = answers ? 1h : 50ms}, [&](error_code ec) { closed = ec; });
    tests::run_until(f.io, [&] {
        f.client->read();
        if (answers && f.client->ended() && f.client->socket().is_open()) {
            ::SSL_shutdown(f.client->ssl());
            f.client->send(f.client->take_output());
            f.client->socket().close();
        }
        return closed.has_value();
    });
    CHECK(*closed == (answers ? error_code() : error_code(holdfast::errc::close_incomplete)));
    CHECK(f.client->ended());
    CHECK_FALSE(tests::is_open_descriptor(descriptor));
}

TEST_CASE("a slow reader that is aborted in the middle of a write leaves no memory in use", "[tls]")
{
    const tls_variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    tls_server f(v);
    f.handshake();
    auto guard = std::make_optional(holdfast::connection_guard(std::move(*f.server)));
    auto text = std::make_unique<std::string>(8'000'000, 'x'); // more than the socket's buffers take
    std::optional<error_code> written, read;
    net::async_write(guard->stream(), net::buffer(*text), [&](error_code ec, std::size_t) {
        written = ec;
        text.reset();
    });
    auto one = std::make_unique<char>();
    guard->stream().async_read_some(net::buffer(one.get(), 1), [&](error_code ec, std::size_t) {
        read = ec;
        one.reset();
    });
    settle(f.io);
    CHECK_FALSE(written);
    const bool aborts = GENERATE(true, false);
    if (aborts) guard->abort(holdfast::close_reason::send_queue_overflow);
    guard.reset(); // both operations are pending
    tests::run_until(f.io, [&] { return written && read; });
    CHECK(*written);
    CHECK(*read);
}
