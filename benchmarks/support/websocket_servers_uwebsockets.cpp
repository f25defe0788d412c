// holdfast: the WebSocket servers of the benchmarks that are uWebSockets'.
// SPDX-License-Identifier: BSL-1.0
#include "websocket_servers.hpp"

#include <App.h>

#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <sys/epoll.h>
#include <unistd.h>

namespace benchmarks {

namespace {

struct client {};
template <bool Tls>
using behavior = typename uWS::TemplatedApp<Tls>::template WebSocketBehavior<client>;

constexpr auto none = uWS::CompressOptions::DISABLED;
/// One compressor for all.
constexpr auto shared = static_cast<uWS::CompressOptions>(uWS::CompressOptions::SHARED_COMPRESSOR |
                                                          uWS::CompressOptions::SHARED_DECOMPRESSOR);

template <bool Tls>
behavior<Tls> options(uWS::CompressOptions compression)
{
    behavior<Tls> how;
    how.compression = compression;
    how.maxPayloadLength = 4096;
    how.idleTimeout = 32; // of the multiples of 4 the one next to the others' 30
    how.closeOnBackpressureLimit = true;
    return how;
}

/// It takes over sockets that are accepted, but no listener: so its own gets the descriptor's file.
void take_over(us_listen_socket_t* own, int listener)
{
    if (own == nullptr) throw std::runtime_error("uWebSockets does not listen");
    auto* const poll = reinterpret_cast<us_poll_t*>(own);
    auto* const loop = reinterpret_cast<us_loop_t*>(uWS::Loop::get());
    us_poll_stop(poll, loop);
    checked(::dup2(listener, us_poll_fd(poll)), "dup2");
    us_poll_start(poll, loop, EPOLLIN);
}

template <bool Tls>
void serve(uWS::TemplatedApp<Tls>&& app, int listener, behavior<Tls>&& how)
{
    app.template ws<client>("/*", std::move(how));
    app.listen("127.0.0.1", 0, [&](us_listen_socket_t* own) { take_over(own, listener); });
    app.run();
}

template <bool Tls>
void echo(uWS::TemplatedApp<Tls>&& app, int listener, uWS::CompressOptions compression)
{
    auto how = options<Tls>(compression);
    how.message = [compression](auto* peer, std::string_view message, uWS::OpCode kind) {
        peer->send(message, kind, compression != none);
    };
    serve(std::move(app), listener, std::move(how));
}

void broadcast(int listener, uWS::CompressOptions compression)
{
    constexpr std::string_view topic = "all";
    uWS::App app;
    auto how = options<false>(compression);
    how.idleTimeout = 300; // clients that only receive are silent
    how.open = [topic](auto* peer) { peer->subscribe(topic); };
    how.message = [&app, topic, compression](auto*, std::string_view message, uWS::OpCode kind) {
        const bool deflate = compression != none;
        for (auto left = ordered(message); left != 0; --left)
            app.publish(topic, deflate ? published_json : published_text, kind, deflate);
    };
    serve(std::move(app), listener, std::move(how));
}

} // namespace

void serve_uwebsockets(int listener) { echo(uWS::App(), listener, none); }
void broadcast_uwebsockets(int listener) { broadcast(listener, none); }
void serve_uwebsockets_deflate(int listener) { echo(uWS::App(), listener, shared); }
void broadcast_uwebsockets_deflate(int listener) { broadcast(listener, shared); }
#if defined(HOLDFAST_BENCHMARKS_TLS)
void serve_uwebsockets_tls(int listener, const tls_files& files)
{
    uWS::SocketContextOptions certificate;
    certificate.cert_file_name = files.chain.c_str();
    certificate.key_file_name = files.key.c_str();
    echo(uWS::SSLApp(certificate), listener, none);
}
#endif

} // namespace benchmarks
