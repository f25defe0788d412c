// holdfast: do Node's EventSource read our events and Python's websockets our frames?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/websocket_frame.hpp>
#include <holdfast/write_streamed.hpp>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <future>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

using holdfast::async_write_streamed;
using holdfast::framed;
using holdfast::ndjson;
using tests::tcp;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

using rows = std::vector<std::string>;
using guard = holdfast::connection_guard<tcp::socket>;

/// Rows of letters of every length in UTF-8; a few messages are long.
rows random_rows(std::mt19937& random)
{
    static constexpr std::array<std::string_view, 6> pieces = {"data: ", "\r\n",   "\\\"",
                                                               "\u00e9", "\u20ac", "\U0001f30a"};
    rows made(random() % 10 == 0 ? 3000 : 1 + random() % 20);
    for (std::string& row : made)
        for (auto n = random() % 20; n != 0; --n)
            row += pieces[random() % pieces.size()];
    return made;
}

std::vector<rows> random_messages(std::size_t n)
{
    const auto seed = std::random_device{}();
    UNSCOPED_INFO("seed " << seed);
    std::mt19937 random(seed);
    std::vector<rows> messages(n);
    for (rows& each : messages)
        each = random_rows(random);
    return messages;
}

std::string header(std::string_view request, std::string_view name)
{
    const std::size_t at = request.find(name);
    if (at == request.npos) return {};
    const std::size_t begin = at + name.size();
    return std::string(request.substr(begin, request.find("\r\n", begin) - begin));
}

/// Serves one connection after another until `session`, which gets a request's head, says that it was the
/// last; what `client`, started with the port, has printed by then.
template <class Session>
std::string serve(std::vector<std::string> client, const Session& session)
{
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    client.push_back(std::to_string(listener.local_endpoint().port()));
    tests::process program(std::move(client));
    std::string printed;
    auto reading = std::async(std::launch::async, [&] { return program.wait(&printed); });
    tests::run(io, [&]() -> net::awaitable<void> {
        for (bool last = false; !last;) {
            guard peer(co_await listener.async_accept(net::use_awaitable));
            std::string request;
            const std::size_t n = co_await net::async_read_until(peer.stream(), net::dynamic_buffer(request),
                                                                 "\r\n\r\n", net::use_awaitable);
            request.resize(n);
            last = co_await session(peer, request);
            co_await peer.async_close({}, net::use_awaitable);
        }
    });
    CHECK(reading.get() == 0);
    return printed;
}

std::string last_of(const std::string& printed)
{
    return printed.substr(printed.size() - std::min<std::size_t>(printed.size(), 1000));
}

net::awaitable<void> write(guard& peer, std::string text)
{
    co_await net::async_write(peer.stream(), net::buffer(text), net::use_awaitable);
}

bool is_there(const char* program)
{
    if (::access(program, X_OK) == 0) return true;
    WARN("left out: there is no " << program);
    return false;
}

constexpr const char* event_source = R"(
const EventSource = require('eventsource');
const events = new EventSource(`http://127.0.0.1:${process.argv.at(-1)}/`);
events.addEventListener('rows', event => {
    for (const row of event.data.split('\n').slice(0, -1)) console.log(event.lastEventId + ' ' + row);
});
events.addEventListener('end', () => events.close());
)";

constexpr const char* websocket = R"(
import asyncio, sys, websockets
async def main():
    async with websockets.connect(f'ws://127.0.0.1:{sys.argv[-1]}/', compression=None, max_size=None) as server:
        async for message in server:
            sys.stdout.write(message if isinstance(message, str) else 'binary ' + message.decode())
asyncio.run(main())
)";

/// What a WebSocket server answers the key of a request with (RFC 6455, 4.2.2).
std::string accepted(std::string key)
{
    key += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    std::array<unsigned char, SHA_DIGEST_LENGTH> hash{};
    ::SHA1(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
    std::array<unsigned char, 29> text{};
    ::EVP_EncodeBlock(text.data(), hash.data(), static_cast<int>(hash.size()));
    return reinterpret_cast<const char*>(text.data());
}

} // namespace

TEST_CASE("EventSource reads events with their types and ids, and comes again for those that it has not had")
{
    if (!is_there("/usr/bin/node")) return;
    if (::access("/usr/share/nodejs/eventsource", F_OK) != 0) {
        WARN("left out: Node has no eventsource (Debian: node-eventsource)");
        return;
    }
    const std::vector<rows> messages = random_messages(40);
    std::string expected;
    for (std::size_t i = 0; i != messages.size(); ++i)
        for (const std::string& row : messages[i])
            expected += std::to_string(i + 1) + " " + holdfast::serialize_to_string<holdfast::json>(row) + "\n";
    std::mt19937 random(static_cast<std::mt19937::result_type>(expected.size()));
    std::size_t next = 0;
    const auto session = [&](guard& peer, std::string_view request) -> net::awaitable<bool> {
        CHECK(header(request, "Last-Event-ID: ") == (next == 0 ? "" : std::to_string(next)));
        co_await write(peer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                             "Transfer-Encoding: chunked\r\n\r\n");
        for (bool ends = false; !ends && next != messages.size();) {
            const rows& message = messages[next];
            const std::string id = std::to_string(++next);
            const framing::sse event{.event = "rows", .id = id, .retry = std::chrono::milliseconds(1)};
            ends = next % 15 == 0; // and the client is to connect again
            co_await async_write_streamed(
                peer,
                holdfast::formatted(std::cref(message),
                                    framed{framing::http_chunked{.ends = ends}, framed{event, ndjson{}}}),
                {.chunk_bytes = 1 + random() % 5000});
        }
        if (next != messages.size()) co_return false;
        const framing::sse end{.event = "end"};
        co_await async_write_streamed(
            peer, holdfast::formatted(0, framed{framing::http_chunked{}, framed{end, holdfast::json{}}}));
        co_return true;
    };
    const std::string printed =
        serve({"/usr/bin/env", "NODE_PATH=/usr/share/nodejs", "/usr/bin/node", "-e", event_source}, session);
    INFO("the end of what the client printed: " << last_of(printed));
    CHECK((printed == expected)); // too long to be shown
}

TEST_CASE("a WebSocket client reads messages in frames, and in fragments where they are longer than a chunk")
{
    if (!is_there("/usr/bin/python3")) return;
    tests::process found({"/usr/bin/python3", "-c", "import websockets"});
    std::string why;
    if (found.wait(&why) != 0) {
        WARN("left out: Python has no websockets (Debian: python3-websockets)");
        return;
    }
    using holdfast::websocket_kind;
    const std::vector<rows> messages = random_messages(40);
    std::string expected;
    for (std::size_t i = 0; i != messages.size(); ++i)
        expected += (i % 3 == 0 ? "binary " : "") + holdfast::serialize_to_string<ndjson>(messages[i]);
    std::mt19937 random(static_cast<std::mt19937::result_type>(expected.size()));
    const auto session = [&](guard& peer, std::string_view request) -> net::awaitable<bool> {
        co_await write(peer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Accept: " +
                                 accepted(header(request, "Sec-WebSocket-Key: ")) + "\r\n\r\n");
        for (std::size_t i = 0; i != messages.size(); ++i) {
            const framing::websocket_fragments frames{i % 3 == 0 ? websocket_kind::binary : websocket_kind::text};
            co_await async_write_streamed(peer, holdfast::formatted(std::cref(messages[i]), framed{frames, ndjson{}}),
                                          {.chunk_bytes = 1 + random() % 5000});
        }
        co_await write(peer, "\x88\x02\x03\xe8"); // a closing frame: 1000, normal
        // The client's closing frame, with its mask. A client that meets the end of the stream before it has sent
        // this reports a broken connection.
        std::array<char, 8> answer{};
        co_await net::async_read(peer.stream(), net::buffer(answer), net::use_awaitable);
        CHECK(answer[0] == '\x88');
        co_return true;
    };
    const std::string printed = serve({"/usr/bin/python3", "-c", websocket}, session);
    INFO("the end of what the client printed: " << last_of(printed));
    CHECK((printed == expected)); // too long to be shown
}
