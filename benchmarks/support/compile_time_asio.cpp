// holdfast: what README's server is compared with by compile_time: lines sent back, with Asio's coroutines alone.
// SPDX-License-Identifier: BSL-1.0
#include <asio.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

namespace net = asio;
using net::ip::tcp;
using namespace std::chrono_literals;

net::awaitable<void> serve(tcp::socket peer)
{
    std::string buffer;
    net::steady_timer silent{peer.get_executor()};
    for (std::uint64_t n = 1;; ++n) {
        silent.expires_after(30s);
        silent.async_wait([&peer](std::error_code ec) {
            if (!ec) peer.close(ec);
        });
        const std::size_t size =
            co_await net::async_read_until(peer, net::dynamic_buffer(buffer, 4096), '\n', net::use_awaitable);
        const std::string answer =
            "{\"line\":" + std::to_string(n) + ",\"text\":\"" + buffer.substr(0, size - 1) + "\"}\n";
        buffer.erase(0, size);
        co_await net::async_write(peer, net::buffer(answer), net::use_awaitable);
    }
}

net::awaitable<void> accept(tcp::acceptor acceptor)
{
    for (;;)
        net::co_spawn(acceptor.get_executor(), serve(co_await acceptor.async_accept(net::use_awaitable)),
                      [](std::exception_ptr error) {
                          try {
                              if (error) std::rethrow_exception(error);
                          } catch (const std::exception& e) {
                              std::clog << e.what() << '\n';
                          }
                      });
}

int main()
{
    net::io_context io;
    net::co_spawn(io, accept({io, {tcp::v4(), 7777}}), net::detached);
    io.run();
}
