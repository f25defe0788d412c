// holdfast: tests of peer_address: what each kind of peer is shown as.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/peer_address.hpp>

#include <sstream>
#include <string>

#include <sys/socket.h>
#include <unistd.h>

using holdfast::peer_address;
using tests::tcp;
namespace net = holdfast::net;

TEST_CASE("a default peer_address is unknown")
{
    const peer_address unknown;
    CHECK_FALSE(unknown);
    CHECK_FALSE(unknown.ip().has_value());
    CHECK(unknown.port() == 0);
    CHECK(unknown.process() == 0);
    CHECK(unknown.text().view() == "unknown");
}

TEST_CASE("an IP peer has the address and the port of its endpoint, and the usual text")
{
    const auto [address, port, text] = GENERATE(table<std::string, unsigned short, std::string>({
        {"192.0.2.1", 80, "192.0.2.1:80"},
        {"255.255.255.255", 65535, "255.255.255.255:65535"},
        {"::1", 4711, "[::1]:4711"},
        {"2001:db8:1111:2222:3333:4444:5555:6666", 65535, "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"},
        {"::ffff:192.0.2.1", 1, "[::ffff:192.0.2.1]:1"},
    }));
    const peer_address peer(tcp::endpoint(net::ip::make_address(address), port));
    CHECK(peer);
    CHECK(peer.ip() == net::ip::make_address(address));
    CHECK(peer.port() == port);
    CHECK(peer.process() == 0);
    CHECK(peer.text().view() == text);
    std::ostringstream out;
    out << peer;
    CHECK(out.str() == text);
    CHECK(peer == peer_address(tcp::endpoint(net::ip::make_address(address), port)));
    CHECK_FALSE(peer ==
                peer_address(tcp::endpoint(net::ip::make_address(address), static_cast<unsigned short>(port - 1))));
}

TEST_CASE("an address that is cut short is unknown")
{
    const tcp::endpoint v6(net::ip::make_address("::1"), 80);
    const auto& address = *reinterpret_cast<const ::sockaddr*>(v6.data());
    CHECK(peer_address(address, sizeof(::sockaddr_in6)));
    CHECK_FALSE(peer_address(address, sizeof(::sockaddr_in6) - 1));
}

TEST_CASE("the peer of a socket is read from the kernel")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    CHECK(peer_address::of_socket(server.native_handle()) == peer_address(client.local_endpoint()));

    int local[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, local) == 0);
    const peer_address peer = peer_address::of_socket(local[0]);
    CHECK(peer.process() == ::getpid());
    CHECK_FALSE(peer.ip().has_value());
    CHECK(peer.text().view() == "pid " + std::to_string(::getpid()));
    ::close(local[0]);
    ::close(local[1]);
    CHECK_FALSE(peer_address::of_socket(local[0]));
}
