// holdfast: async_event, a signal that asynchronous operations wait for.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ASYNC_EVENT_HPP
#define HOLDFAST_ASYNC_EVENT_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/event_core.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace holdfast {

/// What ends the set state of an event.
enum class event_reset {
    /// `reset()`: until then every wait completes.
    manual,
    /// The first wait that completes: each `set()` completes one wait.
    automatic,
};

/// Options of an event.
struct event_options {
    /// What ends the set state.
    event_reset reset = event_reset::manual;
    /// Whether the event is set at first.
    bool set = false;
};

/// A signal with asynchronous waiting, in place of a timer that never expires and is cancelled. Waits complete
/// in the order in which they began.
///
/// `async_event` is for any number of threads. `unsynchronized_event` has neither locks nor atomics.
///
/// Lifetime: destroying the event fails waiting operations with `operation_aborted`. Destroying the execution
/// context destroys them uncalled, even when the event is a local variable of the coroutine that waits.
///
/// Thread safety: all members of `async_event` may be called from any thread; each takes one short lock. An
/// `unsynchronized_event` and its handlers belong to one thread or strand. Do not wait for an `unsynchronized_event` by
/// `net::use_future`, which takes the result on another thread.
///
///     holdfast::async_event news{executor};
///     co_await news.async_wait();   // in each reader
///     news.notify_all();            // completes all of them
template <class Sharing>
class basic_async_event {
public:
    using executor_type = net::any_io_executor;

    /// Makes an event.
    ///
    /// Cost: one allocation.
    explicit basic_async_event(executor_type executor, const event_options& options = {})
        : executor_(std::move(executor)), core_(new core(options.reset == event_reset::automatic, options.set))
    {
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    explicit basic_async_event(ExecutionContext& context, const event_options& options = {})
        : basic_async_event(executor_type(context.get_executor()), options)
    {
    }

    basic_async_event(const basic_async_event&) = delete;
    basic_async_event& operator=(const basic_async_event&) = delete;

    /// Fails waiting operations with `operation_aborted`.
    ~basic_async_event() { core_->close(); }

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

    /// Waits until the event is set, or `notify_all()` is called.
    ///
    /// Completion: void(error_code), never inside this call. When the event is set already, the completion is posted at
    /// once.
    ///
    /// Where the handler is destroyed without being called, the signal of an automatic event passes to the next wait.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`. It takes effect when the completion
    /// runs: until then the operation counts as waiting, and a `set()` or `notify_all()` completes it with success.
    ///
    /// Exceptions: std::bad_alloc; the handler is then destroyed.
    ///
    /// Cost: one allocation by the handler's allocator, one for Asio's wait, and an entry in the timer queue of
    /// the execution context.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code)>
    auto async_wait(CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_wait(*this), token);
    }

    /// Sets the event. A manual event completes all waiting operations, and stays set. An automatic one completes
    /// the first; when none waits it stays set for the next. No handler is called inside this call.
    ///
    /// Cost: allocates nothing; O(log waiting operations) for each operation that it completes.
    void set() noexcept { core_->set(); }

    /// Ends the set state. Operations that `set()` completes are not affected.
    void reset() noexcept { core_->reset(); }

    /// Completes all operations that wait now, without changing the state. No handler is called inside this call.
    void notify_all() noexcept { core_->notify_all(); }

    /// Returns whether the event is set: the next wait completes at once.
    [[nodiscard]] bool is_set() const noexcept { return core_->is_set(); }

    /// Returns the number of waiting operations.
    [[nodiscard]] std::size_t waiting() const noexcept { return core_->waiting(); }

private:
    using core = detail::event_core<Sharing>;

    class initiate_wait {
    public:
        using executor_type = basic_async_event::executor_type;

        explicit initiate_wait(const basic_async_event& event) : core_(event.core_), executor_(event.executor_) {}

        [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

        template <class Handler>
        void operator()(Handler&& handler) const
        {
            detail::start_wait(core_, executor_, std::decay_t<Handler>(std::forward<Handler>(handler)));
        }

    private:
        detail::counted_ptr<core> core_; // a deferred operation may be started after the event has gone
        executor_type executor_;
    };

    executor_type executor_;
    detail::counted_ptr<core> core_;
};

/// The event for any number of threads.
using async_event = basic_async_event<detail::synchronized>;

/// The event for one thread or strand.
using unsynchronized_event = basic_async_event<detail::unsynchronized>;

} // namespace holdfast

#endif
