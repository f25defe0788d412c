// holdfast: the load of the broadcast benchmarks: server and clients in a process of their own each, on one thread.
// SPDX-License-Identifier: BSL-1.0
//
// What counts is the server's processor time: on few cores the clients cost as much as the server.
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_BROADCAST_LOAD_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_BROADCAST_LOAD_HPP

#include "pinning.hpp"
#include "results.hpp"
#include "sockets.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace benchmarks {

using std::chrono::steady_clock;

/// What the processes share.
struct broadcast_figures {
    double processor = 0; ///< the server's, in seconds
    double wall = 0;
    double messages = 0;     ///< delivered
    double p50_delivery = 0; ///< in seconds, of those that read
    double p99_delivery = 0;
    std::uint64_t rss_before = 0; ///< RssAnon of the server, all connected
    std::uint64_t rss_half = 0;   ///< after half of the time
    std::uint64_t rss_peak = 0;
};

struct broadcast_load {
    std::size_t message_bytes = 64; ///< the first eight are the time of its making
    std::uint32_t subscribers = 10'000;
    std::uint32_t mute = 0; ///< as many more never read
    std::uint32_t burst = 16;
    std::uint32_t bursts = 2;           ///< one after the other, and one before them that warms up and does not count
    std::chrono::milliseconds every{0}; ///< or at that pace
    std::chrono::milliseconds duration{0}; ///< for so long
};

inline double processor_seconds()
{
    ::timespec now{};
    checked(::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), "clock_gettime");
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

inline double seconds_since(steady_clock::time_point start)
{
    return std::chrono::duration<double>(steady_clock::now() - start).count();
}

inline std::string make_message(std::size_t size)
{
    std::string text(size, '.');
    const auto now = steady_clock::now().time_since_epoch().count();
    std::memcpy(text.data(), &now, sizeof now);
    text.back() = '\n';
    return text;
}

/// Reads all that comes, notes how old each message is, and notifies the server of each burst that is complete.
inline void read_all(const ::sockaddr_in& server, const broadcast_load& what, int told, broadcast_figures& result)
{
    const int poll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct reader {
        int socket;
        std::uint64_t got = 0;
    };
    std::deque<reader> readers;
    for (std::uint32_t i = 0; i != what.subscribers + what.mute; ++i) {
        const bool reads = i < what.subscribers;
        const int socket = connect_client(server, i, reads ? 0 : 2048);
        if (!reads) continue;
        ::epoll_event event{EPOLLIN, {.ptr = &readers.emplace_back(reader{socket})}};
        checked(::epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event), "epoll_ctl");
    }
    std::vector<float> ages;
    std::uint64_t messages = 0;
    const std::uint64_t burst_bytes = std::uint64_t{what.subscribers} * what.burst * what.message_bytes;
    const std::uint64_t warm_up = what.every.count() == 0 ? burst_bytes : 0;
    std::uint64_t next = burst_bytes;
    std::uint64_t got = 0;
    std::array<char, 65536> chunk;
    std::array<::epoll_event, 512> events;
    for (std::size_t open = readers.size(); open != 0;) {
        const int n = ::epoll_wait(poll, events.data(), events.size(), -1);
        for (int i = 0; i < n; ++i) {
            reader& each = *static_cast<reader*>(events[static_cast<std::size_t>(i)].data.ptr);
            const ::ssize_t size = ::recv(each.socket, chunk.data(), chunk.size(), 0);
            if (size <= 0) {
                ::close(each.socket);
                --open;
                continue;
            }
            const auto now = steady_clock::now();
            const auto bytes = static_cast<std::size_t>(size);
            for (std::size_t at =
                     got < warm_up ? bytes : (what.message_bytes - each.got % what.message_bytes) % what.message_bytes;
                 at + sizeof(std::int64_t) <= bytes; at += what.message_bytes) {
                std::int64_t made = 0;
                std::memcpy(&made, chunk.data() + at, sizeof made);
                ages.push_back(static_cast<float>(
                    std::chrono::duration<double>(now - steady_clock::time_point(steady_clock::duration(made)))
                        .count()));
                ++messages;
            }
            each.got += bytes;
            got += bytes;
            if (got == next) {
                next += burst_bytes;
                if (::write(told, "x", 1) != 1) return;
            }
        }
    }
    if (ages.empty()) return;
    const auto at = [&](double part) {
        const auto nth = ages.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(ages.size() - 1));
        std::nth_element(ages.begin(), nth, ages.end());
        return static_cast<double>(*nth);
    };
    result.messages = static_cast<double>(messages);
    result.p50_delivery = at(0.5);
    result.p99_delivery = at(0.99);
}

template <class Server>
void serve(int listener, const broadcast_load& what, int acknowledged, broadcast_figures& result)
{
    Server server;
    for (std::uint32_t i = 0; i != what.subscribers + what.mute; ++i) {
        const int socket = checked(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC), "accept");
        const int on = 1;
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        server.add(socket);
    }
    const auto rss = [] { return static_cast<std::uint64_t>(rss_anon(::getpid())); };
    result.rss_before = result.rss_half = result.rss_peak = rss();
    const auto burst = [&] {
        for (std::uint32_t i = 0; i != what.burst; ++i)
            server.push(make_message(what.message_bytes));
    };
    const auto whole_burst = [&] {
        burst();
        result.rss_peak = std::max(result.rss_peak, rss());
        server.send_all();
        char answer = 0;
        if (::read(acknowledged, &answer, 1) != 1) throw std::runtime_error("the clients have ended");
    };
    if (what.every.count() == 0) whole_burst(); // warms up: the first one pays for fresh pages
    const auto start = steady_clock::now();
    const double processor = processor_seconds();
    if (what.every.count() != 0) {
        if constexpr (requires { server.send_until(start); })
            for (auto next = start; next < start + what.duration;) {
                burst();
                server.send_until(next += what.every);
                if (next <= start + what.duration / 2) result.rss_half = rss();
                result.rss_peak = std::max(result.rss_peak, rss());
            }
    } else {
        for (std::uint32_t i = 0; i != what.bursts; ++i)
            whole_burst();
    }
    result.processor = processor_seconds() - processor;
    result.wall = seconds_since(start);
}

/// A process that does its part of a round, and ends.
class child {
public:
    explicit child(const std::function<void()>& f) : pid_(checked(::fork(), "fork"))
    {
        if (pid_ != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        try {
            f();
            ::_exit(0);
        } catch (const std::exception& error) {
            std::cerr << "a process of the benchmark: " << error.what() << std::endl;
            ::_exit(1);
        }
    }
    child(const child&) = delete;
    ~child()
    {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    void wait()
    {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        if (status != 0) throw std::runtime_error("a process of the benchmark failed");
    }

private:
    ::pid_t pid_;
};

/// One round of one server, in a process of its own.
template <class Server>
broadcast_figures measure_broadcast(const broadcast_load& what)
{
    const int listener = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    const int send_buffer = 8 * 1024; // the kernel doubles it; the connections inherit it
    ::setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    checked(::bind(listener, reinterpret_cast<::sockaddr*>(&address), size), "bind");
    checked(::listen(listener, 4096), "listen");
    checked(::getsockname(listener, reinterpret_cast<::sockaddr*>(&address), &size), "getsockname");
    int pipe[2];
    checked(::pipe(pipe), "pipe");
    void* const memory =
        ::mmap(nullptr, sizeof(broadcast_figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    auto* const shared = ::new (memory) broadcast_figures;
    {
        child server([&] {
            pin_measured();
            serve<Server>(listener, what, pipe[0], *shared);
        });
        ::close(listener);
        child clients([&] {
            pin_clients();
            ::close(pipe[0]);
            read_all(address, what, pipe[1], *shared);
        });
        server.wait();
        clients.wait();
    }
    ::close(pipe[0]);
    ::close(pipe[1]);
    const broadcast_figures result = *shared;
    ::munmap(memory, sizeof(broadcast_figures));
    return result;
}

/// A server, and the figures of its rounds.
struct broadcast_subject {
    const char* name;
    broadcast_figures (*measure)(const broadcast_load&);
    std::vector<broadcast_figures> rounds{};

    [[nodiscard]] measured middle(double (*of)(const broadcast_figures&)) const
    {
        std::vector<double> values;
        for (const broadcast_figures& each : rounds)
            values.push_back(of(each));
        return median(values);
    }
};

} // namespace benchmarks

#endif
