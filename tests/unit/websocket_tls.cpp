// holdfast: tests of WebSockets over tls_stream, whatever protects the records: messages, floods, the closing handshake.
// SPDX-License-Identifier: BSL-1.0
#include "support/tls_server.hpp"
#include "support/websocket.hpp"

#include <string>

using tests::client_frame;
using tests::server_frame;
namespace net = holdfast::net;

TEST_CASE("messages, pings and Close over TLS come back in order, also behind more control frames than one turn reads",
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
