// holdfast: what the tests need of real sockets: connected pairs on loopback, and a bounded run of an io_context.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_SOCKETS_HPP
#define HOLDFAST_TESTS_SUPPORT_SOCKETS_HPP

#include <holdfast/asio.hpp>

#include <chrono>
#include <exception>
#include <stdexcept>
#include <utility>

namespace tests {

namespace net = holdfast::net;
using net::ip::tcp;

/// Two connected sockets on loopback, the port chosen by the kernel.
inline std::pair<tcp::socket, tcp::socket> socket_pair(net::io_context& a, net::io_context& b)
{
    tcp::acceptor listener(a, {net::ip::address_v4::loopback(), 0});
    tcp::socket client(b);
    client.connect(listener.local_endpoint());
    return {listener.accept(), std::move(client)};
}

inline std::pair<tcp::socket, tcp::socket> socket_pair(net::io_context& io) { return socket_pair(io, io); }

/// Runs until there is no more work. A test whose work never ends fails after 30 seconds instead of hanging.
inline void run(net::io_context& io)
{
    io.run_for(std::chrono::seconds(30));
    if (!io.stopped())
        throw std::runtime_error("the io_context still had work after 30 seconds");
    io.restart();
}

/// Runs a coroutine to its end together with all else on `io`; throws what it throws.
template <class Coroutine>
void run(net::io_context& io, Coroutine coroutine)
{
    std::exception_ptr failure;
    bool ended = false;
    net::co_spawn(io, std::move(coroutine), [&](std::exception_ptr e) {
        failure = e;
        ended = true;
    });
    run(io);
    if (failure)
        std::rethrow_exception(failure);
    if (!ended)
        throw std::runtime_error("the coroutine never ended");
}

/// Lets everything that is ready run, several times over, until `done()`; throws after 30 seconds.
template <class Done>
void run_until(net::io_context& io, Done done)
{
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!done()) {
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error("what the test waits for did not happen within 30 seconds");
        io.run_one_for(std::chrono::milliseconds(20));
        io.restart();
    }
}

} // namespace tests

#endif
