// holdfast: tests of heartbeat options at the ends of their ranges, and of what is left when nothing ticks.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/heartbeats.hpp"

#include <holdfast/heartbeat_profile.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using holdfast::heartbeat;
using holdfast::heartbeat_options;
using holdfast::heartbeat_profile_options;
using nanoseconds = std::chrono::nanoseconds;
namespace net = holdfast::net;

using tests::peer;
using tests::timer;
using tests::world;

namespace {

constexpr auto forever = nanoseconds::max();
constexpr auto unlimited = std::numeric_limits<std::size_t>::max();
constexpr nanoseconds durations[] = {nanoseconds::min(), -1ns, 0ns, 1ns, 1s, forever - 1ns, forever};
constexpr std::size_t counts[] = {0, 1, 1'000, unlimited - 1, unlimited};

using profile = holdfast::heartbeat_profile<peer>;
constexpr auto ping = [](peer&) noexcept {};

/// Calls `f`, which may throw std::invalid_argument only, with a text that begins with `option`.
template <class F>
bool accepted(const std::string& option, F&& f)
{
    try {
        f();
        return true;
    } catch (const std::invalid_argument& refusal) {
        CHECK(std::string(refusal.what()).substr(0, option.size() + 9) == option + " must be ");
        return false;
    }
}

} // namespace

static_assert(std::is_same_v<holdfast::heartbeat_timer<>::rebind_executor<net::io_context::executor_type>::other,
                             holdfast::heartbeat_timer<net::io_context::executor_type>>);

TEST_CASE("every option of a timer is accepted in its range, refused with its name outside of it, and never wraps")
{
    world w;
    for (const auto time : durations) {
        INFO(time.count() << " ns");
        const bool tick = accepted("heartbeat_options::tick", [&] { timer(w.io, {.tick = time, .timeout = forever}); });
        CHECK(tick == (time > 0ns && time <= 1h));
        const bool timeout = accepted("heartbeat_options::timeout", [&] {
            timer heartbeats(w.io, {.tick = 1ns, .timeout = time});
            peer p;
            auto heartbeat = heartbeats.watch(p);
            w.advance_by_steps(1ns, 3);
            CHECK(p.deaths == (time == 1ns ? 1 : 0));
        });
        CHECK(timeout == (time == 1ns || time == forever));
    }
    for (const auto count : counts) {
        INFO(count);
        CHECK(accepted("heartbeat_options::expected", [&] { timer(w.io, {.expected = count}); }) ==
              (count <= 16'777'216));
        for (const bool slots : {true, false}) {
            timer heartbeats(w.io, {.tick = 1ns,
                                    .timeout = 1ns,
                                    .slots_per_turn = slots ? count : 1024,
                                    .calls_per_turn = slots ? 64 : count});
            std::vector<peer> peers(3000);
            std::vector<heartbeat> beats;
            for (peer& each : peers)
                beats.push_back(heartbeats.watch(each));
            w.advance_by_steps(1ns, 3);
            for (const peer& each : peers)
                REQUIRE(each.deaths == 1);
        }
    }
}

TEST_CASE("every option of a profile is accepted in its range, refused with its name outside of it, and never wraps")
{
    world w;
    timer heartbeats(w.io, {.tick = 1ns, .timeout = forever});
    for (const auto time : durations) {
        INFO(time.count() << " ns");
        CHECK(accepted("heartbeat_profile_options::timeout", [&] { profile(heartbeats, {.timeout = time}); }) ==
              (time == 1ns || time == forever));
        CHECK(accepted("heartbeat_profile_options::ping_after", [&] {
                  profile(heartbeats, {.ping_after = time, .timeout = forever}, ping);
              }) == (time == 0ns || time == 1ns || time == forever));
        const bool lifetime = accepted("heartbeat_profile_options::max_lifetime", [&] {
            profile limited(heartbeats, {.timeout = forever, .max_lifetime = time});
            peer p;
            auto heartbeat = limited.watch(p);
            w.advance_by_steps(1ns, 5);
            CHECK(p.deaths == (time == 1ns ? 1 : 0));
        });
        CHECK(lifetime == (time == 0ns || time == 1ns || time == 1s || time == forever));
    }
    for (const auto count : counts)
        CHECK(accepted("heartbeat_profile_options::expected",
                       [&] { profile(heartbeats, {.timeout = forever, .expected = count}); }) == (count <= 16'777'216));
    for (const double spread : {-1.0, 0.0, 0.19, 0.2, 1.0, 1.01, std::numeric_limits<double>::max(),
                                std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
        CHECK(accepted("heartbeat_profile_options::lifetime_spread", [&] {
                  profile(heartbeats, {.timeout = forever, .lifetime_spread = spread});
              }) == (spread >= 0.2 && spread <= 1));
    CHECK_FALSE(accepted("heartbeat_profile_options::ping_after",
                         [&] { profile(heartbeats, {.ping_after = 2ns, .timeout = 2ns}, ping); }));
    CHECK_FALSE(accepted("heartbeat_profile_options::ping_after", [&] {
        profile(heartbeats, {.ping_after = 1ns, .timeout = 2ns}); // without an on_ping
    }));
}

TEST_CASE("a time-out of the largest duration never comes, also after stalls that are not forgiven")
{
    world w;
    timer heartbeats(w.io, {.tick = 10ns, .timeout = forever});
    int pings = 0;
    struct pinged {
        int* pings;
        int deaths = 0;
        void abort(holdfast::close_reason) noexcept { ++deaths; }
    };
    holdfast::heartbeat_profile<pinged> pinging(heartbeats, {.ping_after = 20ns, .timeout = forever},
                                                [](pinged& self) { ++*self.pings; });
    peer silent;
    pinged also{&pings};
    auto first = heartbeats.watch(silent);
    auto second = pinging.watch(also);
    w.advance_by_steps(10ns, 70'000);
    CHECK(pings == 1);
    for (int i = 0; i != 100; ++i)
        w.advance(1'000'000ns); // a stall
    CHECK(silent.deaths == 0);
    CHECK(also.deaths == 0);
    CHECK(pings == 1);
    CHECK(first.age() == std::numeric_limits<std::uint16_t>::max());
    second.touch();
    w.advance_by_steps(10ns, 10);
    CHECK(pings == 2);
    CHECK(also.deaths == 0);
}

TEST_CASE("profiles that are made and destroyed leave no entry, also while nothing ticks")
{
    world w;
    timer heartbeats(w.io, {.tick = 1s});
    peer p;
    const auto made_and_destroyed = [&](int times) {
        for (int i = 0; i != times; ++i) {
            std::optional<profile> one(std::in_place, heartbeats, heartbeat_profile_options{.expected = 1});
            auto heartbeat = one->watch(p);
            if (i % 2 == 0) heartbeat.release();
            one.reset(); // before or after its last heartbeat
        }
    };
    made_and_destroyed(10);
    w.settle();
    const std::size_t before = tests::bytes_in_use;
    made_and_destroyed(1000);
    CHECK(tests::bytes_in_use - before < 1024); // the handler of one cancelled wait
    w.settle();
    CHECK(tests::bytes_in_use - before < 1024);
    const auto keeps_ticking = heartbeats.watch(p);
    const std::size_t ticking = tests::bytes_in_use;
    made_and_destroyed(1000);
    CHECK(tests::bytes_in_use == ticking);
}

TEST_CASE("watching and releasing any number of times within one handler queues one handler")
{
    world w;
    timer heartbeats(w.io, {.tick = 10ns, .timeout = 20ns});
    peer p;
    for (int i = 0; i != 1000; ++i)
        const auto heartbeat = heartbeats.watch(p);
    CHECK(w.settle() <= 1);
    CHECK(w.io.stopped()); // nothing is pending: an idle timer does not keep run() from returning

    std::optional<holdfast::heartbeat> heartbeat;
    for (int i = 0; i != 1000; ++i)
        heartbeat.emplace(heartbeats.watch(p));
    w.advance_by_steps(10ns, 5);
    CHECK(p.deaths == 1);
    CHECK(heartbeats.counters().sweeps == 5);
}

TEST_CASE("a callback that ends its own profile runs to its end with its state")
{
    world w;
    timer heartbeats(w.io, {.tick = 1ns, .timeout = forever});
    struct owner {
        std::optional<holdfast::heartbeat_profile<owner>> own_profile;
        holdfast::heartbeat heartbeat;
        std::shared_ptr<int> seen;
        void abort(holdfast::close_reason) noexcept {}
    };
    owner o;
    auto state = std::make_shared<int>(7);
    o.own_profile.emplace(heartbeats, heartbeat_profile_options{.timeout = 1ns}, holdfast::detail::no_ping{},
                          [state](owner& self, holdfast::close_reason) {
                              self.heartbeat.release();
                              self.own_profile.reset();
                              self.seen = state; // the callback itself must still be there
                          });
    o.heartbeat = o.own_profile->watch(o);
    w.advance_by_steps(1ns, 3);
    CHECK(o.seen == state);
    o.seen.reset();
    CHECK(state.use_count() == 1); // and is destroyed after it
}
