// holdfast: from any stream down to the socket below it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_LOWEST_LAYER_HPP
#define HOLDFAST_DETAIL_CONNECTION_LOWEST_LAYER_HPP

#include <holdfast/asio.hpp>

#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// The layer that owns the descriptor: what lowest_layer() returns, as Asio's streams and ssl::stream have it; else
/// that of next_layer(), recursively; else the stream itself.
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

/// The topmost layer of a stream that has a shutdown of its own, `async_shutdown(token)`, if there is one.
template <class Stream>
struct closing_layer {
    static constexpr bool exists = false;
};

template <class Stream>
    requires requires(Stream& stream) { stream.async_shutdown(net::detached); }
struct closing_layer<Stream> {
    static constexpr bool exists = true;
    static Stream& of(Stream& stream) noexcept { return stream; }
};

template <class Stream>
    requires(!requires(Stream& stream) { stream.async_shutdown(net::detached); }) &&
            requires(Stream& stream) { stream.next_layer(); }
struct closing_layer<Stream> {
    using below = closing_layer<std::remove_reference_t<decltype(std::declval<Stream&>().next_layer())>>;
    static constexpr bool exists = below::exists;
    static auto& of(Stream& stream) noexcept
        requires exists
    {
        return below::of(stream.next_layer());
    }
};

} // namespace holdfast::detail

#endif
