// holdfast: manual_clock, a clock that tests turn by hand.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTING_MANUAL_CLOCK_HPP
#define HOLDFAST_TESTING_MANUAL_CLOCK_HPP

#include <holdfast/asio.hpp>

#include <chrono>

namespace holdfast {

/// A clock that stands still until it is advanced: with it, a test plays days of time-outs in no time.
/// For `heartbeat_timer<Executor, manual_clock>` and for Asio's `basic_waitable_timer<manual_clock>`,
/// together with `io_context::poll()`: waits on it end in the first poll after it has reached their time.
/// (`run()` would ask again and again, without a pause.)
///
/// Concurrency: a clock is one for the whole program, and this one belongs to one thread.
///
///     holdfast::heartbeat_timer<net::any_io_executor, holdfast::manual_clock> heart{io.get_executor()};
///     auto beat = heart.watch(peer);
///     holdfast::manual_clock::advance(1s);
///     io.poll();
struct manual_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<manual_clock>;
    [[maybe_unused]] static constexpr bool is_steady = true;

    static time_point now() noexcept { return current_; }

    /// Lets time pass.
    static void advance(duration time) noexcept { current_ += time; }

private:
    static inline time_point current_{};
};

} // namespace holdfast

/// Asio asks again at once, so that `poll()` sees a clock that was advanced.
template <>
struct holdfast::net::wait_traits<holdfast::manual_clock> {
    static holdfast::manual_clock::duration to_wait_duration(const holdfast::manual_clock::duration&)
    {
        return {};
    }
    static holdfast::manual_clock::duration to_wait_duration(const holdfast::manual_clock::time_point&)
    {
        return {};
    }
};

#endif
