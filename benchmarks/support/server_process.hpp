// holdfast: a server of a benchmark, in a process of its own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_SERVER_PROCESS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_SERVER_PROCESS_HPP

#include "pinning.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <system_error>

namespace benchmarks {

[[noreturn]] inline void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

inline int checked(int result, const char* what)
{
    if (result < 0) fail(what);
    return result;
}

/// How many threads the server has that is measured.
enum class server_threads { one, many };

/// A server in a process of its own; it ends with this object. One of one thread has a processor to itself.
class server_process {
public:
    template <class Serve>
    explicit server_process(const Serve& serve, server_threads its_threads = server_threads::one)
    {
        const int listener = checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
        ::sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address = any;
        ::socklen_t size = sizeof address;
        checked(::bind(listener, reinterpret_cast<::sockaddr*>(&address), size), "bind");
        checked(::listen(listener, 4096), "listen");
        checked(::getsockname(listener, reinterpret_cast<::sockaddr*>(&address), &size), "getsockname");
        const bool pinned = its_threads == server_threads::one;
        if (pinned) pin_clients();
        pid = checked(::fork(), "fork");
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (pinned) pin_measured();
            try {
                serve(listener);
            } catch (const std::exception& error) {
                std::cerr << "a server ended: " << error.what() << std::endl;
            }
            ::_exit(1);
        }
        ::close(listener);
    }
    server_process(const server_process&) = delete;
    ~server_process()
    {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }

    /// Stops the server, or lets it go on: what is sent to it meanwhile is all there when it goes on.
    void stop() const
    {
        checked(::kill(pid, SIGSTOP), "kill");
        int status = 0;
        if (checked(::waitpid(pid, &status, WUNTRACED), "waitpid") != pid || !WIFSTOPPED(status))
            throw std::runtime_error("the server ended");
    }
    void go_on() const { checked(::kill(pid, SIGCONT), "kill"); }

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
