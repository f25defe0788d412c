// holdfast: graceful_server, a collector that can be replaced while its clients stay active: a restart refuses
// no client, and every client knows which lines were accepted.
// SPDX-License-Identifier: BSL-1.0
//
// Every line that a client sends is answered by {"taken":N}, its number. At SIGTERM the server accepts no new
// client, answers the lines that have arrived, sends each client {"goodbye":N}, so that it sends the lines
// after N to the next server, and ends when the last client has disconnected, or at the deadline. If the
// service manager passes a listening socket, it is used: new clients wait in its backlog until the next
// server starts.
//
//     [Socket]                        graceful.socket
//     ListenStream=7777
//     [Service]                       graceful.service, restarted by: systemctl restart graceful.service
//     ExecStart=/usr/bin/graceful_server --drain 10s
#include "support/capacity.hpp"
#include "support/log.hpp"
#include "support/server_options.hpp"

#include <holdfast/holdfast.hpp>
#include <holdfast/server/drain_at_signal.hpp>
#include <holdfast/server/inherited_listener.hpp>

#include <iostream>
#include <ostream>

#include <unistd.h>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;

namespace {

struct receipt {
    std::uint64_t taken;
};

struct goodbye {
    std::uint64_t lines;
};
constexpr auto describe(holdfast::type_tag<goodbye>)
{
    return holdfast::fields(holdfast::field("goodbye", &goodbye::lines));
}

struct log_end {
    void operator()(const holdfast::connection_end& end) const noexcept { examples::log_line(end); }
};
using acceptor = holdfast::bounded_acceptor<tcp, log_end>;
using holdfast::async_write_streamed, holdfast::ndjson;

/// What one connection takes at most.
constexpr holdfast::connection_cost cost{.session_bytes = 4096,
                                         .frame_bytes = 4096,
                                         .chunk_bytes = 256,
                                         .send_buffer_bytes = 4096,
                                         .receive_buffer_bytes = 16 * 1024};

template <class Connection>
net::awaitable<void> serve(Connection peer, holdfast::heartbeat_timer<>& heartbeats)
{
    auto heartbeat = heartbeats.watch(peer);
    holdfast::frame_reader lines{peer, {.max_frame_bytes = cost.frame_bytes}};
    std::uint64_t taken = 0;
    holdfast::error_code ec;
    while (co_await lines.async_next(net::redirect_error(net::use_awaitable, ec))) {
        heartbeat.touch();
        // A real collector keeps the line here, and only then says so.
        co_await async_write_streamed<ndjson>(peer, receipt{++taken},
                                              {.chunk_bytes = cost.chunk_bytes, .progress = heartbeat});
    }
    if (peer.draining()) // perhaps in the middle of a line, which then was not taken
        co_await async_write_streamed<ndjson>(peer, goodbye{taken},
                                              {.chunk_bytes = cost.chunk_bytes, .progress = heartbeat});
    else if (ec)
        throw holdfast::system_error(ec); // the finalizer gets what it stands for
    co_await peer.async_close();
}

int run(int argc, char** argv)
{
    examples::server_options options;
    if (!options.parse(argc, argv, "graceful_server",
                       "Takes lines and acknowledges them; a restart refuses no client and loses no line."))
        return 0;
    const tcp::endpoint endpoint = options.endpoint();
    const auto capacity =
        examples::plan_capacity(options.max_connections, options.tls.cost(cost), options.tls.fixed_bytes());
    const auto inherited = holdfast::take_inherited_listener();

    const examples::log_queue log;
    net::io_context io(1);
    holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.tick = 1s, .timeout = options.timeout}};
    const holdfast::acceptor_options limits{.max_connections = options.max_connections,
                                            .proxy = options.proxy(),
                                            .send_buffer_bytes = cost.send_buffer_bytes,
                                            .receive_buffer_bytes = cost.receive_buffer_bytes};
    acceptor clients = inherited ? acceptor(io.get_executor(), inherited->protocol, inherited->descriptor, limits)
                                 : acceptor(io.get_executor(), endpoint, limits);
    const auto report = [&] { examples::log_text([&](std::ostream& out) { clients.census().report(out); }); };
    const holdfast::drain_at_signal stop{
        clients, // the sessions are notified one after another, so that their clients do not all come back at once
        {.drain = {.deadline = options.drain, .stagger = options.drain / 4},
         .on_signal =
             [&] { examples::log_line("graceful_server: draining ", clients.census().live(), " connections"); },
         .on_drained = [](std::size_t reset) { examples::log_line("graceful_server: drained, ", reset, " reset"); },
         .on_report = report,
         .on_reload = options.tls.reloader("graceful_server")}};
    options.tls.serve(clients, [&](auto peer) { return serve(std::move(peer), heartbeats); });
    std::cout << "graceful_server: listening on " << clients.local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("graceful_server");
    io.run(); // returns when the drain is over and the last session has ended
    report();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
