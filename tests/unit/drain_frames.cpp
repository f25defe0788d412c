// holdfast: tests of drains that let a frame which has begun finish.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/websocket.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/websocket.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;

/// A server that keeps what it reads, and a client.
struct draining_server {
    enum class reads { lines, fixed_sizes, messages };

    explicit draining_server(reads how = reads::lines)
    {
        server.async_serve(
            [this, how](connection peer) -> net::awaitable<void> {
                holdfast::frame_reader lines{peer};
                holdfast::outbox outbox{peer};
                holdfast::websocket_reader messages{peer, outbox};
                for (;;) {
                    std::optional<std::string_view> frame;
                    try {
                        if (how == reads::lines)
                            frame = co_await lines.async_next();
                        else if (how == reads::fixed_sizes)
                            frame = co_await lines.async_read_exactly(5);
                        else if (const auto message = co_await messages.async_next())
                            frame = message->data;
                    } catch (const holdfast::system_error& e) {
                        error = e.code();
                        throw;
                    }
                    if (!frame) break;
                    frames.emplace_back(*frame);
                }
                peer.close();
            },
            net::detached);
        client.connect(server.local_endpoint());
    }

    void send(std::string_view text) { net::write(client, net::buffer(text)); }

    /// Until the server has read `bytes` of the client's.
    void received(std::uint64_t bytes)
    {
        tests::run_until(io, [&] {
            std::uint64_t got = 0;
            server.census().for_each([&](const auto& each) { got = each.bytes_in.value_or(0); });
            return got == bytes;
        });
        for (int i = 0; i != 20; ++i) // the kernel has them: the reader takes them
            io.poll();
        io.restart();
    }

    void drain(bool finish_frames)
    {
        server.async_drain({.deadline = std::chrono::seconds(25), .finish_frames = finish_frames},
                           [this](error_code ec, std::size_t reset) {
                               drained = true;
                               CHECK_FALSE(ec);
                               CHECK(reset == 0);
                           });
        for (int i = 0; i != 20; ++i)
            io.poll();
        io.restart();
    }

    void finish()
    {
        tests::run_until(io, [&] { return drained; });
        tests::run(io);
    }

    net::io_context io;
    std::vector<std::string> frames;
    error_code error;
    bool drained = false;
    acceptor server{io, {net::ip::address_v4::loopback(), 0}};
    tcp::socket client{io};
};

} // namespace

TEST_CASE("a drain lets the frame that has begun finish, and ends the reading after it")
{
    draining_server test;
    test.send("one\ntw");
    test.received(6);
    test.drain(true);
    CHECK_FALSE(test.drained);
    test.send("o\n");
    test.finish();
    CHECK(test.frames == std::vector<std::string>{"one", "two"});
    CHECK_FALSE(test.error);
    CHECK(test.server.census().ended(close_reason::drained) == 1);
    CHECK(tests::read_to_end(test.client).end == net::error::eof);
}

TEST_CASE("the frame that has begun after it is read as well")
{
    draining_server test;
    test.send("on");
    test.received(2);
    test.drain(true);
    test.send("e\ntw");
    test.received(6);
    CHECK_FALSE(test.drained);
    test.send("o\n");
    test.finish();
    CHECK(test.frames == std::vector<std::string>{"one", "two"});
    CHECK_FALSE(test.error);
}

TEST_CASE("between two frames such a drain ends the reading at once")
{
    draining_server test;
    test.send("one\n");
    test.received(4);
    test.drain(true);
    test.finish();
    CHECK(test.frames == std::vector<std::string>{"one"});
    CHECK_FALSE(test.error);
}

TEST_CASE("by default a drain truncates the frame that has begun")
{
    draining_server test;
    test.send("one\ntw");
    test.received(6);
    test.drain(false);
    test.finish();
    CHECK(test.frames == std::vector<std::string>{"one"});
    CHECK(test.error == holdfast::errc::truncated_frame);
}

TEST_CASE("a frame that never finishes is reset at the drain's deadline")
{
    draining_server test;
    test.send("on");
    test.received(2);
    std::optional<std::size_t> reset;
    test.server.async_drain({.deadline = std::chrono::milliseconds(50), .finish_frames = true},
                            [&](error_code, std::size_t count) { reset = count; });
    tests::run_until(test.io, [&] { return reset.has_value(); });
    CHECK(*reset == 1);
    tests::run(test.io);
    CHECK(test.server.census().ended(close_reason::drain_deadline) == 1);
}

TEST_CASE("a drain lets a WebSocket message finish of which a frame has begun, or a fragment has arrived")
{
    const std::string first = tests::client_frame(0x81, "one");
    const std::string rest = tests::client_frame(0x01, "tw") + tests::client_frame(0x80, "o");
    const std::size_t fragment = tests::client_frame(0x01, "tw").size();
    for (const std::size_t begun : {std::size_t(1), fragment - 1, fragment, fragment + 1}) {
        INFO(begun);
        draining_server test(draining_server::reads::messages);
        test.send(first + rest.substr(0, begun));
        test.received(first.size() + begun);
        test.drain(true);
        CHECK_FALSE(test.drained);
        test.send(rest.substr(begun));
        test.finish();
        CHECK(test.frames == std::vector<std::string>{"one", "two"});
        CHECK_FALSE(test.error);
        CHECK(test.server.census().ended(close_reason::drained) == 1);
    }
}

TEST_CASE("a drain lets async_read_exactly finish of which bytes have arrived, and ends one that waits for the first")
{
    for (const std::size_t begun : {0U, 1U, 4U}) {
        INFO(begun);
        draining_server test(draining_server::reads::fixed_sizes);
        test.send(std::string("12345abcde").substr(0, 5 + begun));
        test.received(5 + begun);
        test.drain(true);
        if (begun != 0) {
            CHECK_FALSE(test.drained);
            test.send(std::string("abcde").substr(begun));
        }
        test.finish();
        CHECK(test.frames ==
              (begun != 0 ? std::vector<std::string>{"12345", "abcde"} : std::vector<std::string>{"12345"}));
        CHECK_FALSE(test.error);
    }
}
