// holdfast: tests of heartbeat_timer, driven by a clock that the tests turn by hand.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/manual_clock.hpp>

#include <array>
#include <limits>
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

namespace {

using timer = holdfast::heartbeat_timer<net::io_context::executor_type, manual_clock>;

/// An io_context whose time is the manual clock's.
struct world {
    net::io_context io;

    void settle()
    {
        io.restart();
        io.poll();
    }

    void advance(manual_clock::duration time)
    {
        manual_clock::advance(time);
        settle();
    }
};

/// Something that can be watched.
struct peer {
    int deaths = 0;
    void abort(close_reason reason) noexcept
    {
        deaths += reason == close_reason::heartbeat_timeout ? 1 : 1000;
    }
};

static_assert(holdfast::abortable<peer> && holdfast::abortable<holdfast::connection_guard<>>);
static_assert(!std::is_copy_constructible_v<heartbeat>);
static_assert(std::is_nothrow_move_constructible_v<heartbeat> &&
              std::is_nothrow_move_assignable_v<heartbeat>);
static_assert(sizeof(heartbeat) == sizeof(void*));

} // namespace

TEST_CASE("a connection that is touched at every tick never dies")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 10ns, .timeout = 10ns});
    peer p;
    auto beat = heart.watch(p);
    for (int i = 0; i != 100'000; ++i) {
        w.advance(10ns);
        REQUIRE(beat.age() == 1);
        beat.touch();
    }
    CHECK(p.deaths == 0);
}

TEST_CASE("an untouched one dies once, never before its time-out and at most one tick after, at any phase of "
          "its touch")
{
    for (const auto timeout : {10ns, 30ns, 100ns})
        for (auto phase = 0ns; phase != 25ns; phase += 1ns) {
            world w;
            timer heart(w.io.get_executor(), {.tick = 10ns, .timeout = timeout});
            peer other, p;
            const auto keeps_ticking = heart.watch(other);
            auto beat = heart.watch(p);
            w.advance(phase);
            const auto touched = manual_clock::now();
            beat.touch();
            if (phase % 2ns == 1ns) beat = heart.watch(p); // a new one is like a touched one
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
    timer heart(w.io.get_executor(), {.tick = 10ns, .timeout = 21ns});
    peer p;
    const auto beat = heart.watch(p);
    for (int tick = 1; tick <= 3; ++tick)
        w.advance(10ns);
    CHECK(p.deaths == 0);
    w.advance(10ns); // three ticks, and the one under way when it was touched
    CHECK(p.deaths == 1);
}

TEST_CASE("a late tick ages by one, not by its lateness, and nobody dies before the time-out because of it")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 10ns, .timeout = 20ns});
    peer silent, p;
    const auto other = heart.watch(silent);
    w.advance(1'000'000ns); // stalled
    CHECK(silent.deaths == 0);
    CHECK(other.age() == 1);

    // Touched when a tick is already overdue, as when a busy loop reads first: the next must not come too
    // early.
    for (auto late = 1ns; late != 30ns; late += 1ns) {
        timer fresh(w.io.get_executor(), {.tick = 10ns, .timeout = 10ns});
        p.deaths = 0;
        auto beat = fresh.watch(p);
        manual_clock::advance(10ns + late);
        const auto touched = manual_clock::now();
        beat.touch();
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
    CHECK_THROWS_AS(timer(ex, {.tick = 1s, .timeout = std::chrono::nanoseconds::max()}),
                    std::invalid_argument);
    CHECK_NOTHROW(timer(ex, {.tick = 1s, .timeout = 1s}));
    CHECK_NOTHROW(timer(ex, {.tick = 1s, .timeout = 65'533s + 1ns}));
    CHECK_NOTHROW(timer(ex, {.tick = 1s, .timeout = 65'534s}));
    CHECK_NOTHROW(timer(ex, {.tick = 1h, .timeout = 65'534h}));
    CHECK_THROWS_AS(timer(ex, {.tick = 1h + 1ns, .timeout = 2h}), std::invalid_argument);
}

TEST_CASE("the longest time-out, 65,534 ticks, ends where it should and does not wrap")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 65'534ns});
    peer p;
    const auto beat = heart.watch(p);
    for (int i = 0; i != 65'534; ++i)
        w.advance(1ns);
    CHECK(p.deaths == 0);
    w.advance(1ns);
    CHECK(p.deaths == 1);
    for (int i = 0; i != 140'000; ++i)
        w.advance(1ns);
    CHECK(p.deaths == 1);
}

TEST_CASE("a touch after death does nothing, and the dead never die again")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 2ns});
    peer p;
    auto beat = heart.watch(p);
    for (int i = 0; i != 3; ++i)
        w.advance(1ns);
    REQUIRE(p.deaths == 1);
    CHECK(heart.watched() == 1); // until its heartbeat is gone
    CHECK(beat);
    for (int i = 0; i != 70'000; ++i) {
        if (i % 7 == 0) beat.touch();
        w.advance(1ns);
    }
    CHECK(p.deaths == 1);
    beat.release();
    CHECK(heart.watched() == 0);
}

TEST_CASE("one that was touched in the same tick by a dying neighbour's callback lives on")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    struct saviour {
        heartbeat* other = nullptr;
        int deaths = 0;
        void abort(close_reason) noexcept
        {
            ++deaths;
            if (other != nullptr) other->touch();
        }
    } first, second;
    auto a = heart.watch(first);
    auto b = heart.watch(second);
    first.other = &b;
    second.other = &a;
    w.advance(1ns);
    w.advance(1ns);
    CHECK(first.deaths + second.deaths == 1);
}

TEST_CASE("a released slot is used again, and its new tenant starts from zero")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 3ns});
    peer first, second;
    {
        const auto other = heart.watch(second);
        auto beat = heart.watch(first);
        for (int i = 0; i != 3; ++i)
            w.advance(1ns);
        CHECK(beat.age() == 3);
        beat.release();
        CHECK_FALSE(beat);
        beat.release();
        w.advance(0ns);
        second.deaths = 0;
        beat = heart.watch(first);
        CHECK(beat.age() == 0);
        CHECK(heart.watched() == 2);
        for (int i = 0; i != 3; ++i) {
            w.advance(1ns);
            CHECK(first.deaths == 0);
        }
        w.advance(1ns);
        CHECK(first.deaths == 1);
        CHECK(second.deaths == 1);
    }
    CHECK(heart.watched() == 0);
    w.advance(100ns);
    CHECK(first.deaths == 1);
}

TEST_CASE("a heartbeat moves its watch, and what it watched when assigned to is released")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    peer first, second;
    heartbeat a = heart.watch(first);
    heartbeat b = std::move(a);
    CHECK_FALSE(a);
    CHECK(b);
    a = heart.watch(second);
    CHECK(heart.watched() == 2);
    a = std::move(b);
    CHECK(heart.watched() == 1);
    heartbeat& self = a;
    a = std::move(self);
    CHECK(heart.watched() == 1);
    w.advance(1ns);
    w.advance(1ns);
    CHECK(first.deaths == 1);
    CHECK(second.deaths == 0);
}

TEST_CASE("a death may destroy its own heartbeat")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    struct self_destroying {
        std::optional<heartbeat> beat;
        int deaths = 0;
        void abort(close_reason) noexcept
        {
            ++deaths;
            beat.reset();
        }
    };
    std::array<self_destroying, 3> all;
    for (auto& each : all)
        each.beat = heart.watch(each);
    w.advance(1ns);
    w.advance(1ns);
    for (auto& each : all)
        CHECK(each.deaths == 1);
    CHECK(heart.watched() == 0);
    tests::run(w.io); // and the timer is at rest
}

TEST_CASE("a death may destroy its neighbours' heartbeats, dead or dying, which are then silent")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
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
        beats.push_back(heart.watch(k));
    w.advance(1ns);
    w.advance(1ns);
    CHECK(deaths == 1);
    CHECK(heart.watched() == 0);
}

TEST_CASE("a death may watch new connections, which live their full time")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 2ns});
    struct parent {
        timer* heart;
        std::vector<heartbeat>* beats;
        peer* child;
        bool first = true;
        void abort(close_reason) noexcept
        {
            beats->clear(); // nothing is watched for a moment: the timer stops and starts anew
            for (int i = 0; i != 2500; ++i)
                beats->push_back(heart->watch(*child));
        }
    };
    std::vector<heartbeat> beats;
    peer child;
    parent p{&heart, &beats, &child};
    beats.push_back(heart.watch(p));
    for (int i = 0; i != 3; ++i)
        w.advance(1ns);
    CHECK(heart.watched() == 2500);
    w.advance(1ns);
    w.advance(1ns);
    CHECK(child.deaths == 0);
    w.advance(1ns);
    CHECK(child.deaths == 2500);
}

TEST_CASE("a death may destroy the timer, and nobody else's callback runs then")
{
    world w;
    auto heart = std::make_optional<timer>(w.io.get_executor(),
                                           holdfast::heartbeat_options{.tick = 1ns, .timeout = 1ns});
    struct destroyer {
        std::optional<timer>* heart;
        int* deaths;
        void abort(close_reason) noexcept
        {
            ++*deaths;
            heart->reset();
        }
    };
    int deaths = 0;
    destroyer d{&heart, &deaths};
    auto one = heart->watch(d);
    auto two = heart->watch(d);
    SECTION("heartbeats stay") {}
    SECTION("through the only heartbeat") { two.release(); }
    w.advance(1ns);
    w.advance(1ns);
    CHECK(deaths == 1);
    CHECK_FALSE(heart);
    one.touch();
    tests::run(w.io);
    CHECK(deaths == 1);
}

TEST_CASE(
    "the timer is armed only while something is watched: run() returns, and a later watch arms it again")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    tests::run(w.io); // nothing was watched yet
    peer p;
    {
        const auto beat = heart.watch(p);
        w.settle();
        CHECK_FALSE(w.io.stopped()); // it has work
    }
    tests::run(w.io);
    manual_clock::advance(1000ns); // rested; the ticks missed meanwhile don't count
    const auto again = heart.watch(p);
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
    timer heart(w.io.get_executor(), {.tick = 10ns, .timeout = 100ns});
    peer p;
    auto beat = heart.watch(p);
    for (int i = 0; i != 5; ++i) {
        manual_clock::advance(10ns); // the tick is due, and about to be queued
        beat.release();
        beat = heart.watch(p);
    }
    w.settle();
    CHECK(beat.age() == 0);
    w.advance(10ns);
    CHECK(beat.age() == 1);
}

TEST_CASE("heartbeats may outlive the timer and the context, and destroying the timer ends all watches")
{
    peer p;
    heartbeat kept, other;
    {
        world w;
        std::optional<timer> heart(std::in_place, w.io.get_executor(),
                                   holdfast::heartbeat_options{.tick = 1ns, .timeout = 1ns});
        kept = heart->watch(p);
        other = heart->watch(p);
        heart.reset();
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

TEST_CASE("the context may die before timer and heartbeats, with a tick pending")
{
    auto w = std::make_optional<world>();
    timer* heart = nullptr;
    peer p;
    heartbeat kept;
    {
        // a timer in a coroutine's frame dies with the context, and its heartbeat here after both
        net::co_spawn(
            w->io,
            [&]() -> net::awaitable<void> {
                timer inner(w->io.get_executor(), {.tick = 1ns, .timeout = 1ns});
                heart = &inner;
                kept = inner.watch(p);
                net::steady_timer never(w->io, 1h);
                co_await never.async_wait(net::use_awaitable);
            },
            net::detached);
        w->settle();
        REQUIRE(heart != nullptr);
        w.reset();
    }
    kept.touch();
    kept.release();
    CHECK(p.deaths == 0);
}

TEST_CASE("a callable is watched too: an object of one word, or none")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    int deaths = 0;
    static int calls;
    calls = 0;
    const auto a = heart.watch([&deaths]() noexcept { ++deaths; });
    const auto b = heart.watch([]() noexcept { ++calls; });
    const auto c = heart.watch(+[]() noexcept { ++calls; });
    CHECK(heart.watched() == 3);
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
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    auto [server, client] = tests::socket_pair(w.io);
    holdfast::connection_guard<> guard(std::move(server));
    const auto beat = heart.watch(guard);
    char byte;
    holdfast::error_code seen;
    guard.stream().async_read_some(net::buffer(&byte, 1),
                                   [&](holdfast::error_code ec, std::size_t) { seen = ec; });
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
    timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = 2ns});
    std::array<peer, 100> peers;
    std::vector<heartbeat> beats;
    beats.reserve(peers.size());
    const auto watch_all = [&] {
        for (auto& p : peers)
            beats.push_back(heart.watch(p));
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
                  beats.push_back(heart.watch(peers[99]));
              }
          }) == 0);
    CHECK(tests::allocations_in([&] { beats.clear(); }) == 0);
}

TEST_CASE("a watched connection costs at most 16 bytes, the segments' ends included")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    constexpr std::size_t count = 64 * holdfast::detail::heartbeat_table::segment_slots;
    std::vector<heartbeat> beats;
    beats.reserve(count);
    peer p;
    const auto before = tests::bytes_in_use.load();
    for (std::size_t i = 0; i != count; ++i)
        beats.push_back(heart.watch(p));
    const auto used = tests::bytes_in_use - before;
    INFO(static_cast<double>(used) / static_cast<double>(count) << " bytes each");
    CHECK(used <= 16 * count);
    beats.clear();
    CHECK(heart.watched() == 0);
}

TEST_CASE("10,000 random watches, touches, releases and ticks agree exactly with a plain model")
{
    constexpr int timeout = 5;
    for (const std::uint32_t seed : {1U, 20240607U, 4242U}) {
        INFO("seed " << seed);
        std::mt19937 random(seed);
        world w;
        timer heart(w.io.get_executor(), {.tick = 1ns, .timeout = std::chrono::nanoseconds(timeout)});
        struct entry {
            peer p;
            heartbeat beat;
            int age = 0;
            int deaths = 0;
        };
        std::vector<std::unique_ptr<entry>> entries;
        for (int step = 0; step != 10'000; ++step) {
            const auto what = random() % 10;
            const auto any = [&] { return random() % entries.size(); };
            if (what < 4 && entries.size() < 2000) {
                for (auto n = random() % 20; n != 0; --n) {
                    auto& e = entries.emplace_back(std::make_unique<entry>());
                    e->beat = heart.watch(e->p);
                }
            } else if (what < 6 && !entries.empty()) {
                for (auto n = random() % 50; n != 0; --n) {
                    auto& e = *entries[any()];
                    e.beat.touch();
                    e.age = 0;
                }
            } else if (what < 8 && !entries.empty()) {
                for (auto n = random() % 15; n != 0 && !entries.empty(); --n) {
                    std::swap(entries[any()], entries.back());
                    entries.pop_back();
                }
            } else {
                w.advance(1ns);
                for (auto& e : entries)
                    if (++e->age == timeout + 1 && e->deaths == 0) e->deaths = 1;
            }
            REQUIRE(heart.watched() == entries.size());
            for (const auto& e : entries) {
                if (e->p.deaths != e->deaths || e->beat.age() != e->age)
                    FAIL("step " << step << ": deaths " << e->p.deaths << " for " << e->deaths << ", age "
                                 << e->beat.age() << " for " << e->age);
            }
        }
    }
}
