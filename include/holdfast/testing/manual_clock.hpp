// holdfast: manual_clock, a clock that stands still until a test advances it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTING_MANUAL_CLOCK_HPP
#define HOLDFAST_TESTING_MANUAL_CLOCK_HPP

#include <holdfast/asio.hpp>

#include <chrono>

namespace holdfast {

/// A clock that stands still until it is advanced, so that a test of time-outs takes no real time. For
/// `heartbeat_timer<Executor, manual_clock>` and for Asio's `basic_waitable_timer<manual_clock>`, with
/// `io_context::poll()`: a wait completes in the first poll after the clock has reached its time. Do not call `run()`:
/// while a wait is pending it does not sleep.
///
/// Thread safety: there is one clock for the whole program, and it belongs to one thread.
///
///     holdfast::heartbeat_timer<net::any_io_executor, holdfast::manual_clock> heartbeats{io};
///     auto heartbeat = heartbeats.watch(peer);
///     holdfast::manual_clock::advance(1s);
///     io.poll();
struct manual_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<manual_clock>;
    [[maybe_unused]] static constexpr bool is_steady = true;

    static time_point now() noexcept { return current_; }

    /// Advances the clock.
    static void advance(duration time) noexcept { current_ += time; }

private:
    static inline time_point current_{};
};

} // namespace holdfast

/// A wait of zero: Asio reads the clock again in each poll, which then sees that it was advanced.
template <>
struct holdfast::net::wait_traits<holdfast::manual_clock> {
    static holdfast::manual_clock::duration to_wait_duration(const holdfast::manual_clock::duration&) { return {}; }
    static holdfast::manual_clock::duration to_wait_duration(const holdfast::manual_clock::time_point&) { return {}; }
};

#endif
