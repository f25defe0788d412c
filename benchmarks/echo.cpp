// holdfast: what a short message costs the server: lines of 64 bytes, sent back to a hundred connections.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/line_servers.hpp. Each server runs on one thread in a process of its own; the clients
// are this one, and send the next line when they have the last one back. What counts is the server's
// processor time (user and system) for a message: on few cores the clients cost as much as the server.
#include "support/line_servers.hpp"
#include "support/results.hpp"

#include <sys/epoll.h>
#include <time.h>

#include <array>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using benchmarks::checked;
using benchmarks::fail;

constexpr std::size_t line_bytes = 64;

double seconds(::clockid_t clock)
{
    ::timespec now{};
    checked(::clock_gettime(clock, &now), "clock_gettime");
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// A hundred clients, each of which waits for its line before it sends the next.
class clients {
public:
    clients(const ::sockaddr_in& server, std::size_t n)
        : poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"))
    {
        for (std::size_t i = 0; i != n; ++i) {
            const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
            sockets_.push_back(client);
            if (::connect(client, reinterpret_cast<const ::sockaddr*>(&server), sizeof server) != 0) fail("connect");
            ::epoll_event event{EPOLLIN, {.fd = client}};
            checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, client, &event), "epoll_ctl");
        }
        line_.fill('x');
        line_.back() = '\n';
    }
    clients(const clients&) = delete;
    ~clients()
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
                std::array<char, line_bytes> got;
                if (::recv(client, got.data(), got.size(), MSG_WAITALL) != std::ssize(got) || got != line_)
                    throw std::runtime_error("a line came back changed, or not at all");
                ++done;
                if (sent == n) continue;
                send(client);
                ++sent;
            }
        }
    }

private:
    void send(int client)
    {
        if (::send(client, line_.data(), line_.size(), MSG_NOSIGNAL) != std::ssize(line_)) fail("send");
    }

    int poll_;
    std::vector<int> sockets_;
    std::array<char, line_bytes> line_;
};

struct subject {
    std::string name;
    std::function<void(int)> serve;
    std::vector<double> cpu_ns{};
};

int run(int argc, char** argv)
{
    std::string only;
    std::uint32_t messages = 100'000;
    std::uint32_t connections = 100;
    std::uint32_t rounds = 7;
    benchmarks::results results{"echo"};
    benchmarks::command_line cli{"echo", "The server's processor time for a line of 64 bytes that it sends back."};
    results.add_options(cli);
    cli.add("subject", only, "NAME", "one server only, or all");
    cli.add("messages", messages, "N", "messages in each round");
    cli.add("connections", connections, "N", "clients at the same time");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    if (messages == 0 || connections == 0 || connections > 10'000 || rounds == 0)
        throw benchmarks::usage_error("--messages, --connections (up to 10000) and --rounds must be at least 1");
    results.open();
    std::vector<subject> subjects{
        {"holdfast", benchmarks::serve_holdfast},
        {"holdfast_callback", benchmarks::serve_holdfast_callback},
        {"asio_callback", benchmarks::serve_asio_callback},
        {"asio_coroutine", benchmarks::serve_asio_coroutine},
        {"epoll", benchmarks::serve_epoll},
    };
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
    subjects.push_back({"libuv", benchmarks::serve_libuv});
#else
    std::printf("Left out: libuv (Debian: libuv1-dev)\n");
#endif
    if (!only.empty()) {
        std::erase_if(subjects, [&](const subject& each) { return each.name != only; });
        if (subjects.empty()) benchmarks::command_line::fail("subject", "there is no such server");
    }
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects) {
            const benchmarks::server_process server(each.serve);
            clients load(server.address, connections);
            load.exchange(messages / 10 + 1); // warms up
            ::clockid_t cpu{};
            if (::clock_getcpuclockid(server.pid, &cpu) != 0)
                throw std::runtime_error("no clock of the server's process");
            const double before = seconds(cpu);
            load.exchange(messages);
            each.cpu_ns.push_back((seconds(cpu) - before) * 1e9 / messages);
        }
    const std::string case_name = std::to_string(connections);
    for (const subject& each : subjects)
        results.add(each.name, case_name, "server_cpu_ns_per_message", benchmarks::median(each.cpu_ns), "ns");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
