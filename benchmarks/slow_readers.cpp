// holdfast: receivers that never read among those that do: what they cost the memory of the server, and the others.
// SPDX-License-Identifier: BSL-1.0
//
// The same messages go to all receivers at a fixed pace; one receiver in eleven connects and reads nothing. Each server
// runs twice in a round, without these and with them. Subjects: see support/broadcast_servers.hpp
//   holdfast     an outbox of 16 KiB for each receiver: beyond that the oldest messages are dropped
//   asio         a queue without a limit, one async_write for each message
//   asio_gather  the same; a write takes up to 64 messages
//   asio_bounded the same with a limit of 16 messages, beyond which the oldest one is dropped: the peer at its best
// The peers queue references to one text for all. Where each receiver has a copy, as in examples/naive_feed.cpp, the
// growth is that of the text times the number of slow readers.
//
// Metrics; "with" and "without" those that do not read:
//   rss_growth_with, _without             the most anonymous memory, less that before the first message
//   rss_growth_rate                       how fast it still grows in the second half of the time, with them
//   delivery_p50_*, delivery_p99_*        age of a message when its reader gets it
//   cpu_ns_with, _without                 processor time of the server for each message that is delivered
#include "support/broadcast_load.hpp"
#include "support/broadcast_servers.hpp"
#include "support/results.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace {

using benchmarks::broadcast_figures;
using benchmarks::broadcast_load;
using benchmarks::broadcast_subject;

struct subject {
    broadcast_subject without, with;
};

template <class Server>
subject make_subject(const char* name)
{
    return {{name, benchmarks::measure_broadcast<Server>}, {name, benchmarks::measure_broadcast<Server>}};
}

int run(int argc, char** argv)
{
    broadcast_load what;
    what.subscribers = 250;
    what.message_bytes = 1024;
    what.burst = 10;
    what.every = std::chrono::milliseconds(50);
    std::uint32_t seconds = 5;
    std::uint32_t rounds = 3;
    benchmarks::results results{"slow_readers"};
    benchmarks::command_line cli{"slow_readers", "Receivers that never read: memory, and what the others notice."};
    results.add_options(cli);
    cli.add("readers", what.subscribers, "N", "receivers that read; as many as a tenth of them do not");
    cli.add("seconds", seconds, "N", "how long messages of 1024 bytes are sent, 200 a second to each");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    if (what.subscribers < 10 || what.subscribers > 15'000)
        benchmarks::command_line::fail("readers", "must be 10 to 15000");
    if (seconds == 0 || seconds > 600 || rounds == 0)
        throw benchmarks::usage_error("--seconds must be 1 to 600, --rounds at least 1");
    results.open();
    benchmarks::raise_descriptors();
    what.duration = std::chrono::seconds(seconds);
    broadcast_load slow = what;
    slow.mute = what.subscribers / 10;
    std::vector<subject> subjects{make_subject<benchmarks::holdfast_server>("holdfast"),
                                  make_subject<benchmarks::asio_server>("asio"),
                                  make_subject<benchmarks::asio_gather_server>("asio_gather"),
                                  make_subject<benchmarks::asio_bounded_server>("asio_bounded")};
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects) {
            each.without.rounds.push_back(each.without.measure(what));
            each.with.rounds.push_back(each.with.measure(slow));
        }
    const std::string name = std::to_string(what.subscribers);
    for (const subject& each : subjects) {
        for (const auto& [suffix, of] : {std::pair("with", &each.with), std::pair("without", &each.without)}) {
            const auto add = [&](const char* metric, double (*figure)(const broadcast_figures&), const char* unit) {
                results.add(of->name, name, std::string(metric) + "_" + suffix, of->middle(figure), unit);
            };
            add(
                "rss_growth", [](const broadcast_figures& f) { return static_cast<double>(f.rss_peak - f.rss_before); },
                "B");
            add("delivery_p50", [](const broadcast_figures& f) { return f.p50_delivery * 1e3; }, "ms");
            add("delivery_p99", [](const broadcast_figures& f) { return f.p99_delivery * 1e3; }, "ms");
            add("cpu_ns", [](const broadcast_figures& f) { return f.processor * 1e9 / f.messages; }, "ns");
        }
        const auto later = each.with.middle(
            [](const broadcast_figures& f) { return static_cast<double>(f.rss_peak - f.rss_half) / (f.wall / 2); });
        results.add(each.with.name, name, "rss_growth_rate", later, "B/s");
    }
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
