// holdfast: does a key have no more connections than it may, in a bounded table, and does the newest win in order?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/key_limits.hpp>

#include <atomic>
#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::error_code;
using holdfast::key_limits;
using holdfast::key_permit;
using holdfast::key_policy;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// Calls a function, which may do anything.
struct call {
    const std::function<void(const connection_end&)>* function;
    void operator()(const connection_end& end) const noexcept
    {
        if (*function) (*function)(end);
    }
};
using acceptor = holdfast::bounded_acceptor<tcp, call>;
using connection = acceptor::connection_type;

struct fixture {
    ~fixture() { at_end = nullptr; } // it may refer to what is gone

    connection& connect()
    {
        clients.emplace_back(io).connect(server.local_endpoint());
        server.async_accept([this](error_code, connection peer) { peers.push_back(std::move(peer)); });
        const std::size_t expected = peers.size() + 1;
        tests::run_until(io, [&] { return peers.size() == expected; });
        return peers.back();
    }

    /// What the next read of the connection says.
    error_code read(connection& from)
    {
        std::optional<error_code> result;
        char byte = 0;
        from.stream().async_read_some(net::buffer(&byte, 1), [&](error_code ec, std::size_t) { result = ec; });
        tests::run_until(io, [&] { return result.has_value(); });
        return *result;
    }

    net::io_context io;
    std::function<void(const connection_end&)> at_end;
    std::deque<tcp::socket> clients;
    acceptor server{io, {net::ip::address_v4::loopback(), 0}, {}, call{&at_end}};
    std::deque<connection> peers;
};

} // namespace

TEST_CASE("a key has as many connections as it may, and a place that is given back is for the next")
{
    fixture f;
    key_limits tenants({.max_per_key = 2});
    auto first = tenants.acquire("a", f.connect());
    auto second = tenants.acquire("a", f.connect());
    CHECK(first);
    CHECK(second);
    CHECK_FALSE(tenants.acquire("a", f.connect()));
    CHECK(tenants.acquire("b", f.connect()));
    CHECK(tenants.count("a") == 2);
    CHECK(tenants.keys() == 1);
    first.release();
    first.release();
    CHECK_FALSE(first);
    key_permit moved = std::move(second);
    CHECK_FALSE(second); // NOLINT(bugprone-use-after-move): that is what is tested
    CHECK(moved);
    auto third = tenants.acquire("a", f.connect());
    CHECK(third);
    CHECK_FALSE(tenants.acquire("a", f.connect()));
    third = std::move(moved); // gives one back
    CHECK(tenants.count("a") == 1);
    third = {};
    CHECK(tenants.keys() == 0);
}

TEST_CASE("the table is bounded in keys and in their size")
{
    fixture f;
    auto& peer = f.connect();
    key_limits limits({.max_per_key = SIZE_MAX, .max_keys = 2, .max_key_bytes = 3});
    const auto a = limits.acquire("a", peer);
    const auto b = limits.acquire(std::string_view("b\0b", 3), peer);
    CHECK(a);
    CHECK(b);
    CHECK_FALSE(limits.acquire("c", peer));
    CHECK_FALSE(limits.acquire("long", peer));
    CHECK(limits.acquire("a", peer));
    CHECK(limits.keys() == 2);
    CHECK(limits.count("b") == 0);
    CHECK_FALSE(key_limits({.max_key_bytes = 3}).acquire("long", peer));
    CHECK(key_limits().acquire("", peer));
    CHECK_THROWS_AS(key_limits({.max_per_key = 0}), std::invalid_argument);
    CHECK_THROWS_AS(key_limits({.max_keys = 0}), std::invalid_argument);
    CHECK_THROWS_AS(key_limits({.max_key_bytes = 0}), std::invalid_argument);
}

TEST_CASE("the newest connection of a key is admitted at once, and the oldest ends for its own reason, once")
{
    fixture f;
    std::vector<connection_end> ends;
    f.at_end = [&](const connection_end& end) { ends.push_back(end); };
    key_limits devices({.max_per_key = 2, .on_limit = key_policy::newest_wins});
    std::deque<key_permit> permits;
    for (int i = 0; i != 3; ++i)
        permits.push_back(devices.acquire("device", f.connect()));
    for (const key_permit& each : permits)
        CHECK(each);
    CHECK(permits[0].superseded());
    CHECK_FALSE(permits[1].superseded());
    CHECK(devices.count("device") == 2);
    CHECK(ends.empty()); // its session has it
    CHECK(f.read(f.peers[0]));
    f.peers[0].close();
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].reason == close_reason::superseded);
    permits[0].release(); // gives nothing back that is not its own
    CHECK(devices.count("device") == 2);
    CHECK(f.server.census().live() == 2);
    f.peers[1].close();
    f.peers[2].close();
    CHECK(ends[1].reason == close_reason::local);
    CHECK(ends[2].reason == close_reason::local);
}

TEST_CASE("a connection that comes a second time is not ended by itself, and one that has ended ends no other")
{
    fixture f;
    std::vector<close_reason> ends;
    f.at_end = [&](const connection_end& end) { ends.push_back(end.reason); };
    key_limits devices({.on_limit = key_policy::newest_wins});
    auto& peer = f.connect();
    const auto first = devices.acquire("device", peer);
    const auto again = devices.acquire("device", peer);
    CHECK(first.superseded());
    CHECK_FALSE(again.superseded());
    peer.close();
    CHECK(ends == std::vector<close_reason>{close_reason::local});
    auto& next = f.connect(); // in the place of the first
    const auto other = devices.acquire("other", next);
    const auto newer = devices.acquire("device", f.connect());
    CHECK(again.superseded());
    CHECK(next.is_open());
    next.close();
    CHECK(ends.back() == close_reason::local);
}

TEST_CASE("a finalizer may give the place back, use the key again, and destroy the table")
{
    fixture f;
    std::optional<key_limits> devices(std::in_place);
    std::optional<key_permit> permit;
    std::optional<key_permit> next;
    auto& first = f.connect();
    auto& second = f.connect();
    permit = devices->acquire("device", first);
    f.at_end = [&](const connection_end&) {
        CHECK_FALSE(devices->acquire("device", second));
        permit.reset();
        next = devices->acquire("device", second);
        CHECK(*next);
        devices.reset();
    };
    first.close();
    CHECK(*next);
    CHECK_FALSE(next->superseded());
    f.at_end = [&](const connection_end&) { next.reset(); };
    second.close();
    CHECK_FALSE(next);
}

TEST_CASE("on several threads each key has one connection at a time, and every ghost is ended")
{
    constexpr int threads = 3;
    constexpr int rounds = 200;
    std::atomic<int> superseded = 0;
    std::atomic<int> others = 0;
    const std::function<void(const connection_end&)> count = [&](const connection_end& end) {
        ++(end.reason == close_reason::superseded ? superseded : others);
    };
    key_limits devices({.on_limit = key_policy::newest_wins});
    net::thread_pool pool(threads);
    net::io_context io;
    {
        acceptor server(io.get_executor(), {net::ip::address_v4::loopback(), 0},
                        {.max_connections = threads * rounds,
                         .next_executor = [&] { return net::any_io_executor(net::make_strand(pool.get_executor())); }},
                        call{&count});
        std::atomic<int> number = 0;
        server.async_serve(
            [&](connection peer) -> net::awaitable<void> {
                const int n = number++;
                return [](connection p, key_limits& keys, int key) -> net::awaitable<void> {
                    const auto permit = keys.acquire("device " + std::to_string(key), p);
                    holdfast::frame_reader lines(p);
                    while (co_await lines.async_next(net::use_awaitable)) {
                    }
                }(std::move(peer), devices, n % 5);
            },
            net::detached);
        std::vector<tcp::socket> clients = tests::connect(io, server.local_endpoint(), threads * rounds);
        tests::run_until(io, [&] { return superseded + others == threads * rounds - 5; });
        CHECK(others == 0);
        CHECK(devices.keys() == 5);
        clients.clear();
        tests::run_until(io, [&] { return superseded + others == threads * rounds; });
        CHECK(others == 5);
        server.close();
    }
    pool.join();
    CHECK(devices.keys() == 0);
}
