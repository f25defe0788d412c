// holdfast: whose PROXY headers an acceptor believes, and how many of them it awaits.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_PROXY_GATE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_PROXY_GATE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/ip_network.hpp>
#include <holdfast/proxy_protocol.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace holdfast::detail {

/// What the connections of one acceptor share of the PROXY protocol. It may outlive the acceptor.
struct proxy_gate {
    explicit proxy_gate(const proxy_options& o, std::chrono::steady_clock::duration time)
        : options(o), header_timeout(time)
    {
    }

    [[nodiscard]] bool trusts(const net::ip::address& sender) const
    {
        for (const ip_network& each : options.trusted_senders)
            if (each.contains(sender)) return true;
        return false;
    }

    const proxy_options options;
    const std::chrono::steady_clock::duration header_timeout;
    std::atomic<std::size_t> pending = 0;
    std::atomic<std::uint64_t> rejected = 0;
};

} // namespace holdfast::detail

#endif
