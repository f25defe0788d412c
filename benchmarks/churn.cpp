// holdfast: what guard, census and limits cost a server whose connections come and go: accept, echo 64 bytes,
// close.
// SPDX-License-Identifier: BSL-1.0
#include "support/pinning.hpp"
#include "support/results.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <system_error>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Each server runs in a process of its own, on one thread, and gets the same load from this one. What counts
// is how many connections a second of the server's processor time serves: on few cores the load costs as much
// as the server.

namespace {

namespace net = holdfast::net;
using net::ip::tcp;
using message = std::array<char, 64>;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

int checked(int result, const char* what)
{
    if (result < 0) fail(what);
    return result;
}

// The servers. Each serves the listening socket for ever.

using acceptor_type = holdfast::bounded_acceptor<tcp>;

void serve_holdfast(int listener, const holdfast::acceptor_options& options)
{
    net::io_context io(1);
    acceptor_type acceptor{io.get_executor(), tcp::v4(), listener, options};
    acceptor.async_serve(
        [](acceptor_type::connection_type peer) -> net::awaitable<void> {
            message text;
            co_await net::async_read(peer.stream(), net::buffer(text), net::use_awaitable);
            co_await net::async_write(peer.stream(), net::buffer(text), net::use_awaitable);
            peer.close();
        },
        net::detached);
    io.run();
}

void serve_asio(int listener)
{
    net::io_context io(1);
    static constexpr auto session = [](tcp::socket peer) -> net::awaitable<void> {
        message text;
        co_await net::async_read(peer, net::buffer(text), net::use_awaitable);
        co_await net::async_write(peer, net::buffer(text), net::use_awaitable);
    };
    net::co_spawn(
        io,
        [&]() -> net::awaitable<void> {
            tcp::acceptor acceptor(io, tcp::v4(), listener);
            for (;;) {
                tcp::socket peer = co_await acceptor.async_accept(net::use_awaitable);
                peer.set_option(tcp::no_delay(true));
                net::co_spawn(io, session(std::move(peer)), net::detached);
            }
        },
        net::detached);
    io.run();
}

void watch(int poll, int descriptor, std::uint32_t what)
{
    ::epoll_event event{what, {.fd = descriptor}};
    checked(::epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
}

void serve_epoll(int listener)
{
    const int poll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    watch(poll, listener, EPOLLIN);
    std::array<::epoll_event, 128> events;
    for (;;) {
        const int n = ::epoll_wait(poll, events.data(), events.size(), -1);
        for (int i = 0; i < n; ++i) {
            const int ready = events[static_cast<std::size_t>(i)].data.fd;
            if (ready == listener) {
                const int peer = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (peer < 0) continue;
                const int on = 1;
                ::setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                watch(poll, peer, EPOLLIN);
            } else {
                message text; // that short a message comes and goes as a whole
                if (::recv(ready, text.data(), text.size(), 0) > 0)
                    (void)!::send(ready, text.data(), text.size(), MSG_NOSIGNAL);
                ::close(ready);
            }
        }
    }
}

// The load.

/// Connects, sends, reads to the end, and resets, so that no port stays in TIME_WAIT; `at_once` of them at a
/// time.
void load(const ::sockaddr_in& server, std::size_t connections, std::size_t at_once)
{
    const int poll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    std::size_t begun = 0;
    std::size_t ended = 0;
    const auto begin = [&] {
        const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
        const ::linger reset{1, 0};
        ::setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (::connect(client, reinterpret_cast<const ::sockaddr*>(&server), sizeof server) != 0 && errno != EINPROGRESS)
            fail("connect");
        watch(poll, client, EPOLLOUT | EPOLLONESHOT);
        ++begun;
    };
    while (begun != at_once)
        begin();
    std::array<::epoll_event, 128> events;
    while (ended != connections) {
        const int n = ::epoll_wait(poll, events.data(), events.size(), 10'000);
        if (n == 0) throw std::runtime_error("the server stopped answering");
        for (int i = 0; i < n; ++i) {
            const ::epoll_event& event = events[static_cast<std::size_t>(i)];
            const int client = event.data.fd;
            message text{};
            if ((event.events & EPOLLOUT) != 0) {
                if (::send(client, text.data(), text.size(), MSG_NOSIGNAL) != std::ssize(text)) fail("send");
                ::epoll_event next{EPOLLIN, {.fd = client}};
                checked(::epoll_ctl(poll, EPOLL_CTL_MOD, client, &next), "epoll_ctl");
                continue;
            }
            const auto got = ::recv(client, text.data(), text.size(), 0);
            if (got < 0) fail("recv");
            if (got > 0) continue; // the end comes next
            ::close(client);
            ++ended;
            if (begun != connections) begin();
        }
    }
    ::close(poll);
}

// One round of one server.

struct figures {
    double per_cpu_second;
    double per_second;
};

double seconds(::clockid_t clock)
{
    ::timespec now{};
    checked(::clock_gettime(clock, &now), "clock_gettime");
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

figures measure(const std::function<void(int)>& serve, std::size_t connections)
{
    const int listener = checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    checked(::bind(listener, reinterpret_cast<::sockaddr*>(&address), size), "bind");
    checked(::listen(listener, 1024), "listen");
    checked(::getsockname(listener, reinterpret_cast<::sockaddr*>(&address), &size), "getsockname");
    benchmarks::pin_clients();
    const ::pid_t server = checked(::fork(), "fork");
    if (server == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        benchmarks::pin_measured();
        try {
            serve(listener);
        } catch (const std::exception& error) {
            std::cerr << "churn: a server ended: " << error.what() << std::endl;
        }
        ::_exit(1);
    }
    ::close(listener);
    struct ended_server {
        ::pid_t pid;
        ~ended_server()
        {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    } const at_the_end{server};
    ::clockid_t cpu{};
    if (::clock_getcpuclockid(server, &cpu) != 0) throw std::runtime_error("no clock of the server's process");
    constexpr std::size_t at_once = 64;
    load(address, std::min(connections, std::size_t{1000}), std::min(connections, at_once)); // warms up
    const double cpu_before = seconds(cpu);
    const double before = seconds(CLOCK_MONOTONIC);
    load(address, connections, std::min(connections, at_once));
    const auto n = static_cast<double>(connections);
    return {n / (seconds(cpu) - cpu_before), n / (seconds(CLOCK_MONOTONIC) - before)};
}

struct subject {
    const char* name;
    std::function<void(int)> serve;
    std::vector<double> per_cpu_second{};
    std::vector<double> per_second{};
};

/// All limits, none of which is reached.
holdfast::acceptor_options all_limits()
{
    return {
        .max_connections = 10'000,
        .max_per_address = 10'000,
        .accepts_per_second = 1e6,
        .accept_burst = 10'000,
        .memory = {.of = holdfast::memory_limits::memory_source::process, .high_watermark = std::uint64_t{1} << 40}};
}

int run(int argc, char** argv)
{
    std::string only;
    std::uint32_t connections = 20'000;
    std::uint32_t rounds = 5;
    benchmarks::results results{"churn"};
    benchmarks::command_line cli{"churn", "Connections that come, echo 64 bytes and go, for a second of the server's "
                                          "processor time."};
    results.add_options(cli);
    cli.add("case", only, "NAME", "guarded or limited; empty: both");
    cli.add("connections", connections, "N", "connections in each round");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    if (!only.empty() && only != "guarded" && only != "limited")
        benchmarks::command_line::fail("case", "must be guarded or limited");
    if (connections == 0 || rounds == 0) throw benchmarks::usage_error("--connections and --rounds must be at least 1");
    results.open();
    for (const char* name : {"guarded", "limited"}) {
        if (!only.empty() && only != name) continue;
        const auto options = name == std::string("limited") ? all_limits() : holdfast::acceptor_options{};
        std::array<subject, 3> subjects{subject{"holdfast", [&](int listener) { serve_holdfast(listener, options); }},
                                        subject{"asio", serve_asio}, subject{"epoll", serve_epoll}};
        for (std::uint32_t round = 0; round != rounds; ++round)
            for (subject& each : subjects) {
                const figures f = measure(each.serve, connections);
                each.per_cpu_second.push_back(f.per_cpu_second);
                each.per_second.push_back(f.per_second);
            }
        for (const subject& each : subjects) {
            results.add(each.name, name, "connections_per_second", benchmarks::median(each.per_cpu_second), "1/cpu_s");
            results.add(each.name, name, "wall_connections_per_second", benchmarks::median(each.per_second), "1/s");
        }
    }
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
