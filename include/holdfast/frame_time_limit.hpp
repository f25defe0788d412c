// holdfast: frame_time_limit, the interface by which the time that a frame takes is limited. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAME_TIME_LIMIT_HPP
#define HOLDFAST_FRAME_TIME_LIMIT_HPP

namespace holdfast {

/// Limits the time that a frame takes to arrive completely. `frame_deadline` implements it; `frame_reader` calls it.
class frame_time_limit {
public:
    /// The frame of one reader that has begun and is not complete.
    struct frame {
        void* watch = nullptr;  ///< What `begin()` has returned; null while the frame is not timed.
        void* socket = nullptr; ///< The socket at the bottom of the reader's stream.
        void (*end_reading)(void* socket) noexcept = nullptr; ///< Ends the reading from `socket`.
        bool late = false;                                    ///< Whether its time has expired.
    };

    /// A reader, which is identified by the address of this object. It points to the frame, whose address changes when
    /// the reader's buffer grows.
    struct reader {
        union {
            frame* incomplete;
            void* idle = nullptr; ///< The reader's own, while no frame has begun.
        };
    };

    /// Begins to time the incomplete frame of `of`, a reader that has to wait for more bytes. Returns what `end()`
    /// takes. When the time expires, the implementation sets `late` and calls `end_reading` once.
    ///
    /// Exceptions: std::bad_alloc.
    virtual void* begin(reader& of) = 0;

    /// Ends what `begin()` has begun, on time or late.
    virtual void end(void* watch) noexcept = 0;

protected:
    frame_time_limit() = default;
    ~frame_time_limit() = default;
};

} // namespace holdfast

#endif
