// holdfast: WebSocket servers that send each message back, on one thread, and end a connection that is silent for 30
// seconds.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_WEBSOCKET_SERVERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_WEBSOCKET_SERVERS_HPP

#include "server_process.hpp"

#include <string>
#include <string_view>

namespace benchmarks {

/// Each serves a listening socket for ever.
///
/// holdfast: a coroutine with guard, permit, heartbeat, census, outbox and websocket_reader; holdfast_callback: the same
/// without a coroutine.
void serve_holdfast_websocket(int listener);
void serve_holdfast_websocket_callback(int listener);
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
/// The same with permessage-deflate, by a websocket_deflate.
void serve_holdfast_websocket_deflate(int listener);
void serve_holdfast_websocket_callback_deflate(int listener);
#endif
#if defined(HOLDFAST_BENCHMARKS_BEAST)
/// websocket::stream over tcp_stream with the suggested time-outs, in a coroutine.
void serve_beast_websocket(int listener);
/// The same with its permessage-deflate, as it is without further options.
void serve_beast_websocket_deflate(int listener);
#endif

#if defined(HOLDFAST_BENCHMARKS_TLS)
/// The files of a server's certificate.
struct tls_files {
    std::string chain, key;
};

/// The same over TLS; with `compact` holdfast has compact records. Beast has its ssl_stream over tcp_stream.
void serve_holdfast_websocket_tls(int listener, const tls_files& files, bool compact);
void serve_holdfast_websocket_callback_tls(int listener, const tls_files& files, bool compact);
#if defined(HOLDFAST_BENCHMARKS_BEAST)
void serve_beast_websocket_tls(int listener, const tls_files& files);
#endif
#endif

#if defined(HOLDFAST_BENCHMARKS_UWEBSOCKETS)
/// Its App and SSLApp, with one compressor for all.
void serve_uwebsockets(int listener);
void serve_uwebsockets_deflate(int listener);
#if defined(HOLDFAST_BENCHMARKS_TLS)
void serve_uwebsockets_tls(int listener, const tls_files& files);
#endif
#endif

/// A message that is sent to all, and how many of them a client has ordered by its own message.
inline const std::string published_text(200, 'm');
/// The same where messages are compressed: 200 bytes as servers send them.
inline const std::string published_json(
    R"({"symbol":"EXMPL.AA","venue":"XOFF","bid":101.25,"ask":101.5,"bid_size":1200,"ask_size":800,"last":101.375,)"
    R"("volume":1843200,"time":"2026-03-14T09:26:53.589793Z","halted":false,"sequence":271828182845})");
inline unsigned long ordered(std::string_view message) { return std::stoul(std::string(message)); }

/// The same, but a client's message is the number of messages to be sent to all clients, in one turn of the event loop.
///
/// holdfast: an outbox_group. beast: a queue for each client; a write takes all frames that are due, up to 64, which are
/// shared by all clients and bypass websocket::stream, as it has no such write. beast_single: one
/// websocket::stream::async_write for each message.
void broadcast_holdfast_websocket(int listener);
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
/// Compresses a message once for all clients.
void broadcast_holdfast_websocket_deflate(int listener);
#endif
#if defined(HOLDFAST_BENCHMARKS_BEAST)
void broadcast_beast_websocket(int listener);
void broadcast_beast_websocket_single(int listener);
/// Both compress for each client, with the parameters of holdfast (level, window, no context takeover) and Beast's smaller
/// memory of the match search. The first has one compressor for all clients, the second one in each websocket::stream.
void broadcast_beast_websocket_deflate(int listener);
void broadcast_beast_websocket_single_deflate(int listener);
#endif
#if defined(HOLDFAST_BENCHMARKS_UWEBSOCKETS)
/// By its topics.
void broadcast_uwebsockets(int listener);
void broadcast_uwebsockets_deflate(int listener);
#endif

} // namespace benchmarks

#endif
