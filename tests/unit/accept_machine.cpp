// holdfast: does the machine that decides how connections are accepted take the right step after each event, in
// every order?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/detail/acceptor/accept_machine.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>

using namespace std::chrono_literals;
using holdfast::admission_limit;
using holdfast::errc;
using holdfast::error_code;
using holdfast::overload_policy;
using holdfast::detail::accept_action;
using holdfast::detail::accept_event;
using holdfast::detail::accept_limits;
using holdfast::detail::accept_machine;
using holdfast::detail::accept_state;
using holdfast::detail::memory_gate;
using event = holdfast::detail::accept_occurrence;
using step = holdfast::detail::accept_step;
namespace net = holdfast::net;

namespace {

const memory_gate no_gate(0, 0, 0s);
const error_code no_descriptor(EMFILE, net::error::get_system_category());

/// A machine, its surroundings, and the last action.
struct driver {
    explicit driver(accept_limits limits = {}, const memory_gate& gate = no_gate) : machine(limits, gate) {}

    step after(event what, error_code error = {}, std::optional<std::uint64_t> value = {})
    {
        last = machine.resume(accept_event{what, error, value}, state, now);
        return last.what;
    }

    /// From the beginning up to the step `accept`.
    void reach_accept()
    {
        REQUIRE(after(event::woken) == step::take_permit);
        REQUIRE(after(event::permit_taken) == step::accept);
    }

    /// Admits a connection that no limit forbids; returns the step after it.
    step admit()
    {
        step then = after(event::accepted);
        if (then == step::peek_end) then = after(event::client_there);
        if (then == step::check_address) then = after(event::address_allowed);
        REQUIRE(then == step::admit);
        return after(event::admitted);
    }

    accept_machine machine;
    accept_state state{.pending = 1};
    accept_machine::time_point now{1000h};
    accept_action last{step::idle};
};

} // namespace

TEST_CASE("without a pending operation the machine is idle, whatever happens")
{
    driver d;
    d.state.pending = 0;
    for (const event what : {event::woken, event::done, event::permit_taken})
        CHECK(d.after(what) == step::idle);
    d.state.closed = true;
    CHECK(d.after(event::woken) == step::idle);
}

TEST_CASE("a permit is taken before each connection, and the next client is awaited with one")
{
    driver d;
    d.reach_accept();
    CHECK(d.admit() == step::take_permit);
    CHECK(d.after(event::permit_taken) == step::accept);
    CHECK(d.after(event::would_block) == step::await_connection);
    CHECK(d.after(event::woken) == step::accept); // it still holds the permit
}

TEST_CASE("other handlers have their turn after a few connections")
{
    driver d;
    d.reach_accept();
    for (std::size_t i = 1; i != accept_machine::max_accepts_per_turn; ++i) {
        REQUIRE(d.admit() == step::take_permit);
        // A permit that is free at once does not begin a new turn.
        REQUIRE(d.after(event::permit_taken) == step::accept);
    }
    CHECK(d.admit() == step::await_connection);
    CHECK(d.after(event::woken) == step::take_permit);
}

TEST_CASE("at the limit of connections the machine waits, reports that once, or accepts to reject")
{
    driver waiting;
    waiting.after(event::woken);
    CHECK(waiting.after(event::no_permit) == step::await_permit);
    CHECK(waiting.last.report_pause);
    CHECK(waiting.last.limit == admission_limit::connections);
    CHECK(waiting.after(event::woken) == step::take_permit);
    CHECK(waiting.after(event::no_permit) == step::await_permit);
    CHECK_FALSE(waiting.last.report_pause);
    CHECK(waiting.after(event::permit_taken) == step::accept);

    for (const auto policy : {overload_policy::reject, overload_policy::reset}) {
        driver d({.on_connection_limit = policy});
        d.after(event::woken);
        CHECK(d.after(event::no_permit) == step::accept);
        CHECK(d.after(event::accepted) == step::reject);
        CHECK(d.last.limit == admission_limit::connections);
        CHECK(d.last.policy == policy);
        CHECK(d.after(event::done) == step::take_permit);
        CHECK(d.after(event::permit_taken) == step::accept); // the refusal does not stick
        CHECK(d.after(event::accepted) == step::admit);
    }
}

TEST_CASE("a failed semaphore or listener fails the oldest operation, and the next one tries anew")
{
    for (const event what : {event::wait_failed, event::failed}) {
        driver d;
        d.state.pending = 2;
        d.after(event::woken);
        CHECK(d.after(what, errc::semaphore_closed) == step::fail_first);
        CHECK(d.last.error == errc::semaphore_closed);
        d.state.pending = 1;
        CHECK(d.after(event::woken) == step::take_permit);
    }
}

TEST_CASE("close is seen at every step between connections, and fails all operations")
{
    for (const event what : {event::woken, event::done, event::permit_taken, event::wait_failed, event::failed,
                             event::lost, event::admitted, event::backlog}) {
        driver d({.accepts_per_second = 10, .accept_burst = 5, .backlog_timeout = 1s});
        d.reach_accept();
        d.state.closed = true;
        CHECK(d.after(what, what == event::failed ? error_code(net::error::bad_descriptor) : error_code()) ==
              step::fail_all);
        CHECK(d.last.error == errc::acceptor_closed);
        d.state.pending = 0;
        CHECK(d.after(event::woken) == step::idle);
    }
}

TEST_CASE("a connection that was accepted before close is admitted all the same")
{
    driver d({.addresses = true});
    d.reach_accept();
    d.state.closed = true;
    CHECK(d.after(event::accepted) == step::check_address);
    CHECK(d.after(event::address_allowed) == step::admit);
    CHECK(d.after(event::admitted) == step::fail_all);
}

TEST_CASE("when all operations are cancelled during a wait or while a client is accepted, the machine stops")
{
    driver d;
    d.reach_accept();
    d.after(event::would_block);
    d.state.pending = 0;
    CHECK(d.after(event::woken) == step::idle);
    d.state.pending = 1;
    CHECK(d.after(event::woken) == step::take_permit); // the permit was returned
    d.after(event::permit_taken);
    d.state.pending = 0;
    CHECK(d.after(event::lost, net::error::connection_aborted) == step::idle);
}

TEST_CASE("a drain that serves the backlog closes when that is empty")
{
    driver d;
    d.reach_accept();
    d.state.until_empty = true;
    CHECK(d.admit() == step::take_permit);
    d.after(event::permit_taken);
    CHECK(d.after(event::would_block) == step::close);
    d.state.closed = true;
    CHECK(d.after(event::woken) == step::fail_all);
}

TEST_CASE("the rate delays or rejects what exceeds it")
{
    driver d({.accepts_per_second = 10, .accept_burst = 2});
    d.reach_accept();
    d.admit();
    d.after(event::permit_taken);
    d.admit();
    CHECK(d.after(event::permit_taken) == step::await_time);
    CHECK(d.last.until == d.now + 100ms);
    CHECK(d.last.limit == admission_limit::rate);
    d.now += 99ms;
    CHECK(d.after(event::woken) == step::await_time);
    d.now += 1ms;
    CHECK(d.after(event::woken) == step::accept);

    driver rejecting({.on_rate_limit = overload_policy::reset, .accepts_per_second = 10, .accept_burst = 1});
    rejecting.reach_accept();
    rejecting.admit();
    CHECK(rejecting.after(event::permit_taken) == step::accept);
    CHECK(rejecting.after(event::accepted) == step::reject);
    CHECK(rejecting.last.limit == admission_limit::rate);
}

TEST_CASE("a client that has left during a pause costs no token and no permit")
{
    driver d({.accepts_per_second = 10, .accept_burst = 1});
    d.reach_accept();
    d.admit();
    CHECK(d.after(event::permit_taken) == step::await_time);
    d.now += 100ms;
    CHECK(d.after(event::woken) == step::accept);
    for (int i = 0; i != 5; ++i) {
        CHECK(d.after(event::accepted) == step::peek_end);
        CHECK(d.after(event::client_left) == step::discard);
        CHECK(d.after(event::done) == step::accept); // at the same time: no token was spent
    }
    CHECK(d.after(event::accepted) == step::peek_end);
    CHECK(d.after(event::client_there) == step::admit);
    d.after(event::admitted);
    CHECK(d.after(event::permit_taken) == step::await_time);
}

TEST_CASE("clients that did not have to wait are not examined")
{
    driver d({.accepts_per_second = 10, .accept_burst = 5});
    d.reach_accept();
    CHECK(d.after(event::accepted) == step::admit);
    driver later({.accepts_per_second = 10, .accept_burst = 1});
    later.reach_accept();
    later.admit();
    later.after(event::permit_taken); // a pause
    later.now += 1s;
    later.after(event::woken);
    later.after(event::would_block); // the backlog is empty: later clients have not waited
    later.after(event::woken);
    CHECK(later.after(event::accepted) == step::admit);
}

TEST_CASE("memory is measured when that is due, above the watermark the user may return some first")
{
    driver d({}, memory_gate(1000, 900, 0s));
    CHECK(d.machine.needs_live());
    d.state.live = 5;
    d.after(event::woken);
    CHECK(d.after(event::permit_taken) == step::measure);
    CHECK(d.after(event::measured, {}, 2000) == step::relieve);
    CHECK(d.after(event::measured, {}, 2000) == step::await_departure);
    CHECK(d.last.limit == admission_limit::memory);
    CHECK(d.last.until == d.now + 100ms);
    d.now += 100ms;
    CHECK(d.after(event::woken) == step::measure);
    CHECK(d.after(event::measured, {}, 800) == step::accept);

    driver relieved({}, memory_gate(1000, 900, 0s));
    relieved.after(event::woken);
    relieved.after(event::permit_taken);
    CHECK(relieved.after(event::measured, {}, 2000) == step::relieve);
    CHECK(relieved.after(event::measured, {}, 800) == step::accept);

    driver rejecting({.on_memory_limit = overload_policy::reject}, memory_gate(1000, 900, 0s));
    rejecting.after(event::woken);
    rejecting.after(event::permit_taken);
    rejecting.after(event::measured, {}, 2000);
    CHECK(rejecting.after(event::measured, {}, 2000) == step::accept);
    CHECK(rejecting.after(event::accepted) == step::reject);
    CHECK(rejecting.last.limit == admission_limit::memory);
}

TEST_CASE("memory that cannot be measured does not stop accepting")
{
    driver d({}, memory_gate(1000, 900, 0s));
    d.after(event::woken);
    CHECK(d.after(event::permit_taken) == step::measure);
    CHECK(d.after(event::measured) == step::accept);
}

TEST_CASE("addresses are checked when there is a limit or a filter, and refused for their own reason")
{
    driver d({.on_address_limit = overload_policy::reject, .addresses = true});
    d.reach_accept();
    CHECK(d.after(event::accepted) == step::check_address);
    CHECK(d.after(event::address_full) == step::reject);
    CHECK(d.last.limit == admission_limit::per_address);
    CHECK(d.last.policy == overload_policy::reject);
    CHECK(d.after(event::done) == step::accept); // the permit was not used
    d.after(event::accepted);
    CHECK(d.after(event::address_refused) == step::reject);
    CHECK(d.last.limit == admission_limit::address_filter);
    d.after(event::done);
    d.after(event::accepted);
    CHECK(d.after(event::sender_refused) == step::reject);
    CHECK(d.last.limit == admission_limit::proxy_senders);
    CHECK(d.last.policy == overload_policy::reset);
    d.after(event::done);
    d.after(event::accepted);
    CHECK(d.after(event::address_allowed) == step::admit);
}

TEST_CASE("without descriptors the machine rests longer each time, up to a second, and begins anew afterwards")
{
    driver d;
    d.reach_accept();
    auto longest = std::chrono::steady_clock::duration::zero();
    for (int i = 0; i != 12; ++i) {
        step then = d.last.what;
        while (then == step::await_time) {
            d.now = d.last.until;
            then = d.after(event::woken);
        }
        REQUIRE(then == step::accept);
        REQUIRE(d.after(event::shortage, no_descriptor) == step::await_departure);
        CHECK(d.last.error == no_descriptor);
        const auto rest = d.last.until - d.now;
        CHECK(rest <= 1s);
        longest = std::max(longest, rest);
        d.now = d.last.until;
        d.after(event::woken);
    }
    CHECK(longest > 700ms);
    while (d.last.what == step::await_time) {
        d.now = d.last.until;
        d.after(event::woken);
    }
    d.admit();
    d.now += 1h;
    d.after(event::permit_taken);
    d.after(event::shortage, no_descriptor);
    CHECK(d.last.until - d.now <= 10ms);
}

TEST_CASE("connections that end during a shortage lead to few retries")
{
    driver d;
    d.reach_accept();
    int attempts = 0;
    const auto end = d.now + 1s;
    while (d.now < end) { // one ends every millisecond, and its descriptor is taken by others
        if (d.last.what == step::accept) {
            ++attempts;
            d.after(event::shortage, no_descriptor);
        } else {
            d.now += 1ms;
            if (d.last.what == step::await_departure || d.now >= d.last.until) d.after(event::woken);
        }
    }
    CHECK(attempts >= 10);
    CHECK(attempts < 20);
}

TEST_CASE("with a policy for descriptors one connection is reset by the reserve, which is restored later")
{
    driver d({.on_descriptor_limit = overload_policy::reset});
    d.reach_accept();
    CHECK(d.after(event::shortage, no_descriptor) == step::reset_by_reserve);
    CHECK(d.after(event::done) == step::await_departure);
    CHECK(d.after(event::woken) == step::restore_reserve);
    CHECK(d.after(event::done) == step::accept);
    // A shortage of memory has nothing to do with descriptors.
    CHECK(d.after(event::shortage, net::error::no_memory) == step::await_departure);
}

TEST_CASE("without memory the machine rests, when even that fails, it waits for a client")
{
    for (const event during : {event::no_memory}) {
        driver d;
        d.reach_accept();
        d.after(event::accepted);
        CHECK(d.after(during) == step::await_departure);
        CHECK(d.last.error == net::error::no_memory);
        CHECK(d.after(event::no_memory) == step::await_connection);
        CHECK(d.after(event::woken) == step::accept);
    }
}

TEST_CASE("close during a rest ends it")
{
    for (const auto policy : {overload_policy::wait, overload_policy::reset}) {
        driver d({.on_descriptor_limit = policy});
        d.reach_accept();
        d.after(event::shortage, no_descriptor);
        if (policy == overload_policy::reset) d.after(event::done);
        d.state.closed = true;
        if (d.after(event::woken) == step::restore_reserve) d.after(event::done);
        CHECK(d.last.what == step::fail_all);
    }
}

TEST_CASE("connections that wait too long in the backlog are rejected, oldest first, and the others wait on")
{
    driver d({.backlog_timeout = 800ms});
    d.after(event::woken);
    CHECK(d.after(event::no_permit) == step::measure_backlog);
    CHECK(d.after(event::backlog, {}, 3) == step::take_permit);
    CHECK(d.after(event::no_permit) == step::await_permit);
    CHECK(d.last.until == d.now + 100ms);
    int rejected = 0;
    const auto begin = d.now;
    while (d.now < begin + 2s) {
        d.now = d.last.until;
        if (d.after(event::woken) != step::take_permit) break;
        if (d.after(event::no_permit) != step::measure_backlog) break;
        auto then = d.after(event::backlog, {}, static_cast<std::uint64_t>(3 - rejected));
        while (then == step::accept) {
            CHECK(d.now >= begin + 800ms);
            CHECK(d.after(event::accepted) == step::reject);
            CHECK(d.last.limit == admission_limit::connections);
            CHECK(d.last.policy == overload_policy::reject);
            ++rejected;
            then = d.after(event::done);
        }
        REQUIRE(then == step::take_permit);
        REQUIRE(d.after(event::no_permit) == step::await_permit);
    }
    CHECK(rejected == 3);
}

TEST_CASE("a time-out for the rate alone leaves other pauses as they are")
{
    driver d(
        {.accepts_per_second = 10, .accept_burst = 1, .backlog_timeout = 500ms, .backlog_timeout_at_rate_only = true});
    d.after(event::woken);
    CHECK(d.after(event::no_permit) == step::await_permit);
    CHECK(d.last.until == accept_machine::time_point::max());
    d.after(event::permit_taken);
    d.admit();
    CHECK(d.after(event::permit_taken) == step::measure_backlog);
}

TEST_CASE("an overdue connection that has left ends the rejecting, and a shortage does")
{
    driver d({.backlog_timeout = 1ms});
    const auto overdue = [&] {
        d.after(event::woken);
        for (int i = 0; i != 20; ++i) {
            if (d.after(event::no_permit) == step::measure_backlog && d.after(event::backlog, {}, 5) == step::accept)
                return;
            d.now += 5ms;
            d.after(event::woken);
        }
        FAIL("never overdue");
    };
    overdue();
    CHECK(d.after(event::would_block) == step::await_connection);
    d.now += 1s;
    overdue();
    CHECK(d.after(event::shortage, no_descriptor) == step::await_departure);
}

TEST_CASE("in any order of events the machine never admits beyond the rate, and always ends when it is closed")
{
    const std::uint32_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::minstd_rand random(seed);
    for (int round = 0; round != 300; ++round) {
        const auto policy = [&] { return static_cast<overload_policy>(random() % 3); };
        accept_limits limits{.on_connection_limit = policy(),
                             .on_address_limit = random() % 2 == 0 ? overload_policy::reject : overload_policy::reset,
                             .on_rate_limit = policy(),
                             .on_memory_limit = policy(),
                             .on_descriptor_limit = policy(),
                             .accepts_per_second = random() % 2 == 0 ? 0.0 : 100.0,
                             .accept_burst = 1 + random() % 5,
                             .addresses = random() % 2 == 0,
                             .backlog_timeout = random() % 2 == 0 ? 0ms : 100ms,
                             .seed = static_cast<std::uint32_t>(random())};
        driver d(limits, random() % 2 == 0 ? no_gate : memory_gate(1000, 900, 10ms));
        const auto begin = d.now;
        std::size_t admitted = 0;
        int since_wait = 0;
        event what = event::woken;
        error_code error;
        std::optional<std::uint64_t> value;
        const auto one_of = [&](std::initializer_list<event> events) {
            return *(events.begin() + random() % events.size());
        };
        for (int i = 0; i != 1000; ++i) {
            if (i == 990) d.state.closed = true;
            if (i == 995) d.state.pending = 0;
            const step then = d.after(what, error, value);
            error = {};
            value.reset();
            REQUIRE(++since_wait < 500); // it does not go round without a wait
            switch (then) {
            case step::idle:
                what = event::woken;
                since_wait = 0;
                break;
            case step::fail_all:
                REQUIRE(d.state.closed);
                d.state.pending = 0;
                what = event::woken;
                break;
            case step::take_permit:
                what = one_of({event::permit_taken, event::no_permit});
                break;
            case step::await_permit:
            case step::await_departure:
            case step::await_time:
            case step::await_connection:
                since_wait = 0;
                d.now += random() % 2 == 0 ? 1ms : 20ms;
                what = event::woken;
                break;
            case step::measure:
            case step::relieve:
                what = event::measured;
                value = random() % 2000;
                break;
            case step::accept:
                what =
                    d.state.closed
                        ? event::woken
                        : one_of({event::accepted, event::accepted, event::would_block, event::lost, event::shortage});
                if (what == event::shortage) error = no_descriptor;
                break;
            case step::peek_end:
                what = one_of({event::client_there, event::client_left});
                break;
            case step::check_address:
                what = one_of({event::address_allowed, event::address_full, event::address_refused,
                               event::sender_refused, event::no_memory});
                break;
            case step::admit:
                what = one_of({event::admitted, event::admitted, event::shortage, event::no_memory});
                if (what == event::admitted) ++admitted;
                break;
            case step::measure_backlog:
                what = event::backlog;
                value = random() % 10;
                break;
            case step::fail_first:
            case step::discard:
            case step::reject:
            case step::reset_by_reserve:
            case step::restore_reserve:
            case step::close:
                what = event::done;
                break;
            }
        }
        CHECK(d.last.what == step::idle);
        if (limits.accepts_per_second > 0)
            CHECK(admitted <= limits.accept_burst + static_cast<std::size_t>((d.now - begin) / 10ms) + 1);
    }
}
