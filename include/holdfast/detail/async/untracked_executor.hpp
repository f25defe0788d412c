// holdfast: the executor of an execution context itself, for objects that live as long as the context.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_UNTRACKED_EXECUTOR_HPP
#define HOLDFAST_DETAIL_ASYNC_UNTRACKED_EXECUTOR_HPP

#include <holdfast/asio.hpp>

#include <concepts>
#include <typeinfo>

namespace holdfast::detail {

template <std::same_as<net::any_io_executor> Executor>
net::any_io_executor untracked_executor(const Executor& executor);

/// The executor below a strand, where it is known; never one that keeps the context's `run()` from returning.
template <class Executor>
net::any_io_executor untracked_executor(const Executor& executor)
{
    if constexpr (requires { executor.get_inner_executor(); })
        return untracked_executor(executor.get_inner_executor());
    else
        return net::any_io_executor(net::prefer(executor, net::execution::outstanding_work.untracked));
}

/// The strand of type S that `executor` holds, or nullptr. (Asio 1.22's `target()` does not look at the type.)
template <class S>
const S* held_strand(const net::any_io_executor& executor) noexcept
{
    return executor && executor.target_type() == typeid(S) ? executor.target<S>() : nullptr;
}

/// The same, as a template so that a program that does not use it does not compile it. Of a type-erased strand that is
/// not known here, the strand itself.
template <std::same_as<net::any_io_executor> Executor>
net::any_io_executor untracked_executor(const Executor& executor)
{
    if (const auto* strand = held_strand<net::strand<net::any_io_executor>>(executor))
        return untracked_executor(strand->get_inner_executor());
    if (const auto* strand = held_strand<net::strand<net::io_context::executor_type>>(executor))
        return strand->get_inner_executor();
    return net::prefer(executor, net::execution::outstanding_work.untracked);
}

} // namespace holdfast::detail

#endif
