// holdfast: the completion of an operation whose result is known when it is initiated.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_AT_ONCE_HPP
#define HOLDFAST_DETAIL_ASYNC_AT_ONCE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/execute_later.hpp>

#include <utility>

namespace holdfast::detail {

/// Completes an operation that need not wait: on the immediate executor that is associated with its handler (Asio 1.27 and
/// newer), which may be inside the initiating function; without one after it, as `execute_later`. Made before the handler is
/// moved into the function that `complete` is given. Refers to `fallback`.
template <class Handler, class Executor>
class at_once {
public:
    at_once(const Handler&, const Executor& fallback) : fallback_(fallback) {}

    template <class Function>
    void complete(Function&& function) const
    {
        execute_later(fallback_, std::forward<Function>(function));
    }

private:
    const Executor& fallback_;
};

#if defined(HOLDFAST_HAS_IMMEDIATE_EXECUTORS)

/// Whether a handler has an immediate executor of its own. Asked by type, as Asio itself does: the executor that Asio gives
/// to any handler is made by a function that must not throw, and may allocate.
template <class Handler, class Executor>
concept has_immediate_executor = !requires {
    typename net::associated_immediate_executor<Handler, Executor>::asio_associated_immediate_executor_is_unspecialised;
};

template <class Handler, class Executor>
    requires has_immediate_executor<Handler, Executor>
class at_once<Handler, Executor> {
public:
    at_once(const Handler& handler, const Executor& fallback)
        : immediate_(net::get_associated_immediate_executor(handler, fallback)),
          own_(net::get_associated_executor(handler, immediate_))
    {
    }

    template <class Function>
    void complete(Function&& function) const
    {
        net::dispatch(immediate_, net::bind_executor(own_, std::forward<Function>(function)));
    }

private:
    using immediate_executor = net::associated_immediate_executor_t<Handler, Executor>;

    immediate_executor immediate_;
    net::associated_executor_t<Handler, immediate_executor> own_; // the handler's own; else the immediate one
};

#endif

} // namespace holdfast::detail

#endif
