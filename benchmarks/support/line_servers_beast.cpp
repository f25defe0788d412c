// holdfast: the line server of the benchmarks that is Boost.Beast's.
// SPDX-License-Identifier: BSL-1.0
#include "line_servers.hpp"

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <utility>

namespace benchmarks {

namespace {

namespace net = boost::asio;
using net::ip::tcp;
using namespace std::chrono_literals;

net::awaitable<void> session(boost::beast::tcp_stream peer)
{
    std::array<char, 4096> text;
    for (;;) {
        peer.expires_after(30s);
        const std::size_t n = co_await peer.async_read_some(net::buffer(text), net::use_awaitable);
        co_await net::async_write(peer, net::buffer(text, n), net::use_awaitable);
    }
}

net::awaitable<void> accept(net::io_context& io, int listener)
{
    tcp::acceptor acceptor(io, tcp::v4(), listener);
    for (;;) {
        tcp::socket peer = co_await acceptor.async_accept(net::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        net::co_spawn(io, session(boost::beast::tcp_stream(std::move(peer))), net::detached);
    }
}

} // namespace

void serve_beast(int listener)
{
    net::io_context io(1);
    net::co_spawn(io, accept(io, listener), net::detached);
    io.run();
}

} // namespace benchmarks
