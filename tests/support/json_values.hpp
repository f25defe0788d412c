// holdfast: values of several described types, made of choices (random numbers, or a fuzzer's bytes), and
// their text in chunks of chosen sizes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_JSON_VALUES_HPP
#define HOLDFAST_TESTS_SUPPORT_JSON_VALUES_HPP

#include <holdfast/serialize/json.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
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

constexpr auto describe(holdfast::type<loose_row>)
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

constexpr auto describe(holdfast::type<nested_order>)
{
    using holdfast::field;
    using order = nested_order;
    return holdfast::fields(field("id", &order::id), field("change", &order::change),
                            field("price", &order::price), field("open", &order::open),
                            field("side", &order::side), field("event", &order::event),
                            field("note", &order::note), field("rows", &order::rows),
                            field("grid", &order::grid), field("by_number", &order::by_number));
}

// `Choices` has bits(), a number of 64; below(n), a number below n; text(n), a string of about n bytes at
// most; and `finite`, whether no double may be NaN or infinite.

/// A size of 0 to `most`, whose logarithm is uniform: many are small.
template <class Choices>
std::size_t any_size(Choices& choices, std::size_t most)
{
    return choices.below((most >> choices.below(static_cast<std::size_t>(std::bit_width(most)))) + 1);
}

template <class Choices>
double any_double(Choices& choices)
{
    const std::uint64_t bits = choices.bits();
    if (bits % 4 == 0) return static_cast<double>(static_cast<std::int64_t>(bits) >> 40) / 100; // a price
    const auto value = std::bit_cast<double>(std::rotl(bits, 11));
    // The shortest text of such a number may be an integer beyond 64 bits, which simdjson refuses.
    if (std::abs(value) > 1e18 && std::abs(value) < 1e24) return 0.5;
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

/// What a serializer gave: up to its end, or up to an error.
struct chunked_text {
    std::string text;
    std::error_code error;
};

/// Always the same memory, of n bytes of a MiB: its last, so that a sanitizer sees a byte too many.
inline std::span<char> a_chunk(std::size_t n)
{
    static std::vector<char> memory(std::size_t{1} << 20);
    return std::span(memory).last(n);
}

/// The text in chunks of `size()` bytes, up to a MiB. Throws where one is not full, not the last and no
/// error.
template <class Format, class Source, class Size>
chunked_text in_chunks(Source source, Size size, Format format = {})
{
    holdfast::streaming_serializer<Format, Source> serializer(std::move(source), format);
    chunked_text whole;
    while (!serializer.done()) {
        const auto chunk = a_chunk(size());
        const auto part = serializer.next(chunk, whole.error);
        if (whole.error) break;
        if (part.size() != chunk.size() && !serializer.done())
            throw std::logic_error("a chunk that is not the last is not full");
        whole.text.append(part.data(), part.size());
    }
    if (serializer.bytes_written() != whole.text.size()) throw std::logic_error("miscounted");
    return whole;
}

} // namespace tests

#endif
