// holdfast: async_semaphore, a weighted FIFO semaphore with asynchronous waiting.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ASYNC_SEMAPHORE_HPP
#define HOLDFAST_ASYNC_SEMAPHORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/error.hpp>

#include <concepts>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of a semaphore.
struct semaphore_options {
    /// Maximum number of waiting operations; a further one fails with `errc::too_many_waiting`. SIZE_MAX, the default:
    /// unlimited.
    std::size_t max_waiting = std::numeric_limits<std::size_t>::max();
};

/// A counting semaphore with asynchronous waiting: at most `limit()` units are in use at any time. Units are
/// granted in the order of the requests: a large request at the head of the queue is not passed by small ones.
///
/// `async_semaphore` is for any number of threads. `unsynchronized_semaphore` has neither locks nor atomics.
///
/// Lifetime: permits may outlive the semaphore and its execution context. Destroying the semaphore fails
/// waiting operations with `errc::semaphore_closed`. Destroying the execution context destroys them uncalled,
/// even when the semaphore is a local variable of the coroutine that waits.
///
/// Thread safety: all members of `async_semaphore` and `permit` may be called from any thread; each takes one short
/// lock. An `unsynchronized_semaphore`, its permits and its handlers belong to one thread or strand. Do not wait for an
/// `unsynchronized_semaphore` by `net::use_future`, which takes the result on another thread.
///
///     holdfast::async_semaphore uploads{executor, 8};
///     auto permit = co_await uploads.async_acquire();   // at most eight at a time
template <class Sharing>
class basic_async_semaphore {
public:
    using executor_type = net::any_io_executor;
    using permit_type = basic_permit<Sharing>;

    /// Makes a semaphore of `limit` units.
    ///
    /// Cost: one allocation.
    basic_async_semaphore(executor_type executor, std::size_t limit, const semaphore_options& options = {})
        : executor_(std::move(executor)), core_(new core(limit, options.max_waiting))
    {
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    basic_async_semaphore(ExecutionContext& context, std::size_t limit, const semaphore_options& options = {})
        : basic_async_semaphore(executor_type(context.get_executor()), limit, options)
    {
    }

    basic_async_semaphore(const basic_async_semaphore&) = delete;
    basic_async_semaphore& operator=(const basic_async_semaphore&) = delete;

    /// Closes the semaphore.
    ~basic_async_semaphore() { close(); }

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

    /// Waits for one unit: see the overload with a number.
    template <class CompletionToken = default_token_t<executor_type>>
        requires(net::completion_token_for<CompletionToken, void(error_code, permit_type)> &&
                 !std::is_arithmetic_v<std::remove_cvref_t<CompletionToken>>)
    auto async_acquire(CompletionToken&& token = CompletionToken())
    {
        return async_acquire(1, std::forward<CompletionToken>(token));
    }

    /// Waits for `n` units. Zero units are granted at once.
    ///
    /// Completion: void(error_code, permit_type), never inside this call. On failure the permit is empty:
    /// - `errc::semaphore_closed`, or the error that `close()` was called with: the semaphore is closed;
    /// - `errc::exceeds_limit`: `n` exceeds `limit()`, or the limit was lowered below `n`;
    /// - `errc::too_many_waiting`: `max_waiting` operations wait already.
    ///
    /// Units that were granted are returned when the handler is destroyed without being called.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`. Requests after it in the queue are
    /// then granted if enough units are free for them. It takes effect when the completion runs: until then the
    /// operation counts as waiting, and succeeds if its units become free.
    ///
    /// Exceptions: std::bad_alloc; the handler is then destroyed, and nothing was taken.
    ///
    /// Cost: when units are free, one posted completion. Else one allocation by the handler's allocator for the
    /// request, one for Asio's wait, and an entry in the timer queue of the execution context.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, permit_type)>
    auto async_acquire(std::size_t n, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, permit_type)>(initiate_acquire(*this), token, n);
    }

    /// Takes `n` units if they are free and no operation waits. Otherwise, and after `close()`, returns an empty
    /// permit.
    [[nodiscard]] permit_type try_acquire(std::size_t n = 1) noexcept { return core_->try_take(n); }

    /// Fails all waiting operations, and all later ones, with `reason`. Only the first call has an effect.
    /// Permits stay valid.
    void close(error_code reason = errc::semaphore_closed) noexcept { core_->close(reason); }

    /// Changes the limit. When more units are in use than a lower limit allows, none is granted until enough
    /// have been returned. Waiting operations that request more than the limit fail with `errc::exceeds_limit`.
    ///
    /// Cost: O(waiting operations).
    void set_limit(std::size_t limit) noexcept { core_->set_limit(limit); }

    /// The number of units.
    [[nodiscard]] std::size_t limit() const noexcept { return core_->limit(); }
    /// The number of free units.
    [[nodiscard]] std::size_t available() const noexcept { return core_->available(); }
    /// The number of units that permits hold. It exceeds the limit after `set_limit()` has lowered that.
    [[nodiscard]] std::size_t in_use() const noexcept { return core_->in_use(); }
    /// The number of waiting operations.
    [[nodiscard]] std::size_t waiting() const noexcept { return core_->waiting(); }

private:
    friend struct detail::semaphore_access;
    using core = detail::semaphore_core<Sharing>;

    class initiate_acquire {
    public:
        using executor_type = basic_async_semaphore::executor_type;

        explicit initiate_acquire(const basic_async_semaphore& semaphore)
            : core_(semaphore.core_), executor_(semaphore.executor_)
        {
        }

        [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

        template <class Handler>
        void operator()(Handler&& handler, std::size_t n) const
        {
            detail::start_acquire(core_, executor_, n, std::decay_t<Handler>(std::forward<Handler>(handler)));
        }

    private:
        detail::counted_ptr<core> core_; // a deferred operation may be started after the semaphore has gone
        executor_type executor_;
    };

    executor_type executor_;
    detail::counted_ptr<core> core_;
};

/// Units of a semaphore, which are returned when the permit is destroyed. An empty or moved-from permit holds
/// none. It may outlive the semaphore. Its size is two words.
template <class Sharing>
class [[nodiscard]] basic_permit {
public:
    /// Holds no units.
    basic_permit() noexcept = default;

    basic_permit(basic_permit&& other) noexcept : core_(std::move(other.core_)), units_(std::exchange(other.units_, 0))
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

    [[gnu::always_inline]] ~basic_permit() { release(); }

    /// Returns the units, which completes the waiting operations that they suffice for. No handler is called
    /// inside this call.
    ///
    /// Cost: allocates nothing; O(log waiting operations) for each operation that it completes.
    void release() noexcept
    {
        if (units_ != 0) give_back();
    }

    /// Moves `n` of the units into a permit of their own. When it holds fewer, nothing changes and the result is
    /// empty.
    [[nodiscard]] basic_permit split(std::size_t n) noexcept
    {
        if (n == 0 || n > units_) return {};
        if (n == units_) return std::move(*this);
        units_ -= n;
        return {core_, n};
    }

    /// Takes over the units of `other`, as the inverse of `split()`. Returns false, and changes nothing, when they
    /// belong to another semaphore.
    bool merge(basic_permit& other) noexcept
    {
        if (this == &other || !other) return true;
        if (*this && core_.get() != other.core_.get()) return false;
        units_ += std::exchange(other.units_, 0);
        core_ = std::move(other.core_);
        return true;
    }

    /// The number of units.
    [[nodiscard]] std::size_t units() const noexcept { return units_; }

    /// Whether it holds any units.
    explicit operator bool() const noexcept { return units_ != 0; }

private:
    friend class detail::semaphore_core<Sharing>;
    using core_ptr = detail::counted_ptr<detail::semaphore_core<Sharing>>;
    basic_permit(core_ptr core, std::size_t units) noexcept : core_(std::move(core)), units_(units) {}

    void give_back() noexcept { std::exchange(core_, {})->give_back(std::exchange(units_, 0)); }

    core_ptr core_;
    std::size_t units_ = 0;
};

/// The semaphore for any number of threads, and its permit.
using async_semaphore = basic_async_semaphore<detail::synchronized>;
using permit = basic_permit<detail::synchronized>;

/// The semaphore for one thread or strand, and its permit.
using unsynchronized_semaphore = basic_async_semaphore<detail::unsynchronized>;
using unsynchronized_permit = basic_permit<detail::unsynchronized>;

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template class basic_permit<detail::synchronized>;
extern template class detail::semaphore_waiter<detail::synchronized>;
extern template class detail::semaphore_core<detail::synchronized>;
#endif

} // namespace holdfast

#endif
