// holdfast: the rows that the benchmark of serializers writes, from a fixed seed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_JSON_ROWS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_JSON_ROWS_HPP

#include <holdfast/serialize/describe.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace benchmarks {

struct quote {
    std::uint64_t id;
    std::string symbol; // 4 to 6 letters
    double bid, ask;    // two decimals
    std::uint32_t bid_size, ask_size;
    std::uint64_t time; // nanoseconds
    bool open;
};

constexpr auto describe(holdfast::type_tag<quote>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &quote::id, 1), field("symbol", &quote::symbol, 2),
                            field("bid", &quote::bid, 3), field("ask", &quote::ask, 4),
                            field("bid_size", &quote::bid_size, 5), field("ask_size", &quote::ask_size, 6),
                            field("time", &quote::time, 7), field("open", &quote::open, 8));
}

struct log_row {
    std::uint64_t time;
    std::string level;
    std::string message;             // 60 to 300 bytes; one in ten, or each, with escapes or UTF-8
    std::array<std::string, 3> tags; // 3 to 10 letters
};

constexpr auto describe(holdfast::type_tag<log_row>)
{
    using holdfast::field;
    return holdfast::fields(field("time", &log_row::time), field("level", &log_row::level),
                            field("message", &log_row::message), field("tags", &log_row::tags));
}

/// Random numbers that are the same with every standard library.
class seeded {
public:
    std::uint64_t below(std::uint64_t n) { return random_() % n; }

    std::string letters(std::size_t n, char first)
    {
        std::string word;
        for (; n != 0; --n)
            word += static_cast<char>(first + static_cast<char>(below(26)));
        return word;
    }

private:
    std::mt19937_64 random_{42};
};

/// What the doubles of a quote are.
enum class prices {
    two_decimals,
    five_decimals,
    any_digits, // 16 or 17
};

inline std::vector<quote> make_quotes(std::size_t rows, prices as = prices::two_decimals)
{
    seeded random;
    std::vector<quote> quotes;
    quotes.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        quote q{};
        q.id = 1'000'000 + i;
        q.symbol = random.letters(4 + random.below(3), 'A');
        const auto cents = 100 + random.below(100'000);
        q.bid = static_cast<double>(cents) / 100;
        q.ask = static_cast<double>(cents + 1 + random.below(10)) / 100;
        if (as == prices::five_decimals) {
            const auto parts = 100'000 + random.below(100'000'000);
            q.bid = static_cast<double>(parts) / 100'000;
            q.ask = static_cast<double>(parts + 1 + random.below(10'000)) / 100'000;
        } else if (as == prices::any_digits) {
            q.bid = 1 + static_cast<double>(random.below(std::uint64_t{1} << 53)) * 0x1p-43;
            q.ask = q.bid + static_cast<double>(1 + random.below(std::uint64_t{1} << 40)) * 0x1p-43;
        }
        q.bid_size = static_cast<std::uint32_t>(random.below(10'000));
        q.ask_size = static_cast<std::uint32_t>(random.below(10'000));
        q.time = 1'700'000'000'000'000'000 + i * 1'000 + random.below(1'000);
        q.open = random.below(2) == 0;
        quotes.push_back(std::move(q));
    }
    return quotes;
}

inline std::vector<log_row> make_logs(std::size_t rows, bool all_special = false)
{
    constexpr const char* special[] = {"\"", "\\", "\n", "\t", "\u00e9", "\u65e5\u672c", "\U0001f600"};
    constexpr const char* levels[] = {"debug", "info", "warning", "error"};
    seeded random;
    std::vector<log_row> logs;
    logs.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        log_row row{};
        row.time = 1'700'000'000'000 + i;
        row.level = levels[random.below(4)];
        const std::size_t length = 60 + random.below(241);
        const bool plain = random.below(10) != 0 && !all_special;
        while (row.message.size() < length) {
            row.message += random.letters(2 + random.below(8), 'a');
            row.message += !plain && random.below(8) == 0 ? special[random.below(7)] : " ";
        }
        for (auto& tag : row.tags)
            tag = random.letters(3 + random.below(8), 'a');
        logs.push_back(std::move(row));
    }
    return logs;
}

} // namespace benchmarks

#endif
