// holdfast: do Python's websockets, Node's ws and Boost.Beast's client talk to our server: handshake, messages of every
// form, pings, closing, compression?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/websocket.hpp"

#if defined(PEERS_ZLIB)
#include <holdfast/adapters/websocket_deflate.hpp>
#endif

#include <array>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

using namespace std::string_view_literals;
using tests::tcp;
namespace net = holdfast::net;

namespace {

constexpr std::array subprotocols{"v2.chat"sv, "chat"sv};
constexpr std::array origins{"https://here.example"sv};

/// Codes with which connections were closed, with compression in front where it was negotiated.
using endings = std::vector<std::string>;

holdfast::websocket_compression* compression()
{
#if defined(PEERS_ZLIB)
    static holdfast::websocket_deflate deflate{{.threshold = 1}};
    return &deflate;
#else
    return nullptr;
#endif
}

net::awaitable<void> session(tcp::socket socket, endings& codes)
{
    holdfast::connection_guard<tcp::socket> peer(std::move(socket));
    tests::websocket_session result;
    co_await tests::accept_and_echo(peer,
                                    {.subprotocols = subprotocols, .origins = origins, .compression = compression()},
                                    {.max_message_bytes = 1 << 20}, result);
    if (result.status != 101) co_return;
    CHECK((!result.error || result.error == holdfast::websocket_errc::message_too_long));
    codes.push_back((result.compressed ? "deflate " : "") + std::to_string(result.close_code));
}

net::awaitable<void> accept_all(tcp::acceptor& listener, endings& codes)
{
    for (;;) {
        auto socket = co_await listener.async_accept(net::use_awaitable);
        net::co_spawn(listener.get_executor(), session(std::move(socket), codes), net::detached);
    }
}

/// Serves the program, started with the port, until it ends; returns the codes with which its connections were closed.
endings serve(std::vector<std::string> client, std::string& printed)
{
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    client.push_back(std::to_string(listener.local_endpoint().port()));
    tests::process program(std::move(client));
    endings codes;
    net::co_spawn(io, accept_all(listener, codes), net::detached);
    auto ended = std::async(std::launch::async, [&] {
        const int status = program.wait(&printed);
        net::post(io, [&] { listener.close(); });
        return status;
    });
    tests::run(io);
    CHECK(ended.get() == 0);
    return codes;
}

constexpr const char* python = R"(
import asyncio, sys, websockets
url = f'ws://127.0.0.1:{sys.argv[-1]}/chat'
async def main():
    async with websockets.connect(url, subprotocols=['other', 'chat', 'v2.chat'], compression=None,
                                  origin='https://here.example') as ws:
        print(ws.subprotocol)
        for size in (0, 1, 125, 126, 127, 65535, 65536, 1 << 20):
            text = '\u20ac' * (size // 3) + '*' * (size % 3)
            await ws.send(text)
            assert await ws.recv() == text
            await ws.send(bytes(size))
            assert await ws.recv() == bytes(size)
        await ws.send(['frag', 'men', '', 'ts'])
        assert await ws.recv() == 'fragments'
        for data in (b'', b'x' * 125):
            await (await ws.ping(data))
        pongs = [await ws.ping(b'%d' % i) for i in range(200)]
        await asyncio.gather(*pongs)
        await ws.pong(b'unsolicited')
        await ws.close(4001, 'bye')
        print(ws.close_code)
    async with websockets.connect(url, compression=None) as ws:
        await ws.send(bytes((1 << 20) + 1))
        try:
            await ws.recv()
        except websockets.ConnectionClosedError as e:
            print(e.code, e.reason)
    try:
        await websockets.connect(url, origin='https://elsewhere.example')
    except websockets.InvalidHandshake as e: # of which the attributes differ between versions
        print(e.response.status_code if hasattr(e, 'response') else e.status_code)
asyncio.run(main())
)";

constexpr const char* node = R"(
const WebSocket = require('ws');
const url = `ws://127.0.0.1:${process.argv.at(-1)}/chat`;
const ws = new WebSocket(url, ['chat'], {perMessageDeflate: false});
const sizes = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20];
let next = 0;
const check = (holds) => { if (!holds) { console.log('does not hold'); process.exit(1); } };
ws.on('open', () => { console.log(ws.protocol); ws.send(Buffer.alloc(sizes[0], 1)); });
ws.on('message', (data, binary) => {
    if (!binary) { check(data.toString() === 'fragments \u20ac'); ws.ping('p'); return; }
    check(data.equals(Buffer.alloc(sizes[next], 1)));
    if (++next < sizes.length) return ws.send(Buffer.alloc(sizes[next], 1));
    ws.send('fragments', {fin: false});
    ws.send(' \u20ac', {fin: true});
});
ws.on('pong', (data) => { check(data.toString() === 'p'); ws.close(3001, 'bye'); });
ws.on('close', (code) => {
    console.log(code);
    const other = new WebSocket(url, {protocolVersion: 8, perMessageDeflate: false});
    other.on('unexpected-response', (request, response) => { console.log(response.statusCode); process.exit(0); });
    other.on('open', () => process.exit(1));
});
)";

#if defined(PEERS_ZLIB)
constexpr const char* python_deflate = R"(
import asyncio, sys, random, websockets
from websockets.extensions import permessage_deflate
url = f'ws://127.0.0.1:{sys.argv[-1]}/chat'
async def talk(**parameters):
    offer = permessage_deflate.ClientPerMessageDeflateFactory(**parameters)
    async with websockets.connect(url, extensions=[offer], compression=None) as ws:
        print(*(str(e) for e in getattr(ws, 'protocol', ws).extensions)) # since version 13 the protocol's
        for size in (0, 1, 125, 126, 1000, 65535, 65536, 1 << 20):
            text = '\u20ac' * (size // 3) + '*' * (size % 3)
            await ws.send(text)
            assert await ws.recv() == text
            noise = random.randbytes(size)
            await ws.send(noise)
            assert await ws.recv() == noise
        await ws.send(['frag', 'men' * 1000, '', 'ts'])
        assert await ws.recv() == 'frag' + 'men' * 1000 + 'ts'
        await (await ws.ping(b'?'))
async def main():
    await talk(client_max_window_bits=True)
    await talk(server_no_context_takeover=True, client_no_context_takeover=True)
    await talk(server_max_window_bits=14, client_max_window_bits=10)
    async with websockets.connect(url) as ws: # its own offer
        await ws.send(bytes((1 << 20) + 1))
        try:
            await ws.recv()
        except websockets.ConnectionClosedError as e:
            print(e.code)
asyncio.run(main())
)";

constexpr const char* node_deflate = R"(
const WebSocket = require('ws');
const url = `ws://127.0.0.1:${process.argv.at(-1)}/chat`;
const offers = [{threshold: 0}, {threshold: 0, serverMaxWindowBits: 15, clientMaxWindowBits: 9},
                {threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true}];
const sizes = [0, 1, 125, 126, 127, 1000, 65535, 65536, 1 << 20];
const check = (holds) => { if (!holds) { console.log('does not hold'); process.exit(1); } };
const talk = () => {
    const ws = new WebSocket(url, ['chat'], {perMessageDeflate: offers.shift()});
    let next = 0;
    const message = () => Buffer.alloc(sizes[next], 'message ');
    ws.on('open', () => { console.log(ws.extensions); ws.send(message()); });
    ws.on('message', (data, binary) => {
        if (!binary) { check(data.toString() === 'fragments \u20ac'); return ws.close(3001); }
        check(data.equals(message()));
        if (++next < sizes.length) return ws.send(message());
        ws.send('fragments', {fin: false});
        ws.send(' \u20ac', {fin: true});
    });
    ws.on('close', (code) => { console.log(code); if (offers.length) talk(); });
};
talk();
)";
#endif

} // namespace

TEST_CASE("Python's websockets: subprotocol, messages of every form, fragments, pings, codes, a refused origin")
{
    tests::process found({"/usr/bin/python3", "-c", "import websockets"});
    if (found.wait() != 0) {
        WARN("left out: Python has no websockets (Debian: python3-websockets)");
        return;
    }
    std::string printed;
    const auto codes = serve({"/usr/bin/python3", "-c", python}, printed);
    CHECK(printed == "v2.chat\n4001\n1009 a WebSocket message is longer than max_message_bytes\n403\n");
    CHECK(codes == endings{"4001", "1006"});
}

TEST_CASE("Node's ws: subprotocol, messages of every form, fragments, a ping, a code, a refused version")
{
    if (::access("/usr/share/nodejs/ws", F_OK) != 0) {
        WARN("left out: Node has no ws (Debian: node-ws)");
        return;
    }
    std::string printed;
    const auto codes = serve({"/usr/bin/env", "NODE_PATH=/usr/share/nodejs", "/usr/bin/node", "-e", node}, printed);
    CHECK(printed == "chat\n3001\n426\n");
    CHECK(codes == endings{"3001"});
}

TEST_CASE("Boost.Beast's client: subprotocol, messages of every form, fragments, a ping, a code")
{
#if defined(BEAST_CLIENT)
    std::string printed;
    const auto codes = serve({BEAST_CLIENT}, printed);
    CHECK(printed == "chat\n1001\n");
    CHECK(codes == endings{"1001"});
#else
    WARN("left out: there is no Boost.Beast (Debian: libboost-dev)");
#endif
}

#if defined(PEERS_ZLIB)
TEST_CASE("permessage-deflate with Python's websockets: parameters, messages of every size, fragments, the limit")
{
    tests::process found({"/usr/bin/python3", "-c", "import websockets"});
    if (found.wait() != 0) {
        WARN("left out: Python has no websockets (Debian: python3-websockets)");
        return;
    }
    std::string printed;
    const auto codes = serve({"/usr/bin/python3", "-c", python_deflate}, printed);
    const std::string agreed = "PerMessageDeflate(remote_no_context_takeover=True, local_no_context_takeover=True, ";
    CHECK(printed == agreed + "remote_max_window_bits=15, local_max_window_bits=15)\n" + agreed +
                         "remote_max_window_bits=15, local_max_window_bits=15)\n" + agreed +
                         "remote_max_window_bits=13, local_max_window_bits=10)\n1009\n");
    CHECK(codes == endings{"deflate 1000", "deflate 1000", "deflate 1000", "deflate 1006"});
}

TEST_CASE("permessage-deflate with Node's ws: parameters, messages of every size, fragments")
{
    if (::access("/usr/share/nodejs/ws", F_OK) != 0) {
        WARN("left out: Node has no ws (Debian: node-ws)");
        return;
    }
    std::string printed;
    const auto codes =
        serve({"/usr/bin/env", "NODE_PATH=/usr/share/nodejs", "/usr/bin/node", "-e", node_deflate}, printed);
    CHECK(printed == "permessage-deflate\n3001\npermessage-deflate\n3001\npermessage-deflate\n3001\n");
    CHECK(codes == endings{"deflate 3001", "deflate 3001", "deflate 3001"});
}

TEST_CASE("permessage-deflate with Boost.Beast's client: messages of every form, fragments, a ping")
{
#if defined(BEAST_CLIENT)
    std::string printed;
    const auto codes = serve({BEAST_CLIENT, "deflate"}, printed);
    CHECK(printed == "chat\n1001\n");
    CHECK(codes == endings{"deflate 1001"});
#else
    WARN("left out: there is no Boost.Beast (Debian: libboost-dev)");
#endif
}
#endif
