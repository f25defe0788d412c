// holdfast: frame_deadline, how long a peer may take over a frame that it has begun.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAME_DEADLINE_HPP
#define HOLDFAST_FRAME_DEADLINE_HPP

#include <holdfast/error.hpp>
#include <holdfast/heartbeat_profile.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <chrono>

#include <sys/socket.h>

namespace holdfast {

namespace detail {

/// A frame that has begun and is not complete.
struct frame_under_way {
    heartbeat beat;         // watches from the first wait within the frame to its end
    void* socket = nullptr; // the stream's, which may be closed meanwhile, and its number another's
    void (*end_reading)(void* socket) noexcept = nullptr;
    bool late = false;
};

/// Where the frame of a reader is, if one is under way.
struct frame_holder {
    frame_under_way* under_way = nullptr;
};

/// Ends the reading of a socket: the pending wait finds it readable. Asio's state is not touched, and writes
/// go on.
struct end_reading {
    void operator()(frame_holder& reader, close_reason) const noexcept
    {
        frame_under_way& frame = *reader.under_way;
        frame.late = true;
        frame.end_reading(frame.socket);
    }
};

} // namespace detail

/// A limit on the time to complete a frame once it has begun, for any number of `frame_reader`s: against
/// peers that send a byte now and then, which is a sign of life to a heartbeat that is touched for bytes. (A
/// heartbeat that is touched for whole frames only needs none of this: such a peer is silent to it.)
///
/// It counts in ticks of a `heartbeat_timer`. A frame that comes at once costs nothing here; one that must be
/// waited for takes one of the timer's slots until it is complete: no clock call, no timer, no allocation
/// but the timer's segments. The server's own stalls are forgiven, as with all heartbeats.
///
/// A frame that is too late ends the reading (SHUT_RD on the socket): `async_next` fails with
/// `errc::frame_timeout`. Writing still works.
///
/// Lifetime: must outlive the readers that it is given to.
/// Concurrency: it and its readers belong to the timer's shard.
///
///     holdfast::frame_deadline in_time{heart, 5s};
///     holdfast::frame_reader lines{peer.stream(), {.max_frame_bytes = 4096, .deadline = &in_time}};
class frame_deadline {
public:
    /// `limit` is rounded up to whole ticks, and a frame is late by one more at most. Throws
    /// std::invalid_argument unless it is 1 to 65,534 of them.
    template <class Executor, class Clock>
    frame_deadline(heartbeat_timer<Executor, Clock>& heart, std::chrono::nanoseconds limit)
        : frames_(heart, {.timeout = limit}, detail::no_ping{}, detail::end_reading{})
    {
    }

    /// Watches a frame that is under way on `socket`, unless it does already. (For readers.)
    template <class Socket>
    void begin(detail::frame_holder& reader, Socket& socket)
    {
        detail::frame_under_way& frame = *reader.under_way;
        if (frame.beat) return;
        frame.socket = &socket;
        frame.end_reading = [](void* of) noexcept {
            ::shutdown(static_cast<Socket*>(of)->native_handle(), SHUT_RD);
        };
        frame.beat = frames_.watch(reader);
    }

private:
    heartbeat_profile<detail::frame_holder> frames_;
};

} // namespace holdfast

#endif
