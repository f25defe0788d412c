// holdfast: whether an execution context is being destroyed, with the operations that wait in it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_CONTEXT_SHUTDOWN_HPP
#define HOLDFAST_DETAIL_ASYNC_CONTEXT_SHUTDOWN_HPP

#include <holdfast/asio.hpp>

#include <atomic>
#include <chrono>
#include <exception>

namespace holdfast::detail {

/// A service that notes the shutdown of its execution context, in which the context destroys the operations that wait
/// in it. Services are shut down in the reverse order of their creation: this one must be younger than those that
/// sessions wait in.
class context_shutdown final : public net::execution_context::service {
public:
    using key_type = context_shutdown;
    static inline net::execution_context::id id;

    explicit context_shutdown(net::execution_context& context) : service(context) {}

    [[nodiscard]] bool begun() const noexcept { return begun_.load(std::memory_order_relaxed); }

private:
    void shutdown() noexcept override { begun_.store(true, std::memory_order_relaxed); }

    std::atomic<bool> begun_ = false;
};

/// Creates the service in the context of `executor`, after those of sockets (a socket exists already), timers of both
/// clocks and strands. A channel's service that is used for the first time after the context's first connection is
/// younger: a handler that waits in it is destroyed before this one notices. (Signal sets and coroutines go to the
/// context, which destroys them last.) Where memory is exhausted, only the reason is lost.
template <class Executor>
void expect_context_shutdown(const Executor& executor) noexcept
{
    try {
        net::execution_context& context = net::query(executor, net::execution::context);
        if (net::has_service<context_shutdown>(context)) return;
        const net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>,
                                        Executor>
            steady(executor);
        const net::basic_waitable_timer<std::chrono::system_clock, net::wait_traits<std::chrono::system_clock>,
                                        Executor>
            system(executor);
        // Not through a strand: that of Asio 1.22 reads what it has not set where it finds no memory.
        net::use_service<net::detail::strand_executor_service>(context);
        net::use_service<context_shutdown>(context);
    } catch (const std::exception&) {
    }
}

/// Whether the context of `executor` is being destroyed.
template <class Executor>
bool context_is_ending(const Executor& executor) noexcept
{
    try {
        net::execution_context& context = net::query(executor, net::execution::context);
        return net::has_service<context_shutdown>(context) && net::use_service<context_shutdown>(context).begun();
    } catch (const std::exception&) {
        return false;
    }
}

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template void expect_context_shutdown(const net::any_io_executor&) noexcept;
extern template bool context_is_ending(const net::any_io_executor&) noexcept;
#endif

} // namespace holdfast::detail

#endif
