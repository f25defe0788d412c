// holdfast: what the tests need of real sockets: connected pairs on loopback, and a bounded run of an
// io_context.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_SOCKETS_HPP
#define HOLDFAST_TESTS_SUPPORT_SOCKETS_HPP

#include <holdfast/asio.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <cerrno>
#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/socket.h>

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

/// Two connected local sockets.
inline auto local_pair(net::io_context& io)
{
    net::local::stream_protocol::socket a(io);
    net::local::stream_protocol::socket b(io);
    net::local::connect_pair(a, b);
    return std::pair(std::move(a), std::move(b));
}

/// So many clients of a server.
inline std::vector<tcp::socket> connect(net::io_context& io, const tcp::endpoint& where, std::size_t count)
{
    std::vector<tcp::socket> clients;
    for (std::size_t i = 0; i != count; ++i)
        clients.emplace_back(io).connect(where);
    return clients;
}

/// Whether the number is that of an open descriptor.
inline bool is_open_descriptor(int descriptor) { return ::fcntl(descriptor, F_GETFD) != -1; }

/// Closes with a reset.
inline void reset(tcp::socket& socket)
{
    socket.set_option(net::socket_base::linger(true, 0));
    socket.close();
}

/// From now on the socket's end has vanished from the network: its kernel neither receives nor acknowledges.
inline void drop_incoming(tcp::socket& socket)
{
    ::sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    const ::sock_fprog program{1, &drop};
    if (::setsockopt(socket.native_handle(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        throw std::runtime_error("SO_ATTACH_FILTER failed");
}

/// Waits, without the io_context, until there is something to read, or the end; throws after 30 seconds.
template <class Socket>
void await_readable(Socket& socket)
{
    ::pollfd readable{socket.native_handle(), POLLIN, 0};
    if (::poll(&readable, 1, 30'000) != 1) throw std::runtime_error("nothing came within 30 seconds");
}

/// What a peer received, and how its connection ended: `net::error::eof`, or a reset.
struct reception {
    std::string bytes;
    holdfast::error_code end;
};

/// Reads, without the io_context, all that comes until the end; throws after 30 seconds of silence.
template <class Socket>
reception read_to_end(Socket& socket)
{
    reception all;
    std::string chunk(65536, '\0');
    for (;;) {
        await_readable(socket);
        const auto n = ::recv(socket.native_handle(), chunk.data(), chunk.size(), 0);
        if (n <= 0) {
            all.end = n == 0 ? holdfast::error_code(net::error::eof)
                             : holdfast::error_code(errno, net::error::get_system_category());
            return all;
        }
        all.bytes.append(chunk, 0, static_cast<std::size_t>(n));
    }
}

/// A user's stream around a socket: it reads and writes, and has no readiness to wait for, as ssl::stream.
class layered_stream {
public:
    using executor_type = tcp::socket::executor_type;

    explicit layered_stream(tcp::socket socket) : socket_(std::move(socket)) {}

    executor_type get_executor() { return socket_.get_executor(); }
    tcp::socket& next_layer() { return socket_; }

    template <class Buffers, class Token>
    auto async_read_some(const Buffers& buffers, Token&& token)
    {
        return socket_.async_read_some(buffers, std::forward<Token>(token));
    }

    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token)
    {
        return socket_.async_write_some(buffers, std::forward<Token>(token));
    }

private:
    tcp::socket socket_;
};

/// Runs until there is no more work. A test whose work never ends fails after 30 seconds instead of hanging.
inline void run(net::io_context& io)
{
    io.run_for(std::chrono::seconds(30));
    if (!io.stopped()) throw std::runtime_error("the io_context still had work after 30 seconds");
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
    if (failure) std::rethrow_exception(failure);
    if (!ended) throw std::runtime_error("the coroutine never ended");
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
