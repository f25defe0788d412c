// holdfast: the handler of an operation's step, which keeps the user's handler.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_STEP_HANDLER_HPP
#define HOLDFAST_DETAIL_ASYNC_STEP_HANDLER_HPP

#include <holdfast/asio.hpp>

#include <utility>

namespace holdfast::detail {

/// Calls `step(handler, results...)`, with the associated executor, allocator and cancellation slot of the
/// user's handler. Unlike those of net::async_compose before Asio 1.24, it allows handlers that can only be
/// called as rvalues.
template <class Handler, class Step>
class step_handler {
public:
    step_handler(Handler handler, Step step) : handler_(std::move(handler)), step_(std::move(step)) {}

    template <class... Results>
    void operator()(Results&&... results)
    {
        Step step(std::move(step_));
        step(std::move(handler_), std::forward<Results>(results)...);
    }

    [[nodiscard]] const Handler& handler() const noexcept { return handler_; }

private:
    Handler handler_;
    Step step_;
};

/// A step that calls the user's handler, and does nothing else.
struct last_step {
    template <class Handler, class... Results>
    void operator()(Handler&& handler, Results&&... results)
    {
        std::forward<Handler>(handler)(std::forward<Results>(results)...);
    }
};

} // namespace holdfast::detail

template <template <class, class> class Associator, class Handler, class Step, class Candidate>
struct holdfast::net::associator<Associator, holdfast::detail::step_handler<Handler, Step>, Candidate>
    : Associator<Handler, Candidate> {
    static auto get(const holdfast::detail::step_handler<Handler, Step>& h) noexcept
    {
        return Associator<Handler, Candidate>::get(h.handler());
    }
    static auto get(const holdfast::detail::step_handler<Handler, Step>& h, const Candidate& candidate) noexcept
    {
        return Associator<Handler, Candidate>::get(h.handler(), candidate);
    }
};

#endif
