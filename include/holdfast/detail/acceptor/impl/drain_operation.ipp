// holdfast: the bodies of drain_state.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_DRAIN_OPERATION_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_DRAIN_OPERATION_IPP

#include <holdfast/detail/acceptor/drain_operation.hpp>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL drain_state::drain_state(std::shared_ptr<accept_queue> core, const drain_options& options)
    : core_(std::move(core)),
      deadline_(options.deadline > clock::time_point::max() - start_ ? clock::time_point::max()
                                                                     : start_ + options.deadline),
      stagger_(options.stagger),
      serve_backlog_(options.serve_backlog),
      finish_frames_(options.finish_frames)
{
    io_.emplace(*core_);
}

HOLDFAST_DECL void drain_state::begin(drain_waiter& waiter) noexcept
{
    {
        const std::lock_guard lock(mutex_);
        waiter_ = &waiter;
    }
    core_->begin_drain(serve_backlog_);
    batches_ = std::max<std::size_t>(1, (core_->members->live() + batch_size - 1) / batch_size);
    proceed();
}

HOLDFAST_DECL void drain_state::detach() noexcept
{
    const std::lock_guard lock(mutex_);
    waiter_ = nullptr;
    io_.reset(); // ends the wait
}

HOLDFAST_DECL void drain_state::proceed() noexcept
{
    const std::lock_guard lock(mutex_);
    if (waiter_ == nullptr) return;
    try {
        registry& members = *core_->members;
        if (cursor_ && (cursor_ = members.notify(*cursor_, batch_size, finish_frames_))) {
            io_->pause.expires_at(start_ + part_of_stagger());
            io_->pause.async_wait(resumption(shared_from_this()));
            return;
        }
        const auto seen = members.changes();
        const bool closed = core_->closed();
        if (closed && members.live() == 0) {
            finish({});
        } else if (clock::now() >= deadline_) {
            core_->close();
            aborted_ = members.abort_all();
            finish({});
        } else {
            io_->departure.async_wait(seen, deadline_, resumption(shared_from_this()));
        }
    } catch (const std::bad_alloc&) {
        finish(net::error::no_memory);
    }
}

HOLDFAST_DECL drain_state::clock::duration drain_state::part_of_stagger() noexcept
{
    const auto n = static_cast<clock::rep>(batches_);
    const auto batch = static_cast<clock::rep>(std::min(++batch_, batches_));
    return stagger_ / n * batch + stagger_ % n * batch / n;
}

} // namespace holdfast::detail

#endif
