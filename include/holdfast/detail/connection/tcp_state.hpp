// holdfast: what the kernel knows of a connection: how far its closing is, how many bytes went over it.
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
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace holdfast::detail {

/// Whether the peer has ended its side, for a socket whose read has found the end of the stream: a drain's
/// SHUT_RD makes a read find it too. True for other sockets than TCP's.
inline bool peer_has_ended(int descriptor) noexcept
{
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return true;
    return info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_FIN_WAIT1 &&
           info.tcpi_state != TCP_FIN_WAIT2;
}

/// How many newcomers wait in a TCP listener's backlog; 0 where that can't be asked.
inline std::size_t backlog_of(int listener) noexcept
{
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    return ::getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_unacked : 0;
}

/// How many bytes were written that the peer's kernel has not acknowledged yet; 0 where that can't be asked.
inline int unacknowledged(int descriptor) noexcept
{
    int bytes = 0;
    return ::ioctl(descriptor, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/// Bytes that went over a connection.
struct tcp_bytes {
    std::uint64_t received = 0;
    std::uint64_t sent = 0; // and acknowledged by the peer's kernel
};

/// The kernel's own count, which costs the data path nothing; nothing for other sockets than TCP's, and
/// before Linux 4.1.
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
