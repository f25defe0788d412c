// holdfast: operations that wait for an outbox: for room, or until all is sent.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_WAITERS_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_WAITERS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/outbox/outbox_ring.hpp>

#include <chrono>

namespace holdfast::detail {

class outbox_waiters;

/// One operation that waits. As a semaphore's waiter it is woken by cancelling a timer that never expires,
/// and destroyed by the end of the execution context, in whose timer service it waits.
struct outbox_waiter {
    explicit outbox_waiter(const net::any_io_executor& executor)
        : wake(executor, std::chrono::steady_clock::time_point::max())
    {
    }
    outbox_waiter(const outbox_waiter&) = delete;
    ~outbox_waiter();

    /// Out of the queue, if it is still there.
    bool leave() noexcept;

    net::steady_timer wake;
    outbox_item item; // what is to be pushed, owned while it waits for room
    bool has_item = false;
    error_code result; // once it is woken
    outbox_waiters* queue = nullptr;
    outbox_waiter* next = nullptr;
    outbox_waiter* previous = nullptr;
};

/// Waiters in the order in which they came.
class outbox_waiters {
public:
    outbox_waiters() noexcept = default;
    outbox_waiters(const outbox_waiters&) = delete;

    [[nodiscard]] outbox_waiter* first() const noexcept { return first_; }

    void enlist(outbox_waiter& w) noexcept
    {
        w.queue = this;
        w.previous = last_;
        (last_ != nullptr ? last_->next : first_) = &w;
        last_ = &w;
    }

    void unlink(outbox_waiter& w) noexcept
    {
        (w.previous != nullptr ? w.previous->next : first_) = w.next;
        (w.next != nullptr ? w.next->previous : last_) = w.previous;
        w.next = w.previous = nullptr;
        w.queue = nullptr;
    }

    void wake_first(const error_code& result) noexcept
    {
        outbox_waiter& w = *first_;
        unlink(w);
        w.result = result;
        w.wake.cancel();
    }

    void wake_all(const error_code& result) noexcept
    {
        while (first_ != nullptr)
            wake_first(result);
    }

private:
    outbox_waiter* first_ = nullptr;
    outbox_waiter* last_ = nullptr;
};

inline bool outbox_waiter::leave() noexcept
{
    if (queue == nullptr) return false;
    queue->unlink(*this);
    return true;
}

inline outbox_waiter::~outbox_waiter()
{
    leave();
    if (has_item) item.release();
}

} // namespace holdfast::detail

#endif
