// holdfast: operations that wait until another part of the program completes them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_WAITER_HPP
#define HOLDFAST_DETAIL_ASYNC_WAITER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/at_once.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>

#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <tuple>
#include <utility>

namespace holdfast::detail {

/// A wait that ends when `wake()` is called, when it is cancelled, or at a deadline, if it has one.
///
/// It is a wait on a timer, which without a deadline never expires: the memory for completing is set aside when the
/// wait begins, so that waking allocates nothing; and as it belongs to Asio's timer service, the end of the execution
/// context destroys its handler uncalled.
class wait_point {
public:
    using time_point = std::chrono::steady_clock::time_point;

    explicit wait_point(const net::any_io_executor& executor, time_point deadline = time_point::max())
        : timer_(executor, deadline)
    {
    }

    template <class Handler>
    void async_wait(Handler&& handler)
    {
        timer_.async_wait(std::forward<Handler>(handler));
    }

    /// Completes the wait. Not together with another call for the same object.
    void wake() noexcept { timer_.cancel(); }

private:
    net::steady_timer timer_;
};

/// The base of a pending operation that is in a list of waiting operations. `Sharing` is `synchronized` or
/// `unsynchronized`. A derived class W adds
///
/// - `void leave() noexcept`, which takes it out of the list if it is still there; under the list's lock, so
///   that the thread that wakes it has finished with it;
/// - `results()`, which returns the arguments of the completion handler as a tuple. Called after `leave()`.
template <class Sharing>
class waiter : public list_hook {
public:
    using sharing = Sharing;

    virtual void destroy() noexcept = 0; // by the last owner

    /// Under the list's lock.
    void wake() noexcept { wait_.wake(); }

    template <class Handler>
    void async_wait(Handler&& handler)
    {
        wait_.async_wait(std::forward<Handler>(handler));
    }

    typename Sharing::count owners;

protected:
    explicit waiter(const net::any_io_executor& executor,
                    wait_point::time_point deadline = wait_point::time_point::max())
        : wait_(executor, deadline)
    {
    }
    ~waiter() = default;

private:
    wait_point wait_;
};

/// A waiter of type W in memory of the handler's allocator.
template <class W, class Allocator>
class allocated_waiter final : public W {
    using traits = typename std::allocator_traits<Allocator>::template rebind_traits<allocated_waiter>;
    using allocator_type = typename traits::allocator_type;

public:
    template <class... Args>
    static counted_ptr<W> make(const Allocator& from, Args&&... args)
    {
        allocator_type allocator(from);
        allocated_waiter* const memory = traits::allocate(allocator, 1);
        try {
            return counted_ptr<W>(::new (static_cast<void*>(memory))
                                      allocated_waiter(allocator, std::forward<Args>(args)...));
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
        : W(std::forward<Args>(args)...), allocator_(allocator)
    {
    }
    ~allocated_waiter() = default;

    [[no_unique_address]] allocator_type allocator_;
};

/// The completion of a waiter of type W: calls the handler with the waiter's results.
template <class W, class Handler>
class wait_completion {
public:
    using executor_type = net::associated_executor_t<Handler, net::any_io_executor>;
    using allocator_type = net::associated_allocator_t<Handler>;
    using cancellation_slot_type = net::associated_cancellation_slot_t<Handler>;

    wait_completion(Handler&& handler, const net::any_io_executor& fallback, counted_ptr<W> waiting)
        : handler_(std::move(handler)), fallback_(fallback), waiter_(std::move(waiting))
    {
    }

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_, fallback_); }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return net::get_associated_cancellation_slot(handler_);
    }

    void operator()(const error_code&)
    {
        waiter_->leave();
        auto results = waiter_->results();
        if (auto slot = get_cancellation_slot(); slot.is_connected()) slot.clear(); // it would reach no one
        // The waiter's memory is the handler's, and is returned before the handler is called. On another
        // thread the initiating function may be about to return.
        while (!waiter_->owners.sole())
            std::this_thread::yield();
        waiter_ = {};
        std::apply(std::move(handler_), std::move(results));
    }

private:
    Handler handler_;
    net::any_io_executor fallback_;
    counted_ptr<W> waiter_;
};

/// Makes a waiter W(executor, args...) and begins its wait. The caller puts it into its list then, and does
/// not keep it: a wait that has begun can be woken.
template <class W, class Handler, class... Args>
counted_ptr<W> begin_wait(const net::any_io_executor& executor, Handler&& handler, Args&&... args)
{
    auto allocator = net::get_associated_allocator(handler);
    auto slot = net::get_associated_cancellation_slot(handler);
    auto waiting = allocated_waiter<W, decltype(allocator)>::make(allocator, executor, std::forward<Args>(args)...);
    try {
        waiting->async_wait(wait_completion<W, Handler>(std::move(handler), executor, waiting));
    } catch (...) { // Asio may have put a handler into the slot that refers to the waiter
        if (slot.is_connected()) slot.clear();
        throw;
    }
    return waiting;
}

/// A handler together with its results.
template <class Handler, class... Results>
class settled_completion {
public:
    using executor_type = net::associated_executor_t<Handler, net::any_io_executor>;
    using allocator_type = net::associated_allocator_t<Handler>;
    using cancellation_slot_type = net::associated_cancellation_slot_t<Handler>;

    settled_completion(Handler&& handler, const net::any_io_executor& fallback, Results&&... results)
        : handler_(std::move(handler)), fallback_(fallback), results_(std::move(results)...)
    {
    }

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_, fallback_); }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return net::get_associated_cancellation_slot(handler_);
    }

    void operator()() { std::apply(std::move(handler_), std::move(results_)); }

private:
    Handler handler_;
    net::any_io_executor fallback_;
    std::tuple<Results...> results_;
};

/// Completes an operation whose results are known when it is initiated: see `at_once`.
template <class Handler, class... Results>
void complete_at_once(const net::any_io_executor& executor, Handler handler, Results... results)
{
    const at_once how(handler, executor);
    how.complete(settled_completion<Handler, Results...>(std::move(handler), executor, std::move(results)...));
}

} // namespace holdfast::detail

#endif
