// holdfast: tests of what a session learns of its peer: the address, as from a PROXY line, and the name.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using holdfast::address_rule;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct keep_peer {
    std::vector<std::string>* ended;
    holdfast::connection_name* name;
    void operator()(const holdfast::connection_end& end) const noexcept
    {
        ended->emplace_back(end.peer.text().view());
        *name = end.name;
    }
};

using acceptor = holdfast::bounded_acceptor<tcp, keep_peer>;

/// Behind a proxy, whose own address is exempt.
struct proxied_server {
    acceptor::connection_type& connect()
    {
        clients.emplace_back(io).connect(server.local_endpoint());
        server.async_accept([this](error_code, acceptor::connection_type peer) { peers.push_back(std::move(peer)); });
        const std::size_t expected = peers.size() + 1;
        tests::run_until(io, [&] { return peers.size() == expected; });
        return peers.back();
    }

    net::io_context io;
    std::vector<std::string> ended;
    holdfast::connection_name last_name; // of those that have ended
    std::deque<tcp::socket> clients;
    acceptor server{io,
                    {net::ip::address_v4::loopback(), 0},
                    {.max_per_address = 2,
                     .address_filter =
                         [](const net::ip::address& address) {
                             if (address.is_loopback()) return address_rule::exempt;
                             return address == net::ip::make_address("192.0.2.66") ? address_rule::refuse
                                                                                   : address_rule::limit;
                         }},
                    keep_peer{&ended, &last_name}};
    std::deque<acceptor::connection_type> peers;
};

tcp::endpoint endpoint(const char* address, unsigned short port) { return {net::ip::make_address(address), port}; }

} // namespace

TEST_CASE("a peer's address that is learnt later is that of census and connection_end, with or without a layer")
{
    proxied_server test;
    auto& peer = test.connect();
    CHECK(peer.set_peer(endpoint("192.0.2.1", 4711)));
    std::string shown;
    test.server.census().for_each([&](const auto& each) { shown = each.remote; });
    CHECK(shown == "192.0.2.1:4711");
    peer.close();
    auto& second = test.connect();
    CHECK(second.set_peer(endpoint("2001:db8::1", 4712)));
    auto layered = holdfast::upgrade<tests::layered_stream>(std::move(second));
    layered.close();
    CHECK(test.ended == std::vector<std::string>{"192.0.2.1:4711", "[2001:db8::1]:4712"});
}

TEST_CASE("connections count by the address that was learnt, and one beyond the limit is refused")
{
    proxied_server test;
    CHECK(test.connect().set_peer(endpoint("192.0.2.1", 1)));
    CHECK(test.connect().set_peer(endpoint("192.0.2.1", 2)));
    auto& third = test.connect();
    CHECK_FALSE(third.set_peer(endpoint("192.0.2.1", 3)));
    CHECK(third.is_open());
    CHECK(third.set_peer(endpoint("192.0.2.2", 3)));
    CHECK(test.server.addresses() == 2);
    CHECK(third.set_peer(endpoint("192.0.2.2", 4))); // another port: the same address
    test.peers[0].close();
    CHECK(third.set_peer(endpoint("192.0.2.1", 5))); // it has one place again
    CHECK(test.server.addresses() == 1);
    test.peers.clear();
    CHECK(test.server.addresses() == 0);
}

TEST_CASE("an address that the filter refuses changes nothing, and after the end nothing does")
{
    proxied_server test;
    auto& peer = test.connect();
    CHECK(peer.set_peer(endpoint("192.0.2.1", 1)));
    CHECK_FALSE(peer.set_peer(endpoint("192.0.2.66", 2)));
    CHECK(test.server.addresses() == 1);
    peer.close();
    CHECK(test.ended == std::vector<std::string>{"192.0.2.1:1"});
    CHECK(peer.set_peer(endpoint("192.0.2.66", 2)));
    CHECK(test.server.addresses() == 0);
}

TEST_CASE("a name is the first 63 bytes of what is given, in the census and in connection_end, below a layer too")
{
    static_assert(std::is_trivially_copyable_v<holdfast::connection_name>);
    static_assert(sizeof(holdfast::connection_name) == 64);
    const std::string longest(63, 'n');
    proxied_server test;
    const auto shown = [&] {
        std::string name;
        test.server.census().for_each([&](const auto& each) { name = each.name; });
        return name;
    };
    auto& peer = test.connect();
    CHECK(shown().empty());
    peer.set_name(longest + 'x');
    CHECK(shown() == longest);
    auto layered = holdfast::upgrade<tests::layered_stream>(std::move(peer));
    CHECK(shown() == longest);
    layered.set_name(longest);
    layered.close();
    CHECK(test.last_name.view() == longest);
    layered.set_name("too late");
    CHECK(test.last_name.view() == longest);

    auto& second = test.connect(); // may have the place of the first
    CHECK(shown().empty());
    second.set_name("short");
    second.set_name({});
    second.close();
    CHECK_FALSE(test.last_name);
}

TEST_CASE("a session that reads by itself says when it is within a message, which a drain lets finish")
{
    proxied_server test;
    auto& within = test.connect();
    auto& between = test.connect();
    const auto read = [](acceptor::connection_type& from) {
        char byte = 0;
        error_code ec;
        from.stream().non_blocking(true);
        from.stream().read_some(net::buffer(&byte, 1), ec);
        return ec;
    };
    within.within_message(true);
    between.within_message(true);
    between.within_message(false);
    bool drained = false;
    test.server.async_drain({.deadline = std::chrono::seconds(25), .finish_frames = true},
                            [&](error_code, std::size_t) { drained = true; });
    tests::run_until(test.io, [&] { return within.draining() && between.draining(); });
    CHECK(read(between) == net::error::eof);
    CHECK(read(within) == net::error::would_block);
    within.within_message(false);
    CHECK(read(within) == net::error::eof);
    test.peers.clear();
    tests::run_until(test.io, [&] { return drained; });
}
