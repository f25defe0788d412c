// holdfast: tests of bytes that an ended connection has sent and its peer has not acknowledged: they are delivered, and
// count within max_connections.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <array>
#include <cstddef>
#include <deque>

#include <dirent.h>

using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

void receive_again(tcp::socket& client)
{
    const int unused = 0;
    REQUIRE(::setsockopt(client.native_handle(), SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0);
}

/// A server whose connections send a line and end, and clients that hear nothing of it.
struct unheard {
    explicit unheard(const holdfast::acceptor_options& options) : server(io, any_port, options) { serve(server); }
    explicit unheard(std::size_t limit) : unheard(holdfast::acceptor_options{.max_connections = limit}) {}

    static void serve(acceptor& one)
    {
        one.async_serve(
            [](connection peer) -> net::awaitable<void> {
                co_await net::async_write(peer.stream(), net::buffer("bye\n", 4), net::use_awaitable);
            },
            net::detached);
    }

    tcp::socket& connect(acceptor& to)
    {
        tcp::socket& client = clients.emplace_back(io);
        const auto ended = to.census().ended();
        client.connect(to.local_endpoint());
        tests::drop_incoming(client);
        tests::run_until(io, [&] { return to.census().ended() == ended + 1; });
        return client;
    }
    tcp::socket& connect() { return connect(server); }

    net::io_context io;
    std::deque<tcp::socket> clients;
    acceptor server;
};

std::size_t open_descriptors()
{
    std::size_t count = 0;
    ::DIR* const all = ::opendir("/proc/self/fd");
    while (::readdir(all) != nullptr)
        ++count;
    ::closedir(all);
    return count;
}

} // namespace

TEST_CASE("what a connection has sent before its close arrives later, though the client was away")
{
    unheard test(2);
    tcp::socket& client = test.connect();
    receive_again(client);
    const auto got = tests::read_to_end(client);
    CHECK(got.bytes == "bye\n");
    CHECK(got.end == net::error::eof);
}

TEST_CASE("it arrives although the acceptor was destroyed, too")
{
    net::io_context io; // the client's
    const int descriptor = [] {
        unheard test(2);
        return test.connect().release();
    }();
    tcp::socket client(io, tcp::v4(), descriptor);
    receive_again(client);
    const auto got = tests::read_to_end(client);
    CHECK(got.bytes == "bye\n");
    CHECK(got.end == net::error::eof);
}

TEST_CASE("the next connection takes the place of the oldest, which is reset")
{
    unheard test(2);
    tcp::socket& first = test.connect();
    tcp::socket& second = test.connect();
    test.connect();
    receive_again(first);
    receive_again(second);
    first.write_some(net::buffer("?", 1)); // of the reset itself it has heard nothing
    CHECK(tests::read_to_end(first).end == net::error::connection_reset);
    CHECK(tests::read_to_end(second).bytes == "bye\n");
}

TEST_CASE("ended connections keep no more descriptors than max_connections, and give them back when acknowledged")
{
    unheard test(3);
    const std::size_t before = open_descriptors();
    for (int i = 0; i != 20; ++i)
        test.connect();
    CHECK(open_descriptors() == before + test.clients.size() + 3);
    for (tcp::socket& each : test.clients)
        receive_again(each);
    for (std::size_t i = test.clients.size() - 3; i != test.clients.size(); ++i)
        CHECK(tests::read_to_end(test.clients[i]).bytes == "bye\n");
    tcp::socket last(test.io); // a connection's begin and end are when it looks
    last.connect(test.server.local_endpoint());
    CHECK(tests::read_to_end([&]() -> tcp::socket& {
              tests::run_until(test.io, [&] { return test.server.census().ended() == 21; });
              return last;
          }())
              .bytes == "bye\n");
    CHECK(open_descriptors() <= before + test.clients.size() + 2); // `last`, and its unacknowledged end
}

TEST_CASE("where descriptors are exhausted, an ended connection's is given up for the next client")
{
    unheard test(10);
    for (int i = 0; i != 4; ++i)
        test.connect();
    tcp::socket next(test.io);
    next.connect(test.server.local_endpoint());
    const tests::descriptor_limit none_left(0);
    tests::run_until(test.io, [&] { return test.server.census().ended() == 5; });
    CHECK(tests::read_to_end(next).bytes == "bye\n");
}

TEST_CASE(
    "ended connections count within the limit of the semaphore that all acceptors share, whatever max_connections")
{
    net::io_context io; // the semaphore's: it waits nowhere by itself
    holdfast::async_semaphore four(io, 4);
    unheard first({.connection_semaphore = &four});
    acceptor second(first.io, any_port, {.connection_semaphore = &four});
    const std::array shards{net::make_strand(first.io), net::make_strand(first.io)};
    acceptor third(first.io, any_port,
                   {.connection_semaphore = &four, .next_executor = [&, turn = std::size_t{0}]() mutable {
                        const std::size_t shard = turn++ % shards.size();
                        return holdfast::connection_placement(shards[shard], shard);
                    }});
    unheard::serve(second);
    unheard::serve(third);
    const std::size_t before = open_descriptors();
    for (int i = 0; i != 5; ++i)
        for (acceptor* const each : {&first.server, &second, &third})
            first.connect(*each);
    CHECK(open_descriptors() == before + first.clients.size() + 4);
    CHECK(four.in_use() <= 3); // the acceptors': no ended connection keeps a unit

    four.set_limit(3); // from the next connection on
    first.connect(second);
    CHECK(open_descriptors() == before + first.clients.size() + 3);

    second.close(); // the others' limit covers its ended connections
    first.connect(third);
    CHECK(open_descriptors() == before - 1 + first.clients.size() + 3);
}
