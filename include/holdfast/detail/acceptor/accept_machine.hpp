// holdfast: what an acceptor does next, decided without I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_MACHINE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_MACHINE_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/backlog_timeout.hpp>
#include <holdfast/detail/acceptor/memory_gate.hpp>
#include <holdfast/detail/acceptor/token_bucket.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

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
    /// The client has waited, and each connection takes a token of the rate: has it left? (client_there, client_left)
    peek_end,
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
    /// Connections in the backlog may have waited too long: count them. (backlog)
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

    HOLDFAST_DECL accept_machine(const accept_limits& limits, const memory_gate& gate) noexcept;

    /// Whether `accept_state::live` is used.
    [[nodiscard]] bool needs_live() const noexcept { return gate_.enabled(); }

    HOLDFAST_DECL accept_action resume(const accept_event& event, const accept_state& state, time_point now) noexcept;

private:
    [[nodiscard]] bool limits_rate() const noexcept { return limits_.accepts_per_second > 0; }

    /// What to do where no step is under way.
    HOLDFAST_DECL accept_action next(const accept_state& state, time_point now) noexcept;

    HOLDFAST_DECL accept_action pass_gates(const accept_state& state, time_point now) noexcept;

    HOLDFAST_DECL accept_action measured(const accept_event& event, const accept_state& state, time_point now) noexcept;

    HOLDFAST_DECL accept_action pass_measured(const accept_state& state, time_point now) noexcept;

    /// Waits at a limit, or accepts in order to reject.
    HOLDFAST_DECL accept_action at_limit(admission_limit limit, overload_policy policy, accept_action wait,
                                         time_point now) noexcept;

    HOLDFAST_DECL accept_action accepted() noexcept;

    [[nodiscard]] accept_action check_address() const noexcept
    {
        return {.what = limits_.addresses ? accept_step::check_address : accept_step::admit};
    }

    HOLDFAST_DECL accept_action reject(admission_limit limit, overload_policy policy) noexcept;

    [[nodiscard]] HOLDFAST_DECL overload_policy policy_of(admission_limit limit) const noexcept;

    HOLDFAST_DECL accept_action shortage(const error_code& error, time_point now) noexcept;

    /// Rests until a connection ends, and at most twice as long as the last time. A quarter less at random, so
    /// that servers that starve together do not retry together.
    HOLDFAST_DECL accept_action rest(time_point now) noexcept;

    /// The minimal standard generator.
    std::uint32_t random() noexcept
    {
        random_ = static_cast<std::uint32_t>(std::uint64_t{random_} * 48271U % 2147483647U);
        return random_;
    }

    HOLDFAST_DECL accept_action end_rest(const accept_state& state, time_point now) noexcept;

    /// Where other parts of the process take each descriptor that is returned, connections that end must not
    /// lead to a retry each.
    HOLDFAST_DECL accept_action retry(const accept_state& state, time_point now) noexcept;

    const accept_limits limits_;
    memory_gate gate_;
    token_bucket rate_;
    token_bucket attempts_{std::chrono::milliseconds(80), 5}; // to accept, during a shortage
    detail::backlog_timeout backlog_timeout_;
    time_point next_measurement_{};            // at the backlog
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

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/accept_machine.ipp>
#endif

#endif
