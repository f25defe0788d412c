// holdfast: tests that a message's length costs no memory: gigabytes are made, sent and held up, and the
// process does not grow.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/process/memory.hpp>
#include <holdfast/write_streamed.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ranges>
#include <string_view>
#include <utility>
#include <vector>

using holdfast::async_write_streamed;
using holdfast::error_code;
using holdfast::json;
using holdfast::ndjson;
using tests::tcp;
namespace net = holdfast::net;

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

struct quote {
    std::uint64_t id;
    std::string_view symbol;
    double bid, ask;
    std::uint32_t bid_size, ask_size;
    std::uint64_t time;
    bool open;
};

constexpr auto describe(holdfast::type_tag<quote>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &quote::id), field("symbol", &quote::symbol), field("bid", &quote::bid),
                            field("ask", &quote::ask), field("bid_size", &quote::bid_size),
                            field("ask_size", &quote::ask_size), field("time", &quote::time),
                            field("open", &quote::open));
}

/// Quotes that never exist but one at a time, 120 bytes or more of text each.
auto quotes(std::uint64_t count)
{
    return std::views::iota(std::uint64_t{0}, count) | std::views::transform([](std::uint64_t i) {
               static constexpr std::array<std::string_view, 4> symbols = {"KELP", "WRACK", "DULSE", "LAVER"};
               const double price = static_cast<double>(10'000 + i % 5'000) / 100;
               return quote{1'000'000 + i, symbols[i % 4],        price,      price + 0.05, 100,
                            200,           1'700'000'000'000 + i, i % 16 != 0};
           });
}

std::uint64_t rss_anon()
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(0, ec);
    REQUIRE_FALSE(ec);
    return memory.rss_anon;
}

/// How far the process has grown since its beginning, at most, as far as it was asked.
class growth {
public:
    void look() { most_ = std::max(most_, rss_anon()); }
    [[nodiscard]] std::uint64_t most() const { return most_ - begin_; }

private:
    std::uint64_t begin_ = rss_anon();
    std::uint64_t most_ = begin_;
};

} // namespace

TEST_CASE("a gigabyte of JSON from a generated range is made without an allocation, in flat memory")
{
    holdfast::streaming_serializer<json, decltype(quotes(0))> text(quotes(10'000'000));
    std::vector<char> chunk(16 * kib);
    std::error_code ec;
    std::size_t allocations = 0;
    growth grown;
    while (!text.done()) {
        const std::uint64_t stop = text.bytes_written() + gib / 16;
        allocations += tests::allocations_in([&] {
            while (!text.done() && !ec && text.bytes_written() < stop)
                static_cast<void>(text.next(chunk, ec));
        });
        REQUIRE_FALSE(ec);
        grown.look();
    }
    CHECK(text.bytes_written() > gib);
    CHECK(allocations == 0);
    CHECK(grown.most() <= 64 * kib);
}

TEST_CASE("ten million rows that never exist go through a socket to a reader that counts them, in flat memory")
{
    constexpr std::size_t rows = 10'000'000;
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    bool done = false;
    std::size_t written = 0, bytes = 0, lines = 0;
    std::vector<char> chunk(256 * kib);
    auto ids = std::views::iota(std::size_t{0}, rows) |
               std::views::transform([](std::size_t i) { return std::pair(i, static_cast<double>(i % 10'000) / 100); });
    growth grown; // after the reader's chunk, which is not the writer's
    async_write_streamed<ndjson>(server, ids, {.double_buffered = true}, [&](error_code ec, std::size_t n) {
        REQUIRE_FALSE(ec);
        written = n;
        done = true;
        server.close();
    });
    std::size_t looked = 0;
    const auto read = [&](auto& self) -> void {
        client.async_read_some(net::buffer(chunk), [&](error_code ec, std::size_t n) {
            bytes += n;
            lines += static_cast<std::size_t>(std::count(chunk.begin(), chunk.begin() + static_cast<int>(n), '\n'));
            if (bytes - looked > 16 * mib) {
                looked = bytes;
                grown.look();
            }
            if (!ec) self(self);
        });
    };
    read(read);
    tests::run(io);
    CHECK(done);
    CHECK(lines == rows);
    CHECK(bytes == written);
    CHECK(written > 100 * mib);
    CHECK(grown.most() <= chunk.size() + 256 * kib);
}

TEST_CASE("a gigabyte to each of a hundred stalled peers takes a chunk each, or two where it is made ahead")
{
    constexpr std::size_t peers = 100;
    constexpr std::uint64_t chunk = 16 * kib;
    for (const bool ahead : {false, true}) {
        net::io_context io;
        std::vector<std::pair<tcp::socket, tcp::socket>> connections;
        for (std::size_t i = 0; i != peers; ++i) {
            auto& [server, client] = connections.emplace_back(tests::socket_pair(io));
            server.set_option(net::socket_base::send_buffer_size(65536));
            client.set_option(net::socket_base::receive_buffer_size(65536));
        }
        std::size_t completed = 0;
        std::uint64_t taken = 0;
        auto progress = [&](std::size_t n) noexcept { taken += n; };
        growth grown;
        for (auto& connection : connections)
            async_write_streamed(connection.first, quotes(10'000'000),
                                 {.chunk_bytes = chunk, .double_buffered = ahead, .progress = progress},
                                 [&](error_code, std::size_t) { ++completed; });
        for (std::uint64_t before = 1; before != taken;) { // until no more is taken
            before = taken;
            io.poll();
            grown.look();
        }
        CHECK(completed == 0);
        CHECK(taken > peers * chunk);
        INFO((ahead ? "ahead: " : "") << grown.most() / peers << " bytes a peer");
        CHECK(grown.most() <= peers * chunk * (ahead ? 2 : 1) + 128 * kib);
        for (auto& connection : connections)
            tests::reset(connection.second);
        tests::run(io);
        CHECK(completed == peers);
    }
}
