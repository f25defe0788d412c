// holdfast: what a socket's unread input shows: whether the connection has ended after it, when it counts as readable.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_UNREAD_INPUT_HPP
#define HOLDFAST_DETAIL_CONNECTION_UNREAD_INPUT_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/error.hpp>

#include <cerrno>
#include <cstddef>

#include <poll.h>
#include <sys/socket.h>

namespace holdfast::detail {

/// Has a TCP socket count as readable only when it holds so many bytes, its buffer is full, or the stream or the
/// connection has ended. Local sockets ignore it.
inline void set_receive_low_watermark(int descriptor, std::size_t bytes) noexcept
{
    const auto value = static_cast<int>(bytes);
    ::setsockopt(descriptor, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
}

struct input_state {
    bool readable = false;
    error_code end; // no more will come; an error of the connection is seen only once
};

/// Looks without reading: bytes that have not been read do not hide the end after them.
inline input_state poll_input(int descriptor) noexcept
{
    ::pollfd at{descriptor, POLLIN | POLLRDHUP, 0};
    if (::poll(&at, 1, 0) <= 0) return {};
    input_state now{(at.revents & POLLIN) != 0, {}};
    if ((at.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) == 0) return now;
    int error = 0;
    ::socklen_t size = sizeof error;
    const bool known = ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0;
    now.end = known ? error_code(error, net::error::get_system_category()) : error_code(net::error::eof);
    return now;
}

/// Whether the next read would return something: bytes, the end or an error.
inline bool has_unread_input(int descriptor) noexcept
{
    ::pollfd at{descriptor, POLLIN, 0};
    return ::poll(&at, 1, 0) > 0;
}

/// Whether the descriptor is closed, or its connection has ended in both directions.
inline bool has_hung_up(int descriptor) noexcept
{
    ::pollfd at{descriptor, 0, 0}; // a negative number is skipped
    return descriptor < 0 || (::poll(&at, 1, 0) > 0 && (at.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0);
}

/// What the next read would find of the end of the stream: `eof`, the connection's error, or none while bytes are unread
/// or may still come. Of a connection that the peer has reset, reads return the end of the stream after the first error.
inline error_code peek_end(int descriptor) noexcept
{
    char next = 0;
    const auto n = ::recv(descriptor, &next, 1, MSG_DONTWAIT | MSG_PEEK);
    if (n > 0) return {};
    if (n == 0 && detail::is_disconnected(descriptor)) return net::error::not_connected;
    if (n == 0) return net::error::eof;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == EBADF || errno == ENOTSOCK) return {};
    return {errno, net::error::get_system_category()};
}

} // namespace holdfast::detail

#endif
