// holdfast: peer_address, the address of a connection's peer as a value of 20 bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PEER_ADDRESS_HPP
#define HOLDFAST_PEER_ADDRESS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/linkage.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <ostream>
#include <string_view>

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
    HOLDFAST_DECL peer_address(const ::sockaddr& address, ::socklen_t size) noexcept;

    /// The peer of an endpoint that `accept` has returned.
    template <class Protocol>
    explicit peer_address(const net::ip::basic_endpoint<Protocol>& endpoint) noexcept
        : peer_address(*reinterpret_cast<const ::sockaddr*>(endpoint.data()), static_cast<::socklen_t>(endpoint.size()))
    {
    }

    /// The peer of a connected socket: two system calls at most. Unknown where the peer has reset the connection,
    /// or the descriptor is no connected socket.
    HOLDFAST_DECL static peer_address of_socket(int descriptor) noexcept;

    /// Whether the address is known.
    [[nodiscard]] explicit operator bool() const noexcept { return kind_ != kind::unknown; }

    /// The address without the port; empty for a local peer and for an unknown one.
    [[nodiscard]] HOLDFAST_DECL std::optional<net::ip::address> ip() const;

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
    [[nodiscard]] HOLDFAST_DECL text_type text() const noexcept;

    friend std::ostream& operator<<(std::ostream& out, const peer_address& peer) { return out << peer.text().view(); }

private:
    enum class kind : std::uint8_t { unknown, ipv4, ipv6, process };

    std::array<std::uint8_t, 16> bytes_{}; // in network order; of a process, its number
    std::uint16_t port_ = 0;
    kind kind_ = kind::unknown;
};

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/peer_address.ipp>
#endif

#endif
