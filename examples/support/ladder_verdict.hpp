// holdfast: the ladder's verdict: when a rung has settled, the figures, the fits, the findings.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_VERDICT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_VERDICT_HPP

#include "ladder_plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ladder {

/// Detects when a rung has settled: all clients are connected and the burst of data to new connections is over. That
/// is: during one window no client has connected or received its first byte, and the bytes received are less than a
/// share of the climb's busiest window. Continuous traffic that is small compared with the burst does so not count. A
/// rung that never settles ends at its deadline.
class settle_detector {
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// A window is quiet where it has less than 1/`share` of the bytes of the busiest one.
    explicit settle_detector(std::chrono::milliseconds window, std::uint64_t share = 10)
        : window_{window}, share_{share}
    {
    }

    /// Begins a rung: drops the samples, but keeps the busiest window.
    void begin_rung() { samples_.clear(); }

    /// Adds a sample and returns whether the rung has settled. `bytes`: the total received by clients that read at
    /// once. `events`: a number that changes with every connection and every first byte. `pending`: whether clients
    /// are still to be connected.
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

/// The figures of one point of the run. Sizes are in bytes.
struct measured_point {
    std::string phase;           ///< "baseline", "climb 1", "descent 1", "climb 2" and so on
    std::uint64_t rung = 0;      ///< connections that the ladder wanted
    std::uint64_t connected = 0; ///< connections that were made, without the earlier ones of aborting clients
    std::uint64_t up = 0;        ///< connections that were still up when measured
    std::uint64_t closed_by_server = 0;
    std::uint64_t rss_anon = 0;         ///< the higher of the two readings
    std::uint64_t rss_anon_settled = 0; ///< when the rung had settled
    std::uint64_t rss_anon_held = 0;    ///< at the end of the hold
    std::uint64_t rss_anon_peak = 0;    ///< the highest since the previous point
    std::uint64_t vm_rss = 0;
    std::uint64_t threads = 0;
    std::uint64_t descriptors = 0;
    std::uint64_t mappings = 0;            ///< anonymous mappings
    std::uint64_t arenas = 0;              ///< mappings of 64 MiB that are arenas of glibc's malloc
    std::uint64_t kernel_bytes = 0;        ///< TCP buffers of the whole machine, both ends
    std::uint64_t server_kernel_bytes = 0; ///< of the server's end alone; 0 where they cannot be read
    double seconds = 0;                    ///< since the ladder began
    bool settled = true;                   ///< false: the deadline came first
    bool server_ended = false;             ///< true: the figures are the last that were read
    std::string shortage;                  ///< why fewer were connected than wanted; empty: all were

    /// The number of the climb or descent that this point belongs to; 0: the baseline.
    int number() const
    {
        const std::size_t space = phase.find(' ');
        return space == phase.npos ? 0 : std::atoi(phase.c_str() + space);
    }
    bool is_climb() const { return phase.starts_with("climb"); }
    bool is_climb(int which) const { return is_climb() && number() == which; }
};

/// A straight line y = intercept + slope * x.
struct fitted_line {
    double intercept = 0;
    double slope = 0;
};

/// Fits the line of least squares. Returns nothing where all points have the same x.
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

/// The limits that a run must keep.
struct verdict_limits {
    std::uint64_t budget_bytes = 0; ///< per connection; 0: not judged
    stated_line line{};             ///< the stated bound of the figures of every rung
    /// Part of the first climb's growth that may stay after a descent: allocators keep some free memory.
    double may_keep_percent = 50;
    /// Bytes that may stay in any case.
    std::uint64_t may_keep_bytes = 8 * 1024 * 1024;
    /// How far the tops of two climbs may be apart to agree: the larger of the two counts. Also the most by which the
    /// tops may grow from climb to climb.
    double climbs_agree_percent = 2;
    std::uint64_t climbs_agree_bytes = 1024 * 1024;
};

/// One result of the verdict.
struct finding {
    bool good = true;
    std::string text;
};

/// The results of a run.
struct verdict {
    std::vector<finding> findings;
    std::optional<double> bytes_per_connection; ///< RssAnon: the slope over the rungs, or the quotient at the only one
    std::optional<double> kernel_bytes_per_connection; ///< both ends: about twice the server's own

    bool pass() const
    {
        return std::all_of(findings.begin(), findings.end(), [](const finding& each) { return each.good; });
    }
};

/// The highest rung of each climb, as long as every climb reaches that of the first one.
inline std::vector<const measured_point*> climb_tops(const std::vector<measured_point>& points)
{
    std::vector<const measured_point*> tops;
    for (const measured_point& each : points) {
        if (!each.is_climb() || each.server_ended) continue;
        if (each.number() == 1) {
            tops.assign(1, &each);
        } else if (!tops.empty() && each.rung == tops.front()->rung &&
                   each.number() == static_cast<int>(tops.size()) + 1) {
            tops.push_back(&each);
        }
    }
    return tops;
}

inline double rss_of(const measured_point& point) { return static_cast<double>(point.rss_anon); }

/// How far the tops of two climbs may be apart to agree.
inline double agreement_bytes(const measured_point& first_top, const verdict_limits& limits)
{
    return std::max(rss_of(first_top) * limits.climbs_agree_percent / 100,
                    static_cast<double>(limits.climbs_agree_bytes));
}

/// Whether the last two climbs agree: memory has reached its plateau.
inline bool climbs_agree(const std::vector<const measured_point*>& tops, const verdict_limits& limits)
{
    if (tops.size() < 2) return false;
    const double apart = std::abs(rss_of(*tops[tops.size() - 1]) - rss_of(*tops[tops.size() - 2]));
    return apart <= agreement_bytes(*tops.front(), limits);
}

/// The Theil–Sen estimate of how many bytes the tops grow from climb to climb: the median of the slopes of all pairs,
/// which one climb that stands out does not change much. Precondition: at least two tops.
inline double theil_sen_slope(const std::vector<const measured_point*>& tops)
{
    std::vector<double> slopes;
    for (std::size_t i = 0; i != tops.size(); ++i)
        for (std::size_t j = i + 1; j != tops.size(); ++j)
            slopes.push_back((rss_of(*tops[j]) - rss_of(*tops[i])) / static_cast<double>(j - i));
    std::sort(slopes.begin(), slopes.end());
    const std::size_t middle = slopes.size() / 2;
    return slopes.size() % 2 != 0 ? slopes[middle] : (slopes[middle - 1] + slopes[middle]) / 2;
}

namespace detail {

/// Returns how a figure grows with the connections of the first climb: the slope over several rungs, or the quotient at
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
        result.findings.push_back({!asked, "no connection was up when measured: the growth per connection is unknown"});
        return;
    }
    std::string text = "grows by " + format_bytes(std::max(*each, 0.0)) + " per connection";
    const bool good = limits.budget_bytes == 0 || *each <= static_cast<double>(limits.budget_bytes);
    if (limits.budget_bytes != 0)
        text += std::string{good ? ", within" : ", above"} + " the budget of " + format_bytes(limits.budget_bytes);
    result.findings.push_back({good, std::move(text)});
}

/// Checks that a figure stays below its bound at every rung, and says how near it comes.
inline void judge_line(verdict& result, const std::vector<measured_point>& points, const std::string& name,
                       std::uint64_t measured_point::* figure, std::uint64_t base, std::uint64_t each)
{
    const measured_point* nearest = nullptr;
    double share = 0;
    for (const measured_point& point : points) {
        if (point.phase.starts_with("descent")) continue; // see judge_descent
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
        {share <= 1, name + (share <= 1 ? " stays below the stated line: at most " : " is above the stated line: ") +
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
        judge_line(result, points, "the kernel's part", &measured_point::server_kernel_bytes, 0, line.kernel_each);
}

inline void judge_descent(verdict& result, const measured_point& baseline, const measured_point& top,
                          const measured_point& after, const verdict_limits& limits)
{
    const std::uint64_t climbed = top.rss_anon - std::min(top.rss_anon, baseline.rss_anon);
    const std::uint64_t kept = after.rss_anon - std::min(after.rss_anon, baseline.rss_anon);
    const auto share = static_cast<std::uint64_t>(static_cast<double>(climbed) * limits.may_keep_percent / 100);
    const std::uint64_t allowed = std::max(share, limits.may_keep_bytes);
    const bool returned = kept <= allowed;
    result.findings.push_back({returned, (returned ? "after " : "memory stays after ") + after.phase + ": " +
                                             format_bytes(kept) + " more than before, of " + format_bytes(climbed) +
                                             " climbed, where " + format_bytes(allowed) + " may stay"});

    const bool closed = after.descriptors <= baseline.descriptors;
    result.findings.push_back({closed, closed ? "descriptors are back at " + format_count(after.descriptors)
                                              : "descriptors still open after " + after.phase + ": " +
                                                    format_count(after.descriptors - baseline.descriptors)});

    if (after.threads > baseline.threads) {
        result.findings.push_back({false, "threads grew from " + format_count(baseline.threads) + " to " +
                                              format_count(after.threads) + " and did not end after " + after.phase});
    }
}

inline void judge_climbs(verdict& result, const std::vector<const measured_point*>& tops, const verdict_limits& limits)
{
    const std::string place = " at " + format_count(tops.front()->rung);
    if (climbs_agree(tops, limits)) {
        const std::size_t n = tops.size();
        const double apart = std::abs(rss_of(*tops[n - 1]) - rss_of(*tops[n - 2]));
        result.findings.push_back({true, "plateau" + place + ": climbs " + std::to_string(n - 1) + " and " +
                                             std::to_string(n) + " are " + format_bytes(apart) + " apart"});
        return;
    }
    const double slope = theil_sen_slope(tops);
    const bool level = slope <= agreement_bytes(*tops.front(), limits);
    std::string text = level ? "plateau" + place + ": no trend (" : "grows by ";
    text +=
        format_bytes(slope) + " a climb" + (level ? ")" : place) + " over " + std::to_string(tops.size()) + " climbs:";
    for (const measured_point* each : tops)
        text += ' ' + format_bytes(rss_of(*each)) + (each == tops.back() ? "" : ",");
    result.findings.push_back({level, std::move(text)});
}

/// Names the arenas of glibc's malloc where they may be why memory stays or grows.
inline void advise_on_arenas(verdict& result, const std::vector<measured_point>& points)
{
    std::uint64_t arenas = 0, threads = 0;
    for (const measured_point& each : points) {
        arenas = std::max(arenas, each.arenas);
        threads = std::max(threads, each.threads);
    }
    if (arenas == 0 || result.pass()) return;
    result.findings.push_back(
        {true, format_count(arenas) + " mappings of 64 MiB are arenas of glibc's malloc (" + format_count(threads) +
                   " threads): each keeps its own free memory. Try MALLOC_ARENA_MAX=2 in the server's environment, and "
                   "malloc_trim(0) after a burst, before you look for a leak"});
}

} // namespace detail

/// Judges a run. The first point must be the baseline.
inline verdict judge(const std::vector<measured_point>& points, const verdict_limits& limits)
{
    verdict result;
    result.bytes_per_connection = detail::growth_per_connection(points, &measured_point::rss_anon);
    result.kernel_bytes_per_connection = detail::growth_per_connection(points, &measured_point::kernel_bytes);

    const measured_point& baseline = points.front();
    const measured_point* first_top = nullptr;
    for (const measured_point& each : points) {
        if (each.server_ended) {
            result.findings.push_back({false, "the server ended at " + format_count(each.up) + " connections (" +
                                                  each.phase + ", rung " + format_count(each.rung) +
                                                  "), RssAnon last seen " + format_bytes(each.rss_anon_peak)});
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
        if (each.phase.starts_with("descent")) detail::judge_descent(result, baseline, *first_top, each, limits);
    }
    if (const auto tops = climb_tops(points); tops.size() > 1) detail::judge_climbs(result, tops, limits);
    detail::advise_on_arenas(result, points);
    return result;
}

} // namespace ladder

#endif
