// holdfast: how much of a long message a server sends over TLS with a second of its processor time: a snapshot of
// 100 MB to ten clients at once.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/tls_servers.hpp. Each sends the same bytes, which lie in memory, so that the serializers do
// not count. Each server runs on one thread in a process of its own; the clients are this one, and check every byte.
#include "../tests/support/certificates.hpp"
#include "support/process_time.hpp"
#include "support/results.hpp"
#include "support/tls_clients.hpp"
#include "support/tls_servers.hpp"

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using benchmarks::checked;

std::string make_snapshot(std::size_t size)
{
    std::string text;
    text.reserve(size + 64);
    for (std::uint64_t row = 0; text.size() < size; ++row)
        text += "{\"instrument\":" + std::to_string(row) + ",\"price\":" + std::to_string(row * 7919 % 100'000) + "}\n";
    text.resize(size);
    return text;
}

/// Reads the whole snapshot in each client, from whichever has some.
void receive(std::vector<benchmarks::tls_client>& clients, std::string_view snapshot)
{
    const int poll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    for (std::size_t i = 0; i != clients.size(); ++i) {
        ::epoll_event event{EPOLLIN, {.u64 = i}};
        checked(::epoll_ctl(poll, EPOLL_CTL_ADD, clients[i].descriptor(), &event), "epoll_ctl");
    }
    std::vector<std::size_t> got(clients.size());
    std::array<::epoll_event, 64> events;
    std::array<char, 16 * 1024> text;
    for (std::size_t done = 0; done != clients.size();) {
        const int ready = ::epoll_wait(poll, events.data(), events.size(), 10'000);
        if (ready == 0) throw std::runtime_error("the server stopped sending");
        for (int i = 0; i < ready; ++i) {
            const std::size_t which = events[static_cast<std::size_t>(i)].data.u64;
            for (int records = 0; records != 16 && got[which] != snapshot.size(); ++records) { // then another's turn
                const std::size_t n = clients[which].read_some(text.data(), text.size());
                if (n == 0) break;
                if (snapshot.substr(got[which], n) != std::string_view(text.data(), n))
                    throw std::runtime_error("the snapshot came changed");
                got[which] += n;
            }
            if (got[which] != snapshot.size()) continue;
            ++done;
            checked(::epoll_ctl(poll, EPOLL_CTL_DEL, clients[which].descriptor(), nullptr), "epoll_ctl");
        }
    }
    ::close(poll);
}

struct subject {
    std::string name;
    void (*serve)(int, const benchmarks::tls_service&);
    std::vector<double> bytes_per_second{};
};

int run(int argc, char** argv)
{
    std::string only;
    std::uint32_t megabytes = 100, connections = 10, rounds = 3;
    benchmarks::results results{"stream_tls"};
    benchmarks::command_line cli{"stream_tls", "Bytes that a server sends over TLS with a second of processor time."};
    results.add_options(cli);
    cli.add("subject", only, "NAME", "one server only, or all");
    cli.add("megabytes", megabytes, "N", "size of the snapshot");
    cli.add("connections", connections, "N", "clients at the same time");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    if (megabytes == 0 || megabytes > 1000 || connections == 0 || connections > 1000 || rounds == 0)
        throw benchmarks::usage_error("--megabytes, --connections (each up to 1000) and --rounds must be at least 1");
    results.open();
    const tests::certificate files;
    const std::string snapshot = make_snapshot(std::size_t{megabytes} * 1'000'000);
    const benchmarks::tls_service service{
        .chain_file = files.chain_file(), .key_file = files.key_file(), .snapshot = snapshot};
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
            benchmarks::tls_clients load(server.address);
            load.grow_to(connections, connections, [](benchmarks::tls_client&) {});
            const benchmarks::process_time time(server.pid);
            for (benchmarks::tls_client& each_client : load.all())
                each_client.write("snapshot\n");
            receive(load.all(), snapshot);
            each.bytes_per_second.push_back(static_cast<double>(snapshot.size()) * connections / time.seconds());
        }
    const std::string case_name = std::to_string(megabytes) + "MB_" + std::to_string(connections);
    for (const subject& each : subjects)
        results.add(each.name, case_name, "bytes_per_cpu_second", benchmarks::median(each.bytes_per_second), "B/s");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
