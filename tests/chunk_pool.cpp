// holdfast: tests of the pool behind async_write_streamed: chunks are reused, and idle ones give their
// memory back.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/detail/chunk_pool.hpp>
#include <holdfast/process_memory.hpp>

#include <cstring>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <vector>

namespace net = holdfast::net;
using holdfast::detail::chunk_slabs;
using holdfast::detail::chunk_slabs_of;

namespace {

constexpr std::size_t size = 16 * 1024;

/// What the tests put into a chunk.
struct block {
    explicit block(std::span<char> space) : rest(space) {}
    std::span<char> rest;
};
using block_ptr = holdfast::detail::chunk_ptr<block>;

block_ptr make(const std::shared_ptr<chunk_slabs>& slabs)
{
    return holdfast::detail::make_in_chunk<block>(slabs);
}

std::uint64_t rss_anon()
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(0, ec);
    REQUIRE_FALSE(ec);
    return memory.rss_anon;
}

} // namespace

TEST_CASE("chunks that are out at the same time are distinct, and a returned one is the next to be lent")
{
    net::io_context io;
    const auto slabs = chunk_slabs_of(io.get_executor(), size);
    std::vector<block_ptr> out;
    std::set<block*> places;
    for (int i = 0; i != 200; ++i) {
        out.push_back(make(slabs));
        REQUIRE(out.back()->rest.size() == size - sizeof(block));
        std::memset(out.back()->rest.data(), i, out.back()->rest.size());
        places.insert(out.back().get());
    }
    CHECK(places.size() == 200);
    for (int i = 0; i != 200; ++i) // nobody wrote into another's
        CHECK(out[static_cast<std::size_t>(i)]->rest.back() == static_cast<char>(i));
    const block* const last = out.back().get();
    out.pop_back();
    CHECK(make(slabs).get() == last);
}

TEST_CASE("a context has one pool for each size, in whole pages")
{
    net::io_context io;
    const auto slabs = chunk_slabs_of(io.get_executor(), size);
    CHECK(chunk_slabs_of(net::any_io_executor(net::make_strand(io)), size) == slabs);
    CHECK(chunk_slabs_of(io.get_executor(), size - 1) == slabs);
    CHECK(chunk_slabs_of(io.get_executor(), 1)->chunk_bytes() == 4096);
    net::io_context other;
    CHECK(chunk_slabs_of(other.get_executor(), size) != slabs);
}

TEST_CASE("after a burst all but a few free chunks have given their memory back")
{
    net::io_context io;
    const auto slabs = chunk_slabs_of(io.get_executor(), size);
    const auto before = rss_anon();
    std::vector<block_ptr> burst;
    for (int i = 0; i != 2000; ++i) {
        burst.push_back(make(slabs));
        std::memset(burst.back()->rest.data(), 1, burst.back()->rest.size());
    }
    CHECK(rss_anon() > before + 2000 * size * 9 / 10);
    burst.clear();
    CHECK(rss_anon() < before + 64 * size + (std::uint64_t(1) << 20U)); // 64 stay warm
}

TEST_CASE("a chunk may outlive its context")
{
    block_ptr kept;
    {
        net::io_context io;
        kept = make(chunk_slabs_of(io.get_executor(), size));
    }
    std::memset(kept->rest.data(), 1, kept->rest.size());
    CHECK(kept->rest.back() == 1);
}

TEST_CASE("a chunk goes back when what should live in it cannot be made")
{
    struct refuses {
        explicit refuses(std::span<char>) { throw std::runtime_error("no"); }
    };
    net::io_context io;
    const auto slabs = chunk_slabs_of(io.get_executor(), size);
    auto made = make(slabs);
    const block* const first = made.get();
    made.reset();
    CHECK_THROWS_AS(holdfast::detail::make_in_chunk<refuses>(slabs), std::runtime_error);
    CHECK(make(slabs).get() == first);
}
