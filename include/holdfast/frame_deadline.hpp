// holdfast: frame_deadline, which limits the time that a frame takes once it has begun.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAME_DEADLINE_HPP
#define HOLDFAST_FRAME_DEADLINE_HPP

#include <holdfast/error.hpp>
#include <holdfast/frame_time_limit.hpp>
#include <holdfast/heartbeat_profile.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <new>
#include <stdexcept>

namespace holdfast {

/// Limits the time that a frame takes to arrive completely once it has begun, for any number of `frame_reader`s.
///
/// It is for readers that report received bytes to a heartbeat (`frame_options::progress`): a peer that sends a byte
/// now and then counts as alive, and would keep its connection with an incomplete frame indefinitely. A heartbeat that
/// is touched for complete frames alone needs no deadline.
///
/// The time is counted in ticks of a `heartbeat_timer`, from the first time that the reader waits within the frame. A
/// stall of the process does not make a frame late.
///
/// A late frame ends the reading from the socket: `async_next` fails with `errc::frame_timeout`. Writing still works.
///
/// Lifetime: must outlive the readers that refer to it. The timer may be destroyed before.
/// Thread safety: the deadline and its readers belong to the thread or strand of the timer.
/// Cost: nothing for a frame that arrives at once. Else one entry of the timer until the frame is complete, allocated
/// for 1,024 at a time.
///
///     holdfast::frame_deadline deadline{heartbeats, 5s};
///     holdfast::frame_reader lines{peer, {.max_frame_bytes = 4096, .progress = heartbeat, .deadline = &deadline}};
class frame_deadline final : public frame_time_limit {
public:
    /// Constructs a deadline of `limit`, rounded up to whole ticks. A frame may take one tick more.
    ///
    /// Exceptions: std::invalid_argument unless `limit` is 1 to 65,534 ticks, or the largest duration, for no limit;
    /// std::bad_alloc.
    template <class Executor, class Clock>
    frame_deadline(heartbeat_timer<Executor, Clock>& heartbeats, std::chrono::nanoseconds limit)
        : frames_(profile(heartbeats, limit))
    {
    }

    frame_deadline(const frame_deadline&) = delete;
    frame_deadline& operator=(const frame_deadline&) = delete;

private:
    struct end_reading {
        void operator()(reader& who, close_reason) const noexcept
        {
            frame& late = *who.incomplete;
            late.late = true;
            late.end_reading(late.socket);
        }
    };
    using frames = heartbeat_profile<reader>;

    // A heartbeat is one pointer, which the reader keeps for it: a frame that waits allocates nothing.
    struct storage {
        alignas(heartbeat) std::byte bytes[sizeof(heartbeat)];
    };
    static_assert(sizeof(heartbeat) == sizeof(void*));

    void* begin(reader& who) override
    {
        storage made;
        ::new (static_cast<void*>(made.bytes)) heartbeat(frames_.watch(who));
        void* watch = nullptr;
        std::memcpy(&watch, made.bytes, sizeof watch);
        return watch;
    }

    void end(void* watch) noexcept override
    {
        storage made;
        std::memcpy(made.bytes, &watch, sizeof watch);
        std::launder(reinterpret_cast<heartbeat*>(made.bytes))->~heartbeat();
    }

    template <class Executor, class Clock>
    static frames profile(heartbeat_timer<Executor, Clock>& heartbeats, std::chrono::nanoseconds limit)
    {
        try {
            return frames(heartbeats, {.timeout = limit}, detail::no_ping{}, end_reading{});
        } catch (const std::invalid_argument&) {
            throw std::invalid_argument(
                "frame_deadline limit must be 1 to 65,534 ticks, or the largest duration for no limit");
        }
    }

    frames frames_;
};

} // namespace holdfast

#endif
