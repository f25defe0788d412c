// holdfast: tests of guards around TLS streams: close_notify under the deadline, and the socket closed
// whatever the peer does.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/connection_guard.hpp>

#include <optional>
#include <string>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::errc;
using holdfast::error_code;
using tests::anonymous_context;
using tests::tcp;
using tests::tls_stream;
namespace net = holdfast::net;
namespace ssl = net::ssl;

namespace {

struct count_end {
    int* times;
    holdfast::connection_end* last;
    void operator()(const holdfast::connection_end& end) const noexcept
    {
        ++*times;
        *last = end;
    }
};

struct tls_pair {
    explicit tls_pair(bool shake_hands = true)
    {
        auto [a, b] = tests::socket_pair(io);
        server.emplace(tls_stream(std::move(a), context), count_end{&times, &end});
        client.emplace(std::move(b), context);
        if (!shake_hands) return;
        int done = 0;
        const auto count = [&](error_code ec) {
            REQUIRE_FALSE(ec);
            ++done;
        };
        server->stream().async_handshake(ssl::stream_base::server, count);
        client->async_handshake(ssl::stream_base::client, count);
        tests::run(io);
        REQUIRE(done == 2);
    }

    void close(holdfast::close_options options)
    {
        server->async_close(options, [this](error_code ec) { result = ec; });
    }

    net::io_context io;
    anonymous_context context;
    int times = 0;
    holdfast::connection_end end;
    std::optional<holdfast::connection_guard<tls_stream, count_end>> server;
    std::optional<tls_stream> client;
    error_code result = net::error::in_progress;
};

} // namespace

TEST_CASE("async_close says close_notify: the peer reads all that was written and a proper end, not a truncation")
{
    tls_pair tls;
    const std::string message(300'000, 'm');
    net::async_write(tls.server->stream(), net::buffer(message), [&](error_code ec, std::size_t) {
        REQUIRE_FALSE(ec);
        tls.close({.deadline = 30s});
    });
    std::string got;
    error_code read_end;
    net::async_read(*tls.client, net::dynamic_buffer(got), [&](error_code ec, std::size_t) {
        read_end = ec;
        tls.client->async_shutdown([&](error_code) { tls.client->next_layer().close(); });
    });
    tests::run(tls.io);
    CHECK(got == message);
    CHECK(read_end == net::error::eof); // close_notify; without it: stream_truncated
    CHECK_FALSE(tls.result);
    CHECK(tls.times == 1);
    CHECK(tls.end.reason == close_reason::local);
}

TEST_CASE("a peer that continues to send and never sends close_notify itself still reads all, and a proper end")
{
    tls_pair tls;
    const std::string message(100'000, 'm');
    const std::string flood(2'000'000, 'f');
    net::async_write(tls.server->stream(), net::buffer(message), [&](error_code ec, std::size_t) {
        REQUIRE_FALSE(ec);
        tls.close({.deadline = 30s, .drain_bytes = 8'000'000});
    });
    std::string got;
    error_code read_end, write_end = net::error::in_progress;
    net::async_read(*tls.client, net::dynamic_buffer(got), [&](error_code ec, std::size_t) { read_end = ec; });
    net::async_write(*tls.client, net::buffer(flood), [&](error_code ec, std::size_t) {
        write_end = ec;
        tls.client->next_layer().shutdown(tcp::socket::shutdown_send);
    });
    tests::run(tls.io);
    CHECK(got == message);
    CHECK(read_end == net::error::eof);
    CHECK_FALSE(write_end);
    CHECK_FALSE(tls.result);
    CHECK(tls.times == 1);
}

TEST_CASE("a peer that never answers close_notify is closed at the deadline")
{
    tls_pair tls;
    const int descriptor = tls.server->stream().next_layer().native_handle();
    tls.close({.deadline = 50ms});
    tests::run(tls.io);
    CHECK(tls.result == error_code(errc::close_incomplete));
    CHECK(tls.times == 1);
    CHECK_FALSE(tests::is_open_descriptor(descriptor));
}

TEST_CASE("cancelling the wait for the peer's close_notify closes at once, by each type of cancellation")
{
    const auto type =
        GENERATE(net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total);
    tls_pair tls;
    net::cancellation_signal stop;
    tls.server->async_close({.deadline = 1h},
                            net::bind_cancellation_slot(stop.slot(), [&](error_code ec) { tls.result = ec; }));
    tls.io.poll();
    CHECK(tls.times == 0);
    stop.emit(type);
    tests::run(tls.io);
    CHECK(tls.result == net::error::operation_aborted);
    CHECK(tls.times == 1);
}

TEST_CASE("the peer has left already: by a FIN without close_notify, or by a reset")
{
    tls_pair tls;
    SECTION("FIN") { tls.client->next_layer().close(); }
    SECTION("reset") { tests::reset(tls.client->next_layer()); }
    tls.close({.deadline = 30s});
    tests::run(tls.io);
    CHECK(tls.times == 1);
}

TEST_CASE("a close before the handshake, during it, and after the peer ended in the middle of it")
{
    tls_pair tls(false);
    bool handshaken = false;
    const auto shake_hands = [&] {
        tls.server->stream().async_handshake(ssl::stream_base::server, [&](error_code) { handshaken = true; });
        tls.io.poll();
        CHECK_FALSE(handshaken);
    };
    SECTION("before") { tls.close({.deadline = 50ms}); }
    SECTION("during, at once")
    {
        shake_hands();
        tls.server->close();
    }
    SECTION("the peer ended")
    {
        shake_hands();
        tls.client->next_layer().close();
        tests::run_until(tls.io, [&] { return handshaken; });
        tls.close({.deadline = 30s});
    }
    tests::run(tls.io);
    CHECK(tls.times == 1);
}

TEST_CASE("when the context is destroyed while close_notify is awaited, the connection is finalized once")
{
    int times = 0;
    holdfast::connection_end end;
    {
        anonymous_context context;
        net::io_context io;
        auto [a, b] = tests::socket_pair(io);
        holdfast::connection_guard peer(tls_stream(std::move(a), context), count_end{&times, &end});
        tls_stream client(std::move(b), context);
        peer.stream().async_handshake(ssl::stream_base::server, net::detached);
        client.async_handshake(ssl::stream_base::client, net::detached);
        tests::run(io);
        peer.async_close({}, net::detached);
        io.poll();
        CHECK(times == 0);
    }
    CHECK(times == 1);
    CHECK(end.reason == close_reason::local);
}
