// holdfast: async_semaphore, a weighted FIFO semaphore that coroutines and callbacks wait on.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ASYNC_SEMAPHORE_HPP
#define HOLDFAST_ASYNC_SEMAPHORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

namespace holdfast {

namespace detail {
template <class Sharing>
class semaphore_core;
}

/// Units taken from a semaphore, returned when it is destroyed. Two words; movable, not copyable; an empty or
/// moved-from permit holds nothing. It may outlive the semaphore.
///
/// `permit` is returned on whichever thread; an `unsynchronized_permit` belongs to its semaphore's thread or
/// strand.
template <class Sharing>
class basic_permit {
public:
    /// Holds nothing.
    basic_permit() noexcept = default;

    basic_permit(basic_permit&& other) noexcept
        : core_(std::move(other.core_)), units_(std::exchange(other.units_, 0))
    {
    }

    basic_permit& operator=(basic_permit&& other) noexcept
    {
        if (this != &other) {
            release();
            core_ = std::move(other.core_);
            units_ = std::exchange(other.units_, 0);
        }
        return *this;
    }

    ~basic_permit() { release(); }

    /// Returns the units now and wakes the waiters that they suffice for. Never allocates, never calls a
    /// handler inline; O(log waiters) for each waiter woken.
    void release() noexcept
    {
        if (const std::size_t units = std::exchange(units_, 0); units != 0)
            std::exchange(core_, {})->give_back(units);
    }

    /// Takes `n` of the units off into a permit of their own; where it holds fewer, nothing changes and the
    /// result is empty.
    [[nodiscard]] basic_permit split(std::size_t n) noexcept
    {
        if (n == 0 || n > units_) return {};
        if (n == units_) return std::move(*this);
        units_ -= n;
        return {core_, n};
    }

    /// Takes over the other's units; false, and nothing changes, where they are another semaphore's.
    bool merge(basic_permit& other) noexcept
    {
        if (this == &other || !other) return true;
        if (*this && core_.get() != other.core_.get()) return false;
        units_ += std::exchange(other.units_, 0);
        core_ = std::move(other.core_);
        return true;
    }

    /// How many units it holds.
    [[nodiscard]] std::size_t units() const noexcept { return units_; }

    /// Whether it holds any.
    explicit operator bool() const noexcept { return units_ != 0; }

private:
    friend class detail::semaphore_core<Sharing>;
    using core_ptr = detail::counted_ptr<detail::semaphore_core<Sharing>>;
    basic_permit(core_ptr core, std::size_t units) noexcept : core_(std::move(core)), units_(units) {}

    core_ptr core_;
    std::size_t units_ = 0;
};

/// What else a semaphore can limit.
struct semaphore_options {
    /// How many operations may wait; one more is refused at once. A queue is memory too.
    std::size_t max_waiting = std::numeric_limits<std::size_t>::max();
};

namespace detail {

/// A waiting acquire. Its timer never expires: cancelling it is how the waiter is woken, since Asio has set
/// the memory for that aside when the wait began. And as the wait belongs to Asio's own timer service, the
/// end of the execution context destroys it uncalled: a semaphore may live in the very coroutine frame that
/// waits on it.
template <class Sharing>
struct semaphore_waiter {
    semaphore_waiter(const net::any_io_executor& executor, counted_ptr<semaphore_core<Sharing>> c,
                     std::size_t n)
        : core(std::move(c)), units(n), wake(executor, std::chrono::steady_clock::time_point::max())
    {
    }
    semaphore_waiter(const semaphore_waiter&) = delete;

    virtual void destroy() noexcept = 0;

    typename Sharing::count owners;
    counted_ptr<semaphore_core<Sharing>> core;
    std::size_t units;
    net::steady_timer wake;
    basic_permit<Sharing> granted; // filled by whoever releases
    error_code refused;            // or why there will be none
    semaphore_waiter* next = nullptr;
    semaphore_waiter* previous = nullptr;
    bool queued = false;

protected:
    ~semaphore_waiter() { core->leave(*this); }
};

/// A waiter in memory of the handler's allocator.
template <class Sharing, class Allocator>
class allocated_waiter final : public semaphore_waiter<Sharing> {
    using traits = typename std::allocator_traits<Allocator>::template rebind_traits<allocated_waiter>;
    using allocator_type = typename traits::allocator_type;

public:
    template <class... Args>
    static counted_ptr<semaphore_waiter<Sharing>> make(const Allocator& from, Args&&... args)
    {
        allocator_type allocator(from);
        allocated_waiter* const memory = traits::allocate(allocator, 1);
        try {
            return counted_ptr<semaphore_waiter<Sharing>>(
                ::new (static_cast<void*>(memory)) allocated_waiter(allocator, std::forward<Args>(args)...));
        } catch (...) {
            traits::deallocate(allocator, memory, 1);
            throw;
        }
    }

    void destroy() noexcept override
    {
        allocator_type allocator(allocator_);
        this->~allocated_waiter();
        traits::deallocate(allocator, this, 1);
    }

private:
    template <class... Args>
    explicit allocated_waiter(const allocator_type& allocator, Args&&... args)
        : semaphore_waiter<Sharing>(std::forward<Args>(args)...), allocator_(allocator)
    {
    }
    ~allocated_waiter() = default;

    [[no_unique_address]] allocator_type allocator_;
};

/// What semaphore, permits and waiters share. It knows no executor and may outlive the execution context.
template <class Sharing>
class semaphore_core {
public:
    using permit_type = basic_permit<Sharing>;
    using waiter = semaphore_waiter<Sharing>;

    semaphore_core(std::size_t limit, const semaphore_options& options) noexcept
        : limit_(limit), max_waiting_(options.max_waiting)
    {
    }

    typename Sharing::count owners;
    void destroy() noexcept { delete this; }

    /// Takes n units if that passes nobody by.
    permit_type try_take(std::size_t n) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (closed_ || head_ != nullptr || n > free()) return {};
        return take(n);
    }

    /// Why an acquire of n units can't be queued, if it can't.
    error_code refusal(std::size_t n) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return reason_against(n);
    }

    /// Queues a waiter whose timer is already waiting; it may be granted at once.
    void enqueue(waiter& w) noexcept
    {
        const std::lock_guard lock(mutex_);
        w.refused = reason_against(w.units);
        if (!w.refused && (head_ != nullptr || w.units > free()) && waiting_ >= max_waiting_)
            w.refused = errc::too_many_waiting;
        if (w.refused) {
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
    void leave(waiter& w) noexcept
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
        while (head_ != nullptr)
            refuse(*head_, closed_);
    }

    void set_limit(std::size_t limit) noexcept
    {
        const std::lock_guard lock(mutex_);
        limit_ = limit;
        for (waiter* w = head_; w != nullptr;) {
            waiter& each = *std::exchange(w, w->next);
            if (each.units > limit_) refuse(each, errc::exceeds_limit);
        }
        grant();
    }

    std::size_t limit() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return limit_;
    }

    std::size_t available() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return free();
    }

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
    /// The limit may have been lowered below what is out.
    std::size_t free() const noexcept { return limit_ > in_use_ ? limit_ - in_use_ : 0; }

    error_code reason_against(std::size_t n) const noexcept
    {
        return closed_ ? closed_ : n > limit_ ? error_code(errc::exceeds_limit) : error_code();
    }

    permit_type take(std::size_t n) noexcept
    {
        in_use_ += n;
        return {counted_ptr<semaphore_core>(this), n};
    }

    void unlink(waiter& w) noexcept
    {
        (w.previous != nullptr ? w.previous->next : head_) = w.next;
        (w.next != nullptr ? w.next->previous : tail_) = w.previous;
        w.next = w.previous = nullptr;
        w.queued = false;
        --waiting_;
    }

    void refuse(waiter& w, const error_code& reason) noexcept
    {
        unlink(w);
        w.refused = reason;
        w.wake.cancel();
    }

    /// Serves the queue from its head for as long as the free units suffice: nobody is passed by. The permit
    /// is made here, under the lock, so that there is no moment between being granted and owning it.
    void grant() noexcept
    {
        while (head_ != nullptr && head_->units <= free()) {
            waiter& w = *head_;
            unlink(w);
            w.granted = take(w.units);
            w.wake.cancel();
        }
    }

    mutable typename Sharing::mutex mutex_;
    std::size_t limit_;
    const std::size_t max_waiting_;
    std::size_t in_use_ = 0;
    std::size_t waiting_ = 0;
    waiter* head_ = nullptr;
    waiter* tail_ = nullptr;
    error_code closed_;
};

/// The end of an acquire. No net::async_compose: its operations allocate once more when they complete.
template <class Sharing, class Handler>
class semaphore_completion {
public:
    using executor_type = net::associated_executor_t<Handler, net::any_io_executor>;
    using allocator_type = net::associated_allocator_t<Handler>;
    using cancellation_slot_type = net::associated_cancellation_slot_t<Handler>;

    /// Of an acquire that is settled.
    semaphore_completion(Handler handler, const net::any_io_executor& otherwise, const error_code& result,
                         basic_permit<Sharing> granted)
        : handler_(std::move(handler)), otherwise_(otherwise), granted_(std::move(granted)), result_(result)
    {
    }

    /// Of one that waits.
    semaphore_completion(Handler handler, const net::any_io_executor& otherwise,
                         counted_ptr<semaphore_waiter<Sharing>> waiter)
        : handler_(std::move(handler)), otherwise_(otherwise), waiter_(std::move(waiter))
    {
    }

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_, otherwise_); }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return net::get_associated_cancellation_slot(handler_);
    }

    void operator()(const error_code& = {})
    {
        if (waiter_) {
            waiter_->core->leave(*waiter_);
            granted_ = std::move(waiter_->granted);
            if (!granted_)
                result_ = waiter_->refused ? waiter_->refused : error_code(net::error::operation_aborted);
            if (auto slot = get_cancellation_slot(); slot.is_connected())
                slot.clear(); // what would be cancelled ends here
            waiter_ = {};     // its memory is the handler's
        }
        std::move(handler_)(result_, std::move(granted_));
    }

private:
    Handler handler_;
    net::any_io_executor otherwise_;
    counted_ptr<semaphore_waiter<Sharing>> waiter_;
    basic_permit<Sharing> granted_;
    error_code result_;
};

/// Takes n units for a handler, or has it wait. The semaphore may go meanwhile.
template <class Sharing, class Handler>
void start_acquire(const counted_ptr<semaphore_core<Sharing>>& core, const net::any_io_executor& executor,
                   std::size_t n, Handler handler)
{
    using completion = semaphore_completion<Sharing, Handler>;
    const error_code refused = core->refusal(n);
    basic_permit<Sharing> taken;
    if (!refused) taken = core->try_take(n);
    if (refused || taken || n == 0) {
        net::post(executor, completion(std::move(handler), executor, refused, std::move(taken)));
        return;
    }
    auto allocator = net::get_associated_allocator(handler);
    const auto waiter = allocated_waiter<Sharing, decltype(allocator)>::make(allocator, executor, core, n);
    // The wait begins before the waiter is queued: whoever grants finds an operation to wake.
    waiter->wake.async_wait(completion(std::move(handler), executor, waiter));
    waiter->core->enqueue(*waiter);
}

} // namespace detail

/// A counting semaphore for asynchronous code: at most `limit()` units are out at any time, whatever the
/// load. First come, first served: a large request at the head is not passed by small ones.
///
/// Two of them: `async_semaphore`, all of whose members may be called from any thread at the same time, with
/// one short critical section each; and `unsynchronized_semaphore`, which with its permits belongs to one
/// thread or strand, that of its waiters' handlers, and has neither lock nor atomics of its own.
///
/// Lifetime: permits may outlive it. Destroying it fails the waiters with `errc::semaphore_closed`; the end
/// of the execution context destroys them uncalled, even when the semaphore lives in the coroutine that
/// waits.
///
///     holdfast::async_semaphore uploads{executor, 8};
///     auto turn = co_await uploads.async_acquire();   // at most eight at a time
template <class Sharing>
class basic_async_semaphore {
public:
    using executor_type = net::any_io_executor;
    using permit_type = basic_permit<Sharing>;

    /// Allocates the core that permits and waiters share: the only allocation apart from the waiters' own.
    basic_async_semaphore(executor_type executor, std::size_t limit, const semaphore_options& options = {})
        : executor_(std::move(executor)), core_(new detail::semaphore_core<Sharing>(limit, options))
    {
    }

    basic_async_semaphore(const basic_async_semaphore&) = delete;
    basic_async_semaphore& operator=(const basic_async_semaphore&) = delete;

    ~basic_async_semaphore() { close(); }

    executor_type get_executor() const noexcept { return executor_; }

    /// Waits for `n` units.
    ///
    /// Completion: void(error_code, permit), on the handler's executor, never inside this call.
    /// `errc::semaphore_closed` (or what `close()` was given) once it is closed; `errc::exceeds_limit` for
    /// more than `limit()`, at once or when the limit is lowered below; `errc::too_many_waiting` at once
    /// where `max_waiting` operations wait already. The permit is made at the moment of the grant: when the
    /// handler is destroyed uncalled, its units are returned. Zero units are granted at once.
    ///
    /// Cancellation: terminal, partial and total; `operation_aborted`, and nothing is taken. When a cancelled
    /// head leaves, those behind it go on.
    ///
    /// Cost: nothing of ours when units are free; else one block from the handler's allocator for the waiter,
    /// beside that of Asio's wait, and an entry in Asio's heap of timers, whose array grows to the most that
    /// ever waited at once. Throws std::bad_alloc, with the handler destroyed and nothing taken.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_acquire(std::size_t n = 1, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, permit_type)>(
            initiate_acquire{core_, executor_}, token, n);
    }

    /// Takes `n` units if they are free and nobody waits, else returns an empty permit.
    [[nodiscard]] permit_type try_acquire(std::size_t n = 1) noexcept { return core_->try_take(n); }

    /// Fails all waiters, and all later acquires, with `reason`; of several calls the first one's counts.
    /// Permits that are out stay valid.
    void close(error_code reason = errc::semaphore_closed) noexcept { core_->close(reason); }

    /// Changes the limit from now on. Where more is out than a lower one allows, nobody is granted anything
    /// until enough has come back; waiters that ask for more than it are failed with `errc::exceeds_limit`,
    /// since they would block the queue for good. O(waiters).
    void set_limit(std::size_t limit) noexcept { core_->set_limit(limit); }

    /// How many units there are in all.
    [[nodiscard]] std::size_t limit() const noexcept { return core_->limit(); }
    /// How many units are free: none while more is out than a lowered limit allows.
    [[nodiscard]] std::size_t available() const noexcept { return core_->available(); }
    /// How many units are out.
    [[nodiscard]] std::size_t in_use() const noexcept { return core_->in_use(); }
    /// How many operations wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return core_->waiting(); }

private:
    struct initiate_acquire {
        using executor_type = basic_async_semaphore::executor_type;

        executor_type get_executor() const noexcept { return executor; }

        template <class Handler>
        void operator()(Handler&& handler, std::size_t units) const
        {
            detail::start_acquire(core, executor, units, std::decay_t<Handler>(std::forward<Handler>(handler)));
        }

        detail::counted_ptr<detail::semaphore_core<Sharing>> core;
        executor_type executor;
    };

    executor_type executor_;
    detail::counted_ptr<detail::semaphore_core<Sharing>> core_;
};

/// The semaphore for any thread, and what it hands out.
using async_semaphore = basic_async_semaphore<detail::synchronized>;
using permit = basic_permit<detail::synchronized>;

/// The semaphore of one thread or strand, and what it hands out.
using unsynchronized_semaphore = basic_async_semaphore<detail::unsynchronized>;
using unsynchronized_permit = basic_permit<detail::unsynchronized>;

} // namespace holdfast

#endif
