// holdfast: a filter for cancellations that operations of any stream must heed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_AS_TERMINAL_HPP
#define HOLDFAST_DETAIL_ASYNC_AS_TERMINAL_HPP

#include <holdfast/asio.hpp>

namespace holdfast::detail {

/// Passes every cancellation on as a terminal one: composed operations of Asio's own, those of `ssl::stream` among them,
/// and of users' layers heed no other unless they say so.
struct as_terminal {
    net::cancellation_type operator()(net::cancellation_type type) const noexcept
    {
        return type == net::cancellation_type::none ? type : net::cancellation_type::terminal;
    }
};

} // namespace holdfast::detail

#endif
