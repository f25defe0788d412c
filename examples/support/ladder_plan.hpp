// holdfast: the ladder's plan: its options, the mix of clients, the rungs that the machine allows.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_PLAN_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_PLAN_HPP

#include "command_line.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ladder {

/// How a connected client behaves.
enum class client_kind : std::uint8_t {
    idle,        ///< reads everything at once, then stays
    slow,        ///< reads at `settings::slow_rate`
    silent,      ///< never reads and never writes
    half_closed, ///< reads all, then shuts down its sending direction and stays
    aborting,    ///< reads a little, resets and connects again; at last it stays as an idle one
};
inline constexpr std::size_t client_kinds = 5;
inline constexpr std::array<std::string_view, client_kinds> kind_names{"idle", "slow", "silent", "half-closed",
                                                                       "aborting"};

/// Calls `f` with each part of a list such as "a,b,c".
template <class F>
void for_each_part(std::string_view list, F&& f)
{
    for (;;) {
        const std::size_t comma = list.find(',');
        f(list.substr(0, comma));
        if (comma == list.npos) return;
        list.remove_prefix(comma + 1);
    }
}

/// Parses a whole number that fills the text. Throws the usage_error of option `--name`.
inline std::uint32_t parse_count(std::string_view text, std::string_view name)
{
    std::uint32_t number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || rest != text.data() + text.size())
        examples::command_line::fail(name, "has '" + std::string{text} + "' where a whole number should be");
    return number;
}

/// The shares of the kinds, spread evenly: any run of clients has about the same mix.
class client_mix {
public:
    /// Reads "idle=70,slow=30": shares of their sum, 10,000 at most. Throws `usage_error`.
    static client_mix parse(std::string_view text)
    {
        std::array<std::uint32_t, client_kinds> shares{};
        for_each_part(text, [&](std::string_view part) {
            const std::size_t equals = part.find('=');
            const auto name = std::find(kind_names.begin(), kind_names.end(), part.substr(0, equals));
            if (name == kind_names.end() || equals == part.npos) {
                examples::command_line::fail("mix", "has '" + std::string{part} +
                                                        "' where KIND=SHARE should be; the kinds are idle, slow, "
                                                        "silent, half-closed and aborting");
            }
            shares[static_cast<std::size_t>(name - kind_names.begin())] = parse_count(part.substr(equals + 1), "mix");
        });
        std::uint64_t sum = 0;
        for (const std::uint32_t share : shares)
            sum += share;
        if (sum == 0 || sum > 10'000) examples::command_line::fail("mix", "needs shares with a sum from 1 to 10000");

        // In each step every kind gets its share as credit; the one with the most credit gets the client.
        client_mix mix;
        std::array<std::int64_t, client_kinds> credit{};
        for (std::uint64_t i = 0; i < sum; ++i) {
            for (std::size_t kind = 0; kind < client_kinds; ++kind)
                credit[kind] += shares[kind];
            const auto richest = std::max_element(credit.begin(), credit.end());
            *richest -= static_cast<std::int64_t>(sum);
            mix.pattern_.push_back(static_cast<client_kind>(richest - credit.begin()));
        }
        return mix;
    }

    /// The kind of the client with this number.
    client_kind operator()(std::uint32_t number) const { return pattern_[number % pattern_.size()]; }

private:
    std::vector<client_kind> pattern_;
};

/// Resolves \n, \r, \t, \0 and \\ in an option's text.
inline std::string unescape(std::string_view text, std::string_view option)
{
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            result += text[i];
            continue;
        }
        constexpr std::string_view codes = "nrt0\\", meanings{"\n\r\t\0\\", 5};
        const std::size_t code = i + 1 < text.size() ? codes.find(text[i + 1]) : codes.npos;
        if (code == codes.npos) examples::command_line::fail(option, R"(knows the escapes \n, \r, \t, \0 and \\ only)");
        result += meanings[code];
        ++i;
    }
    return result;
}

/// The reply that clients send for each `pattern` that they receive.
struct answer_rule {
    std::string pattern; ///< empty: nothing is answered
    std::string reply;

    /// Reads "PATTERN=REPLY", cut at the first '='; empty text: no answers. Throws `usage_error`.
    static answer_rule parse(std::string_view text)
    {
        if (text.empty()) return {};
        const std::size_t equals = text.find('=');
        if (equals == 0 || equals == text.npos) examples::command_line::fail("answer", "takes PATTERN=REPLY");
        return {unescape(text.substr(0, equals), "answer"), unescape(text.substr(equals + 1), "answer")};
    }
};

/// Counts the occurrences of a pattern, overlapping ones included, in a stream of pieces (Knuth, Morris, Pratt). One
/// matcher serves all clients: the state of a client is the length of the prefix that it has matched.
class pattern_matcher {
public:
    explicit pattern_matcher(std::string pattern) : pattern_{std::move(pattern)}, fallback_(pattern_.size() + 1)
    {
        for (std::size_t i = 1, matched = 0; i < pattern_.size(); ++i) {
            while (matched > 0 && pattern_[i] != pattern_[matched])
                matched = fallback_[matched];
            if (pattern_[i] == pattern_[matched]) ++matched;
            fallback_[i + 1] = static_cast<std::uint16_t>(matched);
        }
    }

    bool empty() const { return pattern_.empty(); }

    /// Counts the occurrences that end in this piece. `state` is 0 before the first piece.
    std::size_t count(std::string_view piece, std::uint16_t& state) const
    {
        // Byte by byte only at the edges, where an occurrence may straddle two pieces; memmem in between.
        const std::size_t edge = std::min(pattern_.size() - 1, piece.size());
        std::size_t found = step(piece.substr(0, edge), state);
        if (edge == piece.size()) return found;
        const char* const end = piece.data() + piece.size();
        for (const char* at = piece.data();; ++at, ++found) {
            const auto left = static_cast<std::size_t>(end - at);
            at = static_cast<const char*>(::memmem(at, left, pattern_.data(), pattern_.size()));
            if (at == nullptr) break;
        }
        state = 0;
        step(piece.substr(piece.size() - edge), state);
        return found;
    }

private:
    std::size_t step(std::string_view bytes, std::uint16_t& state) const
    {
        std::size_t found = 0, matched = state;
        for (const char byte : bytes) {
            while (matched > 0 && (matched == pattern_.size() || byte != pattern_[matched]))
                matched = fallback_[matched];
            if (byte == pattern_[matched]) ++matched;
            if (matched == pattern_.size()) ++found;
        }
        state = static_cast<std::uint16_t>(matched);
        return found;
    }

    std::string pattern_;
    std::vector<std::uint16_t> fallback_;
};

/// Parses "500,1000,2000": growing counts from 1 to a million. Throws `usage_error`.
inline std::vector<std::uint32_t> parse_rungs(std::string_view text)
{
    std::vector<std::uint32_t> rungs;
    for_each_part(text, [&](std::string_view part) {
        const std::uint32_t rung = parse_count(part, "rungs");
        if (rung == 0 || rung > 1'000'000 || (!rungs.empty() && rung <= rungs.back()))
            examples::command_line::fail("rungs", "needs growing numbers of connections, from 1 to 1000000");
        rungs.push_back(rung);
    });
    return rungs;
}

/// The memory bound that a server states: bytes without connections, and for each connection in the process and in the
/// kernel.
struct stated_line {
    std::uint64_t base = 0, each = 0, kernel_each = 0; ///< bytes; all 0: no bound is stated

    /// Reads "16777216+20492+211968", as the examples print it; empty text: nothing. Throws `usage_error`.
    static stated_line parse(std::string_view text)
    {
        if (text.empty()) return {};
        std::array<std::uint64_t, 3> numbers{};
        for (std::size_t i = 0; i != numbers.size(); ++i) {
            const std::size_t plus = i + 1 == numbers.size() ? text.npos : text.find('+');
            const std::string_view part = text.substr(0, plus);
            const auto [rest, error] = std::from_chars(part.data(), part.data() + part.size(), numbers[i]);
            if (error != std::errc{} || rest != part.data() + part.size() || numbers[i] > most)
                examples::command_line::fail("plan", "takes BASE+EACH+KERNEL in bytes, such as 16777216+20492+211968");
            text.remove_prefix(plus == text.npos ? text.size() : plus + 1);
        }
        return {numbers[0], numbers[1], numbers[2]};
    }

    explicit operator bool() const { return base + each + kernel_each != 0; }

    static constexpr std::uint64_t most = std::uint64_t{1} << 40; ///< so that no sum passes 64 bits
};

/// The limits of the machine.
struct machine_limits {
    std::uint64_t descriptors_per_process = 0;     ///< of the ladder
    std::uint64_t server_descriptors = UINT64_MAX; ///< that the server can still open
    std::uint64_t memory_available = 0;
};

/// Descriptors of a load process beside its connections: epoll, the channel to the ladder, standard streams.
inline constexpr std::uint64_t own_descriptors = 32;
/// With more clients than this the loop of a load process gets slow.
inline constexpr std::uint32_t clients_per_process = 18'000;
inline constexpr std::uint32_t most_processes = 64;
/// The least kernel memory of both ends of a connection.
inline constexpr std::uint64_t kernel_bytes_per_connection = 10 * 1024;

/// The rungs of a climb and the number of load processes.
struct climb_plan {
    std::vector<std::uint32_t> rungs;
    std::uint32_t processes = 1;
    std::string shrunk_because; ///< empty: all rungs are possible
};

/// Cuts the rungs to what is possible. `processes` 0: as many as needed. Throws `usage_error` where not even one
/// connection is possible.
inline climb_plan make_plan(const std::vector<std::uint32_t>& rungs, std::uint32_t processes,
                            const machine_limits& limits)
{
    const std::uint64_t own =
        limits.descriptors_per_process - std::min(limits.descriptors_per_process, own_descriptors);
    const std::uint64_t per_process = std::min<std::uint64_t>(own, clients_per_process);
    const std::uint64_t most = processes == 0 ? most_processes : processes;
    // A quarter of the memory is left for the server and other programs.
    const std::uint64_t by_memory = limits.memory_available / 4 * 3 / kernel_bytes_per_connection;

    climb_plan plan;
    std::uint64_t possible = UINT64_MAX;
    const auto bound = [&](std::uint64_t limit, const char* why) {
        if (limit >= possible) return;
        possible = limit;
        if (possible < rungs.back()) plan.shrunk_because = why;
    };
    bound(per_process * most, processes == 0 ? "the ladder may not open more descriptors (raise its ulimit -n)"
                                             : "its processes may not hold more (raise --processes or ulimit -n)");
    bound(limits.server_descriptors, "the server may not open more descriptors (raise its ulimit -n)");
    bound(by_memory, "the machine has no memory for more sockets");
    if (possible == 0) throw examples::usage_error("not one connection is possible: " + plan.shrunk_because);

    for (const std::uint32_t rung : rungs)
        if (rung <= possible) plan.rungs.push_back(rung);
    if (plan.rungs.size() < rungs.size()) {
        const auto top = static_cast<std::uint32_t>(possible);
        const std::uint32_t round_top = top >= 1000 ? top / 100 * 100 : top;
        if (plan.rungs.empty() || round_top > plan.rungs.back()) plan.rungs.push_back(round_top);
    }
    const auto needed = static_cast<std::uint32_t>((plan.rungs.back() + per_process - 1) / per_process);
    plan.processes = processes == 0 ? needed : processes;
    return plan;
}

/// The rungs of the second climb and of those after it.
enum class later_rungs : std::uint8_t { top, all };

/// The options of a run.
struct settings {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::int32_t pid = 0;
    std::string pid_file; ///< names the server's process, and the next one where the server is restarted
    std::string title;
    std::vector<std::uint32_t> rungs{500, 1000, 2000, 5000, 10'000};
    client_mix mix = client_mix::parse("idle=70,slow=10,silent=10,half-closed=5,aborting=5");
    std::string mix_text;
    std::uint64_t slow_rate = 64 * 1024;      ///< bytes a second
    std::uint64_t receive_buffer = 16 * 1024; ///< SO_RCVBUF of slow and silent clients
    std::chrono::milliseconds hold{1000};     ///< between a rung's two readings
    std::chrono::milliseconds settle{1000};
    std::chrono::milliseconds rung_deadline{20'000};
    std::string hello; ///< sent by every client but the silent ones once connected
    answer_rule answer;
    std::uint64_t budget_bytes = 0; ///< per connection; 0: not judged
    stated_line line{};
    double may_keep_percent = 50;      ///< of the climb's growth, after the descent: allocators keep some
    std::uint32_t connect_rate = 5000; ///< a second
    std::uint32_t aborts = 3;          ///< how often an aborting client resets before it stays
    std::uint32_t climbs = 5;          ///< at most; fewer where two in a row agree
    later_rungs later_climbs = later_rungs::all;
    std::uint32_t processes = 0;
    std::vector<std::string> source_addresses;
    std::string websocket_path; ///< the clients open a WebSocket there; empty: they do not
    std::string events_path;    ///< the clients read server-sent events there; empty: they do not
    bool tls = false;
    std::string authorities; ///< of the server's certificate, a PEM file; empty: it is not verified
};

} // namespace ladder

#endif
