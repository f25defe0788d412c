// holdfast: what was sent must not look like a whole message.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_RESET_AT_CLOSE_HPP
#define HOLDFAST_DETAIL_CONNECTION_RESET_AT_CLOSE_HPP

#include <holdfast/detail/connection/lowest_layer.hpp>

#include <concepts>

#include <sys/socket.h>

namespace holdfast::detail {

/// Makes the close that follows reset the connection, where there is a socket. Asio's own set_option() would
/// remember the option, and undo it when the socket is destroyed without a close.
template <class Stream>
void reset_at_close(Stream& stream) noexcept
{
    if constexpr (requires {
                      { detail::lowest_layer(stream).native_handle() } -> std::convertible_to<int>;
                  }) {
        const ::linger reset{1, 0};
        ::setsockopt(detail::lowest_layer(stream).native_handle(), SOL_SOCKET, SO_LINGER, &reset,
                     sizeof reset);
    }
}

} // namespace holdfast::detail

#endif
