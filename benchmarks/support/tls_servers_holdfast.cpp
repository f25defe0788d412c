// holdfast: the TLS servers of the benchmarks that are holdfast's.
// SPDX-License-Identifier: BSL-1.0
#include "holdfast_sessions.hpp"
#include "tls_servers.hpp"

#include <holdfast/adapters/tls_layer.hpp>

#include <array>
#include <utility>

namespace benchmarks {

namespace {

using executor = net::io_context::executor_type;
constexpr net::use_awaitable_t<executor> use_awaitable;
using tls_stream = holdfast::tls_stream<net::basic_stream_socket<tcp, executor>>;

using tls_connection = connection<executor>::rebind_stream<tls_stream>;

struct tls_server {
    const tls_service& service;
    holdfast::tls_context context;
    net::io_context io{1};
    holdfast::heartbeat_timer<executor> heartbeats{io.get_executor(), {.tick = 1s, .timeout = 120s}};
    holdfast::buffer_pool buffers{io.get_executor()};
};

net::awaitable<void, executor> snapshot_session(tls_connection peer, tls_server& server)
{
    auto heartbeat = server.heartbeats.watch(peer);
    std::array<char, 64> request;
    co_await peer.stream().async_read_some(net::buffer(request), use_awaitable);
    co_await net::async_write(peer.stream(), net::buffer(server.service.snapshot), use_awaitable);
    co_await peer.async_close(use_awaitable);
}

net::awaitable<void, executor> line_session(tls_connection peer, tls_server& server)
{
    auto heartbeat = server.heartbeats.watch(peer);
    holdfast::frame_reader<tls_stream, holdfast::framing::line, holdfast::buffer_pool> lines{
        peer.stream(), server.buffers, {.max_frame_bytes = 4096}};
    while (auto line = co_await lines.async_next(use_awaitable)) {
        heartbeat.touch();
        co_await net::async_write(peer.stream(), with_end(*line), use_awaitable);
    }
    peer.close(holdfast::close_reason::peer_closed);
}

void serve_tls(int listener, const tls_service& service, bool compact)
{
    tls_server server{service, holdfast::tls_context::server({.certificate_chain_file = service.chain_file,
                                                              .private_key_file = service.key_file,
                                                              .compact_records = compact})};
    acceptor<executor> clients{
        server.io.get_executor(), tcp::v4(), listener, {.max_connections = service.max_connections}};
    clients.async_serve(
        holdfast::tls(server.context),
        [&](tls_connection peer) {
            return service.snapshot.empty() ? line_session(std::move(peer), server)
                                            : snapshot_session(std::move(peer), server);
        },
        net::detached);
    server.io.run();
}

} // namespace

void serve_holdfast_tls(int listener, const tls_service& service) { serve_tls(listener, service, false); }
void serve_holdfast_tls_compact(int listener, const tls_service& service) { serve_tls(listener, service, true); }

} // namespace benchmarks
