// holdfast: what a connection does between its admission and its session, in steps that have a time limit.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_TIMED_STEPS_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_TIMED_STEPS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>

namespace holdfast::detail {

/// One connection, of whatever type, from its admission until its session starts or it has ended. Its steps run one
/// after another on the connection's executor; the time limit may run beside them, and only wakes them, by a system
/// call.
class timed_steps : public std::enable_shared_from_this<timed_steps> {
public:
    timed_steps(const timed_steps&) = delete;
    timed_steps& operator=(const timed_steps&) = delete;
    virtual ~timed_steps() = default;

protected:
    using clock = std::chrono::steady_clock;
    using semaphore = semaphore_core<synchronized>;

    HOLDFAST_DECL timed_steps(const net::any_io_executor& executor, std::shared_ptr<event_reporter> reporter,
                              std::size_t shard, const net::ip::tcp::endpoint& remote, int descriptor);

    /// Ends the connection without a session.
    virtual void fail(close_reason reason, const error_code& error) noexcept = 0;

    /// Hands the connection to its session.
    virtual void start_session() = 0;

    /// Whether the shorter time limit counts. Called under the mutex.
    [[nodiscard]] virtual bool contended() const noexcept { return false; }

    /// Carries out a part of it; an exception ends the connection.
    template <class F>
    void step(F f) noexcept
    {
        try {
            f();
        } catch (...) {
            const connection_end end = end_by(std::current_exception());
            fail(end.reason, end.error);
        }
    }

    /// Begins the time limit of the next steps; while `contended()`, they end after each `shorter` of it.
    HOLDFAST_DECL void limit_time(clock::duration limit, clock::duration shorter = clock::duration::max());

    /// Returns whether the time limit had come before.
    HOLDFAST_DECL bool end_time_limit() noexcept;

    [[nodiscard]] HOLDFAST_DECL bool expired() noexcept;

    /// What the time limit wakes; -1 once it must not.
    HOLDFAST_DECL void set_descriptor(int descriptor) noexcept;

    /// Starts the session once this has its turn: sessions start one at a time.
    HOLDFAST_DECL void start_in_turn(const counted_ptr<semaphore>& turn);

    const net::any_io_executor executor_;
    std::shared_ptr<event_reporter> reporter_;
    const std::size_t shard_;
    net::ip::tcp::endpoint remote_;
    std::mutex mutex_;
    int descriptor_;

private:
    static HOLDFAST_DECL clock::time_point later_by(clock::duration time) noexcept;
    HOLDFAST_DECL void await_time_limit();
    HOLDFAST_DECL void expire() noexcept;
    HOLDFAST_DECL void start() noexcept;

    net::steady_timer timer_;
    clock::duration shorter_ = clock::duration::max();
    clock::time_point deadline_ = clock::time_point::max();
    clock::time_point wake_at_ = clock::time_point::max(); // the timer, while it is awaited
    bool expired_ = false;
};

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/timed_steps.ipp>
#endif

#endif
