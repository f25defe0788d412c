// holdfast: tests of async_semaphore: never above the limit, first come first served, and no unit is
// ever lost.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/async_semaphore.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using holdfast::async_semaphore;
using holdfast::errc;
using holdfast::error_code;
using holdfast::permit;
namespace net = holdfast::net;

namespace {

/// What an acquire came to.
struct outcome {
    bool completed = false;
    error_code error;
    permit taken;
};

/// A handler that notes the outcome, and its turn in `order` if given.
auto into(outcome& o, std::vector<outcome*>* order = nullptr)
{
    return [&o, order](error_code ec, permit p) {
        CHECK_FALSE(o.completed);
        o.completed = true;
        o.error = ec;
        o.taken = std::move(p);
        if (order != nullptr) order->push_back(&o);
    };
}

const std::array all_cancellations{net::cancellation_type::terminal, net::cancellation_type::partial,
                                   net::cancellation_type::total};

static_assert(!std::is_copy_constructible_v<permit>);
static_assert(std::is_nothrow_move_constructible_v<permit> && std::is_nothrow_move_assignable_v<permit>);

} // namespace

TEST_CASE("units that are free are granted, and no more than the limit are ever out")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 3);
    std::array<outcome, 5> o;
    for (auto& each : o)
        semaphore.async_acquire(1, into(each));
    tests::run_until(io, [&] { return o[2].completed; });
    io.poll();
    CHECK(semaphore.in_use() == 3);
    CHECK(semaphore.waiting() == 2);
    CHECK((o[0].completed && o[1].completed && !o[3].completed && !o[4].completed));
    o[1].taken.release();
    io.restart();
    io.poll();
    CHECK((o[3].completed && !o[4].completed));
    CHECK(o[3].taken.units() == 1);
    CHECK(semaphore.in_use() == semaphore.limit());
    o[0].taken = {};
    tests::run(io);
    CHECK(o[4].completed);
    for (auto& each : o) {
        CHECK_FALSE(each.error);
        each.taken.release();
    }
    CHECK(semaphore.in_use() == 0);
    CHECK(semaphore.waiting() == 0);
}

TEST_CASE("first in, first out: a large request at the head is not passed by small ones, nor by try_acquire")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 4);
    auto first = semaphore.try_acquire(1);
    auto second = semaphore.try_acquire(2);
    REQUIRE((first && second));
    outcome large, small, tiny;
    std::vector<outcome*> order;
    semaphore.async_acquire(4, into(large, &order));
    semaphore.async_acquire(1, into(small, &order));
    semaphore.async_acquire(1, into(tiny, &order));
    io.poll();
    CHECK(order.empty()); // one unit is free, and the small ones do not get it
    CHECK_FALSE(semaphore.try_acquire(1));
    second.release();
    io.poll();
    CHECK(order.empty());
    CHECK_FALSE(semaphore.try_acquire(1));
    first.release();
    io.poll();
    CHECK(order == std::vector{&large});
    large.taken.release();
    tests::run(io);
    CHECK(order == std::vector{&large, &small, &tiny});
    CHECK(semaphore.in_use() == 2);
    CHECK(semaphore.try_acquire(2));
}

TEST_CASE("try_acquire takes what is free and else nothing, and more than the limit is never free")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 2);
    {
        const auto two = semaphore.try_acquire(2);
        CHECK(two.units() == 2);
        CHECK_FALSE(semaphore.try_acquire());
        CHECK(semaphore.in_use() == 2);
    }
    CHECK(semaphore.in_use() == 0);
    CHECK_FALSE(semaphore.try_acquire(3));
    CHECK_FALSE(semaphore.try_acquire(~std::size_t(0)));
    CHECK(semaphore.try_acquire(2));
}

TEST_CASE("a permit moves its units, returns what it held when assigned to, and returns them once")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 5);
    permit a = semaphore.try_acquire(2);
    permit b = std::move(a);
    CHECK_FALSE(a);
    CHECK(a.units() == 0);
    CHECK(b.units() == 2);
    a.release();
    CHECK(semaphore.in_use() == 2);
    b = semaphore.try_acquire(3);
    CHECK(semaphore.in_use() == 3);
    permit& self = b;
    b = std::move(self);
    CHECK(b.units() == 3);
    b.release();
    b.release();
    CHECK(semaphore.in_use() == 0);
}

TEST_CASE("more units than the limit are refused at once, and do not block later ones")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 2);
    outcome too_many, all, none_left;
    semaphore.async_acquire(3, into(too_many));
    semaphore.async_acquire(2, into(all));
    semaphore.async_acquire(~std::size_t(0), into(none_left));
    CHECK(semaphore.waiting() == 0);
    tests::run(io);
    CHECK(too_many.error == error_code(errc::exceeds_limit));
    CHECK_FALSE(too_many.taken);
    CHECK(none_left.error == error_code(errc::exceeds_limit));
    CHECK_FALSE(all.error);
    CHECK(all.taken.units() == 2);
}

TEST_CASE("zero units are granted at once, even at the limit and past the waiters")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    const auto taken = semaphore.try_acquire();
    outcome waits, zero;
    semaphore.async_acquire(1, into(waits));
    semaphore.async_acquire(0, into(zero));
    io.poll();
    CHECK(zero.completed);
    CHECK_FALSE(zero.error);
    CHECK_FALSE(zero.taken);
    CHECK_FALSE(waits.completed);
}

TEST_CASE("a semaphore without units grants nothing, and fails at once")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 0);
    outcome o;
    semaphore.async_acquire(1, into(o));
    tests::run(io);
    CHECK(o.error == error_code(errc::exceeds_limit));
    CHECK_FALSE(semaphore.try_acquire());
}

TEST_CASE("a waiter is cancelled by each cancellation type, takes nothing, and the others keep their order")
{
    for (const auto type : all_cancellations) {
        net::io_context io;
        async_semaphore semaphore(io.get_executor(), 1);
        auto taken = semaphore.try_acquire();
        net::cancellation_signal stop;
        outcome before, cancelled, after;
        std::vector<outcome*> order;
        semaphore.async_acquire(1, into(before, &order));
        semaphore.async_acquire(1, net::bind_cancellation_slot(stop.slot(), into(cancelled, &order)));
        semaphore.async_acquire(1, into(after, &order));
        stop.emit(type);
        io.poll();
        CHECK(cancelled.completed);
        CHECK(cancelled.error == net::error::operation_aborted);
        CHECK_FALSE(cancelled.taken);
        CHECK(semaphore.waiting() == 2);
        taken.release();
        io.poll();
        before.taken.release();
        tests::run(io);
        CHECK(order == std::vector{&cancelled, &before, &after});
        CHECK(semaphore.in_use() == 1);
    }
}

TEST_CASE("when a large request at the head is cancelled, the requests after it are granted")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 3);
    const auto taken = semaphore.try_acquire(1);
    net::cancellation_signal stop;
    outcome head, one, two, three;
    semaphore.async_acquire(3, net::bind_cancellation_slot(stop.slot(), into(head)));
    semaphore.async_acquire(1, into(one));
    semaphore.async_acquire(1, into(two));
    semaphore.async_acquire(1, into(three));
    io.poll();
    CHECK(semaphore.in_use() == 1);
    stop.emit(net::cancellation_type::total);
    io.poll();
    CHECK(head.error == net::error::operation_aborted);
    CHECK((one.completed && two.completed && !three.completed));
    CHECK(semaphore.in_use() == 3);
    CHECK(semaphore.waiting() == 1);
}

TEST_CASE("a cancellation that comes after the grant changes nothing, and one after the end is harmless")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    auto taken = semaphore.try_acquire();
    net::cancellation_signal stop;
    outcome o;
    semaphore.async_acquire(1, net::bind_cancellation_slot(stop.slot(), into(o)));
    taken.release();
    stop.emit(net::cancellation_type::terminal);
    tests::run(io);
    CHECK_FALSE(o.error);
    CHECK(o.taken.units() == 1);
    stop.emit(net::cancellation_type::terminal);
    CHECK(semaphore.in_use() == 1);
}

TEST_CASE("a grant whose handler is destroyed without a call returns its units")
{
    auto io = std::make_optional<net::io_context>();
    net::io_context other;
    async_semaphore semaphore(other.get_executor(), 3); // not the handlers' executor: it goes on
    auto taken = semaphore.try_acquire(3);
    outcome granted, behind;
    SECTION("granted while it waited")
    {
        semaphore.async_acquire(2, net::bind_executor(*io, into(granted)));
        taken.release();
    }
    SECTION("granted at once")
    {
        taken.release();
        semaphore.async_acquire(2, net::bind_executor(*io, into(granted)));
    }
    other.poll(); // the handler is now queued in the context that never runs it
    CHECK(semaphore.in_use() == 2);
    semaphore.async_acquire(3, into(behind));
    io.reset();
    CHECK_FALSE(granted.completed);
    other.restart();
    tests::run(other);
    CHECK(behind.taken.units() == 3);
    behind.taken.release();
    CHECK(semaphore.in_use() == 0);
}

TEST_CASE("permits may outlive the semaphore, and its context")
{
    permit kept, other;
    {
        net::io_context io;
        async_semaphore semaphore(io.get_executor(), 3);
        kept = semaphore.try_acquire(2);
        semaphore.async_acquire(1, [&](error_code, permit p) { other = std::move(p); });
        tests::run(io);
    }
    CHECK(kept.units() == 2);
    CHECK(other.units() == 1);
    kept.release();
    kept = std::move(other);
    kept.release();
    CHECK_FALSE(kept);
}

TEST_CASE("close() fails the waiters and all later ones with its reason, and permits that are out stay valid")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    auto taken = semaphore.try_acquire();
    outcome first, second, late, zero;
    semaphore.async_acquire(1, into(first));
    semaphore.async_acquire(1, into(second));
    error_code expected = errc::semaphore_closed;
    SECTION("by default: semaphore_closed") { semaphore.close(); }
    SECTION("the reason given, and of two the first")
    {
        expected = errc::acceptor_closed;
        semaphore.close(expected);
        semaphore.close();
    }
    SECTION("a reason that is no error: semaphore_closed") { semaphore.close(error_code()); }
    CHECK_FALSE(first.completed); // never inside close()
    semaphore.async_acquire(1, into(late));
    semaphore.async_acquire(0, into(zero));
    CHECK(semaphore.waiting() == 0);
    CHECK(semaphore.in_use() == 1);
    taken.release();
    CHECK_FALSE(semaphore.try_acquire());
    tests::run(io);
    for (const auto* each : {&first, &second, &late, &zero}) {
        CHECK(each->completed);
        CHECK(each->error == expected);
        CHECK_FALSE(each->taken);
    }
    CHECK(semaphore.in_use() == 0);
}

TEST_CASE("a waiter that was granted before close() keeps its permit")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    auto taken = semaphore.try_acquire();
    outcome o;
    semaphore.async_acquire(1, into(o));
    taken.release();
    semaphore.close();
    tests::run(io);
    CHECK_FALSE(o.error);
    CHECK(o.taken.units() == 1);
}

TEST_CASE("destroying the semaphore fails its waiters, while their context continues")
{
    net::io_context io;
    permit taken;
    outcome first, second;
    {
        async_semaphore semaphore(io.get_executor(), 1);
        taken = semaphore.try_acquire();
        semaphore.async_acquire(1, into(first));
        semaphore.async_acquire(1, into(second));
    }
    CHECK_FALSE(first.completed);
    tests::run(io);
    CHECK(first.error == error_code(errc::semaphore_closed));
    CHECK(second.error == error_code(errc::semaphore_closed));
}

TEST_CASE("nothing completes inside the initiating call, nor inside release()")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    outcome at_once, waited, refused;
    net::post(io, [&] { // from within the context, where dispatch would call inline
        semaphore.async_acquire(1, into(at_once));
        CHECK_FALSE(at_once.completed);
        semaphore.async_acquire(2, into(refused));
        CHECK_FALSE(refused.completed);
        semaphore.async_acquire(1, into(waited));
        CHECK_FALSE(waited.completed);
    });
    tests::run_until(io, [&] { return at_once.completed && refused.completed; });
    net::post(io, [&] {
        at_once.taken.release();
        CHECK_FALSE(waited.completed);
    });
    tests::run(io);
    CHECK(waited.completed);
}

TEST_CASE("the handler runs on its own executor, whichever way it is completed")
{
    net::io_context handlers, io;
    async_semaphore semaphore(io.get_executor(), 1);
    outcome at_once, waited, refused;
    semaphore.async_acquire(1, net::bind_executor(handlers, into(at_once)));
    semaphore.async_acquire(1, net::bind_executor(handlers, into(waited)));
    semaphore.async_acquire(2, net::bind_executor(handlers, into(refused)));
    io.poll();
    CHECK_FALSE((at_once.completed || refused.completed));
    handlers.poll();
    CHECK((at_once.completed && refused.completed));
    at_once.taken.release();
    io.poll();
    CHECK_FALSE(waited.completed);
    tests::run(handlers);
    CHECK(waited.completed);
}

TEST_CASE("release() allocates nothing, with waiters to wake and without")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 3);
    auto taken = semaphore.try_acquire(3);
    std::array<outcome, 3> o;
    for (auto& each : o)
        semaphore.async_acquire(1, into(each));
    io.poll();
    CHECK(tests::allocations_in([&] { taken.release(); }) == 0);
    tests::run(io);
    for (auto& each : o)
        CHECK(each.taken);
    CHECK(tests::allocations_in([&] {
              for (auto& each : o)
                  each.taken.release();
              auto again = semaphore.try_acquire(3);
              again.release();
          }) == 0);
}

TEST_CASE("waiters live in memory of the handler's allocator, returned before the handler is called")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    auto taken = semaphore.try_acquire();
    outcome first; // Asio makes its timer service at the first wait of all
    semaphore.async_acquire(1, into(first));
    tests::tracked memory;
    std::size_t held = 99;
    const auto allocated = tests::allocations_in([&] {
        semaphore.async_acquire(1,
                                tests::allocating_from(memory, [&](error_code, permit) { held = memory.outstanding; }));
    });
    CHECK(allocated <= 1); // Asio's heap of timers grows with their number
    CHECK(memory.total != 0);
    taken.release();
    tests::run_until(io, [&] { return first.completed; });
    first.taken.release();
    tests::run(io);
    tests::run(io);
    CHECK(held == 0);
    CHECK(memory.outstanding == 0);
}

TEST_CASE("100,000 cancelled waits after one that stays pending leave no memory in use")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    const auto taken = semaphore.try_acquire();
    outcome lives;
    semaphore.async_acquire(1, into(lives));
    tests::tracked memory;
    int aborted = 0;
    for (int i = 0; i != 1000; ++i) {
        std::array<net::cancellation_signal, 100> stops;
        for (auto& stop : stops)
            semaphore.async_acquire(
                1, net::bind_cancellation_slot(stop.slot(), tests::allocating_from(memory, [&](error_code ec, permit) {
                                                   aborted += ec == net::error::operation_aborted ? 1 : 0;
                                               })));
        for (auto& stop : stops)
            stop.emit(net::cancellation_type::total);
        io.poll();
    }
    CHECK(aborted == 100'000);
    CHECK(memory.outstanding == 0);
    CHECK(semaphore.waiting() == 1);
}

TEST_CASE("acquire works with use_future, and with coroutines by default")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 2);
    auto future = semaphore.async_acquire(1, net::use_future);
    tests::run(io);
    const permit held = future.get();
    CHECK(held.units() == 1);
    std::string story;
    tests::run(io, [&]() -> net::awaitable<void> {
        {
            const auto turn = co_await semaphore.async_acquire();
            CHECK(semaphore.in_use() == 2);
        }
        CHECK(semaphore.in_use() == 1);
        try {
            const auto never = co_await semaphore.async_acquire(3);
        } catch (const holdfast::system_error& e) {
            story = e.code().message();
        }
    });
    CHECK(story == make_error_code(errc::exceeds_limit).message());
}

TEST_CASE("split() and merge() move units between permits, and make or lose none")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 10);
    async_semaphore other(io.get_executor(), 10);
    permit all = semaphore.try_acquire(6);
    permit part = all.split(2);
    CHECK((all.units() == 4 && part.units() == 2));
    CHECK_FALSE(all.split(0));
    CHECK_FALSE(all.split(5)); // more than it holds
    CHECK(all.units() == 4);
    CHECK(semaphore.in_use() == 6);
    permit rest = all.split(4);
    CHECK((!all && rest.units() == 4));
    part.release();
    CHECK(semaphore.in_use() == 4);
    permit more = semaphore.try_acquire(3);
    CHECK(rest.merge(more));
    CHECK((rest.units() == 7 && !more));
    CHECK(rest.merge(rest));
    CHECK(rest.merge(more)); // of nothing
    permit foreign = other.try_acquire(1);
    CHECK_FALSE(rest.merge(foreign));
    CHECK((rest.units() == 7 && foreign.units() == 1));
    CHECK(all.merge(rest)); // into nothing
    CHECK(all.units() == 7);
    CHECK(semaphore.in_use() == 7);
    CHECK(tests::allocations_in([&] {
              permit half = all.split(3);
              all.merge(half);
              all.release();
          }) == 0);
    CHECK(semaphore.available() == 10);
}

TEST_CASE("a limit lowered below what is out holds back all until enough has returned")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 4);
    permit one = semaphore.try_acquire(1);
    permit three = semaphore.try_acquire(3);
    outcome waits;
    semaphore.async_acquire(1, into(waits));
    semaphore.set_limit(2);
    CHECK((semaphore.limit() == 2 && semaphore.available() == 0 && semaphore.in_use() == 4));
    one.release();
    io.poll();
    CHECK((!waits.completed && semaphore.available() == 0)); // three of two are still out
    permit part = three.split(1);
    part.release();
    io.restart();
    io.poll();
    CHECK(!waits.completed);
    CHECK_FALSE(semaphore.try_acquire());
    three.release();
    tests::run(io);
    CHECK(waits.taken.units() == 1);
    CHECK(semaphore.available() == 1);
}

TEST_CASE("a raised limit grants waiting requests at once, a lowered one fails those that could never be granted")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 4);
    permit all = semaphore.try_acquire(4);
    outcome large, small, last;
    semaphore.async_acquire(3, into(large));
    semaphore.async_acquire(2, into(small));
    semaphore.async_acquire(1, into(last));
    semaphore.set_limit(2);
    CHECK_FALSE(large.completed); // never inside the call
    io.poll();
    CHECK(large.error == error_code(errc::exceeds_limit));
    CHECK((!small.completed && semaphore.waiting() == 2));
    semaphore.set_limit(7);
    tests::run(io);
    CHECK((small.taken.units() == 2 && last.taken.units() == 1));
    CHECK((semaphore.in_use() == 7 && semaphore.available() == 0));
    semaphore.set_limit(0);
    CHECK(semaphore.in_use() == 7);
    all.release();
    CHECK_FALSE(semaphore.try_acquire());
}

TEST_CASE("one more waiter than allowed is refused at once, and a place that becomes free can be taken")
{
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1, {.max_waiting = 1});
    permit taken = semaphore.try_acquire();
    outcome first, second, third;
    semaphore.async_acquire(1, into(first));
    semaphore.async_acquire(1, into(second));
    CHECK_FALSE(second.completed);
    io.poll();
    CHECK(second.error == error_code(errc::too_many_waiting));
    CHECK_FALSE(first.completed);
    taken.release();
    semaphore.async_acquire(1, into(third));
    io.restart();
    io.poll();
    CHECK((first.taken && !third.completed && semaphore.waiting() == 1));
    first.taken.release();
    tests::run(io);
    CHECK(third.taken);

    async_semaphore without_waiting(io.get_executor(), 1, {.max_waiting = 0});
    outcome granted, refused;
    without_waiting.async_acquire(1, into(granted));
    without_waiting.async_acquire(1, into(refused));
    tests::run(io);
    CHECK(granted.taken);
    CHECK(refused.error == error_code(errc::too_many_waiting));
}

TEST_CASE("the semaphore of one thread does the same, without locks and atomics")
{
    net::io_context io;
    std::optional<holdfast::unsynchronized_semaphore> semaphore(std::in_place, io.get_executor(), 2);
    std::vector<holdfast::unsynchronized_permit> taken;
    std::vector<error_code> ends;
    net::cancellation_signal stop;
    const auto note = [&](error_code ec, holdfast::unsynchronized_permit p) {
        ends.push_back(ec);
        if (p) taken.push_back(std::move(p));
    };
    semaphore->async_acquire(2, note);
    semaphore->async_acquire(2, net::bind_cancellation_slot(stop.slot(), note));
    semaphore->async_acquire(1, note);
    io.poll();
    CHECK((taken.size() == 1 && semaphore->waiting() == 2));
    holdfast::unsynchronized_permit half = taken[0].split(1);
    half.release();
    io.restart();
    io.poll();
    CHECK(taken.size() == 1); // the large head is not passed
    stop.emit(net::cancellation_type::partial);
    io.poll();
    CHECK((ends.back() == error_code() && taken.size() == 2 && semaphore->available() == 0));
    semaphore->async_acquire(1, note);
    io.restart();
    io.poll();
    semaphore.reset();
    tests::run(io);
    CHECK(ends.back() == error_code(errc::semaphore_closed));
    taken.clear();
    CHECK(ends.size() == 4);
}

#if !defined(HOLDFAST_TESTS_THREAD_SANITIZER) // which does not let an allocation fail
TEST_CASE("wherever an allocation fails, in acquire, grant, cancel or release, no unit is lost")
{
    int failures = 0;
    for (long k = 0, completed_without = 0; completed_without == 0; ++k) {
        net::io_context io;
        async_semaphore semaphore(io.get_executor(), 2);
        tests::tracked memory;
        {
            net::cancellation_signal stop;
            outcome o[4];
            bool failed = false;
            const auto attempt = [&](auto step) {
                try {
                    step();
                    return true;
                } catch (const std::bad_alloc&) {
                    failed = true;
                    return false;
                }
            };
            tests::until_failure = k;
            attempt([&] { semaphore.async_acquire(2, tests::allocating_from(memory, into(o[0]))); });
            attempt([&] { semaphore.async_acquire(2, tests::allocating_from(memory, into(o[1]))); });
            const bool begun = attempt([&] {
                semaphore.async_acquire(
                    1, net::bind_cancellation_slot(stop.slot(), tests::allocating_from(memory, into(o[2]))));
            });
            attempt([&] { semaphore.async_acquire(1, tests::allocating_from(memory, into(o[3]))); });
            attempt([&] { io.poll(); });
            // Where a wait can't begin, Asio leaves its slot as it was half made: it must not be emitted to.
            if (begun) stop.emit(net::cancellation_type::terminal);
            for (auto& each : o) { // released one after the other, as they are granted
                each.taken.release();
                attempt([&] {
                    io.restart();
                    io.poll();
                });
            }
            tests::until_failure = -1;
            for (auto& each : o)
                each.taken.release();
            tests::run(io);
            failures += failed ? 1 : 0;
            completed_without = failed ? 0 : 1;
            REQUIRE(semaphore.waiting() == 0);
            std::size_t held = 0;
            for (const auto& each : o)
                held += each.taken.units();
            REQUIRE(semaphore.in_use() == held);
            if (!failed)
                for (const auto& each : o)
                    REQUIRE(each.completed);
        }
        REQUIRE(semaphore.available() == 2);
        REQUIRE(memory.outstanding == 0);
    }
    CHECK(failures >= 8); // at least a waiter and a wait for each of the four, so the loop saw them all
}
#endif

namespace {

/// A plain queue that does what the semaphore should, step by step beside the real one.
class model {
public:
    struct request {
        std::size_t units = 0;
        enum { refused, waiting, granted, cancelled, returned } state = waiting;
        error_code refusal;
        outcome result;
        net::cancellation_signal stop;
    };

    explicit model(std::uint32_t seed) : random_(seed) {}

    void step()
    {
        const auto what = random_() % 100;
        if (what < 40)
            acquire(1 + random_() % (1 + limit_));
        else if (what < 55)
            cancel();
        else if (what < 85)
            release();
        else if (what < 90)
            set_limit(random_() % 9);
        else if (what < 94)
            split();
        else if (random_() % 200 == 0)
            close_and_renew();
        else
            run();
        REQUIRE(semaphore_->waiting() == queue_.size());
        REQUIRE(semaphore_->in_use() == in_use_);
        REQUIRE(semaphore_->available() == (limit_ > in_use_ ? limit_ - in_use_ : 0));
    }

    void finish()
    {
        semaphore_->close();
        fail_all(errc::semaphore_closed);
        run();
        while (!holders_.empty())
            release();
        REQUIRE(semaphore_->in_use() == 0);
        REQUIRE(requests_.empty());
    }

    std::size_t grants = 0;
    std::size_t aborts = 0;

private:
    void acquire(std::size_t units)
    {
        if (requests_.size() >= 40) return run();
        request& r = requests_.emplace_back();
        r.units = units;
        if (units > limit_) {
            r.state = request::refused;
            r.refusal = errc::exceeds_limit;
        } else if (queue_.size() >= max_waiting && !(queue_.empty() && units + in_use_ <= limit_)) {
            r.state = request::refused;
            r.refusal = errc::too_many_waiting;
        } else {
            queue_.push_back(&r);
        }
        semaphore_->async_acquire(units, net::bind_cancellation_slot(r.stop.slot(), into(r.result)));
        grant();
    }

    void cancel()
    {
        if (requests_.empty()) return;
        auto r = requests_.begin();
        std::advance(r, static_cast<long>(random_() % requests_.size()));
        if (r->state == request::waiting && std::find(queue_.begin(), queue_.end(), &*r) != queue_.end())
            cancelled_.push_back(&*r); // leaves the queue when its handler runs; until then it may be granted
        r->stop.emit(all_cancellations[random_() % 3]);
    }

    void release()
    {
        if (holders_.empty()) return;
        const auto one = holders_.begin() + static_cast<long>(random_() % holders_.size());
        in_use_ -= one->units();
        one->release();
        holders_.erase(one);
        grant();
    }

    void split()
    {
        if (holders_.empty()) return;
        const auto i = random_() % holders_.size();
        if (permit part = holders_[i].split(random_() % 4)) {
            if (random_() % 2 == 0)
                REQUIRE(holders_[i].merge(part));
            else if (holders_[i])
                holders_.push_back(std::move(part));
            else
                holders_[i] = std::move(part);
        }
    }

    void set_limit(std::size_t limit)
    {
        limit_ = limit;
        semaphore_->set_limit(limit);
        std::erase_if(queue_, [&](request* r) {
            if (r->units <= limit_) return false;
            r->state = request::refused;
            r->refusal = errc::exceeds_limit;
            return true;
        });
        grant();
    }

    /// Closed, and destroyed with all its permits out; a new one takes its place.
    void close_and_renew()
    {
        if (random_() % 2 == 0) semaphore_->close();
        fail_all(errc::semaphore_closed);
        semaphore_.emplace(io_.get_executor(), limit_, holdfast::semaphore_options{.max_waiting = max_waiting});
        holders_.clear();
        in_use_ = 0;
        run(); // what the old one granted is returned to it
        holders_.clear();
        in_use_ = 0;
    }

    void fail_all(errc reason)
    {
        for (request* r : queue_) {
            r->state = request::refused;
            r->refusal = reason;
        }
        queue_.clear();
        cancelled_.clear();
    }

    void grant()
    {
        while (!queue_.empty() && in_use_ + queue_.front()->units <= limit_) {
            request* const r = queue_.front();
            queue_.pop_front();
            r->state = request::granted;
            in_use_ += r->units;
        }
    }

    /// Lets handlers run one by one, and compares each with the model.
    void run()
    {
        for (;;) {
            io_.restart();
            if (io_.poll_one() == 0) break;
            for (auto r = requests_.begin(); r != requests_.end();) {
                if (!r->result.completed) {
                    ++r;
                    continue;
                }
                if (r->result.error == net::error::operation_aborted) {
                    REQUIRE(r->state == request::waiting);
                    REQUIRE(std::find(cancelled_.begin(), cancelled_.end(), &*r) != cancelled_.end());
                    std::erase(queue_, &*r);
                    ++aborts;
                    grant();
                } else if (r->state == request::granted) {
                    REQUIRE(!r->result.error);
                    REQUIRE(r->result.taken.units() == r->units);
                    holders_.push_back(std::move(r->result.taken));
                    ++grants;
                } else {
                    REQUIRE(r->state == request::refused);
                    REQUIRE(r->result.error == r->refusal);
                }
                std::erase(cancelled_, &*r);
                r = requests_.erase(r);
            }
        }
        for (const request* r : queue_) // none is stuck: what still waits does so for lack of units
            REQUIRE((r == queue_.front() ? in_use_ + r->units > limit_ : true));
        for (const request& r : requests_)
            REQUIRE(r.state == request::waiting);
    }

    static constexpr std::size_t max_waiting = 12;

    std::mt19937 random_;
    net::io_context io_{1};
    std::size_t limit_ = 7;
    std::size_t in_use_ = 0;
    std::list<request> requests_;     // every one that has not completed
    std::deque<request*> queue_;      // the waiting ones, in order
    std::vector<request*> cancelled_; // of those, whose signal was emitted
    std::vector<permit> holders_;
    std::optional<async_semaphore> semaphore_{std::in_place, io_.get_executor(), limit_,
                                              holdfast::semaphore_options{.max_waiting = max_waiting}};
};

} // namespace

TEST_CASE("a million random steps of acquire, cancel, release, resize, close and destroy agree with a plain queue")
{
    const std::uint32_t seed = std::random_device{}();
    INFO("seed " << seed);
    model both(seed);
    for (int step = 0; step != (tests::sanitized ? 100'000 : 1'000'000); ++step)
        both.step();
    both.finish();
    CHECK(both.grants > 1000);
    CHECK(both.aborts > 1000);
}

TEST_CASE("four threads that acquire, cancel and release never exceed the limit, and return all units")
{
    constexpr std::size_t limit = 3;
    constexpr int workers = 32;
    constexpr int rounds = tests::sanitized ? 1'000 : 8'000;
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), limit);
    std::atomic<std::size_t> out{0};
    std::atomic<bool> exceeded{false};
    std::atomic<int> granted{0}, cancelled{0}, ended{0};

    struct worker : std::enable_shared_from_this<worker> {
        explicit worker(net::io_context& context, std::uint32_t seed) : strand(net::make_strand(context)), random(seed)
        {
        }
        net::strand<net::io_context::executor_type> strand;
        std::mt19937 random;
        net::cancellation_signal stop;
        int left = rounds;
    };
    const auto turn = [&](auto& again, const std::shared_ptr<worker>& w) -> void {
        if (w->left-- == 0) {
            ++ended;
            return;
        }
        const std::size_t units = 1 + w->random() % limit;
        semaphore.async_acquire(
            units, net::bind_cancellation_slot(
                       w->stop.slot(), net::bind_executor(w->strand, [&, w, units](error_code ec, permit p) {
                           if (ec) {
                               ++cancelled;
                           } else {
                               ++granted;
                               if (out.fetch_add(units) + units > limit) exceeded = true;
                               out.fetch_sub(units);
                               if (w->random() % 2 == 0) // returned by whichever thread runs this
                                   net::post(io, [q = std::make_shared<permit>(std::move(p))] { q->release(); });
                           }
                           p.release();
                           again(again, w);
                       })));
        if (w->random() % 3 == 0) net::post(w->strand, [w] { w->stop.emit(net::cancellation_type::total); });
    };
    for (int i = 0; i != workers; ++i) {
        const auto w = std::make_shared<worker>(io, static_cast<std::uint32_t>(i));
        net::post(w->strand, [&turn, w] { turn(turn, w); });
    }
    std::vector<std::thread> threads;
    for (int i = 0; i != 4; ++i)
        threads.emplace_back([&] { io.run_for(60s); });
    for (auto& t : threads)
        t.join();
    CHECK(ended == workers);
    CHECK_FALSE(exceeded);
    CHECK(granted + cancelled == workers * rounds);
    CHECK(granted > 0);
    CHECK(cancelled > 0);
    CHECK(semaphore.in_use() == 0);
    CHECK(semaphore.waiting() == 0);
    CHECK(semaphore.try_acquire(limit));
}

TEST_CASE("threads that close the semaphore while others acquire leave no waiter pending")
{
    for (int round = 0; round != 50; ++round) {
        net::io_context io;
        async_semaphore semaphore(io.get_executor(), 2);
        std::atomic<int> completed{0};
        for (int i = 0; i != 64; ++i)
            net::post(io, [&] { semaphore.async_acquire(1, [&](error_code, permit) { ++completed; }); });
        net::post(io, [&] { semaphore.close(); });
        for (int i = 0; i != 64; ++i)
            net::post(io, [&] { semaphore.async_acquire(1, [&](error_code, permit) { ++completed; }); });
        std::vector<std::thread> threads;
        for (int i = 0; i != 4; ++i)
            threads.emplace_back([&] { io.run_for(60s); });
        for (auto& t : threads)
            t.join();
        REQUIRE(completed == 128);
        REQUIRE(semaphore.in_use() == 0);
        REQUIRE(semaphore.waiting() == 0);
    }
}

TEST_CASE("a semaphore may be destroyed by one thread while others return its units")
{
    for (int round = 0; round != 50; ++round) {
        net::io_context io;
        std::optional<async_semaphore> semaphore(std::in_place, io.get_executor(), 2);
        std::atomic<int> completed{0};
        for (int i = 0; i != 64; ++i) {
            semaphore->async_acquire(1, [&](error_code, permit) { ++completed; });
            if (i == 32) net::post(io, [&] { semaphore.reset(); });
        }
        std::vector<std::thread> threads;
        for (int i = 0; i != 4; ++i)
            threads.emplace_back([&] { io.run_for(60s); });
        for (auto& t : threads)
            t.join();
        REQUIRE(completed == 64);
    }
}

TEST_CASE("on four threads, too, the unit goes to the first request, and has one holder at a time")
{
    constexpr int total = tests::sanitized ? 5'000 : 50'000;
    net::io_context io;
    async_semaphore semaphore(io.get_executor(), 1);
    std::mutex asking;
    int asked = 0;
    int last = -1; // the holder's, as are the next two: only the semaphore keeps threads from racing there
    int out_of_order = 0;
    int granted = 0;
    const auto ask = [&](auto& again) -> void {
        const std::lock_guard lock(asking);
        if (asked == total) return;
        semaphore.async_acquire(1, [&, mine = asked++](error_code ec, permit p) {
            out_of_order += !ec && std::exchange(last, mine) < mine ? 0 : 1;
            ++granted;
            p.release();
            again(again);
        });
    };
    for (int i = 0; i != 16; ++i)
        net::post(io, [&] { ask(ask); });
    std::vector<std::thread> threads;
    for (int i = 0; i != 4; ++i)
        threads.emplace_back([&] { io.run_for(60s); });
    for (auto& t : threads)
        t.join();
    CHECK(granted == total);
    CHECK(out_of_order == 0);
}

TEST_CASE("the context may be destroyed while coroutines wait for a semaphore in one of their frames")
{
    int destroyed = 0;
    struct mark {
        int& count;
        ~mark() { ++count; }
    };
    {
        net::io_context io;
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                const mark m{destroyed};
                async_semaphore semaphore(co_await net::this_coro::executor, 2);
                const permit taken = semaphore.try_acquire(1);
                for (const std::size_t units : {2U, 1U, 1U}) // a large head and two that its end would let go on
                    net::co_spawn(
                        io,
                        [](async_semaphore& s, std::size_t n, int& count) -> net::awaitable<void> {
                            const mark inner{count};
                            const auto turn = co_await s.async_acquire(n);
                        }(semaphore, units, destroyed),
                        net::detached);
                const auto never = co_await semaphore.async_acquire(2);
            },
            net::detached);
        io.poll();
        CHECK(destroyed == 0);
    }
    CHECK(destroyed == 4);
}

TEST_CASE("a semaphore may outlive the context of its waiters, which are then removed from it")
{
    net::io_context unused;
    std::optional<async_semaphore> semaphore;
    permit taken;
    {
        net::io_context io;
        semaphore.emplace(io.get_executor(), 1);
        taken = semaphore->try_acquire();
        semaphore->async_acquire(1, [](error_code, permit) { FAIL("called after its context's end"); });
        CHECK(semaphore->waiting() == 1);
    }
    CHECK(semaphore->waiting() == 0);
    CHECK(semaphore->in_use() == 1);
    taken.release();
    CHECK(semaphore->in_use() == 0);
}
