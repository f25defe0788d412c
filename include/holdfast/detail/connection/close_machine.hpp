// holdfast: the decisions of async_close, as a state machine without I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_CLOSE_MACHINE_HPP
#define HOLDFAST_DETAIL_CONNECTION_CLOSE_MACHINE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/error.hpp>

#include <cstddef>
#include <cstdint>

namespace holdfast::detail {

/// Each member function takes an event and returns the action that comes next. The order is: the layers' own
/// shutdown, the end of the sending side, then reading until the peer's end of stream, while all that was sent is
/// acknowledged. A limit ends it at any time.
///
/// A drain shuts down the receiving side (`own_end`). From then on reads return an end that is not the peer's,
/// readiness means nothing, and the kernel would reset a peer that still sends once the sending side is shut down
/// too: so the sending side ends only when all is acknowledged, and the machine polls.
class close_machine {
public:
    enum class action : std::uint8_t {
        /// Start the shutdown of the topmost layer that has one.
        shut_layer_down,
        /// Shut down the sending side of the socket.
        end_sending,
        /// Read and discard without waiting, once.
        read,
        /// Wait until the socket is readable.
        wait_readable,
        /// Wait for a few milliseconds.
        wait_briefly,
        /// Close the socket: the connection has ended in order, or does not exist any more.
        close,
        /// A limit was reached: close the socket, and discard what the peer has not acknowledged.
        reset,
    };

    enum class found : std::uint8_t { nothing, bytes, peer_end, own_end, failed };

    /// What a read without waiting has returned.
    struct reading {
        found what = found::nothing;
        std::size_t bytes = 0;
        error_code error{};
        /// Whether all that was sent is acknowledged.
        bool acknowledged = true;
    };

    close_machine(std::size_t drain_bytes, bool has_layer_shutdown, const error_code& noted) noexcept
        : bytes_left_(drain_bytes), has_layer_shutdown_(has_layer_shutdown)
    {
        // An operation that was cancelled is no cause: the session went on, and closes now.
        if (!noted || noted == net::error::operation_aborted) return;
        noted_ = true;
        error_ = noted;
        reason_ = reason_of(noted);
    }

    /// The operation begins: `peeked` is what a read would return; `resets` says that a close will reset, since a
    /// message was sent in part, after which no end of stream may follow.
    action start(const reading& peeked, bool resets) noexcept
    {
        if (resets) return finish(action::close, errc::close_incomplete);
        if (peeked.what == found::failed) return lost(peeked.error);
        if (peeked.what == found::peer_end && !noted_) reason_ = close_reason::peer_closed;
        own_end_ = peeked.what == found::own_end;
        return has_layer_shutdown_ ? action::shut_layer_down : layer_is_down();
    }

    /// Whether the layer's shutdown succeeded or not, the socket's is next.
    action layer_is_down() noexcept { return own_end_ ? action::read : action::end_sending; }

    action sending_ended(const error_code& error) noexcept
    {
        if (error) return lost(error);
        ended_sending_ = true;
        return own_end_ ? action::wait_briefly : action::wait_readable;
    }

    action wait_ended() noexcept { return action::read; }

    action read(const reading& r) noexcept
    {
        switch (r.what) {
        case found::bytes:
            if (r.bytes > bytes_left_) return expired();
            bytes_left_ -= r.bytes;
            return action::read;
        case found::nothing:
            return own_end_ ? poll(r.acknowledged) : action::wait_readable;
        case found::own_end:
            own_end_ = true;
            return poll(r.acknowledged);
        case found::peer_end:
            if (r.acknowledged && ended_sending_) return finish(action::close, {});
            return poll(r.acknowledged);
        case found::failed:
            break;
        }
        return lost(r.error);
    }

    /// The deadline, or the limit of bytes.
    action expired() noexcept { return finish(action::reset, errc::close_incomplete); }

    action cancelled() noexcept { return finish(action::reset, net::error::operation_aborted); }

    /// The first cause of the end as far as it is known now.
    [[nodiscard]] close_reason reason() const noexcept { return reason_; }

    /// What the finalizer gets.
    [[nodiscard]] const error_code& error() const noexcept { return error_ ? error_ : result_; }

    /// What the operation completes with, once the action is `close` or `reset`.
    [[nodiscard]] const error_code& result() const noexcept { return result_; }

private:
    action finish(action last, const error_code& result) noexcept
    {
        result_ = result;
        return last;
    }

    action poll(bool acknowledged) noexcept
    {
        return acknowledged && !ended_sending_ ? action::end_sending : action::wait_briefly;
    }

    /// The connection does not exist any more. That the peer has reset it is an ordinary end, not a failure.
    action lost(const error_code& error) noexcept
    {
        if (!noted_) {
            error_ = error;
            if (!ended_sending_ && !own_end_) reason_ = reason_of(error);
        }
        return finish(action::close, reason_of(error) == close_reason::peer_reset ? error_code() : error);
    }

    std::size_t bytes_left_;
    error_code error_{};
    error_code result_{};
    close_reason reason_ = close_reason::local;
    const bool has_layer_shutdown_;
    bool noted_ = false;
    bool own_end_ = false;
    bool ended_sending_ = false;
};

} // namespace holdfast::detail

#endif
