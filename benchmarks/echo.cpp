// holdfast: what a short message costs the server: lines of 64 bytes, sent back to a hundred connections.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/line_servers.hpp. Each server runs on one thread in a process of its own; the clients
// are this one. What counts is the server's processor time (user and system) for a message: on few cores the
// clients cost as much as the server. A round is a line of each client, sent while the server is stopped: it
// has all of them to answer at its next wait, whatever the server.
//
// In lockstep, each client sends its next line when it has the last one back. The server and this process
// then run side by side; the faster server has fewer lines at each wait, and pays for more waits.
//
// Latencies are measured at a fixed rate: each line has a time at which it is due, whatever became of those before it,
// and its latency counts from that time, so that a stall of the server counts for all the lines that it delays.
#include "support/line_clients.hpp"
#include "support/line_servers.hpp"
#include "support/process_time.hpp"
#include "support/results.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace {

struct subject {
    std::string name;
    std::function<void(int)> serve;
    std::vector<double> cpu_ns{};             // of a busy server
    std::vector<double> lockstep_ns{};        // of one that has a line or a few at a time
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
        {"holdfast", benchmarks::serve_holdfast},           {"holdfast_any", benchmarks::serve_holdfast_any},
        {"holdfast_lean", benchmarks::serve_holdfast_lean}, {"holdfast_callback", benchmarks::serve_holdfast_callback},
        {"asio_callback", benchmarks::serve_asio_callback}, {"asio_coroutine", benchmarks::serve_asio_coroutine},
        {"asio_lean", benchmarks::serve_asio_lean},         {"epoll", benchmarks::serve_epoll},
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
            benchmarks::line_clients load(server.address, connections);
            load.exchange(messages / 10 + 1); // warms up
            const benchmarks::process_time lockstep(server.pid);
            load.exchange(messages);
            each.lockstep_ns.push_back(lockstep.seconds() * 1e9 / messages);
            const benchmarks::process_time busy(server.pid);
            load.exchange_rounds(server, messages);
            each.cpu_ns.push_back(busy.seconds() * 1e9 / messages);
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
    for (const subject& each : subjects)
        results.add(each.name, case_name, "lockstep_cpu_ns_per_message", benchmarks::median(each.lockstep_ns), "ns");
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
