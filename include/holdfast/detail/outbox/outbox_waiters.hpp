// holdfast: the pending operations of an outbox.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_WAITERS_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_WAITERS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/waiter.hpp>
#include <holdfast/detail/outbox/outbox_ring.hpp>

#include <chrono>
#include <cstdint>
#include <tuple>

namespace holdfast {
class outbox_base;
}

namespace holdfast::detail {

/// An async_push that waits for space.
class push_waiter : public waiter<unsynchronized> {
public:
    /// The item, of that key or of none, is owned by the waiter until the queue has it.
    push_waiter(const net::any_io_executor& executor, outbox_base& outbox, const payload& message,
                const std::uint64_t* key)
        : waiter<unsynchronized>(executor),
          outbox_(&outbox),
          item_(key != nullptr ? outbox_item(message, *key) : outbox_item(message))
    {
    }

    /// Before the completion: still in the list if it was cancelled.
    void leave() noexcept;
    std::tuple<error_code> results() const noexcept { return {result_}; }

    [[nodiscard]] const outbox_item& item() const noexcept { return item_; }

    void complete(const error_code& result, bool item_taken) noexcept
    {
        unlink();
        result_ = result;
        owns_item_ = !item_taken;
        wake();
    }

protected:
    ~push_waiter()
    {
        if (owns_item_) item_.release();
    }

private:
    outbox_base* outbox_;
    outbox_item item_;
    bool owns_item_ = true;
    error_code result_ = net::error::operation_aborted;
};

/// An async_flush or async_close.
class flush_waiter : public waiter<unsynchronized> {
public:
    using time_point = std::chrono::steady_clock::time_point;

    flush_waiter(const net::any_io_executor& executor, outbox_base& outbox, time_point deadline, bool closes)
        : waiter<unsynchronized>(executor, deadline), outbox_(&outbox), deadline_(deadline), closes_(closes)
    {
    }

    /// Before the completion: still in the list if it was cancelled, or the deadline has come.
    void leave() noexcept;
    std::tuple<error_code> results() const noexcept { return {result_}; }

    void complete(const error_code& result) noexcept
    {
        unlink();
        result_ = result;
        wake();
    }

protected:
    ~flush_waiter() = default;

private:
    outbox_base* outbox_;
    time_point deadline_;
    bool closes_;
    error_code result_ = net::error::operation_aborted;
};

/// In the order of their initiation.
using push_waiters = intrusive_list<push_waiter>;
using flush_waiters = intrusive_list<flush_waiter>;

} // namespace holdfast::detail

#endif
