// holdfast: the ladder's output: the table of a run, bars, the verdict, several runs side by side.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_REPORT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_REPORT_HPP

#include "ladder_verdict.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace ladder {

/// A run, as it is written to and read from a file.
struct run_record {
    std::string title;
    std::string server; ///< "127.0.0.1:7777, process 4711"
    std::string mix;
    std::string note; ///< why rungs were cut; may be empty
    std::uint64_t budget_bytes = 0;
    std::vector<measured_point> points; ///< the first is the baseline
    verdict judgement;
};

/// Returns a point's growth over the baseline in bytes.
inline double growth(const run_record& run, const measured_point& point)
{
    return static_cast<double>(point.rss_anon) - static_cast<double>(run.points.front().rss_anon);
}

/// Prints rows in columns: the first one left-aligned, the others right-aligned.
inline void print_columns(std::ostream& out, const std::vector<std::vector<std::string>>& rows)
{
    std::vector<std::size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string padding(widths[i] - row[i].size(), ' ');
            line += i == 0 ? row[i] + padding : "  " + padding + row[i];
        }
        out << line << '\n';
    }
}

inline std::string per_connection(const run_record& run, const measured_point& point)
{
    if (point.up == 0) return "-";
    return format_bytes(growth(run, point) / static_cast<double>(point.up));
}

/// Returns the rows of a run's table, headings first.
inline std::vector<std::vector<std::string>> table_rows(const run_record& run)
{
    std::vector<std::vector<std::string>> rows{{"", "rung", "connected", "still up", "RssAnon", "its peak", "VmRSS",
                                                "per conn.", "threads", "fds", "maps", "arenas", "kernel TCP*",
                                                "seconds"}};
    for (const measured_point& each : run.points) {
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.1f", each.seconds);
        std::string phase = each.phase;
        if (!each.settled) phase += " (unsettled)";
        if (each.server_ended) phase += " (server ended)";
        rows.push_back({phase, format_count(each.rung), format_count(each.connected), format_count(each.up),
                        format_bytes(each.rss_anon), format_bytes(each.rss_anon_peak), format_bytes(each.vm_rss),
                        per_connection(run, each), format_count(each.threads), format_count(each.descriptors),
                        format_count(each.mappings), format_count(each.arenas), format_bytes(each.kernel_bytes),
                        seconds});
    }
    return rows;
}

/// Returns a bar in eighths of a character: `share` of `width` characters.
inline std::string bar(double share, int width)
{
    static constexpr const char* eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int filled = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * width * 8));
    std::string text;
    for (int i = 0; i < filled / 8; ++i)
        text += "█";
    return text + eighths[filled % 8];
}

/// Prints RssAnon over the baseline at each rung, of one run or of several side by side.
inline void print_bars(std::ostream& out, const std::vector<run_record>& runs)
{
    std::size_t name_width = 0;
    double most = 1;
    std::vector<std::uint64_t> rungs;
    for (const run_record& run : runs) {
        name_width = std::max(name_width, run.title.size());
        for (const measured_point& each : run.points) {
            most = std::max(most, growth(run, each));
            if (each.rung != 0) rungs.push_back(each.rung);
        }
    }
    std::sort(rungs.begin(), rungs.end());
    rungs.erase(std::unique(rungs.begin(), rungs.end()), rungs.end());

    out << "RssAnon over the baseline (a full bar is " << format_bytes(most) << ")\n";
    const auto row = [&](const std::string& label, const run_record& run, const measured_point& each,
                         const std::string& mark) {
        const std::string padding(name_width - run.title.size() + 1, ' ');
        out << label << "  " << run.title << padding << mark << ' ' << bar(growth(run, each) / most, 50) << ' '
            << format_bytes(growth(run, each)) << (each.server_ended ? ", then the server ended" : "") << '\n';
    };
    const auto padded = [](std::string text) { return std::string(text.size() < 9 ? 9 - text.size() : 0, ' ') + text; };
    for (const std::uint64_t rung : rungs) {
        std::string label = padded(format_count(rung));
        for (const run_record& run : runs)
            for (const measured_point& each : run.points)
                if (each.rung == rung) {
                    row(label, run, each, each.is_climb(1) ? " " : std::to_string(each.number()));
                    label = padded("");
                }
    }
    std::string label = padded("after");
    for (const run_record& run : runs)
        for (const measured_point& each : run.points)
            if (each.phase.starts_with("descent")) {
                row(label, run, each, each.number() == 1 ? " " : std::to_string(each.number()));
                label = padded("");
            }
}

inline std::string verdict_headline(const run_record& run)
{
    const verdict& judged = run.judgement;
    std::string text = std::string{judged.pass() ? "pass" : "FAIL"} + ": " + run.title;
    if (judged.bytes_per_connection)
        text += ", " + format_bytes(*judged.bytes_per_connection) + " of RssAnon per connection";
    if (judged.kernel_bytes_per_connection)
        text += ", " + format_bytes(*judged.kernel_bytes_per_connection) + " of kernel TCP buffers (both ends)";
    return text;
}

/// Prints a run.
inline void print_run(std::ostream& out, const run_record& run)
{
    out << run.title << " (" << run.server << "), clients: " << run.mix << '\n';
    print_columns(out, table_rows(run));
    out << "* TCP buffers of the whole machine: both ends, and those of other programs\n";
    for (const measured_point& each : run.points) {
        if (each.rung == 0 || each.server_ended || each.rss_anon_settled == each.rss_anon_held) continue;
        out << each.phase << ", rung " << format_count(each.rung) << ": RssAnon " << format_bytes(each.rss_anon_settled)
            << " when settled, " << format_bytes(each.rss_anon_held) << " at the end of the hold\n";
    }
    out << '\n';
    print_bars(out, {run});
    out << '\n' << verdict_headline(run) << '\n';
    for (const finding& each : run.judgement.findings)
        out << (each.good ? "  ok    " : "  FAIL  ") << each.text << '\n';
    out << std::flush;
}

/// Prints the first climbs of several runs side by side.
inline void print_joint(std::ostream& out, const std::vector<run_record>& runs)
{
    std::vector<std::uint64_t> rungs;
    for (const run_record& run : runs)
        for (const measured_point& each : run.points)
            if (each.is_climb(1)) rungs.push_back(each.rung);
    std::sort(rungs.begin(), rungs.end());
    rungs.erase(std::unique(rungs.begin(), rungs.end()), rungs.end());

    std::vector<std::vector<std::string>> rows{{"connections"}};
    for (const run_record& run : runs) {
        rows[0].push_back(run.title + " RssAnon");
        rows[0].push_back("over baseline");
        rows[0].push_back("fds");
    }
    const auto add_row = [&](const std::string& label, auto&& wanted) {
        std::vector<std::string>& row = rows.emplace_back();
        row.push_back(label);
        for (const run_record& run : runs) {
            const auto found = std::find_if(run.points.begin(), run.points.end(), wanted);
            if (found == run.points.end()) {
                row.insert(row.end(), {"-", "-", "-"});
            } else if (found->server_ended) {
                row.insert(row.end(), {"ended at " + format_count(found->up), format_bytes(growth(run, *found)), "-"});
            } else {
                row.insert(row.end(), {format_bytes(found->rss_anon), format_bytes(growth(run, *found)),
                                       format_count(found->descriptors)});
            }
        }
    };
    add_row("none", [](const measured_point& each) { return each.phase == "baseline"; });
    for (const std::uint64_t rung : rungs)
        add_row(format_count(rung), [&](const measured_point& each) { return each.is_climb(1) && each.rung == rung; });
    add_row("after", [](const measured_point& each) { return each.phase == "descent 1"; });
    add_row("second climb", [&](const measured_point& each) { return each.is_climb(2) && each.rung == rungs.back(); });
    print_columns(out, rows);
    out << '\n';
    print_bars(out, runs);
    out << '\n';
    for (const run_record& run : runs)
        out << verdict_headline(run) << '\n';
}

/// Returns the last run's growth as a share of the first run's, at the highest rung that both reached. Where a server
/// ended there, its growth until then counts.
inline std::optional<std::pair<std::uint64_t, double>> share_of_first(const std::vector<run_record>& runs)
{
    std::optional<std::pair<std::uint64_t, double>> share;
    for (const measured_point& first : runs.front().points)
        for (const measured_point& last : runs.back().points)
            if (first.is_climb(1) && last.is_climb(1) && first.rung == last.rung && growth(runs.front(), first) > 0)
                share.emplace(first.rung, std::max(growth(runs.back(), last), 0.0) / growth(runs.front(), first));
    return share;
}

} // namespace ladder

#endif
