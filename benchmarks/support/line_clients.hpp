// holdfast: clients of the line servers, each of which waits for its line before it sends the next.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_LINE_CLIENTS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_LINE_CLIENTS_HPP

#include "server_process.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <stdexcept>
#include <vector>

namespace benchmarks {

constexpr std::size_t line_bytes = 64;

/// So many clients of a server that sends lines back.
class line_clients {
public:
    line_clients(const ::sockaddr_in& server, std::size_t n)
        : poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"))
    {
        for (std::size_t i = 0; i != n; ++i) {
            const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
            sockets_.push_back(client);
            const ::timeval patience{10, 0};
            ::setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            if (::connect(client, reinterpret_cast<const ::sockaddr*>(&server), sizeof server) != 0) fail("connect");
            ::epoll_event event{EPOLLIN, {.fd = client}};
            checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, client, &event), "epoll_ctl");
        }
        line_.fill('x');
        line_.back() = '\n';
    }
    line_clients(const line_clients&) = delete;
    ~line_clients()
    {
        for (const int each : sockets_) {
            const ::linger reset{1, 0}; // no port stays in TIME_WAIT
            ::setsockopt(each, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(each);
        }
        ::close(poll_);
    }

    /// Exchanges `n` lines in all.
    void exchange(std::size_t n)
    {
        std::size_t sent = 0;
        for (const int each : sockets_) {
            if (sent == n) break;
            send(each);
            ++sent;
        }
        std::array<::epoll_event, 128> events;
        for (std::size_t done = 0; done != n;) {
            const int ready = ::epoll_wait(poll_, events.data(), events.size(), 10'000);
            if (ready == 0) throw std::runtime_error("the server stopped answering");
            for (int i = 0; i < ready; ++i) {
                const int client = events[static_cast<std::size_t>(i)].data.fd;
                receive(client);
                ++done;
                if (sent == n) continue;
                send(client);
                ++sent;
            }
        }
    }

    /// Exchanges `n` lines in all, a line of each client at a time. The server is stopped while they are sent, so that it
    /// has all of them before it. A server that is as fast as this process would otherwise find one line at each wait,
    /// and a slower one several: the faster server would pay for more waits. The answer to the last line is read first, so
    /// that the server's writes wake this process once or a few times, not for each line.
    void exchange_rounds(const server_process& server, std::size_t n)
    {
        for (std::size_t done = 0; done < n;) {
            const std::size_t lines = std::min(n - done, sockets_.size());
            server.stop();
            for (std::size_t i = 0; i != lines; ++i)
                send(sockets_[i]);
            server.go_on();
            for (std::size_t i = lines; i != 0; --i)
                receive(sockets_[i - 1]);
            done += lines;
        }
    }

    /// Sends `rate` lines a second for `duration`, each at its time, and returns the latency of each in microseconds.
    std::vector<double> latencies(std::uint32_t rate, std::chrono::milliseconds duration)
    {
        using clock = std::chrono::steady_clock;
        const auto interval = std::chrono::nanoseconds(1'000'000'000 / rate);
        const auto lines = static_cast<std::size_t>(std::chrono::nanoseconds(duration) / interval);
        const auto start = clock::now();
        std::map<int, std::deque<clock::time_point>> due; // of the lines that a client has sent and not got back
        std::vector<double> result;
        result.reserve(lines);
        std::array<::epoll_event, 128> events;
        for (std::size_t sent = 0; result.size() != lines;) {
            for (; sent != lines && clock::now() >= start + interval * sent; ++sent) {
                const int client = sockets_[sent % sockets_.size()];
                due[client].push_back(start + interval * sent);
                send(client);
            }
            if (clock::now() > start + duration + std::chrono::seconds(10))
                throw std::runtime_error("the server stopped answering");
            const int ready = ::epoll_wait(poll_, events.data(), events.size(), 0); // never late: the wait is a loop
            for (int i = 0; i < ready; ++i) {
                const int client = events[static_cast<std::size_t>(i)].data.fd;
                receive(client);
                auto& waiting = due[client];
                result.push_back(std::chrono::duration<double, std::micro>(clock::now() - waiting.front()).count());
                waiting.pop_front();
            }
        }
        return result;
    }

private:
    void send(int client)
    {
        if (::send(client, line_.data(), line_.size(), MSG_NOSIGNAL) != std::ssize(line_)) fail("send");
    }
    void receive(int client)
    {
        std::array<char, line_bytes> got;
        ::ssize_t size = 0;
        do // a server that stops or goes on is a signal to this process
            size = ::recv(client, got.data(), got.size(), MSG_WAITALL);
        while (size < 0 && errno == EINTR);
        if (size != std::ssize(got) || got != line_)
            throw std::runtime_error("a line came back changed, or not at all");
    }

    int poll_;
    std::vector<int> sockets_;
    std::array<char, line_bytes> line_;
};

} // namespace benchmarks

#endif
