// holdfast: the decisions of async_close, as a state machine without I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_CLOSE_MACHINE_HPP
#define HOLDFAST_DETAIL_CONNECTION_CLOSE_MACHINE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/linkage.hpp>
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

    HOLDFAST_DECL close_machine(std::size_t drain_bytes, bool has_layer_shutdown, const error_code& noted) noexcept;

    /// The operation begins: `peeked` is what a read would return; `resets` says that a close will reset, since a
    /// message was sent in part, after which no end of stream may follow.
    HOLDFAST_DECL action start(const reading& peeked, bool resets) noexcept;

    /// Whether the layer's shutdown succeeded or not, the socket's is next.
    action layer_is_down() noexcept { return own_end_ ? action::read : action::end_sending; }

    HOLDFAST_DECL action sending_ended(const error_code& error) noexcept;

    action wait_ended() noexcept { return action::read; }

    HOLDFAST_DECL action read(const reading& r) noexcept;

    /// The deadline, or the limit of bytes.
    HOLDFAST_DECL action expired() noexcept;

    HOLDFAST_DECL action cancelled() noexcept;

    /// The first cause of the end as far as it is known now.
    [[nodiscard]] close_reason reason() const noexcept { return reason_; }

    /// What the finalizer gets.
    [[nodiscard]] const error_code& error() const noexcept { return error_ ? error_ : result_; }

    /// What the operation completes with, once the action is `close` or `reset`.
    [[nodiscard]] const error_code& result() const noexcept { return result_; }

private:
    HOLDFAST_DECL action finish(action last, const error_code& result) noexcept;

    HOLDFAST_DECL action poll(bool acknowledged) noexcept;

    /// The connection does not exist any more. That the peer has reset it is an ordinary end, not a failure.
    HOLDFAST_DECL action lost(const error_code& error) noexcept;

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

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/connection/impl/close_machine.ipp>
#endif

#endif
