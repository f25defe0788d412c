// holdfast: what the benchmarks share: their figures, as a table and as lines of JSON.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_RESULTS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_RESULTS_HPP

#include "../../examples/support/command_line.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace benchmarks {

using examples::command_line;
using examples::run_main;
using examples::usage_error;

/// A figure, and how far the rounds of which it is the middle one are from it at most: a part of it.
struct measured {
    measured(double figure, double deviation = 0) : value(figure), spread(deviation) {}
    operator double() const { return value; }

    double value;
    double spread;
};

/// The middle of the values; of an even number of them the upper one. Precondition: not empty.
inline measured median(std::vector<double> values)
{
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    const double farthest = std::max(*most - *middle, *middle - *least);
    return {*middle, *middle != 0 ? farthest / std::abs(*middle) : 0};
}

/// The figures of one benchmark. Each goes to the `--json` file at once, as one object a line, and into the
/// table.
///
///     benchmarks::results results{"heartbeat"};
///     benchmarks::command_line cli{"heartbeat", "What a heartbeat costs."};
///     results.add_options(cli);
///     if (!cli.parse(argc, argv)) return 0;
///     results.open();
///     results.add("holdfast", "10k", "touch_ns", benchmarks::median(rounds), "ns");
///     results.print_table();
class results {
public:
    explicit results(std::string bench) : bench_(std::move(bench)) {}

    /// Adds `--json FILE`. The object must outlive the command line's `parse`.
    void add_options(command_line& cli)
    {
        cli.add("json", file_name_, "FILE", "append each figure to this file, as one JSON object a line");
    }

    /// Opens the file, if one was asked for; call it before the work begins. Throws a `usage_error` when that
    /// fails.
    void open()
    {
        if (file_name_.empty()) return;
        file_.open(file_name_, std::ios::app);
        if (!file_) throw usage_error("cannot write '" + file_name_ + "': " + std::strerror(errno));
    }

    /// Takes a figure. The texts are plain: without quotes, backslashes and control characters. One that is no number is
    /// left out: the kernel tells a running server's processor time as of its last tick, which may be none.
    void add(std::string_view subject, std::string_view case_name, std::string_view metric, measured value,
             std::string_view unit)
    {
        if (!std::isfinite(value.value)) {
            std::printf("Left out: %s of %s in %s (too little to do for a measurement)\n", std::string(metric).c_str(),
                        std::string(subject).c_str(), std::string(case_name).c_str());
            return;
        }
        char number[32];
        std::snprintf(number, sizeof number, "%.6g", value.value);
        if (file_.is_open()) {
            file_ << "{\"bench\":\"" << bench_ << "\",\"subject\":\"" << subject << "\",\"case\":\"" << case_name
                  << "\",\"metric\":\"" << metric << "\",\"value\":" << number << ",\"unit\":\"" << unit << "\"}\n";
            file_.flush();
        }
        if (std::find(subjects_.begin(), subjects_.end(), subject) == subjects_.end()) subjects_.emplace_back(subject);
        const auto same = [&](const row& each) { return each.case_name == case_name && each.metric == metric; };
        auto found = std::find_if(rows_.begin(), rows_.end(), same);
        if (found == rows_.end())
            found = rows_.insert(rows_.end(), {std::string(case_name), std::string(metric), std::string(unit), {}});
        found->values.emplace_back(subject, value);
    }

    /// Prints a line for each case and metric, and a column for each subject, in the order in which they
    /// came; after a figure of several rounds how far they are from it.
    void print_table() const
    {
        constexpr int width = 14;
        std::printf("%-12s %-22s %-5s", "case", "metric", "unit");
        for (const std::string& subject : subjects_)
            std::printf(" %14s", subject.c_str());
        std::printf("\n");
        for (const row& each : rows_) {
            std::printf("%-12s %-22s %-5s", each.case_name.c_str(), each.metric.c_str(), each.unit.c_str());
            for (const std::string& subject : subjects_) {
                const std::string text = text_of(each, subject);
                const bool spread = text.ends_with('%'); // its sign takes two bytes of one column
                std::printf(" %*s", spread ? width + 1 : width, text.c_str());
            }
            std::printf("\n");
        }
    }

private:
    struct row {
        std::string case_name, metric, unit;
        std::vector<std::pair<std::string, measured>> values;
    };

    /// Three digits that matter, without an exponent; "-" where there is no figure.
    static std::string text_of(const row& from, const std::string& subject)
    {
        for (const auto& [name, value] : from.values) {
            if (name != subject) continue;
            char text[64];
            std::snprintf(text, sizeof text, "%.*f", value >= 100 ? 0 : value >= 10 ? 1 : 2, value.value);
            if (value.spread == 0) return text;
            return std::string(text) + " ±" + std::to_string(std::lround(value.spread * 100)) + '%';
        }
        return "-";
    }

    std::string bench_;
    std::string file_name_;
    std::ofstream file_;
    std::vector<std::string> subjects_;
    std::vector<row> rows_;
};

} // namespace benchmarks

#endif
