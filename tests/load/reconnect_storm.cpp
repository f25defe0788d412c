// holdfast: tests that a server with a rate limit recovers from clients that give up and connect again at once.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>

#include <array>
#include <chrono>
#include <cstddef>

using namespace std::chrono_literals;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;

net::awaitable<void> echo(connection peer)
{
    holdfast::frame_reader lines{peer, {.max_frame_bytes = 100}};
    while (auto line = co_await lines.async_next())
        co_await net::async_write(peer.stream(), net::buffer("ok\n", 3), net::use_awaitable);
    co_await peer.async_close();
}

/// Sends a line, and connects anew when the answer has not come in time; until it has.
net::awaitable<void> client(tcp::endpoint server, std::chrono::milliseconds timeout, std::size_t& attempts,
                            std::size_t& served)
{
    const auto executor = co_await net::this_coro::executor;
    for (;;) {
        tcp::socket socket(executor);
        net::steady_timer alarm(executor, timeout);
        ++attempts;
        error_code ec;
        co_await socket.async_connect(server, net::redirect_error(net::use_awaitable, ec));
        if (!ec) co_await net::async_write(socket, net::buffer("?\n", 2), net::redirect_error(net::use_awaitable, ec));
        alarm.async_wait([&](const error_code& stopped) {
            if (!stopped) socket.cancel();
        });
        std::array<char, 3> answer;
        if (!ec) co_await net::async_read(socket, net::buffer(answer), net::redirect_error(net::use_awaitable, ec));
        const bool in_time = alarm.cancel() != 0;
        if (!in_time) co_await net::post(executor, net::use_awaitable); // its handler refers to this frame
        if (!ec) break;
    }
    ++served;
}

} // namespace

TEST_CASE("a storm of clients that give up and reconnect, against a rate limit, is served to the last client")
{
    constexpr std::size_t clients = 250;
    net::io_context io{1};
    // The README's limits, with a fiftieth of the memory and a fifth of the rate.
    acceptor server{io,
                    {net::ip::address_v4::loopback(), 0},
                    {.max_connections = 160,
                     .max_per_address = 160,
                     .accepts_per_second = 100,
                     .accept_burst = 20,
                     .on_address_limit = holdfast::overload_policy::reject,
                     .reject_message = "too many connections from your address\n",
                     .send_buffer_bytes = 64 * 1024,
                     .receive_buffer_bytes = 4096}};
    server.async_serve([](connection peer) { return echo(std::move(peer)); }, net::detached);
    std::size_t attempts = 0;
    std::size_t served = 0;
    for (std::size_t i = 0; i != clients; ++i)
        net::co_spawn(io, client(server.local_endpoint(), 300ms, attempts, served), net::detached);
    tests::run_until(io, [&] { return served == clients; });
    CHECK(attempts > 2 * clients); // it was a storm
    tests::run_until(io, [&] { return server.census().live() == 0; });
    server.close();
    tests::run(io);
}
