// holdfast: tests of a peer's address that is learnt after the connection was admitted, as from a PROXY line.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

using holdfast::address_rule;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct keep_peer {
    std::vector<std::string>* ended;
    void operator()(const holdfast::connection_end& end) const noexcept { ended->emplace_back(end.peer.text().view()); }
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
                    keep_peer{&ended}};
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
