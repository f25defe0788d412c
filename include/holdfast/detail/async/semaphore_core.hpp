// holdfast: what a semaphore, its permits and its waiting operations share.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_SEMAPHORE_CORE_HPP
#define HOLDFAST_DETAIL_ASYNC_SEMAPHORE_CORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/waiter.hpp>
#include <holdfast/error.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

namespace holdfast {

template <class Sharing>
class basic_permit;

namespace detail {

/// What other parts of the library share of a semaphore.
struct semaphore_access {
    template <class Semaphore>
    static auto core(const Semaphore& semaphore) noexcept
    {
        return semaphore.core_;
    }
};

template <class Sharing>
class semaphore_core;
template <class Sharing>
class semaphore_claim;

/// A pending acquire.
template <class Sharing>
class semaphore_waiter : public waiter<Sharing> {
public:
    using permit_type = basic_permit<Sharing>;

    semaphore_waiter(const net::any_io_executor& executor, const counted_ptr<semaphore_core<Sharing>>& core,
                     std::size_t units)
        : waiter<Sharing>(executor), core_(core), units_(units)
    {
    }

    void leave() noexcept { core_->leave(*this); }

    std::tuple<error_code, permit_type> results() noexcept
    {
        if (granted_) return {error_code(), std::move(granted_)};
        return {refused_ ? refused_ : error_code(net::error::operation_aborted), permit_type()};
    }

protected:
    ~semaphore_waiter() { leave(); }

private:
    friend class semaphore_core<Sharing>;

    const counted_ptr<semaphore_core<Sharing>> core_;
    const std::size_t units_;
    permit_type granted_; // under the lock until it is out of the queue
    error_code refused_;
    semaphore_claim<Sharing>* claim_ = nullptr;
};

/// It knows no executor, and may outlive the execution context.
template <class Sharing>
class semaphore_core {
public:
    using permit_type = basic_permit<Sharing>;
    using waiter_type = semaphore_waiter<Sharing>;

    semaphore_core(std::size_t limit, std::size_t max_waiting) noexcept : limit_(limit), max_waiting_(max_waiting) {}

    typename Sharing::count owners;
    void destroy() noexcept { delete this; }

    /// Takes n units if they are free and no operation waits.
    permit_type try_take(std::size_t n) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (closed_ || !queue_.empty() || n > free()) return {};
        return take(n);
    }

    /// Why an acquire of n units is refused, if it is.
    error_code refusal(std::size_t n) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return reason_against(n);
    }

    /// Queues an operation whose wait has begun; it may be granted or refused at once.
    void enqueue(waiter_type& w, semaphore_claim<Sharing>* claim) noexcept
    {
        const std::lock_guard lock(mutex_);
        w.refused_ = reason_against(w.units_);
        if (!w.refused_ && (!queue_.empty() || w.units_ > free()) && waiting_ >= max_waiting_)
            w.refused_ = errc::too_many_waiting;
        if (w.refused_) {
            w.wake();
            return;
        }
        queue_.push_back(w);
        ++waiting_;
        w.claim_ = claim;
        if (claim != nullptr) claim->waiting_ = &w;
        grant();
    }

    /// Takes an operation out of the queue, if it is still there; those after it may have waited for that.
    void leave(waiter_type& w) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (!w.linked()) return;
        unlink(w);
        grant();
    }

    void cancel(semaphore_claim<Sharing>& claim) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (claim.waiting_ == nullptr) return;
        refuse(*claim.waiting_, net::error::operation_aborted);
        grant();
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
        while (!queue_.empty())
            refuse(queue_.front(), closed_);
    }

    void set_limit(std::size_t limit) noexcept
    {
        const std::lock_guard lock(mutex_);
        limit_ = limit;
        queue_.for_each([&](waiter_type& w) {
            if (w.units_ > limit_) refuse(w, errc::exceeds_limit);
        });
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

    /// The object that the users of the semaphore share, and own: made where there is none. Of one type for each
    /// semaphore.
    template <class T>
    std::shared_ptr<T> shared()
    {
        const std::lock_guard lock(mutex_);
        auto object = std::static_pointer_cast<T>(shared_.lock());
        if (!object) shared_ = object = std::make_shared<T>();
        return object;
    }

private:
    /// The limit may have been lowered below the units in use.
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

    void unlink(waiter_type& w) noexcept
    {
        w.unlink();
        --waiting_;
        if (semaphore_claim<Sharing>* const claim = std::exchange(w.claim_, nullptr)) claim->waiting_ = nullptr;
    }

    void refuse(waiter_type& w, const error_code& reason) noexcept
    {
        unlink(w);
        w.refused_ = reason;
        w.wake();
    }

    /// Serves the queue in order for as long as the free units suffice. The permit is made under the lock, so
    /// that there is no moment between being granted and owning it.
    void grant() noexcept
    {
        while (!queue_.empty() && queue_.front().units_ <= free()) {
            waiter_type& w = queue_.front();
            unlink(w);
            w.granted_ = take(w.units_);
            w.wake();
        }
    }

    mutable typename Sharing::mutex mutex_;
    std::weak_ptr<void> shared_;
    std::size_t limit_;
    const std::size_t max_waiting_;
    std::size_t in_use_ = 0;
    std::size_t waiting_ = 0;
    intrusive_list<waiter_type> queue_;
    error_code closed_;
};

/// As `start_acquire`, for a caller that has found no units: what it need not wait for goes through the queue as well.
template <class Sharing, class Handler>
void queue_acquire(const counted_ptr<semaphore_core<Sharing>>& core, const net::any_io_executor& executor,
                   std::size_t n, Handler handler, semaphore_claim<Sharing>* claim = nullptr)
{
    const auto keep = core; // NOLINT(performance-unnecessary-copy-initialization): the handler may own what `core` is
    const auto waiting = begin_wait<semaphore_waiter<Sharing>>(executor, std::move(handler), keep, n);
    keep->enqueue(*waiting, claim);
}

/// Acquires n units for a handler `void(error_code, permit)`. The semaphore object may be destroyed meanwhile.
template <class Sharing, class Handler>
void start_acquire(const counted_ptr<semaphore_core<Sharing>>& core, const net::any_io_executor& executor,
                   std::size_t n, Handler handler, semaphore_claim<Sharing>* claim = nullptr)
{
    const error_code refused = core->refusal(n);
    basic_permit<Sharing> taken;
    if (!refused) taken = core->try_take(n);
    if (refused || taken || n == 0) return complete_at_once(executor, std::move(handler), refused, std::move(taken));
    queue_acquire(core, executor, n, std::move(handler), claim);
}

/// A place for one acquire at a time of an owner that cancels it from other threads than the handler's,
/// where a cancellation slot must not be used. It keeps the semaphore's core, not the semaphore, which may be
/// destroyed first: the acquire then fails with `semaphore_closed`.
template <class Sharing>
class semaphore_claim {
public:
    explicit semaphore_claim(counted_ptr<semaphore_core<Sharing>> core) noexcept : core_(std::move(core)) {}
    semaphore_claim(const semaphore_claim&) = delete;
    semaphore_claim& operator=(const semaphore_claim&) = delete;
    ~semaphore_claim() { cancel(); }

    [[nodiscard]] basic_permit<Sharing> try_acquire(std::size_t n = 1) noexcept { return core_->try_take(n); }

    /// Precondition: no acquire is pending.
    template <class Handler>
    void async_acquire(const net::any_io_executor& executor, std::size_t n, Handler handler)
    {
        start_acquire(core_, executor, n, std::move(handler), this);
    }

    /// Ends a pending acquire with `operation_aborted`.
    void cancel() noexcept { core_->cancel(*this); }

private:
    friend class semaphore_core<Sharing>;

    const counted_ptr<semaphore_core<Sharing>> core_;
    semaphore_waiter<Sharing>* waiting_ = nullptr; // under the core's lock
};

} // namespace detail
} // namespace holdfast

#endif
