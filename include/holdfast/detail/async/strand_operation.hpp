// holdfast: an operation whose work is done on a strand, and which completes where its handler belongs.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_STRAND_OPERATION_HPP
#define HOLDFAST_DETAIL_ASYNC_STRAND_OPERATION_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/inline_strand.hpp>

#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace holdfast::detail {

/// An operation of `Owner`, which has an `executor` and an inline_strand `strand`. It lives until its handler
/// was called or destroyed.
///
/// Its completion is the end of a wait on a timer that never expires: so the memory for completing is set
/// aside when it begins, and the end of the execution context destroys the handler uncalled, as with all of
/// Asio's.
template <class Owner>
class strand_operation : public std::enable_shared_from_this<strand_operation<Owner>> {
public:
    explicit strand_operation(std::shared_ptr<Owner> owner)
        : owner_(std::move(owner)),
          done_(owner_->executor, std::chrono::steady_clock::time_point::max()),
          begin_(*this),
          cancel_(*this)
    {
    }
    strand_operation(const strand_operation&) = delete;
    virtual ~strand_operation() = default;

    /// Both on the strand.
    virtual void begin() noexcept = 0;
    virtual void cancel() noexcept = 0;

    /// Has the handler called, soon. Once, on the strand.
    void finish(const error_code& ec) noexcept
    {
        error_ = ec;
        finished_ = true;
        const std::lock_guard lock(finishing_);
        done_.cancel();
    }

    /// Waits for the end of `finish()`: another thread may have come here before the timer's last word.
    void join() noexcept { const std::lock_guard lock(finishing_); }

    [[nodiscard]] bool finished() const noexcept { return finished_; }

    /// What it was finished with.
    [[nodiscard]] const error_code& error() const noexcept { return error_; }

    [[nodiscard]] Owner& owner() const noexcept { return *owner_; }
    [[nodiscard]] const std::shared_ptr<Owner>& shared_owner() const noexcept { return owner_; }

    /// Has `begin()` called, never inside this call, and `completion` at the end. Without memory to get
    /// there the operation ends for that reason; without memory to begin at all, this throws std::bad_alloc.
    template <class Completion>
    void start(Completion completion)
    {
        done_.async_wait(std::move(completion));
        try {
            net::post(owner_->executor,
                      [self = this->shared_from_this()] { self->owner_->strand.run(self->begin_, self); });
        } catch (const std::bad_alloc&) {
            finish(net::error::no_memory);
        }
    }

    /// Has `cancel()` called unless it has finished.
    void ask_to_cancel() noexcept { owner_->strand.run(cancel_, this->shared_from_this()); }

private:
    void begin_task() noexcept
    {
        if (!finished_) begin();
    }
    void cancel_task() noexcept
    {
        if (!finished_) cancel();
    }

    const std::shared_ptr<Owner> owner_;
    std::mutex finishing_;
    net::steady_timer done_;
    error_code error_;
    bool finished_ = false;
    inline_strand::member_task<strand_operation, &strand_operation::begin_task> begin_;
    inline_strand::member_task<strand_operation, &strand_operation::cancel_task> cancel_;
};

/// What waits for the end of an operation: has it `deliver(handler)`, on the handler's executor. What the
/// handler's cancellation slot emits reaches the operation, not this wait.
template <class Handler, class Operation>
class strand_completion {
public:
    using executor_type = net::associated_executor_t<Handler, net::any_io_executor>;
    using allocator_type = net::associated_allocator_t<Handler>;

    strand_completion(Handler handler, std::shared_ptr<Operation> operation)
        : handler_(std::move(handler)), operation_(std::move(operation))
    {
        if (auto slot = net::get_associated_cancellation_slot(handler_); slot.is_connected())
            slot.assign([weak = std::weak_ptr(operation_)](net::cancellation_type) {
                if (const auto meant = weak.lock()) meant->ask_to_cancel();
            });
    }

    executor_type get_executor() const noexcept
    {
        return net::get_associated_executor(handler_, net::any_io_executor(operation_->owner().executor));
    }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }

    void operator()(const error_code&)
    {
        operation_->join();
        operation_->deliver(handler_);
    }

private:
    Handler handler_;
    std::shared_ptr<Operation> operation_;
};

/// Starts an operation on behalf of `handler`.
template <class Operation, class Handler>
void start_operation(std::shared_ptr<Operation> operation, Handler handler)
{
    Operation& o = *operation;
    o.start(strand_completion<Handler, Operation>(std::move(handler), std::move(operation)));
}

} // namespace holdfast::detail

#endif
