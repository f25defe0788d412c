// holdfast: the line servers of the benchmarks that are plain Asio, as it is usually written.
// SPDX-License-Identifier: BSL-1.0
#include "line_servers.hpp"

#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/experimental/awaitable_operators.hpp>
#else
#include <asio/experimental/awaitable_operators.hpp>
#endif

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <utility>

namespace benchmarks {

namespace {

namespace net = holdfast::net;
using holdfast::error_code;
using net::ip::tcp;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

using lean_executor = net::io_context::executor_type;

/// Accepts for ever.
template <class Start>
net::awaitable<void> accept(net::io_context& io, int listener, Start start)
{
    tcp::acceptor from(io, tcp::v4(), listener);
    for (;;) {
        tcp::socket peer = co_await from.async_accept(net::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        start(std::move(peer));
    }
}

template <class Start>
void run(int listener, Start start)
{
    net::io_context io(1);
    net::co_spawn(io, accept(io, listener, [&](tcp::socket peer) { start(io, std::move(peer)); }), net::detached);
    io.run();
}

net::awaitable<void> echo(tcp::socket& peer, steady_clock::time_point& deadline)
{
    std::array<char, 4096> text;
    for (;;) {
        const std::size_t n = co_await peer.async_read_some(net::buffer(text), net::use_awaitable);
        deadline = steady_clock::now() + 30s;
        co_await net::async_write(peer, net::buffer(text, n), net::use_awaitable);
    }
}

net::awaitable<void> watchdog(steady_clock::time_point& deadline)
{
    net::steady_timer timer(co_await net::this_coro::executor);
    while (steady_clock::now() < deadline) {
        timer.expires_at(deadline);
        co_await timer.async_wait(net::use_awaitable);
    }
}

net::awaitable<void> coroutine_session(tcp::socket peer)
{
    using namespace net::experimental::awaitable_operators;
    auto deadline = steady_clock::now() + 30s;
    co_await (echo(peer, deadline) || watchdog(deadline));
}

class callback_session : public std::enable_shared_from_this<callback_session> {
public:
    explicit callback_session(tcp::socket peer) : peer_(std::move(peer)), timer_(peer_.get_executor()) {}

    void start()
    {
        read();
        watch();
    }

private:
    void read()
    {
        deadline_ = steady_clock::now() + 30s;
        peer_.async_read_some(net::buffer(text_), [self = shared_from_this()](error_code ec, std::size_t n) {
            if (ec) return self->timer_.cancel(), void();
            self->write(n);
        });
    }

    void write(std::size_t n)
    {
        net::async_write(peer_, net::buffer(text_, n), [self = shared_from_this()](error_code ec, std::size_t) {
            if (ec) return self->timer_.cancel(), void();
            self->read();
        });
    }

    void watch()
    {
        timer_.expires_at(deadline_);
        timer_.async_wait([self = shared_from_this()](error_code ec) {
            if (ec) return;
            if (steady_clock::now() < self->deadline_) return self->watch();
            self->peer_.close();
        });
    }

    tcp::socket peer_;
    net::steady_timer timer_;
    steady_clock::time_point deadline_;
    std::array<char, 4096> text_;
};

class waiting_session : public std::enable_shared_from_this<waiting_session> {
public:
    explicit waiting_session(tcp::socket peer) : peer_(std::move(peer)) { peer_.non_blocking(true); }

    void wait()
    {
        peer_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code ec) {
            std::array<char, 4096> text;
            if (ec) return;
            const std::size_t n = self->peer_.read_some(net::buffer(text), ec);
            if (!ec) self->peer_.write_some(net::buffer(text, n), ec); // a short line fits into the socket
            if (!ec || ec == net::error::would_block) self->wait();
        });
    }

private:
    tcp::socket peer_;
};

/// The leanest coroutine: a concrete executor, no buffer while it waits, one for all sessions when it reads; and no
/// time-out.
net::awaitable<void, lean_executor> lean_session(net::basic_stream_socket<tcp, lean_executor> peer)
{
    static std::array<char, 4096> text; // all sessions run on one thread, and none is suspended while it is in use
    error_code ec;
    peer.non_blocking(true);
    for (;;) {
        co_await peer.async_wait(tcp::socket::wait_read, net::use_awaitable_t<lean_executor>());
        const std::size_t n = peer.read_some(net::buffer(text), ec);
        if (ec == net::error::would_block) continue;
        if (ec) co_return;
        peer.write_some(net::buffer(text, n), ec); // a short line fits into the socket
        if (ec) co_return;
    }
}

net::awaitable<void, lean_executor> accept_lean(net::io_context& io, int listener)
{
    net::basic_socket_acceptor<tcp, lean_executor> from(io, tcp::v4(), listener);
    for (;;) {
        auto peer = co_await from.async_accept(net::use_awaitable_t<lean_executor>());
        peer.set_option(tcp::no_delay(true));
        net::co_spawn(io, lean_session(std::move(peer)), net::detached);
    }
}

} // namespace

void serve_asio_lean(int listener)
{
    net::io_context io(1);
    net::co_spawn(io, accept_lean(io, listener), net::detached);
    io.run();
}

void serve_asio_coroutine(int listener)
{
    run(listener, [](net::io_context& io, tcp::socket peer) {
        net::co_spawn(io, coroutine_session(std::move(peer)), net::detached);
    });
}

void serve_asio_callback(int listener)
{
    run(listener,
        [](net::io_context&, tcp::socket peer) { std::make_shared<callback_session>(std::move(peer))->start(); });
}

void serve_asio_wait(int listener)
{
    run(listener,
        [](net::io_context&, tcp::socket peer) { std::make_shared<waiting_session>(std::move(peer))->wait(); });
}

} // namespace benchmarks
