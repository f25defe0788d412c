// holdfast: WebSocket servers that send each message back, on one thread, and end a connection that is silent for 30
// seconds.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_WEBSOCKET_SERVERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_WEBSOCKET_SERVERS_HPP

#include "server_process.hpp"

namespace benchmarks {

/// Each serves a listening socket for ever.
///
/// holdfast: a coroutine with guard, permit, heartbeat, census, outbox and websocket_reader; holdfast_callback: the same
/// without a coroutine.
void serve_holdfast_websocket(int listener);
void serve_holdfast_websocket_callback(int listener);
#if defined(HOLDFAST_BENCHMARKS_BEAST)
/// websocket::stream over tcp_stream with the suggested time-outs, in a coroutine.
void serve_beast_websocket(int listener);
#endif

} // namespace benchmarks

#endif
