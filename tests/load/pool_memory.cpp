// holdfast: tests of what a buffer pool leaves of the process's memory after a burst, and of objects in it.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/detail/buffer/pool_placed.hpp>
#include <holdfast/process/memory.hpp>

#include <cstring>
#include <span>
#include <stdexcept>
#include <vector>

namespace net = holdfast::net;
using holdfast::shared_buffer_loan;
using holdfast::shared_buffer_pool;

namespace {

std::uint64_t rss_anon()
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(0, ec);
    REQUIRE_FALSE(ec);
    return memory.rss_anon;
}

} // namespace

TEST_CASE("after a burst all but a MiB of free buffers of a size have given their memory back")
{
    constexpr std::size_t size = 16 * 1024;
    net::io_context io;
    auto& pool = shared_buffer_pool::of(io.get_executor());
    const auto before = rss_anon();
    std::vector<shared_buffer_loan> burst;
    for (int i = 0; i != 2000; ++i) {
        burst.push_back(pool.try_borrow(size));
        std::memset(burst.back().data(), 1, size);
    }
    CHECK(rss_anon() > before + 2000 * size * 9 / 10);
    burst.clear();
    CHECK(rss_anon() < before + (std::uint64_t(2) << 20U));
}

TEST_CASE("a buffer is returned when the object that it is to hold cannot be made")
{
    struct refuses {
        explicit refuses(std::span<char>) { throw std::runtime_error("no"); }
    };
    net::io_context io;
    auto& pool = shared_buffer_pool::of(io.get_executor());
    CHECK_THROWS_AS(holdfast::detail::pool_placed<refuses>::make(pool.try_borrow(4096)), std::runtime_error);
    CHECK(pool.counters().lent_bytes == 0);
}
