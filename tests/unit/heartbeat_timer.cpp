// holdfast: tests of heartbeat_timer, driven by a clock that the tests turn by hand.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/heartbeats.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::heartbeat;
using holdfast::manual_clock;
namespace net = holdfast::net;

using tests::peer;
using tests::timer;
using tests::world;

static_assert(holdfast::abortable<peer> && holdfast::abortable<holdfast::connection_guard<>>);
static_assert(!std::is_copy_constructible_v<heartbeat>);
static_assert(std::is_nothrow_move_constructible_v<heartbeat> && std::is_nothrow_move_assignable_v<heartbeat>);
static_assert(sizeof(heartbeat) == sizeof(void*));

namespace {

/// Counts how often it is asked.
struct counting_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<counting_clock>;
    [[maybe_unused]] static constexpr bool is_steady = true;
    static time_point now() noexcept
    {
        ++calls;
        return current;
    }
    static inline time_point current{};
    static inline int calls = 0;
};

} // namespace

template <>
struct holdfast::net::wait_traits<counting_clock> {
    static counting_clock::duration to_wait_duration(const counting_clock::duration&) { return {}; }
    static counting_clock::duration to_wait_duration(const counting_clock::time_point&) { return {}; }
};

TEST_CASE("a connection that is touched at every tick never times out")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 10ns});
    peer p;
    auto heartbeat = heartbeats.watch(p);
    for (int i = 0; i != 10'000; ++i) {
        w.advance(10ns);
        REQUIRE(heartbeat.age() == 1);
        heartbeat.touch();
    }
    CHECK(p.deaths == 0);
}

TEST_CASE("an untouched connection times out once, never early and at most one tick late, at any phase of its touch")
{
    for (const auto timeout : {10ns, 30ns, 100ns})
        for (auto phase = 0ns; phase != 25ns; phase += 1ns) {
            world w;
            timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = timeout});
            peer other, p;
            const auto keeps_ticking = heartbeats.watch(other);
            auto heartbeat = heartbeats.watch(p);
            w.advance(phase);
            const auto touched = manual_clock::now();
            heartbeat.touch();
            if (phase % 2ns == 1ns) heartbeat = heartbeats.watch(p); // a new one is like a touched one
            std::optional<manual_clock::duration> lived;
            for (auto t = 0ns; t != 1000ns; t += 1ns) {
                w.advance(1ns);
                if (p.deaths == 1 && !lived) lived = manual_clock::now() - touched;
            }
            INFO("time-out " << timeout.count() << ", phase " << phase.count());
            CHECK(p.deaths == 1);
            REQUIRE(lived);
            CHECK(*lived >= timeout);
            CHECK(*lived <= timeout + 10ns);
        }
}

TEST_CASE("a time-out that is no multiple of the tick is rounded up")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 21ns});
    peer p;
    const auto heartbeat = heartbeats.watch(p);
    for (int tick = 1; tick <= 3; ++tick)
        w.advance(10ns);
    CHECK(p.deaths == 0);
    w.advance(10ns); // three ticks, and the one under way when it was touched
    CHECK(p.deaths == 1);
}

TEST_CASE("a late tick ages by one, not by its lateness, and no connection times out early because of it")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 20ns});
    peer silent, p;
    const auto other = heartbeats.watch(silent);
    w.advance(1'000'000ns); // stalled
    CHECK(silent.deaths == 0);
    CHECK(other.age() == 1);

    // Touched when a tick is already overdue, as when a busy loop reads first: the next must not come too
    // early.
    for (auto late = 1ns; late != 30ns; late += 1ns) {
        timer fresh(w.io.get_executor(), {.tick = 10ns, .timeout = 10ns});
        p.deaths = 0;
        auto heartbeat = fresh.watch(p);
        manual_clock::advance(10ns + late);
        const auto touched = manual_clock::now();
        heartbeat.touch();
        w.settle();
        while (p.deaths == 0)
            w.advance(1ns);
        INFO("late by " << late.count());
        CHECK(manual_clock::now() - touched >= 10ns);
        CHECK(manual_clock::now() - touched <= 20ns);
    }
}

TEST_CASE("options out of their range are refused, and those at its ends are taken")
{
    world w;
    const auto ex = w.io.get_executor();
    CHECK_THROWS_AS(timer(ex, {.tick = 0ns, .timeout = 1s}), std::invalid_argument);
    CHECK_THROWS_AS(timer(ex, {.tick = -1s, .timeout = 1s}), std::invalid_argument);
    CHECK_THROWS_AS(timer(ex, {.tick = 1s, .timeout = 0s}), std::invalid_argument);
    CHECK_THROWS_AS(timer(ex, {.tick = 1s, .timeout = -30s}), std::invalid_argument);
    CHECK_THROWS_AS(timer(ex, {.tick = 1s, .timeout = 999ms}), std::invalid_argument);
    CHECK_THROWS_AS(timer(ex, {.tick = 1s, .timeout = 65'534s + 1ns}), std::invalid_argument);
    CHECK_NOTHROW(timer(ex, {.tick = 1s, .timeout = 1s}));
    CHECK_NOTHROW(timer(ex, {.tick = 1s, .timeout = 65'533s + 1ns}));
    CHECK_NOTHROW(timer(ex, {.tick = 1s, .timeout = 65'534s}));
    CHECK_NOTHROW(timer(ex, {.tick = 1h, .timeout = 65'534h}));
    CHECK_THROWS_AS(timer(ex, {.tick = 1h + 1ns, .timeout = 2h}), std::invalid_argument);
}

TEST_CASE("the longest time-out, 65,534 ticks, ends where it should and does not wrap")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 65'534ns});
    peer p;
    const auto heartbeat = heartbeats.watch(p);
    for (int i = 0; i != 65'534; ++i)
        w.advance(1ns);
    CHECK(p.deaths == 0);
    w.advance(1ns);
    CHECK(p.deaths == 1);
    for (int i = 0; i != 10; ++i)
        w.advance(20'000ns); // the later ones are not forgiven: it saturates
    CHECK(heartbeat.age() == 65'535);
    CHECK(p.deaths == 1);
}

TEST_CASE("a touch after the time-out has no effect, and a connection never times out again")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 2ns});
    peer p;
    auto heartbeat = heartbeats.watch(p);
    for (int i = 0; i != 3; ++i)
        w.advance(1ns);
    REQUIRE(p.deaths == 1);
    CHECK(heartbeats.watched() == 1); // until its heartbeat is gone
    CHECK(heartbeat);
    for (int i = 0; i != 5'000; ++i) {
        if (i % 7 == 0) heartbeat.touch();
        w.advance(1ns);
    }
    CHECK(p.deaths == 1);
    heartbeat.release();
    CHECK(heartbeats.watched() == 0);
}

TEST_CASE("a connection that a neighbour's callback touches in the same tick does not time out")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    struct saviour {
        heartbeat* other = nullptr;
        int deaths = 0;
        void abort(close_reason) noexcept
        {
            ++deaths;
            if (other != nullptr) other->touch();
        }
    } first, second;
    auto a = heartbeats.watch(first);
    auto b = heartbeats.watch(second);
    first.other = &b;
    second.other = &a;
    w.advance(1ns);
    w.advance(1ns);
    CHECK(first.deaths + second.deaths == 1);
}

TEST_CASE("a released slot is used again, and its new tenant starts from zero")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 3ns});
    peer first, second;
    {
        const auto other = heartbeats.watch(second);
        auto heartbeat = heartbeats.watch(first);
        for (int i = 0; i != 3; ++i)
            w.advance(1ns);
        CHECK(heartbeat.age() == 3);
        heartbeat.release();
        CHECK_FALSE(heartbeat);
        heartbeat.release();
        w.advance(0ns);
        second.deaths = 0;
        heartbeat = heartbeats.watch(first);
        CHECK(heartbeat.age() == 0);
        CHECK(heartbeats.watched() == 2);
        for (int i = 0; i != 3; ++i) {
            w.advance(1ns);
            CHECK(first.deaths == 0);
        }
        w.advance(1ns);
        CHECK(first.deaths == 1);
        CHECK(second.deaths == 1);
    }
    CHECK(heartbeats.watched() == 0);
    w.advance(100ns);
    CHECK(first.deaths == 1);
}

TEST_CASE("a heartbeat moves its watch, and what it watched when assigned to is released")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    peer first, second;
    heartbeat a = heartbeats.watch(first);
    heartbeat b = std::move(a);
    CHECK_FALSE(a);
    CHECK(b);
    a = heartbeats.watch(second);
    CHECK(heartbeats.watched() == 2);
    a = std::move(b);
    CHECK(heartbeats.watched() == 1);
    heartbeat& self = a;
    a = std::move(self);
    CHECK(heartbeats.watched() == 1);
    w.advance(1ns);
    w.advance(1ns);
    CHECK(first.deaths == 1);
    CHECK(second.deaths == 0);
}

TEST_CASE("a callback may destroy its own heartbeat")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    struct self_destroying {
        std::optional<holdfast::heartbeat> heartbeat;
        int deaths = 0;
        void abort(close_reason) noexcept
        {
            ++deaths;
            heartbeat.reset();
        }
    };
    std::array<self_destroying, 3> all;
    for (auto& each : all)
        each.heartbeat = heartbeats.watch(each);
    w.advance(1ns);
    w.advance(1ns);
    for (auto& each : all)
        CHECK(each.deaths == 1);
    CHECK(heartbeats.watched() == 0);
    tests::run(w.io); // and the timer is at rest
}

TEST_CASE(
    "a callback may destroy its neighbours' heartbeats, timed out or about to, whose callbacks are not called then")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    struct killer {
        std::vector<heartbeat>* all;
        int* deaths;
        void abort(close_reason) noexcept
        {
            ++*deaths;
            all->clear();
        }
    };
    std::vector<heartbeat> beats;
    int deaths = 0;
    killer k{&beats, &deaths};
    for (int i = 0; i != 3000; ++i) // more than a segment
        beats.push_back(heartbeats.watch(k));
    w.advance(1ns);
    w.advance(1ns);
    CHECK(deaths == 1);
    CHECK(heartbeats.watched() == 0);
}

TEST_CASE("a callback may watch new connections, which have their full time")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 2ns});
    struct parent {
        timer* heartbeats;
        std::vector<heartbeat>* beats;
        peer* child;
        bool first = true;
        void abort(close_reason) noexcept
        {
            beats->clear(); // nothing is watched for a moment: the timer stops and starts anew
            for (int i = 0; i != 2500; ++i)
                beats->push_back(heartbeats->watch(*child));
        }
    };
    std::vector<heartbeat> beats;
    peer child;
    parent p{&heartbeats, &beats, &child};
    beats.push_back(heartbeats.watch(p));
    for (int i = 0; i != 3; ++i)
        w.advance(1ns);
    CHECK(heartbeats.watched() == 2500);
    w.advance(1ns);
    w.advance(1ns);
    CHECK(child.deaths == 0);
    w.advance(1ns);
    CHECK(child.deaths == 2500);
}

TEST_CASE("a callback may destroy the timer, and no other callback runs then")
{
    world w;
    auto heartbeats =
        std::make_optional<timer>(w.io.get_executor(), holdfast::heartbeat_options{.tick = 1ns, .timeout = 1ns});
    struct destroyer {
        std::optional<timer>* heartbeats;
        int* deaths;
        void abort(close_reason) noexcept
        {
            ++*deaths;
            heartbeats->reset();
        }
    };
    int deaths = 0;
    destroyer d{&heartbeats, &deaths};
    auto one = heartbeats->watch(d);
    auto two = heartbeats->watch(d);
    SECTION("heartbeats stay") {}
    SECTION("through the only heartbeat") { two.release(); }
    w.advance(1ns);
    w.advance(1ns);
    CHECK(deaths == 1);
    CHECK_FALSE(heartbeats);
    one.touch();
    tests::run(w.io);
    CHECK(deaths == 1);
}

TEST_CASE("the timer is armed only while something is watched: run() returns, and a later watch arms it again")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    tests::run(w.io); // nothing was watched yet
    peer p;
    {
        const auto heartbeat = heartbeats.watch(p);
        w.settle();
        CHECK_FALSE(w.io.stopped()); // it has work
    }
    tests::run(w.io);
    manual_clock::advance(1000ns); // rested; the ticks missed meanwhile don't count
    const auto again = heartbeats.watch(p);
    w.settle();
    CHECK(again.age() == 0);
    w.advance(1ns);
    CHECK(p.deaths == 0);
    w.advance(1ns);
    CHECK(p.deaths == 1);
}

TEST_CASE("released and watched again before the old wait has ended, it ticks once a tick")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 100ns});
    peer p;
    auto heartbeat = heartbeats.watch(p);
    for (int i = 0; i != 5; ++i) {
        manual_clock::advance(10ns); // the tick is due, and about to be queued
        heartbeat.release();
        heartbeat = heartbeats.watch(p);
    }
    w.settle();
    CHECK(heartbeat.age() == 0);
    w.advance(10ns);
    CHECK(heartbeat.age() == 1);
}

TEST_CASE("heartbeats may outlive the timer and the context, and destroying the timer ends all watches")
{
    peer p;
    heartbeat kept, other;
    {
        world w;
        std::optional<timer> heartbeats(std::in_place, w.io.get_executor(),
                                        holdfast::heartbeat_options{.tick = 1ns, .timeout = 1ns});
        kept = heartbeats->watch(p);
        other = heartbeats->watch(p);
        heartbeats.reset();
        manual_clock::advance(100ns);
        tests::run(w.io);
        kept.touch();
    }
    kept.touch();
    CHECK(kept.age() == 0);
    other.release();
    kept = {};
    CHECK(p.deaths == 0);
}

TEST_CASE("the context may be destroyed before timer and heartbeats, with a tick pending")
{
    auto w = std::make_optional<world>();
    timer* heartbeats = nullptr;
    peer p;
    heartbeat kept;
    {
        // a timer in a coroutine's frame dies with the context, and its heartbeat here after both
        net::co_spawn(
            w->io,
            [&]() -> net::awaitable<void> {
                timer inner(w->io.get_executor(), {.tick = 1ns, .timeout = 1ns});
                heartbeats = &inner;
                kept = inner.watch(p);
                net::steady_timer never(w->io, 1h);
                co_await never.async_wait(net::use_awaitable);
            },
            net::detached);
        w->settle();
        REQUIRE(heartbeats != nullptr);
        w.reset();
    }
    kept.touch();
    kept.release();
    CHECK(p.deaths == 0);
}

TEST_CASE("a callable is watched too: an object of one word, or none")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    int deaths = 0;
    static int calls;
    calls = 0;
    const auto a = heartbeats.watch([&deaths]() noexcept { ++deaths; });
    const auto b = heartbeats.watch([]() noexcept { ++calls; });
    const auto c = heartbeats.watch(+[]() noexcept { ++calls; });
    CHECK(heartbeats.watched() == 3);
    for (int i = 0; i != 10; ++i)
        w.advance(1ns);
    CHECK(deaths == 1);
    CHECK(calls == 2);
    const std::array<void*, 2> two_words{};
    const auto large = [two_words] { (void)two_words; };
    static_assert(holdfast::heartbeat_callback<decltype([] {})>);
    static_assert(!holdfast::heartbeat_callback<decltype(large)>);
    static_assert(!holdfast::heartbeat_callback<std::unique_ptr<int>>);
}

TEST_CASE("a guard that is watched is reset for heartbeat_timeout, and its session's read ends")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    auto [server, client] = tests::socket_pair(w.io);
    holdfast::connection_guard<> guard(std::move(server));
    const auto heartbeat = heartbeats.watch(guard);
    char byte;
    holdfast::error_code seen;
    guard.stream().async_read_some(net::buffer(&byte, 1), [&](holdfast::error_code ec, std::size_t) { seen = ec; });
    w.advance(1ns);
    CHECK(guard.is_open());
    w.advance(1ns);
    CHECK(guard.reason() == close_reason::heartbeat_timeout);
    w.settle();
    CHECK(seen == net::error::operation_aborted);
    CHECK(tests::read_to_end(client).end == net::error::connection_reset);
}

TEST_CASE("touch and release allocate nothing, nor do ticks, deaths, and watches of recycled slots")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 2ns});
    std::array<peer, 100> peers;
    std::vector<heartbeat> beats;
    beats.reserve(peers.size());
    const auto watch_all = [&] {
        for (auto& p : peers)
            beats.push_back(heartbeats.watch(p));
    };
    watch_all();
    w.advance(1ns);
    CHECK(tests::allocations_in([&] {
              for (auto& b : beats)
                  b.touch();
          }) == 0);
    w.advance(1ns); // Asio recycles the operation's memory between ticks
    CHECK(tests::allocations_in([&] {
              for (int i = 0; i != 10; ++i)
                  w.advance(1ns);
          }) == 0);
    CHECK(peers[0].deaths == 1);
    CHECK(tests::allocations_in([&] {
              for (int i = 0; i != 100; ++i) {
                  beats.back().release();
                  beats.pop_back();
                  beats.push_back(heartbeats.watch(peers[99]));
              }
          }) == 0);
    CHECK(tests::allocations_in([&] { beats.clear(); }) == 0);
}

TEST_CASE("a watched connection costs at most 16 bytes, the segments' ends included")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    constexpr std::size_t count = 64 * holdfast::detail::heartbeat_table::segment_slots;
    std::vector<heartbeat> beats;
    beats.reserve(count);
    peer p;
    const auto before = tests::bytes_in_use.load();
    for (std::size_t i = 0; i != count; ++i)
        beats.push_back(heartbeats.watch(p));
    const auto used = tests::bytes_in_use - before;
    INFO(static_cast<double>(used) / static_cast<double>(count) << " bytes each");
    CHECK(used <= 16 * count);
    beats.clear();
    CHECK(heartbeats.watched() == 0);
}

TEST_CASE("a touch makes no clock call, and a tick two, whatever is watched")
{
    net::io_context io;
    holdfast::heartbeat_timer<net::io_context::executor_type, counting_clock> heartbeats(
        io.get_executor(), {.tick = 1ns, .timeout = 100ns});
    const auto calls_in = [](auto f) {
        const int before = counting_clock::calls;
        f();
        return counting_clock::calls - before;
    };
    std::array<peer, 3000> peers;
    std::vector<heartbeat> beats;
    for (auto& p : peers)
        beats.push_back(heartbeats.watch(p));
    CHECK(calls_in([&] {
              for (auto& heartbeat : beats)
                  heartbeat.touch();
          }) == 0);
    CHECK(calls_in([&] { (void)heartbeats.now(), (void)heartbeats.ticks(); }) == 0);
    io.poll();
    const int asios = calls_in([&] { io.poll(); }); // it looks whether the timer is due
    counting_clock::current += 1ns;
    const int all = calls_in([&] { io.poll(); });
    CHECK(heartbeats.ticks() == 1);
    INFO("Asio's own: " << asios << " a poll, all: " << all);
    CHECK(all <= 2 + 3 * asios + 2); // the poll that finds it, the one that finds nothing, the timer's re-arming
}

TEST_CASE("a tick over any number of connections is one handler, and so one wake-up")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 300ns});
    std::vector<peer> peers(10'000);
    std::vector<heartbeat> beats;
    for (auto& p : peers)
        beats.push_back(heartbeats.watch(p));
    w.settle();
    for (int i = 0; i != 29; ++i)
        REQUIRE(w.advance(10ns) == 1);
}

TEST_CASE("now() and ticks() are those of the last tick, and of the clock while nothing is watched")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 300ns});
    const auto birth = manual_clock::now();
    manual_clock::advance(25ns);
    CHECK(heartbeats.now() == birth + 25ns);
    CHECK(heartbeats.ticks() == 2);
    peer p;
    {
        const auto heartbeat = heartbeats.watch(p);
        CHECK(heartbeats.now() == birth + 25ns);
        w.advance(4ns);
        CHECK(heartbeats.now() == birth + 25ns);
        w.advance(1ns);
        CHECK(heartbeats.now() == birth + 30ns);
        CHECK(heartbeats.ticks() == 3);
        w.advance(1009ns);
        CHECK(heartbeats.now() == birth + 1039ns);
        CHECK(heartbeats.ticks() == 103);
    }
    manual_clock::advance(1ns);
    CHECK(heartbeats.now() == birth + 1040ns);
    CHECK(heartbeats.ticks() == 104);
}

TEST_CASE("a million ticks do not drift, each of them late, and some of them by more than a tick")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 100ns, .timeout = 6'000'000ns});
    const auto birth = manual_clock::now();
    std::mt19937 random(1);
    peer p;
    const auto heartbeat = heartbeats.watch(p);
    while (heartbeats.ticks() < 1'000'000) {
        const auto in_time = random() % 16 != 0;
        const auto until = birth + 100ns * (heartbeats.ticks() + (in_time ? 1 : 1 + random() % 1500)) +
                           std::chrono::nanoseconds(random() % 100);
        w.advance(until - manual_clock::now());
        REQUIRE(heartbeats.now() == manual_clock::now());
        REQUIRE(heartbeats.ticks() == static_cast<std::uint64_t>((manual_clock::now() - birth) / 100ns));
    }
    CHECK(heartbeats.counters().sweeps + heartbeats.counters().missed == heartbeats.ticks());
}

TEST_CASE("ticks that are late by parts of a tick, each by another, end no connection early, and each later by no more "
          "than the latest of them and the loop")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 100ns, .timeout = 500ns});
    std::mt19937 random(7);
    struct entry {
        peer p;
        holdfast::heartbeat heartbeat;
        manual_clock::time_point touched;
    };
    std::vector<std::unique_ptr<entry>> entries(300);
    const auto begin = manual_clock::now();
    auto latest = 0ns, longest_pause = 0ns;
    auto polled = begin;
    int deaths = 0;
    for (int step = 0; step != 20'000; ++step) {
        auto& e = entries[random() % entries.size()];
        const bool anew = random() % 4 == 0;
        if (e == nullptr || e->p.deaths != 0 || anew) {
            e = std::make_unique<entry>();
            e->heartbeat = heartbeats.watch(e->p);
        }
        e->heartbeat.touch();
        e->touched = manual_clock::now();
        manual_clock::advance(std::chrono::nanoseconds(random() % 9));          // the loop is busy meanwhile
        if (random() % 8 != 0 && manual_clock::now() - polled < 60ns) continue; // no tick is missed
        longest_pause = std::max(longest_pause, manual_clock::now() - polled);
        polled = manual_clock::now();
        const auto before = heartbeats.ticks();
        w.settle();
        if (heartbeats.ticks() != before) latest = std::max(latest, (manual_clock::now() - begin) % 100ns);
        for (auto& each : entries) {
            if (each == nullptr || each->p.deaths == 0 || each->touched == manual_clock::time_point::max()) continue;
            ++deaths;
            const auto silent = manual_clock::now() - each->touched;
            each->touched = manual_clock::time_point::max();
            REQUIRE(each->p.deaths == 1);
            REQUIRE(silent >= 500ns);
            REQUIRE(silent <= 600ns + latest + longest_pause);
        }
    }
    CHECK(deaths > 100);
}

TEST_CASE("a stall of any length is forgiven as one tick: connections that are touched stay, the others end one "
          "time-out of ticks later")
{
    for (const auto stall : {150ns, 300ns, 3'000ns, 300'000ns}) { // of a time-out of 300 ns
        world w;
        timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 300ns});
        peer living, dead;
        auto heartbeat = heartbeats.watch(living);
        const auto silent = heartbeats.watch(dead);
        for (int i = 0; i != 29; ++i) {
            w.advance(10ns);
            heartbeat.touch();
        }
        const int age = silent.age();
        w.advance(stall);
        INFO("a stall of " << stall.count());
        CHECK(living.deaths == 0);
        CHECK(dead.deaths == 0);
        CHECK(heartbeat.age() == 1);
        CHECK(silent.age() == age + 1);
        CHECK(heartbeats.counters().credited == heartbeats.counters().missed);
        CHECK(heartbeats.counters().missed == static_cast<std::uint64_t>(stall / 10ns - 1));
        w.advance(10ns);
        CHECK(dead.deaths == 1);
        for (int i = 0; i != 100; ++i) {
            heartbeat.touch();
            w.advance(10ns);
        }
        CHECK(living.deaths == 0);
    }
}

TEST_CASE("stalls are forgiven again after ticks on time, and not without end: steady overload ends silent "
          "connections, and only them")
{
    for (const int late : {1, 2, 7, 29, 30, 1000})
        for (const int on_time : {0, 1, 5, 40}) {
            world w;
            timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 300ns});
            peer living, dead;
            auto heartbeat = heartbeats.watch(living);
            const auto silent = heartbeats.watch(dead);
            int sweeps = 0;
            while (dead.deaths == 0 && sweeps != 1000) {
                for (int i = 0; i != on_time && dead.deaths == 0; ++i, ++sweeps) {
                    heartbeat.touch();
                    w.advance(10ns);
                }
                heartbeat.touch(); // before the late tick and not after it: it may have been just now
                w.advance(10ns * (late + 1));
                ++sweeps;
            }
            INFO("late by " << late << " ticks after " << on_time << " on time: " << sweeps << " sweeps");
            CHECK(dead.deaths == 1);
            CHECK(living.deaths == 0);
            CHECK(sweeps <= 60);
        }
}

TEST_CASE("what was missed beyond the credit counts: it crosses a threshold without hitting it")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 300ns});
    peer first, second;
    const auto one = heartbeats.watch(first);
    w.advance(10ns);
    w.advance(10'000ns); // forgiven, and the credit is gone
    CHECK(one.age() == 2);
    const auto two = heartbeats.watch(second);
    w.advance(10ns);
    CHECK(one.age() == 3);
    w.advance(110ns); // ten are missed, one of them forgiven for the one on time
    CHECK(one.age() == 13);
    CHECK(two.age() == 11);
    w.advance(1'000ns);
    CHECK(first.deaths == 1);
    CHECK(second.deaths == 1);
    w.advance(1'000ns);
    CHECK(first.deaths == 1);
}

TEST_CASE("connections that time out together end in turns, between which others run, and none is skipped")
{
    for (const std::size_t at_a_time : {std::size_t{0}, std::size_t{1}, std::size_t{64}}) {
        world w;
        timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns, .calls_per_turn = at_a_time});
        constexpr std::size_t count = 5000;
        std::size_t deaths = 0, in_a_row = 0, most = 0;
        struct mortal {
            std::size_t &deaths, &in_a_row, &most;
            void abort(close_reason)
            {
                ++deaths;
                most = std::max(most, ++in_a_row);
            }
        } m{deaths, in_a_row, most};
        std::vector<heartbeat> beats;
        for (std::size_t i = 0; i != count; ++i)
            beats.push_back(heartbeats.watch(m));
        w.advance(1ns);
        manual_clock::advance(1ns);
        struct other {
            net::io_context& io;
            std::size_t &deaths, &in_a_row;
            void operator()()
            {
                in_a_row = 0;
                if (deaths != count) net::post(io, *this);
            }
        };
        net::post(w.io, other{w.io, deaths, in_a_row});
        w.settle();
        CHECK(deaths == count);
        CHECK(most == std::max<std::size_t>(at_a_time, 1));
    }
}

TEST_CASE("a sweep continues in turns, and ages each once")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 100ns, .slots_per_turn = 2048});
    std::vector<peer> peers(10'000);
    std::vector<heartbeat> beats;
    for (auto& p : peers)
        beats.push_back(heartbeats.watch(p));
    w.settle();
    for (int i = 1; i != 50; ++i) {
        CHECK(w.advance(1ns) == 5); // handlers
        for (const auto& heartbeat : beats)
            if (heartbeat.age() != i) FAIL(heartbeat.age() << " instead of " << i);
    }
}

TEST_CASE("what a callback throws reaches the hook, or leaves run(), the others are called in either case")
{
    const bool has_hook = GENERATE(true, false);
    const bool hook_throws = has_hook && GENERATE(true, false);
    const bool hooked = has_hook && !hook_throws;
    world w;
    int caught = 0;
    holdfast::heartbeat_options options{.tick = 1ns, .timeout = 1ns};
    if (has_hook)
        options.on_exception = [&](const std::exception_ptr& e) {
            if (hook_throws) std::rethrow_exception(e);
            CHECK_THROWS_AS(std::rethrow_exception(e), std::domain_error);
            ++caught;
        };
    timer heartbeats(w.io.get_executor(), options);
    int deaths = 0;
    const auto dies = [&deaths] {
        if (++deaths % 2 == 1) throw std::domain_error("as it died");
    };
    std::vector<heartbeat> beats;
    for (int i = 0; i != 10; ++i)
        beats.push_back(heartbeats.watch(dies));
    w.advance(1ns);
    manual_clock::advance(1ns);
    for (int i = 0; i != 10; ++i)
        try {
            w.settle();
        } catch (const std::domain_error&) {
            CHECK_FALSE(hooked);
            ++caught;
        }
    CHECK(caught == 5);
    CHECK(deaths == 10);
    deaths = 0;
    beats.push_back(heartbeats.watch(dies)); // and it goes on ticking
    w.advance(1ns);
    manual_clock::advance(1ns);
    if (hooked)
        w.settle();
    else
        CHECK_THROWS_AS(w.settle(), std::domain_error);
    CHECK(deaths == 1);
}

TEST_CASE("the hook is called once for each tick, and may destroy the timer")
{
    world w;
    std::optional<timer> heartbeats;
    std::vector<holdfast::heartbeat_counters> told;
    heartbeats.emplace(w.io.get_executor(),
                       holdfast::heartbeat_options{
                           .tick = 10ns, .timeout = 20ns, .on_tick = [&](const holdfast::heartbeat_counters& c) {
                               told.push_back(c);
                               if (told.size() == 4) heartbeats.reset();
                           }});
    peer p;
    const auto dawdles = [] { manual_clock::advance(7ns); };
    const auto one = heartbeats->watch(p);
    const auto two = heartbeats->watch(dawdles);
    w.advance(10ns);
    w.advance(50ns);
    w.advance(10ns);
    w.advance(10ns);
    w.advance(100ns);
    REQUIRE(told.size() == 4);
    CHECK(told[0].sweeps == 1);
    CHECK(told[0].missed == 0);
    CHECK(told[1].missed == 4);
    CHECK(told[1].credited == 4);
    CHECK(told[1].timeouts == 0);
    CHECK(told[1].longest_turn == 0ns);
    CHECK(told[2].timeouts == 2);
    CHECK(told[2].longest_turn == 7ns);
    CHECK(told[3].sweeps == 4);
}

TEST_CASE("memory for the expected connections is allocated at the first watch, and they take no more")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s, .timeout = 30s, .expected = 5000});
    peer p;
    std::vector<heartbeat> beats;
    beats.reserve(5120);
    beats.push_back(heartbeats.watch(p));
    CHECK(tests::allocations_in([&] {
              while (beats.size() != 5000)
                  beats.push_back(heartbeats.watch(p));
          }) == 0);
}

TEST_CASE("thirty days of random touches, joins and leaves of 10,000 connections agree exactly with a plain model")
{
    constexpr auto tick = std::chrono::minutes(2);
    constexpr int timeout = 15;
    const int ticks = static_cast<int>(std::chrono::days(30) / tick) / tests::slowness;
    constexpr std::uint32_t seed = 20240607;
    INFO("seed " << seed);
    std::mt19937 random(seed);
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = tick, .timeout = tick * timeout});
    constexpr std::size_t count = 10'000;
    std::vector<peer> peers(count);
    std::vector<heartbeat> beats(count);
    // The model: ages and deaths as plain numbers. Who is not there has no heartbeat.
    std::vector<int> ages(count), deaths(count);
    std::size_t watched = 0;
    const auto join = [&](std::size_t i) {
        beats[i] = heartbeats.watch(peers[i]);
        peers[i].deaths = deaths[i] = ages[i] = 0;
        ++watched;
    };
    for (std::size_t i = 0; i != count; ++i)
        join(i);
    std::uint64_t died = 0;
    for (int t = 0; t != ticks; ++t) {
        for (auto n = random() % 2000; n != 0; --n) {
            const std::size_t i = random() % count;
            if (!beats[i]) {
                join(i);
            } else if (const auto what = random() % 16; what == 0) {
                beats[i].release();
                --watched;
            } else {
                beats[i].touch();
                ages[i] = 0;
            }
        }
        w.advance(tick);
        for (std::size_t i = 0; i != count; ++i)
            if (beats[i] && ++ages[i] > timeout && deaths[i] == 0) {
                deaths[i] = 1;
                ++died;
            }
        REQUIRE(heartbeats.watched() == watched);
        REQUIRE(heartbeats.counters().timeouts == died);
        for (std::size_t i = 0; i != count; ++i)
            if (beats[i] && (beats[i].age() != ages[i] || peers[i].deaths != deaths[i]))
                FAIL("tick " << t << ", connection " << i << ": age " << beats[i].age() << " for " << ages[i]
                             << ", deaths " << peers[i].deaths << " for " << deaths[i]);
    }
    CHECK(died > static_cast<std::uint64_t>(ticks));
}
