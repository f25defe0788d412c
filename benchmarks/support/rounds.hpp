// holdfast: servers that a benchmark measures in turns, so that a slow minute of the machine meets all of them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_ROUNDS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_ROUNDS_HPP

#include "results.hpp"

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace benchmarks {

/// A server, and what each round of it has measured.
template <class Figures>
struct subject {
    const char* name;
    std::function<void(int listener)> serve;
    std::vector<Figures> rounds{};

    /// Returns the middle one of a figure's rounds.
    [[nodiscard]] measured middle(double Figures::* of) const
    {
        std::vector<double> values;
        for (const Figures& each : rounds)
            values.push_back(each.*of);
        return median(values);
    }
};

/// A figure of a round, its name in the results, and its unit.
template <class Figures>
struct round_metric {
    const char* name;
    double Figures::* figure;
    const char* unit;
};

/// Adds the option `--rounds`.
inline void add_rounds(command_line& cli, std::uint32_t& rounds)
{
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
}

/// Measures all subjects once a round: `measure(serve)` returns the figures of one. Then adds the middle ones to the results,
/// as those of `test_case`, and prints the table.
template <class Figures, class Subjects, class Measure>
void run_rounds(results& to, Subjects& subjects, std::uint32_t rounds, const std::string& test_case, Measure measure,
                std::initializer_list<round_metric<Figures>> metrics)
{
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject<Figures>& each : subjects)
            each.rounds.push_back(measure(each.serve));
    for (const subject<Figures>& each : subjects)
        for (const round_metric<Figures>& metric : metrics)
            to.add(each.name, test_case, metric.name, each.middle(metric.figure), metric.unit);
    to.print_table();
}

} // namespace benchmarks

#endif
