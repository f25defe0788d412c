// holdfast: heartbeat_counters, what a heartbeat_timer has done so far.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HEARTBEAT_COUNTERS_HPP
#define HOLDFAST_HEARTBEAT_COUNTERS_HPP

#include <chrono>
#include <cstdint>

namespace holdfast {

/// Totals of a `heartbeat_timer` since its construction.
struct heartbeat_counters {
    /// Sweeps over the ages. A tick that comes late, however late, is one sweep.
    std::uint64_t sweeps = 0;
    /// Ticks that passed without a sweep of their own because the sweep came late.
    std::uint64_t missed = 0;
    /// How many of the missed ticks did not count against silent connections.
    std::uint64_t credited = 0;
    /// Calls of `on_ping`.
    std::uint64_t pings = 0;
    /// Connections that timed out.
    std::uint64_t timeouts = 0;
    /// Connections that reached their maximum lifetime.
    std::uint64_t lifetimes = 0;
    /// The longest time that a single handler of the timer (part of a sweep, or callbacks) has taken.
    std::chrono::nanoseconds longest_turn{};
    /// How late the sweep of the last tick was complete: the lag of the event loop.
    std::chrono::nanoseconds last_lateness{};
    /// The longest of these times.
    std::chrono::nanoseconds longest_lateness{};
};

} // namespace holdfast

#endif
