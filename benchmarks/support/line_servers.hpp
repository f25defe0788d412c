// holdfast: servers that send each line back, on one thread, and drop who is silent for 30 seconds.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_LINE_SERVERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_LINE_SERVERS_HPP

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <exception>
#include <iostream>
#include <system_error>

namespace benchmarks {

[[noreturn]] inline void fail(const char* what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

inline int checked(int result, const char* what)
{
    if (result < 0) fail(what);
    return result;
}

/// Each serves a listening socket for ever.
///
/// holdfast: a coroutine with guard, permit, heartbeat, census and frame_reader, on a concrete executor;
/// holdfast_any: the same on any_io_executor; holdfast_callback: the same without a coroutine.
void serve_holdfast(int listener);
void serve_holdfast_any(int listener);
void serve_holdfast_callback(int listener);
/// A coroutine with `echo() || watchdog()` and a buffer of 4 KiB.
void serve_asio_coroutine(int listener);
/// Callbacks of a shared session with a buffer of 4 KiB and a timer, which looks when it expires whether
/// somebody spoke meanwhile.
void serve_asio_callback(int listener);
/// Callbacks of a shared session that waits for readability: no buffer, and no timer either.
void serve_asio_wait(int listener);
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

/// A server in a process of its own; it ends with this object.
class line_server {
public:
    template <class Serve>
    explicit line_server(const Serve& serve)
    {
        const int listener =
            checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
        ::sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address = any;
        ::socklen_t size = sizeof address;
        checked(::bind(listener, reinterpret_cast<::sockaddr*>(&address), size), "bind");
        checked(::listen(listener, 4096), "listen");
        checked(::getsockname(listener, reinterpret_cast<::sockaddr*>(&address), &size), "getsockname");
        pid = checked(::fork(), "fork");
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            try {
                serve(listener);
            } catch (const std::exception& error) {
                std::cerr << "a server ended: " << error.what() << std::endl;
            }
            ::_exit(1);
        }
        ::close(listener);
    }
    line_server(const line_server&) = delete;
    ~line_server()
    {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }

    ::pid_t pid = 0;
    ::sockaddr_in address{};
};

/// Becomes another program, which finds the listener as its descriptor 3.
template <class... Args>
void exec_server(int listener, const char* program, Args... args)
{
    if (listener != 3) checked(::dup2(listener, 3), "dup2");
    checked(::fcntl(3, F_SETFD, 0), "fcntl"); // dup2 onto itself would leave close-on-exec as it is
    ::execlp(program, program, args..., nullptr);
    fail(program);
}

} // namespace benchmarks

#endif
