// holdfast: the WebSocket server of the benchmarks that is Boost.Beast's.
// SPDX-License-Identifier: BSL-1.0
#include "websocket_servers.hpp"

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>

#include <exception>
#include <utility>

namespace benchmarks {

namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
using net::ip::tcp;

net::awaitable<void> session(beast::websocket::stream<beast::tcp_stream> peer)
{
    peer.set_option(beast::websocket::stream_base::timeout::suggested(beast::role_type::server));
    co_await peer.async_accept(net::use_awaitable);
    beast::flat_buffer message;
    for (;;) {
        co_await peer.async_read(message, net::use_awaitable);
        peer.text(peer.got_text());
        co_await peer.async_write(message.data(), net::use_awaitable);
        message.consume(message.size());
        message.shrink_to_fit();
    }
}

net::awaitable<void> accept(net::io_context& io, int listener)
{
    tcp::acceptor from(io, tcp::v4(), listener);
    for (;;) {
        tcp::socket peer = co_await from.async_accept(net::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        net::co_spawn(io, session(beast::websocket::stream<beast::tcp_stream>(std::move(peer))),
                      [](const std::exception_ptr&) {});
    }
}

} // namespace

void serve_beast_websocket(int listener)
{
    net::io_context io(1);
    net::co_spawn(io, accept(io, listener), net::detached);
    io.run();
}

} // namespace benchmarks
