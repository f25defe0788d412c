// holdfast: tests of the examples' market model.
// SPDX-License-Identifier: BSL-1.0
#include "../examples/support/market.hpp"

#include <holdfast/serialize/json.hpp>

#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <ranges>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

using examples::market;
using examples::quote;

namespace {

using snapshot_range = decltype(std::declval<const market&>().snapshot());
static_assert(std::ranges::view<snapshot_range> && std::ranges::random_access_range<snapshot_range>);
static_assert(std::ranges::sized_range<snapshot_range>);
static_assert(std::ranges::view<market::changes> && std::ranges::input_range<market::changes>);
static_assert(std::is_trivially_destructible_v<quote>);
static_assert(holdfast::plain_struct<quote>);

auto tied(const quote& q) { return std::tuple(q.id, q.symbol, q.bid, q.ask, q.bid_size, q.ask_size, q.time, q.open); }

/// What a client knows: it takes quotes as they come and overwrites what it had.
struct client {
    std::vector<quote> known;
    std::uint64_t version = 0;

    explicit client(const market& from)
    {
        version = from.version();
        for (const quote each : from.snapshot())
            known.push_back(each);
    }

    void receive(const quote& each) { known.at(each.id) = each; }

    bool knows_all_of(const market& from) const
    {
        for (std::size_t i = 0; i != from.size(); ++i)
            if (tied(known.at(i)) != tied(from[i])) return false;
        return true;
    }
};

std::vector<std::uint64_t> ids(market::changes range)
{
    std::vector<std::uint64_t> result;
    for (const quote each : range)
        result.push_back(each.id);
    return result;
}

} // namespace

TEST_CASE("Each change raises the market's version by one and alters one instrument")
{
    market m{50};
    CHECK(m.version() == 0);
    for (std::uint64_t version = 1; version <= 200; ++version) {
        const client before{m};
        m.tick(1);
        REQUIRE(m.version() == version);
        std::size_t different = 0;
        for (std::size_t i = 0; i != m.size(); ++i)
            different += tied(before.known[i]) != tied(m[i]) ? 1u : 0u;
        CHECK(different == 1);
    }
    m.tick(1000);
    CHECK(m.version() == 1200);
    m.tick(0);
    CHECK(m.version() == 1200);
}

TEST_CASE("The snapshot has every instrument once, in order, as operator[] gives it")
{
    market m{1000};
    m.tick(500);
    const auto rows = m.snapshot();
    REQUIRE(rows.size() == 1000);
    std::uint64_t id = 0;
    for (const quote each : rows) {
        REQUIRE(each.id == id);
        CHECK(tied(each) == tied(m[id]));
        ++id;
    }
    CHECK(id == 1000);
}

TEST_CASE("What changed since a version is each changed instrument once, with its newest values")
{
    market m{40};
    m.tick(30);
    CHECK(ids(m.changed_since(m.version())).empty());
    CHECK(m.changed_since(m.version()).empty());

    const std::uint64_t version = m.version();
    const client before{m};
    m.tick(25);
    std::set<std::uint64_t> changed;
    for (std::size_t i = 0; i != m.size(); ++i)
        if (tied(before.known[i]) != tied(m[i])) changed.insert(i);

    const auto range = m.changed_since(version);
    CHECK(!range.empty());
    CHECK(range.version() == m.version());
    const auto seen = ids(range);
    CHECK(std::set(seen.begin(), seen.end()) == changed);
    CHECK(seen.size() == changed.size());
    for (const quote each : range)
        CHECK(tied(each) == tied(m[each.id]));
}

TEST_CASE("Clients that catch up at random times know what the market knows, however short its memory")
{
    for (const std::size_t history : {1u, 2u, 8u, 64u, 4096u}) {
        INFO("history " << history);
        market m{200, 7, history};
        std::minstd_rand random{static_cast<unsigned>(history)};
        std::vector<client> clients(5, client{m});
        for (int round = 0; round != 200; ++round) {
            m.tick(random() % 20);
            client& chosen = clients[random() % clients.size()];
            const auto range = m.changed_since(chosen.version);
            chosen.version = range.version();
            std::set<std::uint64_t> once;
            for (const quote each : range) {
                CHECK(once.insert(each.id).second);
                CHECK(tied(chosen.known[each.id]) != tied(each)); // nothing comes that had not changed
                chosen.receive(each);
            }
            REQUIRE(chosen.knows_all_of(m));
        }
    }
}

TEST_CASE("A client that reads slowly while the market goes on misses nothing and is never starved")
{
    for (const std::size_t history : {1u, 16u, 4096u}) {
        INFO("history " << history);
        market m{30, 11, history};
        client slow{m};
        std::minstd_rand random{3};
        for (int round = 0; round != 50; ++round) {
            m.tick(40);
            const auto range = m.changed_since(slow.version);
            REQUIRE(range.version() == m.version());
            const client at_start{m};
            std::vector<bool> came(m.size());
            for (const quote each : range) {
                slow.receive(each);
                came.at(each.id) = true;
                m.tick(random() % 10);
            }
            // What had changed when the reading began came in this very pass, however often it changed
            // meanwhile.
            for (std::size_t i = 0; i != m.size(); ++i)
                CHECK((came[i] || tied(slow.known[i]) == tied(at_start.known[i])));
            slow.version = range.version();
        }
        for (const quote each : m.changed_since(slow.version))
            slow.receive(each);
        CHECK(slow.knows_all_of(m));
    }
}

TEST_CASE("A change that the market has just forgotten leads to a scan of all instruments, one before it does not")
{
    market m{10, 1, 16};
    m.tick(16);
    const auto by_memory = ids(m.changed_since(0));
    m.tick(1);
    const auto by_scan = ids(m.changed_since(0));
    CHECK(std::ranges::is_sorted(by_scan));
    CHECK(!std::ranges::is_sorted(by_memory)); // in the order of the changes
}

TEST_CASE("The same seed gives the same market, another seed another one")
{
    market one{100, 5}, same{100, 5}, other{100, 6};
    CHECK(client{same}.knows_all_of(one));
    CHECK(!client{other}.knows_all_of(one));
    one.tick(1000);
    same.tick(400);
    same.tick(600);
    CHECK(client{same}.knows_all_of(one));
}

TEST_CASE("Symbols are unique and have 4 to 6 capital letters, prices two decimals and a spread")
{
    market m{200'000};
    std::set<std::string_view> symbols;
    m.tick(100'000);
    std::size_t bad = 0;
    for (const quote each : m.snapshot()) {
        symbols.insert(each.symbol);
        bad += each.symbol.size() < 4 || each.symbol.size() > 6 ? 1u : 0u;
        bad += each.symbol.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != each.symbol.npos ? 1u : 0u;
        bad += each.bid < 1 || each.ask <= each.bid ? 1u : 0u;
        bad += std::round(each.bid * 100) / 100 != each.bid ? 1u : 0u;
        bad += std::round(each.ask * 100) / 100 != each.ask ? 1u : 0u;
    }
    CHECK(bad == 0);
    CHECK(symbols.size() == 200'000);
}

TEST_CASE("A quote as a line of JSON has all its members and about 110 bytes")
{
    market m{20'000};
    const std::string line = holdfast::serialize_to_string<holdfast::json>(m[0]);
    for (const char* name : {"id", "symbol", "bid", "ask", "bid_size", "ask_size", "time", "open"})
        CHECK(line.find('"' + std::string{name} + "\":") != line.npos);
    const auto size = holdfast::serialize_to_string<holdfast::ndjson>(m.snapshot()).size();
    CHECK(size >= 20'000 * 100);
    CHECK(size <= 20'000 * 120);
}

TEST_CASE("A market without instruments, or with more than there are symbols, is refused")
{
    CHECK_THROWS_AS(market{0}, std::invalid_argument);
    CHECK_THROWS_AS(market{market::max_instruments + 1}, std::invalid_argument);
    CHECK(market{1}.size() == 1);
}

TEST_CASE("a market that applies the changes of another one has its state, and changes of its own")
{
    market from(30), to(30);
    from.tick(500);
    const auto version = to.version();
    for (const quote& each : from.changed_since(0))
        REQUIRE(to.apply(each));
    std::set<std::uint64_t> changed;
    for (const quote& each : to.changed_since(version))
        changed.insert(each.id);
    for (std::size_t i = 0; i != from.size(); ++i) {
        CHECK(tied(to[i]) == tied(from[i]));
        CHECK(changed.contains(i) == (from[i].time != market(30)[i].time));
    }
    quote wrong = from[3];
    for (const double value : {-1.0, 1e12, std::nan("")}) {
        wrong.bid = wrong.ask = value;
        CHECK_FALSE(to.apply(wrong));
        wrong.bid = from[3].bid;
        CHECK_FALSE(to.apply(wrong));
    }
    wrong = from[3];
    wrong.id = 30;
    CHECK_FALSE(to.apply(wrong));
    CHECK(tied(to[3]) == tied(from[3]));
}

TEST_CASE("a later change of an instrument has a later time, also of one whose values came from elsewhere")
{
    market from(30), to(30);
    from.tick(5000);
    for (const quote& each : from.changed_since(0))
        REQUIRE(to.apply(each));
    for (int i = 0; i != 100; ++i) {
        const auto version = to.version();
        std::vector<std::uint64_t> before;
        for (const quote& each : to.snapshot())
            before.push_back(each.time);
        to.tick(1);
        for (const quote& each : to.changed_since(version))
            CHECK(each.time > before[each.id]);
    }
}
