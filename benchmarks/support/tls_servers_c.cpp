// holdfast: the TLS servers of the benchmarks that are written in C's way: OpenSSL with epoll, libevent.
// SPDX-License-Identifier: BSL-1.0
#include "tls_servers.hpp"

#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#if defined(HOLDFAST_BENCHMARKS_LIBEVENT_TLS)
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace benchmarks {

namespace {

std::array<char, 16 * 1024> text; // one for all: what was read is sent at once

SSL_CTX* make_context(const tls_service& service)
{
    SSL_CTX* const context = ::SSL_CTX_new(::TLS_server_method());
    if (context == nullptr || ::SSL_CTX_use_certificate_chain_file(context, service.chain_file.c_str()) != 1 ||
        ::SSL_CTX_use_PrivateKey_file(context, service.key_file.c_str(), SSL_FILETYPE_PEM) != 1)
        throw std::runtime_error("OpenSSL cannot read the certificate");
    ::SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    ::SSL_CTX_set_mode(context,
                       SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    ::SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

void send_at_once(int descriptor)
{
    const int on = 1;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// A connection of the epoll server.
struct fd_peer {
    SSL* ssl;
    bool requested = false; // the snapshot
    std::size_t sent = 0;   // of it
    std::uint32_t waits_for = EPOLLIN;
};

class fd_server {
public:
    fd_server(int listener, const tls_service& service)
        : listener_(listener),
          service_(service),
          context_(make_context(service)),
          poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"))
    {
        ::epoll_event event{EPOLLIN, {.ptr = nullptr}};
        checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, listener_, &event), "epoll_ctl");
    }

    void run()
    {
        std::array<::epoll_event, 128> events;
        for (;;) {
            const int n = ::epoll_wait(poll_, events.data(), events.size(), -1);
            for (int i = 0; i < n; ++i) {
                auto* const ready = static_cast<fd_peer*>(events[static_cast<std::size_t>(i)].data.ptr);
                if (ready == nullptr)
                    accept();
                else
                    proceed(*ready);
            }
        }
    }

private:
    void accept()
    {
        const int descriptor = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0) return;
        send_at_once(descriptor);
        auto* const peer = new fd_peer{.ssl = ::SSL_new(context_)};
        ::SSL_set_fd(peer->ssl, descriptor);
        ::SSL_set_accept_state(peer->ssl);
        ::epoll_event event{EPOLLIN, {.ptr = peer}};
        checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
        proceed(*peer);
    }

    void proceed(fd_peer& peer)
    {
        switch (step(peer)) {
        case SSL_ERROR_WANT_READ:
            return wait_for(peer, EPOLLIN);
        case SSL_ERROR_WANT_WRITE:
            return wait_for(peer, EPOLLOUT);
        default:
            ::ERR_clear_error();
            return end(peer);
        }
    }

    // What each of these waits for, as SSL_get_error says.

    int step(fd_peer& peer)
    {
        if (::SSL_is_init_finished(peer.ssl) == 0) {
            const int result = ::SSL_do_handshake(peer.ssl);
            if (result != 1) return ::SSL_get_error(peer.ssl, result);
        }
        return service_.snapshot.empty() ? echo(peer) : send_snapshot(peer);
    }

    static int echo(fd_peer& peer)
    {
        do {
            const int got = ::SSL_read(peer.ssl, text.data(), text.size());
            if (got <= 0) return ::SSL_get_error(peer.ssl, got);
            const int took = ::SSL_write(peer.ssl, text.data(), got); // a short line fits into the socket
            if (took <= 0) return SSL_ERROR_SYSCALL;
        } while (::SSL_has_pending(peer.ssl) != 0);
        return SSL_ERROR_WANT_READ; // the descriptor is readable while it has a further record
    }

    int send_snapshot(fd_peer& peer)
    {
        if (!peer.requested) {
            const int got = ::SSL_read(peer.ssl, text.data(), text.size());
            if (got <= 0) return ::SSL_get_error(peer.ssl, got);
            peer.requested = true;
        }
        while (peer.sent != service_.snapshot.size()) {
            const std::size_t part = std::min<std::size_t>(service_.snapshot.size() - peer.sent, 16 * 1024);
            const int took = ::SSL_write(peer.ssl, service_.snapshot.data() + peer.sent, static_cast<int>(part));
            if (took <= 0) return ::SSL_get_error(peer.ssl, took);
            peer.sent += static_cast<std::size_t>(took);
        }
        return SSL_ERROR_ZERO_RETURN;
    }

    void wait_for(fd_peer& peer, std::uint32_t what)
    {
        if (peer.waits_for == what) return;
        peer.waits_for = what;
        ::epoll_event event{what, {.ptr = &peer}};
        checked(::epoll_ctl(poll_, EPOLL_CTL_MOD, ::SSL_get_fd(peer.ssl), &event), "epoll_ctl");
    }

    static void end(fd_peer& peer)
    {
        const int descriptor = ::SSL_get_fd(peer.ssl);
        ::SSL_free(peer.ssl);
        ::close(descriptor);
        delete &peer;
    }

    int listener_;
    const tls_service& service_;
    SSL_CTX* context_;
    int poll_;
};

} // namespace

void serve_openssl_fd(int listener, const tls_service& service) { fd_server(listener, service).run(); }

#if defined(HOLDFAST_BENCHMARKS_LIBEVENT_TLS)

void serve_libevent_tls(int listener, const tls_service& service)
{
    static SSL_CTX* const context = make_context(service);
    ::event_base* const base = ::event_base_new();
    const auto accepted = [](::evconnlistener*, int descriptor, ::sockaddr*, int, void* base_as_void) {
        send_at_once(descriptor);
        ::bufferevent* const peer =
            ::bufferevent_openssl_socket_new(static_cast<::event_base*>(base_as_void), descriptor, ::SSL_new(context),
                                             BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
        const ::timeval silence{120, 0};
        ::bufferevent_set_timeouts(peer, &silence, nullptr);
        ::bufferevent_setcb(
            peer, [](::bufferevent* each, void*) { ::bufferevent_write_buffer(each, ::bufferevent_get_input(each)); },
            nullptr,
            [](::bufferevent* each, short what, void*) {
                if ((what & BEV_EVENT_CONNECTED) == 0) ::bufferevent_free(each);
            },
            nullptr);
        ::bufferevent_enable(peer, EV_READ | EV_WRITE);
    };
    ::evconnlistener_new(base, accepted, base, LEV_OPT_CLOSE_ON_FREE, 0, listener);
    ::event_base_dispatch(base);
}

#endif

} // namespace benchmarks
