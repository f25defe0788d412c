// holdfast: what an acceptor does next, decided without I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_MACHINE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_MACHINE_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/backlog_timeout.hpp>
#include <holdfast/detail/acceptor/memory_gate.hpp>
#include <holdfast/detail/acceptor/token_bucket.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <cerrno>

namespace holdfast::detail {

/// What the acceptor is to do. In parentheses: the events that may answer it; `no_memory` may answer all.
enum class accept_step : unsigned char {
    /// No operation is pending, so no permit may be held: return it and stop. (woken)
    idle,
    /// The acceptor was closed: fail all pending operations with `error`. (woken)
    fail_all,
    /// The listener or the semaphore has failed: fail the oldest pending operation with `error`. (woken)
    fail_first,
    /// A connection needs a permit before it is accepted: take one. (permit_taken, no_permit)
    take_permit,
    /// At the limit of connections: wait for a permit, until `until`. (permit_taken, wait_failed, woken)
    await_permit,
    /// The last measurement is too old: measure memory use. (measured)
    measure,
    /// The high watermark was exceeded: let the user return memory, and measure again. (measured)
    relieve,
    /// Above the memory limit, or without descriptors: wait until a connection ends, or until `until`. (woken)
    await_departure,
    /// At the rate limit, or retrying too fast: wait until `until`. (woken)
    await_time,
    /// Nothing stands in the way: accept a connection. (accepted, would_block, lost, shortage, failed)
    accept,
    /// The client has waited, and a token is worth looking: has it left? (client_there, client_left)
    look_for_end,
    /// The client has left: close the connection without spending a token. (done)
    discard,
    /// The address is known now: apply the filter and the limit. (address_allowed, address_full, address_refused,
    /// sender_refused)
    check_address,
    /// All limits allow the connection: hand it to a pending operation. (admitted)
    admit,
    /// A limit forbids the connection: reject it by `policy` for `limit`. (done)
    reject,
    /// The backlog is empty, or other handlers must have their turn: wait for a client. (woken, wait_failed)
    await_connection,
    /// Connections in the backlog may have waited too long: ask how many there are. (backlog)
    measure_backlog,
    /// Without descriptors: reset one connection by means of the reserved one. (done)
    reset_by_reserve,
    /// After a shortage of descriptors: reserve one again. (done)
    restore_reserve,
    /// A drain has emptied the backlog: close the listener. (woken)
    close,
};

/// What has happened.
enum class accept_occurrence : unsigned char {
    /// A wait has ended, an operation has begun or was cancelled, or the acceptor was closed: decide anew.
    woken,
    /// The step is done.
    done,
    permit_taken,
    no_permit,
    /// The wait ended with `error`, which is final.
    wait_failed,
    /// `value` bytes of memory are in use; without a value memory could not be measured.
    measured,
    accepted,
    /// No client is in the backlog.
    would_block,
    /// The client left before it was accepted (`error`).
    lost,
    /// No descriptor or no memory is free (`error`).
    shortage,
    /// The listener does not work (`error`).
    failed,
    client_there,
    client_left,
    address_allowed,
    address_full,
    address_refused,
    /// It is none of the trusted senders of PROXY headers.
    sender_refused,
    admitted,
    /// `value` connections are in the backlog.
    backlog,
    no_memory,
};

struct accept_event {
    accept_occurrence what;
    error_code error{};
    std::optional<std::uint64_t> value{};
};

struct accept_action {
    accept_step what;
    std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max();
    error_code error{};
    admission_limit limit{};
    overload_policy policy{};
    /// Whether `acceptor_event::kind::paused` is to be reported for `limit`.
    bool report_pause = false;
};

/// What the machine has to know about the rest of the acceptor at each step.
struct accept_state {
    std::size_t pending = 0; // operations
    std::size_t live = 0;    // connections; only where `needs_live()`
    bool closed = false;
    bool until_empty = false; // the listener is to be closed when the backlog is empty
};

/// Which limits there are.
struct accept_limits {
    overload_policy on_connection_limit = overload_policy::wait;
    overload_policy on_address_limit = overload_policy::reset;
    overload_policy on_rate_limit = overload_policy::wait;
    overload_policy on_memory_limit = overload_policy::wait;
    overload_policy on_descriptor_limit = overload_policy::wait;
    double accepts_per_second = 0;
    std::size_t accept_burst = 1;
    bool addresses = false;
    std::chrono::steady_clock::duration backlog_timeout{}; // zero: none
    bool backlog_timeout_at_rate_only = false;
    std::uint32_t seed = 1;
};

/// Decides the order of things when connections are accepted: limits, pauses, retries and the end. The user calls
/// `resume()` with an event, carries the returned action out, and calls it again with the outcome; a wait's outcome
/// comes later. One action is under way at a time. No I/O, no clock, no lock, no allocation.
class accept_machine {
public:
    using clock = std::chrono::steady_clock;
    using time_point = clock::time_point;

    static constexpr std::size_t max_accepts_per_turn = 7;
    static constexpr std::size_t max_timeouts_per_turn = 64;
    static constexpr std::chrono::milliseconds shortest_rest{10};
    static constexpr std::chrono::milliseconds longest_rest{1000};

    accept_machine(const accept_limits& limits, const memory_gate& gate) noexcept
        : limits_(limits),
          gate_(gate),
          rate_(token_bucket::per_second(limits.accepts_per_second), limits.accept_burst),
          backlog_timeout_(limits.backlog_timeout),
          random_(limits.seed % 2147483647U == 0 ? 1 : limits.seed % 2147483647U)
    {
    }

    /// Whether `accept_state::live` is used.
    [[nodiscard]] bool needs_live() const noexcept { return gate_.enabled(); }

    accept_action resume(const accept_event& event, const accept_state& state, time_point now) noexcept
    {
        using occurrence = accept_occurrence;
        switch (event.what) {
        case occurrence::woken:
            turn_ = 0;
            if (std::exchange(resting_, false)) return end_rest(state, now);
            if (std::exchange(retrying_, false)) return retry(state, now);
            return next(state, now);
        case occurrence::done:
            if (std::exchange(used_reserve_, false)) return rest(now);
            if (std::exchange(restoring_, false)) return retry(state, now);
            return next(state, now);
        case occurrence::permit_taken:
            holds_permit_ = true;
            return next(state, now);
        case occurrence::no_permit:
            return at_limit(admission_limit::connections, limits_.on_connection_limit,
                            {.what = accept_step::await_permit}, now);
        case occurrence::wait_failed:
        case occurrence::failed:
            overdue_ = 0;
            if (state.closed) return next(state, now);
            return {.what = accept_step::fail_first, .error = event.error};
        case occurrence::measured:
            return measured(event, state, now);
        case occurrence::accepted:
            return accepted();
        case occurrence::would_block:
            announced_.reset();
            overdue_ = 0;
            waited_ = false;
            if (state.until_empty) return {.what = accept_step::close};
            return {.what = accept_step::await_connection};
        case occurrence::lost:
            backlog_timeout_.left();
            if (overdue_ != 0) --overdue_;
            ++turn_;
            return next(state, now);
        case occurrence::shortage:
            return shortage(event.error, now);
        case occurrence::client_there:
            return check_address();
        case occurrence::client_left:
            ++turn_;
            return {.what = accept_step::discard};
        case occurrence::address_allowed:
            return {.what = accept_step::admit};
        case occurrence::address_full:
            return reject(admission_limit::per_address, limits_.on_address_limit);
        case occurrence::address_refused:
            return reject(admission_limit::address_filter, limits_.on_address_limit);
        case occurrence::sender_refused:
            return reject(admission_limit::proxy_senders, overload_policy::reset);
        case occurrence::admitted:
            holds_permit_ = false;
            tried_again_ = false;
            announced_.reset();
            if (limits_rate()) rate_.take(now);
            gate_.admitted(now);
            ++turn_;
            return next(state, now);
        case occurrence::backlog:
            overdue_ = std::min(backlog_timeout_.overdue(static_cast<std::size_t>(event.value.value_or(0)), now),
                                max_timeouts_per_turn);
            next_look_ = overdue_ == max_timeouts_per_turn ? now : now + backlog_timeout_.period();
            return next(state, now);
        case occurrence::no_memory:
            // To wait for a client needs no memory: what else would is tried again when one comes.
            if (std::exchange(resting_, false)) return {.what = accept_step::await_connection};
            return shortage(net::error::no_memory, now);
        }
        return next(state, now); // not reached
    }

private:
    [[nodiscard]] bool limits_rate() const noexcept { return limits_.accepts_per_second > 0; }

    /// What to do where no step is under way.
    accept_action next(const accept_state& state, time_point now) noexcept
    {
        if (state.pending == 0) {
            holds_permit_ = false;
            overdue_ = 0;
            announced_.reset();
            return {.what = accept_step::idle};
        }
        if (state.closed) return {.what = accept_step::fail_all, .error = errc::acceptor_closed};
        refused_.reset();
        if (overdue_ != 0) return {.what = accept_step::accept};
        if (turn_ >= max_accepts_per_turn) return {.what = accept_step::await_connection};
        if (!holds_permit_) return {.what = accept_step::take_permit};
        return pass_gates(state, now);
    }

    accept_action pass_gates(const accept_state& state, time_point now) noexcept
    {
        if (gate_.due(now)) return {.what = accept_step::measure};
        return pass_measured(state, now);
    }

    accept_action measured(const accept_event& event, const accept_state& state, time_point now) noexcept
    {
        if (!event.value) { // nothing is known any more: the limit does not apply
            relieved_ = false;
            gate_.unmeasured(now);
        } else if (gate_.observe(*event.value, state.live, now) && !std::exchange(relieved_, true)) {
            return {.what = accept_step::relieve};
        }
        relieved_ = false;
        return pass_measured(state, now);
    }

    accept_action pass_measured(const accept_state& state, time_point now) noexcept
    {
        if (!gate_.open(state.live, now))
            return at_limit(admission_limit::memory, limits_.on_memory_limit,
                            {.what = accept_step::await_departure, .until = gate_.look_again(now)}, now);
        if (limits_rate())
            if (const auto ready = rate_.ready_at(now); ready > now)
                return at_limit(admission_limit::rate, limits_.on_rate_limit,
                                {.what = accept_step::await_time, .until = ready}, now);
        return {.what = accept_step::accept};
    }

    /// Waits at a limit, or accepts in order to reject.
    accept_action at_limit(admission_limit limit, overload_policy policy, accept_action wait, time_point now) noexcept
    {
        if (policy != overload_policy::wait) {
            refused_ = limit;
            return {.what = accept_step::accept};
        }
        waited_ = true;
        turn_ = 0;
        paused_at_ = limit;
        if (backlog_timeout_.ends() && (!limits_.backlog_timeout_at_rate_only || limit == admission_limit::rate)) {
            if (now >= next_look_) return {.what = accept_step::measure_backlog};
            wait.until = std::min(wait.until, next_look_);
        }
        wait.limit = limit;
        wait.report_pause = announced_ != limit;
        announced_ = limit;
        return wait;
    }

    accept_action accepted() noexcept
    {
        backlog_timeout_.left();
        if (overdue_ != 0) {
            --overdue_;
            return reject(paused_at_, policy_of(paused_at_));
        }
        if (refused_) return reject(*refused_, policy_of(*refused_));
        if (limits_rate() && waited_) return {.what = accept_step::look_for_end};
        return check_address();
    }

    [[nodiscard]] accept_action check_address() const noexcept
    {
        return {.what = limits_.addresses ? accept_step::check_address : accept_step::admit};
    }

    accept_action reject(admission_limit limit, overload_policy policy) noexcept
    {
        ++turn_;
        // A connection that timed out in the backlog cannot wait any more.
        if (policy == overload_policy::wait) policy = overload_policy::reject;
        return {.what = accept_step::reject, .limit = limit, .policy = policy};
    }

    [[nodiscard]] overload_policy policy_of(admission_limit limit) const noexcept
    {
        switch (limit) {
        case admission_limit::connections:
            return limits_.on_connection_limit;
        case admission_limit::rate:
            return limits_.on_rate_limit;
        case admission_limit::memory:
            return limits_.on_memory_limit;
        case admission_limit::per_address:
        case admission_limit::address_filter:
            return limits_.on_address_limit;
        case admission_limit::proxy_senders:
        case admission_limit::proxy_headers:
            return overload_policy::reset;
        case admission_limit::descriptors:
            break;
        }
        return limits_.on_descriptor_limit;
    }

    accept_action shortage(const error_code& error, time_point now) noexcept
    {
        overdue_ = 0;
        starved_by_ = error;
        const bool descriptors = error == error_code(EMFILE, net::error::get_system_category()) ||
                                 error == error_code(ENFILE, net::error::get_system_category());
        if (descriptors && limits_.on_descriptor_limit != overload_policy::wait) {
            used_reserve_ = true;
            backlog_timeout_.left(); // counted as if there were a connection: none is overdue early by that
            return {.what = accept_step::reset_by_reserve, .limit = admission_limit::descriptors};
        }
        return rest(now);
    }

    /// Rests until a connection ends, and at most twice as long as the last time. A quarter less at random, so
    /// that servers that starve together do not retry together.
    accept_action rest(time_point now) noexcept
    {
        if (now > rested_until_ + longest_rest) rest_ = shortest_rest;
        const std::chrono::microseconds whole = rest_;
        rest_ = std::min(2 * rest_, longest_rest);
        rested_until_ = now + whole - whole / 4 * static_cast<long>(random() % 256) / 256;
        resting_ = true;
        return {.what = accept_step::await_departure, .until = rested_until_, .error = starved_by_};
    }

    /// The minimal standard generator.
    std::uint32_t random() noexcept
    {
        random_ = static_cast<std::uint32_t>(std::uint64_t{random_} * 48271U % 2147483647U);
        return random_;
    }

    accept_action end_rest(const accept_state& state, time_point now) noexcept
    {
        if (limits_.on_descriptor_limit == overload_policy::wait) return retry(state, now);
        restoring_ = true;
        return {.what = accept_step::restore_reserve};
    }

    /// Where other parts of the process take each descriptor that is returned, connections that end must not
    /// lead to a retry each.
    accept_action retry(const accept_state& state, time_point now) noexcept
    {
        if (state.closed || state.pending == 0 || !std::exchange(tried_again_, true) || attempts_.take(now))
            return next(state, now);
        retrying_ = true;
        return {.what = accept_step::await_time, .until = attempts_.ready_at(now)};
    }

    const accept_limits limits_;
    memory_gate gate_;
    token_bucket rate_;
    token_bucket attempts_{std::chrono::milliseconds(80), 5}; // to accept, during a shortage
    detail::backlog_timeout backlog_timeout_;
    time_point next_look_{};                   // at the backlog
    std::size_t overdue_ = 0;                  // connections to accept and reject
    std::size_t turn_ = 0;                     // connections since the last wait
    std::optional<admission_limit> refused_;   // why the next connection is rejected
    std::optional<admission_limit> announced_; // the pause that was reported
    admission_limit paused_at_{};
    bool holds_permit_ = false;
    bool waited_ = false; // connections in the backlog may have waited at a limit
    bool relieved_ = false;
    bool resting_ = false; // for want of descriptors or memory
    bool used_reserve_ = false;
    bool restoring_ = false;
    bool tried_again_ = false;
    bool retrying_ = false; // waits for the next attempt
    error_code starved_by_;
    std::chrono::milliseconds rest_ = shortest_rest; // the next one
    time_point rested_until_{};
    std::uint32_t random_; // 1 to 2^31 - 2
};

} // namespace holdfast::detail

#endif
