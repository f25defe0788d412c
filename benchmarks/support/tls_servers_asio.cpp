// holdfast: the TLS server of the benchmarks that is plain Asio, as tutorials write it.
// SPDX-License-Identifier: BSL-1.0
#include "tls_servers.hpp"

#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/ssl.hpp>
#else
#include <asio/ssl.hpp>
#endif

#include <array>
#include <cstddef>
#include <utility>

namespace benchmarks {

namespace {

namespace net = holdfast::net;
using net::ip::tcp;
using ssl_stream = net::ssl::stream<tcp::socket>;

net::awaitable<void> snapshot_session(ssl_stream peer, const tls_service& service)
{
    co_await peer.async_handshake(net::ssl::stream_base::server, net::use_awaitable);
    std::array<char, 64> request;
    co_await peer.async_read_some(net::buffer(request), net::use_awaitable);
    co_await net::async_write(peer, net::buffer(service.snapshot), net::use_awaitable);
}

net::awaitable<void> line_session(ssl_stream peer)
{
    co_await peer.async_handshake(net::ssl::stream_base::server, net::use_awaitable);
    std::array<char, 1024> text;
    for (;;) {
        const std::size_t n = co_await peer.async_read_some(net::buffer(text), net::use_awaitable);
        co_await net::async_write(peer, net::buffer(text, n), net::use_awaitable);
    }
}

net::awaitable<void> accept(tcp::acceptor& acceptor, net::ssl::context& context, const tls_service& service)
{
    for (;;) {
        tcp::socket peer = co_await acceptor.async_accept(net::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        ssl_stream stream(std::move(peer), context);
        net::co_spawn(acceptor.get_executor(),
                      service.snapshot.empty() ? line_session(std::move(stream))
                                               : snapshot_session(std::move(stream), service),
                      net::detached);
    }
}

} // namespace

void serve_asio_ssl(int listener, const tls_service& service)
{
    net::io_context io(1);
    net::ssl::context context(net::ssl::context::tls_server);
    context.use_certificate_chain_file(service.chain_file);
    context.use_private_key_file(service.key_file, net::ssl::context::pem);
    tcp::acceptor acceptor(io, tcp::v4(), listener);
    net::co_spawn(io, accept(acceptor, context, service), net::detached);
    io.run();
}

} // namespace benchmarks
