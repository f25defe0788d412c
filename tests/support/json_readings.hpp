// holdfast: values that are written as something else than they are, and trees, made of choices.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_JSON_READINGS_HPP
#define HOLDFAST_TESTS_SUPPORT_JSON_READINGS_HPP

#include "json_text.hpp"
#include "json_values.hpp"

#include <holdfast/serialize/values.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace tests {

/// A tree.
struct branch {
    std::string name;
    std::vector<branch> branches;
    std::unique_ptr<branch> next;

    [[nodiscard]] std::size_t levels() const
    {
        std::size_t most = next ? next->levels() : 0;
        for (const branch& each : branches)
            most = std::max(most, each.levels());
        return most + 1;
    }
};

inline constexpr std::size_t branch_levels = 6;

constexpr auto describe(holdfast::type_tag<branch>)
{
    using holdfast::field;
    return holdfast::recursive<branch_levels>(field("name", &branch::name), field("branches", &branch::branches),
                                              field("next", &branch::next, holdfast::omit_empty));
}

enum class side : std::uint8_t { buy = 1, sell = 2 };

constexpr auto describe(holdfast::type_tag<side>)
{
    using holdfast::enumerator;
    return holdfast::enumerators(enumerator("b\"uy", side::buy), enumerator("sell", side::sell));
}

enum class grade : std::int16_t {}; // of any value, without a name

struct trade {
    std::uint64_t id = 0;
    double price = 0;
};

constexpr auto describe(holdfast::type_tag<trade>)
{
    return holdfast::fields(holdfast::field("id", &trade::id), holdfast::field("price", &trade::price));
}

struct quote {
    std::string symbol;
    std::vector<std::uint32_t> sizes;
};

constexpr auto describe(holdfast::type_tag<quote>)
{
    return holdfast::fields(holdfast::field("symbol", &quote::symbol), holdfast::field("sizes", &quote::sizes));
}

using tagged_event = std::variant<std::monostate, trade, quote>;

constexpr auto describe(holdfast::type_tag<tagged_event>)
{
    return holdfast::alternatives("none", "trade", "quo\te").tagged_by("ty\"pe");
}

using named_event = std::variant<quote, std::string, std::vector<trade>>;

constexpr auto describe(holdfast::type_tag<named_event>) { return holdfast::alternatives("quote", "te\"xt", "trades"); }

/// Whatever is written as something else than it is.
struct reading {
    side of{};
    grade level{};
    tagged_event tagged;
    named_event named;
    std::chrono::sys_time<std::chrono::nanoseconds> time;
    std::optional<std::chrono::microseconds> took;
    std::vector<std::byte> bytes;
    std::string key;
    std::string raw;     // JSON on one line
    std::string checked; // JSON
    branch tree;
};

constexpr auto describe(holdfast::type_tag<reading>)
{
    using holdfast::written_as, holdfast::field, holdfast::in_unit;
    using std::chrono::milliseconds;
    using seconds = std::chrono::duration<double>;
    return holdfast::fields(
        field("side", &reading::of), field("level", &reading::level), field("tagged", &reading::tagged),
        field("named", &reading::named), field("time", &reading::time, written_as<in_unit<milliseconds>>),
        field("took", &reading::took, written_as<std::optional<in_unit<seconds>>>, holdfast::omit_empty),
        field("bytes", &reading::bytes), field("key", &reading::key, written_as<holdfast::base64>),
        field("raw", &reading::raw, written_as<holdfast::raw_json>),
        field("checked", &reading::checked, written_as<holdfast::checked_json>), field("tree", &reading::tree));
}

template <class Choices>
branch any_branch(Choices& choices, std::size_t levels)
{
    branch made{choices.text(12), {}, nullptr};
    if (levels == 1) return made;
    for (std::size_t n = any_size(choices, 3); n != 0; --n)
        made.branches.push_back(any_branch(choices, levels - 1));
    if (choices.below(3) == 2) made.next = std::make_unique<branch>(any_branch(choices, levels - 1));
    return made;
}

template <class Choices>
trade any_trade(Choices& choices)
{
    return {choices.bits(), any_double(choices)};
}

template <class Choices>
quote any_quote(Choices& choices)
{
    quote made{choices.text(60), {}};
    made.sizes.assign(any_size(choices, 20), static_cast<std::uint32_t>(choices.bits()));
    return made;
}

template <class Choices>
reading any_reading(Choices& choices)
{
    reading made;
    made.of = static_cast<side>(choices.below(4));
    made.level = static_cast<grade>(choices.bits());
    if (const std::size_t kind = choices.below(3); kind == 1)
        made.tagged = any_trade(choices);
    else if (kind == 2)
        made.tagged = any_quote(choices);
    if (const std::size_t kind = choices.below(3); kind == 0) {
        made.named = any_quote(choices);
    } else if (kind == 1) {
        made.named = choices.text(600);
    } else {
        auto& trades = made.named.template emplace<std::vector<trade>>(any_size(choices, 9));
        for (trade& each : trades)
            each = any_trade(choices);
    }
    made.time += std::chrono::nanoseconds(static_cast<std::int64_t>(choices.bits()));
    if (choices.below(2) == 1) made.took.emplace(static_cast<std::int64_t>(choices.bits()) >> 8);
    made.bytes.resize(any_size(choices, 900));
    for (std::byte& each : made.bytes)
        each = static_cast<std::byte>(choices.below(256));
    made.key = choices.text(900);
    made.raw = any_json(choices, json_numbers::ordinary).in_line;
    made.checked = any_json(choices, json_numbers::ordinary).pretty;
    made.tree = any_branch(choices, branch_levels);
    return made;
}

} // namespace tests

#endif
