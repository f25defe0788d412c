// holdfast: tests of the arithmetic of capacity_plan.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/process/capacity_plan.hpp>

#include <algorithm>
#include <limits>
#include <sstream>
#include <string>

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

TEST_CASE("the largest number of connections fits, and one more does not")
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

TEST_CASE("descriptors limit the number of connections too, and it is 0 where nothing fits")
{
    CHECK(capacity_plan(feed, {.memory_bytes = 1ULL << 40U, .descriptors = 1024}).max_connections() == 1008);
    CHECK(capacity_plan(feed, {.memory_bytes = 1ULL << 40U, .descriptors = 3}).max_connections() == 0);
    CHECK(capacity_plan(feed, {.memory_bytes = 1024}).max_connections() == 0);
    CHECK(capacity_plan(feed, {}).max_connections() == 0);
}

TEST_CASE("figures beyond 64 bits saturate, and never wrap around")
{
    const capacity_plan plan({.session_bytes = std::numeric_limits<std::size_t>::max() / 2}, {.memory_bytes = most});
    CHECK(plan.bytes_at(3) == most);
    CHECK(plan.descriptors_at(most) == most);
    CHECK(plan.max_connections() == 1);
}

TEST_CASE("no field of a cost or a budget wraps a sum: a plan never gets smaller when a field grows")
{
    constexpr std::size_t largest = std::numeric_limits<std::size_t>::max();
    constexpr std::size_t values[] = {0, 1, largest / 2, largest / 2 + 1, largest - 4000, largest - 1, largest};
    constexpr std::size_t connection_cost::* parts[] = {
        &connection_cost::session_bytes,        &connection_cost::frame_bytes,     &connection_cost::chunk_bytes,
        &connection_cost::queue_bytes,          &connection_cost::heartbeat_bytes, &connection_cost::send_buffer_bytes,
        &connection_cost::receive_buffer_bytes, &connection_cost::tls_bytes};
    for (const auto part : parts) {
        std::uint64_t before = 0, at_before = 0;
        for (const std::size_t value : values) {
            connection_cost cost = feed;
            cost.*part = value;
            INFO(value);
            CHECK(cost.bytes() >= value);
            CHECK(cost.bytes() >= cost.user_bytes());
            CHECK(cost.bytes() >= cost.kernel_bytes());
            CHECK(cost.bytes() >= before);
            before = cost.bytes();
            const capacity_plan plan(cost, {.memory_bytes = most});
            CHECK(plan.bytes_at(0) == capacity_budget{}.fixed_bytes);
            CHECK(plan.bytes_at(1) >= cost.bytes());
            CHECK(plan.bytes_at(1000) >= at_before);
            CHECK(plan.bytes_at(most) == most);
            at_before = plan.bytes_at(1000);
        }
    }
    constexpr std::uint64_t capacity_budget::* budgets[] = {
        &capacity_budget::memory_bytes,      &capacity_budget::fixed_bytes,       &capacity_budget::descriptors,
        &capacity_budget::spare_descriptors, &capacity_budget::ended_connections, &capacity_budget::handshakes};
    for (const auto part : budgets)
        for (const std::uint64_t value : values) {
            capacity_budget budget{.memory_bytes = 2'000'000'000};
            budget.*part = value;
            const capacity_plan plan(feed, budget);
            INFO(value);
            CHECK(plan.bytes_at(10) >= std::min(most - budget.fixed_bytes, 10 * feed.bytes()));
            CHECK(plan.bytes_at(most) == most);
            const auto n = plan.max_connections();
            if (n != 0) CHECK(plan.bytes_at(n) <= budget.memory_bytes);
            CHECK(plan.descriptors_at(n) >= n);
        }
}

TEST_CASE("what the kernel holds for ended connections is in the plan where the server lets it")
{
    const capacity_plan none(feed, {.memory_bytes = 1ULL << 31U});
    const capacity_plan some(feed, {.memory_bytes = 1ULL << 31U, .ended_connections = 100});
    CHECK(some.bytes_at(10) == none.bytes_at(10) + 100 * feed.kernel_bytes());
    CHECK(some.user_bytes_at(10) == none.user_bytes_at(10));
    CHECK(some.max_connections() < none.max_connections());
    CHECK(some.bytes_at(some.max_connections()) <= 1ULL << 31U);
    std::ostringstream out;
    out << capacity_plan({}, {.memory_bytes = 1ULL << 25U, .ended_connections = 4});
    CHECK(out.str().find("16 MiB + 4 ended x 79616 B in the kernel + 201 x (") != std::string::npos);
}

TEST_CASE("buffers left to the kernel count as its smallest, never as nothing")
{
    static_assert(connection_cost{}.kernel_bytes() > 5 * 1024);
    static_assert(connection_cost{.send_buffer_bytes = 1}.kernel_bytes() == connection_cost{}.kernel_bytes());
}

TEST_CASE("a plan is printed in one line")
{
    std::ostringstream out;
    out << capacity_plan({}, {.memory_bytes = 20 * 1024 * 1024, .descriptors = 66});
    CHECK(out.str() == "at most 50 connections fit: 16 MiB + 50 x (2060 B + 79616 B in the kernel) = 19 of 20 MiB; 66 "
                       "descriptors\n");
}

TEST_CASE("TLS counts for each connection, and its handshakes for as many as may be under way")
{
    const connection_cost over_tls{.tls_bytes = 10'000, .handshake_bytes = 50'000};
    const capacity_plan plan(over_tls, {.memory_bytes = 1ULL << 30U, .handshakes = 32});
    CHECK(plan.user_bytes_at(100) == capacity_plan({}, {}).user_bytes_at(100) + 100 * 10'000 + 32 * 50'000);
    CHECK(plan.bytes_at(plan.max_connections()) <= 1ULL << 30U);
    std::ostringstream out;
    out << plan;
    CHECK(out.str().find("16 MiB + 32 handshakes x 50000 B + ") != std::string::npos);
}
