// holdfast: tests that the kernel memory of ended connections counts within max_connections, however they end.
// SPDX-License-Identifier: BSL-1.0
#include "../examples/support/ladder_sockets.hpp"
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/process/capacity_plan.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/resource.h>

using namespace std::chrono_literals;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

constexpr std::size_t max_connections = 4;
constexpr int send_buffer_bytes = 128 * 1024;

/// What the plan says for the connections that the acceptor admits.
constexpr std::uint64_t bound =
    max_connections * holdfast::connection_cost{.send_buffer_bytes = send_buffer_bytes}.kernel_bytes();

enum class ending { async_close, close, destructor };
constexpr std::array all_endings{ending::async_close, ending::close, ending::destructor};

enum class client_kind {
    reads_nothing, // its window is full: bytes stay unsent
    vanished,      // its kernel acknowledges nothing: bytes stay sent
};

void allow_descriptors(rlim_t most)
{
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min(std::max(limit.rlim_cur, most), limit.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    REQUIRE(limit.rlim_cur >= most);
}

net::awaitable<void> session(connection peer, std::string_view text, ending how)
{
    co_await net::async_write(peer.stream(), net::buffer(text), net::use_awaitable);
    if (how == ending::async_close) {
        holdfast::error_code ignored; // close_incomplete: the client does not read
        co_await peer.async_close({.deadline = 1ms}, net::redirect_error(net::use_awaitable, ignored));
    } else if (how == ending::close) {
        peer.close();
    }
}

/// Connects `count` clients one after the other, each of which stays open, and ends their connections in these ways in
/// turn; returns the most kernel memory that the server's sockets, in any state, had. Several acceptors have a semaphore
/// in common, and the default of `max_connections`.
std::uint64_t most_kernel_memory(std::size_t count, client_kind kind, std::size_t bytes, std::span<const ending> ways,
                                 std::size_t acceptors = 1)
{
    allow_descriptors(count + 200);
    const std::string text(bytes, 'x');
    net::io_context io{1};
    std::vector<tcp::socket> clients;
    holdfast::async_semaphore semaphore(io, max_connections);
    holdfast::acceptor_options options{.send_buffer_bytes = send_buffer_bytes};
    if (acceptors == 1)
        options.max_connections = max_connections;
    else
        options.connection_semaphore = &semaphore;
    std::deque<acceptor> servers;
    while (servers.size() != acceptors)
        servers.emplace_back(io, any_port, options)
            .async_serve([&, next = std::size_t{0}](
                             auto peer) mutable { return session(std::move(peer), text, ways[next++ % ways.size()]); },
                         net::detached);
    const auto ended = [&] {
        std::uint64_t sum = 0;
        for (const acceptor& each : servers)
            sum += each.census().ended();
        return sum;
    };
    std::uint64_t most = 0;
    for (std::size_t i = 0; i != count; ++i) {
        tcp::socket& client = clients.emplace_back(io, tcp::v4());
        client.set_option(net::socket_base::receive_buffer_size(4096));
        client.connect(servers[i % acceptors].local_endpoint());
        if (kind == client_kind::vanished) tests::drop_incoming(client);
        if (i % max_connections != max_connections - 1) continue; // so many at a time
        tests::run_until(io, [&] { return ended() == i + 1; });
        if ((i + 1) % (count / 50) != 0) continue; // what stays, stays for seconds
        std::uint64_t now = 0;
        for (const acceptor& each : servers) {
            const auto buffers = ladder::read_port_buffers(each.local_endpoint().port());
            REQUIRE(buffers);
            now += *buffers;
        }
        most = std::max(most, now);
    }
    CHECK(ended() == count);
    for (acceptor& each : servers) {
        CHECK(each.census().live() == 0);
        each.close();
    }
    tests::run(io);
    return most;
}

} // namespace

constexpr std::size_t many = tests::sanitized ? 1'000 : 10'000;

TEST_CASE("clients that read nothing: the kernel keeps no more than max_connections' worth, however they end")
{
    for (const ending& one : all_endings)
        CHECK(most_kernel_memory(200, client_kind::reads_nothing, 60'000, {&one, 1}) <= bound);
    CHECK(most_kernel_memory(many, client_kind::reads_nothing, 60'000, all_endings) <= bound);
}

TEST_CASE("clients that acknowledge nothing: the kernel keeps no more than max_connections' worth, however they end")
{
    for (const ending& one : all_endings)
        CHECK(most_kernel_memory(200, client_kind::vanished, 20'000, {&one, 1}) <= bound);
    CHECK(most_kernel_memory(many, client_kind::vanished, 20'000, all_endings) <= bound);
}

TEST_CASE("acceptors that share a semaphore: the kernel keeps no more than that semaphore's worth, for all together")
{
    CHECK(most_kernel_memory(400, client_kind::vanished, 20'000, all_endings, 3) <= bound);
    CHECK(most_kernel_memory(400, client_kind::reads_nothing, 60'000, all_endings, 3) <= bound);
}
