// holdfast: tests of keepalive, against a peer to which nothing gets through any more.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/keepalive.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

using namespace std::chrono_literals;
using holdfast::error_code;
using holdfast::keepalive;
using tests::tcp;
namespace net = holdfast::net;

namespace {

int option(tcp::socket& socket, int level, int name)
{
    int value = -1;
    ::socklen_t size = sizeof value;
    REQUIRE(::getsockopt(socket.native_handle(), level, name, &value, &size) == 0);
    return value;
}

/// From now on the kernel drops every packet that comes for the socket: it acknowledges nothing, and knows of
/// nothing, as a host whose cable was pulled.
void become_unreachable(tcp::socket& socket)
{
    ::sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    const ::sock_fprog program{1, &drop};
    REQUIRE(::setsockopt(socket.native_handle(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
}

} // namespace

TEST_CASE("the options of keep-alive are set together, in the kernel's units")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    CHECK_FALSE(keepalive(server));
    CHECK(option(server, SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(server, IPPROTO_TCP, TCP_KEEPIDLE) == 60);
    CHECK(option(server, IPPROTO_TCP, TCP_KEEPINTVL) == 10);
    CHECK(option(server, IPPROTO_TCP, TCP_KEEPCNT) == 3);
    CHECK(option(server, IPPROTO_TCP, TCP_USER_TIMEOUT) == 90'000);

    holdfast::connection_guard guard(std::move(server));
    CHECK_FALSE(keepalive(guard.stream(), {.idle = 1001ms, .interval = 1ms, .probes = 1, .unacknowledged = 250ms}));
    CHECK(option(guard.stream(), IPPROTO_TCP, TCP_KEEPIDLE) == 2);
    CHECK(option(guard.stream(), IPPROTO_TCP, TCP_KEEPINTVL) == 1);
    CHECK(option(guard.stream(), IPPROTO_TCP, TCP_KEEPCNT) == 1);
    CHECK(option(guard.stream(), IPPROTO_TCP, TCP_USER_TIMEOUT) == 250);
}

TEST_CASE("what the kernel does not take is an error, and so is what is no open TCP socket")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    tests::layered_stream layered(std::move(client));
    CHECK_FALSE(keepalive(layered));
    CHECK(keepalive(server, {.idle = 0s}) == net::error::invalid_argument);
    CHECK(keepalive(server, {.idle = 32'768s}) == net::error::invalid_argument);
    CHECK(keepalive(server, {.interval = -1s}) == net::error::invalid_argument);
    CHECK(keepalive(server, {.probes = 0}) == net::error::invalid_argument);
    CHECK(keepalive(server, {.probes = 128}) == net::error::invalid_argument);
    CHECK(keepalive(server, {.unacknowledged = -1ms}) == net::error::invalid_argument);
    auto [local, other] = tests::local_pair(io);
    CHECK(keepalive(local) == net::error::operation_not_supported);
    server.close();
    CHECK(keepalive(server) == net::error::bad_descriptor);
}

TEST_CASE("a peer that is gone is noticed: by a write that is never acknowledged, by silence with keep-alive, by "
          "neither without it")
{
    net::io_context io;
    struct connection {
        explicit connection(std::pair<tcp::socket, tcp::socket> both)
            : server(std::move(both.first)), client(std::move(both.second))
        {
        }
        tcp::socket server, client;
        bool ended = false;
        error_code error{};
        std::array<char, 1> byte{};
    };
    std::vector<std::unique_ptr<connection>> all;
    for (int i = 0; i != 4; ++i)
        all.push_back(std::make_unique<connection>(tests::socket_pair(io)));
    connection &writes = *all[0], &silent = *all[1], &writes_without = *all[2], &silent_without = *all[3];
    CHECK_FALSE(keepalive(writes.server, {.unacknowledged = 500ms}));
    CHECK_FALSE(keepalive(silent.server, {.idle = 1s, .interval = 1s, .probes = 1}));
    for (auto& each : all) {
        become_unreachable(each->client);
        each->server.async_read_some(net::buffer(each->byte), [&each](error_code ec, std::size_t) {
            each->ended = true;
            each->error = ec;
        });
    }
    for (connection* each : {&writes, &writes_without})
        CHECK(each->server.write_some(net::buffer("?", 1)) == 1); // it goes into the socket, as if all were well
    tests::run_until(io, [&] { return writes.ended && silent.ended; });
    CHECK(writes.error == net::error::timed_out);
    CHECK(silent.error == net::error::timed_out);
    CHECK_FALSE(writes_without.ended);
    CHECK_FALSE(silent_without.ended);
    for (auto& each : all)
        each->server.close();
    tests::run(io);
}
