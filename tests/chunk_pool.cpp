// holdfast: tests of the pool behind async_write_streamed: chunks are reused, and idle ones give their memory back.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/detail/chunk_pool.hpp>
#include <holdfast/process_memory.hpp>

#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace net = holdfast::net;
using holdfast::detail::chunk;
using holdfast::detail::chunk_slabs;
using holdfast::detail::chunk_slabs_of;

namespace {

constexpr std::size_t size = 16 * 1024;

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
    std::vector<std::unique_ptr<chunk>> out;
    std::set<char*> places;
    for (int i = 0; i != 200; ++i) {
        out.push_back(std::make_unique<chunk>(slabs, size));
        REQUIRE(out.back()->bytes().size() == size);
        std::memset(out.back()->bytes().data(), i, size);
        places.insert(out.back()->bytes().data());
    }
    CHECK(places.size() == 200);
    for (int i = 0; i != 200; ++i) // nobody wrote into another's
        CHECK(out[static_cast<std::size_t>(i)]->bytes().back() == static_cast<char>(i));
    char* const last = out.back()->bytes().data();
    out.pop_back();
    CHECK(chunk(slabs, size).bytes().data() == last);
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
    std::vector<std::unique_ptr<chunk>> burst;
    for (int i = 0; i != 2000; ++i) {
        burst.push_back(std::make_unique<chunk>(slabs, size));
        std::memset(burst.back()->bytes().data(), 1, size);
    }
    CHECK(rss_anon() > before + 2000 * size * 9 / 10);
    burst.clear();
    CHECK(rss_anon() < before + 64 * size + (std::uint64_t(1) << 20U)); // 64 stay warm
}

TEST_CASE("a chunk may outlive its context")
{
    std::optional<chunk> kept;
    {
        net::io_context io;
        kept.emplace(chunk_slabs_of(io.get_executor(), size), size);
    }
    std::memset(kept->bytes().data(), 1, size);
    CHECK(kept->bytes()[size - 1] == 1);
}
