// holdfast: tests of replay_topic: each receiver gets every message once and in order, however slow it is, or is told of
// the gap.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/held_stream.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/replay_topic.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace net = holdfast::net;
using holdfast::errc;
using holdfast::payload;
using holdfast::replay_position;
using tests::held_stream;
using topic = holdfast::replay_topic<2>;

namespace {

/// Two forms, which count how often they are made.
struct forms {
    int plain = 0;
    int marked = 0;

    [[nodiscard]] std::array<topic::form_maker, 2> makers()
    {
        return {[this](const replay_position& at, std::string_view text) {
                    ++plain;
                    return payload(std::to_string(at.id) + ":" + std::string(text) + ";");
                },
                [this](const replay_position& at, std::string_view text) {
                    ++marked;
                    return payload("<" + std::to_string(at.id) + ":" + std::string(text) + ">");
                }};
    }
};

struct receiver {
    receiver(net::io_context& io, topic& of, std::optional<replay_position> from = replay_position{7, 0},
             std::size_t form = 0)
        : stream(io),
          box(stream, {.high_watermark = 200, .low_watermark = 60, .on_overflow = holdfast::overflow_policy::wait}),
          here(of.subscribe(box, form, from, [this](const replay_position& at) {
              ++gaps;
              return box.push(payload("gap" + std::to_string(at.id) + ";"));
          }))
    {
    }

    held_stream stream;
    holdfast::outbox<held_stream> box;
    int gaps = 0;
    topic::subscription here;
};

struct call_at_end {
    std::shared_ptr<std::function<void()>> function;
    void operator()(const holdfast::connection_end&) const noexcept { (*function)(); }
};

void settle(net::io_context& io)
{
    io.poll();
    io.restart();
}

/// Reads until nothing is left to be written.
void read_all(net::io_context& io, receiver& from)
{
    for (settle(io); from.stream.in_flight(); settle(io))
        from.stream.take();
}

std::string numbers(std::uint64_t first, std::uint64_t last, std::string_view text)
{
    std::string all;
    for (; first <= last; ++first)
        all += std::to_string(first) + ":" + std::string(text) + ";";
    return all;
}

/// A clock that advances at each look, as a real one does between two.
struct stepping_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<stepping_clock>;
    [[maybe_unused]] static constexpr bool is_steady = true;

    static time_point now() noexcept { return current += duration(1); }

    static inline time_point current{};
};

} // namespace

TEST_CASE("live receivers get each message once, in a form that is made once for all of its receivers")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    CHECK(news.push("early") == replay_position{7, 1});
    CHECK(made.plain + made.marked == 0); // nobody needs it
    receiver one(io, news), two(io, news), other(io, news, replay_position{7, 1}, 1);
    CHECK(news.receivers() == 3);
    news.push("now");
    for (receiver* each : {&one, &two, &other})
        read_all(io, *each);
    CHECK(one.stream.taken == "1:early;2:now;");
    CHECK(two.stream.taken == one.stream.taken);
    CHECK(other.stream.taken == "<2:now>");
    CHECK(made.plain == 2);
    CHECK(made.marked == 1);
    CHECK(one.gaps + two.gaps + other.gaps == 0);
    CHECK(news.counters().sent == 5);
    other.here.end();
    CHECK_FALSE(other.here);
    CHECK(news.receivers() == 2);
    news.push("later");
    read_all(io, other);
    CHECK(other.stream.taken == "<2:now>");
}

TEST_CASE("without a position, or with one of another ring, a receiver gets the state and continues there")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({.max_bytes = 100}, 7), made.makers());
    for (int i = 0; i != 9; ++i)
        news.push("x");
    CHECK(news.ring().size() == 3);
    receiver fresh(io, news, std::nullopt), crashed(io, news, replay_position{6, 9}),
        late(io, news, replay_position{7, 5}), early(io, news, replay_position{7, 6}),
        ahead(io, news, replay_position{7, 10});
    news.push("y");
    for (receiver* each : {&fresh, &crashed, &late, &early, &ahead})
        read_all(io, *each);
    for (receiver* each : {&fresh, &crashed, &late, &ahead})
        CHECK(each->stream.taken == "gap9;10:y;");
    CHECK(early.stream.taken == "7:x;8:x;9:x;10:y;");
    CHECK(news.counters().gaps == 4);
}

TEST_CASE("a slow receiver continues from the ring, in order, with no more in its queue than the high watermark")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({.max_bytes = 100'000}, 7), made.makers());
    receiver slow(io, news), fast(io, news);
    std::minstd_rand random(Catch::rngSeed());
    for (int i = 1; i <= 1000; ++i) {
        news.push("some text");
        read_all(io, fast);
        if (random() % 8 == 0 && slow.stream.in_flight()) slow.stream.take(1 + random() % 100);
        settle(io);
        CHECK(slow.box.queued_bytes() <= 200);
    }
    CHECK(news.behind() == 1);
    CHECK(news.counters().fell_behind != 0);
    read_all(io, slow);
    CHECK(news.behind() == 0);
    CHECK(slow.stream.taken == numbers(1, 1000, "some text"));
    CHECK(fast.stream.taken == slow.stream.taken);
    CHECK(slow.gaps + fast.gaps == 0);
    news.push("live"); // again
    CHECK(slow.box.queued() == 1);
    CHECK(made.plain == 1001);
}

TEST_CASE("a receiver too slow for the ring is notified of the gap, and continues after it")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({.max_bytes = 500}, 7), made.makers());
    receiver slow(io, news);
    for (int i = 0; i != 100; ++i)
        news.push("some text");
    settle(io);
    read_all(io, slow);
    news.push("live");
    read_all(io, slow);
    const std::string& all = slow.stream.taken;
    const auto gap = all.find("gap100;");
    REQUIRE(gap != all.npos);
    CHECK(slow.gaps == 1);
    const std::uint64_t before = 1 + static_cast<std::uint64_t>(std::stoul(all.substr(all.rfind(';', gap - 2) + 1)));
    CHECK(before < 100);
    CHECK(all == numbers(1, before - 1, "some text") + "gap100;101:live;");
}

TEST_CASE("a message that no queue or no ring can hold is a gap for those that it does not reach")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({.max_bytes = 1000}, 7), made.makers());
    receiver one(io, news);
    news.push(std::string(300, 'x')); // exceeds the queue
    read_all(io, one);
    CHECK(one.stream.taken == "gap1;");
    topic small(holdfast::replay_ring({.max_bytes = 100}, 7), made.makers());
    receiver live(io, small), behind(io, small);
    for (int i = 0; i != 5; ++i)
        small.push(std::string(30, 'a'));
    read_all(io, live);
    small.push(std::string(90, 'b')); // exceeds the ring
    read_all(io, live);
    read_all(io, behind);
    CHECK(live.stream.taken.ends_with("6:" + std::string(90, 'b') + ";"));
    CHECK(live.gaps == 0);
    CHECK(behind.stream.taken.ends_with("gap6;"));
}

TEST_CASE("the state is requested again once the queue is empty, and an error of it ends the subscription")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    held_stream stream(io);
    holdfast::outbox box(stream, {.on_overflow = holdfast::overflow_policy::wait});
    box.push(payload("head;"));
    int asked = 0;
    auto here = news.subscribe(box, 0, std::nullopt, [&](const replay_position&) -> holdfast::error_code {
        if (++asked == 1) return errc::outbox_full;
        CHECK(box.queued() == 0);
        return box.push(payload("state;"));
    });
    settle(io);
    CHECK(asked == 1);
    CHECK(news.behind() == 1);
    news.push("a"); // not live yet: it is in the state
    for (; stream.in_flight(); settle(io))
        stream.take();
    news.push("b");
    for (settle(io); stream.in_flight(); settle(io))
        stream.take();
    CHECK(stream.taken == "head;state;2:b;");
    auto failed = news.subscribe(box, 0, std::nullopt, [&](const replay_position&) { return net::error::no_memory; });
    CHECK_FALSE(failed);
    CHECK(news.receivers() == 1);
    box.close();
    news.push("c");
    CHECK_FALSE(here);
    CHECK(news.receivers() == 0);
}

TEST_CASE("subscriptions, outboxes and topics may end in any order, also while a receiver waits")
{
    enum class first { subscription, subscription_and_outbox, whole_topic, outbox_closed };
    for (const first order :
         {first::subscription, first::subscription_and_outbox, first::whole_topic, first::outbox_closed}) {
        net::io_context io;
        forms made;
        auto news = std::make_unique<topic>(holdfast::replay_ring({}, 7), made.makers());
        held_stream stream(io);
        auto box = std::make_unique<holdfast::outbox<held_stream>>(
            stream, holdfast::outbox_options{.high_watermark = 200, .on_overflow = holdfast::overflow_policy::wait});
        topic::subscription here = news->subscribe(*box, 0, replay_position{7, 0},
                                                   [](const replay_position&) { return holdfast::error_code(); });
        for (int i = 0; i != 30; ++i)
            news->push("some text");
        settle(io);
        REQUIRE(news->behind() == 1);
        if (order == first::subscription || order == first::subscription_and_outbox) here.end();
        if (order == first::subscription_and_outbox) box.reset();
        if (order == first::whole_topic) news.reset();
        if (order == first::outbox_closed) box->close();
        settle(io);
        CHECK_FALSE(here);
        if (news) {
            CHECK(news->behind() == 0);
            CHECK(news->receivers() == 0);
            news->push("more");
        }
        if (stream.in_flight()) stream.take();
        settle(io);
    }
}

TEST_CASE("a subscription that ends itself while the state is requested is left alone")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({.max_bytes = 100}, 7), made.makers());
    held_stream stream(io);
    holdfast::outbox box(stream,
                         {.high_watermark = 60, .low_watermark = 0, .on_overflow = holdfast::overflow_policy::wait});
    topic::subscription here;
    here = news.subscribe(box, 0, replay_position{7, 0}, [&](const replay_position&) {
        here = {};
        return holdfast::error_code();
    });
    for (int i = 0; i != 20; ++i)
        news.push("some text");
    for (settle(io); stream.in_flight(); settle(io))
        stream.take();
    CHECK_FALSE(here);
    CHECK(news.receivers() == 0);
}

TEST_CASE("a form that fails reaches its receivers with a later push")
{
    net::io_context io;
    bool fails = true;
    topic news(holdfast::replay_ring({}, 7), {[&](const replay_position& at, std::string_view text) {
                                                  if (fails) throw std::runtime_error("no form");
                                                  return payload(std::to_string(at.id) + ":" + std::string(text) + ";");
                                              },
                                              topic::form_maker()});
    receiver one(io, news), two(io, news);
    CHECK_THROWS_AS(news.push("a"), std::runtime_error);
    CHECK(news.ring().last().id == 1);
    fails = false;
    news.push("b");
    read_all(io, one);
    read_all(io, two);
    CHECK(one.stream.taken == "1:a;2:b;");
    CHECK(two.stream.taken == one.stream.taken);
}

TEST_CASE("where the state cannot be made, subscribe throws and nothing of the receiver stays")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    held_stream stream(io);
    holdfast::outbox box(stream, {.on_overflow = holdfast::overflow_policy::wait});
    const auto subscribe = [&] {
        return news.subscribe(box, 0, std::nullopt, [](const replay_position&) -> holdfast::error_code {
            throw std::runtime_error("state");
        });
    };
    CHECK_THROWS_AS(subscribe(), std::runtime_error);
    CHECK(news.receivers() == 0);
    news.push("a"); // reaches nobody
    CHECK(box.queued() == 0);
    topic broken(holdfast::replay_ring({}, 7),
                 {[](const replay_position&, std::string_view) -> payload { throw std::runtime_error("form"); },
                  topic::form_maker()});
    broken.push("a");
    const auto from = [&] { return receiver(io, broken); };
    CHECK_THROWS_AS(from(), std::runtime_error);
    CHECK(broken.receivers() == 0);
    broken.push("b");
}

TEST_CASE("a state that cannot be made later is requested again at the next push, and no other receiver waits for it")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    held_stream stream(io);
    holdfast::outbox box(stream, {.high_watermark = 200, .on_overflow = holdfast::overflow_policy::wait});
    bool fails = true;
    auto here = news.subscribe(box, 0, replay_position{7, 0}, [&](const replay_position&) {
        if (fails) throw std::runtime_error("state");
        return box.push(payload("state;"));
    });
    receiver other(io, news);
    CHECK_NOTHROW(news.push(std::string(300, 'x'))); // exceeds both queues: a gap
    read_all(io, other);
    CHECK(other.stream.taken == "gap1;");
    CHECK_NOTHROW(news.push("a"));
    CHECK(box.queued() == 0);
    fails = false;
    news.push("b");
    news.push("c");
    for (settle(io); stream.in_flight(); settle(io))
        stream.take();
    CHECK(stream.taken == "state;4:c;");
    read_all(io, other);
    CHECK(other.stream.taken == "gap1;2:a;3:b;4:c;");
    CHECK(here);
}

TEST_CASE("of a subscription that has ended nothing is sent but what was queued, and nothing stays")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    held_stream stream(io);
    holdfast::outbox box(stream,
                         {.high_watermark = 200, .low_watermark = 60, .on_overflow = holdfast::overflow_policy::wait});
    const auto held = std::make_shared<int>();
    const bool asked_again = GENERATE(false, true);
    if (asked_again) box.push(payload("before;"));
    const auto start = [&] {
        return news.subscribe(box, 0, asked_again ? std::nullopt : std::optional(replay_position{7, 0}),
                              [held](const replay_position&) -> holdfast::error_code { return errc::outbox_full; });
    };
    for (int i = 0; i != 30; ++i)
        news.push("some text");
    std::size_t queued = 0;
    for (int i = 0; i != 10; ++i) {
        auto here = start();
        settle(io);
        CHECK(news.behind() == 1);
        CHECK(held.use_count() > 1);
        queued = box.queued();
        if (i % 2 == 0) here.end();
    }
    settle(io);
    CHECK(held.use_count() == 1);
    CHECK(news.behind() == 0);
    CHECK(box.queued() == queued);
    for (; stream.in_flight(); settle(io))
        stream.take();
    CHECK(stream.taken == (asked_again ? "before;" : numbers(1, queued, "some text")));
}

TEST_CASE("a receiver whose outbox has no memory for a message continues at the next push")
{
    if (!tests::counts_bytes) return; // no allocation fails here
    net::io_context io;
    bool armed = false;
    topic news(holdfast::replay_ring({}, 7), {[&](const replay_position& at, std::string_view text) {
                                                  tests::until_failure = -1;
                                                  payload made(std::to_string(at.id) + ":" + std::string(text) + ";");
                                                  if (armed) tests::until_failure = 0; // what the outbox allocates
                                                  return made;
                                              },
                                              topic::form_maker()});
    const std::string large(50'000, 'x');
    news.push(large);
    news.push(large);
    for (int i = 0; i != 20; ++i)
        news.push("a");
    held_stream stream(io);
    holdfast::outbox box(stream, {.high_watermark = 80'000, .on_overflow = holdfast::overflow_policy::wait});
    auto here = news.subscribe(box, 0, replay_position{7, 0},
                               [](const replay_position&) -> holdfast::error_code { return net::error::no_memory; });
    settle(io);
    REQUIRE(news.behind() == 1);
    armed = true;
    stream.take();
    settle(io);
    const bool failed = tests::until_failure < 0;
    tests::until_failure = -1;
    armed = false;
    CHECK(failed);
    CHECK(here);
    CHECK(news.behind() == 0);
    news.push("b");
    for (settle(io); stream.in_flight(); settle(io))
        stream.take();
    CHECK((stream.taken == numbers(1, 2, large) + numbers(3, 22, "a") + "23:b;"));
}

TEST_CASE("a push may disconnect a receiver, whose finalizer ends its own and other subscriptions")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    struct session {
        session(net::io_context& on, topic& of, std::function<void()> ended)
            : sockets(tests::socket_pair(on)),
              peer(std::move(sockets.first), {std::make_shared<std::function<void()>>(std::move(ended))}),
              box(peer, {.high_watermark = 20'000, .on_overflow = holdfast::overflow_policy::disconnect}),
              here(of.subscribe(box, 0, replay_position{7, 0},
                                [](const replay_position&) { return holdfast::error_code(); }))
        {
        }

        std::pair<tests::tcp::socket, tests::tcp::socket> sockets;
        holdfast::connection_guard<tests::tcp::socket, call_at_end> peer;
        holdfast::outbox<tests::tcp::socket> box;
        topic::subscription here;
    };
    std::vector<std::unique_ptr<session>> all;
    const bool others = GENERATE(false, true);
    for (std::size_t i = 0; i != 3; ++i)
        all.push_back(std::make_unique<session>(io, news, [&all, i, others] {
            for (std::size_t each = 0; each != all.size(); ++each)
                if (others || each == i) all[each]->here.end();
        }));
    for (int i = 0; i != 10'000 && news.receivers() != 0; ++i) {
        news.push(std::string(8000, 'x'));
        settle(io);
    }
    CHECK(news.receivers() == 0);
    for (auto& each : all)
        each->peer.close();
    settle(io);
}

TEST_CASE("an outbox that is closed was not full")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    receiver closed(io, news);
    closed.box.close();
    news.push("a");
    CHECK_FALSE(closed.here);
    CHECK(news.counters().fell_behind == 0);
}

TEST_CASE("a source that continues at an earlier message is a gap for all, also for those that wait for space")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    receiver live(io, news), slow(io, news);
    for (int i = 0; i != 30; ++i) {
        news.push("old");
        read_all(io, live);
    }
    REQUIRE(news.behind() == 1);
    settle(io);
    news.restart({7, 10}); // the source has lost the messages after it
    for (int i = 0; i != 20; ++i)
        news.push("new");
    read_all(io, live);
    read_all(io, slow);
    CHECK(live.stream.taken == numbers(1, 30, "old") + "gap10;" + numbers(11, 30, "new"));
    CHECK(live.gaps == 1);
    CHECK(slow.gaps == 1);
    CHECK(slow.stream.taken.ends_with(";gap30;"));
    CHECK(slow.stream.taken.find("new") == std::string::npos);
}

TEST_CASE("a topic continues with the ring of the process before")
{
    net::io_context io;
    forms made;
    std::string saved;
    {
        topic before(holdfast::replay_ring({}, 7), made.makers());
        before.push("a");
        before.push("b");
        saved = before.ring().save();
    }
    auto ring = holdfast::replay_ring::load(saved);
    REQUIRE(ring);
    topic after(std::move(*ring), made.makers());
    receiver again(io, after, replay_position{7, 1});
    after.push("c");
    read_all(io, again);
    CHECK(again.stream.taken == "2:b;3:c;");
}

TEST_CASE("where messages from elsewhere are missing, every receiver has a gap, whatever it knew")
{
    net::io_context io;
    forms made;
    topic news(holdfast::replay_ring({}, 7), made.makers());
    receiver live(io, news), slow(io, news);
    for (int i = 0; i != 30; ++i) {
        news.restart({7, news.ring().last().id}); // nothing is missing
        news.push("some text");
        read_all(io, live);
    }
    CHECK(live.gaps == 0);
    REQUIRE(news.behind() == 1);
    news.restart({8, 99}); // the source has begun again
    CHECK(news.push("other") == replay_position{8, 100});
    receiver again(io, news, replay_position{7, 30}), late(io, news, replay_position{8, 99});
    for (receiver* each : {&live, &slow, &again, &late})
        read_all(io, *each);
    CHECK(live.stream.taken == numbers(1, 30, "some text") + "gap99;100:other;");
    CHECK(slow.stream.taken.ends_with(";gap100;"));
    CHECK(again.stream.taken == "gap100;");
    CHECK(late.stream.taken == "100:other;");
}

TEST_CASE("a message that reaches its age, at whatever moment, reaches each receiver or is a gap")
{
    using aging_topic = holdfast::replay_topic<1, stepping_clock>;
    for (int age = 1; age != 40; ++age) {
        CAPTURE(age);
        net::io_context io;
        aging_topic news(
            aging_topic::ring_type({.max_age = std::chrono::nanoseconds(age)}, 7),
            {[](const replay_position& at, std::string_view) { return payload(std::to_string(at.id) + ";"); }});
        for (int i = 0; i != 10; ++i)
            news.push("early");
        struct reader {
            explicit reader(net::io_context& on) : stream(on) {}
            held_stream stream;
            holdfast::outbox<held_stream> box{stream,
                                              {.high_watermark = 64, .on_overflow = holdfast::overflow_policy::wait}};
            aging_topic::subscription here{};
        } live(io), late(io);
        const auto follow = [&](reader& each, std::uint64_t from) {
            each.here = news.subscribe(each.box, 0, replay_position{7, from}, [&each](const replay_position& at) {
                return each.box.push(payload("gap" + std::to_string(at.id) + ";"));
            });
        };
        follow(live, 10);
        follow(late, 0);
        for (int i = 0; i != 30; ++i)
            news.push("now");
        for (reader* each : {&live, &late}) {
            for (settle(io); each->stream.in_flight(); settle(io))
                each->stream.take();
            std::uint64_t at = each == &live ? 10 : 0;
            std::string_view text = each->stream.taken;
            bool in_order = true;
            for (auto end = text.find(';'); end != text.npos; end = text.find(';')) {
                const bool gap = text.starts_with("gap");
                const std::uint64_t id = std::stoul(std::string(text.substr(gap ? 3 : 0, end)));
                in_order = in_order && (gap ? id > at : id == at + 1);
                at = id;
                text.remove_prefix(end + 1);
            }
            INFO(each->stream.taken);
            CHECK(in_order);
            CHECK(at == 40);
        }
    }
}
