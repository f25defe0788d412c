// holdfast: the completion of an operation whose result is known when it is initiated.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_AT_ONCE_HPP
#define HOLDFAST_DETAIL_ASYNC_AT_ONCE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/execute_later.hpp>

#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// Completes an operation that need not wait: on the immediate executor that is associated with its handler (Asio 1.27 and
/// newer), which may be inside the initiating function; without one after it, as `execute_later`. Made before the handler is
/// moved into the function that `complete` is given. Refers to `fallback`.
template <class Handler, class Executor>
class at_once {
public:
    at_once([[maybe_unused]] const Handler& handler, const Executor& fallback)
        : fallback_(fallback)
#if defined(HOLDFAST_HAS_IMMEDIATE_EXECUTORS)
          ,
          immediate_(net::get_associated_immediate_executor(handler, fallback)),
          own_(net::get_associated_executor(handler, immediate_))
#endif
    {
    }

    template <class Function>
    void complete(Function&& function) const
    {
#if defined(HOLDFAST_HAS_IMMEDIATE_EXECUTORS)
        if (has_immediate_executor()) {
            net::dispatch(immediate_, net::bind_executor(own_, std::forward<Function>(function)));
            return;
        }
#endif
        execute_later(fallback_, std::forward<Function>(function));
    }

private:
    const Executor& fallback_;
#if defined(HOLDFAST_HAS_IMMEDIATE_EXECUTORS)
    using immediate_executor = net::associated_immediate_executor_t<Handler, Executor>;

    /// Whether it is not the one that any handler has.
    bool has_immediate_executor() const
    {
        struct any_handler {};
        using usual = net::associated_immediate_executor_t<any_handler, Executor>;
        if constexpr (std::is_same_v<immediate_executor, usual>)
            return immediate_ != net::get_associated_immediate_executor(any_handler(), fallback_);
        else
            return true;
    }

    immediate_executor immediate_;
    net::associated_executor_t<Handler, immediate_executor> own_; // the handler's own; else the immediate one
#endif
};

} // namespace holdfast::detail

#endif
