// holdfast: the options that the small example servers share.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_SERVER_OPTIONS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_SERVER_OPTIONS_HPP

#include "command_line.hpp"
#include "listening.hpp"
#include "tls_option.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/proxy_protocol.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace examples {

/// Where to listen, how many connections to serve and for how long, with their defaults.
struct server_options {
    std::string address = "127.0.0.1";
    std::uint16_t port = 7777;
    std::size_t max_connections = 1000;
    std::chrono::milliseconds timeout{30'000};
    std::chrono::milliseconds drain{10'000};
    std::string proxies;
    tls_option tls{};

    /// Reads the command line and the certificates; `add(cli)` adds options of the program's own. Returns false where
    /// --help was given. Throws a `usage_error`.
    template <class Add>
    bool parse(int argc, char** argv, std::string_view program, std::string_view summary, Add add)
    {
        command_line cli{program, summary};
        cli.add("address", address, "IP", "the address to listen on");
        cli.add("port", port, "N", "the port to listen on; 0: one that the kernel chooses");
        cli.add("max-connections", max_connections, "N", "connections served at once");
        cli.add("timeout", timeout, "TIME", "a client that is silent for this time is disconnected");
        cli.add("drain", drain, "TIME", "after SIGTERM, the time that connections have to end before they are reset");
        cli.add("proxy", proxies, "NETWORKS",
                "the load balancers, such as 10.0.0.0/8,::1: each of their connections begins with a PROXY header, and "
                "others are refused; empty: none");
        tls.add_to(cli);
        add(cli);
        if (!cli.parse(argc, argv)) return false;
        (void)proxy(); // that it is wrong is said now
        tls.load();
        return true;
    }

    bool parse(int argc, char** argv, std::string_view program, std::string_view summary)
    {
        return parse(argc, argv, program, summary, [](command_line&) {});
    }

    /// What `--proxy` means. Throws a `usage_error`.
    [[nodiscard]] holdfast::proxy_options proxy() const
    {
        holdfast::proxy_options options;
        for (std::string_view rest = proxies; !rest.empty();) {
            const auto comma = rest.find(',');
            try {
                options.trusted_senders.emplace_back(rest.substr(0, comma));
            } catch (const std::invalid_argument& error) {
                command_line::fail("proxy", error.what());
            }
            rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
        }
        return options;
    }

    [[nodiscard]] holdfast::net::ip::tcp::endpoint endpoint() const { return listen_endpoint(address, port); }
};

} // namespace examples

#endif
