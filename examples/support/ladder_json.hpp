// holdfast: the ladder's runs as lines of JSON, written and read again.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_JSON_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_JSON_HPP

#include "command_line.hpp"
#include "ladder_report.hpp"
#include "ladder_verdict.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <istream>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ladder {

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
    {"arenas", &measured_point::arenas},
    {"kernel_tcp_bytes", &measured_point::kernel_bytes},
    {"server_kernel_bytes", &measured_point::server_kernel_bytes},
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
        json_line{out}.add("type", "finding").add("title", run.title).add("good", each.good).add("text", each.text);
    json_line line{out};
    line.add("type", "verdict").add("title", run.title).add("pass", run.judgement.pass());
    if (const auto& value = run.judgement.bytes_per_connection) line.add("bytes_per_connection", *value);
    if (const auto& value = run.judgement.kernel_bytes_per_connection) line.add("kernel_bytes_per_connection", *value);
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
                value += static_cast<char>(std::strtoul(std::string{line.substr(at + 4, 2)}.c_str(), nullptr, 16));
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
            throw examples::usage_error(name + ":" + std::to_string(number) + " is no line of the ladder's --json");
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

} // namespace ladder

#endif
