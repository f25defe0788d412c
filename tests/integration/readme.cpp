// holdfast: tests that the README's server, compiled from the very text, does what the README says.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <string>

using tests::tcp;
namespace net = holdfast::net;

TEST_CASE("the README's server answers each line, and closes after the client's end of stream")
{
    // Its port is fixed, so it gets a network of its own where the system allows that.
    tests::enter_private_network();
    tests::process server({README_SERVER});
    net::io_context io;
    tcp::socket client(io);
    tests::connect_when_ready(client, {net::ip::address_v4::loopback(), 7777}, server);
    net::write(client, net::buffer(std::string("hello\r\na \"quoted\" word\n")));
    client.shutdown(tcp::socket::shutdown_send);
    std::string answer;
    holdfast::error_code ec;
    net::read(client, net::dynamic_buffer(answer), ec);
    CHECK(ec == net::error::eof);
    CHECK(answer == "{\"line\":1,\"text\":\"hello\"}\n{\"line\":2,\"text\":\"a \\\"quoted\\\" word\"}\n");
    CHECK(server.running());
}
