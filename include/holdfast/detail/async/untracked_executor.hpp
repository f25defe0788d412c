// holdfast: the executor of an execution context itself, for objects that live as long as the context.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_UNTRACKED_EXECUTOR_HPP
#define HOLDFAST_DETAIL_ASYNC_UNTRACKED_EXECUTOR_HPP

#include <holdfast/asio.hpp>

#include <typeinfo>

namespace holdfast::detail {

/// The executor below a strand, where it is known; never one that keeps the context's `run()` from returning.
template <class Executor>
net::any_io_executor untracked_executor(const Executor& executor)
{
    if constexpr (requires { executor.get_inner_executor(); })
        return untracked_executor(executor.get_inner_executor());
    else
        return net::any_io_executor(net::prefer(executor, net::execution::outstanding_work.untracked));
}

/// The executor in an any_io_executor where it is a T, else null. Asio 1.22's target() does not compare the types.
template <class T>
const T* target_of(const net::any_io_executor& executor) noexcept
{
    return executor.target_type() == typeid(T) ? executor.target<T>() : nullptr;
}

inline net::any_io_executor untracked_executor(const net::any_io_executor& executor)
{
    using io_context_executor = net::io_context::executor_type;
    using pool_executor = net::thread_pool::executor_type;
    if (const auto* strand = target_of<net::strand<net::any_io_executor>>(executor))
        return untracked_executor(strand->get_inner_executor());
    if (const auto* strand = target_of<net::strand<io_context_executor>>(executor)) return strand->get_inner_executor();
    if (const auto* strand = target_of<net::strand<pool_executor>>(executor)) return strand->get_inner_executor();
    return net::prefer(executor, net::execution::outstanding_work.untracked);
}

} // namespace holdfast::detail

#endif
