// holdfast: the TLS servers that the benchmarks compare, each on one thread: they echo lines, or send a snapshot.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_TLS_SERVERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_TLS_SERVERS_HPP

#include "server_process.hpp"

#include <string>
#include <string_view>

namespace benchmarks {

/// What a TLS server does.
struct tls_service {
    std::string chain_file, key_file;
    /// Sent to each client for its first line; empty: lines are echoed.
    std::string_view snapshot{};
    std::size_t max_connections = 20'000;
};

/// Each serves a listening socket without end, with TLS 1.2 or 1.3 and OpenSSL's default of two session tickets.
///
/// holdfast: a coroutine with permit, guard, heartbeat, census and frame_reader upon a tls_stream.
void serve_holdfast_tls(int listener, const tls_service& service);
/// The same with compact records.
void serve_holdfast_tls_compact(int listener, const tls_service& service);
/// A coroutine upon Asio's ssl::stream with a buffer of 1 KiB, as tutorials write it. It has no time-out.
void serve_asio_ssl(int listener, const tls_service& service);
/// The floor: OpenSSL upon the non-blocking descriptor, with released buffers, and epoll. It has no time-out.
void serve_openssl_fd(int listener, const tls_service& service);
#if defined(HOLDFAST_BENCHMARKS_LIBEVENT_TLS)
/// A bufferevent upon OpenSSL.
void serve_libevent_tls(int listener, const tls_service& service);
#endif

} // namespace benchmarks

#endif
