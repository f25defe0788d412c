// holdfast: peer_address, the address of a connection's peer as a value of 20 bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PEER_ADDRESS_HPP
#define HOLDFAST_PEER_ADDRESS_HPP

#include <holdfast/asio.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <ostream>
#include <string_view>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace holdfast {

/// The address of a connection's peer: an IPv4 or IPv6 address with its port, or the process at the other end
/// of a local socket. Trivially copyable; holds no memory.
///
///     [](const holdfast::connection_end& end) noexcept { log("{} {}", end.peer.text().view(), end.reason); }
class peer_address {
public:
    /// An unknown address.
    constexpr peer_address() noexcept = default;

    /// The address in a structure of the sockets interface; unknown where its family is neither IPv4 nor IPv6.
    peer_address(const ::sockaddr& address, ::socklen_t size) noexcept
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

    /// The peer of an endpoint that `accept` has returned.
    template <class Protocol>
    explicit peer_address(const net::ip::basic_endpoint<Protocol>& endpoint) noexcept
        : peer_address(*reinterpret_cast<const ::sockaddr*>(endpoint.data()), static_cast<::socklen_t>(endpoint.size()))
    {
    }

    /// The peer of a connected socket: two system calls at most. Unknown where the peer has reset the connection,
    /// or the descriptor is no connected socket.
    static peer_address of_socket(int descriptor) noexcept
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

    /// Whether the address is known.
    [[nodiscard]] explicit operator bool() const noexcept { return kind_ != kind::unknown; }

    /// The address without the port; empty for a local peer and for an unknown one.
    [[nodiscard]] std::optional<net::ip::address> ip() const
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

    /// The port; 0 for a local peer and for an unknown one.
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

    /// The process at the other end of a local socket; 0 for every other peer.
    [[nodiscard]] int process() const noexcept
    {
        ::pid_t pid = 0;
        if (kind_ == kind::process) std::memcpy(&pid, bytes_.data(), sizeof pid);
        return pid;
    }

    bool operator==(const peer_address&) const = default;

    /// An address as text, in the object itself.
    class text_type {
    public:
        [[nodiscard]] std::string_view view() const noexcept { return text_.data(); }

    private:
        friend class peer_address;
        std::array<char, INET6_ADDRSTRLEN + sizeof "[]:65535"> text_{};
    };

    /// `127.0.0.1:4711`, `[::1]:4711`, `pid 4711` for a local peer, or `unknown`. Allocates nothing.
    [[nodiscard]] text_type text() const noexcept
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

    friend std::ostream& operator<<(std::ostream& out, const peer_address& peer) { return out << peer.text().view(); }

private:
    enum class kind : std::uint8_t { unknown, ipv4, ipv6, process };

    std::array<std::uint8_t, 16> bytes_{}; // in network order; of a process, its number
    std::uint16_t port_ = 0;
    kind kind_ = kind::unknown;
};

} // namespace holdfast

#endif
