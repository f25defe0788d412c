// holdfast: tests of WebSockets over tls_stream, whatever protects the records: messages, floods, the closing handshake.
// SPDX-License-Identifier: BSL-1.0
#include "support/tls_server.hpp"
#include "support/websocket.hpp"

#include <chrono>
#include <string>
#include <utility>

using tests::client_frame;
using tests::server_frame;
namespace net = holdfast::net;

TEST_CASE("messages, pings and Close over TLS are echoed in order, also after more control frames than one turn reads",
          "[tls]")
{
    for (const tests::tls_variant& each : tests::variants) {
        INFO(each.name);
        tests::tls_server s(each);
        s.handshake();
        holdfast::connection_guard<holdfast::tls_stream<>> peer(std::move(*s.server));
        tests::websocket_session result;
        bool over = false;
        net::co_spawn(s.io, tests::echo_messages(peer, {}, result), [&](const std::exception_ptr&) { over = true; });
        const std::string large = tests::text_of(60'000);
        std::string bytes = client_frame(0x01, "");
        for (int i = 0; i != 5000; ++i) // nothing that is handed out, in many full buffers
            bytes += client_frame(0x00, "");
        bytes += client_frame(0x89, "?") + client_frame(0x80, "end") + client_frame(0x81, large) +
                 client_frame(0x88, tests::close_payload(1000));
        const std::string expected = server_frame(0x8a, "?") + server_frame(0x81, "end") + server_frame(0x81, large) +
                                     server_frame(0x88, tests::close_payload(1000));
        s.client->send(s.client->seal(bytes));
        std::string got;
        tests::run_until(s.io, [&] {
            got += s.client->read();
            return s.client->ended();
        });
        CHECK(got.size() == expected.size());
        CHECK((got == expected)); // too long to be shown
        CHECK(result.close_code == 1000);
        CHECK_FALSE(result.error);
        s.client->socket().close();
        tests::run_until(s.io, [&] { return over; });
        CHECK_FALSE(peer.is_open());
    }
}

TEST_CASE("the bytes received of a WebSocket are progress over TLS: a fragment, a part of one, and a pong", "[tls]")
{
    for (const tests::tls_variant& each : tests::variants) {
        INFO(each.name);
        tests::tls_server s(each);
        s.handshake();
        std::size_t received = 0;
        auto count = [&](std::size_t n) noexcept { received += n; };
        holdfast::outbox outbox(*s.server);
        holdfast::websocket_reader messages(*s.server, outbox, {.progress = count});
        int completed = 0;
        messages.async_next([&](const tests::error_code&, const auto&) { ++completed; });
        const std::string bytes = client_frame(0x01, "text") + client_frame(0x8a, "pong") + client_frame(0x80, "end");
        for (std::size_t sent = 0; sent != bytes.size() - 1; ++sent) {
            s.client->send(s.client->seal(bytes.substr(sent, 1)));
            s.io.restart();
            tests::run_until(s.io, [&] { return received == sent + 1; });
        }
        CHECK(completed == 0);
    }
}

TEST_CASE("what a slow reader takes over TLS of a message in flight is progress, until it stops reading", "[tls]")
{
    for (const bool compact : {false, true}) {
        tests::tls_server s({"TLS 1.3", compact});
        s.handshake();
        std::size_t bytes = 0;
        auto count = [&](std::size_t n) noexcept { bytes += n; };
        holdfast::outbox outbox(*s.server, {.high_watermark = 64u << 20, .progress = count});
        const auto settle = [&] {
            for (int i = 0; i != 500; ++i) {
                s.io.restart();
                s.io.poll();
            }
            outbox.tick();
        };
        REQUIRE_FALSE(outbox.push(holdfast::payload(std::string(30'000'000, 'x'))));
        settle();
        const std::size_t taken_by_kernels = bytes;
        std::size_t read = 0;
        while (read < 5'000'000) {
            read += s.client->read().size();
            s.io.restart();
            s.io.poll();
        }
        CHECK(bytes > taken_by_kernels + 1'000'000);
        std::size_t stuck_at = 0;
        while (std::exchange(stuck_at, bytes) !=
               bytes) { // the kernels' buffers fill, and the last acknowledgement comes
            s.io.restart();
            s.io.run_for(std::chrono::milliseconds(300));
            outbox.tick();
        }
        settle();
        settle();
        CHECK(bytes == stuck_at);
        CHECK(outbox.queued() == 1);
    }
}
