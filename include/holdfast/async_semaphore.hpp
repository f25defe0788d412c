// holdfast: async_semaphore, a weighted FIFO semaphore that coroutines and callbacks wait on.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ASYNC_SEMAPHORE_HPP
#define HOLDFAST_ASYNC_SEMAPHORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

namespace holdfast {

namespace detail {
class semaphore_core;
}

/// Units taken from an `async_semaphore`, returned when it is destroyed, on whichever thread. Movable, not
/// copyable; an empty or moved-from permit holds nothing. It may outlive the semaphore.
class permit {
public:
    /// Holds nothing.
    permit() noexcept = default;

    permit(permit&& other) noexcept : core_(std::move(other.core_)), units_(std::exchange(other.units_, 0)) {}

    permit& operator=(permit&& other) noexcept
    {
        if (this != &other) {
            release();
            core_ = std::move(other.core_);
            units_ = std::exchange(other.units_, 0);
        }
        return *this;
    }

    ~permit() { release(); }

    /// Returns the units now and wakes the waiters that they suffice for. Never allocates, never calls a
    /// handler inline; O(1) for each waiter woken.
    inline void release() noexcept;

    /// How many units it holds.
    [[nodiscard]] std::size_t units() const noexcept { return units_; }

    /// Whether it holds any.
    explicit operator bool() const noexcept { return units_ != 0; }

private:
    friend class detail::semaphore_core;
    permit(std::shared_ptr<detail::semaphore_core> core, std::size_t units) noexcept
        : core_(std::move(core)), units_(units)
    {
    }

    std::shared_ptr<detail::semaphore_core> core_;
    std::size_t units_ = 0;
};

namespace detail {

/// A waiting acquire. Its timer never expires: cancelling it is how the waiter is woken, since Asio has set
/// the memory for that aside when the wait began. And as the wait belongs to Asio's own timer service, the
/// end of the execution context destroys it uncalled: a semaphore may live in the very coroutine frame that
/// waits on it.
struct semaphore_waiter {
    semaphore_waiter(const net::any_io_executor& executor, std::shared_ptr<semaphore_core> c, std::size_t n)
        : core(std::move(c)), units(n), wake(executor, std::chrono::steady_clock::time_point::max())
    {
    }
    semaphore_waiter(const semaphore_waiter&) = delete;
    inline ~semaphore_waiter();

    std::shared_ptr<semaphore_core> core;
    std::size_t units;
    net::steady_timer wake;
    permit granted;     // filled by whoever releases
    error_code refused; // or why there will be none
    semaphore_waiter* next = nullptr;
    semaphore_waiter* previous = nullptr;
    bool queued = false;
};

/// What semaphore, permits and waiters share. It knows no executor and may outlive the execution context.
class semaphore_core : public std::enable_shared_from_this<semaphore_core> {
public:
    explicit semaphore_core(std::size_t limit) noexcept : limit_(limit) {}

    /// Takes n units if that passes nobody by.
    permit try_take(std::size_t n) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (closed_ || head_ != nullptr || n > limit_ - in_use_) return {};
        in_use_ += n;
        return {shared_from_this(), n};
    }

    error_code refusal(std::size_t n) const
    {
        const std::lock_guard lock(mutex_);
        return closed_ ? closed_ : n > limit_ ? error_code(errc::exceeds_limit) : error_code();
    }

    /// Queues a waiter whose timer is already waiting; it may be granted at once.
    void enqueue(semaphore_waiter& w) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (closed_) {
            w.refused = closed_;
            w.wake.cancel();
            return;
        }
        w.previous = tail_;
        (tail_ != nullptr ? tail_->next : head_) = &w;
        tail_ = &w;
        w.queued = true;
        ++waiting_;
        grant();
    }

    /// Takes a waiter out of the queue, if it is still there; those behind it may have been waiting for that.
    void leave(semaphore_waiter& w) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (w.queued) {
            unlink(w);
            grant();
        }
    }

    void give_back(std::size_t n) noexcept
    {
        const std::lock_guard lock(mutex_);
        in_use_ -= n;
        grant();
    }

    void close(const error_code& reason) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (!closed_) closed_ = reason ? reason : error_code(errc::semaphore_closed);
        while (head_ != nullptr) {
            semaphore_waiter& w = *head_;
            unlink(w);
            w.refused = closed_;
            w.wake.cancel();
        }
    }

    std::size_t limit() const noexcept { return limit_; }

    std::size_t in_use() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return in_use_;
    }

    std::size_t waiting() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return waiting_;
    }

private:
    void unlink(semaphore_waiter& w) noexcept
    {
        (w.previous != nullptr ? w.previous->next : head_) = w.next;
        (w.next != nullptr ? w.next->previous : tail_) = w.previous;
        w.next = w.previous = nullptr;
        w.queued = false;
        --waiting_;
    }

    /// Serves the queue from its head for as long as the free units suffice: nobody is passed by. The permit
    /// is made here, under the lock, so that there is no moment between being granted and owning it.
    void grant() noexcept
    {
        while (head_ != nullptr && head_->units <= limit_ - in_use_) {
            semaphore_waiter& w = *head_;
            unlink(w);
            in_use_ += w.units;
            w.granted = permit(shared_from_this(), w.units);
            w.wake.cancel();
        }
    }

    mutable std::mutex mutex_;
    const std::size_t limit_;
    std::size_t in_use_ = 0;
    std::size_t waiting_ = 0;
    semaphore_waiter* head_ = nullptr;
    semaphore_waiter* tail_ = nullptr;
    error_code closed_;
};

inline semaphore_waiter::~semaphore_waiter() { core->leave(*this); }

/// The steps of async_acquire, for net::async_compose. It refers to the core, so the semaphore may go
/// meanwhile.
class semaphore_acquire_op {
public:
    semaphore_acquire_op(std::shared_ptr<semaphore_core> core, net::any_io_executor executor, std::size_t n)
        : core_(std::move(core)), executor_(std::move(executor)), units_(n)
    {
    }

    template <class Self>
    void operator()(Self& self, error_code = {})
    {
        switch (step_) {
        case step::start:
            start(self);
            return;
        case step::waiting:
            core_->leave(*waiter_);
            taken_ = std::move(waiter_->granted);
            if (!taken_)
                result_ = waiter_->refused ? waiter_->refused : error_code(net::error::operation_aborted);
            waiter_.reset();
            break;
        case step::settled:
            break;
        }
        self.complete(result_, std::move(taken_));
    }

private:
    enum class step : unsigned char { start, waiting, settled };

    template <class Self>
    void start(Self& self)
    {
        self.reset_cancellation_state(net::enable_total_cancellation());
        result_ = core_->refusal(units_);
        if (!result_) taken_ = core_->try_take(units_);
        if (result_ || taken_ || units_ == 0) {
            step_ = step::settled;
            auto executor = executor_;
            net::post(executor, std::move(self)); // completing here would be inside the initiating function
            return;
        }
        waiter_ = std::allocate_shared<semaphore_waiter>(self.get_allocator(), executor_, core_, units_);
        step_ = step::waiting;
        // The wait begins before the waiter is queued: whoever grants finds an operation to wake.
        const auto waiter = waiter_;
        waiter->wake.async_wait(std::move(self));
        waiter->core->enqueue(*waiter);
    }

    std::shared_ptr<semaphore_core> core_;
    net::any_io_executor executor_;
    std::size_t units_;
    step step_ = step::start;
    permit taken_;
    error_code result_;
    std::shared_ptr<semaphore_waiter> waiter_;
};

} // namespace detail

inline void permit::release() noexcept
{
    if (const std::size_t units = std::exchange(units_, 0); units != 0)
        std::exchange(core_, nullptr)->give_back(units);
}

/// A counting semaphore for asynchronous code: at most `limit()` units are out at any time, whatever the
/// load. First come, first served: a large request at the head is not passed by small ones.
///
/// Concurrency: all members may be called from any thread at the same time; one short critical section each.
/// Lifetime: permits may outlive it. Destroying it fails the waiters with `errc::semaphore_closed`; the end
/// of the execution context destroys them uncalled, even when the semaphore lives in the coroutine that
/// waits.
///
///     holdfast::async_semaphore uploads{executor, 8};
///     auto turn = co_await uploads.async_acquire();   // at most eight at a time
class async_semaphore {
public:
    using executor_type = net::any_io_executor;

    /// Allocates the core that permits and waiters share: the only allocation apart from the waiters' own.
    async_semaphore(executor_type executor, std::size_t limit)
        : executor_(std::move(executor)), core_(std::make_shared<detail::semaphore_core>(limit))
    {
    }

    async_semaphore(const async_semaphore&) = delete;
    async_semaphore& operator=(const async_semaphore&) = delete;

    ~async_semaphore() { close(); }

    executor_type get_executor() const noexcept { return executor_; }

    /// Waits for `n` units.
    ///
    /// Completion: void(error_code, permit), on the handler's executor, never inside this call.
    /// `errc::semaphore_closed` (or what `close()` was given) once it is closed, `errc::exceeds_limit` at
    /// once for more than `limit()`. The permit is made at the moment of the grant: when the handler is
    /// destroyed uncalled, its units are returned. Zero units are granted at once.
    /// Cancellation: terminal,
    /// partial and total; `operation_aborted`, and nothing is taken. When a cancelled head leaves, those
    /// behind it go on.
    /// Cost: nothing of ours when units are free; else one block from the handler's
    /// allocator for the waiter.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_acquire(std::size_t n = 1, CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code, permit)>(
            detail::semaphore_acquire_op(core_, executor_, n), token, executor_);
    }

    /// Takes `n` units if they are free and nobody waits, else returns an empty permit.
    [[nodiscard]] permit try_acquire(std::size_t n = 1) noexcept { return core_->try_take(n); }

    /// Fails all waiters, and all later acquires, with `reason`; of several calls the first one's counts.
    /// Permits that are out stay valid.
    void close(error_code reason = errc::semaphore_closed) noexcept { core_->close(reason); }

    /// How many units there are in all.
    [[nodiscard]] std::size_t limit() const noexcept { return core_->limit(); }
    /// How many units are out.
    [[nodiscard]] std::size_t in_use() const noexcept { return core_->in_use(); }
    /// How many operations wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return core_->waiting(); }

private:
    executor_type executor_;
    std::shared_ptr<detail::semaphore_core> core_;
};

} // namespace holdfast

#endif
