// holdfast: at a signal a server sends a share of its clients away, so that one that has joined gets them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_SHED_AT_SIGNAL_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_SHED_AT_SIGNAL_HPP

#include "log.hpp"

#include <holdfast/asio.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace examples {

/// At each signal of that number, asks `percent` of the acceptor's clients to reconnect, spread over `stagger`: the load
/// balancer then sends some of them to other servers. Never returns; the acceptor must outlive the context's last handler.
holdfast::net::awaitable<void> shed_at_signal(auto& clients, int number, std::uint32_t percent,
                                              std::chrono::milliseconds stagger)
{
    constexpr std::chrono::milliseconds step{100};
    holdfast::net::signal_set signals(co_await holdfast::net::this_coro::executor, number);
    holdfast::net::steady_timer clock(co_await holdfast::net::this_coro::executor);
    for (;;) {
        co_await signals.async_wait(holdfast::net::use_awaitable);
        std::size_t left = clients.census().live() * percent / 100;
        log_line("shed: ", left, " connections are asked to reconnect");
        for (auto steps = static_cast<std::size_t>(stagger / step) + 1; steps != 0; --steps) {
            left -= clients.shed(left / steps);
            clock.expires_after(step);
            co_await clock.async_wait(holdfast::net::use_awaitable);
        }
    }
}

} // namespace examples

#endif
