// holdfast: the ladder's chart as SVG, and the page of HTML around it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_CHART_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_CHART_HPP

#include "ladder_report.hpp"
#include "ladder_verdict.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace ladder {

inline std::string escape_xml(std::string_view text)
{
    std::string result;
    for (const char c : text) {
        switch (c) {
        case '&':
            result += "&amp;";
            break;
        case '<':
            result += "&lt;";
            break;
        case '>':
            result += "&gt;";
            break;
        case '"':
            result += "&quot;";
            break;
        default:
            result += c;
        }
    }
    return result;
}

/// The distance of the ticks of an axis: 1, 2 or 5 times a power of the base (10 for counts, 2 for bytes) so
/// that there are about `ticks`.
inline double tick_distance(double range, int ticks, bool bytes)
{
    const double rough = std::max(range / ticks, 1.0);
    if (bytes) return std::exp2(std::ceil(std::log2(rough)));
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    for (const double step : {1.0, 2.0, 5.0})
        if (rough <= step * power) return step * power;
    return 10 * power;
}

/// Draws RssAnon over the baseline against connections: the first climb of each run as a line, later climbs as rings,
/// the budget dotted. Readable on light and dark backgrounds. Valid as a file and inside of HTML.
inline void write_svg(std::ostream& out, const std::vector<run_record>& runs)
{
    constexpr double width = 860, height = 420, left = 76, right = 210, top = 46, bottom = 52;
    double most_x = 1, most_y = 1024 * 1024;
    for (const run_record& run : runs)
        for (const measured_point& each : run.points) {
            most_x = std::max(most_x, static_cast<double>(each.up));
            most_y = std::max(most_y, growth(run, each));
        }
    const double step_y = tick_distance(most_y, 5, true), step_x = tick_distance(most_x, 6, false);
    most_y = std::ceil(most_y / step_y) * step_y;
    const auto x = [&](double value) { return left + value / most_x * (width - left - right); };
    const auto y = [&](double value) {
        return height - bottom - std::max(value, 0.0) / most_y * (height - top - bottom);
    };
    const auto number = [](double value) {
        char text[32];
        std::snprintf(text, sizeof text, "%.1f", value);
        return std::string{text};
    };
    const auto text = [&](double at_x, double at_y, const char* anchor, std::string_view words,
                          std::string_view css = "") {
        out << "<text x=\"" << number(at_x) << "\" y=\"" << number(at_y) << "\" text-anchor=\"" << anchor
            << "\" class=\"" << css << "\">" << escape_xml(words) << "</text>\n";
    };

    out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 420\" role=\"img\" class=\"ladder\" "
           "aria-label=\"RssAnon over the baseline against connections\">\n"
           "<style>\n.ladder{font:13px system-ui,sans-serif}.ladder .title{font-size:15px;font-weight:600}"
           ".ladder .line{fill:none;stroke-width:2.5}.ladder .ring{fill:none;stroke-width:2}"
           ".ladder .budget{stroke-dasharray:2 5}.ladder .label{font-weight:600}\n";
    // Every colour once for each ground, in the plainest CSS: not every viewer of SVG knows variables.
    const auto colours = [&](const char* ground, const char* ink, const char* grid, const char* const(&series)[4]) {
        out << ".ladder .ground{fill:" << ground << "}.ladder text{fill:" << ink << "}.ladder .budget{stroke:" << ink
            << "}.ladder .grid{stroke:" << grid << '}';
        for (int i = 0; i < 4; ++i)
            out << ".ladder .s" << i << "{stroke:" << series[i] << "}.ladder .f" << i << "{fill:" << series[i] << '}';
        out << '\n';
    };
    colours("#ffffff", "#1f2328", "#d8dee4", {"#c2410c", "#0b6bcb", "#15803d", "#7e22ce"});
    out << "@media(prefers-color-scheme:dark){\n";
    colours("#0d1117", "#e6edf3", "#30363d", {"#fb923c", "#60a5fa", "#4ade80", "#c084fc"});
    out << "}\n</style>\n<rect class=\"ground\" width=\"860\" height=\"420\"/>\n";
    text(left, 24, "start", "RssAnon over the baseline, against connections", "title");
    for (double value = 0; value <= most_y * 1.001; value += step_y) {
        out << "<line class=\"grid\" x1=\"" << left << "\" x2=\"" << number(width - right) << "\" y1=\""
            << number(y(value)) << "\" y2=\"" << number(y(value)) << "\"/>\n";
        text(left - 8, y(value) + 4, "end", value == 0 ? "0" : format_bytes(value));
    }
    for (double value = 0; value <= most_x * 1.001; value += step_x)
        text(x(value), height - bottom + 20, "middle", format_count(static_cast<std::uint64_t>(value)));
    text(left, height - 10, "start", "connections still up; rings: later climbs");

    struct end_label {
        double y;
        std::string words;
        std::string css;
    };
    std::vector<end_label> labels;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        const run_record& run = runs[i];
        const std::string series = std::to_string(i % 4);
        std::string path = number(x(0)) + "," + number(y(0)), dots;
        double end_x = x(0), end_y = y(0), end_value = 0;
        std::string fate;
        for (const measured_point& each : run.points) {
            const double at_x = x(static_cast<double>(each.up)), at_y = y(growth(run, each));
            const std::string place = "cx=\"" + number(at_x) + "\" cy=\"" + number(at_y) + "\"";
            const std::string hover = "<title>" +
                                      escape_xml(run.title + ", " + each.phase + ": " + format_count(each.up) +
                                                 " up, " + format_bytes(growth(run, each))) +
                                      "</title></circle>\n";
            if (each.is_climb(1)) {
                path += " " + number(at_x) + "," + number(at_y);
                dots += "<circle class=\"f" + series + "\" r=\"4\" " + place + ">" + hover;
                end_x = at_x;
                end_y = at_y;
                end_value = growth(run, each);
                if (each.server_ended) fate = ", then ended";
            } else if (each.is_climb()) {
                dots += "<circle class=\"ring s" + series + "\" r=\"8\" " + place + ">" + hover;
            }
        }
        out << "<polyline class=\"line s" << series << "\" points=\"" << path << "\"/>\n" << dots;
        // A line that ends early has room for its label beside it; the others' stand on the right.
        const std::string words = run.title + ": " + format_bytes(end_value) + fate;
        if (end_x < left + (width - left - right) / 2 && end_y < height - bottom - 30) {
            text(end_x + 10, end_y + 4, "start", words, "label f" + series);
        } else {
            labels.push_back({end_y, words, "label f" + series});
        }
    }
    const auto with_budget =
        std::find_if(runs.begin(), runs.end(), [](const run_record& run) { return run.budget_bytes != 0; });
    if (with_budget != runs.end()) {
        // As far as the line stays inside of the chart.
        const double slope = static_cast<double>(with_budget->budget_bytes);
        const double end_x = std::min(most_x, most_y / slope);
        out << "<line class=\"budget\" x1=\"" << number(x(0)) << "\" y1=\"" << number(y(0)) << "\" x2=\""
            << number(x(end_x)) << "\" y2=\"" << number(y(end_x * slope)) << "\"/>\n";
        labels.push_back({y(end_x * slope), "budget: " + format_bytes(slope) + " each", ""});
    }
    // From above, each label at least a line below the one before.
    std::sort(labels.begin(), labels.end(), [](const end_label& a, const end_label& b) { return a.y < b.y; });
    double lowest = top - 16;
    for (const end_label& each : labels) {
        lowest = std::max(each.y, lowest + 17);
        text(width - right + 14, lowest + 4, "start", each.words, each.css);
    }
    out << "</svg>\n";
}

/// A page that needs nothing else: the chart, and each run's verdict and table.
inline void write_html(std::ostream& out, const std::vector<run_record>& runs)
{
    std::string title = "ladder";
    for (const run_record& run : runs)
        title += (&run == &runs.front() ? ": " : " and ") + run.title;
    out << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
           "content=\"width=device-width\"><title>"
        << escape_xml(title)
        << "</title>\n<style>\n"
           ":root{color-scheme:light dark}body{font:15px/1.5 "
           "system-ui,sans-serif;max-width:72rem;margin:2rem auto;"
           "padding:0 "
           "1rem;color:#1f2328;background:#fff}table{border-collapse:collapse;font-variant-numeric:tabular-"
           "nums}"
           "div{overflow-x:auto}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #d8dee4}"
           "td:first-child,th:first-child{text-align:left}.ok::before{content:\"✓ \";color:#15803d}"
           ".fail::before{content:\"✗ \";color:#c2410c}li{list-style:none}\n"
           "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#"
           "30363d}}\n"
           "</style></head><body>\n<h1>"
        << escape_xml(title) << "</h1>\n";
    write_svg(out, runs);
    for (const run_record& run : runs) {
        out << "<h2>" << escape_xml(verdict_headline(run)) << "</h2>\n<p>" << escape_xml(run.server)
            << "; clients: " << escape_xml(run.mix) << (run.note.empty() ? "" : "; ") << escape_xml(run.note)
            << "</p>\n<ul>\n";
        for (const finding& each : run.judgement.findings)
            out << "<li class=\"" << (each.good ? "ok" : "fail") << "\">" << escape_xml(each.text) << "</li>\n";
        out << "</ul>\n<div><table>\n";
        const char* cell = "th";
        for (const auto& row : table_rows(run)) {
            out << "<tr>";
            for (const std::string& each : row)
                out << '<' << cell << '>' << escape_xml(each) << "</" << cell << '>';
            out << "</tr>\n";
            cell = "td";
        }
        out << "</table></div>\n<p>* TCP buffers of the whole machine: both ends, and those "
               "of other programs.</p>\n";
    }
    out << "</body></html>\n";
}

} // namespace ladder

#endif
