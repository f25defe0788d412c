// holdfast: the bodies of timed_steps.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_TIMED_STEPS_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_TIMED_STEPS_IPP

#include <holdfast/detail/acceptor/timed_steps.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>

#include <algorithm>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL timed_steps::timed_steps(const net::any_io_executor& executor, std::shared_ptr<event_reporter> reporter,
                                       std::size_t shard, const net::ip::tcp::endpoint& remote, int descriptor)
    : executor_(executor),
      reporter_(std::move(reporter)),
      shard_(shard),
      remote_(remote),
      descriptor_(descriptor),
      timer_(executor)
{
}

HOLDFAST_DECL void timed_steps::limit_time(clock::duration limit, clock::duration shorter)
{
    const std::lock_guard lock(mutex_);
    shorter_ = shorter;
    deadline_ = later_by(limit);
    await_time_limit();
}

HOLDFAST_DECL timed_steps::clock::time_point timed_steps::later_by(clock::duration time) noexcept
{
    const auto now = clock::now();
    return time < clock::time_point::max() - now ? now + time : clock::time_point::max();
}

HOLDFAST_DECL void timed_steps::await_time_limit()
{
    wake_at_ = std::min(deadline_, later_by(shorter_));
    if (wake_at_ == clock::time_point::max()) return;
    timer_.expires_at(wake_at_);
    timer_.async_wait([self = shared_from_this()](const error_code& ec) {
        if (!ec) self->expire();
    });
}

HOLDFAST_DECL void timed_steps::expire() noexcept
{
    const std::lock_guard lock(mutex_);
    const auto now = clock::now();
    if (now < wake_at_) return;                          // the step that it was for has ended
    const bool lost = weak_from_this().use_count() == 1; // a step's handler was destroyed without memory
    if (now < deadline_ && !contended() && !lost) {
        try {
            return await_time_limit();
        } catch (...) { // without memory for the wait it ends now
        }
    }
    expired_ = true;
    if (descriptor_ >= 0) detail::disconnect(descriptor_);
}

HOLDFAST_DECL bool timed_steps::end_time_limit() noexcept
{
    const std::lock_guard lock(mutex_);
    timer_.cancel();
    wake_at_ = clock::time_point::max();
    return expired_;
}

HOLDFAST_DECL bool timed_steps::expired() noexcept
{
    const std::lock_guard lock(mutex_);
    return expired_;
}

HOLDFAST_DECL void timed_steps::set_descriptor(int descriptor) noexcept
{
    const std::lock_guard lock(mutex_);
    descriptor_ = descriptor;
    if (expired_ && descriptor >= 0) detail::disconnect(descriptor);
}

HOLDFAST_DECL void timed_steps::start_in_turn(const counted_ptr<semaphore>& turn)
{
    if (const permit taken = turn->try_take(1)) return start();
    start_acquire(turn, executor_, 1, [self = shared_from_this()](const error_code&, const permit&) { self->start(); });
}

HOLDFAST_DECL void timed_steps::start() noexcept
{
    try {
        start_session();
    } catch (...) {
        reporter_->report({acceptor_event::kind::session_failed, {}, std::current_exception(), {}, 1, remote_});
    }
}

} // namespace holdfast::detail

#endif
