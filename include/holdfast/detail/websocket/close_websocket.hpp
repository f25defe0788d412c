// holdfast: the steps of async_close_websocket.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_CLOSE_WEBSOCKET_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_CLOSE_WEBSOCKET_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/connection/close_operation.hpp>
#include <holdfast/error.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/payload.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace holdfast::detail {

template <class Peer, class Outbox>
class close_websocket {
    using clock = std::chrono::steady_clock;

public:
    close_websocket(Peer& peer, Outbox& outbox, clock::duration deadline, std::size_t drain_bytes, payload frame)
        : peer_(&peer), outbox_(&outbox), deadline_(deadline), drain_bytes_(drain_bytes), frame_(std::move(frame))
    {
    }

    template <class Self>
    void operator()(Self& self, const error_code& ec = {})
    {
        switch (step_++) {
        case 0:
            self.reset_cancellation_state(net::enable_total_cancellation());
            begun_ = clock::now();
            outbox_->push_final(std::exchange(frame_, {})); // an error: one is queued already, or nothing can be sent
            return outbox_->async_close({.deadline = deadline_}, std::move(self));
        case 1: {
            result_ = ec;
            // It may have come when the outbox had ended, and this step was queued.
            if (self.get_cancellation_state().cancelled() != net::cancellation_type::none)
                result_ = net::error::operation_aborted;
            if (result_ == net::error::operation_aborted) peer_->abort(close_reason::cancelled, result_);
            auto closing = close_of(*peer_);
            closing.take_over();
            return net::async_compose<Self, void(error_code)>(std::move(closing), self, peer_->stream());
        }
        default:
            return self.complete(result_ ? result_ : ec);
        }
    }

private:
    template <class Stream, class Finalizer>
    auto close_of(connection_guard<Stream, Finalizer>& peer) const
    {
        return close_operation<connection_guard<Stream, Finalizer>>(peer, left(), drain_bytes_);
    }

    [[nodiscard]] clock::duration left() const noexcept
    {
        if (deadline_ == clock::duration::max()) return deadline_;
        return std::max(clock::duration::zero(), deadline_ - (clock::now() - begun_));
    }

    Peer* peer_;
    Outbox* outbox_;
    clock::duration deadline_;
    std::size_t drain_bytes_;
    payload frame_;
    clock::time_point begun_{};
    error_code result_{};
    std::uint8_t step_ = 0;
};

} // namespace holdfast::detail

#endif
