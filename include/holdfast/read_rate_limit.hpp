// holdfast: read_rate_limit, how much each connection may send in a second, and what happens beyond.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_READ_RATE_LIMIT_HPP
#define HOLDFAST_READ_RATE_LIMIT_HPP

#include <holdfast/error.hpp>
#include <holdfast/heartbeat_profile.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/read_rate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>

namespace holdfast {

/// What happens to a peer that sends more than a `read_rate_limit` allows.
enum class rate_policy : std::uint8_t {
    /// Reading pauses until the rate allows more: the peer's TCP has to wait (back-pressure).
    pause,
    /// Reading fails with `errc::rate_exceeded`, and the connection ends for `close_reason::rate_limit`.
    disconnect,
};

/// Options of a `read_rate_limit`. Rates are 0 to 10^12; 0: unlimited. Bursts are 0 to 10^15.
struct read_rate_options {
    /// Maximum number of messages a second.
    double messages_per_second = 0;
    /// Maximum number of bytes a second, as they arrive from the stream: framing and control messages included.
    double bytes_per_second = 0;
    /// Number of messages that a peer may send at once after a quiet time. 0: the number of one second. A value below
    /// the number of two ticks of the timer counts as that number, and a value below 1 as 1.
    double message_burst = 0;
    /// Number of bytes that a peer may send at once after a quiet time; limits as of `message_burst`. A larger message
    /// is read too, and the next one then waits longer.
    double byte_burst = 0;
    /// What happens to a peer that sends more.
    rate_policy on_exceeded = rate_policy::pause;
};

/// Limits the rate of messages and of bytes that each peer sends, for any number of connections, by token buckets that
/// are refilled at the ticks of a `heartbeat_timer`. Each connection has a `read_rate` of its own.
///
/// A paused reader reads nothing from the socket, and checks the rate again within two ticks. Meanwhile it reports
/// progress, so that a heartbeat does not time out; the time counts for a `frame_deadline`. What was read before a
/// pause can exceed the limit by one read, of at most the size of the reader's buffer. At each check the pause also
/// ends if the connection has been reset or closed, or a drain has notified it: what the peer has sent by then is read.
/// The operation's cancellation slot ends a pause at once; `cancel()` of the socket does not.
///
/// Lifetime: the timer must outlive it, and it must outlive each `read_rate`. Its destructor fails operations of paused
/// readers with `operation_aborted`.
/// Thread safety: the limit, its rates and the readers belong to the thread or strand of the timer.
/// Cost: a subtraction and two comparisons for each read and each message, without a clock call. A paused operation
/// takes two blocks by the handler's allocator.
///
///     holdfast::read_rate_limit limit{heartbeats, {.messages_per_second = 50, .bytes_per_second = 64 * 1024}};
class read_rate_limit final : detail::rate_source {
public:
    /// Makes a limit on the ticks of `heartbeats`.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc.
    template <class Executor, class Clock>
    explicit read_rate_limit(heartbeat_timer<Executor, Clock>& heartbeats, const read_rate_options& options)
        : rate_source(bucket(options.messages_per_second, options.message_burst, heartbeats.tick_length(), "message"),
                      bucket(options.bytes_per_second, options.byte_burst, heartbeats.tick_length(), "byte"),
                      options.on_exceeded == rate_policy::disconnect),
          timer_(&heartbeats),
          ticks_([](const void* timer) noexcept {
              return static_cast<const heartbeat_timer<Executor, Clock>*>(timer)->ticks();
          }),
          pauses_(heartbeats, {.timeout = heartbeats.tick_length()}, detail::no_ping{}, end_pauses{})
    {
    }

private:
    friend class read_rate;

    struct end_pauses {
        void operator()(read_rate_limit& limit, close_reason) const noexcept
        {
            limit.watch_.release();
            limit.ticked->notify_all();
        }
    };

    [[nodiscard]] std::uint64_t now() const noexcept override { return ticks_(timer_); }

    void await_tick() override
    {
        if (!watch_) watch_ = pauses_.watch(*this);
    }

    static detail::rate_bucket bucket(double per_second, double burst, std::chrono::nanoseconds tick, const char* what)
    {
        if (!(per_second >= 0 && per_second <= 1e12) || !(burst >= 0 && burst <= 1e15))
            throw std::invalid_argument(what[0] == 'm' ? "read_rate_options::messages_per_second must be 0 to 10^12, "
                                                         "message_burst 0 to 10^15"
                                                       : "read_rate_options::bytes_per_second must be 0 to 10^12, "
                                                         "byte_burst 0 to 10^15");
        if (per_second == 0) return {0, std::numeric_limits<double>::infinity()};
        const double per_tick = per_second * std::chrono::duration<double>(tick).count();
        return {per_tick, std::max({burst == 0 ? per_second : burst, 2 * per_tick, 1.0})};
    }

    const void* const timer_;
    std::uint64_t (*const ticks_)(const void*) noexcept;
    heartbeat_profile<read_rate_limit> pauses_;
    heartbeat watch_; // while an operation is paused
};

inline read_rate::read_rate(read_rate_limit& limit) noexcept : read_rate(static_cast<detail::rate_source&>(limit)) {}

} // namespace holdfast

#endif
