// holdfast: drain_at_signal, which ends a server in order when the process gets SIGINT or SIGTERM.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_DRAIN_AT_SIGNAL_HPP
#define HOLDFAST_SERVER_DRAIN_AT_SIGNAL_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/acceptor_settings.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace holdfast {

/// Options of `drain_at_signal`. The callbacks may be empty, run on the acceptor's executor and must not throw.
struct drain_at_signal_options {
    /// Of the acceptor's `async_drain`.
    drain_options drain{};
    /// The time between the signal and the beginning of the drain, in which the server continues to accept, so that
    /// the health checks of a load balancer detect the drain before a connection is refused. Must not be
    /// negative. The maximum: the drain never begins.
    std::chrono::steady_clock::duration notice = std::chrono::steady_clock::duration::zero();
    /// Called at the first SIGINT or SIGTERM, before the notice and the drain.
    std::function<void()> on_signal{};
    /// Called when the drain is over, with the number of connections that were reset.
    std::function<void(std::size_t)> on_drained{};
    /// Called at each SIGUSR1, for example to log the census. Empty: that signal is left as it is.
    std::function<void()> on_report{};
    /// Called at each SIGHUP, for example to read certificates again. Empty: that signal is left as it is.
    std::function<void()> on_reload{};
};

/// Waits for SIGINT and SIGTERM, and drains an acceptor at the first of them. A second one has its default effect
/// again, and ends the process at once. Signals for reports and reloads are handled until the drain is over.
///
/// While it waits, the context's `run()` does not return: it does after the drain, or once this object is destroyed, if
/// nothing else of the program is pending, such as a timer: cancel that in `on_signal` or `on_drained`.
///
/// Lifetime: the acceptor and the execution context must outlive it. It may be destroyed at any time, on the acceptor's
/// executor or while the context does not run; no callback is called afterwards, and the signals have their default
/// effect again.
/// Thread safety: distinct objects: safe. Shared objects: unsafe. Not two at a time for the same signal.
/// Exceptions: std::invalid_argument for an option out of range; system_error where a signal cannot be handled;
/// std::bad_alloc.
///
///     const holdfast::drain_at_signal stop{acceptor, {.drain = {.deadline = 10s}}};
///     io.run();
template <class Acceptor>
class drain_at_signal {
public:
    explicit drain_at_signal(Acceptor& drained, drain_at_signal_options options = {})
        : state_(std::make_shared<state>(drained, std::move(options)))
    {
        state_->wait();
    }

    drain_at_signal(const drain_at_signal&) = delete;
    drain_at_signal& operator=(const drain_at_signal&) = delete;

    ~drain_at_signal() { state_->end(); }

private:
    using executor_type = typename Acceptor::executor_type;
    using timer_type = net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>,
                                                 executor_type>;

    /// Shared with the pending wait and the drain, which the object may be destroyed before.
    class state : public std::enable_shared_from_this<state> {
    public:
        state(Acceptor& drained, drain_at_signal_options options)
            : acceptor_(&drained),
              options_(std::move(options)),
              signals_(drained.get_executor(), SIGINT, SIGTERM),
              notice_(drained.get_executor())
        {
            if (options_.notice < options_.notice.zero())
                throw std::invalid_argument("drain_at_signal_options::notice must not be negative");
            detail::check(options_.drain); // here, where the server can still refuse to start
            if (options_.on_report) signals_.add(SIGUSR1);
            if (options_.on_reload) signals_.add(SIGHUP);
        }

        void wait()
        {
            const std::lock_guard lock(mutex_);
            if (acceptor_ == nullptr) return;
            signals_.async_wait([self = this->shared_from_this()](const error_code& ec, int signal) {
                if (!ec) self->handle(signal);
            });
        }

        void end() noexcept
        {
            const std::lock_guard lock(mutex_);
            acceptor_ = nullptr;
            error_code ignored;
            signals_.clear(ignored);
            signals_.cancel(ignored);
            notice_.cancel();
        }

    private:
        void handle(int signal)
        {
            if (!waits()) return;
            if (signal == SIGUSR1)
                options_.on_report();
            else if (signal == SIGHUP)
                options_.on_reload();
            else
                give_notice();
            wait();
        }

        [[nodiscard]] bool waits()
        {
            const std::lock_guard lock(mutex_);
            return acceptor_ != nullptr;
        }

        void give_notice()
        {
            if (options_.on_signal) options_.on_signal();
            const std::lock_guard lock(mutex_);
            if (acceptor_ == nullptr) return;
            error_code ignored;
            signals_.remove(SIGINT, ignored);
            signals_.remove(SIGTERM, ignored);
            if (options_.notice == options_.notice.zero()) return drain();
            const auto now = std::chrono::steady_clock::now();
            notice_.expires_at(now + std::min(options_.notice, std::chrono::steady_clock::time_point::max() - now));
            notice_.async_wait([self = this->shared_from_this()](const error_code&) {
                const std::lock_guard again(self->mutex_);
                if (self->acceptor_ != nullptr) self->drain();
            });
        }

        /// Precondition: the mutex is locked.
        void drain()
        {
            acceptor_->async_drain(options_.drain, [self = this->shared_from_this()](const error_code&, std::size_t n) {
                const bool waited = self->waits();
                self->end();
                if (waited && self->options_.on_drained) self->options_.on_drained(n);
            });
        }

        std::mutex mutex_;
        Acceptor* acceptor_; // null at the end
        const drain_at_signal_options options_;
        net::basic_signal_set<executor_type> signals_;
        timer_type notice_;
    };

    const std::shared_ptr<state> state_;
};

} // namespace holdfast

#endif
