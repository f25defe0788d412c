// holdfast: tests that a peer's departure, seen by an outbox, is reported as such and not as a failed session.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/outbox.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::close_reason;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;

/// More than the client's socket takes: the outbox is writing when the client leaves.
template <class Peer>
net::awaitable<void> flood(Peer peer, bool& queued)
{
    holdfast::outbox outbox{peer, {.high_watermark = 16'000'000}};
    outbox.push(holdfast::payload(std::string(8'000'000, 'x')));
    queued = true;
    holdfast::frame_reader lines{peer};
    while (co_await lines.async_next())
        ;
    co_await outbox.async_close({.deadline = 20s});
    co_await peer.async_close();
}

/// A server whose sessions flood, and what it reports.
struct flooding_server {
    template <class Serve>
    explicit flooding_server(Serve serve)
    {
        server.async_serve(std::move(serve), net::detached);
    }

    close_reason reason_of_end()
    {
        tests::run_until(io, [&] { return server.census().ended() == 1; });
        server.close();
        tests::run(io);
        for (std::size_t i = 0; i != holdfast::close_reason_count; ++i)
            if (server.census().ended(static_cast<close_reason>(i)) != 0) return static_cast<close_reason>(i);
        return close_reason::none;
    }

    net::io_context io;
    bool queued = false;
    int failed = 0;
    acceptor server{io, {net::ip::address_v4::loopback(), 0}, {.on_event = [this](const acceptor_event& event) {
                        failed += event.what == acceptor_event::kind::session_failed;
                    }}};
    tcp::socket client{io};
};

} // namespace

TEST_CASE("over TCP a client that closes while messages are under way has left: its session has not failed")
{
    for (const bool resets : {false, true}) {
        flooding_server* here = nullptr;
        flooding_server test([&](connection peer) { return flood(std::move(peer), here->queued); });
        here = &test;
        test.client.connect(test.server.local_endpoint());
        tests::run_until(test.io, [&] { return test.queued; });
        if (resets)
            tests::reset(test.client);
        else
            test.client.close();
        CHECK(test.reason_of_end() == close_reason::peer_reset);
        CHECK(test.failed == 0);
    }
}

TEST_CASE("over TLS a client that closes while messages are under way has left: its session has not failed")
{
    for (const bool resets : {false, true}) {
        tests::anonymous_context context;
        flooding_server* here = nullptr;
        flooding_server test([&](connection peer) -> net::awaitable<void> {
            auto secure = holdfast::upgrade<tests::tls_stream>(std::move(peer), context);
            co_await secure.stream().async_handshake(net::ssl::stream_base::server, net::use_awaitable);
            co_await flood(std::move(secure), here->queued);
        });
        here = &test;
        net::io_context client_io;
        net::ssl::stream<tcp::socket> client(client_io, context);
        client.next_layer().connect(test.server.local_endpoint());
        std::thread handshake([&] { client.handshake(net::ssl::stream_base::client); });
        tests::run_until(test.io, [&] { return test.queued; });
        handshake.join();
        if (resets)
            tests::reset(client.next_layer());
        else
            client.next_layer().close();
        const close_reason reason = test.reason_of_end();
        INFO(to_string(reason));
        CHECK((reason == close_reason::peer_reset || reason == close_reason::peer_truncated));
        CHECK(test.failed == 0);
    }
}
