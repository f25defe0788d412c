// holdfast: values of several described types, made of choices (random numbers, or a fuzzer's bytes).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_JSON_VALUES_HPP
#define HOLDFAST_TESTS_SUPPORT_JSON_VALUES_HPP

#include "chosen.hpp"

#include <holdfast/serialize/json.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace tests {

using loose_value = std::variant<std::monostate, bool, std::int32_t, double, std::string>;
using loose_map = std::map<std::string, std::vector<loose_value>>;

struct loose_row {
    int id = 0;
    std::string name;
    std::optional<std::optional<int>> last;
    loose_map tags;
};

constexpr auto describe(holdfast::type_tag<loose_row>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &loose_row::id), field("name", &loose_row::name),
                            field("la\"st\\", &loose_row::last), field("tags", &loose_row::tags));
}

struct nested_order {
    std::uint64_t id = 0;
    std::int64_t change = 0;
    double price = 0;
    bool open = false;
    char side = 'B';
    std::tuple<int, std::string, bool> event;
    std::optional<std::string> note;
    std::vector<loose_row> rows;
    std::pair<double, std::vector<std::vector<std::uint8_t>>> grid;
    std::map<std::int16_t, std::optional<double>> by_number;
};

constexpr auto describe(holdfast::type_tag<nested_order>)
{
    using holdfast::field;
    using order = nested_order;
    return holdfast::fields(field("id", &order::id), field("change", &order::change), field("price", &order::price),
                            field("open", &order::open), field("side", &order::side), field("event", &order::event),
                            field("note", &order::note), field("rows", &order::rows), field("grid", &order::grid),
                            field("by_number", &order::by_number));
}

template <class Choices>
double any_double(Choices& choices)
{
    const std::uint64_t bits = choices.bits();
    if (bits % 4 == 0) return static_cast<double>(static_cast<std::int64_t>(bits) >> 40) / 100; // a price
    const auto value = std::bit_cast<double>(std::rotl(bits, 11));
    return Choices::finite && !std::isfinite(value) ? 0.0 : value;
}

template <class Choices>
loose_map any_map(Choices& choices)
{
    loose_map map;
    for (std::size_t left = any_size(choices, 6); left != 0; --left) {
        auto& values = map[choices.text(20)];
        for (std::size_t n = any_size(choices, 8); n != 0; --n) {
            switch (choices.below(5)) {
            case 0:
                values.emplace_back(std::monostate());
                break;
            case 1:
                values.emplace_back(choices.below(2) == 0);
                break;
            case 2:
                values.emplace_back(static_cast<std::int32_t>(choices.bits()));
                break;
            case 3:
                values.emplace_back(any_double(choices));
                break;
            default:
                values.emplace_back(choices.text(2000));
            }
        }
    }
    return map;
}

template <class Choices>
loose_row any_row(Choices& choices)
{
    loose_row row;
    row.id = static_cast<int>(choices.bits());
    row.name = choices.text(400);
    if (choices.below(2) == 0) row.last.emplace();
    if (choices.below(4) == 0) row.last = std::optional<int>(row.id / 7);
    row.tags = any_map(choices);
    return row;
}

template <class Choices>
nested_order any_order(Choices& choices)
{
    nested_order order;
    order.id = choices.bits() >> choices.below(64);
    order.change = static_cast<std::int64_t>(choices.bits()) >> choices.below(64);
    order.price = any_double(choices);
    order.open = choices.below(2) == 0;
    order.side = static_cast<char>(choices.below(128));
    order.event = {static_cast<int>(choices.bits()), choices.text(50), choices.below(2) == 0};
    if (choices.below(2) == 0) order.note = choices.text(5000);
    for (std::size_t n = any_size(choices, 5); n != 0; --n)
        order.rows.push_back(any_row(choices));
    order.grid.first = any_double(choices);
    order.grid.second.resize(any_size(choices, 4));
    for (auto& line : order.grid.second)
        line.assign(any_size(choices, 30), static_cast<std::uint8_t>(choices.bits()));
    for (std::size_t n = any_size(choices, 5); n != 0; --n)
        order.by_number[static_cast<std::int16_t>(choices.bits())] =
            choices.below(3) == 0 ? std::nullopt : std::optional(any_double(choices));
    return order;
}

} // namespace tests

#endif
