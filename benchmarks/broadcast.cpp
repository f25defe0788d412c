// holdfast: what it costs to send the same messages to ten thousand subscribers, and what the slow ones among
// them cost the others.
// SPDX-License-Identifier: BSL-1.0
#include "support/broadcast_load.hpp"
#include "support/broadcast_servers.hpp"
#include "support/results.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

namespace {

using benchmarks::asio_gather_posted_server;
using benchmarks::asio_gather_server;
using benchmarks::asio_server;
using benchmarks::broadcast_figures;
using benchmarks::broadcast_load;
using benchmarks::broadcast_subject;
using benchmarks::holdfast_server;
using benchmarks::measure_broadcast;
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
using benchmarks::libuv_server;
#endif

void compare_bursts(benchmarks::results& results, const broadcast_load& what, const std::string& name,
                    std::uint32_t rounds)
{
    std::vector<broadcast_subject> subjects{{"holdfast", measure_broadcast<holdfast_server>},
                                            {"asio", measure_broadcast<asio_server>},
                                            {"asio_gather", measure_broadcast<asio_gather_server>},
                                            {"asio_gather_posted", measure_broadcast<asio_gather_posted_server>}};
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
    subjects.push_back({"libuv", measure_broadcast<libuv_server>});
#else
    std::cerr << "broadcast: libuv is left out (Debian: libuv1-dev)\n";
#endif
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (broadcast_subject& each : subjects)
            each.rounds.push_back(each.measure(what));
    for (const broadcast_subject& each : subjects) {
        results.add(each.name, name, "messages_per_second",
                    each.middle([](const broadcast_figures& f) { return f.messages / f.processor; }), "1/cpu_s");
        results.add(each.name, name, "wall_messages_per_second",
                    each.middle([](const broadcast_figures& f) { return f.messages / f.wall; }), "1/s");
        results.add(each.name, name, "rss_anon_growth", each.middle([](const broadcast_figures& f) {
            return static_cast<double>(f.rss_peak - f.rss_before);
        }),
                    "B");
    }
}

/// The same subscribers without and with some more that never read.
void compare_slow(benchmarks::results& results, broadcast_load what, std::uint32_t mute)
{
    const broadcast_figures none = measure_broadcast<holdfast_server>(what);
    what.mute = mute;
    const broadcast_figures some = measure_broadcast<holdfast_server>(what);
    results.add("holdfast", "slow_readers", "p99_without", none.p99_delivery * 1e3, "ms");
    results.add("holdfast", "slow_readers", "p99_with", some.p99_delivery * 1e3, "ms");
    results.add("holdfast", "slow_readers", "p99_ratio", some.p99_delivery / none.p99_delivery, "1");
    const auto growth = [](const broadcast_figures& f) { return static_cast<double>(f.rss_peak - f.rss_before); };
    results.add("holdfast", "slow_readers", "rss_growth_without", growth(none), "B");
    results.add("holdfast", "slow_readers", "rss_growth_with", growth(some), "B");
    results.add("holdfast", "slow_readers", "deliveries_per_second", some.messages / some.wall, "1/s");
    results.add("holdfast", "slow_readers", "processor_seconds", some.processor, "s");
}

int run(int argc, char** argv)
{
    std::string only;
    broadcast_load what;
    std::uint32_t rounds = 3;
    std::uint32_t seconds = 20;
    benchmarks::results results{"broadcast"};
    benchmarks::command_line cli{"broadcast", "The same messages to many subscribers."};
    results.add_options(cli);
    cli.add("case", only, "NAME",
            "burst (named by the number of subscribers), burst_1 and burst_4 (that many messages of 64 bytes at once), "
            "slow_readers; empty: all");
    cli.add("subscribers", what.subscribers, "N", "subscribers that read");
    cli.add("burst", what.burst, "N", "messages of 64 bytes queued to each before any is sent");
    cli.add("bursts", what.bursts, "N", "bursts of a round of the first case, after one that warms up");
    cli.add("rounds", rounds, "N", "rounds of the first case, in turns; the middle one counts");
    cli.add("seconds", seconds, "N", "of slow_readers: 50 messages a second, ten at once, first without the slow ones");
    if (!cli.parse(argc, argv)) return 0;
    const bool all = only.empty();
    const std::string number = std::to_string(what.subscribers);
    const bool burst = all || only == "burst" || only == number;
    const bool small_bursts =
        only == "burst_1" || only == "burst_4" || only == number + "_burst_1" || only == number + "_burst_4";
    if (!burst && !small_bursts && only != "slow_readers")
        benchmarks::command_line::fail("case",
                                       "must be burst, the number of subscribers, burst_1, burst_4 or slow_readers");
    if (what.subscribers == 0 || what.subscribers > 19'000 || what.burst == 0 || what.bursts == 0 || rounds == 0 ||
        seconds == 0)
        throw benchmarks::usage_error("there must be 1 to 19000 subscribers, and something to do");
    results.open();
    benchmarks::raise_descriptors();
    if (burst) compare_bursts(results, what, number, rounds);
    for (const std::uint32_t few : {1U, 4U}) {
        const std::string suffix = "_burst_" + std::to_string(few);
        if (!all && !only.ends_with(suffix.substr(1))) continue;
        broadcast_load small = what;
        small.burst = few;
        small.bursts = what.bursts * 16 / few; // as many messages
        compare_bursts(results, small, number + suffix, rounds);
    }
    if (all || only == "slow_readers") {
        what.burst = 10;
        what.every = std::chrono::milliseconds(200);
        what.duration = std::chrono::seconds(seconds);
        compare_slow(results, what, std::max(what.subscribers / 100, 1U));
    }
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
