// holdfast: tests of ip_network: the addresses of a network, and the texts that name one.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/ip_network.hpp>

#include <stdexcept>

using holdfast::ip_network;
namespace net = holdfast::net;

TEST_CASE("a network has the addresses of its prefix, and other texts are refused")
{
    const auto in = [](const char* network, const char* address) {
        return ip_network(network).contains(net::ip::make_address(address));
    };
    CHECK(in("10.0.0.0/8", "10.255.0.1"));
    CHECK_FALSE(in("10.0.0.0/8", "11.0.0.1"));
    CHECK(in("10.0.0.0/8", "::ffff:10.1.2.3"));
    CHECK_FALSE(in("10.0.0.0/8", "2001:db8::1"));
    CHECK(in("192.0.2.1", "192.0.2.1"));
    CHECK_FALSE(in("192.0.2.1", "192.0.2.2"));
    CHECK(in("0.0.0.0/0", "192.0.2.1"));
    CHECK_FALSE(in("0.0.0.0/0", "2001:db8::1"));
    CHECK(in("::/0", "2001:db8::1"));
    CHECK_FALSE(in("::/0", "192.0.2.1"));
    CHECK(in("2001:db8::/33", "2001:db8:7fff::1"));
    CHECK_FALSE(in("2001:db8::/33", "2001:db8:8000::1"));
    CHECK(in("2001:db8::/65", "2001:db8::1"));
    CHECK_FALSE(in("2001:db8::/65", "2001:db8::8000:0:0:1"));
    for (const char* text : {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.1/8", "10.0.0",
                             "::1/129", "2001:db8::1/64", "example.org", "10.0.0.0 /8"}) {
        INFO(text);
        CHECK_THROWS_AS(ip_network(text), std::invalid_argument);
    }
}
