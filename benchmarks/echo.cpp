// holdfast: what a short message costs the server: lines of 64 bytes, sent back to a hundred connections.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/line_servers.hpp. Each server runs on one thread in a process of its own; the clients
// are this one, and send the next line when they have the last one back. What counts is the server's
// processor time (user and system) for a message: on few cores the clients cost as much as the server.
//
// Latencies are measured at a fixed rate: each line has a time at which it is due, whatever became of those before it,
// and its latency counts from that time, so that a stall of the server counts for all the lines that it delays.
#include "support/line_servers.hpp"
#include "support/results.hpp"

#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
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
                std::array<char, line_bytes> got;
                if (::recv(client, got.data(), got.size(), MSG_WAITALL) != std::ssize(got) || got != line_)
                    throw std::runtime_error("a line came back changed, or not at all");
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

    int poll_;
    std::vector<int> sockets_;
    std::array<char, line_bytes> line_;
};

struct subject {
    std::string name;
    std::function<void(int)> serve;
    std::vector<double> cpu_ns{};
    std::vector<double> p50{}, p99{}, p999{}; // of each round, in microseconds
};

int run(int argc, char** argv)
{
    std::string only;
    std::uint32_t messages = 100'000;
    std::uint32_t connections = 100;
    std::uint32_t rounds = 7;
    std::uint32_t rate = 10'000;
    std::uint32_t milliseconds = 1000;
    benchmarks::results results{"echo"};
    benchmarks::command_line cli{"echo", "The server's processor time for a line of 64 bytes that it sends back."};
    results.add_options(cli);
    cli.add("subject", only, "NAME", "one server only, or all");
    cli.add("messages", messages, "N", "messages in each round");
    cli.add("connections", connections, "N", "clients at the same time");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    cli.add("rate", rate, "N", "lines a second while latencies are measured");
    cli.add("latency-ms", milliseconds, "N", "how long latencies are measured in each round; 0: not at all");
    if (!cli.parse(argc, argv)) return 0;
    if (rate == 0 || rate > 1'000'000 || milliseconds > 60'000)
        throw benchmarks::usage_error("--rate must be 1 to 1000000, --latency-ms at most 60000");
    if (messages == 0 || connections == 0 || connections > 10'000 || rounds == 0)
        throw benchmarks::usage_error("--messages, --connections (up to 10000) and --rounds must be at least 1");
    results.open();
    std::vector<subject> subjects{
        {"holdfast", benchmarks::serve_holdfast},
        {"holdfast_any", benchmarks::serve_holdfast_any},
        {"holdfast_callback", benchmarks::serve_holdfast_callback},
        {"asio_callback", benchmarks::serve_asio_callback},
        {"asio_coroutine", benchmarks::serve_asio_coroutine},
        {"asio_lean", benchmarks::serve_asio_lean},
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
            if (milliseconds == 0) continue;
            auto latencies = load.latencies(rate, std::chrono::milliseconds(milliseconds));
            std::sort(latencies.begin(), latencies.end());
            const auto at = [&](double part) {
                return latencies[static_cast<std::size_t>(part * static_cast<double>(latencies.size() - 1))];
            };
            each.p50.push_back(at(0.5));
            each.p99.push_back(at(0.99));
            each.p999.push_back(at(0.999));
        }
    const std::string case_name = std::to_string(connections);
    for (const subject& each : subjects)
        results.add(each.name, case_name, "server_cpu_ns_per_message", benchmarks::median(each.cpu_ns), "ns");
    if (milliseconds != 0)
        for (const subject& each : subjects) {
            results.add(each.name, case_name, "latency_p50", benchmarks::median(each.p50), "us");
            results.add(each.name, case_name, "latency_p99", benchmarks::median(each.p99), "us");
            results.add(each.name, case_name, "latency_p999", benchmarks::median(each.p999), "us");
        }
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
