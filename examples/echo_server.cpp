// holdfast: echo_server, the README's server made ready for production: arguments, signals, graceful
// drain, census.
// SPDX-License-Identifier: BSL-1.0
//
// Every line that a client sends comes back as a line of JSON, {"line":N,"text":"..."}. Try it with:
//
//     nc 127.0.0.1 7777
#include "support/capacity.hpp"
#include "support/log.hpp"
#include "support/server_options.hpp"

#include <holdfast/holdfast.hpp>
#include <holdfast/server/drain_at_signal.hpp>

#include <iostream>
#include <ostream>

#include <unistd.h>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;

namespace {

struct reply {
    std::uint64_t line;
    std::string_view text;
};

struct log_end {
    void operator()(const holdfast::connection_end& end) const noexcept { examples::log_line(end); }
};
using acceptor = holdfast::bounded_acceptor<tcp, log_end>;

/// What one connection takes at most.
constexpr holdfast::connection_cost cost{.session_bytes = 4096,
                                         .frame_bytes = 4096,
                                         .chunk_bytes = 4096,
                                         .send_buffer_bytes = 16 * 1024,
                                         .receive_buffer_bytes = 16 * 1024};

template <class Connection>
net::awaitable<void> serve(Connection peer, holdfast::heartbeat_timer<>& heartbeats)
{
    auto heartbeat = heartbeats.watch(peer);
    holdfast::frame_reader lines{peer, {.max_frame_bytes = cost.frame_bytes}};
    for (std::uint64_t n = 1; auto line = co_await lines.async_next(); ++n) {
        heartbeat.touch();
        co_await holdfast::async_write_streamed<holdfast::ndjson>(
            peer, reply{n, *line}, {.chunk_bytes = cost.chunk_bytes, .progress = heartbeat});
    }
    co_await peer.async_close();
}

int run(int argc, char** argv)
{
    examples::server_options options;
    if (!options.parse(argc, argv, "echo_server",
                       "Echoes lines as JSON; at most so many connections, none silent for ever."))
        return 0;
    const tcp::endpoint endpoint = options.endpoint();
    const auto capacity =
        examples::plan_capacity(options.max_connections, options.tls.cost(cost), options.tls.fixed_bytes());

    const examples::log_queue log;
    net::io_context io(1);
    holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.tick = 1s, .timeout = options.timeout}};
    acceptor clients{
        io.get_executor(), endpoint,
        holdfast::acceptor_options{.max_connections = options.max_connections,
                                   .proxy = options.proxy(),
                                   .send_buffer_bytes = cost.send_buffer_bytes,
                                   .receive_buffer_bytes = cost.receive_buffer_bytes,
                                   .on_event = [](const auto& event) { examples::log_line("echo_server: ", event); }}};
    const auto report = [&] { examples::log_text([&](std::ostream& out) { clients.census().report(out); }); };
    const holdfast::drain_at_signal stop{
        // before the first client
        clients,
        {.drain = {.deadline = options.drain},
         .on_drained = [](std::size_t reset) { examples::log_line("echo_server: drained, ", reset, " reset"); },
         .on_report = report,
         .on_reload = options.tls.reloader("echo_server")}};
    options.tls.serve(clients, [&](auto peer) { return serve(std::move(peer), heartbeats); });
    std::cout << "echo_server: listening on " << clients.local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("echo_server");
    io.run(); // returns when the drain is over and the last session has ended
    report();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
