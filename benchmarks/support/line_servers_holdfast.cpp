// holdfast: the line servers of the benchmarks that are holdfast's.
// SPDX-License-Identifier: BSL-1.0
#include "holdfast_sessions.hpp"
#include "line_servers.hpp"

namespace benchmarks {

namespace {

template <class Executor>
void serve(int listener, auto session)
{
    net::io_context io(1);
    holdfast::heartbeat_timer<Executor> heartbeats{io.get_executor(), {.tick = 1s, .timeout = 30s}};
    holdfast::buffer_pool buffers{io.get_executor()};
    acceptor<Executor> served{io.get_executor(), tcp::v4(), listener, {.max_connections = 20'000}};
    served.async_serve([&](connection<Executor> peer) { return session(std::move(peer), heartbeats, buffers); },
                       net::detached);
    io.run();
}

} // namespace

void serve_holdfast(int listener)
{
    using executor = net::io_context::executor_type;
    serve<executor>(listener, session<executor>);
}

void serve_holdfast_any(int listener) { serve<net::any_io_executor>(listener, session<net::any_io_executor>); }

void serve_holdfast_lean(int listener)
{
    using executor = net::io_context::executor_type;
    serve<executor>(listener, lean_session<executor>);
}

void serve_holdfast_callback(int listener)
{
    using executor = net::io_context::executor_type;
    net::io_context io(1);
    holdfast::heartbeat_timer<executor> heartbeats{io.get_executor(), {.tick = 1s, .timeout = 30s}};
    holdfast::buffer_pool buffers{io.get_executor()};
    acceptor<executor> served{io.get_executor(), tcp::v4(), listener, {.max_connections = 20'000}};
    served.async_serve(
        [&](connection<executor> peer) { (new callback_session(std::move(peer), heartbeats, buffers))->next(); },
        net::detached);
    io.run();
}

} // namespace benchmarks
