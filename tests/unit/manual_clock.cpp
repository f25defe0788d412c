// holdfast: tests of manual_clock: time passes when the test says so, and timers notice at the next poll.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/testing/manual_clock.hpp>

using namespace std::chrono_literals;
using holdfast::manual_clock;
namespace net = holdfast::net;

TEST_CASE("the clock stands still until it is advanced, and then by just so much")
{
    const auto before = manual_clock::now();
    CHECK(manual_clock::now() == before);
    manual_clock::advance(24h);
    manual_clock::advance(1ns);
    CHECK(manual_clock::now() - before == 24h + 1ns);
}

TEST_CASE("a wait ends in the first poll after the clock has reached its time, not before")
{
    net::io_context io;
    net::basic_waitable_timer<manual_clock> timer(io, 30s);
    bool ended = false;
    timer.async_wait([&](holdfast::error_code ec) {
        CHECK_FALSE(ec);
        ended = true;
    });
    io.poll();
    manual_clock::advance(30s - 1ns);
    io.poll();
    CHECK_FALSE(ended);
    manual_clock::advance(1ns);
    io.poll();
    CHECK(ended);
}
