// holdfast: a user's program, for the packaging tests: one connection is admitted, closed and counted.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/holdfast.hpp>

int main()
{
    namespace net = holdfast::net;
    using net::ip::tcp;
    net::io_context io;
    holdfast::bounded_acceptor<tcp> acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    acceptor.async_accept([&](holdfast::error_code ec, auto peer) {
        if (!ec) peer.close();
        acceptor.close();
    });
    tcp::socket client{io};
    client.connect(acceptor.local_endpoint());
    io.run();
    return acceptor.census().ended(holdfast::close_reason::local) == 1 ? 0 : 1;
}
