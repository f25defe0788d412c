// holdfast: tests of what an outbox gathers: messages wait for others for a stated time, and memory is kept from one tick
// to the next.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/outbox.hpp>
#include <holdfast/outbox_group.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

using holdfast::error_code;
using holdfast::outbox;
using holdfast::outbox_group;
using holdfast::outbox_options;
using holdfast::payload;
using tests::tcp;
namespace net = holdfast::net;
using namespace std::chrono_literals;

namespace {

using concrete_socket = net::basic_stream_socket<tcp, net::io_context::executor_type>;

/// Longer than any test takes: what is sent did not wait for it.
constexpr outbox_options long_delay{.high_watermark = 64 * 1024, .write_delay = 60s};

/// An outbox and its client.
struct connection {
    explicit connection(net::io_context& io, const outbox_options& options = long_delay)
        : sockets(tests::socket_pair(io)), server(io, tcp::v4(), sockets.first.release()), box(server, options)
    {
        server.set_option(tcp::no_delay(true));
        sockets.second.non_blocking(true);
    }

    /// What the client has got since the last call.
    std::string received()
    {
        std::array<char, 16384> chunk;
        std::string all;
        error_code ec;
        for (std::size_t n = 1; n != 0; all.append(chunk.data(), n))
            n = sockets.second.read_some(net::buffer(chunk), ec);
        return all;
    }

    /// How many segments with data the kernel has sent.
    std::uint32_t writes()
    {
        struct longer_tcp_info { // Linux's, as in libc's header it is shorter
            std::array<std::byte, 156> before;
            std::uint32_t data_segs_out;
        } info{};
        socklen_t size = sizeof info;
        REQUIRE(::getsockopt(server.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
        return info.data_segs_out;
    }

    std::pair<tcp::socket, tcp::socket> sockets;
    concrete_socket server;
    outbox<concrete_socket> box;
};

/// Runs all that is ready.
void settle(net::io_context& io)
{
    io.restart();
    io.poll();
}

/// Whether two messages wait, each pushed in a turn of its own, until `act` makes them go in one write.
void check_goes_at_once(const std::function<void(outbox<concrete_socket>&)>& act, const std::string& added,
                        const outbox_options& options = long_delay)
{
    net::io_context io;
    connection c(io, options);
    for (const char* const message : {"one ", "two "}) {
        CHECK_FALSE(c.box.push(payload(message)));
        settle(io);
    }
    CHECK(c.writes() == 0);
    CHECK(c.box.queued() == 2);
    act(c.box);
    settle(io);
    CHECK(c.received() == "one two " + added);
    CHECK(c.writes() == 1);
    CHECK(c.box.queued() == 0);
}

} // namespace

TEST_CASE("messages within the write delay go out in one write, of every outbox, by one timer, which then rests")
{
    net::io_context io;
    std::deque<connection> all;
    outbox_group group;
    std::deque<outbox_group::member> members;
    for (int i = 0; i != 20; ++i) {
        all.emplace_back(io, outbox_options{.write_delay = 20ms});
        members.emplace_back(group, all.back().box);
    }
    for (int i = 0; i != 3; ++i)
        CHECK(group.push(payload(std::to_string(i))) == 20);
    const std::size_t handlers = io.run(); // returns: nothing is pending any more
    CHECK(handlers == 21);                 // the timer's, and a write for each
    for (connection& each : all) {
        CHECK(each.received() == "012");
        CHECK(each.writes() == 1);
    }
    io.restart();
    CHECK(io.run() == 0);
    CHECK(group.push(payload("3")) == 20); // the timer begins anew
    io.restart();
    CHECK(io.run() == 21);
}

TEST_CASE("what must not wait takes with it what waits")
{
    check_goes_at_once([](auto& box) { CHECK_FALSE(box.push_control(payload("ping"))); }, "ping");
    check_goes_at_once([](auto& box) { CHECK_FALSE(box.push_final(payload("bye"))); }, "bye");
    check_goes_at_once([](auto& box) { box.async_flush([](error_code) {}); }, "");
    check_goes_at_once([](auto& box) { box.async_close([](error_code) {}); }, "");
    const std::string large(2048, 'x'); // half the high watermark: what one write takes
    check_goes_at_once([&](auto& box) { CHECK_FALSE(box.push(payload(large))); }, large,
                       {.high_watermark = 4096, .write_delay = 60s});
    check_goes_at_once(
        [](auto& box) {
            for (int i = 0; i != 62; ++i)
                CHECK_FALSE(box.push(payload(".")));
        },
        std::string(62, '.'));
}

TEST_CASE("a control message alone, and each message of an outbox without a delay, is sent after the turn")
{
    net::io_context io;
    connection delayed(io), other(io, {});
    CHECK_FALSE(delayed.box.push_control(payload("ping")));
    CHECK_FALSE(other.box.push(payload("news")));
    settle(io);
    CHECK(delayed.received() == "ping");
    CHECK(other.received() == "news");
}

TEST_CASE("an outbox that closes or is destroyed while its write waits sends nothing, the others of the timer do")
{
    net::io_context io;
    const payload message("x");
    connection stays(io, {.write_delay = 10ms});
    connection closes(io, {.write_delay = 10ms});
    auto goes = std::make_unique<connection>(io, outbox_options{.write_delay = 10ms});
    for (connection* each : {goes.get(), &closes, &stays})
        CHECK_FALSE(each->box.push(message));
    closes.box.close();
    goes.reset();
    CHECK(message.use_count() == 2);
    io.run();
    CHECK(stays.received() == "x");
    CHECK(closes.received().empty());
    CHECK(message.use_count() == 1);
}

TEST_CASE("the context may end while writes wait, whatever owns the outboxes")
{
    const payload message("x");
    {
        net::io_context io;
        connection outside(io);
        auto inside = std::make_shared<connection>(io);
        auto timer = std::make_shared<net::steady_timer>(io, 1h);
        timer->async_wait([inside, timer](error_code) {}); // destroyed with the context
        CHECK_FALSE(outside.box.push(message));
        CHECK_FALSE(inside->box.push(message));
        io.poll();
    }
    CHECK(message.use_count() == 1);
}

TEST_CASE("write delays out of range are refused")
{
    net::io_context io;
    concrete_socket socket(io);
    CHECK_THROWS_AS(outbox(socket, {.write_delay = -1ms}), std::invalid_argument);
    CHECK_THROWS_AS(outbox(socket, {.write_delay = 60'001ms}), std::invalid_argument);
    CHECK_NOTHROW(outbox(socket, {.write_delay = 60s}));
}

TEST_CASE("steady publications allocate nothing for a receiver, with a tick or without one in between")
{
    for (const auto delay : {0ms, 1ms}) {
        net::io_context io;
        outbox_group group;
        std::deque<connection> all;
        std::deque<outbox_group::member> members;
        for (int i = 0; i != 50; ++i) {
            all.emplace_back(io, outbox_options{.write_delay = delay});
            members.emplace_back(group, all.back().box);
            all.back().box.tick();
        }
        const payload message("a message");
        const auto publish = [&](int messages) {
            for (int i = 0; i != messages; ++i)
                if (group.push(message) != all.size()) throw 0;
            io.restart();
            io.run();
        };
        publish(5);
        const std::size_t bytes = tests::bytes_in_use;
        CHECK(tests::allocations_in([&] {
                  for (int i = 0; i != 100; ++i) {
                      publish(5);
                      if (i % 10 == 0)
                          for (connection& each : all)
                              each.box.tick();
                  }
              }) == 0);
        CHECK(tests::bytes_in_use == bytes);
        for (int tick = 0; tick != 2; ++tick) // without a message since the last one, all is given back
            for (connection& each : all)
                each.box.tick();
        if (tests::counts_bytes) CHECK(tests::bytes_in_use <= bytes - all.size() * 400);
        CHECK(all.front().received().size() == 101 * 5 * message.size());
    }
}

TEST_CASE("on strands of several threads every message arrives once, whatever closes meanwhile")
{
    using strand = net::strand<net::io_context::executor_type>;
    using socket_type = net::basic_stream_socket<tcp, strand>;
    struct receiver {
        receiver(net::io_context& io, net::io_context& clients)
            : sockets(tests::socket_pair(clients)),
              server(strand(io.get_executor()), tcp::v4(), sockets.first.release()),
              box(std::make_unique<outbox<socket_type>>(server, outbox_options{.write_delay = 1ms}))
        {
        }
        std::pair<tcp::socket, tcp::socket> sockets;
        socket_type server;
        std::unique_ptr<outbox<socket_type>> box;
        std::string got;
    };
    constexpr int messages = 40;
    net::io_context io, clients;
    std::deque<receiver> all;
    for (int i = 0; i != 24; ++i)
        all.emplace_back(io, clients);
    std::atomic<std::size_t> pushed{0}, controls{0};
    std::function<void(receiver&, int, bool)> step = [&](receiver& each, int left, bool goes) {
        net::post(each.server.get_executor(), [&, left, goes] {
            if (goes && left == messages / 2) return each.box.reset();
            if (!each.box->push(payload("m"))) ++pushed;
            if (left % 7 == 0 && !each.box->push_control(payload("c"))) ++controls;
            if (left != 1) step(each, left - 1, goes);
        });
    };
    for (std::size_t i = 0; i != all.size(); ++i)
        step(all[i], messages, i % 3 == 0);
    std::vector<std::thread> threads;
    for (int i = 0; i != 4; ++i)
        threads.emplace_back([&] { io.run(); });
    for (std::thread& each : threads)
        each.join();
    CHECK(pushed == 16 * messages + 8 * messages / 2);
    CHECK(controls == 16 * 5 + 8 * 3);
    for (std::size_t i = 0; i != all.size(); ++i) {
        if (i % 3 == 0) continue;
        std::string got(messages + 64, '\0');
        const std::size_t expected = messages + messages / 7;
        got.resize(net::read(all[i].sockets.second, net::buffer(got, expected)));
        CHECK(std::count(got.begin(), got.end(), 'm') == messages);
        CHECK(all[i].box->queued() == 0);
    }
}
