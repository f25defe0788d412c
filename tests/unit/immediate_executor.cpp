// holdfast: do operations that need not wait use the handler's immediate executor (Asio 1.27 and newer), inside the
// initiating function?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/async_event.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/outbox.hpp>

#include <utility>

namespace {

namespace net = holdfast::net;

/// `start(token)` initiates an operation that need not wait.
template <class Start>
void check_operation(net::io_context& io, Start start)
{
    bool called = false;
    const auto handler = [&](const holdfast::error_code&, auto&&...) { called = true; };
    start(handler);
    CHECK(!called);
    io.restart();
    io.poll();
    CHECK(std::exchange(called, false));

    start(net::bind_immediate_executor(net::system_executor(), handler));
    CHECK(std::exchange(called, false));

    // Of the type that the executor of other handlers has.
    const net::any_io_executor inline_executor = net::require(io.get_executor(), net::execution::blocking.possibly);
    net::post(io, [&] {
        start(net::bind_immediate_executor(inline_executor, handler));
        CHECK(called);
    });
    io.restart();
    io.poll();
    CHECK(called);
}

TEST_CASE("waiting operations that need not wait use the handler's immediate executor")
{
    net::io_context io;
    holdfast::async_event set{io, {.set = true}};
    check_operation(io, [&](auto token) { set.async_wait(std::move(token)); });
    holdfast::async_semaphore free_units{io, 1};
    check_operation(io, [&](auto token) { free_units.async_acquire(std::move(token)); });
    holdfast::shared_buffer_pool pool{io};
    check_operation(io, [&](auto token) { pool.async_borrow(100, std::move(token)); });
}

TEST_CASE("reads and flushes that need not wait use the handler's immediate executor")
{
    net::io_context io;
    auto [socket, client] = tests::socket_pair(io);
    holdfast::connection_guard peer{std::move(socket)};
    net::write(client, net::buffer("1\n2\n3\n4\n", 8));
    tests::await_readable(peer.stream());
    holdfast::frame_reader lines{peer};
    check_operation(io, [&](auto token) { lines.async_next(std::move(token)); });
    holdfast::outbox outbox{peer};
    check_operation(io, [&](auto token) { outbox.async_flush(std::move(token)); });
}

/// A layer that sends its last bytes, and is shut down, at once.
class layered_socket {
public:
    using executor_type = net::ip::tcp::socket::executor_type;
    using next_layer_type = net::ip::tcp::socket;
    using lowest_layer_type = net::ip::tcp::socket::lowest_layer_type;

    explicit layered_socket(net::ip::tcp::socket socket) : socket_(std::move(socket)) {}

    executor_type get_executor() { return socket_.get_executor(); }
    next_layer_type& next_layer() { return socket_; }
    lowest_layer_type& lowest_layer() { return socket_.lowest_layer(); }

    template <class Token>
    auto async_shutdown(Token&& token)
    {
        return net::async_initiate<Token, void(holdfast::error_code)>(
            [this, executor = get_executor()](auto handler) {
                holdfast::error_code ignored;
                socket_.send(net::buffer("bye", 3), 0, ignored);
                const auto immediate = net::get_associated_immediate_executor(handler, executor);
                net::dispatch(immediate, net::append(std::move(handler), holdfast::error_code()));
            },
            token);
    }

private:
    net::ip::tcp::socket socket_;
};

TEST_CASE("async_close completes in a later turn, whatever a layer does with the handler's immediate executor")
{
    net::io_context io;
    auto [socket, client] = tests::socket_pair(io);
    holdfast::connection_guard peer{layered_socket(std::move(socket))};
    client.close(); // it answers the layer's bytes by a reset, and nothing is to be waited for then
    tests::await_readable(peer.stream().next_layer());
    int called = 0;
    net::post(io, [&] {
        const net::any_io_executor inline_executor = net::require(io.get_executor(), net::execution::blocking.possibly);
        peer.async_close({}, net::bind_immediate_executor(inline_executor, [&](holdfast::error_code) { ++called; }));
        CHECK(called == 0);
    });
    tests::run(io);
    CHECK(called == 1);
}

} // namespace
