// holdfast: netstring_server, messages in a framing of its own: see support/netstring.hpp.
// SPDX-License-Identifier: BSL-1.0
//
// Each netstring that a client sends comes back as one that holds JSON. Try it with: printf 5:hello, | nc -q
// 1 127.0.0.1 7777
#include "support/capacity.hpp"
#include "support/command_line.hpp"
#include "support/listening.hpp"
#include "support/netstring.hpp"

#include <holdfast/holdfast.hpp>

#include <iostream>
#include <optional>

#include <unistd.h>

namespace net = holdfast::net;
using examples::netstring;
using net::ip::tcp;

namespace {

struct reply {
    std::uint64_t message;
    std::string_view text;
};
constexpr auto describe(holdfast::type<reply>)
{
    return holdfast::fields(holdfast::field("message", &reply::message),
                            holdfast::field("text", &reply::text));
}

struct log_end {
    void operator()(const holdfast::connection_end& end) const noexcept { std::clog << end << '\n'; }
};
using acceptor = holdfast::bounded_acceptor<tcp, log_end>;
using connection = acceptor::connection_type;

/// What one connection takes at most.
constexpr holdfast::connection_cost cost{.session_bytes = 4096,
                                         .frame_bytes = 4096,
                                         .chunk_bytes = 4096,
                                         .send_buffer_bytes = 16 * 1024,
                                         .receive_buffer_bytes = 16 * 1024};

/// What is read in a framing can be written in it, or in another.
net::awaitable<void> serve(connection& peer)
{
    holdfast::frame_reader messages{peer.stream(), {.max_frame_bytes = cost.frame_bytes}, netstring{}};
    const holdfast::framed json{netstring{}, holdfast::json{}};
    for (std::uint64_t n = 1; auto message = co_await messages.async_next(); ++n)
        co_await holdfast::async_write_streamed(peer.stream(), reply{n, *message},
                                                {.chunk_bytes = cost.chunk_bytes}, net::use_awaitable, json);
    co_await peer.async_close();
}

int run(int argc, char** argv)
{
    std::string address = "127.0.0.1";
    std::uint16_t port = 7777;
    std::size_t max_connections = 1000;
    examples::command_line cli{"netstring_server", "Echoes netstrings as JSON."};
    cli.add("address", address, "IP", "the address to listen on");
    cli.add("port", port, "N", "the port to listen on; 0: one that the kernel chooses");
    cli.add("max-connections", max_connections, "N", "connections served at once");
    if (!cli.parse(argc, argv)) return 0;
    const tcp::endpoint endpoint = examples::listen_endpoint(address, port);
    const auto capacity = examples::plan_capacity(max_connections, cost);

    net::io_context io(1);
    std::optional<acceptor> doors;
    try {
        doors.emplace(io.get_executor(), endpoint,
                      holdfast::acceptor_options{.max_connections = max_connections,
                                                 .send_buffer_bytes = cost.send_buffer_bytes,
                                                 .receive_buffer_bytes = cost.receive_buffer_bytes});
    } catch (const holdfast::system_error& error) {
        throw examples::usage_error(examples::listen_error(error.code(), endpoint));
    }
    doors->async_serve(serve, net::detached);
    std::cout << "netstring_server: listening on " << doors->local_endpoint() << ", pid " << ::getpid()
              << '\n';
    capacity.print("netstring_server");
    io.run();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
