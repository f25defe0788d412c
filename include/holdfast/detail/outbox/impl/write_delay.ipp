// holdfast: the bodies of write_delay.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_IMPL_WRITE_DELAY_IPP
#define HOLDFAST_DETAIL_OUTBOX_IMPL_WRITE_DELAY_IPP

#include <holdfast/detail/outbox/write_delay.hpp>

#include <exception>
#include <mutex>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL write_delay::write_delay(const net::any_io_executor& executor, duration delay)
    : timer_(std::in_place, executor), delay_(delay)
{
}

HOLDFAST_DECL bool write_delay::add(delayed_write& write) noexcept
{
    const std::lock_guard lock(mutex_);
    if (!armed_ && !arm()) return false;
    writes_.push_back(write);
    return true;
}

HOLDFAST_DECL bool write_delay::remove(delayed_write& write) noexcept
{
    const std::lock_guard lock(mutex_);
    const bool waited = write.linked();
    write.unlink();
    return waited;
}

HOLDFAST_DECL void write_delay::end() noexcept
{
    const std::lock_guard lock(mutex_);
    timer_.reset(); // its service is younger than this object's
    while (!writes_.empty())
        writes_.front().unlink();
}

HOLDFAST_DECL bool write_delay::arm() noexcept
{
    if (!timer_) return false;
    try {
        timer_->expires_after(delay_);
        timer_->async_wait(expiry(*this));
    } catch (const std::exception&) {
        return false;
    }
    return armed_ = true;
}

HOLDFAST_DECL void write_delay::expire() noexcept
{
    const std::lock_guard lock(mutex_);
    armed_ = false;
    intrusive_list<delayed_write> due;
    due.splice_back(writes_);
    while (!due.empty()) {
        delayed_write& first = due.front();
        first.unlink();
        if (!first.post(first)) writes_.push_back(first);
    }
    if (!writes_.empty()) (void)arm(); // else the next write that is added does
}

HOLDFAST_DECL void write_delays::shutdown() noexcept
{
    const std::lock_guard lock(mutex_);
    for (const auto& each : delays_)
        each->end();
}

} // namespace holdfast::detail

#endif
