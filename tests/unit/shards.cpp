// holdfast: shards and shard_topic: placement, ends in every order, bounded queues between threads.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/shard_topic.hpp>
#include <holdfast/shards.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

namespace net = holdfast::net;
using holdfast::errc;
using holdfast::error_code;
using holdfast::overflow_policy;
using holdfast::payload;
using net::ip::tcp;
using namespace std::chrono_literals;

/// What has happened, in order, from any thread.
class journal {
public:
    void add(std::string what)
    {
        const std::lock_guard lock(mutex_);
        entries_.push_back(std::move(what));
    }
    std::vector<std::string> entries() const
    {
        const std::lock_guard lock(mutex_);
        return entries_;
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::string> entries_;
};

/// A shard's state that has a timer of its context, and cannot be moved.
struct noting_shard {
    noting_shard(net::io_context& io, std::size_t i, journal& to) : timer(io), index(i), notes(to)
    {
        notes.add("made " + std::to_string(i));
    }
    noting_shard(const noting_shard&) = delete;
    ~noting_shard() { notes.add("state " + std::to_string(index)); }

    net::steady_timer timer;
    const std::size_t index;
    journal& notes;
    bool alive = true;
};

struct plain_shard {
    std::vector<std::string> got{};
    std::vector<std::size_t> references{};
    std::shared_ptr<void> connection{};
};

holdfast::shards<plain_shard> plain_shards(std::size_t n)
{
    return holdfast::shards<plain_shard>(n, [](net::io_context&, std::size_t) { return plain_shard(); });
}

/// The threads of shards; they end with `stop()`.
template <class Shard>
std::vector<std::jthread> run_all(holdfast::shards<Shard>& shards)
{
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i != shards.size(); ++i)
        threads.emplace_back(shards.runner(i));
    return threads;
}

const auto receive = [](plain_shard& s, const payload& message) {
    s.got.emplace_back(message.text());
    s.references.push_back(message.use_count());
};

} // namespace

TEST_CASE("shards: as many contexts and states as requested, in order, none and too many are refused")
{
    std::vector<std::pair<net::io_context*, std::size_t>> made;
    const auto factory = [&](net::io_context& io, std::size_t i) {
        made.emplace_back(&io, i);
        return static_cast<int>(i * 10);
    };
    using int_shards = holdfast::shards<int>;
    CHECK_THROWS_AS(int_shards(0, factory), std::invalid_argument);
    CHECK_THROWS_AS(int_shards(int_shards::max_shards + 1, factory), std::invalid_argument);
    CHECK(made.empty());
    for (const std::size_t n : {std::size_t{1}, std::size_t{3}, int_shards::max_shards}) {
        made.clear();
        holdfast::shards all(n, factory);
        REQUIRE(all.size() == n);
        REQUIRE(made.size() == n);
        for (std::size_t i = 0; i != n; ++i) {
            CHECK(made[i] == std::pair(&all.context(i), i));
            CHECK(all[i] == static_cast<int>(i * 10));
        }
    }
}

TEST_CASE("shards: what the factory throws comes out, after the earlier states were destroyed in reverse order")
{
    journal notes;
    const auto factory = [&](net::io_context& io, std::size_t i) {
        if (i == 2) throw std::runtime_error("no third");
        return noting_shard(io, i, notes);
    };
    CHECK_THROWS_WITH(holdfast::shards<noting_shard>(4, factory), "no third");
    CHECK(notes.entries() == std::vector<std::string>{"made 0", "made 1", "state 1", "state 0"});
}

TEST_CASE("shards: sessions end while all states are there, then the states in reverse order")
{
    journal notes;
    {
        std::vector<std::jthread> threads; // joined after the shards have ended
        holdfast::shards<noting_shard> shards{
            2, [&](net::io_context& io, std::size_t i) { return noting_shard(io, i, notes); }};
        std::latch waiting(2);
        const auto session = [&waiting](noting_shard& own, noting_shard& other) -> net::awaitable<void> {
            struct at_end {
                ~at_end()
                {
                    own.notes.add(std::string(own.alive && other.alive ? "session " : "dangling ") +
                                  std::to_string(own.index));
                }
                noting_shard& own;
                noting_shard& other;
            } const here{own, other};
            own.timer.expires_at(net::steady_timer::time_point::max());
            waiting.count_down();
            co_await own.timer.async_wait(net::use_awaitable);
        };
        net::co_spawn(shards.context(0), session(shards[0], shards[1]), net::detached);
        net::co_spawn(shards.context(1), session(shards[1], shards[0]), net::detached);
        threads = run_all(shards);
        waiting.wait();
    }
    CHECK(notes.entries() ==
          std::vector<std::string>{"made 0", "made 1", "session 0", "session 1", "state 1", "state 0"});
}

TEST_CASE("shards: a thread whose run begins only after the end has begun finds the shards")
{
    journal notes;
    {
        std::vector<std::jthread> threads;
        holdfast::shards<noting_shard> shards{
            2, [&](net::io_context& io, std::size_t i) { return noting_shard(io, i, notes); }};
        for (std::size_t i = 0; i != 2; ++i)
            threads.emplace_back([&notes, &io = shards.context(i), runner = shards.runner(i)]() mutable {
                while (!io.stopped()) // by the destructor
                    std::this_thread::yield();
                notes.add("begins");
                runner();
            });
        const auto unused = shards.runner(1); // gone before the shards
    }
    CHECK(notes.entries() == std::vector<std::string>{"made 0", "made 1", "begins", "begins", "state 1", "state 0"});
}

TEST_CASE("shards: where run() throws, or a thread cannot be started, the other threads end with the shards")
{
    const bool started = GENERATE(true, false);
    CAPTURE(started);
    const auto serve = [started] {
        std::vector<std::jthread> threads;
        auto shards = plain_shards(3);
        threads.emplace_back(shards.runner(1));
        const auto start = [started](auto runner) -> std::jthread {
            if (!started) throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
            return std::jthread(std::move(runner));
        };
        threads.push_back(start(shards.runner(2)));
        shards.post_to(0, [](plain_shard&) { throw std::runtime_error("of a handler"); });
        shards.run(0);
    };
    if (started)
        CHECK_THROWS_WITH(serve(), "of a handler");
    else
        CHECK_THROWS_AS(serve(), std::system_error);
}

TEST_CASE("shards: acceptor and topic may go first or last")
{
    using acceptor_type = holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>>;
    const bool shards_first = GENERATE(true, false);
    CAPTURE(shards_first);
    net::io_context io;
    std::optional<holdfast::shards<plain_shard>> shards;
    shards.emplace(2, [](net::io_context&, std::size_t) { return plain_shard(); });
    auto acceptor = std::make_unique<acceptor_type>(
        shards->context(0), tcp::endpoint(net::ip::address_v4::loopback(), 0),
        holdfast::acceptor_options{.next_executor = shards->least_connections()}, shards->finalizer());
    auto topic = std::make_unique<holdfast::shard_topic<plain_shard>>(
        io, *shards, receive,
        holdfast::shard_topic_options{.max_queued_bytes = 100, .on_overflow = overflow_policy::wait});
    REQUIRE_FALSE(topic->publish(payload("first")));
    std::optional<error_code> second; // waits for space, on a context that lives longer
    topic->async_publish(payload("second"), [&](error_code ec) { second = ec; });
    std::latch accepted(2);
    acceptor->async_serve(
        [&](acceptor_type::connection_type peer, std::size_t i) { // on the acceptor's thread, which runs alone
            (*shards)[i].connection = std::make_shared<acceptor_type::connection_type>(std::move(peer));
            accepted.count_down();
        },
        net::detached);
    {
        const auto clients = tests::connect(io, acceptor->local_endpoint(), 2);
        std::jthread thread([&] { shards->run(0); });
        accepted.wait();
        shards->stop();
    }
    CHECK(shards->connections(0) == 1);
    CHECK(shards->connections(1) == 1);
    if (shards_first) {
        shards.reset();
        CHECK(topic->publish(payload("third")) == errc::outbox_closed);
        acceptor.reset();
        topic.reset();
    } else {
        topic.reset();
        acceptor.reset();
        (*shards)[0].connection.reset();
        (*shards)[1].connection.reset();
        CHECK(shards->connections(0) == 0);
        CHECK(shards->connections(1) == 0);
        shards.reset();
    }
    tests::run(io);
    CHECK(second == error_code(errc::outbox_closed));
}

TEST_CASE("shards: a state posts to all shards in its destructor: nothing of it is called")
{
    struct posting_shard {
        explicit posting_shard(holdfast::shards<posting_shard>*& to) : all(to) {}
        posting_shard(const posting_shard&) = delete;
        ~posting_shard()
        {
            all->post_to_all([](posting_shard&) { FAIL("its context has ended"); });
        }
        holdfast::shards<posting_shard>*& all;
    };
    holdfast::shards<posting_shard>* all = nullptr;
    holdfast::shards<posting_shard> shards{3, [&](net::io_context&, std::size_t) { return posting_shard(all); }};
    all = &shards;
}

TEST_CASE("shards: what is posted runs on the thread of its shard")
{
    struct shard {
        std::thread::id thread{};
        std::size_t calls = 0;
    };
    holdfast::shards<shard> shards{3, [](net::io_context&, std::size_t) { return shard(); }};
    std::vector<std::thread::id> ids(3);
    {
        std::vector<std::jthread> threads;
        std::latch all(4);
        const auto note = [&all](shard& s) {
            s.thread = std::this_thread::get_id();
            ++s.calls;
            all.count_down();
        };
        shards.post_to_all(note);
        shards.post_to(1, note);
        threads = run_all(shards);
        for (std::size_t i = 0; i != 3; ++i)
            ids[i] = threads[i].get_id();
        all.wait();
        shards.finish(); // each run() returns: there is no work
        shards.finish();
    }
    for (std::size_t i = 0; i != 3; ++i) {
        CHECK(shards[i].thread == ids[i]);
        CHECK(shards[i].calls == (i == 1 ? 2U : 1U));
    }
}

TEST_CASE("shards: an exception leaves run(), which may be called again")
{
    auto shards =
        std::make_unique<holdfast::shards<plain_shard>>(1, [](net::io_context&, std::size_t) { return plain_shard(); });
    bool after = false;
    shards->post_to(0, [](plain_shard&) { throw std::runtime_error("of a handler"); });
    shards->post_to(0, [&](plain_shard&) { after = true; });
    shards->finish();
    CHECK_THROWS_WITH(shards->run(0), "of a handler");
    CHECK(shards->run(0) == 1);
    CHECK(after);
    shards.reset(); // does not wait for the run that threw
}

TEST_CASE("shards: each connection goes to the shard with the fewest, limits hold in total")
{
    using acceptor_type = holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>>;
    using connection = acceptor_type::connection_type;
    struct shard {
        net::io_context& io;
        std::vector<connection> connections{};
    };
    constexpr std::size_t count = 4, each = 5;
    enum class limit { connections, address, rate };
    const limit reached = GENERATE(limit::connections, limit::address, limit::rate);
    CAPTURE(static_cast<int>(reached));
    holdfast::shards<shard> shards{count, [](net::io_context& io, std::size_t) { return shard{io}; }};
    acceptor_type acceptor{shards.context(0),
                           {net::ip::address_v4::loopback(), 0},
                           {.max_connections = reached == limit::connections ? count * each : 1000,
                            .max_per_address = reached == limit::address ? count * each : 0,
                            .accepts_per_second = reached == limit::rate ? 1e-6 : 0, // none within the test
                            .accept_burst = count * each,
                            .on_connection_limit = holdfast::overload_policy::reset,
                            .on_rate_limit = holdfast::overload_policy::reset,
                            .next_executor = shards.least_connections()},
                           shards.finalizer()};
    std::atomic<std::size_t> elsewhere = 0, begun = 0;
    acceptor.async_serve(
        [&](connection peer, std::size_t i) -> net::awaitable<void> {
            if (!shards[i].io.get_executor().running_in_this_thread()) ++elsewhere;
            shards[i].connections.push_back(std::move(peer));
            ++begun;
            begun.notify_all();
            co_return;
        },
        net::detached);
    const auto await_begun = [&](std::size_t n) {
        for (std::size_t now = begun; now != n; now = begun)
            begun.wait(now);
    };
    auto threads = run_all(shards);
    net::io_context io;
    auto clients = tests::connect(io, acceptor.local_endpoint(), count * each);
    await_begun(count * each);
    for (std::size_t i = 0; i != count; ++i)
        CHECK(shards.connections(i) == each);

    tcp::socket refused(io);
    error_code ignored; // the reset may come before connect() has returned
    refused.connect(acceptor.local_endpoint(), ignored);
    CHECK(tests::read_to_end(refused).bytes.empty());
    CHECK(acceptor.rejected() == 1);
    if (reached == limit::rate) return shards.stop(); // ends give nothing of it back

    std::latch ended(1); // what becomes free, wherever it is, others get
    shards.post_to(2, [&](shard& s) {
        s.connections.erase(s.connections.begin() + 2, s.connections.end());
        ended.count_down();
    });
    ended.wait();
    CHECK(shards.connections(2) == 2);
    const auto more = tests::connect(io, acceptor.local_endpoint(), 3);
    await_begun(count * each + 3);
    for (std::size_t i = 0; i != count; ++i)
        CHECK(shards.connections(i) == each);
    CHECK(elsewhere == 0);
    shards.stop();
}

TEST_CASE("shard_topic: options out of range are refused")
{
    auto shards = plain_shards(1);
    using topic = holdfast::shard_topic<plain_shard>;
    CHECK_THROWS_AS(topic(shards.context(0), shards, receive, {.max_queued_bytes = 64}), std::invalid_argument);
    for (const auto policy : {overflow_policy::disconnect, overflow_policy(77)})
        CHECK_THROWS_AS(topic(shards.context(0), shards, receive, {.on_overflow = policy}), std::invalid_argument);
    for (const std::size_t size : {std::size_t(0), std::size_t(1), SIZE_MAX - 1, SIZE_MAX}) {
        topic any(shards.context(0), shards, receive, {.max_copied_bytes = size});
        CHECK_FALSE(any.publish(payload("copied or shared")));
        if (size > 64)
            CHECK_FALSE(topic(shards.context(0), shards, receive, {.max_queued_bytes = size}).publish(payload("1")));
        else
            CHECK_THROWS_AS(topic(shards.context(0), shards, receive, {.max_queued_bytes = size}),
                            std::invalid_argument);
    }
    topic smallest(shards.context(0), shards, receive, {.max_queued_bytes = 65});
    CHECK_FALSE(smallest.publish(payload("1")));
    const auto refused = smallest.publish(payload("12"));
    CHECK(refused == errc::exceeds_limit);
    CHECK(refused.message().find("queue") != std::string::npos);
}

TEST_CASE("shard_topic: every shard gets each message once, in order, with a count of its own")
{
    auto shards = plain_shards(2);
    holdfast::shard_topic<plain_shard> topic{shards.context(0), shards, receive, {.max_copied_bytes = 3}};
    const payload small("abc"), large("abcd");
    for (int i = 0; i != 100; ++i) { // more than a turn takes
        REQUIRE_FALSE(topic.publish(small));
        REQUIRE_FALSE(topic.publish(large));
    }
    CHECK(topic.counts(1).queued == 200);
    CHECK(topic.counts(1).queued_bytes == 200 * 64 + 700);
    CHECK(small.use_count() == 101); // one for each publication, not one for each shard
    for (std::size_t i = 0; i != 2; ++i) {
        shards.context(i).poll();
        REQUIRE(shards[i].got.size() == 200);
        CHECK(shards[i].got[198] == "abc");
        CHECK(shards[i].got[199] == "abcd");
        CHECK(shards[i].references[0] == 1);   // copied: counted without atomics
        CHECK(shards[i].references[1] == 102); // shared
        CHECK(topic.counts(i).delivered == 200);
        CHECK(topic.counts(i).queued == 0);
        CHECK(topic.counts(i).queued_bytes == 0);
    }
    CHECK(small.use_count() == 1);
    CHECK(large.use_count() == 1);
}

TEST_CASE("shard_topic: a payload that belongs to one thread is copied before others get it")
{
    auto shards = plain_shards(2);
    holdfast::shard_topic<plain_shard> topic{shards.context(0), shards, receive, {.max_copied_bytes = 3}};
    const payload own("abcd", holdfast::payload_sharing::one_thread);
    REQUIRE_FALSE(topic.publish(own));
    CHECK(own.use_count() == 1);
    for (std::size_t i = 0; i != 2; ++i)
        shards.context(i).poll();
    CHECK(shards[0].references[0] == 2); // the topic's and the receiver's
    CHECK(shards[1].got == std::vector<std::string>{"abcd"});
}

TEST_CASE("shard_topic: after the end of all shards each publication fails, the first, too")
{
    net::io_context io;
    const bool waits = GENERATE(false, true), asynchronous = GENERATE(false, true);
    CAPTURE(waits, asynchronous);
    std::optional<holdfast::shards<plain_shard>> shards;
    shards.emplace(2, [](net::io_context&, std::size_t) { return plain_shard(); });
    holdfast::shard_topic<plain_shard> topic{
        io, *shards, receive, {.on_overflow = waits ? overflow_policy::wait : overflow_policy::drop_oldest}};
    shards.reset();
    for (int i = 0; i != 2; ++i) {
        std::optional<error_code> result;
        if (asynchronous)
            topic.async_publish(payload("late"), [&](error_code ec) { result = ec; });
        else
            result = topic.publish(payload("late"));
        tests::run(io);
        CHECK(result == error_code(errc::outbox_closed));
    }
}

TEST_CASE("shard_topic: a shard that falls behind loses its oldest messages, the others none")
{
    auto shards = plain_shards(2);
    holdfast::shard_topic<plain_shard> topic{shards.context(0), shards, receive, {.max_queued_bytes = 3 * 65}};
    for (const char* each : {"1", "2", "3", "4", "5"}) {
        REQUIRE_FALSE(topic.publish(payload(each)));
        shards.context(0).poll();
    }
    shards.context(1).poll();
    CHECK(shards[0].got == std::vector<std::string>{"1", "2", "3", "4", "5"});
    CHECK(shards[1].got == std::vector<std::string>{"3", "4", "5"});
    CHECK(topic.counts(0).dropped == 0);
    CHECK(topic.counts(1).dropped == 2);
    CHECK(topic.counts(1).delivered == 3);
}

TEST_CASE("shard_topic: the newest value of a key takes the place of the older one, and is not dropped for it")
{
    using holdfast::conflate;
    auto shards = plain_shards(2);
    holdfast::shard_topic<plain_shard> topic{shards.context(0), shards, receive, {.max_queued_bytes = 200}};
    REQUIRE_FALSE(topic.publish(payload("a1"), conflate{1}));
    REQUIRE_FALSE(topic.publish(payload("b1"), conflate{2}));
    shards.context(0).poll(); // this shard has no older one any more
    REQUIRE_FALSE(topic.publish(payload("a2"), conflate{1}));
    CHECK(topic.counts(1).conflated == 1);
    CHECK(topic.counts(1).queued_bytes == 2 * 66);
    const std::string longer(80, 'b');
    REQUIRE_FALSE(topic.publish(payload(longer), conflate{2})); // a2 has to go
    const std::string longest(130, 'b');
    REQUIRE_FALSE(topic.publish(payload(longest), conflate{2}));
    REQUIRE_FALSE(topic.publish(payload("c")));
    CHECK(topic.counts(1).queued_bytes <= 200);
    for (std::size_t i = 0; i != 2; ++i)
        shards.context(i).poll();
    CHECK(shards[1].got == std::vector<std::string>{"c"});
    CHECK(topic.counts(1).dropped == 2);
    CHECK(topic.counts(1).conflated == 3);
    CHECK(shards[0].got == std::vector<std::string>{"a1", "b1", "c"});

    shards[1].got.clear();
    REQUIRE_FALSE(topic.publish(payload("a3"), conflate{1}));
    REQUIRE_FALSE(topic.publish(payload("b3"), conflate{2}));
    REQUIRE_FALSE(topic.publish(payload(longest), conflate{1})); // the oldest place, for which it is too large
    shards.context(1).poll();
    CHECK(shards[1].got == std::vector<std::string>{longest});
}

TEST_CASE("shard_topic: a publisher waits for the slowest shard")
{
    auto shards = plain_shards(2);
    holdfast::shard_topic<plain_shard> topic{
        shards.context(0), shards, receive, {.max_queued_bytes = 2 * 65, .on_overflow = overflow_policy::wait}};
    std::vector<std::string> done;
    const auto publish = [&](const char* text) {
        topic.async_publish(payload(text), [&done, text](error_code ec) { done.push_back(ec ? ec.message() : text); });
    };
    publish("1");
    publish("2");
    publish("3");
    publish("4");
    CHECK(topic.publish(payload("5")) == errc::outbox_full);
    shards.context(0).poll();
    CHECK(done == std::vector<std::string>{"1", "2"});
    CHECK(shards[0].got == std::vector<std::string>{"1", "2"});
    shards.context(1).poll();
    shards.context(0).poll();
    shards.context(1).poll();
    CHECK(done == std::vector<std::string>{"1", "2", "3", "4"});
    CHECK(shards[0].got == done);
    CHECK(shards[1].got == done);

    net::cancellation_signal cancel; // a publication that is cancelled is in no queue
    publish("6");
    publish("7");
    std::optional<error_code> eighth, ninth;
    topic.async_publish(payload("8"), net::bind_cancellation_slot(cancel.slot(), [&](error_code ec) { eighth = ec; }));
    topic.async_publish(payload(std::string(100, 'x')), [&](error_code ec) { ninth = ec; });
    cancel.emit(net::cancellation_type::all);
    for (int i = 0; i != 3; ++i) {
        shards.context(0).poll();
        shards.context(1).poll();
    }
    CHECK(eighth == error_code(net::error::operation_aborted));
    CHECK(ninth == error_code(errc::exceeds_limit));
    CHECK(shards[1].got.back() == "7");
}

TEST_CASE("shard_topic: an exception of the receiver leaves run(), the later messages are delivered")
{
    auto shards = plain_shards(1);
    holdfast::shard_topic<plain_shard> topic{shards.context(0), shards, [](plain_shard& s, const payload& message) {
                                                 if (message.text() == "bad") throw std::runtime_error("refused");
                                                 receive(s, message);
                                             }};
    for (const char* each : {"1", "bad", "2"})
        REQUIRE_FALSE(topic.publish(payload(each)));
    CHECK_THROWS_WITH(shards.context(0).poll(), "refused");
    shards.context(0).poll();
    CHECK(shards[0].got == std::vector<std::string>{"1", "2"});
    REQUIRE_FALSE(topic.publish(payload("3")));
    shards.context(0).poll();
    CHECK(shards[0].got.size() == 3);
    CHECK(topic.counts(0).delivered == 4);
}

TEST_CASE("shard_topic: publishers on many threads, while shards run and end")
{
    constexpr std::size_t publishers = 3, messages = 400;
    const bool waits = GENERATE(false, true);
    CAPTURE(waits);
    struct shard {
        std::atomic<std::size_t>* arrived;
        std::vector<std::size_t> next = std::vector<std::size_t>(publishers);
        bool ordered = true;
    };
    std::atomic<std::size_t> arrived = 0;
    holdfast::shards<shard> shards{2, [&](net::io_context&, std::size_t) { return shard{&arrived}; }};
    holdfast::shard_topic<shard> topic{shards.context(0),
                                       shards,
                                       [](shard& s, const payload& message) {
                                           const auto from = static_cast<std::size_t>(message.text()[0] - '0');
                                           const std::size_t number = std::stoul(std::string(message.text().substr(2)));
                                           s.ordered = s.ordered && number >= s.next[from];
                                           s.next[from] = number + 1;
                                           ++*s.arrived;
                                           s.arrived->notify_all();
                                       },
                                       {.max_queued_bytes = waits ? 1000U : 100'000U,
                                        .on_overflow = waits ? overflow_policy::wait : overflow_policy::drop_oldest}};
    auto threads = run_all(shards);
    {
        std::vector<std::jthread> sources;
        for (std::size_t p = 0; p != publishers; ++p)
            sources.emplace_back([&, p] {
                net::io_context io;
                net::co_spawn(
                    io,
                    [&]() -> net::awaitable<void> {
                        for (std::size_t i = 0; i != messages; ++i)
                            co_await topic.async_publish(payload(std::to_string(p) + ":" + std::to_string(i)));
                    },
                    net::detached);
                io.run();
            });
    }
    for (std::size_t n = arrived; n != 2 * publishers * messages; n = arrived)
        arrived.wait(n);
    shards.stop();
    threads.clear();
    for (std::size_t i = 0; i != 2; ++i) {
        CHECK(shards[i].ordered);
        CHECK(shards[i].next == std::vector<std::size_t>(publishers, messages));
        CHECK(topic.counts(i).delivered == publishers * messages);
        CHECK(topic.counts(i).dropped == 0);
    }
}

TEST_CASE("shard_topic: it is destroyed while its messages are delivered and published")
{
    for (int round = 0; round != 20; ++round) {
        std::vector<std::jthread> threads;
        auto shards = plain_shards(2);
        auto topic = std::make_unique<holdfast::shard_topic<plain_shard>>(shards.context(0), shards, receive);
        threads = run_all(shards);
        for (int i = 0; i != 20; ++i)
            REQUIRE_FALSE(topic->publish(payload("x")));
        if (round % 2 == 0) topic.reset(); // before the shards, or after them
        shards.stop();
        threads.clear();
    }
}
