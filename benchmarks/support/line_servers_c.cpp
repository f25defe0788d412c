// holdfast: the line servers of the benchmarks that are written in C's way: epoll, libuv, libevent.
// SPDX-License-Identifier: BSL-1.0
#include "line_servers.hpp"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
#include <uv.h>
#endif
#if defined(HOLDFAST_BENCHMARKS_LIBEVENT)
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#endif

#include <array>
#include <cstdint>
#include <utility>

namespace benchmarks {

namespace {

std::array<char, 64 * 1024> text; // one for all: what was read is sent at once

void send_at_once(int descriptor)
{
    const int on = 1;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// A connection of the epoll server, in a list ordered by their last message.
struct epoll_peer {
    epoll_peer* next = nullptr;
    epoll_peer* previous = nullptr;
    int descriptor = -1;
    std::uint32_t second = 0;
};
static_assert(sizeof(epoll_peer) <= 32);

void unlink(epoll_peer& peer)
{
    peer.next->previous = peer.previous;
    peer.previous->next = peer.next;
}

void link(epoll_peer& list, epoll_peer& peer)
{
    peer.next = &list;
    peer.previous = std::exchange(list.previous, &peer);
    peer.previous->next = &peer;
}

void end(epoll_peer& peer)
{
    unlink(peer);
    ::close(peer.descriptor);
    delete &peer;
}

} // namespace

void serve_epoll(int listener)
{
    const int poll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    const int timer = checked(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
    const ::itimerspec each_second{{1, 0}, {1, 0}};
    ::timerfd_settime(timer, 0, &each_second, nullptr);
    const auto watch = [&](int descriptor, void* who) {
        ::epoll_event event{EPOLLIN, {.ptr = who}};
        checked(::epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
    };
    epoll_peer list, acceptor, clock;
    list.next = list.previous = &list;
    watch(listener, &acceptor);
    watch(timer, &clock);
    std::array<::epoll_event, 128> events;
    for (std::uint32_t now = 0;;) {
        const int n = ::epoll_wait(poll, events.data(), events.size(), -1);
        for (int i = 0; i < n; ++i) {
            auto* const ready = static_cast<epoll_peer*>(events[static_cast<std::size_t>(i)].data.ptr);
            if (ready == &acceptor) {
                const int descriptor = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (descriptor < 0) continue;
                send_at_once(descriptor);
                auto* const peer = new epoll_peer{.descriptor = descriptor, .second = now};
                link(list, *peer);
                watch(descriptor, peer);
            } else if (ready == &clock) {
                std::uint64_t expired = 0;
                now += ::read(timer, &expired, sizeof expired) > 0 ? static_cast<std::uint32_t>(expired) : 0;
                while (list.next != &list && now - list.next->second > 30)
                    end(*list.next);
            } else {
                const auto got = ::recv(ready->descriptor, text.data(), text.size(), 0);
                if (got <= 0) {
                    end(*ready);
                    continue;
                }
                ready->second = now;
                unlink(*ready);
                link(list, *ready);
                (void)!::send(ready->descriptor, text.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL);
            }
        }
    }
}

#if defined(HOLDFAST_BENCHMARKS_LIBUV)

namespace {

struct uv_peer {
    ::uv_tcp_t socket;
    ::uv_timer_t timer;
    int open = 2;
};

void uv_end(uv_peer* peer)
{
    if (::uv_is_closing(reinterpret_cast<::uv_handle_t*>(&peer->socket))) return;
    const auto closed = [](::uv_handle_t* handle) {
        auto* const each = static_cast<uv_peer*>(handle->data);
        if (--each->open == 0) delete each;
    };
    ::uv_close(reinterpret_cast<::uv_handle_t*>(&peer->socket), closed);
    ::uv_close(reinterpret_cast<::uv_handle_t*>(&peer->timer), closed);
}

void uv_accept_one(::uv_stream_t* server, int status)
{
    if (status < 0) return;
    auto* const peer = new uv_peer;
    ::uv_tcp_init(server->loop, &peer->socket);
    ::uv_timer_init(server->loop, &peer->timer);
    peer->socket.data = peer->timer.data = peer;
    ::uv_accept(server, reinterpret_cast<::uv_stream_t*>(&peer->socket));
    ::uv_tcp_nodelay(&peer->socket, 1);
    ::uv_timer_start(
        &peer->timer, [](::uv_timer_t* timer) { uv_end(static_cast<uv_peer*>(timer->data)); }, 30'000, 30'000);
    ::uv_read_start(
        reinterpret_cast<::uv_stream_t*>(&peer->socket),
        [](::uv_handle_t*, std::size_t, ::uv_buf_t* buffer) { *buffer = ::uv_buf_init(text.data(), text.size()); },
        [](::uv_stream_t* stream, ::ssize_t got, const ::uv_buf_t* buffer) {
            auto* const each = static_cast<uv_peer*>(stream->data);
            if (got < 0) return uv_end(each);
            ::uv_timer_again(&each->timer);
            const auto reply = ::uv_buf_init(buffer->base, static_cast<unsigned>(got));
            ::uv_try_write(stream, &reply, 1);
        });
}

} // namespace

void serve_libuv(int listener)
{
    ::uv_loop_t* const loop = ::uv_default_loop();
    ::uv_tcp_t acceptor;
    ::uv_tcp_init(loop, &acceptor);
    ::uv_tcp_open(&acceptor, listener);
    ::uv_listen(reinterpret_cast<::uv_stream_t*>(&acceptor), 4096, uv_accept_one);
    ::uv_run(loop, UV_RUN_DEFAULT);
}

#endif

#if defined(HOLDFAST_BENCHMARKS_LIBEVENT)

void serve_libevent(int listener)
{
    ::event_base* const base = ::event_base_new();
    const auto accepted = [](::evconnlistener*, int descriptor, ::sockaddr*, int, void* context) {
        send_at_once(descriptor);
        ::bufferevent* const peer =
            ::bufferevent_socket_new(static_cast<::event_base*>(context), descriptor, BEV_OPT_CLOSE_ON_FREE);
        const ::timeval silence{30, 0};
        ::bufferevent_set_timeouts(peer, &silence, nullptr);
        ::bufferevent_setcb(
            peer, [](::bufferevent* each, void*) { ::bufferevent_write_buffer(each, ::bufferevent_get_input(each)); },
            nullptr, [](::bufferevent* each, short, void*) { ::bufferevent_free(each); }, nullptr);
        ::bufferevent_enable(peer, EV_READ | EV_WRITE);
    };
    ::evconnlistener_new(base, accepted, base, LEV_OPT_CLOSE_ON_FREE, 0, listener);
    ::event_base_dispatch(base);
}

#endif

} // namespace benchmarks
