// holdfast: tests of async_event: which waits complete, when, and what becomes of a signal that none receives.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/async_event.hpp>

#include <array>
#include <new>
#include <optional>
#include <thread>
#include <vector>

namespace net = holdfast::net;
using holdfast::async_event;
using holdfast::error_code;
using holdfast::event_reset;
using holdfast::unsynchronized_event;

namespace {

struct outcome {
    int completed = 0;
    error_code error;
};

auto into(outcome& o)
{
    return [&o](error_code ec) {
        ++o.completed;
        o.error = ec;
    };
}

void run_ready(net::io_context& io)
{
    io.restart();
    io.poll();
}

} // namespace

TEMPLATE_TEST_CASE("a manual event completes all waits until it is reset", "", async_event, unsynchronized_event)
{
    net::io_context io;
    TestType event(io);
    std::array<outcome, 4> o;
    event.async_wait(into(o[0]));
    event.async_wait(into(o[1]));
    run_ready(io);
    CHECK(event.waiting() == 2);
    CHECK((o[0].completed == 0 && o[1].completed == 0));
    event.set();
    CHECK(o[0].completed == 0); // not inside set()
    event.async_wait(into(o[2]));
    CHECK(o[2].completed == 0); // nor inside async_wait()
    run_ready(io);
    for (int i : {0, 1, 2})
        CHECK((o[static_cast<std::size_t>(i)].completed == 1 && !o[static_cast<std::size_t>(i)].error));
    CHECK(event.is_set());
    event.reset();
    event.async_wait(into(o[3]));
    run_ready(io);
    CHECK(o[3].completed == 0);
    event.set();
    tests::run(io);
    CHECK(o[3].completed == 1);
}

TEMPLATE_TEST_CASE("each set() of an automatic event completes one wait, in order", "", async_event,
                   unsynchronized_event)
{
    net::io_context io;
    TestType event(io, {.reset = event_reset::automatic});
    std::vector<int> order;
    for (int i = 0; i != 3; ++i)
        event.async_wait([&order, i](error_code) { order.push_back(i); });
    event.set();
    run_ready(io);
    CHECK(order == std::vector{0});
    event.set();
    event.set();
    event.set(); // for the next
    run_ready(io);
    CHECK(order == std::vector{0, 1, 2});
    CHECK(event.is_set());
    outcome next, last;
    event.async_wait(into(next));
    event.async_wait(into(last));
    run_ready(io);
    CHECK((next.completed == 1 && last.completed == 0));
    CHECK_FALSE(event.is_set());
}

TEST_CASE("notify_all() completes the waits of this moment, and leaves the event as it is")
{
    net::io_context io;
    async_event event(io);
    outcome first, second, late;
    event.async_wait(into(first));
    event.async_wait(into(second));
    event.notify_all();
    event.async_wait(into(late));
    run_ready(io);
    CHECK((first.completed == 1 && second.completed == 1 && late.completed == 0));
    CHECK_FALSE(event.is_set());
}

TEST_CASE("a cancelled wait takes no signal of an automatic event, and one that was signalled is not cancelled")
{
    net::io_context io;
    async_event event(io, {.reset = event_reset::automatic});
    net::cancellation_signal stop_first, stop_second;
    outcome first, second;
    event.async_wait(net::bind_cancellation_slot(stop_first.slot(), into(first)));
    event.async_wait(net::bind_cancellation_slot(stop_second.slot(), into(second)));
    stop_first.emit(net::cancellation_type::total);
    run_ready(io);
    CHECK(first.error == net::error::operation_aborted);
    event.set();
    stop_second.emit(net::cancellation_type::total);
    run_ready(io);
    CHECK((second.completed == 1 && !second.error));
}

TEST_CASE("the signal of a handler that is destroyed uncalled is for the next wait")
{
    std::optional<net::io_context> dies(std::in_place);
    net::io_context io;
    async_event event(io, {.reset = event_reset::automatic});
    outcome lost, next;
    event.async_wait(net::bind_executor(*dies, into(lost)));
    event.set();
    run_ready(io); // the handler is queued in the other context
    dies.reset();
    event.async_wait(into(next));
    tests::run(io);
    CHECK(lost.completed == 0);
}

TEST_CASE("the signal of an immediate completion that does not take place is for the next wait")
{
    net::io_context io;
    outcome lost, next;
    async_event event(io, {.reset = event_reset::automatic, .set = true});
    SECTION("its handler's context is destroyed")
    {
        std::optional<net::io_context> dies(std::in_place);
        event.async_wait(net::bind_executor(*dies, into(lost)));
        CHECK(!event.is_set());
        event.async_wait(into(next)); // waits already
        run_ready(io);                // the handler is queued in the other context
        dies.reset();
    }
    SECTION("there is no memory for it")
    {
        if (!tests::counts_bytes) return; // no allocation can be made to fail here
        bool thrown = false;
        std::thread([&] { // which has no memory in Asio's caches yet
            tests::until_failure = 0;
            try {
                event.async_wait(into(lost));
            } catch (const std::bad_alloc&) {
                thrown = true;
            }
            tests::until_failure = -1;
        })
            .join();
        CHECK(thrown);
        CHECK(event.is_set());
        event.async_wait(into(next));
    }
    tests::run(io);
    CHECK(lost.completed == 0);
    CHECK((next.completed == 1 && !next.error));
    CHECK(!event.is_set()); // once
}

TEST_CASE("destroying the event ends its waits with operation_aborted")
{
    net::io_context io;
    std::optional<async_event> event(std::in_place, io);
    outcome o;
    event->async_wait(into(o));
    event.reset();
    CHECK(o.completed == 0);
    tests::run(io);
    CHECK(o.error == net::error::operation_aborted);
}

TEST_CASE("the context may be destroyed while a coroutine waits for an event in its own frame")
{
    bool destroyed = false;
    {
        net::io_context io;
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                struct mark {
                    bool& flag;
                    ~mark() { flag = true; }
                } at_the_end{destroyed};
                async_event event(co_await net::this_coro::executor);
                co_await event.async_wait();
            },
            net::detached);
        io.poll();
        CHECK_FALSE(destroyed);
    }
    CHECK(destroyed);
}

TEST_CASE("set() and notify_all() allocate nothing")
{
    net::io_context io;
    async_event event(io);
    std::array<outcome, 3> o;
    for (auto& each : o)
        event.async_wait(into(each));
    CHECK(tests::allocations_in([&] { event.notify_all(); }) == 0);
    tests::run(io);
    for (auto& each : o)
        event.async_wait(into(each));
    CHECK(tests::allocations_in([&] { event.set(); }) == 0);
    tests::run(io);
    for (auto& each : o)
        CHECK(each.completed == 2);
}
