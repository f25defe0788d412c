// holdfast: tests of coarse_timestamp, with both its clocks turned by hand.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/heartbeats.hpp"

#include <holdfast/coarse_timestamp.hpp>

#include <ctime>
#include <random>
#include <string>

using namespace std::chrono_literals;
using tests::peer;
using tests::timer;
using tests::world;

namespace {

/// The time of day, as the test says.
struct wall_clock {
    using duration = std::chrono::milliseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<wall_clock>;
    static time_point now() noexcept
    {
        ++calls;
        return time_point(since_1970);
    }
    static inline duration since_1970{};
    static inline int calls = 0;
};

using stamp = holdfast::coarse_timestamp<timer, wall_clock>;

} // namespace

TEST_CASE("a timestamp is formatted at most once a tick, without allocation")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    peer p;
    const auto beat = heart.watch(p);
    stamp s(heart);
    wall_clock::calls = 0;
    wall_clock::since_1970 = 1'767'225'599'999ms;
    CHECK(s.text() == "2025-12-31T23:59:59.999Z");
    wall_clock::since_1970 += 1ms;
    CHECK(s.text() == "2025-12-31T23:59:59.999Z");
    CHECK(wall_clock::calls == 1);
    w.advance(999ms);
    CHECK(s.text() == "2025-12-31T23:59:59.999Z");
    w.advance(1ms);
    CHECK(wall_clock::calls == 1); // nobody asked
    CHECK(tests::allocations_in([&] {
              for (int i = 0; i != 1000; ++i)
                  (void)s.text();
          }) == 0);
    CHECK(s.text() == "2026-01-01T00:00:00.000Z");
    CHECK(wall_clock::calls == 2);
}

TEST_CASE("while nothing is watched, and so nothing ticks, a timestamp is not stale")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    stamp s(heart);
    wall_clock::since_1970 = 0ms;
    CHECK(s.text() == "1970-01-01T00:00:00.000Z");
    wall_clock::since_1970 = 86'399'999ms;
    CHECK(s.text() == "1970-01-01T23:59:59.999Z");
    peer p;
    const auto beat = heart.watch(p);
    wall_clock::since_1970 = 951'782'400'000ms;
    w.advance(1s);
    CHECK(s.text() == "2000-02-29T00:00:00.000Z");
}

TEST_CASE("timestamps agree with strftime over the years 0 to 9999")
{
    world w;
    timer heart(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    stamp s(heart);
    constexpr std::uint32_t seed = 20240607;
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    constexpr std::int64_t first = -62'167'219'200'000, last = 253'402'300'799'999;
    for (int i = 0; i != 10'000; ++i) {
        const auto time = i == 0   ? first
                          : i == 1 ? last
                                   : std::uniform_int_distribution<std::int64_t>(first, last)(random);
        wall_clock::since_1970 = std::chrono::milliseconds(time);
        const auto seconds = std::chrono::floor<std::chrono::seconds>(wall_clock::since_1970);
        const std::time_t t = seconds.count();
        std::tm broken{};
        ::gmtime_r(&t, &broken);
        char text[80];
        std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", broken.tm_year + 1900,
                      broken.tm_mon + 1, broken.tm_mday, broken.tm_hour, broken.tm_min, broken.tm_sec,
                      static_cast<int>((wall_clock::since_1970 - seconds).count()));
        REQUIRE(std::string(s.text()) == text);
    }
}

TEST_CASE("a timestamp of the ordinary clocks is deduced")
{
    holdfast::net::io_context io;
    holdfast::heartbeat_timer<> heart(io.get_executor());
    holdfast::coarse_timestamp now{heart};
    CHECK(now.text().size() == 24);
    CHECK(now.text().substr(0, 2) == "20");
}
