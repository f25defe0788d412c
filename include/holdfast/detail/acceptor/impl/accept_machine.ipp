// holdfast: the bodies of accept_machine.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPT_MACHINE_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPT_MACHINE_IPP

#include <holdfast/detail/acceptor/accept_machine.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include <cerrno>

namespace holdfast::detail {

HOLDFAST_DECL accept_machine::accept_machine(const accept_limits& limits, const memory_gate& gate) noexcept
    : limits_(limits),
      gate_(gate),
      rate_(token_bucket::per_second(limits.accepts_per_second), limits.accept_burst),
      backlog_timeout_(limits.backlog_timeout),
      random_(limits.seed % 2147483647U == 0 ? 1 : limits.seed % 2147483647U)
{
}

HOLDFAST_DECL accept_action accept_machine::resume(const accept_event& event, const accept_state& state,
                                                   time_point now) noexcept
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
        return at_limit(admission_limit::connections, limits_.on_connection_limit, {.what = accept_step::await_permit},
                        now);
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
        next_measurement_ = overdue_ == max_timeouts_per_turn ? now : now + backlog_timeout_.period();
        return next(state, now);
    case occurrence::no_memory:
        // To wait for a client needs no memory: what else would is tried again when one comes.
        if (std::exchange(resting_, false)) return {.what = accept_step::await_connection};
        return shortage(net::error::no_memory, now);
    }
    return next(state, now); // not reached
}

HOLDFAST_DECL accept_action accept_machine::next(const accept_state& state, time_point now) noexcept
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

HOLDFAST_DECL accept_action accept_machine::pass_gates(const accept_state& state, time_point now) noexcept
{
    if (gate_.due(now)) return {.what = accept_step::measure};
    return pass_measured(state, now);
}

HOLDFAST_DECL accept_action accept_machine::measured(const accept_event& event, const accept_state& state,
                                                     time_point now) noexcept
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

HOLDFAST_DECL accept_action accept_machine::pass_measured(const accept_state& state, time_point now) noexcept
{
    if (!gate_.open(state.live, now))
        return at_limit(admission_limit::memory, limits_.on_memory_limit,
                        {.what = accept_step::await_departure, .until = gate_.next_probe(now)}, now);
    if (limits_rate())
        if (const auto ready = rate_.ready_at(now); ready > now)
            return at_limit(admission_limit::rate, limits_.on_rate_limit,
                            {.what = accept_step::await_time, .until = ready}, now);
    return {.what = accept_step::accept};
}

HOLDFAST_DECL accept_action accept_machine::at_limit(admission_limit limit, overload_policy policy, accept_action wait,
                                                     time_point now) noexcept
{
    if (policy != overload_policy::wait) {
        refused_ = limit;
        return {.what = accept_step::accept};
    }
    waited_ = true;
    turn_ = 0;
    paused_at_ = limit;
    if (backlog_timeout_.ends() && (!limits_.backlog_timeout_at_rate_only || limit == admission_limit::rate)) {
        if (now >= next_measurement_) return {.what = accept_step::measure_backlog};
        wait.until = std::min(wait.until, next_measurement_);
    }
    wait.limit = limit;
    wait.report_pause = announced_ != limit;
    announced_ = limit;
    return wait;
}

HOLDFAST_DECL accept_action accept_machine::accepted() noexcept
{
    backlog_timeout_.left();
    if (overdue_ != 0) {
        --overdue_;
        return reject(paused_at_, policy_of(paused_at_));
    }
    if (refused_) return reject(*refused_, policy_of(*refused_));
    if (limits_rate() && waited_) return {.what = accept_step::peek_end};
    return check_address();
}

HOLDFAST_DECL accept_action accept_machine::reject(admission_limit limit, overload_policy policy) noexcept
{
    ++turn_;
    // A connection that timed out in the backlog cannot wait any more.
    if (policy == overload_policy::wait) policy = overload_policy::reject;
    return {.what = accept_step::reject, .limit = limit, .policy = policy};
}

HOLDFAST_DECL overload_policy accept_machine::policy_of(admission_limit limit) const noexcept
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

HOLDFAST_DECL accept_action accept_machine::shortage(const error_code& error, time_point now) noexcept
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

HOLDFAST_DECL accept_action accept_machine::rest(time_point now) noexcept
{
    if (now > rested_until_ + longest_rest) rest_ = shortest_rest;
    const std::chrono::microseconds whole = rest_;
    rest_ = std::min(2 * rest_, longest_rest);
    rested_until_ = now + whole - whole / 4 * static_cast<long>(random() % 256) / 256;
    resting_ = true;
    return {.what = accept_step::await_departure, .until = rested_until_, .error = starved_by_};
}

HOLDFAST_DECL accept_action accept_machine::end_rest(const accept_state& state, time_point now) noexcept
{
    if (limits_.on_descriptor_limit == overload_policy::wait) return retry(state, now);
    restoring_ = true;
    return {.what = accept_step::restore_reserve};
}

HOLDFAST_DECL accept_action accept_machine::retry(const accept_state& state, time_point now) noexcept
{
    if (state.closed || state.pending == 0 || !std::exchange(tried_again_, true) || attempts_.take(now))
        return next(state, now);
    retrying_ = true;
    return {.what = accept_step::await_time, .until = attempts_.ready_at(now)};
}

} // namespace holdfast::detail

#endif
