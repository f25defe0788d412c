// holdfast: servers that send each line back, on one thread, and drop clients that are silent for 30 seconds.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_LINE_SERVERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_LINE_SERVERS_HPP

#include "server_process.hpp"

namespace benchmarks {

/// Each serves a listening socket for ever.
///
/// holdfast: a coroutine with guard, permit, heartbeat, census and frame_reader, on a concrete executor;
/// holdfast_any: the same on any_io_executor; holdfast_lean: the same, which writes as asio_lean does;
/// holdfast_callback: the same without a coroutine.
void serve_holdfast(int listener);
void serve_holdfast_any(int listener);
void serve_holdfast_lean(int listener);
void serve_holdfast_callback(int listener);
/// A coroutine with `echo() || watchdog()` and a buffer of 4 KiB.
void serve_asio_coroutine(int listener);
/// Callbacks of a shared session with a buffer of 4 KiB and a timer, which looks when it expires whether
/// a client spoke meanwhile.
void serve_asio_callback(int listener);
/// Callbacks of a shared session that waits for readability: no buffer, and no timer either.
void serve_asio_wait(int listener);
/// A coroutine on a concrete executor that waits for readability: one buffer for all, and no time-out.
void serve_asio_lean(int listener);
/// 32 bytes a connection, in a list ordered by the last line, which a timer looks at.
void serve_epoll(int listener);
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
void serve_libuv(int listener);
#endif
#if defined(HOLDFAST_BENCHMARKS_LIBEVENT)
void serve_libevent(int listener);
#endif
#if defined(HOLDFAST_BENCHMARKS_BEAST)
/// tcp_stream with expires_after, in a coroutine.
void serve_beast(int listener);
#endif

} // namespace benchmarks

#endif
