// holdfast: tests of tls_stream: what OpenSSL's peers send comes through whole, however it is cut, and every violation
// ends with its alert.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/tls_server.hpp"

#include <filesystem>
#include <optional>
#include <string>

using holdfast::error_code;
namespace net = holdfast::net;
using tests::text_of;
using fixture = tests::tls_server;
using variant = tests::tls_variant;
using tests::variants;

TEST_CASE("texts of any size pass in both directions, whatever protects the records", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    fixture f(v);
    f.handshake();
    CHECK(f.server->compact() == (v.compact && v.version == TLS1_3_VERSION));
    for (const std::size_t size : {1U, 2U, 100U, 1359U, 1360U, 1361U, 16383U, 16384U, 16385U, 100'000U, 1'000'000U}) {
        const std::string text = text_of(size);
        REQUIRE(f.write(text) == text);
        std::string all;
        std::string sealed = f.client->seal(text);
        f.read();
        const auto take = [&] {
            f.io.restart();
            f.io.poll();
            if (!f.got) return;
            REQUIRE_FALSE(f.read_error);
            all += *f.got;
            if (all.size() != size) f.read();
        };
        while (!sealed.empty()) {
            const std::size_t part = std::min<std::size_t>(sealed.size(), 20'000);
            f.client->send(std::string_view(sealed).substr(0, part));
            sealed.erase(0, part);
            while (f.server->lowest_layer().available() != 0)
                take();
        }
        tests::run_until(f.io, [&] {
            if (f.got && all.size() != size) take();
            return all.size() == size;
        });
        REQUIRE(all == text);
    }
}

TEST_CASE("records cut at any byte, and any number of them at once, are read whole", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    fixture f(v);
    f.handshake();
    std::string expected, sealed;
    for (const char* text : {"a", "two words", "three", "and a fourth one that is a little longer"}) {
        expected += text;
        sealed += f.client->seal(text);
    }
    std::string all;
    f.read();
    for (const char byte : sealed) { // one byte a segment
        f.client->send({&byte, 1});
        for (int i = 0; i != 3; ++i) {
            f.io.restart();
            f.io.poll();
        }
        if (f.got) {
            REQUIRE_FALSE(f.read_error);
            all += *f.got;
            f.read();
        }
    }
    tests::run_until(f.io, [&] {
        if (f.got) {
            all += *f.got;
            if (all.size() < expected.size()) f.read();
        }
        return all.size() >= expected.size();
    });
    CHECK(all == expected);
    CHECK(f.server->pending() == 0);

    // All at once, into a reader that takes three bytes at a time.
    sealed.clear();
    for (int i = 0; i != 50; ++i)
        sealed += f.client->seal("0123456789");
    if (f.got) f.read(3);
    f.client->send(sealed);
    std::string rest;
    while (rest.size() != 500) {
        f.await_read();
        REQUIRE_FALSE(f.read_error);
        rest += *f.got;
        if (rest.size() != 500) f.read(3);
    }
    CHECK(rest.substr(0, 20) == "01234567890123456789");
    CHECK(f.server->pending() == 0);
}

TEST_CASE("keys are updated by either side, as often as it likes, and an update that requests one is answered", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    if (v.version == TLS1_2_VERSION) return;
    INFO(v.name);
    fixture f(v);
    f.handshake();
    for (int i = 0; i != 20; ++i) {
        ::SSL_key_update(f.client->ssl(), i % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
        f.read();
        f.client->send(f.client->seal("after an update"));
        f.await_read();
        REQUIRE_FALSE(f.read_error);
        REQUIRE(*f.got == "after an update");
        REQUIRE(f.write("an answer under the new key") == "an answer under the new key");
    }
}

TEST_CASE("close_notify ends a stream without an error, without it the end is a truncation", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    fixture f(v);
    f.handshake();
    f.read();
    SECTION("the peer's close_notify, after data")
    {
        std::string sealed = f.client->seal("last words");
        ::SSL_shutdown(f.client->ssl());
        f.client->send(sealed + f.client->take_output());
        f.await_read();
        CHECK_FALSE(f.read_error);
        CHECK(*f.got == "last words");
        f.read();
        f.await_read();
        CHECK(f.read_error == net::error::eof);
        CHECK(f.write("still writable") == "still writable");
    }
    SECTION("the peer's FIN alone")
    {
        f.client->socket().shutdown(tests::tcp::socket::shutdown_send);
        f.await_read();
        CHECK(f.read_error == net::ssl::error::stream_truncated);
        f.read();
        f.await_read();
        CHECK(f.read_error == net::ssl::error::stream_truncated);
        CHECK(f.write("still writable") == "still writable");
        error_code ec = net::error::in_progress;
        f.server->async_shutdown([&](error_code result) { ec = result; });
        tests::run_until(f.io, [&] { return ec != net::error::in_progress; });
        CHECK_FALSE(ec);
        tests::await_readable(f.client->socket());
        f.client->read();
        CHECK(f.client->ended());
    }
    SECTION("this side's end of the reading, as a drain's, is no truncation")
    {
        ::shutdown(f.server->lowest_layer().native_handle(), SHUT_RD);
        f.await_read();
        CHECK(f.read_error == net::error::eof);
        f.read();
        f.await_read();
        CHECK(f.read_error == net::error::eof);
        CHECK(f.write("still writable") == "still writable");
    }
    SECTION("a reset")
    {
        tests::reset(f.client->socket());
        f.await_read();
        CHECK(f.read_error == net::error::connection_reset);
    }
    SECTION("this side's close_notify")
    {
        error_code ec = net::error::in_progress;
        f.server->async_shutdown([&](error_code result) { ec = result; });
        tests::run_until(f.io, [&] { return ec != net::error::in_progress; });
        CHECK_FALSE(ec);
        tests::await_readable(f.client->socket());
        f.client->read();
        CHECK(f.client->ended());
        if (v.version == TLS1_3_VERSION) {
            f.client->send(f.client->seal("half closed"));
            f.await_read();
            CHECK_FALSE(f.read_error);
            CHECK(*f.got == "half closed");
            f.read();
            ::SSL_key_update(f.client->ssl(), SSL_KEY_UPDATE_REQUESTED);
            f.client->send(f.client->seal("under another key"));
            f.await_read();
            CHECK(*f.got == "under another key");
            std::string altered = f.client->seal("altered");
            altered.back() ^= 1;
            f.read();
            f.client->send(altered);
            f.await_read();
            CHECK(f.read_error);
            CHECK(f.client->socket().available() == 0); // nothing follows a close_notify
        }
    }
}

TEST_CASE("no byte of a record that was altered is delivered, and the peer gets bad_record_mac", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    if (v.version == TLS1_2_VERSION) return;
    INFO(v.name);
    fixture probe(v);
    probe.handshake();
    const std::size_t size = probe.client->seal("secret").size();
    for (std::size_t at = 5; at != size; ++at) {
        fixture f(v);
        f.handshake();
        std::string sealed = f.client->seal("secret");
        sealed[at] = static_cast<char>(sealed[at] ^ (1 << at % 8));
        f.read();
        f.client->send(sealed);
        f.await_read();
        REQUIRE(f.read_error.category() == net::error::get_ssl_category());
        REQUIRE(ERR_GET_REASON(static_cast<unsigned long>(f.read_error.value())) ==
                SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC); // not an alert: none was received
        REQUIRE(f.got->empty());
        tests::await_readable(f.client->socket());
        f.client->read();
        REQUIRE(f.client->reason() == SSL_AD_REASON_OFFSET + SSL_AD_BAD_RECORD_MAC);
        f.read();
        f.await_read();
        REQUIRE(f.read_error); // and never anything else afterwards
    }
}

TEST_CASE("what is no record of this connection is refused: plain text, other types, lengths, swapped and "
          "repeated records",
          "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    if (v.version == TLS1_2_VERSION) return;
    INFO(v.name);
    fixture f(v);
    f.handshake();
    f.read();
    const std::string first = f.client->seal("first"), second = f.client->seal("second");
    std::string sent;
    int alert = SSL_AD_BAD_RECORD_MAC;
    SECTION("swapped") { sent = second + first; }
    SECTION("repeated") { sent = first + first; }
    SECTION("a record that is missing") { sent = second; }
    SECTION("plain text") { sent = std::string("\x17\x03\x03\x00\x19", 5) + std::string(25, 'x'); }
    SECTION("HTTP")
    {
        sent = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        alert = 0;
    }
    SECTION("an unprotected alert")
    {
        sent = std::string("\x15\x03\x03\x00\x02\x02\x28", 7);
        alert = 0;
    }
    SECTION("longer than any record")
    {
        sent = std::string("\x17\x03\x03\x41\x01", 5) + std::string(0x4101, 'x');
        alert = SSL_AD_RECORD_OVERFLOW;
    }
    SECTION("empty")
    {
        sent = std::string("\x17\x03\x03\x00\x00", 5);
        alert = 0;
    }
    f.client->send(sent);
    std::string all;
    do {
        f.await_read();
        all += *f.got;
        if (!f.read_error) f.read();
    } while (!f.got || !f.read_error);
    CHECK((all.empty() || all == "first"));
    if (alert != 0) {
        tests::await_readable(f.client->socket());
        f.client->read();
        CHECK(f.client->reason() == SSL_AD_REASON_OFFSET + alert);
    }
}

TEST_CASE("a peer that reads nothing suspends the writer, a cancelled write loses and doubles nothing", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    fixture f(v);
    f.handshake();
    const std::string text = text_of(16'384);
    std::string sealed;
    error_code ec;
    std::size_t n = 0;
    const auto by_signal = GENERATE(net::cancellation_type::none, net::cancellation_type::partial);
    net::cancellation_signal cancel;
    for (;;) { // until the socket's buffers are full
        bool done = false;
        const auto poll = [&] {
            for (int i = 0; i != 20 && !done; ++i) {
                f.io.restart();
                f.io.poll();
            }
        };
        f.server->async_write_some(net::buffer(text),
                                   net::bind_cancellation_slot(cancel.slot(), [&](error_code e, std::size_t bytes) {
                                       ec = e;
                                       n = bytes;
                                       done = true;
                                   }));
        poll();
        if (!done) {
            cancel.emit(net::cancellation_type::total); // has no effect: bytes are sealed
            poll();
            REQUIRE_FALSE(done);
            cancel.emit(by_signal);
            if (by_signal == net::cancellation_type::none) f.server->lowest_layer().cancel();
            tests::run_until(f.io, [&] { return done; });
            CHECK(ec == net::error::operation_aborted);
            sealed += text.substr(0, n);
            break;
        }
        REQUIRE_FALSE(ec);
        sealed += text.substr(0, n);
        REQUIRE(sealed.size() < 100'000'000);
    }
    const std::string last = "and this";
    bool done = false;
    net::async_write(*f.server, net::buffer(last), [&](error_code e, std::size_t) {
        ec = e;
        done = true;
    });
    std::string all;
    tests::run_until(f.io, [&] {
        all += f.client->read();
        return done && all.size() >= sealed.size() + last.size();
    });
    CHECK_FALSE(ec);
    CHECK(all == sealed + last);
}

TEST_CASE("floods of KeyUpdates and of empty records end the connection instead of the processor's time", "[tls]")
{
    fixture f(variants[3]);
    f.handshake();
    f.read();
    for (int i = 0; i != 100 && !f.got; ++i) {
        ::SSL_key_update(f.client->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
        ::SSL_do_handshake(f.client->ssl());
        f.client->send(f.client->take_output());
        f.io.restart();
        f.io.poll();
    }
    f.await_read();
    CHECK(f.read_error);
}

TEST_CASE("a certificate that is reloaded serves new handshakes, connections that exist go on", "[tls]")
{
    fixture f(variants[1]);
    f.handshake();
    f.files.write("renewed.example");
    f.context.reload();
    CHECK(f.write("still here") == "still here");
    auto [a, b] = tests::socket_pair(f.io);
    f.server.emplace(std::move(a), f.context);
    f.client.emplace(std::move(b));
    f.handshake();
    char name[64];
    const std::unique_ptr<X509, decltype(&::X509_free)> seen(::SSL_get_peer_certificate(f.client->ssl()), &::X509_free);
    ::X509_NAME_get_text_by_NID(::X509_get_subject_name(seen.get()), NID_commonName, name, sizeof name);
    CHECK(std::string(name) == "renewed.example");
    std::filesystem::remove(f.files.chain_file());
    CHECK_THROWS_AS(f.context.reload(), holdfast::system_error);
}

TEST_CASE("a second handshake fails, whatever keeps the records, and the connection continues", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    INFO(v.name);
    fixture f(v);
    const auto second = [&](holdfast::tls_role role) {
        std::optional<error_code> done;
        f.server->async_handshake(role, [&](error_code ec) { done = ec; });
        CHECK_FALSE(done); // never inside the call
        tests::run_until(f.io, [&] { return done.has_value(); });
        return *done;
    };
    std::optional<error_code> first;
    f.server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { first = ec; });
    CHECK(second(holdfast::tls_role::server) == net::error::already_started);
    bool client_done = false;
    tests::run_until(f.io, [&] {
        client_done = f.client->handshake() || client_done;
        return first.has_value() && client_done;
    });
    REQUIRE_FALSE(*first);
    CHECK(second(holdfast::tls_role::server) == net::error::already_connected);
    CHECK(second(holdfast::tls_role::client) == net::error::already_connected);
    CHECK_THROWS_AS(f.server->set_server_name("too.late.example"), std::logic_error);
    f.read();
    f.client->send(f.client->seal("still here"));
    f.await_read();
    CHECK(*f.got == "still here");
    CHECK(f.write("and here") == "and here");
}

TEST_CASE("calls of the user's on OpenSSL's object find nothing to read, and the stream continues", "[tls]")
{
    const variant& v = GENERATE(from_range(variants));
    if (v.compact) return;
    INFO(v.name);
    fixture f(v);
    f.handshake();
    f.client->send(f.client->seal("text"));
    tests::await_readable(f.server->lowest_layer());
    SSL* const ssl = f.server->native_session();
    char byte = 0;
    const int result = ::SSL_read(ssl, &byte, 1);
    CHECK(result <= 0);
    CHECK(::SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ);
    f.read();
    f.await_read();
    CHECK(*f.got == "text");
    const int refused = ::SSL_write(ssl, "x", 1);
    CHECK(refused <= 0);
    CHECK(::SSL_get_error(ssl, refused) == SSL_ERROR_WANT_WRITE);
}
