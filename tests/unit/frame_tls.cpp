// holdfast: tests of frame_reader over TLS: bytes in the engine are read, an idle connection has no buffer, and each
// end of the stream has its own result.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/next_outcome.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/frame_deadline.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <optional>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
using holdfast::errc;
using holdfast::error_code;
namespace net = holdfast::net;

TEST_CASE("over TLS all lines come, of one record and of many in one segment, and a quiet peer costs no buffer")
{
    net::io_context io;
    tests::anonymous_context context;
    auto [a, b] = tests::socket_pair(io);
    tests::tls_stream server(std::move(a), context);
    tests::tls_stream client(std::move(b), context);
    int ready = 0;
    const auto count = [&](error_code ec) { ready += ec ? 0 : 1; };
    server.async_handshake(net::ssl::stream_base::server, count);
    client.async_handshake(net::ssl::stream_base::client, count);
    tests::run(io);
    REQUIRE(ready == 2);
    io.restart();

    holdfast::frame_reader lines(server);
    const auto& pool = holdfast::shared_buffer_pool::of(io.get_executor());
    int completed = 0;
    std::optional<std::string> line;
    const auto next = [&] {
        completed = 0;
        lines.async_next([&](error_code, std::optional<std::string_view> f) {
            ++completed;
            line = f ? std::optional<std::string>(*f) : std::nullopt;
        });
        io.restart();
        io.poll();
    };
    next();
    CHECK(completed == 0);
    CHECK(pool.counters().lent_bytes == 0);

    // One record, more than the first buffer holds; then a hundred of them that the engine gets together.
    std::string text;
    for (int i = 0; i != 100; ++i)
        text += std::to_string(i) + std::string(100, '.') + "\r\n";
    net::write(client, net::buffer(text));
    for (int i = 0; i != 100; ++i)
        net::write(client, net::buffer("small\n", 6));
    tests::await_readable(server.next_layer());
    for (int i = 0; i != 200; ++i) {
        tests::run_until(io, [&] { return completed == 1; });
        REQUIRE(line == (i < 100 ? std::to_string(i) + std::string(100, '.') : "small"));
        next();
    }
    CHECK(completed == 0);
    CHECK(pool.counters().lent_bytes == 0);
    client.next_layer().close();
    tests::run_until(io, [&] { return completed == 1; });
    CHECK_FALSE(line);
}

namespace {

/// A reader over TLS that waits for a frame, with its peer.
struct tls_pair {
    tls_pair()
    {
        int ready = 0;
        const auto count = [&](error_code ec) { ready += ec ? 0 : 1; };
        server.async_handshake(net::ssl::stream_base::server, count);
        client.async_handshake(net::ssl::stream_base::client, count);
        tests::run(io);
        REQUIRE(ready == 2);
        settle();
    }

    void settle()
    {
        io.restart();
        io.poll();
    }

    /// Sends, and lets the reader wait for the rest.
    void begin(std::string_view bytes)
    {
        lines.async_next(result.handler());
        if (!bytes.empty()) {
            net::write(client, net::buffer(bytes.data(), bytes.size()));
            tests::await_readable(server.next_layer());
        }
        settle();
        settle();
        CHECK(result.completed == 0);
    }

    void finish()
    {
        io.restart();
        tests::run_until(io, [&] { return result.completed == 1; });
        CHECK_FALSE(result.frame);
    }

    net::io_context io;
    tests::anonymous_context context;
    std::pair<tests::tcp::socket, tests::tcp::socket> both = tests::socket_pair(io);
    tests::tls_stream server{std::move(both.first), context};
    tests::tls_stream client{std::move(both.second), context};
    holdfast::heartbeat_timer<net::any_io_executor, holdfast::manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    holdfast::frame_deadline deadline{heartbeats, 2s};
    holdfast::frame_reader<tests::tls_stream> lines{server, {.deadline = &deadline}};
    tests::next_outcome result;
};

} // namespace

TEST_CASE("over TLS a drain between two frames is the end, and within a frame truncated_frame")
{
    tls_pair t;
    SECTION("between")
    {
        t.begin("");
        ::shutdown(t.server.next_layer().native_handle(), SHUT_RD);
        t.finish();
        CHECK_FALSE(t.result.error);
    }
    SECTION("within")
    {
        t.begin("half");
        ::shutdown(t.server.next_layer().native_handle(), SHUT_RD);
        t.finish();
        CHECK(t.result.error == errc::truncated_frame);
    }
}

TEST_CASE("over TLS a peer that leaves without close_notify is told apart from one that does, and from a failure")
{
    tls_pair t;
    SECTION("without, between two frames")
    {
        t.begin("");
        t.client.next_layer().close();
        t.finish();
        CHECK(t.result.error == net::ssl::error::stream_truncated);
    }
    SECTION("without, within a frame")
    {
        t.begin("half");
        t.client.next_layer().close();
        t.finish();
        CHECK(t.result.error == errc::truncated_frame);
    }
    SECTION("with, between two frames")
    {
        t.begin("");
        t.client.async_shutdown(net::detached);
        t.finish();
        CHECK_FALSE(t.result.error);
    }
    SECTION("a reset")
    {
        t.begin("");
        tests::reset(t.client.next_layer());
        t.finish();
        CHECK(t.result.error == net::error::connection_reset);
    }
}

TEST_CASE("over TLS a late frame is frame_timeout")
{
    tls_pair t;
    t.begin("half");
    for (int tick = 0; tick != 3; ++tick) {
        holdfast::manual_clock::advance(1s);
        for (int turn = 0; turn != 8; ++turn)
            t.settle();
    }
    t.finish();
    CHECK(t.result.error == errc::frame_timeout);
}
