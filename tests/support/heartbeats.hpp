// holdfast: what the tests of heartbeats share: a world whose time they turn by hand, and a peer that can
// die.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_HEARTBEATS_HPP
#define HOLDFAST_TESTS_SUPPORT_HEARTBEATS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <cstddef>

namespace tests {

namespace net = holdfast::net;

/// By how much heavy loops are shortened: sanitizers slow them down.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int slowness = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr int slowness = 10;
#else
inline constexpr int slowness = 1;
#endif
#else
inline constexpr int slowness = 1;
#endif

using timer = holdfast::heartbeat_timer<net::io_context::executor_type, holdfast::manual_clock>;

/// An io_context whose time is the manual clock's.
struct world {
    net::io_context io;

    /// Runs all that is ready; how many handlers that were.
    std::size_t settle()
    {
        io.restart();
        return io.poll();
    }

    std::size_t advance(holdfast::manual_clock::duration time)
    {
        holdfast::manual_clock::advance(time);
        return settle();
    }

    /// Lets time pass in steps, none of which comes late.
    void advance_by_steps(holdfast::manual_clock::duration step, int steps)
    {
        for (int i = 0; i != steps; ++i)
            advance(step);
    }
};

/// Something that can be watched.
struct peer {
    int deaths = 0;
    holdfast::close_reason reason = holdfast::close_reason::none;
    void abort(holdfast::close_reason why) noexcept
    {
        ++deaths;
        reason = why;
    }
};

} // namespace tests

#endif
