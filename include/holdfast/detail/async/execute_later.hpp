// holdfast: a call in a later turn of an executor.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_EXECUTE_LATER_HPP
#define HOLDFAST_DETAIL_ASYNC_EXECUTE_LATER_HPP

#include <holdfast/asio.hpp>

#include <utility>

namespace holdfast::detail {

/// Calls `function()` on its associated executor (else `fallback`), never inside this call; its memory is of its
/// associated allocator. As `net::post`, which goes through `fallback` also where the function has an executor of its
/// own, and so is compiled for each function twice.
template <class Executor, class Function>
void execute_later(const Executor& fallback, Function&& function)
{
    auto executor = net::get_associated_executor(function, fallback);
    if constexpr (net::execution::is_executor<decltype(executor)>::value &&
                  net::can_require_v<decltype(executor), decltype(net::execution::blocking.never)> &&
                  requires { executor.execute(std::forward<Function>(function)); }) {
        auto allocator = net::get_associated_allocator(function);
        net::prefer(net::require(std::move(executor), net::execution::blocking.never),
                    net::execution::allocator(allocator))
            .execute(std::forward<Function>(function));
    } else { // of the Networking TS, without `blocking.never`, or io_context's own before Asio 1.24
        net::post(fallback, std::forward<Function>(function));
    }
}

} // namespace holdfast::detail

#endif
