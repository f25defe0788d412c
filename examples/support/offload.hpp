// holdfast: async_offload, a computation on a thread of a pool as an operation of Asio's.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_OFFLOAD_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_OFFLOAD_HPP

#include <holdfast/asio.hpp>

#include <exception>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace examples {

/// Calls `work(std::stop_token)` on a thread of the pool. The result must be default-constructible. (With
/// g++ 12 a lambda that owns something must be named first: made inside a co_await expression it is destroyed
/// twice.)
///
/// Completion: void(std::exception_ptr, result), on the handler's own executor, never inside this call: what
/// `work` has returned or thrown.
///
/// Cancellation: terminal, partial and total request the stop, and the operation completes when `work` has
/// returned, which should be soon. So whatever `work` refers to need only outlive the operation.
///
///     const auto size = co_await async_offload(pool, [&](std::stop_token stop) { return scale(image, stop);
///     });
template <class Work, class CompletionToken = holdfast::net::use_awaitable_t<>>
auto async_offload(holdfast::net::thread_pool& pool, Work work, CompletionToken&& token = CompletionToken())
{
    namespace net = holdfast::net;
    using result_type = std::invoke_result_t<Work&, std::stop_token>;
    return net::async_initiate<CompletionToken, void(std::exception_ptr, result_type)>(
        [&pool](auto handler, Work&& calculate) {
            std::stop_source stop;
            if (auto slot = net::get_associated_cancellation_slot(handler); slot.is_connected())
                slot.assign([stop](net::cancellation_type) mutable { stop.request_stop(); });
            auto home = net::make_work_guard(handler); // its context must not run out of work meanwhile
            net::post(pool, [handler = std::move(handler), home = std::move(home), calculate = std::move(calculate),
                             stop]() mutable {
                std::exception_ptr failure;
                result_type result{};
                try {
                    result = calculate(stop.get_token());
                } catch (...) {
                    failure = std::current_exception();
                }
                net::post(home.get_executor(),
                          [handler = std::move(handler), failure, result = std::move(result)]() mutable {
                              std::move(handler)(std::move(failure), std::move(result));
                          });
            });
        },
        token, std::move(work));
}

} // namespace examples

#endif
