// holdfast: from any stream down to the socket that carries it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_LOWEST_LAYER_HPP
#define HOLDFAST_DETAIL_LOWEST_LAYER_HPP

#include <concepts>

namespace holdfast::detail {

/// The layer that owns the descriptor: what Asio's own streams (and layered ones such as ssl::stream) return
/// from lowest_layer(), else what a user's layer returns from next_layer(), recursively, else the stream
/// itself.
template <class Stream>
auto& lowest_layer(Stream& stream) noexcept
{
    if constexpr (requires { stream.lowest_layer(); })
        return stream.lowest_layer();
    else if constexpr (requires { stream.next_layer(); })
        return detail::lowest_layer(stream.next_layer());
    else
        return stream;
}

} // namespace holdfast::detail

#endif
