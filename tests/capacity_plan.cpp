// holdfast: tests of the arithmetic of capacity_plan.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/process/capacity_plan.hpp>

#include <limits>
#include <sstream>
#include <system_error>

using holdfast::capacity_budget;
using holdfast::capacity_plan;
using holdfast::connection_cost;

namespace {

constexpr connection_cost feed{.session_bytes = 3000,
                               .frame_bytes = 4096,
                               .chunk_bytes = 16384,
                               .send_buffer_bytes = 65536,
                               .receive_buffer_bytes = 4096};
constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

static_assert(feed.user_bytes() == 3000 + 4096 + 16384 + 12);
static_assert(feed.kernel_bytes() == (5 + 66) * 1024 + 2 * 65536 + 2 * 4096);
static_assert(capacity_plan(feed, {.memory_bytes = 2'000'000'000}).max_connections() > 8'000);

} // namespace

TEST_CASE("the greatest number fits, and one more does not")
{
    for (const std::uint64_t memory : {20'000'000ULL, 100'000'000ULL, 1ULL << 31U, 1ULL << 40U}) {
        const capacity_plan plan(feed, {.memory_bytes = memory});
        const auto n = plan.max_connections();
        CHECK(plan.bytes_at(n) <= memory);
        CHECK(plan.bytes_at(n + 1) > memory);
        CHECK(plan.user_bytes_at(n) < plan.bytes_at(n));
        CHECK(plan.descriptors_at(n) == n + 16);
    }
}

TEST_CASE("descriptors bound it too, and where nothing fits it says 0")
{
    CHECK(capacity_plan(feed, {.memory_bytes = 1ULL << 40U, .descriptors = 1024}).max_connections() == 1008);
    CHECK(capacity_plan(feed, {.memory_bytes = 1ULL << 40U, .descriptors = 3}).max_connections() == 0);
    CHECK(capacity_plan(feed, {.memory_bytes = 1024}).max_connections() == 0);
    CHECK(capacity_plan(feed, {}).max_connections() == 0);
}

TEST_CASE("figures beyond 64 bits saturate, and never wrap around")
{
    const capacity_plan plan({.session_bytes = std::numeric_limits<std::size_t>::max() / 2},
                             {.memory_bytes = most});
    CHECK(plan.bytes_at(3) == most);
    CHECK(plan.descriptors_at(most) == most);
    CHECK(plan.max_connections() == 1);
}

TEST_CASE("buffers left to the kernel count as its smallest, never as nothing")
{
    static_assert(connection_cost{}.kernel_bytes() > 5 * 1024);
    static_assert(connection_cost{.send_buffer_bytes = 1}.kernel_bytes() == connection_cost{}.kernel_bytes());
}

TEST_CASE("the memory to plan with is a cgroup's limit or the machine's, and the plan is printed in one line")
{
    std::error_code ec;
    const auto memory = holdfast::memory_to_plan_with(ec);
    REQUIRE_FALSE(ec);
    CHECK(memory > 16 * 1024 * 1024);
    CHECK(memory <= holdfast::read_machine_memory(ec).total);
    std::ostringstream out;
    out << capacity_plan({}, {.memory_bytes = 20 * 1024 * 1024, .descriptors = 66});
    CHECK(out.str() ==
          "at most 50 connections fit: 16 MiB + 50 x (2060 B + 79616 B in the kernel) = 19 of 20 MiB; 66 "
          "descriptors\n");
}
