// holdfast: tests of frame_reader over TLS: what the engine holds back is read, and a quiet connection has no
// buffer. SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/frame_reader.hpp>

#include <optional>
#include <string>
#include <string_view>

using holdfast::error_code;
namespace net = holdfast::net;

TEST_CASE(
    "over TLS all lines come, of one record and of many in one segment, and a quiet peer costs no buffer")
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
