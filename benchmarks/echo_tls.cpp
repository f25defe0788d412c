// holdfast: what a short message costs the server over TLS: lines of 64 bytes, sent back to a hundred connections.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/tls_servers.hpp. Each server runs on one thread in a process of its own; the clients are
// this one. What counts is the server's processor time (user and system) for a message, busy and in lockstep: see
// echo.cpp. Handshakes come before.
#include "../tests/support/certificates.hpp"
#include "support/process_time.hpp"
#include "support/results.hpp"
#include "support/tls_clients.hpp"
#include "support/tls_servers.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using benchmarks::checked;

constexpr std::size_t line_bytes = 64;

/// Clients each of which waits for its line before it sends the next.
class echo_clients {
public:
    echo_clients(const ::sockaddr_in& server, std::size_t n)
        : load_(server), poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"))
    {
        load_.grow_to(n, 32, [](benchmarks::tls_client&) {});
        for (std::size_t i = 0; i != n; ++i) {
            ::epoll_event event{EPOLLIN, {.u64 = i}};
            checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, load_.all()[i].descriptor(), &event), "epoll_ctl");
        }
        line_.fill('x');
        line_.back() = '\n';
    }
    echo_clients(const echo_clients&) = delete;
    ~echo_clients() { ::close(poll_); }

    /// Exchanges `n` lines in all.
    void exchange(std::size_t n)
    {
        std::size_t sent = 0;
        const auto send = [&](benchmarks::tls_client& client) {
            if (sent == n) return;
            client.write({line_.data(), line_.size()});
            ++sent;
        };
        for (benchmarks::tls_client& each : load_.all())
            send(each);
        std::array<::epoll_event, 128> events;
        for (std::size_t done = 0; done != n;) {
            const int ready = ::epoll_wait(poll_, events.data(), events.size(), 10'000);
            if (ready == 0) throw std::runtime_error("the server stopped answering");
            for (int i = 0; i < ready; ++i) {
                benchmarks::tls_client& client = load_.all()[events[static_cast<std::size_t>(i)].data.u64];
                receive(client);
                ++done;
                send(client);
            }
        }
    }

    /// Exchanges `n` lines in all, a line of each client at a time, sent while the server is stopped, as line_clients does.
    void exchange_rounds(const benchmarks::server_process& server, std::size_t n)
    {
        for (std::size_t done = 0; done < n;) {
            const std::size_t lines = std::min(n - done, load_.all().size());
            server.stop();
            for (std::size_t i = 0; i != lines; ++i)
                load_.all()[i].write({line_.data(), line_.size()});
            server.go_on();
            for (std::size_t i = lines; i != 0; --i)
                receive(load_.all()[i - 1]);
            done += lines;
        }
    }

private:
    void receive(benchmarks::tls_client& client)
    {
        std::array<char, line_bytes> got;
        client.read_all(got.data(), got.size());
        if (got != line_) throw std::runtime_error("a line came back changed");
    }

    benchmarks::tls_clients load_;
    int poll_;
    std::array<char, line_bytes> line_;
};

struct subject {
    std::string name;
    void (*serve)(int, const benchmarks::tls_service&);
    std::vector<double> cpu_ns{};      // of a busy server
    std::vector<double> lockstep_ns{}; // of one that has a line or a few at a time
};

int run(int argc, char** argv)
{
    std::string only;
    std::uint32_t messages = 50'000, connections = 100, rounds = 7;
    benchmarks::results results{"echo_tls"};
    benchmarks::command_line cli{"echo_tls",
                                 "The server's processor time for a line of 64 bytes that it sends back over TLS."};
    results.add_options(cli);
    cli.add("subject", only, "NAME", "one server only, or all");
    cli.add("messages", messages, "N", "messages in each round");
    cli.add("connections", connections, "N", "clients at the same time");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    if (messages == 0 || connections == 0 || connections > 10'000 || rounds == 0)
        throw benchmarks::usage_error("--messages, --connections (up to 10000) and --rounds must be at least 1");
    results.open();
    const tests::certificate files;
    const benchmarks::tls_service service{.chain_file = files.chain_file(), .key_file = files.key_file()};
    std::vector<subject> subjects{
        {"holdfast", benchmarks::serve_holdfast_tls},
        {"holdfast_compact", benchmarks::serve_holdfast_tls_compact},
        {"asio_ssl", benchmarks::serve_asio_ssl},
        {"openssl_fd", benchmarks::serve_openssl_fd},
    };
    if (!only.empty()) {
        std::erase_if(subjects, [&](const subject& each) { return each.name != only; });
        if (subjects.empty()) benchmarks::command_line::fail("subject", "there is no such server");
    }
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects) {
            const benchmarks::server_process server([&](int listener) { each.serve(listener, service); });
            echo_clients load(server.address, connections);
            load.exchange(messages / 10 + 1); // warms up
            const benchmarks::process_time lockstep(server.pid);
            load.exchange(messages);
            each.lockstep_ns.push_back(lockstep.seconds() * 1e9 / messages);
            const benchmarks::process_time busy(server.pid);
            load.exchange_rounds(server, messages);
            each.cpu_ns.push_back(busy.seconds() * 1e9 / messages);
        }
    for (const subject& each : subjects)
        results.add(each.name, std::to_string(connections), "server_cpu_ns_per_message",
                    benchmarks::median(each.cpu_ns), "ns");
    for (const subject& each : subjects)
        results.add(each.name, std::to_string(connections), "lockstep_cpu_ns_per_message",
                    benchmarks::median(each.lockstep_ns), "ns");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
