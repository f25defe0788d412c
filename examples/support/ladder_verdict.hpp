// holdfast: the ladder's judgement: when a rung has settled, the figures, the fit, what is wrong.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_VERDICT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_VERDICT_HPP

#include "ladder_plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ladder {

/// Tells when a rung has settled: everybody is connected, and the burst that newcomers get is over. For the
/// length of a window nobody has been connected or has received a first byte, and the bytes that were
/// received in it are less than a share of the climb's busiest window: so the traffic that never stops does
/// not count, as long as it is small beside the burst. A rung that never settles ends with its deadline.
class settle_detector {
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// \param share quiet is less than one `share`-th of the busiest window.
    explicit settle_detector(std::chrono::milliseconds window, std::uint64_t share = 10)
        : window_{window}, share_{share}
    {
    }

    /// Forgets the samples, not the busiest window: a new rung begins.
    void begin_rung() { samples_.clear(); }

    /// Takes a sample: the total of bytes received by the clients that read at once, a number that changes
    /// with every connection and every first byte, and whether clients are still to be connected. True:
    /// settled.
    bool settled(time_point now, std::uint64_t bytes, std::uint64_t events, bool pending)
    {
        samples_.push_back({now, bytes, events});
        // The window begins with the last sample that is old enough.
        while (samples_.size() > 1 && samples_[1].time <= now - window_)
            samples_.pop_front();
        const sample& begin = samples_.front();
        const std::uint64_t in_window = bytes - begin.bytes;
        busiest_ = std::max(busiest_, in_window);
        const bool whole_window = begin.time <= now - window_;
        const bool quiet = in_window == 0 || in_window < busiest_ / share_;
        return whole_window && !pending && begin.events == events && quiet;
    }

private:
    struct sample {
        time_point time;
        std::uint64_t bytes;
        std::uint64_t events;
    };

    std::chrono::milliseconds window_;
    std::uint64_t share_;
    std::deque<sample> samples_;
    std::uint64_t busiest_ = 0;
};

/// What was measured at one place of the run. Sizes in bytes.
struct measured_point {
    std::string phase;           ///< "baseline", "climb 1", "descent 1", "climb 2" or "descent 2"
    std::uint64_t rung = 0;      ///< connections asked for
    std::uint64_t connected = 0; ///< were made; without those that aborting clients made before
    std::uint64_t up = 0;        ///< of these were still up when measured
    std::uint64_t closed_by_server = 0;
    std::uint64_t rss_anon = 0;         ///< the higher of the two readings
    std::uint64_t rss_anon_settled = 0; ///< when the rung had settled
    std::uint64_t rss_anon_held = 0;    ///< after it had been held
    std::uint64_t rss_anon_peak = 0;    ///< the highest seen since the point before
    std::uint64_t vm_rss = 0;
    std::uint64_t threads = 0;
    std::uint64_t descriptors = 0;
    std::uint64_t mappings = 0;            ///< anonymous ones
    std::uint64_t kernel_bytes = 0;        ///< TCP buffers of the whole machine, both ends
    std::uint64_t server_kernel_bytes = 0; ///< of the server's end alone; 0 where they cannot be read
    double seconds = 0;                    ///< since the ladder began
    bool settled = true;                   ///< false: the deadline came first
    bool server_ended = false;             ///< then the figures are the last that were seen
    std::string shortage;                  ///< why fewer were connected than asked for; empty: all were

    bool is_climb(int number) const { return phase == "climb " + std::to_string(number); }
};

/// A straight line y = intercept + slope * x.
struct fitted_line {
    double intercept = 0;
    double slope = 0;
};

/// The line with the least squared distances; nothing where the points do not have two different x.
inline std::optional<fitted_line> fit(const std::vector<std::pair<double, double>>& points)
{
    const auto count = static_cast<double>(points.size());
    double mean_x = 0, mean_y = 0;
    for (const auto& [x, y] : points) {
        mean_x += x / count;
        mean_y += y / count;
    }
    double xx = 0, xy = 0;
    for (const auto& [x, y] : points) {
        xx += (x - mean_x) * (x - mean_x);
        xy += (x - mean_x) * (y - mean_y);
    }
    if (points.size() < 2 || xx <= 0) return std::nullopt;
    return fitted_line{mean_y - xy / xx * mean_x, xy / xx};
}

/// "12.3 MiB".
inline std::string format_bytes(double bytes)
{
    const char* unit = "B";
    double value = bytes;
    for (const char* larger : {"KiB", "MiB", "GiB"}) {
        if (std::abs(value) < 1024) break;
        value /= 1024;
        unit = larger;
    }
    char text[48];
    const bool whole = *unit == 'B' || std::abs(value) >= 100;
    std::snprintf(text, sizeof text, whole ? "%.0f %s" : "%.1f %s", value, unit);
    return text;
}

inline std::string format_bytes(std::uint64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

/// "12,345".
inline std::string format_count(std::uint64_t number)
{
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3; at -= 3)
        text.insert(at - 3, ",");
    return text;
}

/// What the verdict is measured by.
struct verdict_limits {
    std::uint64_t budget_bytes = 0; ///< per connection; 0: not judged
    stated_line line{};             ///< stays above the figures of every rung, if it is stated
    /// Of the first climb's growth, after the descent: an allocator keeps some of what it once had.
    double may_keep_percent = 50;
    /// But so much may always be kept.
    std::uint64_t may_keep_bytes = 8 * 1024 * 1024;
    /// How far the second climb's top may be above the first's: the larger of both counts.
    double second_climb_percent = 2;
    std::uint64_t second_climb_bytes = 1024 * 1024;
};

/// One thing that was looked at.
struct finding {
    bool good = true;
    std::string text;
};

/// The judgement of a run.
struct verdict {
    std::vector<finding> findings;
    std::optional<double> bytes_per_connection; ///< RssAnon; the fitted slope, or of the only rung
    std::optional<double>
        kernel_bytes_per_connection; ///< both ends, so for a local server about twice its own

    bool pass() const
    {
        return std::all_of(findings.begin(), findings.end(), [](const finding& each) { return each.good; });
    }
};

namespace detail {

/// How a figure grows with the connections of the first climb: the slope of several rungs, the quotient at
/// one.
inline std::optional<double> growth_per_connection(const std::vector<measured_point>& points,
                                                   std::uint64_t measured_point::* figure)
{
    std::vector<std::pair<double, double>> growth;
    for (const measured_point& each : points) {
        if (!each.is_climb(1) || each.up == 0 || each.server_ended) continue;
        growth.emplace_back(static_cast<double>(each.up),
                            static_cast<double>(each.*figure) - static_cast<double>(points.front().*figure));
    }
    if (growth.empty()) return std::nullopt;
    if (const auto line = fit(growth)) return line->slope;
    return growth.back().second / growth.back().first;
}

inline void judge_growth(verdict& result, const verdict_limits& limits)
{
    const auto each = result.bytes_per_connection;
    if (!each) {
        const bool asked = limits.budget_bytes != 0;
        result.findings.push_back(
            {!asked, "no connection was up when measured: growth per connection is unknown"});
        return;
    }
    std::string text = "grows by " + format_bytes(std::max(*each, 0.0)) + " per connection";
    const bool good = limits.budget_bytes == 0 || *each <= static_cast<double>(limits.budget_bytes);
    if (limits.budget_bytes != 0)
        text += std::string{good ? ", within" : ", above"} + " the budget of " +
                format_bytes(limits.budget_bytes);
    result.findings.push_back({good, std::move(text)});
}

/// Whether a figure stays below its line at every rung, and how near it comes.
inline void judge_line(verdict& result, const std::vector<measured_point>& points, const std::string& name,
                       std::uint64_t measured_point::* figure, std::uint64_t base, std::uint64_t each)
{
    const measured_point* nearest = nullptr;
    double share = 0;
    for (const measured_point& point : points) {
        if (point.phase.starts_with("descent")) continue; // what it keeps then is judged by itself
        const std::uint64_t line = base + each * std::max(point.rung, point.connected);
        const double here = line == 0 ? 0.0 : static_cast<double>(point.*figure) / static_cast<double>(line);
        if (nearest != nullptr && here <= share) continue;
        nearest = &point;
        share = here;
    }
    if (nearest == nullptr) return;
    char percent[32];
    std::snprintf(percent, sizeof percent, "%.1f %%", 100 * share);
    result.findings.push_back(
        {share <= 1,
         name + (share <= 1 ? " stays below the stated line: at most " : " is above the stated line: ") +
             percent + " of it, " + format_bytes(nearest->*figure) + " at " + format_count(nearest->rung) +
             " connections"});
}

inline void judge_lines(verdict& result, const std::vector<measured_point>& points, const stated_line& line)
{
    if (!line) return;
    judge_line(result, points, "RssAnon", &measured_point::rss_anon_peak, line.base, line.each);
    if (const auto slope = result.bytes_per_connection; slope && *slope > static_cast<double>(line.each))
        result.findings.push_back({false, "grows by " + format_bytes(*slope) + " per connection, where " +
                                              format_bytes(line.each) + " are stated"});
    const bool asked = std::any_of(points.begin(), points.end(),
                                   [](const measured_point& each) { return each.server_kernel_bytes != 0; });
    if (asked)
        judge_line(result, points, "the kernel's part", &measured_point::server_kernel_bytes, 0,
                   line.kernel_each);
}

inline void judge_descent(verdict& result, const measured_point& baseline, const measured_point& top,
                          const measured_point& after, const verdict_limits& limits)
{
    const std::uint64_t climbed = top.rss_anon - std::min(top.rss_anon, baseline.rss_anon);
    const std::uint64_t kept = after.rss_anon - std::min(after.rss_anon, baseline.rss_anon);
    const auto share =
        static_cast<std::uint64_t>(static_cast<double>(climbed) * limits.may_keep_percent / 100);
    const std::uint64_t allowed = std::max(share, limits.may_keep_bytes);
    const bool returned = kept <= allowed;
    result.findings.push_back({returned, (returned ? "after " : "memory stays after ") + after.phase + ": " +
                                             format_bytes(kept) + " more than before, of " +
                                             format_bytes(climbed) + " climbed, where " +
                                             format_bytes(allowed) + " may stay"});

    const bool closed = after.descriptors <= baseline.descriptors;
    result.findings.push_back({closed, closed ? "descriptors are back at " + format_count(after.descriptors)
                                              : "descriptors still open after " + after.phase + ": " +
                                                    format_count(after.descriptors - baseline.descriptors)});

    if (after.threads > baseline.threads) {
        result.findings.push_back({false, "threads grew from " + format_count(baseline.threads) + " to " +
                                              format_count(after.threads) + " and did not end after " +
                                              after.phase});
    }
}

inline void judge_second_climb(verdict& result, const measured_point& first, const measured_point& second,
                               const verdict_limits& limits)
{
    const auto share =
        static_cast<std::uint64_t>(static_cast<double>(first.rss_anon) * limits.second_climb_percent / 100);
    const bool level = second.rss_anon <= first.rss_anon + std::max(share, limits.second_climb_bytes);
    const bool higher = second.rss_anon > first.rss_anon;
    const std::uint64_t apart = higher ? second.rss_anon - first.rss_anon : first.rss_anon - second.rss_anon;
    result.findings.push_back(
        {level, std::string{level ? "the second climb is no higher: " : "the second climb is higher: "} +
                    format_bytes(apart) + (higher ? " above" : " below") + " the first at " +
                    format_count(first.rung)});
}

} // namespace detail

/// Judges a run; the first point must be the baseline.
inline verdict judge(const std::vector<measured_point>& points, const verdict_limits& limits)
{
    verdict result;
    result.bytes_per_connection = detail::growth_per_connection(points, &measured_point::rss_anon);
    result.kernel_bytes_per_connection = detail::growth_per_connection(points, &measured_point::kernel_bytes);

    const measured_point& baseline = points.front();
    const measured_point* first_top = nullptr;
    for (const measured_point& each : points) {
        if (each.server_ended) {
            result.findings.push_back({false, "the server ended at " + format_count(each.up) +
                                                  " connections (" + each.phase + ", rung " +
                                                  format_count(each.rung) + "), RssAnon last seen " +
                                                  format_bytes(each.rss_anon_peak)});
        } else if (!each.shortage.empty()) {
            result.findings.push_back({false, "only " + format_count(each.connected) + " of " +
                                                  format_count(each.rung) +
                                                  " connections could be made: " + each.shortage});
        }
        if (each.is_climb(1) && !each.server_ended) first_top = &each;
    }
    detail::judge_growth(result, limits);
    detail::judge_lines(result, points, limits.line);
    if (first_top == nullptr) return result;

    for (const measured_point& each : points) {
        if (each.server_ended) continue;
        if (each.phase.starts_with("descent"))
            detail::judge_descent(result, baseline, *first_top, each, limits);
        if (each.is_climb(2) && each.rung == first_top->rung)
            detail::judge_second_climb(result, *first_top, each, limits);
    }
    return result;
}

} // namespace ladder

#endif
