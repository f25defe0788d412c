// holdfast: tests of what an outbox counts as progress: a peer that is slow stays alive, one that is hung or has
// vanished does not.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

using holdfast::close_reason;
using holdfast::error_code;
using holdfast::outbox;
using holdfast::payload;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// A server's socket whose outbox counts progress, and a client.
struct connection {
    net::io_context io;
    std::pair<tcp::socket, tcp::socket> sockets = tests::socket_pair(io);
    tcp::socket& client = sockets.second;
    std::size_t bytes = 0;

    struct counter {
        std::size_t* to;
        void operator()(std::size_t n) const noexcept { *to += n; }
    } count{&bytes};

    outbox<tcp::socket> box{sockets.first, {.high_watermark = 64u << 20, .progress = count}};

    /// Runs what is ready.
    void settle()
    {
        io.restart();
        io.poll();
    }

    /// The client reads what is there; the number of bytes.
    std::size_t read()
    {
        std::string chunk(1 << 20, '\0');
        client.non_blocking(true);
        error_code ec;
        return client.read_some(net::buffer(chunk), ec);
    }

    /// Pushes a large message, and writes until the kernel takes no more of it.
    void push_large()
    {
        REQUIRE_FALSE(box.push(payload(std::string(30'000'000, 'x'))));
        for (int i = 0; i != 1000; ++i)
            settle();
        REQUIRE(box.queued() == 1);
    }
};

struct note_reason {
    std::vector<close_reason>* to;
    void operator()(const holdfast::connection_end& end) const noexcept { to->push_back(end.reason); }
};

} // namespace

TEST_CASE("control messages are no progress, read or not")
{
    connection c;
    const bool reads = GENERATE(false, true);
    for (int i = 0; i != 200; ++i) {
        REQUIRE_FALSE(c.box.push_control(payload("ping")));
        c.settle();
        if (reads) c.read();
        c.box.tick();
    }
    CHECK(c.bytes == 0);
}

TEST_CASE("a small message is no progress: the kernels take it whether the peer reads or not")
{
    connection c;
    c.sockets.first.set_option(tcp::no_delay(true)); // the kernel sends each at once, fewer than its first window
    for (int i = 0; i != 8; ++i) {
        REQUIRE_FALSE(c.box.push(payload("message")));
        c.settle();
        c.box.tick();
    }
    CHECK(c.bytes == 0);
}

TEST_CASE("what a slow reader acknowledges of a message in flight is progress, until it stops reading")
{
    connection c;
    c.push_large();
    const std::size_t taken_by_kernels = c.bytes;
    std::size_t read = 0;
    while (read < 15'000'000) {
        const std::size_t n = c.read();
        read += n;
        c.settle();
    }
    CHECK(c.bytes > taken_by_kernels + 1'000'000);
    CHECK(c.bytes <= 30'000'000);
    // Until the kernels' buffers are full, whenever that is: no more than what the client's kernel has.
    for (int i = 0; i != 200; ++i) {
        static_cast<void>(c.box.push_control(payload("p"))); // until its reserve is used up
        c.settle();
        c.box.tick();
        CHECK(c.bytes <= read + c.client.available());
    }
}

TEST_CASE("a tick notices progress while a write is pending")
{
    connection c;
    c.push_large();
    c.box.tick();
    const std::size_t before = c.bytes;
    std::size_t read = 0;
    while (c.bytes == before) { // without the event loop: no write completes
        read += c.read();
        c.box.tick();
        if (read == 30'000'000) break;
    }
    CHECK(c.bytes > before);
}

TEST_CASE("bytes that a vanished peer does not acknowledge are no progress")
{
    connection c;
    tests::drop_incoming(c.client);
    c.push_large();
    for (int i = 0; i != 100; ++i) {
        c.settle();
        c.box.tick();
    }
    CHECK(c.bytes == 0);
}

TEST_CASE("a peer that is hung or has vanished times out, although its server writes")
{
    const bool vanished = GENERATE(false, true);
    const bool message_in_flight = GENERATE(false, true);
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    std::vector<close_reason> ends;
    holdfast::connection_guard<tcp::socket, note_reason> peer(std::move(server), {&ends});
    holdfast::heartbeat_timer<> heartbeats{
        io.get_executor(), {.tick = std::chrono::milliseconds(5), .timeout = std::chrono::milliseconds(100)}};
    auto heartbeat = heartbeats.watch(peer);
    outbox outbox{peer, {.high_watermark = 64u << 20, .progress = heartbeat}};
    if (vanished) tests::drop_incoming(client);
    if (message_in_flight) REQUIRE_FALSE(outbox.push(payload(std::string(30'000'000, 'x'))));
    const payload ping("ping"), quote("quote");
    tests::run_until(io, [&] {
        outbox.push_control(ping);
        outbox.push(quote);
        outbox.tick();
        return !ends.empty();
    });
    CHECK(ends == std::vector{close_reason::heartbeat_timeout});
    io.restart();
    io.poll();
}

TEST_CASE("on a local socket the bytes that it takes of a message in flight are progress")
{
    net::io_context io;
    auto [server, client] = tests::local_pair(io);
    std::size_t bytes = 0;
    auto count = [&](std::size_t n) noexcept { bytes += n; };
    outbox outbox{server, {.high_watermark = 64u << 20, .progress = count}};
    for (int i = 0; i != 10; ++i) {
        REQUIRE_FALSE(outbox.push(payload("message")));
        tests::run(io);
    }
    CHECK(bytes == 0);
    REQUIRE_FALSE(outbox.push(payload(std::string(10'000'000, 'x'))));
    std::string chunk(1 << 20, '\0');
    client.non_blocking(true);
    tests::run_until(io, [&] {
        error_code ec;
        client.read_some(net::buffer(chunk), ec);
        return outbox.queued() == 0;
    });
    CHECK(bytes > 5'000'000);
    CHECK(bytes < 10'000'000);
}
