// holdfast: netstring_server, messages in a framing of its own: see support/netstring.hpp.
// SPDX-License-Identifier: BSL-1.0
//
// Each netstring that a client sends comes back as one that holds JSON. Try it with:
//
//     printf 5:hello, | nc -q 1 127.0.0.1 7777
#include "support/capacity.hpp"
#include "support/log.hpp"
#include "support/netstring.hpp"
#include "support/server_options.hpp"

#include <holdfast/holdfast.hpp>
#include <holdfast/server/drain_at_signal.hpp>

#include <iostream>
#include <ostream>

#include <unistd.h>

namespace net = holdfast::net;
using examples::netstring;
using net::ip::tcp;
using namespace std::chrono_literals;

namespace {

struct reply {
    std::uint64_t message;
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

/// What is read in a framing can be written in it, or in another.
template <class Connection>
net::awaitable<void> serve(Connection peer, holdfast::heartbeat_timer<>& heartbeats)
{
    auto heartbeat = heartbeats.watch(peer);
    holdfast::frame_reader messages{peer, {.max_frame_bytes = cost.frame_bytes}, netstring{}};
    const holdfast::framed json{netstring{}, holdfast::json{}};
    for (std::uint64_t n = 1; auto message = co_await messages.async_next(); ++n) {
        heartbeat.touch();
        co_await holdfast::async_write_streamed(peer, holdfast::formatted(reply{n, *message}, json),
                                                {.chunk_bytes = cost.chunk_bytes, .progress = heartbeat});
    }
    co_await peer.async_close();
}

int run(int argc, char** argv)
{
    examples::server_options options;
    if (!options.parse(argc, argv, "netstring_server", "Echoes netstrings as JSON.")) return 0;
    const tcp::endpoint endpoint = options.endpoint();
    const auto capacity =
        examples::plan_capacity(options.max_connections, options.tls.cost(cost), options.tls.fixed_bytes());

    const examples::log_queue log;
    net::io_context io(1);
    holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.tick = 1s, .timeout = options.timeout}};
    acceptor clients{io.get_executor(), endpoint,
                     holdfast::acceptor_options{.max_connections = options.max_connections,
                                                .proxy = options.proxy(),
                                                .send_buffer_bytes = cost.send_buffer_bytes,
                                                .receive_buffer_bytes = cost.receive_buffer_bytes}};
    const auto report = [&] { examples::log_text([&](std::ostream& out) { clients.census().report(out); }); };
    const holdfast::drain_at_signal stop{
        clients,
        {.drain = {.deadline = options.drain},
         .on_drained = [](std::size_t reset) { examples::log_line("netstring_server: drained, ", reset, " reset"); },
         .on_report = report,
         .on_reload = options.tls.reloader("netstring_server")}};
    options.tls.serve(clients, [&](auto peer) { return serve(std::move(peer), heartbeats); });
    std::cout << "netstring_server: listening on " << clients.local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("netstring_server");
    io.run();
    report();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
