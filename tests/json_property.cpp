// holdfast: a property of JSON text: whatever the values and the chunks, it is the whole text, and other
// libraries read the values back.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/json_values.hpp"
#include "support/scale.hpp"

#include <nlohmann/json.hpp>
#include <simdjson.h>

#include <algorithm>
#include <functional>
#include <random>
#include <ranges>
#include <sstream>
#include <string_view>

using holdfast::json;
using holdfast::ndjson;
using tests::any_size;
using tests::in_chunks;
using tests::random_choices;
using document = nlohmann::json;

namespace {

// The values as nlohmann keeps them.

document expected(const tests::loose_value& value)
{
    return std::visit(
        [](const auto& v) {
            if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>)
                return document(nullptr);
            else
                return document(v);
        },
        value);
}

document expected(const tests::loose_map& map)
{
    document all = document::object();
    for (const auto& [key, values] : map) {
        document& list = all[key] = document::array();
        for (const auto& value : values)
            list.push_back(expected(value));
    }
    return all;
}

document expected(const tests::loose_row& row)
{
    document all = {{"id", row.id}, {"name", row.name}, {"la\"st\\", nullptr}};
    if (row.last && *row.last) all["la\"st\\"] = **row.last;
    all["tags"] = expected(row.tags);
    return all;
}

document expected(const tests::nested_order& order)
{
    document all = {{"id", order.id},
                    {"change", order.change},
                    {"price", order.price},
                    {"open", order.open},
                    {"side", std::string(1, order.side)},
                    {"note", nullptr}};
    all["event"] =
        document::array({std::get<0>(order.event), std::get<1>(order.event), std::get<2>(order.event)});
    if (order.note) all["note"] = *order.note;
    all["rows"] = document::array();
    for (const auto& row : order.rows)
        all["rows"].push_back(expected(row));
    document grid = document::array();
    for (const auto& line : order.grid.second)
        grid.push_back(line);
    all["grid"] = document::array({order.grid.first, std::move(grid)});
    all["by_number"] = document::object();
    for (const auto& [key, value] : order.by_number)
        all["by_number"][std::to_string(key)] = value ? document(*value) : document(nullptr);
    return all;
}

document expected(const std::vector<tests::nested_order>& orders)
{
    document all = document::array();
    for (const auto& order : orders)
        all.push_back(expected(order));
    return all;
}

/// What simdjson has read, as nlohmann keeps it.
document copied(simdjson::dom::element element)
{
    using simdjson::dom::element_type;
    switch (element.type()) {
    case element_type::ARRAY: {
        document all = document::array();
        for (const auto each : simdjson::dom::array(element))
            all.push_back(copied(each));
        return all;
    }
    case element_type::OBJECT: {
        document all = document::object();
        for (const auto each : simdjson::dom::object(element))
            all[std::string(each.key)] = copied(each.value);
        return all;
    }
    case element_type::INT64:
        return std::int64_t(element);
    case element_type::UINT64:
        return std::uint64_t(element);
    case element_type::DOUBLE:
        return double(element);
    case element_type::STRING:
        return std::string(std::string_view(element));
    case element_type::BOOL:
        return bool(element);
    default:
        return nullptr;
    }
}

void check_read_back(const std::string& text, const document& source)
{
    REQUIRE(document::parse(text) == source);
    static simdjson::dom::parser parser;
    REQUIRE(copied(parser.parse(text)) == source);
}

/// Checks a source, by reference, and what it must be read back as.
template <class Source>
void check(const Source& source, random_choices& choices)
{
    const auto sizes = [&choices] { return std::max<std::size_t>(any_size(choices, 65536), 1); };
    const auto whole = in_chunks<json>(std::cref(source), [] { return std::size_t{1} << 20; });
    REQUIRE_FALSE(whole.error);
    const std::size_t fixed = sizes();
    INFO("chunks of " << fixed);
    REQUIRE(in_chunks<json>(std::cref(source), [&] { return fixed; }).text == whole.text);
    REQUIRE(in_chunks<json>(std::cref(source), sizes).text == whole.text);
    check_read_back(whole.text, expected(source));
}

} // namespace

TEST_CASE("random values, in chunks of random sizes from 1 to 64 Ki, are the whole text, and simdjson and "
          "nlohmann read them back")
{
    const auto seed = std::random_device{}();
    for (std::uint64_t round = 0; round != (tests::sanitized ? 100 : 2000); ++round) {
        INFO("seed " << seed << ", round " << round);
        random_choices choices(seed + (round << 32));
        check(tests::any_row(choices), choices);
        check(tests::any_map(choices), choices);
        std::vector<tests::nested_order> orders(any_size(choices, 9));
        for (auto& order : orders)
            order = tests::any_order(choices);
        check(orders, choices);

        const auto lines = in_chunks<ndjson>(
            std::cref(orders), [&] { return std::max<std::size_t>(any_size(choices, 65536), 1); });
        std::istringstream in(lines.text);
        std::string line;
        for (const auto& order : orders) {
            REQUIRE(std::getline(in, line));
            REQUIRE(document::parse(line) == expected(order));
        }
        REQUIRE_FALSE(std::getline(in, line));
    }
}

TEST_CASE(
    "rows of int, string, optional of optional and map of string to variants, made while they are sent, "
    "fill every chunk of 1 to 199 bytes")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    int made = 0;
    const auto make = [seed, &made](int i) {
        ++made;
        random_choices choices(seed + (std::uint64_t{1} << 40) * static_cast<std::uint64_t>(i));
        return tests::any_row(choices);
    };
    constexpr int count = 12;
    const auto rows = std::views::iota(0, count) | std::views::transform(make);
    using source = std::remove_const_t<decltype(rows)>;
    const auto whole = in_chunks<json>(source(rows), [] { return std::size_t{1} << 20; });
    document list = document::array();
    for (int i = 0; i != count; ++i)
        list.push_back(expected(make(i)));
    check_read_back(whole.text, list);
    for (std::size_t n = 1; n != 200; ++n) {
        INFO("chunks of " << n);
        made = 0;
        REQUIRE(in_chunks<json>(source(rows), [n] { return n; }).text == whole.text);
        REQUIRE(made == count);
    }
    // The row that is sent, 104 bytes, is a part of it.
    if constexpr (sizeof(void*) == 8) CHECK(sizeof(json::cursor<source>) <= 288);
}
