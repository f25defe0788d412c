// holdfast: tests of replay_ring: what was missed comes once and in order, or a gap is told; also after a restart.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/replay_ring.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <chrono>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using holdfast::manual_clock;
using holdfast::payload;
using holdfast::replay_position;
using ring = holdfast::basic_replay_ring<manual_clock>;

namespace {

struct replayed {
    std::vector<std::string> messages;
    bool gap;
    replay_position position;
};

replayed resume(ring& from, const replay_position& position, std::size_t most = 1000)
{
    std::vector<std::string> messages;
    std::uint64_t id = position.id;
    const auto result = from.resume(position, [&](const replay_position& at, const payload& message) {
        CHECK(at == replay_position{from.epoch(), ++id});
        if (messages.size() == most) return false;
        messages.emplace_back(message.text());
        return true;
    });
    return {messages, result.gap, result.position};
}

} // namespace

TEST_CASE("a receiver that comes again gets what it has missed, once and in order")
{
    ring news({}, 7);
    CHECK(news.last() == replay_position{7, 0});
    CHECK(news.push(payload("a")) == replay_position{7, 1});
    const payload shared("b");
    news.push(shared);
    CHECK(shared.use_count() == 2); // not copied
    news.push(payload());
    CHECK(resume(news, {7, 0}).messages == std::vector<std::string>{"a", "b", ""});
    const auto some = resume(news, {7, 1});
    CHECK(some.messages == std::vector<std::string>{"b", ""});
    CHECK(some.position == news.last());
    const auto none = resume(news, news.last());
    CHECK(none.messages.empty());
    CHECK_FALSE(none.gap);
}

TEST_CASE("a slow receiver takes a few at a time, and continues where it stopped")
{
    ring news({}, 7);
    std::vector<std::string> expected;
    for (int i = 0; i != 10; ++i) {
        expected.push_back(std::to_string(i));
        news.push(payload(expected.back()));
    }
    std::vector<std::string> got;
    replay_position at{7, 0};
    for (int i = 0; i != 4; ++i) {
        const auto part = resume(news, at, 3);
        CHECK_FALSE(part.gap);
        got.insert(got.end(), part.messages.begin(), part.messages.end());
        at = part.position;
    }
    CHECK(got == expected);
    CHECK(at == news.last());
}

TEST_CASE("a gap: another epoch, a position after the last, messages that were dropped for bytes, age or their size")
{
    ring news({.max_bytes = 3 * 33, .max_age = 10s}, 7);
    for (const auto text : {"a", "b", "c"})
        news.push(payload(std::string_view(text)));
    CHECK(news.size() == 3);
    CHECK(resume(news, {8, 3}).gap);
    CHECK(resume(news, {7, 4}).gap);
    CHECK(resume(news, {7, 4}).position == news.last());
    news.push(payload("d"));
    CHECK(news.bytes() == 99);
    CHECK(resume(news, {7, 0}).gap);
    CHECK(resume(news, {7, 1}).messages == std::vector<std::string>{"b", "c", "d"});
    manual_clock::advance(9s);
    news.push(payload("e"));
    CHECK(resume(news, {7, 2}).messages == std::vector<std::string>{"c", "d", "e"});
    manual_clock::advance(1s);
    CHECK(resume(news, {7, 3}).gap);
    CHECK(resume(news, {7, 4}).messages == std::vector<std::string>{"e"});
    news.push(payload(std::string(68, 'x')));
    CHECK(resume(news, {7, 5}).gap); // it was not kept
    CHECK(news.bytes() == 0);
    CHECK(resume(news, {7, 6}).messages.empty());
    CHECK_FALSE(resume(news, {7, 6}).gap);
}

TEST_CASE("positions as text")
{
    for (const replay_position each :
         {replay_position{0, 0}, replay_position{0xabc, 17}, replay_position{UINT64_MAX, UINT64_MAX}}) {
        CHECK(holdfast::parse_replay_position(to_string(each)) == each);
        CHECK(to_string(each).size() <= 37);
    }
    CHECK(to_string(replay_position{0xabc, 17}) == "abc-17");
    for (const auto text : {"", "-", "1-", "-1", "1", "1-2-", "1-2 ", " 1-2", "x-1", "1--1", "10000000000000000-1",
                            "1-18446744073709551616", "1-+2", "A-1", "0a-1", "a-01"})
        CHECK_FALSE(holdfast::parse_replay_position(text));
}

TEST_CASE("two rings have different epochs")
{
    CHECK(holdfast::replay_ring().epoch() != holdfast::replay_ring().epoch());
}

TEST_CASE("options out of range are refused")
{
    CHECK_THROWS_AS(ring({.max_bytes = 0}), std::invalid_argument);
    CHECK_THROWS_AS(ring({.max_age = 0s}), std::invalid_argument);
}

TEST_CASE("a restart: epoch, ids, messages and ages continue, smaller limits drop the oldest")
{
    ring before({.max_age = 10s}, 7);
    before.push(payload("a"));
    manual_clock::advance(6s);
    before.push(payload("b"));
    before.push(payload(std::string(1000, '\0')));
    const std::string saved = before.save();
    auto after = ring::load(saved, {.max_age = 10s});
    REQUIRE(after);
    CHECK(after->last() == replay_position{7, 3});
    CHECK(after->bytes() == before.bytes());
    CHECK(after->push(payload("d")) == replay_position{7, 4});
    CHECK(resume(*after, {7, 0}).messages == std::vector<std::string>{"a", "b", std::string(1000, '\0'), "d"});
    manual_clock::advance(4s);
    CHECK(resume(*after, {7, 0}).gap);
    CHECK(resume(*after, {7, 1}).messages.size() == 3);

    auto smaller = ring::load(saved, {.max_bytes = 1032 + 33});
    REQUIRE(smaller);
    CHECK(smaller->last() == replay_position{7, 3});
    CHECK(resume(*smaller, {7, 0}).gap);
    CHECK(resume(*smaller, {7, 1}).messages.size() == 2);
    auto none = ring::load(saved, {.max_bytes = 1});
    REQUIRE(none);
    CHECK(none->last() == replay_position{7, 3});
    CHECK(resume(*none, {7, 2}).gap);
    const auto empty = ring::load(ring({}, 9).save());
    REQUIRE(empty);
    CHECK(empty->last() == replay_position{9, 0});
}

TEST_CASE("a clock that is set back loses no message, makes none older, and what it saves can be loaded")
{
    const holdfast::replay_ring_options options{.max_age = 10s};
    ring news(options, 7);
    news.push(payload("a"));
    manual_clock::advance(-1h);
    news.push(payload("b"));
    CHECK(resume(news, {7, 0}).messages == std::vector<std::string>{"a", "b"});
    auto loaded = ring::load(news.save(), options);
    REQUIRE(loaded);
    CHECK(resume(*loaded, {7, 0}).messages == std::vector<std::string>{"a", "b"});
    manual_clock::advance(10s); // both are of the time of the save now
    CHECK(resume(*loaded, {7, 0}).gap);
    CHECK(resume(news, {7, 1}).messages == std::vector<std::string>{"b"}); // which goes with what is before it
    manual_clock::advance(1h);
    CHECK(resume(news, {7, 0}).gap);
    CHECK(news.size() == 0);
}

TEST_CASE("what was cut, changed or is of another version is not loaded")
{
    ring news({}, 7);
    news.push(payload("a"));
    news.push(payload("bc"));
    const std::string saved = news.save();
    for (std::size_t size = 0; size != saved.size(); ++size)
        CHECK_FALSE(ring::load(saved.substr(0, size)));
    for (std::size_t i = 0; i != saved.size(); ++i) {
        std::string changed = saved;
        changed[i] = static_cast<char>(changed[i] ^ 1);
        CHECK_FALSE(ring::load(changed));
    }
    CHECK_FALSE(ring::load(saved + '\0'));
}

TEST_CASE("any order of pushes, passing time, restarts and receivers: nothing is lost without a gap, nothing doubled")
{
    std::mt19937 random(22);
    for (std::uint64_t round = 0; round != 200; ++round) {
        const holdfast::replay_ring_options options{.max_bytes = 50 + random() % 1000,
                                                    .max_age = 1s * (1 + random() % 30)};
        ring news(options, round);
        std::vector<std::string> all;
        struct receiver {
            replay_position at;
            std::size_t had = 0; // of all
        };
        std::vector<receiver> receivers(3, receiver{{round, 0}});
        for (int step = 0; step != 200; ++step) {
            const auto what = random() % 10;
            if (what < 6) {
                all.push_back(std::string(random() % 100, static_cast<char>('a' + random() % 26)));
                CHECK(news.push(payload(all.back())).id == all.size());
                CHECK(news.bytes() <= options.max_bytes);
            } else if (what < 7) {
                manual_clock::advance(1s * (random() % 5));
            } else if (what < 8) {
                news = ring::load(news.save(), options).value();
            } else {
                receiver& each = receivers[random() % receivers.size()];
                const auto got = resume(news, each.at, random() % 5);
                if (got.gap) {
                    CHECK(all.size() - each.had > news.size());
                    each.had = all.size();
                } else {
                    for (const std::string& message : got.messages)
                        CHECK(message == all[each.had++]);
                }
                each.at = got.position;
                CHECK(each.at.id == each.had);
            }
        }
    }
}

TEST_CASE("a message is found by an id of its own, the newest first, as long as it is kept")
{
    ring news({.max_bytes = 100}, 7);
    const auto position_of = [&](std::string_view text) {
        return news.find([&](const payload& each) { return each.text() == text; });
    };
    CHECK_FALSE(position_of("a"));
    for (const std::string_view each : {"a", "b", "a", "c"}) // three are kept
        news.push(payload(each));
    CHECK(position_of("a") == replay_position{7, 3});
    CHECK(position_of("c") == replay_position{7, 4});
    CHECK(position_of("b") == replay_position{7, 2});
    news.restart({9, 41});
    CHECK_FALSE(position_of("c"));
    CHECK(news.size() + news.bytes() == 0);
    CHECK(news.push(payload("d")) == replay_position{9, 42});
    CHECK(resume(news, {9, 40}).gap);
    CHECK(resume(news, {9, 41}).messages == std::vector<std::string>{"d"});
}
