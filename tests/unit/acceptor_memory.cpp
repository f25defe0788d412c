// holdfast: what becomes of an acceptor when memory runs out, at any allocation?
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/detail/acceptor/stored_endpoint.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include <sys/socket.h>

namespace net = holdfast::net;
using holdfast::error_code;
using net::ip::tcp;
using acceptor_type = holdfast::bounded_acceptor<tcp>;
using connection = acceptor_type::connection_type;

namespace {

/// How a server takes its connections, and greets them.
using way = std::function<void(acceptor_type&, int& served)>;

// No coroutines: where the awaitable of Asio 1.22 finds no memory it ends the program.
void greet(connection peer, int& served)
{
    const auto kept = std::make_shared<connection>(std::move(peer));
    net::async_write(kept->stream(), net::buffer("!", 1), [kept, &served](error_code, std::size_t) {
        kept->close();
        ++served;
    });
}

void in_a_loop(acceptor_type& acceptor, int& served)
{
    acceptor.async_serve([&served](connection peer) { greet(std::move(peer), served); }, net::detached);
}

void one_by_one(acceptor_type& acceptor, int& served)
{
    acceptor.async_accept([&](error_code ec, connection peer) {
        if (ec == holdfast::errc::acceptor_closed) return;
        try {
            if (!ec) greet(std::move(peer), served);
        } catch (const std::bad_alloc&) { // its connection is closed
        }
        try {
            one_by_one(acceptor, served);
        } catch (const std::bad_alloc&) { // to begin: as the documentation says
            one_by_one(acceptor, served);
        }
    });
}

/// What an endpoint is after it was stored, and how many allocations that takes.
struct stored {
    tcp::endpoint endpoint;
    std::size_t allocations;
};
stored store(const tcp::endpoint& endpoint)
{
    stored result{};
    result.allocations = tests::allocations_in([&] {
        holdfast::detail::stored_endpoint first(endpoint);
        const holdfast::detail::stored_endpoint second(std::move(first));
        result.endpoint = second.get();
    });
    return result;
}

struct outcome {
    bool failed = false; // an allocation did
    bool left_run = false;
    bool served_next = false;
    std::size_t live = 0;
};

/// Serves one client, then one during which the n-th allocation fails, then one more.
outcome fail_allocation(const way& serve, std::size_t limit, long n)
{
    outcome seen;
    int served = 0;
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}, {.max_connections = limit}};
    serve(acceptor, served);
    tcp::socket first(io);
    first.connect(acceptor.local_endpoint());
    tests::run_until(io, [&] { return served == 1 && acceptor.census().live() == 0; });

    tcp::socket second(io, tcp::v4());
    const auto where = acceptor.local_endpoint();
    tests::until_failure = n;
    (void)::connect(second.native_handle(), where.data(), static_cast<::socklen_t>(where.size()));
    try {
        while (io.poll() != 0) {
        }
    } catch (const std::bad_alloc&) {
        seen.left_run = true;
    }
    seen.failed = tests::until_failure < 0;
    tests::until_failure = -1;

    const int before = served;
    tcp::socket third(io);
    third.connect(acceptor.local_endpoint());
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (served == before && std::chrono::steady_clock::now() < deadline)
        io.run_one_for(std::chrono::milliseconds(100));
    seen.served_next = served != before;
    acceptor.close();
    while (io.run_one_for(std::chrono::milliseconds(100)) != 0) {
    }
    seen.live = acceptor.census().live();
    return seen;
}

} // namespace

TEST_CASE("an endpoint is stored in one word, and allocates for IPv6 only")
{
    STATIC_REQUIRE(sizeof(holdfast::detail::stored_endpoint) == 8);
    for (const char* const v4 :
         {"0.0.0.0", "127.0.0.1", "255.255.255.255", "192.0.2.1", "::ffff:192.0.2.1", "::ffff:0.0.0.0"})
        for (const net::ip::port_type port : std::initializer_list<net::ip::port_type>{0, 1, 4711, 65535}) {
            const tcp::endpoint endpoint(net::ip::make_address(v4), port);
            const auto [found, allocations] = store(endpoint);
            CHECK(found == endpoint);
            CHECK(allocations == 0);
        }
    auto link_local = net::ip::make_address_v6("fe80::1");
    link_local.scope_id(7);
    for (const net::ip::address_v6& v6 : {net::ip::address_v6(), net::ip::address_v6::loopback(), link_local,
                                          net::ip::make_address_v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")}) {
        const tcp::endpoint endpoint(v6, 65535);
        const auto [found, allocations] = store(endpoint);
        CHECK(found == endpoint);
        CHECK(allocations == 1);
    }
}

TEST_CASE("whichever allocation fails while a new client comes in, the next one is served")
{
    if (!tests::counts_bytes) return; // no allocation can be made to fail here
    for (const std::size_t limit : {2U, 1U})
        for (const auto& [name, serve] :
             {std::pair<const char*, way>{"in a loop", in_a_loop}, {"one by one", one_by_one}}) {
            INFO(name << ", limit " << limit);
            outcome seen;
            long n = 0;
            do {
                INFO("allocation " << n);
                // In a thread of its own, which has no memory in Asio's caches yet.
                std::thread([&seen, &take = serve, limit, n] { seen = fail_allocation(take, limit, n); }).join();
                CHECK_FALSE(seen.left_run);
                CHECK(seen.served_next);
                CHECK(seen.live == 0);
                ++n;
            } while (seen.failed);
            CHECK(n > 2); // later versions of Asio allocate less
        }
}

TEST_CASE("whichever allocation fails in the constructor, an adopted descriptor is still its caller's")
{
    if (!tests::counts_bytes) return;
    const bool reserves = GENERATE(false, true);
    bool failed = true;
    for (long n = 0; failed; ++n) {
        INFO("allocation " << n << (reserves ? ", descriptors reserved" : ""));
        std::thread([&] {
            net::io_context io;
            tcp::acceptor listening(io, {net::ip::address_v4::loopback(), 0});
            const int descriptor = listening.release();
            const holdfast::acceptor_options options{.max_connections = 3, .reserve_descriptors = reserves};
            bool made = false;
            tests::until_failure = n;
            try {
                const acceptor_type acceptor{io.get_executor(), tcp::v4(), descriptor, options};
                made = true;
            } catch (const std::bad_alloc&) {
            }
            failed = tests::until_failure < 0;
            tests::until_failure = -1;
            CHECK(made == !failed);
            CHECK((::close(descriptor) == 0) == !made);
        }).join();
    }
}

TEST_CASE("whichever allocation fails while a client is rejected, or watched for the first time, nothing breaks")
{
    if (!tests::counts_bytes) return;
    bool failed = true;
    for (long n = 0; failed; ++n) {
        INFO("allocation " << n);
        std::thread([&] {
            net::io_context io;
            acceptor_type acceptor{io.get_executor(),
                                   {net::ip::address_v4::loopback(), 0},
                                   {.max_connections = 1, .on_connection_limit = holdfast::overload_policy::reject}};
            std::vector<connection> kept;
            acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
            tcp::socket first(io), second(io);
            first.connect(acceptor.local_endpoint());
            tests::run_until(io, [&] { return kept.size() == 1; });
            second.connect(acceptor.local_endpoint());
            tests::until_failure = n;
            while (io.poll() != 0) {
            }
            failed = tests::until_failure < 0;
            tests::until_failure = -1;
            bool ended = false;
            char byte = 0;
            second.async_read_some(net::buffer(&byte, 1), [&](error_code, std::size_t) { ended = true; });
            tests::run_until(io, [&] { return ended; });
            CHECK(kept.front().is_open());
            acceptor.close();
            kept.clear();
            second.close();
            tests::run(io);
        }).join();
    }
}

TEST_CASE("whichever allocation fails, a drain that has begun completes, and the sessions are notified or not")
{
    if (!tests::counts_bytes) return; // no allocation can be made to fail here
    bool failed = true;
    for (long n = 0; failed; ++n) {
        INFO("allocation " << n);
        net::io_context io;
        acceptor_type acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
        std::vector<connection> kept;
        acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
        tcp::socket client(io);
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return kept.size() == 1; });
        int completed = 0;
        bool threw = false;
        error_code ended;
        tests::until_failure = n;
        try {
            acceptor.async_drain({.deadline = std::chrono::milliseconds(5)}, [&](error_code ec, std::size_t) {
                ended = ec;
                ++completed;
            });
        } catch (const std::bad_alloc&) {
            threw = true;
        }
        if (!threw) tests::run_until(io, [&] { return completed != 0; });
        failed = tests::until_failure < 0;
        tests::until_failure = -1;
        CHECK(completed == (threw ? 0 : 1));
        CHECK((!ended || ended == net::error::no_memory));
        acceptor.close();
        kept.clear();
        tests::run(io);
        CHECK(acceptor.census().live() == 0);
    }
}
