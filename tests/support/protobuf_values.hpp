// holdfast: the messages of protobuf_values.proto as described structs, made of choices.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_PROTOBUF_VALUES_HPP
#define HOLDFAST_TESTS_SUPPORT_PROTOBUF_VALUES_HPP

#include "chosen.hpp"

#include <holdfast/serialize/protobuf.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tests::wire {

using holdfast::field;
using holdfast::proto::fixed;
using holdfast::proto::sint;

enum class side { none, buy, sell };

struct leaf {
    std::int32_t change = 0;
    std::string name;
    bool last = false;
};

constexpr auto describe(holdfast::type_tag<leaf>)
{
    return holdfast::fields(field("change", &leaf::change, 1, sint), field("name", &leaf::name, 2),
                            field("last", &leaf::last, 16));
}

struct tree {
    std::uint32_t id = 0;
    std::vector<tree> nodes;
    std::unique_ptr<tree> next;
    std::map<std::string, tree> named;
};

constexpr auto describe(holdfast::type_tag<tree>)
{
    return holdfast::recursive<8>(field("id", &tree::id, 1), field("nodes", &tree::nodes, 2),
                                  field("next", &tree::next, 3), field("named", &tree::named, 4));
}

struct row {
    std::int32_t i32 = 0;
    std::int64_t i64 = 0;
    std::uint32_t u32 = 0;
    std::uint64_t u64 = 0;
    std::int32_t s32 = 0;
    std::int64_t s64 = 0;
    std::uint32_t f32 = 0;
    std::uint64_t f64 = 0;
    std::int32_t sf32 = 0;
    std::int64_t sf64 = 0;
    float real = 0;
    double wide = 0;
    bool flag = false;
    side way = side::none;
    std::string text;
    std::vector<std::byte> data;
    std::optional<std::int64_t> perhaps;
    std::optional<std::string> word;
};

constexpr auto describe(holdfast::type_tag<row>)
{
    return holdfast::fields(
        field("i32", &row::i32, 1), field("i64", &row::i64, 2), field("u32", &row::u32, 3), field("u64", &row::u64, 4),
        field("s32", &row::s32, 5, sint), field("s64", &row::s64, 6, sint), field("f32", &row::f32, 7, fixed),
        field("f64", &row::f64, 8, fixed), field("sf32", &row::sf32, 9, fixed), field("sf64", &row::sf64, 10, fixed),
        field("real", &row::real, 11), field("wide", &row::wide, 12), field("flag", &row::flag, 13),
        field("way", &row::way, 14), field("text", &row::text, 15), field("data", &row::data, 16),
        field("perhaps", &row::perhaps, 17), field("word", &row::word, 18));
}

using event = std::variant<std::monostate, leaf, std::int32_t, std::string>;

constexpr auto describe(holdfast::type_tag<event>)
{
    using holdfast::alternative;
    return holdfast::alternatives("nothing", alternative("moved", 14), alternative("changed", 20, sint),
                                  alternative("said", 15));
}

struct order {
    row first;
    std::vector<row> rows;
    std::vector<std::int32_t> numbers;
    std::vector<std::int64_t> changes;
    std::vector<std::uint32_t> marks;
    std::vector<double> prices;
    std::vector<bool> flags;
    std::vector<side> ways;
    std::vector<std::uint64_t> loose;
    std::vector<std::string> words;
    std::map<std::string, std::int32_t> counts;
    std::map<std::int32_t, leaf> leaves;
    std::map<std::uint64_t, double> sums;
    event what;
    std::optional<leaf> within;
    tree root;
    std::vector<std::unique_ptr<leaf>> pointed;
    std::int32_t far = 0;
};

constexpr auto describe(holdfast::type_tag<order>)
{
    using holdfast::proto::keys;
    return holdfast::fields( // in any order
        field("root", &order::root, 17), field("first", &order::first, 1), field("rows", &order::rows, 2),
        field("numbers", &order::numbers, 3), field("changes", &order::changes, 4, sint),
        field("marks", &order::marks, 5, fixed), field("prices", &order::prices, 6), field("flags", &order::flags, 7),
        field("ways", &order::ways, 8), field("loose", &order::loose, 9, holdfast::proto::unpacked),
        field("words", &order::words, 10), field("what", &order::what), field("counts", &order::counts, 11),
        field("leaves", &order::leaves, 12, keys{sint}), field("sums", &order::sums, 13, keys{fixed}),
        field("within", &order::within, 16), field("pointed", &order::pointed, 18),
        field("far", &order::far, (1 << 29) - 1));
}

/// A number of which many are zero, small, or at an end.
template <class T, class Choices>
T any_number(Choices& choices)
{
    const std::uint64_t bits = choices.bits();
    if (bits % 8 == 0) return 0;
    if (bits % 8 == 1) return std::numeric_limits<T>::max();
    if (bits % 8 == 2) return std::numeric_limits<T>::min();
    return static_cast<T>(static_cast<std::int64_t>(bits) >> (bits >> 8) % 64);
}

template <class T, class Choices>
std::vector<T> any_numbers(Choices& choices, std::size_t most)
{
    std::vector<T> all(any_size(choices, most));
    for (T& each : all)
        each = any_number<T>(choices);
    return all;
}

template <class Choices>
side any_side(Choices& choices)
{
    return static_cast<side>(choices.below(3));
}

template <class Choices>
leaf any_leaf(Choices& choices)
{
    return {any_number<std::int32_t>(choices), choices.text(40), choices.below(2) == 0};
}

template <class Choices>
tree any_tree(Choices& choices, int depth)
{
    tree made;
    made.id = any_number<std::uint32_t>(choices);
    if (depth == 8) return made;
    for (std::size_t n = any_size(choices, 3); n != 0; --n)
        made.nodes.push_back(any_tree(choices, depth + 1));
    if (choices.below(3) == 1) made.next = std::make_unique<tree>(any_tree(choices, depth + 1));
    if (choices.below(4) == 1) made.named.emplace(choices.text(10), any_tree(choices, depth + 1));
    return made;
}

template <class Choices>
row any_row(Choices& choices)
{
    row made;
    made.i32 = any_number<std::int32_t>(choices);
    made.i64 = any_number<std::int64_t>(choices);
    made.u32 = any_number<std::uint32_t>(choices);
    made.u64 = any_number<std::uint64_t>(choices);
    made.s32 = any_number<std::int32_t>(choices);
    made.s64 = any_number<std::int64_t>(choices);
    made.f32 = any_number<std::uint32_t>(choices);
    made.f64 = any_number<std::uint64_t>(choices);
    made.sf32 = any_number<std::int32_t>(choices);
    made.sf64 = any_number<std::int64_t>(choices);
    made.real = std::bit_cast<float>(any_number<std::uint32_t>(choices));
    made.wide = std::bit_cast<double>(any_number<std::uint64_t>(choices));
    made.flag = choices.below(2) == 0;
    made.way = any_side(choices);
    made.text = choices.text(300);
    const std::string data = choices.text(100);
    made.data.resize(data.size());
    std::ranges::transform(data, made.data.begin(), [](char c) { return static_cast<std::byte>(~c); });
    if (choices.below(2) == 0) made.perhaps = any_number<std::int64_t>(choices);
    if (choices.below(2) == 0) made.word = choices.text(10);
    return made;
}

template <class Choices>
order any_order(Choices& choices)
{
    order made;
    made.first = any_row(choices);
    for (std::size_t n = any_size(choices, 6); n != 0; --n)
        made.rows.push_back(any_row(choices));
    made.numbers = any_numbers<std::int32_t>(choices, 300);
    made.changes = any_numbers<std::int64_t>(choices, 40);
    made.marks = any_numbers<std::uint32_t>(choices, 200);
    for (const std::uint64_t bits : any_numbers<std::uint64_t>(choices, 40))
        made.prices.push_back(std::bit_cast<double>(bits));
    for (const std::uint32_t bits : any_numbers<std::uint32_t>(choices, 40))
        made.flags.push_back(bits % 2 != 0);
    for (std::size_t n = any_size(choices, 10); n != 0; --n)
        made.ways.push_back(any_side(choices));
    made.loose = any_numbers<std::uint64_t>(choices, 20);
    for (std::size_t n = any_size(choices, 20); n != 0; --n)
        made.words.push_back(choices.text(600));
    for (std::size_t n = any_size(choices, 5); n != 0; --n)
        made.counts[choices.text(30)] = any_number<std::int32_t>(choices);
    for (std::size_t n = any_size(choices, 5); n != 0; --n)
        made.leaves[any_number<std::int32_t>(choices)] = any_leaf(choices);
    for (std::size_t n = any_size(choices, 5); n != 0; --n)
        made.sums[any_number<std::uint64_t>(choices)] = std::bit_cast<double>(any_number<std::uint64_t>(choices));
    switch (choices.below(4)) {
    case 1:
        made.what = any_leaf(choices);
        break;
    case 2:
        made.what = any_number<std::int32_t>(choices);
        break;
    case 3:
        made.what = choices.text(900);
        break;
    default:
        break;
    }
    if (choices.below(2) == 0) made.within = any_leaf(choices);
    made.root = any_tree(choices, 1);
    for (std::size_t n = any_size(choices, 4); n != 0; --n)
        made.pointed.push_back(std::make_unique<leaf>(any_leaf(choices)));
    made.far = any_number<std::int32_t>(choices);
    return made;
}

} // namespace tests::wire

#endif
