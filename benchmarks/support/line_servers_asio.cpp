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
#include <functional>
#include <memory>
#include <utility>

namespace benchmarks {

namespace {

namespace net = holdfast::net;
using holdfast::error_code;
using net::ip::tcp;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

/// Accepts for ever.
template <class Start>
net::awaitable<void> accept(net::io_context& io, int listener, Start start)
{
    tcp::acceptor doors(io, tcp::v4(), listener);
    for (;;) {
        tcp::socket peer = co_await doors.async_accept(net::use_awaitable);
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

} // namespace

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
