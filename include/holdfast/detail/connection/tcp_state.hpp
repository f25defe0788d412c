// holdfast: the kernel's state of a connection: which sides have ended, how many bytes are on their way.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_TCP_STATE_HPP
#define HOLDFAST_DETAIL_CONNECTION_TCP_STATE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace holdfast::detail {

/// Whether the peer has ended its stream, for a socket whose read has returned the end of the stream: after a
/// drain's SHUT_RD reads return it too. True for sockets of other protocols than TCP.
inline bool peer_has_ended(int descriptor) noexcept
{
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return true;
    return info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_FIN_WAIT1 && info.tcpi_state != TCP_FIN_WAIT2;
}

/// Whether a TCP socket is in the state CLOSE: the connection does not exist any more. False for other protocols.
inline bool is_disconnected(int descriptor) noexcept
{
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    return ::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
}

/// Whether it is a TCP socket whose received bytes have all been read: closing it does not reset the connection.
inline bool is_tcp_without_unread(int descriptor) noexcept
{
    int protocol = 0;
    ::socklen_t size = sizeof protocol;
    int unread = 0;
    return ::getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP &&
           ::ioctl(descriptor, FIONREAD, &unread) == 0 && unread == 0;
}

/// The number of connections in a TCP listener's backlog; none where the kernel does not say.
inline std::optional<std::size_t> backlog_of(int listener) noexcept
{
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    return ::getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0
               ? std::optional<std::size_t>(info.tcpi_unacked)
               : std::nullopt;
}

/// At most so many connections are in the backlog of a listener, TCP's or a local socket's, which does not say how many;
/// 0: none.
inline std::size_t backlog_bound_of(int listener) noexcept
{
    if (const auto exact = backlog_of(listener)) return *exact;
    constexpr std::size_t largest = 4096; // Linux' default of net.core.somaxconn
    ::pollfd readable{listener, POLLIN, 0};
    return ::poll(&readable, 1, 0) == 1 && (readable.revents & POLLIN) != 0 ? largest : 0;
}

/// The number of bytes that were written and that the peer's kernel has not acknowledged; 0 where the kernel does
/// not say.
inline int unacknowledged(int descriptor) noexcept
{
    int bytes = 0;
    return ::ioctl(descriptor, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/// Whether the kernel has nothing left to deliver.
inline bool all_acknowledged(int descriptor) noexcept
{
    return detail::unacknowledged(descriptor) == 0 || detail::is_disconnected(descriptor);
}

/// The number of bytes that were written and that the kernel has not even sent, since the peer's window or the
/// congestion window is full; 0 where the kernel does not say.
inline int unsent(int descriptor) noexcept
{
    int bytes = 0;
    return ::ioctl(descriptor, SIOCOUTQNSD, &bytes) == 0 ? bytes : 0;
}

/// Bytes that a connection has carried.
struct tcp_bytes {
    std::uint64_t received = 0;
    std::uint64_t sent = 0; // and acknowledged by the peer's kernel
};

/// The kernel's own counts, at no cost on the data path; empty for other protocols than TCP and before Linux 4.1.
inline std::optional<tcp_bytes> bytes_of(int descriptor) noexcept
{
    // Linux's struct tcp_info (linux/tcp.h) is longer than libc's, and the two headers exclude each other.
    struct longer_tcp_info {
        std::array<std::byte, 120> before;
        std::uint64_t bytes_acked;
        std::uint64_t bytes_received;
    } info{};
    ::socklen_t size = sizeof info;
    if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || size < sizeof info) return {};
    return tcp_bytes{info.bytes_received, info.bytes_acked};
}

} // namespace holdfast::detail

#endif
