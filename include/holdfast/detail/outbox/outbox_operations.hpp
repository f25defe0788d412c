// holdfast: the steps of an outbox's operations that wait.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_OPERATIONS_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_OPERATIONS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/outbox/outbox_queue.hpp>
#include <holdfast/detail/outbox/outbox_waiters.hpp>
#include <holdfast/error.hpp>
#include <holdfast/payload.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace holdfast::detail {

/// The steps of async_push, for net::async_compose.
template <class Outbox>
class outbox_push_op {
public:
    outbox_push_op(Outbox* box, payload message, std::optional<std::uint64_t> key) noexcept
        : box_(box), message_(std::move(message)), key_(key)
    {
    }

    template <class Self>
    void operator()(Self& self, error_code = {})
    {
        if (!std::exchange(started_, true)) return start(self, *box_);
        if (waiter_ && waiter_->leave()) {
            box_->let_in(); // those behind it go on
            result_ = net::error::operation_aborted;
        } else if (waiter_) {
            result_ = waiter_->result; // the outbox may be gone
        }
        waiter_.reset();
        self.complete(result_);
    }

private:
    template <class Self>
    void start(Self& self, Outbox& box)
    {
        self.reset_cancellation_state(net::enable_total_cancellation());
        auto executor = box.get_executor();
        const bool waits = box.waits();
        result_ = box.push_one(message_, key_ ? &*key_ : nullptr); // where it does not wait, the box may go
        if (!waits || result_ != errc::outbox_full) {
            net::post(executor, std::move(self)); // completing here would be inside the initiating function
            return;
        }
        const auto waiter = std::allocate_shared<outbox_waiter>(self.get_allocator(), executor);
        waiter->item = key_ ? outbox_item(message_, *key_) : outbox_item(message_);
        waiter->has_item = true;
        waiter_ = waiter;
        // The wait begins before the waiter is queued: whoever lets it in finds an operation to wake.
        waiter->wake.async_wait(std::move(self));
        box.waiting_.enlist(*waiter);
    }

    Outbox* box_;
    payload message_;
    std::optional<std::uint64_t> key_;
    std::shared_ptr<outbox_waiter> waiter_;
    error_code result_;
    bool started_ = false;
};

/// The steps of async_flush and async_close, for net::async_compose.
template <class Outbox>
class outbox_flush_op {
public:
    outbox_flush_op(Outbox* box, bool closes) noexcept : box_(box), closes_(closes) {}

    template <class Self>
    void operator()(Self& self, error_code = {})
    {
        if (Outbox* const box = std::exchange(box_, nullptr)) return start(self, *box);
        if (waiter_) result_ = waiter_->leave() ? error_code(net::error::operation_aborted) : waiter_->result;
        waiter_.reset();
        self.complete(result_);
    }

private:
    template <class Self>
    void start(Self& self, Outbox& box)
    {
        self.reset_cancellation_state(net::enable_total_cancellation());
        auto executor = box.get_executor();
        if (closes_) {
            box.stopped_ = true;
            box.waiting_.wake_all(errc::outbox_closed);
        }
        result_ = box.closed_;
        if (!box.busy_) {
            net::post(executor, std::move(self));
            return;
        }
        const auto waiter = std::allocate_shared<outbox_waiter>(self.get_allocator(), executor);
        waiter_ = waiter;
        waiter->wake.async_wait(std::move(self));
        box.flushing_.enlist(*waiter);
    }

    Outbox* box_;
    bool closes_;
    std::shared_ptr<outbox_waiter> waiter_;
    error_code result_;
};

} // namespace holdfast::detail

#endif
