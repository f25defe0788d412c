// holdfast: the bodies of accept_queue.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPT_QUEUE_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPT_QUEUE_IPP

#include <holdfast/detail/acceptor/accept_queue.hpp>
#include <holdfast/detail/async/execute_later.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>

#include <exception>

namespace holdfast::detail {

/// The handler of the wait. Its memory is the queue's own, so that a wait needs none when there is none.
class accept_queue::resumption {
public:
    using allocator_type = op_allocator<std::byte>;

    explicit resumption(accept_queue& queue) : self_(queue.shared_from_this()), storage_(&queue.storage_) {}

    allocator_type get_allocator() const noexcept { return allocator_type(*storage_); }

    void operator()(const error_code& ec)
    {
        if (!ec || ec == net::error::operation_aborted)
            self_->resume({accept_occurrence::woken});
        else
            self_->resume({accept_occurrence::wait_failed, ec});
    }

    void operator()(const error_code& ec, permit granted)
    {
        if (!granted) return (*this)(ec);
        self_->permit_ = std::move(granted);
        self_->resume({accept_occurrence::permit_taken});
    }

private:
    std::shared_ptr<accept_queue> self_;
    op_storage* storage_; // apart, since Asio asks for the allocator when it has moved it, too
};

class accept_queue::tick_handler {
public:
    using allocator_type = op_allocator<std::byte>;

    explicit tick_handler(accept_queue& queue) : self_(queue.shared_from_this()), storage_(&queue.tick_storage_) {}

    allocator_type get_allocator() const noexcept { return allocator_type(*storage_); }

    void operator()(const error_code& ec)
    {
        if (ec) return;
        const std::lock_guard lock(self_->mutex_);
        if (self_->wait_ == wait_kind::permit) self_->interrupt();
    }

private:
    std::shared_ptr<accept_queue> self_;
    op_storage* storage_;
};

HOLDFAST_DECL accept_queue::accept_queue(const net::any_io_executor& ex, counted_ptr<semaphore> connections,
                                         std::size_t expected, std::size_t max_per_address)
    : executor(ex),
      members(std::make_shared<registry>(connections, expected, max_per_address)),
      claim_(std::move(connections))
{
}

HOLDFAST_DECL void accept_queue::enqueue(pending_accept& operation) noexcept
{
    const std::lock_guard lock(mutex_);
    queue_.push_back(operation);
    ++pending_;
    ++changes_;
    if (late_ && operation.what == pending_accept::kind::accept) return deliver_late(operation);
    if (running_ || wait_ != wait_kind::none) return;
    try {
        wait_ = wait_kind::turn;
        execute_later(executor, [self = shared_from_this()] { self->resume({accept_occurrence::woken}); });
    } catch (const std::exception&) {
        wait_ = wait_kind::none;
        fail(operation, net::error::no_memory);
    }
}

HOLDFAST_DECL void accept_queue::leave(pending_accept& operation) noexcept
{
    const std::lock_guard lock(mutex_);
    if (!operation.linked()) return;
    remove(operation);
    if (pending_ == 0) interrupt();
}

HOLDFAST_DECL void accept_queue::close() noexcept
{
    {
        const std::lock_guard lock(mutex_);
        close_locked();
    }
    discard_late();
}

HOLDFAST_DECL bool accept_queue::closed() const noexcept
{
    const std::lock_guard lock(mutex_);
    return closed_;
}

HOLDFAST_DECL void accept_queue::begin_drain(bool serve_backlog) noexcept
{
    {
        const std::lock_guard lock(mutex_);
        draining_ = true;
        if (!closed_ && io_) backlog_left_ = backlog_bound_of(io_->listener.native_handle());
        if (serve_backlog && backlog_left_ != 0 && pending_ != 0) {
            until_empty_ = true;
            return;
        }
        close_locked();
    }
    discard_late();
}

template <class Begin>
auto accept_queue::wait(wait_kind what, std::uint64_t seen, Begin begin) -> outcome
{
    const std::lock_guard lock(mutex_);
    if (!io_) return {}; // the execution context is being destroyed
    if (seen != changes_) return accept_event{accept_occurrence::woken};
    wait_ = what;
    running_ = false;
    try {
        begin(*io_);
        return {};
    } catch (...) {
        wait_ = wait_kind::none;
        running_ = true;
        throw;
    }
}

HOLDFAST_DECL auto accept_queue::wait_for_permit(accept_machine::time_point until, std::uint64_t seen) -> outcome
{
    return wait(wait_kind::permit, seen, [&](io_objects& io) {
        if (until != accept_machine::time_point::max()) {
            io.tick.expires_at(until);
            io.tick.async_wait(tick_handler(*this));
        }
        claim_.async_acquire(executor, 1, resumption(*this));
    });
}

HOLDFAST_DECL auto accept_queue::wait_for_departure(std::uint64_t departures, accept_machine::time_point until,
                                                    std::uint64_t seen) -> outcome
{
    return wait(wait_kind::departure, seen,
                [&](io_objects& io) { io.departure.async_wait(departures, until, resumption(*this)); });
}

HOLDFAST_DECL auto accept_queue::wait_for_time(accept_machine::time_point until, std::uint64_t seen) -> outcome
{
    return wait(wait_kind::time, seen, [&](io_objects& io) {
        io.timer.expires_at(until);
        io.timer.async_wait(resumption(*this));
    });
}

HOLDFAST_DECL auto accept_queue::wait_for_connection(std::uint64_t seen) -> outcome
{
    return wait(wait_kind::connection, seen, [&](io_objects& io) {
        io.listener.async_wait(net::posix::descriptor_base::wait_read, resumption(*this));
    });
}

HOLDFAST_DECL auto accept_queue::stop(std::uint64_t seen) noexcept -> outcome
{
    permit released;
    const std::lock_guard lock(mutex_);
    if (seen != changes_) return accept_event{accept_occurrence::woken};
    std::swap(released, permit_);
    running_ = false;
    return {};
}

HOLDFAST_DECL void accept_queue::begin_turn() noexcept
{
    const std::lock_guard lock(mutex_);
    if (wait_ == wait_kind::permit && io_) io_->tick.cancel();
    wait_ = wait_kind::none;
    running_ = true;
}

HOLDFAST_DECL void accept_queue::fail_pending(const error_code& why, bool all) noexcept
{
    const std::lock_guard lock(mutex_);
    while (!queue_.empty()) {
        fail(queue_.front(), why);
        if (!all) break;
    }
}

HOLDFAST_DECL void accept_queue::close_locked() noexcept
{
    if (std::exchange(closed_, true)) return;
    ++changes_;
    until_empty_ = false;
    file_.remove();
    error_code ignored;
    if (io_) io_->listener.close(ignored);
    interrupt();
    members->wake();
}

HOLDFAST_DECL void accept_queue::remove(pending_accept& operation) noexcept
{
    operation.unlink();
    --pending_;
}

HOLDFAST_DECL void accept_queue::fail(pending_accept& operation, const error_code& why) noexcept
{
    remove(operation);
    operation.error = why;
    operation.wake();
}

/// Ends the wait under way: there is another reason to decide again.
HOLDFAST_DECL void accept_queue::interrupt() noexcept
{
    ++changes_;
    if (!io_) return;
    error_code ignored;
    switch (wait_) {
    case wait_kind::none:
    case wait_kind::turn:
        break;
    case wait_kind::permit:
        claim_.cancel();
        io_->tick.cancel();
        break;
    case wait_kind::departure:
        io_->departure.cancel();
        break;
    case wait_kind::time:
        io_->timer.cancel();
        break;
    case wait_kind::connection:
        io_->listener.cancel(ignored); // closed already: then it has no waits
        break;
    }
}

HOLDFAST_DECL void accept_queue::context_ends() noexcept
{
    const std::lock_guard lock(mutex_);
    io_.reset();
    executor = {};
}

} // namespace holdfast::detail

#endif
