// holdfast: peer_address: where it comes from, and its text.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_PEER_ADDRESS_IPP
#define HOLDFAST_IMPL_PEER_ADDRESS_IPP

#include <holdfast/peer_address.hpp>

#include <array>
#include <cstdio>
#include <cstring>
#include <optional>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace holdfast {

HOLDFAST_DECL peer_address::peer_address(const ::sockaddr& address, ::socklen_t size) noexcept
{
    if (address.sa_family == AF_INET && size >= sizeof(::sockaddr_in)) {
        ::sockaddr_in v4;
        std::memcpy(&v4, &address, sizeof v4);
        std::memcpy(bytes_.data(), &v4.sin_addr, 4);
        port_ = ntohs(v4.sin_port);
        kind_ = kind::ipv4;
    } else if (address.sa_family == AF_INET6 && size >= sizeof(::sockaddr_in6)) {
        ::sockaddr_in6 v6;
        std::memcpy(&v6, &address, sizeof v6);
        std::memcpy(bytes_.data(), &v6.sin6_addr, 16);
        port_ = ntohs(v6.sin6_port);
        kind_ = kind::ipv6;
    }
}

HOLDFAST_DECL peer_address peer_address::of_socket(int descriptor) noexcept
{
    ::sockaddr_storage address{};
    ::socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<::sockaddr*>(&address);
    if (::getpeername(descriptor, generic, &size) != 0) return {};
    if (address.ss_family != AF_UNIX) return {*generic, size};
    peer_address local;
    ::ucred peer{};
    size = sizeof peer;
    if (::getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        std::memcpy(local.bytes_.data(), &peer.pid, sizeof peer.pid);
        local.kind_ = kind::process;
    }
    return local;
}

HOLDFAST_DECL std::optional<net::ip::address> peer_address::ip() const
{
    if (kind_ == kind::ipv4) {
        net::ip::address_v4::bytes_type v4;
        std::memcpy(v4.data(), bytes_.data(), v4.size());
        return net::ip::address(net::ip::address_v4(v4));
    }
    if (kind_ == kind::ipv6) {
        net::ip::address_v6::bytes_type v6;
        std::memcpy(v6.data(), bytes_.data(), v6.size());
        return net::ip::address(net::ip::address_v6(v6));
    }
    return std::nullopt;
}

HOLDFAST_DECL peer_address::text_type peer_address::text() const noexcept
{
    text_type made;
    auto& text = made.text_;
    std::array<char, INET6_ADDRSTRLEN> ip{};
    switch (kind_) {
    case kind::unknown:
        std::snprintf(text.data(), text.size(), "unknown");
        break;
    case kind::ipv4:
        ::inet_ntop(AF_INET, bytes_.data(), ip.data(), ip.size());
        std::snprintf(text.data(), text.size(), "%s:%u", ip.data(), unsigned(port_));
        break;
    case kind::ipv6:
        ::inet_ntop(AF_INET6, bytes_.data(), ip.data(), ip.size());
        std::snprintf(text.data(), text.size(), "[%s]:%u", ip.data(), unsigned(port_));
        break;
    case kind::process:
        std::snprintf(text.data(), text.size(), "pid %d", process());
        break;
    }
    return made;
}

} // namespace holdfast

#endif
