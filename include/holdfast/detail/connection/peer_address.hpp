// holdfast: the address of a connection's peer as text, without an allocation.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_PEER_ADDRESS_HPP
#define HOLDFAST_DETAIL_CONNECTION_PEER_ADDRESS_HPP

#include <holdfast/detail/connection/registry.hpp>

#include <array>
#include <cstdio>
#include <string_view>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace holdfast::detail {

/// The address of a connection's peer as text; holds it itself.
class peer_address {
public:
    explicit peer_address(const registry::member& peer) noexcept
    {
        const auto* v4 = reinterpret_cast<const ::sockaddr_in*>(&peer.remote);
        const auto* v6 = reinterpret_cast<const ::sockaddr_in6*>(&peer.remote);
        std::array<char, INET6_ADDRSTRLEN> ip{};
        if (peer.remote_size == 0) {
            std::snprintf(text_.data(), text_.size(), "gone");
        } else if (peer.remote.ss_family == AF_INET) {
            ::inet_ntop(AF_INET, &v4->sin_addr, ip.data(), ip.size());
            std::snprintf(text_.data(), text_.size(), "%s:%u", ip.data(), unsigned(ntohs(v4->sin_port)));
        } else if (peer.remote.ss_family == AF_INET6) {
            ::inet_ntop(AF_INET6, &v6->sin6_addr, ip.data(), ip.size());
            std::snprintf(text_.data(), text_.size(), "[%s]:%u", ip.data(), unsigned(ntohs(v6->sin6_port)));
        } else {
            std::snprintf(text_.data(), text_.size(), "pid %d", int(peer.remote_process));
        }
    }

    /// `127.0.0.1:4711`, `[::1]:4711`, `pid 4711` for a local socket, or `gone` for a peer that has reset.
    [[nodiscard]] std::string_view view() const noexcept { return text_.data(); }

private:
    std::array<char, INET6_ADDRSTRLEN + sizeof "[]:65535"> text_{};
};

} // namespace holdfast::detail

#endif
