// holdfast: a property of JSON text: whatever the values and the chunks, it is the whole text, and other
// libraries read the values back.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/json_readings.hpp"
#include "support/json_values.hpp"
#include "support/scale.hpp"

#include <holdfast/adapters/simdjson.hpp>

#include <nlohmann/json.hpp>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <random>
#include <ranges>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

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
    all["event"] = document::array({std::get<0>(order.event), std::get<1>(order.event), std::get<2>(order.event)});
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

document expected(const tests::trade& trade) { return {{"id", trade.id}, {"price", trade.price}}; }

document expected(const tests::quote& quote) { return {{"symbol", quote.symbol}, {"sizes", quote.sizes}}; }

document expected(const tests::tagged_event& event)
{
    static constexpr std::array names = {"none", "trade", "quo\te"};
    document all = document::object();
    if (const auto* trade = std::get_if<tests::trade>(&event)) all = expected(*trade);
    if (const auto* quote = std::get_if<tests::quote>(&event)) all = expected(*quote);
    all["ty\"pe"] = names.at(event.index());
    return all;
}

document expected(const tests::named_event& event)
{
    document all = document::object();
    if (const auto* quote = std::get_if<tests::quote>(&event)) all["quote"] = expected(*quote);
    if (const auto* text = std::get_if<std::string>(&event)) all["te\"xt"] = *text;
    if (const auto* trades = std::get_if<std::vector<tests::trade>>(&event)) {
        document& list = all["trades"] = document::array();
        for (const tests::trade& each : *trades)
            list.push_back(expected(each));
    }
    return all;
}

document expected(const tests::branch& branch)
{
    document all = {{"name", branch.name}, {"branches", document::array()}};
    for (const tests::branch& each : branch.branches)
        all["branches"].push_back(expected(each));
    if (branch.next) all["next"] = expected(*branch.next);
    return all;
}

document expected(tests::side side)
{
    if (side == tests::side::buy) return "b\"uy";
    if (side == tests::side::sell) return "sell";
    return static_cast<int>(side);
}

/// Six bits after six bits.
std::string in_base64(std::span<const std::byte> bytes)
{
    static constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto bit = [&](std::size_t i) {
        return i / 8 < bytes.size() && (bytes[i / 8] >> (7 - i % 8) & std::byte{1}) != std::byte{0};
    };
    std::string text;
    for (std::size_t i = 0; i < 8 * bytes.size(); i += 6) {
        std::size_t digit = 0;
        for (std::size_t j = i; j != i + 6; ++j)
            digit = 2 * digit + (bit(j) ? 1 : 0);
        text += digits[digit];
    }
    text.append((4 - text.size() % 4) % 4, '=');
    return text;
}

document expected(const tests::reading& reading)
{
    document all = {{"side", expected(reading.of)},        {"level", static_cast<int>(reading.level)},
                    {"tagged", expected(reading.tagged)},  {"named", expected(reading.named)},
                    {"bytes", in_base64(reading.bytes)},   {"key", in_base64(std::as_bytes(std::span(reading.key)))},
                    {"raw", document::parse(reading.raw)}, {"checked", document::parse(reading.checked)},
                    {"tree", expected(reading.tree)}};
    const std::int64_t ns = reading.time.time_since_epoch().count();
    all["time"] = ns / 1'000'000 - (ns % 1'000'000 < 0);
    if (reading.took) all["took"] = static_cast<double>(reading.took->count()) / 1e6;
    return all;
}

document expected(const std::vector<tests::reading>& readings)
{
    document all = document::array();
    for (const auto& reading : readings)
        all.push_back(expected(reading));
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
    const simdjson::dom::element read = parser.parse(text);
    REQUIRE(copied(read) == source);
    const auto again = in_chunks<json>(read, [&text] { return text.size() / 7 + 1; });
    REQUIRE(document::parse(again.text) == source); // written as what simdjson has read
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

        const auto lines =
            in_chunks<ndjson>(std::cref(orders), [&] { return std::max<std::size_t>(any_size(choices, 65536), 1); });
        std::istringstream in(lines.text);
        std::string line;
        for (const auto& order : orders) {
            REQUIRE(std::getline(in, line));
            REQUIRE(document::parse(line) == expected(order));
        }
        REQUIRE_FALSE(std::getline(in, line));
    }
}

TEST_CASE("random values that are written as something else than they are, in chunks of random sizes, are "
          "read back by simdjson and nlohmann")
{
    const auto seed = std::random_device{}();
    for (std::uint64_t round = 0; round != (tests::sanitized ? 100 : 2000); ++round) {
        INFO("seed " << seed << ", round " << round);
        random_choices choices(seed + (round << 32));
        std::vector<tests::reading> readings(any_size(choices, 6));
        for (auto& reading : readings)
            reading = tests::any_reading(choices);
        check(readings, choices);
    }
}

TEST_CASE("random trees are read back, or are an error at every size of chunk, where they are too deep")
{
    const auto seed = std::random_device{}();
    int deep = 0;
    constexpr int rounds = tests::sanitized ? 200 : 5000;
    for (int round = 0; round != rounds; ++round) {
        INFO("seed " << seed << ", round " << round);
        random_choices choices(seed + (static_cast<std::uint64_t>(round) << 32));
        const tests::branch tree = tests::any_branch(choices, tests::branch_levels + 2);
        if (tree.levels() <= tests::branch_levels) {
            check(tree, choices);
        } else {
            ++deep;
            for (const std::size_t n : {std::size_t{1}, 1 + any_size(choices, 4096)}) {
                const auto begun = in_chunks<json>(std::cref(tree), [n] { return n; });
                REQUIRE(begun.error == holdfast::errc::depth_exceeded);
                REQUIRE_FALSE(document::accept(begun.text));
            }
        }
    }
    CHECK(deep > rounds / 20);
    CHECK(deep < rounds * 19 / 20);
}

namespace {

/// Whether an exponent has four digits: two accidents can make 2000 of a 2.
bool has_long_exponent(std::string_view text)
{
    for (std::size_t at = 0; (at = text.find_first_of("eE", at)) != std::string_view::npos;) {
        const std::size_t digits = text.find_first_not_of("+-", ++at);
        if (digits != std::string_view::npos && text.substr(digits).find_first_not_of("0123456789") >= 4 &&
            text.size() - digits >= 4)
            return true;
    }
    return false;
}

} // namespace

TEST_CASE("a checked fragment is accepted where nlohmann and simdjson accept it, and is read as the same then")
{
    const auto seed = std::random_device{}();
    int valid = 0;
    constexpr int rounds = tests::sanitized ? 2000 : 20000;
    for (int round = 0; round != rounds; ++round) {
        INFO("seed " << seed << ", round " << round);
        random_choices choices(seed + (static_cast<std::uint64_t>(round) << 32));
        const auto text = spoiled(choices, tests::any_json(choices, tests::json_numbers::ordinary).pretty);
        if (has_long_exponent(text)) continue; // it is JSON, but neither reader holds a number beyond `double`
        INFO(text);
        const auto sizes = [&choices] { return 1 + any_size(choices, 64); };
        const auto copy = in_chunks<json>(holdfast::checked_json(text), sizes);
        static simdjson::dom::parser parser;
        simdjson::dom::element element;
        const bool reads = parser.parse(text).get(element) == simdjson::SUCCESS;
        REQUIRE(document::accept(text) == reads);
        REQUIRE(!copy.error == reads);
        if (reads) {
            ++valid;
            check_read_back(copy.text, document::parse(text));
        }
    }
    CHECK(valid > rounds / 20);
    CHECK(valid < rounds * 19 / 20);
}

TEST_CASE("rows of int, string, optional of optional and map of string to variants, made while they are sent, "
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
