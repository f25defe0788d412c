// holdfast: tests of heartbeat_profile: pings, deaths and lifetimes, driven by a clock that is turned by
// hand.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/heartbeats.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_profile.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::heartbeat;
using holdfast::heartbeat_profile;
using holdfast::manual_clock;
using tests::peer;
using tests::timer;
using tests::world;

namespace {

/// A peer that can be pinged.
struct session : peer {
    int pings = 0;
    std::function<void()> on_ping = [] {};
    std::function<void()> on_death = [] {};
};

constexpr auto ping = [](session& s) {
    ++s.pings;
    s.on_ping();
};
constexpr auto die = [](session& s, close_reason why) {
    s.abort(why);
    s.on_death();
};

using profile = heartbeat_profile<session>;

} // namespace

TEST_CASE("a silent peer is pinged once, never early and at most one tick late, and then times out once")
{
    for (auto phase = 0ns; phase != 10ns; phase += 1ns) {
        world w;
        timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 10ns});
        profile phones(heartbeats, {.ping_after = 20ns, .timeout = 50ns}, ping);
        session keeps_ticking, s;
        const auto other = phones.watch(keeps_ticking);
        w.advance(phase);
        const auto heartbeat = phones.watch(s);
        const auto begin = manual_clock::now();
        std::optional<manual_clock::duration> pinged, died;
        for (int i = 0; i != 1000; ++i) {
            w.advance(1ns);
            const auto silent = manual_clock::now() - begin;
            if (s.pings != 0 && !pinged) pinged = silent;
            if (s.deaths != 0 && !died) died = silent;
        }
        INFO("phase " << phase.count());
        CHECK(s.pings == 1);
        CHECK(s.deaths == 1);
        CHECK(s.reason == close_reason::heartbeat_timeout);
        REQUIRE(pinged);
        REQUIRE(died);
        CHECK((*pinged >= 20ns && *pinged <= 30ns));
        CHECK((*died >= 50ns && *died <= 60ns));
        CHECK(heartbeats.counters().pings == 2);
        CHECK(heartbeats.counters().timeouts == 2);
    }
}

TEST_CASE("each silence is pinged anew, after a touch by the ping itself or by the answer")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    profile phones(heartbeats, {.ping_after = 1ns, .timeout = 4ns}, ping);
    session s;
    auto heartbeat = phones.watch(s);
    SECTION("by the answer")
    {
        for (int silence = 1; silence != 20; ++silence) {
            w.advance_by_steps(1ns, 4);
            CHECK(s.pings == silence);
            heartbeat.touch();
            heartbeat.touch(); // twice in one tick
        }
    }
    SECTION("by the ping")
    {
        s.on_ping = [&] { heartbeat.touch(); };
        w.advance_by_steps(1ns, 100);
        CHECK(s.pings == 50);
    }
    CHECK(s.deaths == 0);
}

TEST_CASE("a ping callback may end the watch, its neighbours', the profile and the timer, and watch others")
{
    world w;
    auto heartbeats =
        std::make_optional<timer>(w.io.get_executor(), holdfast::heartbeat_options{.tick = 1ns, .timeout = 1ns});
    auto phones = std::make_optional<profile>(
        *heartbeats, holdfast::heartbeat_profile_options{.ping_after = 1ns, .timeout = 2ns}, ping, die);
    session first, second;
    auto one = phones->watch(first);
    auto two = phones->watch(second);
    const auto advance = [&] { w.advance_by_steps(1ns, 10); };
    SECTION("itself")
    {
        first.on_ping = [&] { one.release(); };
        advance();
        CHECK(first.deaths == 0);
        CHECK(second.deaths == 1);
    }
    SECTION("its neighbour")
    {
        first.on_ping = [&] { two.release(); };
        advance();
        CHECK(first.deaths == 1);
        CHECK(second.pings == 0);
        CHECK(second.deaths == 0);
    }
    SECTION("the profile")
    {
        first.on_ping = [&] { phones.reset(); };
        advance();
        CHECK(second.pings == 0);
        CHECK(first.deaths + second.deaths == 0);
        CHECK(heartbeats->watched() == 2);
        one = heartbeats->watch(first); // the timer's own still works
        advance();
        CHECK(first.deaths == 1);
    }
    SECTION("the timer")
    {
        first.on_ping = [&] { heartbeats.reset(); };
        advance();
        CHECK(second.pings == 0);
        CHECK(first.deaths + second.deaths == 0);
        two = phones->watch(second); // watches nothing any more
        advance();
        CHECK(second.deaths == 0);
    }
    SECTION("all of it, and the last heartbeat")
    {
        first.on_ping = [&] {
            heartbeats.reset();
            phones.reset();
            two.release();
            one.release();
        };
        advance();
        CHECK(first.pings == 1);
        CHECK(second.pings == 0);
    }
    SECTION("others are watched, thousands")
    {
        std::vector<heartbeat> more;
        session third;
        first.on_ping = [&] {
            for (int i = 0; i != 3000; ++i)
                more.push_back(phones->watch(third));
        };
        advance();
        CHECK(first.pings == 1);
        CHECK(third.pings == 3000);
        CHECK(third.deaths == 3000);
    }
    SECTION("a death touches a neighbour that was about to die")
    {
        first.on_death = [&] { two.touch(); };
        w.advance_by_steps(1ns, 3);
        CHECK(first.deaths == 1);
        CHECK(second.deaths == 0);
    }
}

TEST_CASE("profiles are apart: times, callbacks and types of their own on one timer")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 8ns});
    profile quick(heartbeats, {.timeout = 1ns});
    profile slow(heartbeats, {.ping_after = 2ns, .timeout = 4ns}, ping);
    session a, b;
    peer c;
    const auto one = quick.watch(a);
    const auto two = slow.watch(b);
    const auto three = heartbeats.watch(c);
    std::array<int, 3> died{};
    for (int t = 1; t != 20; ++t) {
        w.advance(1ns);
        const std::array<int, 3> deaths{a.deaths, b.deaths, c.deaths};
        for (std::size_t i = 0; i != 3; ++i)
            if (deaths[i] == 1 && died[i] == 0) died[i] = t;
    }
    CHECK(died == std::array<int, 3>{2, 5, 9});
    CHECK(a.pings == 0);
    CHECK(b.pings == 1);
}

TEST_CASE(
    "lifetimes end between the longest and the spread, evenly, whatever the peers send, so that few reconnect at once")
{
    constexpr std::size_t count = 100'000 / tests::slowness;
    constexpr auto lifetime = 3600s;
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s});
    struct mortal {
        std::vector<manual_clock::time_point>* ends;
        void abort(close_reason why) const
        {
            CHECK(why == close_reason::max_lifetime);
            ends->push_back(manual_clock::now());
        }
    };
    std::vector<manual_clock::time_point> ends;
    mortal m{&ends};
    heartbeat_profile<mortal> phones(heartbeats, {.timeout = 30s, .max_lifetime = lifetime});
    std::vector<heartbeat> beats;
    const auto birth = manual_clock::now();
    for (std::size_t i = 0; i != count; ++i)
        beats.push_back(phones.watch(m));
    while (ends.size() != count && manual_clock::now() < birth + 2 * lifetime) {
        w.advance(1s);
        for (auto& heartbeat : beats)
            heartbeat.touch();
    }
    REQUIRE(ends.size() == count);
    const auto spread = ends.back() - ends.front();
    CHECK(spread >= lifetime / 5);
    CHECK(ends.front() - birth >= lifetime - lifetime / 4);
    CHECK(ends.back() - birth <= lifetime + 17s);
    // Evenly: no sixteen seconds take more than twice their share.
    for (std::size_t i = 0; i != count; ++i) {
        const auto together =
            std::upper_bound(ends.begin(), ends.end(), ends[i]) - std::lower_bound(ends.begin(), ends.end(), ends[i]);
        if (together > static_cast<std::ptrdiff_t>(2 * count * 16 / 900))
            FAIL(together << " of " << count << " at once");
    }
    CHECK(heartbeats.counters().lifetimes == count);
    CHECK(heartbeats.counters().timeouts == 0);
}

TEST_CASE("a stall is forgiven to the silent, but no lifetime gets longer by it")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s});
    profile phones(heartbeats, {.timeout = 60s, .max_lifetime = 1000s});
    session s;
    const auto heartbeat = phones.watch(s);
    w.advance(999s + 20s);
    CHECK(heartbeat.age() == 1);
    CHECK(s.deaths == 1);
    CHECK(s.reason == close_reason::max_lifetime);
    w.advance_by_steps(1s, 100);
    CHECK(s.deaths == 1); // not of silence too
}

TEST_CASE("lifetimes from one tick to centuries end in time, and a new tenant of a slot has its own")
{
    struct {
        manual_clock::duration tick, lifetime;
    } constexpr cases[]{{1s, 1s},   {1s, 2s},         {1s, 64s},        {1s, 1024s},
                        {1s, 240s}, {1s, 2'000'000s}, {1ms, 24h * 400}, {1h, 24h * 36'500}};
    for (const auto& each : cases) {
        world w;
        timer heartbeats(w.io.get_executor(), {.tick = each.tick, .timeout = each.tick});
        profile phones(heartbeats, {.timeout = each.tick * 60'000, .max_lifetime = each.lifetime});
        session s;
        INFO("a lifetime of " << each.lifetime.count() << " ns, ticks of " << each.tick.count());
        for (int tenant = 0; tenant != 3; ++tenant) {
            auto heartbeat = phones.watch(s);
            s.deaths = 0;
            const auto birth = manual_clock::now();
            while (s.deaths == 0 && manual_clock::now() - birth < 2 * each.lifetime + 4 * each.tick) {
                w.advance(std::max(each.tick, each.lifetime / 100));
                heartbeat.touch();
            }
            const auto age = manual_clock::now() - birth;
            CHECK(s.deaths == 1);
            CHECK(s.reason == close_reason::max_lifetime);
            CHECK(age >= each.lifetime / 4 * 3 - each.tick);
            CHECK(age <= each.lifetime + each.lifetime / 20 + 2 * each.tick);
        }
    }
}

TEST_CASE("options out of their range are refused, and those at its ends are taken")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s});
    const auto refused = [&](const holdfast::heartbeat_profile_options& options) {
        CHECK_THROWS_AS(profile(heartbeats, options, ping), std::invalid_argument);
    };
    const auto taken = [&](const holdfast::heartbeat_profile_options& options) {
        CHECK_NOTHROW(profile(heartbeats, options, ping));
    };
    refused({.timeout = 0s});
    refused({.timeout = 65'535s});
    refused({.ping_after = 30s, .timeout = 30s});
    refused({.ping_after = 500ms, .timeout = 30s});
    refused({.ping_after = -1s, .timeout = 30s});
    refused({.max_lifetime = 1ms});
    refused({.max_lifetime = -1h});
    refused({.max_lifetime = 1h, .lifetime_spread = 0.19});
    refused({.max_lifetime = 1h, .lifetime_spread = 1.01});
    CHECK_THROWS_AS(profile(heartbeats, {.ping_after = 1s, .timeout = 2s}),
                    std::invalid_argument); // pinged by whom?
    taken({.timeout = 1s});
    taken({.timeout = 65'534s});
    taken({.ping_after = 65'533s, .timeout = 65'534s});
    taken({.max_lifetime = 1s, .lifetime_spread = 0.2});
    taken({.max_lifetime = std::chrono::nanoseconds::max(), .lifetime_spread = 1});
}

TEST_CASE("the longest time-out with a ping one tick before: each is called once, at its time")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1ns, .timeout = 1ns});
    profile phones(heartbeats, {.ping_after = 65'533ns, .timeout = 65'534ns}, ping);
    session s;
    auto heartbeat = phones.watch(s);
    w.advance(65'533ns); // forgiven as one
    CHECK(heartbeat.age() == 1);
    w.advance_by_steps(1ns, 5);
    heartbeat.touch();
    while (heartbeats.counters().missed < 2 * 65'533) // not forgiven any more, so that this takes no time
        w.advance(65'533ns);
    CHECK(s.pings == 1);
    w.advance(1ns);
    CHECK(s.deaths == 1);
    w.advance_by_steps(100'000ns, 10);
    CHECK(s.pings == 1);
    CHECK(s.deaths == 1);
}

TEST_CASE("twelve bytes a connection, fourteen with a maximum lifetime")
{
    // tests/unit/heartbeat_timer.cpp measures the first; here, that callbacks are not kept with each connection.
    static_assert(sizeof(heartbeat) == sizeof(void*));
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s});
    int total = 0;
    const auto captures = [&total, a = std::array<char, 100>{}](session&) { total += 1 + a[0]; };
    profile phones(heartbeats, {.ping_after = 1s, .timeout = 10s}, captures);
    session s;
    std::vector<heartbeat> beats;
    for (int i = 0; i != 100; ++i)
        beats.push_back(phones.watch(s));
    w.advance_by_steps(1s, 2);
    CHECK(total == 100);
}
