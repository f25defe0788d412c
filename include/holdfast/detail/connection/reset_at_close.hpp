// holdfast: how a descriptor ends: by a reset at its close, by a reset at once, or without ever blocking.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_RESET_AT_CLOSE_HPP
#define HOLDFAST_DETAIL_CONNECTION_RESET_AT_CLOSE_HPP

#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>

#include <concepts>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace holdfast::detail {

/// Makes the close that follows reset the connection. Asio's own set_option() would record the option, and undo it
/// when the socket is destroyed without a close.
inline void reset_at_close(int descriptor) noexcept
{
    const ::linger reset{1, 0};
    ::setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/// The same for the socket below a stream, where there is one.
template <class Stream>
void reset_at_close(Stream& stream) noexcept
{
    if constexpr (requires {
                      { detail::lowest_layer(stream).native_handle() } -> std::convertible_to<int>;
                  })
        detail::reset_at_close(static_cast<int>(detail::lowest_layer(stream).native_handle()));
}

/// Ends the connection at once, from any thread, and leaves the descriptor open: TCP sends a reset, pending and later
/// reads and writes fail. It touches no state of Asio's. (shutdown() would send an end of stream: what was sent in
/// part would look complete.) Local sockets have no reset; there it is an end of stream.
inline void disconnect(int descriptor) noexcept
{
    ::sockaddr nowhere{};
    nowhere.sa_family = AF_UNSPEC;
    // The system call itself: ThreadSanitizer takes connect() for a change of the descriptor, which races with reads.
    if (::syscall(SYS_connect, descriptor, &nowhere, sizeof nowhere) == 0) return;
    detail::reset_at_close(descriptor);
    ::shutdown(descriptor, SHUT_RDWR);
}

/// After how many milliseconds without an acknowledgement the kernel discards what a closed connection has sent.
inline constexpr int orphan_timeout_ms = 10'000;

/// Prepares a descriptor for its close, so that the close never blocks (as it does where SO_LINGER has a time) and
/// the kernel keeps nothing of the connection that could stay for long: where bytes are unsent, since the peer does
/// not read, the close resets; where bytes are sent and not acknowledged, they have `orphan_timeout_ms` after each
/// acknowledgement. Returns true in that case.
inline bool prepare_close(int descriptor) noexcept
{
    ::linger lingers{};
    ::socklen_t size = sizeof lingers;
    if (::getsockopt(descriptor, SOL_SOCKET, SO_LINGER, &lingers, &size) != 0) return false; // no socket
    if (lingers.l_onoff != 0 && lingers.l_linger == 0) return false;                         // it resets
    const bool unacknowledged = detail::unacknowledged(descriptor) > 0;
    if (unacknowledged) {
        if (detail::unsent(descriptor) > 0) {
            detail::reset_at_close(descriptor);
            return false;
        }
        int timeout = 0;
        size = sizeof timeout;
        if (::getsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &size) == 0 &&
            (timeout <= 0 || timeout > orphan_timeout_ms))
            ::setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &orphan_timeout_ms, sizeof orphan_timeout_ms);
    }
    if (lingers.l_onoff != 0) {
        lingers.l_onoff = 0;
        ::setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &lingers, sizeof lingers);
    }
    return unacknowledged;
}

} // namespace holdfast::detail

#endif
