// holdfast: tests of bounded_spawner: never more children than the limit, and none outlives its operation.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_spawner.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using holdfast::async_with_spawner;
using holdfast::bounded_spawner;
using holdfast::errc;
using holdfast::error_code;
namespace net = holdfast::net;

namespace {

/// Counts those who live: destroyed with a coroutine's frame.
struct mark {
    explicit mark(int& n) : alive(n) { ++alive; }
    mark(const mark&) = delete;
    ~mark() { --alive; }
    int& alive;
};

/// Waits on `gate`, which never expires, until it is cancelled or the child is.
net::awaitable<void> wait_at(net::steady_timer& gate, int& alive)
{
    const mark m{alive};
    error_code woken;
    co_await gate.async_wait(net::redirect_error(net::use_awaitable, woken));
    const auto state = co_await net::this_coro::cancellation_state;
    if (state.cancelled() != net::cancellation_type::none) throw holdfast::system_error(net::error::operation_aborted);
}

net::awaitable<void> fail(std::string why)
{
    co_await net::post(net::use_awaitable);
    throw std::runtime_error(why);
}

net::steady_timer closed_gate(net::io_context& io)
{
    return net::steady_timer(io, std::chrono::steady_clock::time_point::max());
}

struct outcome {
    bool completed = false;
    std::exception_ptr failure;

    [[nodiscard]] std::string message() const
    {
        if (!failure) return "none";
        try {
            std::rethrow_exception(failure);
        } catch (const holdfast::system_error& e) {
            return e.code().message();
        } catch (const std::exception& e) {
            return e.what();
        }
    }
};

auto into(outcome& o)
{
    return [&o](std::exception_ptr failure) {
        CHECK_FALSE(o.completed);
        o.completed = true;
        o.failure = std::move(failure);
    };
}

const std::string aborted = error_code(net::error::operation_aborted).message();

} // namespace

TEST_CASE("the operation completes when the body and every child have ended, not before")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    outcome end;
    bool body_ended = false;
    async_with_spawner(
        io.get_executor(), {.max_children = 4},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            for (int i = 0; i != 3; ++i)
                co_await children.async_spawn(wait_at(gate, alive));
            body_ended = true;
        },
        into(end));
    CHECK(alive == 0); // nothing runs inside the call
    io.poll();
    CHECK((body_ended && alive == 3 && !end.completed));
    gate.cancel_one();
    io.restart();
    io.poll();
    CHECK((alive == 2 && !end.completed));
    gate.cancel();
    tests::run(io);
    CHECK((alive == 0 && end.completed && !end.failure));
}

TEST_CASE("a child beyond the limit waits for a slot, and its spawner with it")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    int started = 0;
    bool refused = false;
    bounded_spawner* spawner = nullptr;
    outcome end;
    async_with_spawner(
        io.get_executor(), {.max_children = 2},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            spawner = &children;
            for (; started != 4; ++started) {
                if (started == 2) refused = !children.try_spawn(wait_at(gate, alive));
                co_await children.async_spawn(wait_at(gate, alive));
            }
        },
        into(end));
    io.poll();
    CHECK(refused);
    CHECK((alive == 2 && started == 2));
    CHECK((spawner->running() == 2 && spawner->waiting() == 1 && spawner->max_children() == 2));
    gate.cancel_one();
    io.restart();
    io.poll();
    CHECK((alive == 2 && started == 3));
    while (!end.completed) {
        gate.cancel();
        io.restart();
        io.poll();
    }
    CHECK((alive == 0 && started == 4 && !end.failure));
}

TEST_CASE("a child's exception cancels the body and its siblings, and the first one is rethrown")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    outcome end;
    async_with_spawner(
        io.get_executor(), {.max_children = 4},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            co_await children.async_spawn(wait_at(gate, alive));
            co_await children.async_spawn(fail("first"));
            co_await children.async_spawn(fail("second"));
            co_await net::this_coro::throw_if_cancelled(false);
            co_await wait_at(gate, alive);
        },
        into(end));
    tests::run(io);
    CHECK((end.completed && alive == 0));
    CHECK(end.message() == "first");
}

TEST_CASE("the body's exception cancels its children and is rethrown")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    outcome end;
    async_with_spawner(
        io.get_executor(), {},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            co_await children.async_spawn(wait_at(gate, alive));
            CHECK(children.try_spawn(wait_at(gate, alive)));
            throw std::runtime_error("body");
        },
        into(end));
    tests::run(io);
    CHECK((end.completed && alive == 0));
    CHECK(end.message() == "body");
}

TEST_CASE("cancelled by each type, body and children end, and only then the operation")
{
    for (const auto type :
         {net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total}) {
        for (const bool body_waits : {true, false}) {
            net::io_context io;
            auto gate = closed_gate(io);
            auto stubborn = closed_gate(io);
            int alive = 0;
            outcome end;
            net::cancellation_signal stop;
            async_with_spawner(
                io.get_executor(), {},
                [&](bounded_spawner& children) -> net::awaitable<void> {
                    co_await children.async_spawn(wait_at(gate, alive));
                    co_await children.async_spawn([](net::steady_timer& t, int& n) -> net::awaitable<void> {
                        const mark m{n};
                        co_await net::this_coro::reset_cancellation_state(net::disable_cancellation());
                        error_code woken;
                        co_await t.async_wait(net::redirect_error(net::use_awaitable, woken));
                    }(stubborn, alive));
                    if (body_waits) co_await wait_at(gate, alive);
                },
                net::bind_cancellation_slot(stop.slot(), into(end)));
            io.poll();
            CHECK(alive == (body_waits ? 3 : 2));
            stop.emit(type);
            io.restart();
            io.poll();
            CHECK((alive == 1 && !end.completed)); // it ignores the cancellation, and is waited for
            stubborn.cancel();
            tests::run(io);
            CHECK((alive == 0 && end.completed));
            CHECK(end.message() == aborted);
        }
    }
}

TEST_CASE("after cancel() a spawn gives an error, not a task, also one that waits for a slot")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    outcome end;
    error_code waited, late;
    bool tried = true;
    async_with_spawner(
        io.get_executor(), {.max_children = 1},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            co_await net::this_coro::throw_if_cancelled(false);
            co_await children.async_spawn(wait_at(gate, alive));
            children.async_spawn(wait_at(gate, alive), [&](error_code ec) { waited = ec; });
            co_await net::post(net::use_awaitable);
            children.cancel();
            children.cancel();
            co_await net::this_coro::reset_cancellation_state();
            co_await children.async_spawn(wait_at(gate, alive), net::redirect_error(net::use_awaitable, late));
            tried = children.try_spawn(wait_at(gate, alive));
        },
        into(end));
    tests::run(io);
    CHECK(waited == error_code(errc::spawner_closed));
    CHECK(late == error_code(errc::spawner_closed));
    CHECK_FALSE(tried);
    CHECK((alive == 0 && end.message() == aborted));
}

TEST_CASE("a spawn that waits for a slot can be cancelled alone, and keeps the operation until it has ended")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    outcome end;
    net::cancellation_signal stop;
    error_code result;
    async_with_spawner(
        io.get_executor(), {.max_children = 1},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            co_await children.async_spawn(wait_at(gate, alive));
            children.async_spawn(wait_at(gate, alive),
                                 net::bind_cancellation_slot(stop.slot(), [&](error_code ec) { result = ec; }));
            children.async_spawn(wait_at(gate, alive), net::detached);
        },
        into(end));
    io.poll();
    stop.emit(net::cancellation_type::total);
    io.restart();
    io.poll();
    CHECK(result == net::error::operation_aborted);
    gate.cancel(); // the first child ends; the body has returned, and a third is still to come
    io.restart();
    io.poll();
    CHECK((alive == 1 && !end.completed));
    gate.cancel();
    tests::run(io);
    CHECK((end.completed && !end.failure));
}

TEST_CASE("children may have children, of the same spawner and of their own")
{
    net::io_context io;
    int done = 0;
    tests::run(io, [&]() -> net::awaitable<void> {
        const auto leaf = [](int& n) -> net::awaitable<void> {
            co_await net::post(net::use_awaitable);
            ++n;
        };
        const auto branch = [&](bounded_spawner& siblings) -> net::awaitable<void> {
            co_await siblings.async_spawn(leaf(done));
            co_await async_with_spawner({.max_children = 1}, [&](bounded_spawner& own) -> net::awaitable<void> {
                for (int i = 0; i != 3; ++i)
                    co_await own.async_spawn(leaf(done));
            });
            CHECK(done >= 3);
        };
        co_await async_with_spawner({.max_children = 3}, [&](bounded_spawner& children) -> net::awaitable<void> {
            co_await children.async_spawn(branch(children));
        });
        CHECK(done == 4);
    });
    CHECK(done == 4);
}

TEST_CASE(
    "when the context is destroyed, every frame is destroyed once, and the spawner is valid until the last of them")
{
    int alive = 0;
    struct uses_spawner {
        bounded_spawner& spawner;
        ~uses_spawner() { spawner.cancel(); }
    };
    {
        net::io_context io;
        async_with_spawner(
            io.get_executor(), {.max_children = 2},
            [&](bounded_spawner& children) -> net::awaitable<void> {
                const mark m{alive};
                for (int i = 0; i != 3; ++i)
                    co_await children.async_spawn(
                        [](bounded_spawner& s, net::io_context& context, int& n) -> net::awaitable<void> {
                            auto gate = closed_gate(context); // outlives what emits its wait's cancellation
                            const uses_spawner at_the_end{s};
                            co_await wait_at(gate, n);
                        }(children, io, alive));
            },
            net::detached);
        io.poll();
        CHECK(alive == 3);
    }
    CHECK(alive == 0);
}

TEST_CASE("random ends: whatever happens first, no child is left and no slot lost")
{
    const std::uint32_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::minstd_rand engine(seed);
    const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
    int most = 0;
    for (int round = 0; round != (tests::sanitized ? 300 : 3000); ++round) {
        int alive = 0;
        outcome end;
        net::cancellation_signal stop;
        net::io_context io;
        const auto child = [](std::uint32_t what, int& n, int& peak) -> net::awaitable<void> {
            const mark m{n};
            peak = std::max(peak, n);
            for (std::uint32_t turns = what % 7; turns != 0; --turns)
                co_await net::post(net::use_awaitable);
            if (what % 11 == 0) throw std::runtime_error("child");
        };
        const std::size_t limit = 1 + random() % 4;
        async_with_spawner(
            io.get_executor(), {.max_children = limit},
            [&](bounded_spawner& children) -> net::awaitable<void> {
                for (std::uint32_t i = random() % 12; i != 0; --i)
                    co_await children.async_spawn(child(random(), alive, most));
                if (random() % 5 == 0) throw std::runtime_error("body");
            },
            net::bind_cancellation_slot(stop.slot(), into(end)));
        for (std::uint32_t turns = random() % 60; turns != 0; --turns) {
            io.poll_one();
            io.restart();
            REQUIRE(alive <= static_cast<int>(limit));
        }
        if (random() % 2 == 0) stop.emit(net::cancellation_type::terminal);
        if (random() % 8 != 0) { // else the context dies in the middle
            tests::run(io);
            REQUIRE((end.completed && alive == 0));
        }
    }
    CHECK(most == 4);
}

TEST_CASE("a limit of zero is refused at once")
{
    net::io_context io;
    const auto nothing = [](bounded_spawner&) -> net::awaitable<void> { co_return; };
    CHECK_THROWS_AS(async_with_spawner(io.get_executor(), {.max_children = 0}, nothing, net::detached),
                    std::invalid_argument);
}

namespace {

/// A body that starts two children, then throws where it is called: it is no coroutine.
struct throws_at_once {
    net::awaitable<void> operator()(bounded_spawner& children) const
    {
        CHECK(children.try_spawn(wait_at(gate, alive)));
        CHECK(children.try_spawn(wait_at(gate, alive)));
        throw std::runtime_error("no coroutine");
    }

    net::steady_timer& gate;
    int& alive;
};

/// What a user's operation may do: it completes inside the emission that cancels it.
net::awaitable<void> wait_for_emission(int& alive)
{
    const mark m{alive};
    co_await net::async_initiate<const net::use_awaitable_t<>&, void(error_code)>(
        [](auto handler) {
            auto slot = net::get_associated_cancellation_slot(handler);
            slot.assign([h = std::make_shared<decltype(handler)>(std::move(handler))](net::cancellation_type) {
                auto last = std::move(*h); // the emission's handler is gone when this one has run
                std::move(last)(error_code(net::error::operation_aborted));
            });
        },
        net::use_awaitable);
}

} // namespace

TEST_CASE("children of a body that throws before it is a coroutine are waited for")
{
    net::io_context io;
    auto gate = closed_gate(io);
    int alive = 0;
    outcome end;
    async_with_spawner(io.get_executor(), {}, throws_at_once{gate, alive}, into(end));
    tests::run(io);
    CHECK((end.completed && alive == 0));
    CHECK(end.message() == "no coroutine");
}

TEST_CASE("children that end inside the emission of their cancellation leave the others in order")
{
    net::io_context io;
    int alive = 0;
    outcome end;
    bounded_spawner* spawner = nullptr;
    async_with_spawner(
        io.get_executor(), {},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            spawner = &children;
            for (int i = 0; i != 4; ++i)
                CHECK(children.try_spawn(wait_for_emission(alive)));
            co_return;
        },
        into(end));
    io.poll();
    REQUIRE(alive == 4);
    net::post(io, [&] { spawner->cancel(); }); // on the executor: children end inline
    tests::run(io);
    CHECK((end.completed && alive == 0));
    CHECK(end.message() == aborted);
}

TEST_CASE("a child that cannot be started for want of memory is destroyed, and its slot is free again")
{
    if (!tests::counts_bytes) return; // allocations cannot be made to fail here
    net::io_context io;
    int alive = 0;
    outcome end;
    async_with_spawner(
        io.get_executor(), {.max_children = 1},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            for (long allocation = 0; allocation != 4; ++allocation) {
                auto child = [](int& n) -> net::awaitable<void> {
                    const mark m{n};
                    co_return;
                }(alive);
                tests::until_failure = allocation;
                bool threw = false;
                try {
                    (void)children.try_spawn(std::move(child));
                } catch (const std::bad_alloc&) {
                    threw = true;
                }
                tests::until_failure = -1;
                if (threw) CHECK(children.running() == 0);
                while (children.running() != 0)
                    co_await net::post(net::use_awaitable);
            }
        },
        into(end));
    tests::run(io);
    CHECK((end.completed && !end.failure && alive == 0));
}

TEST_CASE("handlers of the spawner's operations may be callable as rvalues only")
{
    struct once {
        explicit once(int& n) : completed(&n) {}
        once(once&&) = default;
        void operator()(std::exception_ptr) && { ++*completed; }
        void operator()(error_code) && { ++*completed; }
        int* completed;
    };
    net::io_context io;
    int completed = 0;
    async_with_spawner(
        io.get_executor(), {},
        [&](bounded_spawner& children) -> net::awaitable<void> {
            children.async_spawn([]() -> net::awaitable<void> { co_return; }(), once(completed));
            co_return;
        },
        once(completed));
    tests::run(io);
    CHECK(completed == 2);
}
