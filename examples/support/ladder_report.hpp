// holdfast: what the ladder tells: table, bars for the terminal, lines of JSON, an SVG chart, a page of HTML.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_REPORT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_REPORT_HPP

#include "command_line.hpp"
#include "ladder_verdict.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <istream>
#include <map>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ladder {

/// A whole run, as it is written to and read from a file.
struct run_record {
    std::string title;
    std::string server; ///< "127.0.0.1:7777, process 4711"
    std::string mix;
    std::string note; ///< why rungs were cut; may be empty
    std::uint64_t budget_bytes = 0;
    std::vector<measured_point> points; ///< the first is the baseline
    verdict judgement;
};

/// A point's growth over the baseline.
inline double growth(const run_record& run, const measured_point& point)
{
    return static_cast<double>(point.rss_anon) - static_cast<double>(run.points.front().rss_anon);
}

// --- table
// -----------------------------------------------------------------------------------------------------

/// Rows of words, set in columns: the first to the left, the others to the right.
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

/// The rows of a run's table, the headings first.
inline std::vector<std::vector<std::string>> table_rows(const run_record& run)
{
    std::vector<std::vector<std::string>> rows{{"", "rung", "connected", "still up", "RssAnon", "its peak",
                                                "VmRSS", "per conn.", "threads", "fds", "maps", "kernel TCP*",
                                                "seconds"}};
    for (const measured_point& each : run.points) {
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.1f", each.seconds);
        std::string phase = each.phase;
        if (!each.settled) phase += " (unsettled)";
        if (each.server_ended) phase += " (server ended)";
        rows.push_back({phase, format_count(each.rung), format_count(each.connected), format_count(each.up),
                        format_bytes(each.rss_anon), format_bytes(each.rss_anon_peak),
                        format_bytes(each.vm_rss), per_connection(run, each), format_count(each.threads),
                        format_count(each.descriptors), format_count(each.mappings),
                        format_bytes(each.kernel_bytes), seconds});
    }
    return rows;
}

// --- bars in the terminal
// --------------------------------------------------------------------------------------

/// A bar of eighths of a character: `share` of `width` characters.
inline std::string bar(double share, int width)
{
    static constexpr const char* eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int filled = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * width * 8));
    std::string text;
    for (int i = 0; i < filled / 8; ++i)
        text += "█";
    return text + eighths[filled % 8];
}

/// RssAnon over the baseline at each rung, of one run or several side by side.
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
                         const char* mark) {
        const std::string padding(name_width - run.title.size() + 1, ' ');
        out << label << "  " << run.title << padding << mark << ' ' << bar(growth(run, each) / most, 50)
            << ' ' << format_bytes(growth(run, each)) << (each.server_ended ? ", then the server ended" : "")
            << '\n';
    };
    const auto padded = [](std::string text) {
        return std::string(text.size() < 9 ? 9 - text.size() : 0, ' ') + text;
    };
    for (const std::uint64_t rung : rungs) {
        std::string label = padded(format_count(rung));
        for (const run_record& run : runs)
            for (const measured_point& each : run.points)
                if (each.rung == rung) {
                    row(label, run, each, each.is_climb(1) ? " " : "2");
                    label = padded("");
                }
    }
    std::string label = padded("after");
    for (const run_record& run : runs)
        for (const measured_point& each : run.points)
            if (each.phase.starts_with("descent")) {
                row(label, run, each, each.phase == "descent 1" ? " " : "2");
                label = padded("");
            }
}

// --- verdict
// ---------------------------------------------------------------------------------------------------

inline std::string verdict_headline(const run_record& run)
{
    const verdict& judged = run.judgement;
    std::string text = std::string{judged.pass() ? "pass" : "FAIL"} + ": " + run.title;
    if (judged.bytes_per_connection)
        text += ", " + format_bytes(*judged.bytes_per_connection) + " of RssAnon per connection";
    if (judged.kernel_bytes_per_connection)
        text +=
            ", " + format_bytes(*judged.kernel_bytes_per_connection) + " of kernel TCP buffers (both ends)";
    return text;
}

/// All of a run for the terminal.
inline void print_run(std::ostream& out, const run_record& run)
{
    out << run.title << " (" << run.server << "), clients: " << run.mix << '\n';
    print_columns(out, table_rows(run));
    out << "* TCP buffers of the whole machine: both ends, and everybody else's\n";
    for (const measured_point& each : run.points) {
        if (each.rung == 0 || each.server_ended || each.rss_anon_settled == each.rss_anon_held) continue;
        out << each.phase << ", rung " << format_count(each.rung) << ": RssAnon "
            << format_bytes(each.rss_anon_settled) << " when settled, " << format_bytes(each.rss_anon_held)
            << " at the end of the hold\n";
    }
    out << '\n';
    print_bars(out, {run});
    out << '\n' << verdict_headline(run) << '\n';
    for (const finding& each : run.judgement.findings)
        out << (each.good ? "  ok    " : "  FAIL  ") << each.text << '\n';
    out << std::flush;
}

// --- JSON
// ------------------------------------------------------------------------------------------------------

inline std::string json_string(std::string_view text)
{
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            result += '\\';
            result += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
            result += escape;
        } else {
            result += c;
        }
    }
    return result + '"';
}

/// Writes one flat JSON object on a line.
class json_line {
public:
    explicit json_line(std::ostream& out) : out_{out} {}
    json_line(const json_line&) = delete;
    json_line& operator=(const json_line&) = delete;
    ~json_line() { out_ << (first_ ? "{}" : "}") << '\n'; }

    json_line& add(std::string_view key, std::string_view text) { return raw(key, json_string(text)); }
    json_line& add(std::string_view key, const char* text) { return raw(key, json_string(text)); }
    json_line& add(std::string_view key, bool value) { return raw(key, value ? "true" : "false"); }
    json_line& add(std::string_view key, std::uint64_t value) { return raw(key, std::to_string(value)); }
    json_line& add(std::string_view key, double value)
    {
        char text[40];
        std::snprintf(text, sizeof text, "%.3f", value);
        return raw(key, text);
    }

private:
    json_line& raw(std::string_view key, std::string_view value)
    {
        out_ << (std::exchange(first_, false) ? '{' : ',') << json_string(key) << ':' << value;
        return *this;
    }

    std::ostream& out_;
    bool first_ = true;
};

/// The members of `measured_point` that are numbers, by the names that they have in JSON.
inline constexpr std::pair<const char*, std::uint64_t measured_point::*> point_numbers[] = {
    {"rung", &measured_point::rung},
    {"connected", &measured_point::connected},
    {"up", &measured_point::up},
    {"closed_by_server", &measured_point::closed_by_server},
    {"rss_anon", &measured_point::rss_anon},
    {"rss_anon_settled", &measured_point::rss_anon_settled},
    {"rss_anon_held", &measured_point::rss_anon_held},
    {"rss_anon_peak", &measured_point::rss_anon_peak},
    {"vm_rss", &measured_point::vm_rss},
    {"threads", &measured_point::threads},
    {"descriptors", &measured_point::descriptors},
    {"anonymous_mappings", &measured_point::mappings},
    {"kernel_tcp_bytes", &measured_point::kernel_bytes},
};

/// One line for the run, one for each point, one for each finding, one for the verdict.
inline void write_json(std::ostream& out, const run_record& run)
{
    json_line{out}
        .add("type", "run")
        .add("title", run.title)
        .add("server", run.server)
        .add("mix", run.mix)
        .add("note", run.note)
        .add("budget_bytes", run.budget_bytes);
    for (const measured_point& each : run.points) {
        json_line line{out};
        line.add("type", "point").add("title", run.title).add("phase", each.phase);
        for (const auto& [name, member] : point_numbers)
            line.add(name, each.*member);
        line.add("seconds", each.seconds).add("settled", each.settled).add("server_ended", each.server_ended);
        line.add("shortage", each.shortage);
    }
    for (const finding& each : run.judgement.findings)
        json_line{out}
            .add("type", "finding")
            .add("title", run.title)
            .add("good", each.good)
            .add("text", each.text);
    json_line line{out};
    line.add("type", "verdict").add("title", run.title).add("pass", run.judgement.pass());
    if (const auto& value = run.judgement.bytes_per_connection) line.add("bytes_per_connection", *value);
    if (const auto& value = run.judgement.kernel_bytes_per_connection)
        line.add("kernel_bytes_per_connection", *value);
}

/// Reads one flat JSON object as `write_json` writes them: the texts unescaped, other values as they stand.
/// Nothing where it is anything else.
inline std::optional<std::map<std::string, std::string>> parse_json_line(std::string_view line)
{
    std::map<std::string, std::string> result;
    std::size_t at = 0;
    const auto peek = [&] { return at < line.size() ? line[at] : '\0'; };
    const auto text = [&]() -> std::optional<std::string> {
        std::string value;
        if (peek() != '"') return std::nullopt;
        for (++at; at < line.size() && line[at] != '"'; ++at) {
            if (line[at] != '\\') {
                value += line[at];
            } else if (line.substr(at + 1, 3) == "u00") {
                value +=
                    static_cast<char>(std::strtoul(std::string{line.substr(at + 4, 2)}.c_str(), nullptr, 16));
                at += 5;
            } else if (++at < line.size()) {
                value += line[at];
            }
        }
        if (at >= line.size()) return std::nullopt;
        ++at;
        return value;
    };
    if (peek() != '{') return std::nullopt;
    while (at < line.size() && line[at] != '}') {
        ++at; // '{' or ','
        const auto key = text();
        if (!key || peek() != ':') return std::nullopt;
        ++at;
        if (peek() == '"') {
            const auto value = text();
            if (!value) return std::nullopt;
            result[*key] = *value;
        } else {
            const std::size_t size = std::min(line.find_first_of(",}", at), line.size()) - at;
            result[*key] = line.substr(at, size);
            at += size;
        }
        if (peek() != ',' && peek() != '}') return std::nullopt;
    }
    if (at + 1 != line.size()) return std::nullopt;
    return result;
}

/// Reads the runs that `write_json` wrote. Throws `usage_error`, which names the line that is wrong.
inline std::vector<run_record> read_json(std::istream& in, const std::string& name)
{
    std::vector<run_record> runs;
    std::string text;
    for (int number = 1; std::getline(in, text); ++number) {
        auto fields = parse_json_line(text);
        const std::string type = fields ? (*fields)["type"] : "";
        if (type == "run") {
            runs.emplace_back();
        } else if (runs.empty() || (type != "point" && type != "finding" && type != "verdict")) {
            throw examples::usage_error(name + ":" + std::to_string(number) +
                                        " is no line of the ladder's --json");
        }
        const auto number_of = [&](const char* key) { return std::strtod((*fields)[key].c_str(), nullptr); };
        run_record& run = runs.back();
        if (type == "run") {
            run.title = (*fields)["title"];
            run.server = (*fields)["server"];
            run.mix = (*fields)["mix"];
            run.note = (*fields)["note"];
            run.budget_bytes = static_cast<std::uint64_t>(number_of("budget_bytes"));
        } else if (type == "point") {
            measured_point& point = run.points.emplace_back();
            point.phase = (*fields)["phase"];
            for (const auto& [key, member] : point_numbers)
                point.*member = static_cast<std::uint64_t>(number_of(key));
            point.seconds = number_of("seconds");
            point.settled = (*fields)["settled"] == "true";
            point.server_ended = (*fields)["server_ended"] == "true";
            point.shortage = (*fields)["shortage"];
        } else if (type == "finding") {
            run.judgement.findings.push_back({(*fields)["good"] == "true", (*fields)["text"]});
        } else {
            if (fields->contains("bytes_per_connection"))
                run.judgement.bytes_per_connection = number_of("bytes_per_connection");
            if (fields->contains("kernel_bytes_per_connection"))
                run.judgement.kernel_bytes_per_connection = number_of("kernel_bytes_per_connection");
        }
    }
    for (const run_record& run : runs)
        if (run.points.empty()) throw examples::usage_error(name + " has a run without a measured point");
    if (runs.empty()) throw examples::usage_error(name + " holds no run of the ladder");
    return runs;
}

// --- several runs
// ----------------------------------------------------------------------------------------------

/// The first climbs of several runs side by side.
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
                row.insert(row.end(),
                           {"ended at " + format_count(found->up), format_bytes(growth(run, *found)), "-"});
            } else {
                row.insert(row.end(), {format_bytes(found->rss_anon), format_bytes(growth(run, *found)),
                                       format_count(found->descriptors)});
            }
        }
    };
    add_row("none", [](const measured_point& each) { return each.phase == "baseline"; });
    for (const std::uint64_t rung : rungs)
        add_row(format_count(rung),
                [&](const measured_point& each) { return each.is_climb(1) && each.rung == rung; });
    add_row("after", [](const measured_point& each) { return each.phase == "descent 1"; });
    add_row("second climb",
            [&](const measured_point& each) { return each.is_climb(2) && each.rung == rungs.back(); });
    print_columns(out, rows);
    out << '\n';
    print_bars(out, runs);
    out << '\n';
    for (const run_record& run : runs)
        out << verdict_headline(run) << '\n';
}

/// The share of the first run's growth that the last one has, at the highest rung that both reached; where a
/// server ended there, what it had until then is the growth.
inline std::optional<std::pair<std::uint64_t, double>> share_of_first(const std::vector<run_record>& runs)
{
    std::optional<std::pair<std::uint64_t, double>> share;
    for (const measured_point& first : runs.front().points)
        for (const measured_point& last : runs.back().points)
            if (first.is_climb(1) && last.is_climb(1) && first.rung == last.rung &&
                growth(runs.front(), first) > 0)
                share.emplace(first.rung,
                              std::max(growth(runs.back(), last), 0.0) / growth(runs.front(), first));
    return share;
}

// --- SVG and HTML
// ----------------------------------------------------------------------------------------------

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

/// RssAnon over the baseline against connections: one line a run, the second climb as rings, the budget
/// dotted. Readable on light and dark grounds; stands alone as a file and inside of HTML.
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
    const auto colours = [&](const char* ground, const char* ink, const char* grid,
                             const char* const(&series)[4]) {
        out << ".ladder .ground{fill:" << ground << "}.ladder text{fill:" << ink
            << "}.ladder .budget{stroke:" << ink << "}.ladder .grid{stroke:" << grid << '}';
        for (int i = 0; i < 4; ++i)
            out << ".ladder .s" << i << "{stroke:" << series[i] << "}.ladder .f" << i << "{fill:" << series[i]
                << '}';
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
    text(left, height - 10, "start", "connections still up; rings: the second climb");

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
        double end_y = y(0), end_value = 0;
        std::string fate;
        for (const measured_point& each : run.points) {
            const double at_x = x(static_cast<double>(each.up)), at_y = y(growth(run, each));
            const std::string place = "cx=\"" + number(at_x) + "\" cy=\"" + number(at_y) + "\"";
            const std::string hover =
                "<title>" +
                escape_xml(run.title + ", " + each.phase + ": " + format_count(each.up) + " up, " +
                           format_bytes(growth(run, each))) +
                "</title></circle>\n";
            if (each.is_climb(1)) {
                path += " " + number(at_x) + "," + number(at_y);
                dots += "<circle class=\"f" + series + "\" r=\"4\" " + place + ">" + hover;
                end_y = at_y;
                end_value = growth(run, each);
                if (each.server_ended) fate = ", then ended";
            } else if (each.is_climb(2)) {
                dots += "<circle class=\"ring s" + series + "\" r=\"8\" " + place + ">" + hover;
            }
        }
        out << "<polyline class=\"line s" << series << "\" points=\"" << path << "\"/>\n" << dots;
        labels.push_back({end_y, run.title + ": " + format_bytes(end_value) + fate, "label f" + series});
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
            out << "<li class=\"" << (each.good ? "ok" : "fail") << "\">" << escape_xml(each.text)
                << "</li>\n";
        out << "</ul>\n<div><table>\n";
        const char* cell = "th";
        for (const auto& row : table_rows(run)) {
            out << "<tr>";
            for (const std::string& each : row)
                out << '<' << cell << '>' << escape_xml(each) << "</" << cell << '>';
            out << "</tr>\n";
            cell = "td";
        }
        out << "</table></div>\n<p>* TCP buffers of the whole machine: both ends, and everybody "
               "else's.</p>\n";
    }
    out << "</body></html>\n";
}

} // namespace ladder

#endif
