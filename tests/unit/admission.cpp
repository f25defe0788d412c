// holdfast: tests of the acceptor's limits: for each address, of the rate, of memory; and of what decides
// them, without sockets and clocks.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/process/memory.hpp>

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::acceptor_options;
using holdfast::admission_limit;
using holdfast::close_reason;
using holdfast::error_code;
using holdfast::overload_policy;
using holdfast::detail::address_key;
using holdfast::detail::address_place;
using holdfast::detail::address_table;
using holdfast::detail::backlog_timeout;
using holdfast::detail::memory_gate;
using holdfast::detail::token_bucket;
using tests::connect, tests::descriptor_limit, tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp>;
using connection = acceptor_type::connection_type;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};
using time_point = std::chrono::steady_clock::time_point;
constexpr time_point start{1000h};

/// Keeps every connection until it is released.
struct keeper {
    std::vector<connection> kept;

    void serve(acceptor_type& acceptor)
    {
        acceptor.async_serve([this](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    }
};

/// A client with a source address of its own: 127.0.`a`.`b`.
tcp::socket connect_from(net::io_context& io, const tcp::endpoint& where, unsigned a, unsigned b)
{
    tcp::socket client(io, tcp::v4());
    client.bind({net::ip::address_v4{0x7f000000U | a << 8U | b}, 0});
    client.connect(where);
    return client;
}

address_key key(const char* text, unsigned ipv4_prefix = 32, unsigned ipv6_prefix = 64)
{
    return address_key::of(net::ip::make_address(text), ipv4_prefix, ipv6_prefix);
}

} // namespace

TEST_CASE("a token bucket lets a burst through, then one each interval, and never more after a pause or a leap")
{
    token_bucket bucket(10ms, 3);
    auto now = start;
    for (int i = 0; i != 3; ++i)
        CHECK(bucket.take(now));
    CHECK_FALSE(bucket.take(now));
    CHECK(bucket.ready_at(now) == now + 10ms);
    CHECK_FALSE(bucket.take(now + 9ms));
    CHECK(bucket.take(now + 10ms));
    CHECK_FALSE(bucket.take(now + 10ms));
    for (const auto pause : {std::chrono::nanoseconds(50ms), std::chrono::nanoseconds(24h * 365 * 100)}) {
        now += pause;
        int taken = 0;
        while (bucket.take(now))
            ++taken;
        CHECK(taken == 3);
    }
    int in_a_second = 0;
    for (const auto end = now + 1s; now < end; now += 100us)
        in_a_second += bucket.take(now) ? 1 : 0;
    CHECK(in_a_second <= 100);
    CHECK(in_a_second >= 99);
    token_bucket single(1s, 1);
    CHECK(single.take(start));
    CHECK(single.ready_at(start) == start + 1s);
}

TEST_CASE("addresses are the same up to their prefix, and a mapped IPv4 address is the IPv4 address")
{
    CHECK(key("::ffff:192.0.2.7") == key("192.0.2.7"));
    CHECK(key("192.0.2.7") != key("192.0.2.8"));
    CHECK(key("192.0.2.7", 24) == key("192.0.2.8", 24));
    CHECK(key("::ffff:192.0.2.7", 24) == key("192.0.2.200", 24));
    CHECK(key("192.0.2.7", 1) == key("255.0.0.0", 1));
    CHECK(key("2001:db8::1") == key("2001:db8::ffff:1:2:3"));
    CHECK(key("2001:db8::1") != key("2001:db8:0:1::1"));
    CHECK(key("2001:db8::1", 32, 128) != key("2001:db8::2", 32, 128));
    CHECK(key("2001:db8::1", 32, 48) == key("2001:db8:0:ff::1", 32, 48));
    CHECK(key("::1") != key("127.0.0.1"));
    CHECK(key("::") != key("0.0.0.0"));
}

TEST_CASE("the table counts each address up to the limit, and agrees with a map at every step")
{
    const std::uint32_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::minstd_rand random(seed);
    address_table table(3, 50);
    std::map<std::pair<std::uint64_t, std::uint64_t>, int> model;
    std::vector<std::pair<address_key, address_place>> held;
    for (int step = 0; step != 100'000; ++step) {
        if (held.size() < 50 && random() % 2 == 0) {
            const address_key k{random() % 5, random() % 5};
            const auto place = table.enter(k);
            int& n = model[{k.high, k.low}];
            REQUIRE((place == address_table::nowhere) == (n == 3));
            if (place == address_table::nowhere) continue;
            ++n;
            held.emplace_back(k, address_place(table, place));
        } else if (!held.empty()) {
            std::swap(held[random() % held.size()], held.back());
            --model[{held.back().first.high, held.back().first.low}];
            held.pop_back();
        }
        std::size_t used = 0;
        for (const auto& [k, n] : model)
            used += n != 0 ? 1 : 0;
        REQUIRE(table.size() == used);
    }
    CHECK(table.capacity() <= 25);
}

TEST_CASE("a million addresses that connect and leave do not grow the table")
{
    address_table table(1, 100);
    std::vector<address_place> live;
    for (std::uint64_t i = 0; i != 1'000'000; ++i) {
        if (live.size() == 100) live.erase(live.begin());
        const auto place = table.enter({0x20010db8'00000000 + i, 0});
        REQUIRE(place != address_table::nowhere);
        live.emplace_back(table, place);
    }
    CHECK(table.capacity() == 101 - 1);
    live.clear();
    CHECK(table.size() == 0);
}

TEST_CASE("the memory gate shuts above the high mark and opens below the low one, not between")
{
    memory_gate gate(1000, 900, 1s);
    CHECK(gate.due(start));
    CHECK_FALSE(gate.observe(1000, 50, start));
    CHECK(gate.open(50, start));
    CHECK(gate.observe(1001, 50, start));
    CHECK_FALSE(gate.open(50, start));
    CHECK_FALSE(gate.observe(950, 50, start)); // it does not shut a second time
    CHECK_FALSE(gate.open(50, start));
    gate.observe(900, 50, start);
    CHECK(gate.open(50, start));
    gate.observe(950, 50, start);
    CHECK(gate.open(50, start));
    memory_gate none(0, 0, 1s);
    CHECK((none.open(1, start) && !none.due(start) && !none.enabled()));
}

TEST_CASE("a gate whose memory never falls opens by the number of connections, up to as many as before")
{
    memory_gate gate(1000, 900, 0s); // no probe_interval
    gate.observe(2000, 80, start);
    CHECK_FALSE(gate.open(80, start));
    CHECK_FALSE(gate.open(71, start + 24h));
    CHECK(gate.open(70, start)); // an eighth has left
    gate.observe(2000, 70, start);
    CHECK(gate.open(79, start));
    CHECK_FALSE(gate.open(80, start));
    CHECK_FALSE(gate.open(75, start)); // hysteresis
    CHECK(gate.open(0, start));
    CHECK(gate.observe(3000, 40, start)); // worse than before, with fewer: these are too many
    CHECK_FALSE(gate.open(40, start));
    CHECK(gate.open(35, start));
}

TEST_CASE("a gate that stays shut lets one in each probe_interval, and not at once")
{
    memory_gate gate(1000, 900, 1s);
    gate.observe(2000, 1, start);
    CHECK_FALSE(gate.open(1, start));
    CHECK(gate.next_probe(start) <= start + 1s);
    CHECK(gate.open(1, start + 1s));
    gate.admitted(start + 1s);
    CHECK_FALSE(gate.open(2, start + 1999ms));
    CHECK(gate.open(2, start + 2s));
    auto now = start + 2s;
    for (int i = 0; i != 100; ++i) { // following its advice takes few polls, and finds every opening
        now = gate.next_probe(now);
        if (gate.open(2, now)) break;
    }
    CHECK(gate.open(2, now));
}

TEST_CASE("the gate requests few measurements far from the mark, and many near it or while the memory grows")
{
    memory_gate gate(1U << 30U, 1U << 29U, 1s);
    const auto admissions_until_due = [&](std::uint64_t used) {
        gate.observe(used, 0, start);
        int n = 0;
        for (; !gate.due(start); ++n)
            gate.admitted(start);
        return n;
    };
    for (const int n : {2, 4, 8, 16, 32, 64, 128, 256, 256}) // it does not know yet what one costs
        CHECK(admissions_until_due(1U << 20U) == n);
    CHECK(admissions_until_due((1U << 20U) + 256 * (8U << 20U)) == 1); // above the mark
    CHECK(admissions_until_due((1U << 30U) - (64U << 20U)) == 2);
    CHECK(admissions_until_due((1U << 30U) - (48U << 20U)) == 3); // each costs 8 MiB
    CHECK(admissions_until_due((1U << 30U) - 1024) == 1);
    CHECK(gate.due(start + 100ms)); // and whenever the last one is old
}

TEST_CASE("of a queue of which only the length is known, no client is overdue early, and none much later")
{
    const std::uint32_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::minstd_rand random(seed);
    for (const std::chrono::nanoseconds time : {7ns, 100'000'000ns, 3'600'000'000'001ns})
        for (const bool paced : {true, false}) {
            backlog_timeout limit(time);
            CHECK(limit.ends());
            std::deque<time_point> queue; // since when each waits
            auto now = start;
            std::size_t ever = 0;
            for (int step = 0; step != 5'000; ++step) {
                now += paced ? limit.period() : limit.period() * static_cast<int>(random() % 16) / 4;
                for (auto n = random() % 4; n != 0; --n)
                    queue.push_back(now);
                for (auto n = random() % 3; n != 0 && !queue.empty(); --n) {
                    queue.pop_front();
                    limit.left();
                }
                const std::size_t overdue = limit.overdue(queue.size(), now);
                REQUIRE(overdue <= queue.size());
                ever += overdue;
                for (std::size_t i = 0; i != overdue; ++i) {
                    REQUIRE(now - queue.front() >= time);
                    queue.pop_front();
                    limit.left();
                }
                if (paced && !queue.empty()) REQUIRE(now - queue.front() < time + 2 * limit.period());
            }
            CHECK(ever != 0);
        }
    backlog_timeout none(0s);
    CHECK_FALSE(none.ends());
}

TEST_CASE("one address has so many connections and no more, others have their own, and places are returned")
{
    net::io_context io;
    std::vector<acceptor_event> events;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.max_connections = 100, .max_per_address = 2, .on_event = [&](const acceptor_event& event) {
                                events.push_back(event);
                            }}};
    keeper all;
    all.serve(acceptor);
    const auto where = acceptor.local_endpoint();
    auto a = connect_from(io, where, 0, 2), b = connect_from(io, where, 0, 2), c = connect_from(io, where, 0, 2);
    auto d = connect_from(io, where, 0, 3);
    tests::run_until(io, [&] { return all.kept.size() == 3 && acceptor.rejected() == 1; });
    CHECK(tests::read_to_end(c).end == net::error::connection_reset);
    CHECK(acceptor.addresses() == 2);
    REQUIRE(events.size() == 1);
    CHECK(events[0].what == acceptor_event::kind::rejected);
    CHECK(events[0].limit == admission_limit::per_address);
    CHECK(acceptor.census().live() == 3);
    CHECK(acceptor.census().peak() == 3); // refused ones never count
    all.kept.clear();
    CHECK(acceptor.addresses() == 0);
    auto e = connect_from(io, where, 0, 2);
    tests::run_until(io, [&] { return all.kept.size() == 1; });
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("clients that leave before they are accepted, or in a handshake, return permit and address")
{
    net::io_context io;
    holdfast::async_semaphore room(io.get_executor(), 20);
    acceptor_type acceptor{io.get_executor(), any_port, {.connection_semaphore = &room, .max_per_address = 20}};
    auto gone = connect(io, acceptor.local_endpoint(), 10);
    for (auto& client : gone)
        tests::reset(client); // in the backlog
    auto clients = connect(io, acceptor.local_endpoint(), 10);
    acceptor.async_serve(
        [](connection peer) -> net::awaitable<void> {
            std::array<char, 16> hello;
            co_await net::async_read(peer.stream(), net::buffer(hello), net::use_awaitable);
        },
        net::detached);
    for (auto& client : clients) {
        net::write(client, net::buffer("hell", 4));
        tests::run_until(io, [&] { return acceptor.census().ended() + acceptor.census().live() == 20; });
        tests::reset(client);
    }
    tests::run_until(io, [&] { return acceptor.census().ended() == 20; });
    CHECK(acceptor.addresses() == 0);
    acceptor.close();
    tests::run(io);
    CHECK(room.in_use() == 0);
}

TEST_CASE("a rejected client gets the reject_message and an end of stream, and cannot hold a descriptor for long")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.max_connections = 1,
                            .on_connection_limit = overload_policy::reject,
                            .reject_message = "full\n",
                            .reject_deadline = 50ms,
                            .max_pending_rejects = 2}};
    keeper all;
    all.serve(acceptor);
    auto first = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return all.kept.size() == 1; });
    auto reading = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return acceptor.rejected() == 1; });
    const auto answer = tests::read_to_end(reading[0]);
    CHECK(answer.bytes == "full\n");
    CHECK(answer.end == net::error::eof);
    reading.clear();
    while (io.poll() != 0) { // its reject_message is over
    }
    // Those that never close: two get a reject_message, the third a reset; after the deadline there is room again.
    auto mute = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return acceptor.rejected() == 4; });
    CHECK(tests::read_to_end(mute[2]).end == net::error::connection_reset);
    for (int i = 0; i != 2; ++i)
        CHECK(tests::read_to_end(mute[static_cast<std::size_t>(i)]).bytes == "full\n");
    all.kept.clear();
    auto next = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return all.kept.size() == 1; });
    CHECK(acceptor.census().ended() == 1);
    acceptor.close();
    all.kept.clear();
    tests::run(io); // the rejects end by their deadline
}

TEST_CASE(
    "a client that has waited for the backlog_timeout gets the reject_message, and free places still go to others")
{
    net::io_context io;
    std::vector<acceptor_event> events;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.max_connections = 1,
                            .backlog_timeout = 100ms,
                            .reject_message = "full\n",
                            .max_pending_rejects = 2,
                            .on_event = [&](const acceptor_event& event) { events.push_back(event); }}};
    keeper all;
    all.serve(acceptor);
    auto first = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return all.kept.size() == 1 && !events.empty(); });
    CHECK(events[0].what == acceptor_event::kind::paused);
    const auto begin = std::chrono::steady_clock::now();
    auto waiting = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return acceptor.rejected() == 3; });
    CHECK(std::chrono::steady_clock::now() - begin >= 100ms);
    for (int i = 0; i != 2; ++i)
        CHECK(tests::read_to_end(waiting[static_cast<std::size_t>(i)]).bytes == "full\n");
    CHECK(tests::read_to_end(waiting[2]).end == net::error::connection_reset); // too many pending rejects
    CHECK(events.back().what == acceptor_event::kind::rejected);
    CHECK(events.back().limit == admission_limit::connections);
    CHECK(all.kept.size() == 1);
    CHECK(acceptor.census().peak() == 1);
    all.kept.clear();
    auto next = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return all.kept.size() == 1; });
    CHECK(acceptor.rejected() == 3);
    waiting.clear();
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("backlog_timeout ends also in a pause for the rate, and close() ends the polling")
{
    net::io_context io;
    acceptor_type acceptor{
        io.get_executor(), any_port, {.accepts_per_second = 0.001, .accept_burst = 1, .backlog_timeout = 10ms}};
    keeper all;
    all.serve(acceptor);
    auto clients = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return acceptor.rejected() == 2; });
    CHECK(all.kept.size() == 1);
    for (int i = 1; i != 3; ++i)
        CHECK(tests::read_to_end(clients[static_cast<std::size_t>(i)]).end == net::error::eof);
    clients.clear();
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("of two acceptors that share a semaphore, the one that closes returns its permits for the other")
{
    net::io_context io;
    holdfast::async_semaphore room(io.get_executor(), 1);
    acceptor_type one{io.get_executor(), any_port, {.connection_semaphore = &room}};
    acceptor_type other{io.get_executor(), any_port, {.connection_semaphore = &room}};
    keeper of_one, of_other;
    of_one.serve(one);
    io.poll(); // it waits for a new client, with the only unit
    of_other.serve(other);
    auto client = connect(io, other.local_endpoint(), 1);
    io.restart();
    io.poll();
    CHECK(room.in_use() == 1);
    CHECK(room.waiting() == 1);
    CHECK(of_other.kept.empty());
    one.close();
    tests::run_until(io, [&] { return of_other.kept.size() == 1; });
    CHECK(room.in_use() == 1); // that connection's; the other acceptor waits for one more
    other.close();
    tests::run_until(io, [&] { return room.waiting() == 0; });
    of_other.kept.clear();
    CHECK(room.in_use() == 0);
    tests::run(io);
}

TEST_CASE("a new client without memory for it while the acceptor waited stays in the backlog until that "
          "closes or drains")
{
    if (tests::thread_sanitized) return; // the gate measures this process
    for (const bool drained : {false, true}) {
        net::io_context io;
        std::error_code ec;
        const auto now = holdfast::read_process_memory(0, ec).vm_rss;
        holdfast::async_semaphore room(io.get_executor(), 10);
        bool paused = false;
        acceptor_type acceptor{io.get_executor(),
                               any_port,
                               {.connection_semaphore = &room,
                                .max_per_address = 5,
                                .memory = {.of = holdfast::memory_limits::memory_source::process,
                                           .high_watermark = now + (8U << 20U),
                                           .probe_interval = 0ms},
                                .on_event = [&](const acceptor_event& event) {
                                    paused = paused || event.what == acceptor_event::kind::paused;
                                }}};
        keeper all;
        all.serve(acceptor);
        io.poll(); // below the mark: it waits for a new client
        const std::vector<char> more(16U << 20U, 'x');
        std::optional<tcp::socket> client;
        const auto old = std::chrono::steady_clock::now() + 100ms; // a measurement is valid for so long
        tests::run_until(io, [&] { return std::chrono::steady_clock::now() > old; });
        client.emplace(io).connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return paused; });
        CHECK(acceptor.rejected() == 0);
        CHECK(room.in_use() == 1);
        std::optional<std::size_t> aborted;
        if (drained)
            acceptor.async_drain({}, [&](error_code, std::size_t n) { aborted = n; });
        else
            acceptor.close();
        tests::run(io);
        CHECK(tests::read_to_end(*client).end == net::error::connection_reset);
        CHECK(acceptor.rejected() == 0);
        CHECK(all.kept.empty());
        CHECK(aborted.has_value() == drained);
        CHECK(room.in_use() == 0);
        CHECK(acceptor.addresses() == 0);
        CHECK(acceptor.census().live() == 0);
    }
}

TEST_CASE("no more than the rate are admitted, the others wait in the backlog and are admitted later")
{
    net::io_context io;
    int pauses = 0;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.accepts_per_second = 50, .accept_burst = 5, .on_event = [&](const acceptor_event& event) {
                                CHECK(event.what == acceptor_event::kind::paused);
                                CHECK(event.limit == admission_limit::rate);
                                ++pauses;
                            }}};
    keeper all;
    all.serve(acceptor);
    const auto begin = std::chrono::steady_clock::now();
    auto clients = connect(io, acceptor.local_endpoint(), 20);
    tests::run_until(io, [&] { return all.kept.size() == 20; });
    // 5 at once and 15 in 20 ms each: that it took longer is never wrong
    CHECK(std::chrono::steady_clock::now() - begin >= 299ms);
    CHECK(pauses >= 1);
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("above the memory mark the hook may trim, new clients wait, and a probe_interval still comes in")
{
    net::io_context io;
    int trims = 0;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.memory = {.of = holdfast::memory_limits::memory_source::process,
                                       .high_watermark = 1, // any process is above
                                       .probe_interval = 20ms,
                                       .on_memory_pressure = [&] { ++trims; }}}};
    keeper all;
    all.serve(acceptor);
    const auto begin = std::chrono::steady_clock::now();
    auto clients = connect(io, acceptor.local_endpoint(), 5);
    tests::run_until(io, [&] { return all.kept.size() == 5; });
    CHECK(std::chrono::steady_clock::now() - begin >= 99ms);
    CHECK(trims >= 1);
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("at the memory mark new clients can be reset instead")
{
    net::io_context io;
    acceptor_type acceptor{
        io.get_executor(),
        any_port,
        {.memory = {.of = holdfast::memory_limits::memory_source::process, .high_watermark = 1, .probe_interval = 0ms},
         .on_memory_limit = overload_policy::reset}};
    keeper all;
    all.serve(acceptor);
    auto clients = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return acceptor.rejected() == 3; });
    for (auto& client : clients)
        CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    CHECK(all.kept.empty());
    acceptor.close();
    tests::run(io);
}

TEST_CASE("close() and a drain reach a pause for memory or rate, a rest without descriptors, and a full house")
{
    for (const int which : {0, 1, 2, 3})
        for (const bool drained : {false, true}) {
            net::io_context io;
            acceptor_options options;
            bool paused = false;
            options.on_event = [&](const acceptor_event&) { paused = true; };
            if (which == 0)
                options.memory = {
                    .of = holdfast::memory_limits::memory_source::process, .high_watermark = 1, .probe_interval = 0ms};
            if (which == 1) {
                options.accepts_per_second = 0.001;
                options.accept_burst = 1;
            }
            if (which == 3) options.max_connections = 1;
            acceptor_type acceptor{io.get_executor(), any_port, options};
            keeper all;
            error_code result = net::error::fault;
            acceptor.async_serve([&](connection peer) { all.kept.push_back(std::move(peer)); },
                                 [&](error_code ec) { result = ec; });
            auto clients = connect(io, acceptor.local_endpoint(), 1);
            std::optional<tcp::socket> second(std::in_place, io, tcp::v4());
            std::optional<descriptor_limit> none;
            if (which == 1 || which == 3) tests::run_until(io, [&] { return all.kept.size() == 1; });
            if (which == 2) none.emplace(0);
            second->connect(acceptor.local_endpoint());
            tests::run_until(io, [&] { return paused; });
            std::vector<std::size_t> aborted;
            for (int twice = 0; twice != 2; ++twice)
                if (drained)
                    acceptor.async_drain({.deadline = 0s}, [&](error_code, std::size_t n) { aborted.push_back(n); });
                else
                    acceptor.close();
            tests::run_until(io, [&] { return result != net::error::fault && aborted.size() == (drained ? 2 : 0); });
            CHECK_FALSE(result);
            for (const std::size_t n : aborted)
                CHECK(n == all.kept.size());
            none.reset();
            all.kept.clear();
            clients.clear();
            second.reset();
            tests::run(io);
        }
}

TEST_CASE("without descriptors, new clients can be reset one by one through the one in reserve")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.on_descriptor_limit = overload_policy::reset}};
    keeper all;
    all.serve(acceptor);
    io.poll();
    std::vector<tcp::socket> clients;
    for (int i = 0; i != 3; ++i)
        clients.emplace_back(io, tcp::v4());
    {
        const descriptor_limit none(0);
        for (auto& client : clients)
            client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return acceptor.rejected() == 3; });
    }
    for (auto& client : clients)
        CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    auto later = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return all.kept.size() == 1; });
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("several operations that find no descriptors take turns, and try no more often than one")
{
    net::io_context io;
    int starved = 0;
    acceptor_type acceptor{io.get_executor(), any_port, {.on_event = [&](const acceptor_event&) { ++starved; }}};
    keeper all;
    for (int i = 0; i != 4; ++i)
        acceptor.async_accept([&](error_code ec, connection peer) {
            if (!ec) all.kept.push_back(std::move(peer));
        });
    tcp::socket client(io, tcp::v4());
    {
        const descriptor_limit none(0);
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return starved != 0; });
        std::size_t turns = 0; // of handlers that are ready: a busy loop never runs out of them
        for (std::size_t ran = 1; ran != 0 && turns < 10'000; turns += ran) {
            io.restart();
            ran = io.poll();
        }
        CHECK(turns < 100);
    }
    tests::run_until(io, [&] { return all.kept.size() == 1; });
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("an io_context and an acceptor for each thread at one address, and one limit for them all")
{
    constexpr std::size_t limit = 10;
    constexpr int clients_each = 100;
    net::io_context control;
    auto keep = net::make_work_guard(control);
    holdfast::async_semaphore room(control.get_executor(), limit);
    std::thread controller([&] { control.run(); });
    std::atomic<int> inside = 0, most = 0, served = 0;
    struct shard {
        net::io_context io{1};
        std::optional<acceptor_type> acceptor;
        std::thread thread;
    };
    std::array<shard, 3> shards;
    tcp::endpoint where = any_port;
    for (shard& each : shards) {
        each.acceptor.emplace(each.io.get_executor(), where,
                              acceptor_options{.connection_semaphore = &room, .reuse_port = true});
        where = each.acceptor->local_endpoint();
        each.acceptor->async_serve(
            [&](connection peer) {
                return [](connection p, std::atomic<int>& now, std::atomic<int>& peak,
                          std::atomic<int>& count) -> net::awaitable<void> {
                    const int n = ++now;
                    for (int seen = peak; seen < n && !peak.compare_exchange_weak(seen, n);) {
                    }
                    std::array<char, 16> bytes;
                    error_code ec;
                    co_await p.stream().async_read_some(net::buffer(bytes),
                                                        net::redirect_error(net::use_awaitable, ec));
                    ++count;
                    --now;
                }(std::move(peer), inside, most, served);
            },
            net::detached);
    }
    for (shard& each : shards)
        each.thread = std::thread([&each] { each.io.run(); });
    std::vector<std::thread> loads;
    for (int i = 0; i != 2; ++i)
        loads.emplace_back([where] {
            net::io_context own;
            for (int n = 0; n != clients_each; ++n) {
                tcp::socket client(own);
                client.connect(where);
                error_code ec;
                client.write_some(net::buffer("x", 1), ec);
                std::array<char, 16> bytes;
                client.read_some(net::buffer(bytes), ec); // until the server closes
            }
        });
    for (auto& load : loads)
        load.join();
    for (shard& each : shards)
        each.acceptor->close();
    for (shard& each : shards)
        each.thread.join();
    keep.reset();
    controller.join();
    CHECK(served == 2 * clients_each);
    CHECK(most <= static_cast<int>(limit));
    CHECK(room.in_use() == 0);
}

TEST_CASE("each connection gets the executor that the user's function returns, and its session runs there")
{
    net::io_context io, other;
    acceptor_type acceptor{io.get_executor(), any_port, {.next_executor = [&] { return other.get_executor(); }}};
    bool served = false;
    acceptor.async_serve(
        [&](connection peer) {
            return [](connection p, net::io_context& expected, bool& done) -> net::awaitable<void> {
                const net::any_io_executor here = co_await net::this_coro::executor;
                CHECK(here == net::any_io_executor(expected.get_executor()));
                CHECK(p.get_executor() == net::any_io_executor(expected.get_executor()));
                done = true;
            }(std::move(peer), other, served);
        },
        net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 1);
    for (int i = 0; i != 1000 && !served; ++i) {
        io.run_one_for(5ms);
        io.restart();
        CHECK_FALSE(served);
        other.poll();
        other.restart();
    }
    CHECK(served);
    acceptor.close();
    tests::run(io);
}

TEST_CASE("of many events of one kind the hook gets sixteen at once, and later their number")
{
    net::io_context io;
    std::uint64_t calls = 0, sum = 0;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.max_connections = 1,
                            .on_connection_limit = overload_policy::reset,
                            .on_event = [&](const acceptor_event& event) {
                                ++calls;
                                sum += event.count;
                            }}};
    keeper all;
    all.serve(acceptor);
    auto clients = connect(io, acceptor.local_endpoint(), 200);
    tests::run_until(io, [&] { return acceptor.rejected() == 199; });
    CHECK(calls >= 16);
    CHECK(calls < 100);
    CHECK(sum <= 199);
    acceptor.close();
    all.kept.clear();
    tests::run(io);
}

TEST_CASE("options that make no sense are refused at construction")
{
    net::io_context io;
    for (const acceptor_options& bad :
         {acceptor_options{.ipv4_prefix = 0}, acceptor_options{.ipv4_prefix = 33}, acceptor_options{.ipv6_prefix = 0},
          acceptor_options{.ipv6_prefix = 129}, acceptor_options{.accepts_per_second = -1},
          acceptor_options{.accept_burst = 0}, acceptor_options{.on_address_limit = overload_policy::wait},
          acceptor_options{.backlog_timeout = -1ms},
          acceptor_options{.memory = {.of = holdfast::memory_limits::memory_source::process,
                                      .high_watermark = 1,
                                      .low_watermark = 2}}})
        CHECK_THROWS_AS(acceptor_type(io.get_executor(), any_port, bad), std::invalid_argument);
    using local = net::local::stream_protocol;
    CHECK_THROWS_AS(
        holdfast::bounded_acceptor<local>(io.get_executor(), local::endpoint("/nowhere"), {.backlog_timeout = 1s}),
        std::invalid_argument);
    CHECK_NOTHROW(
        acceptor_type(io.get_executor(), any_port, {.memory = {.of = holdfast::memory_limits::memory_source::cgroup}}));
}
