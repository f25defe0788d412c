// holdfast: tests of ndjson_converter: NDJSON to an array and back, in pieces and chunks of every size.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/ndjson_converter.hpp>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/converted.hpp"
#include "support/json_text.hpp"
#include "support/scale.hpp"

#include <simdjson.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using holdfast::array_to_ndjson;
using holdfast::errc;
using holdfast::ndjson_conversion;
using tests::any_json;
using tests::converted;
using tests::converted_text;
using tests::random_choices;

template <ndjson_conversion To>
converted_text convert(std::string_view text, std::size_t piece_size, std::size_t chunk_size)
{
    return converted<To>(text, [=] { return piece_size; }, [=] { return chunk_size; });
}

void check_same(const std::string& lines, const std::string& array, const std::string& loose_lines,
                const std::string& loose_array, std::size_t piece, std::size_t chunk)
{
    INFO("pieces of " << piece << ", chunks of " << chunk);
    const converted_text a = convert<ndjson_conversion::to_array>(loose_lines, piece, chunk);
    REQUIRE_FALSE(a.error);
    REQUIRE(a.text == array);
    const converted_text l = convert<ndjson_conversion::from_array>(loose_array, piece, chunk);
    REQUIRE_FALSE(l.error);
    REQUIRE(l.text == lines);
    REQUIRE(a.elements == l.elements);
}

/// Whether simdjson reads the text, which it must be able to without losing a number.
bool parses(std::string_view text, bool to_array = false)
{
    static simdjson::dom::parser parser;
    simdjson::dom::element read;
    return parser.parse(text.data(), text.size()).get(read) == simdjson::SUCCESS && (!to_array || read.is_array());
}

std::string minified(std::string_view text)
{
    std::string compact(text.size(), 0);
    std::size_t size = 0;
    REQUIRE(simdjson::minify(text.data(), text.size(), compact.data(), size) == simdjson::SUCCESS);
    compact.resize(size);
    return compact;
}

/// The array of what simdjson makes of each line, up to the first that it refuses.
converted_text expected_array(std::string_view lines)
{
    converted_text whole;
    while (!lines.empty() && !whole.error) {
        const std::string_view line = lines.substr(0, lines.find('\n'));
        lines.remove_prefix(std::min(line.size() + 1, lines.size()));
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        whole.text += whole.elements++ == 0 ? '[' : ',';
        if (parses(line))
            whole.text += minified(line);
        else
            whole.error = errc::invalid_json;
    }
    whole.text += whole.elements == 0 ? "[]" : "]";
    return whole;
}

} // namespace

TEST_CASE("random values are the same both ways, in pieces and chunks of every size")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    random_choices choices(seed);
    std::string lines, loose_lines = "\n \r\n", array = "[", loose_array = " \n[";
    for (unsigned i = 0; i < 24; ++i) {
        const tests::json_text w = any_json(choices);
        lines += w.compact + '\n';
        loose_lines += w.in_line + (i % 3 == 0 ? "\r\n\n" : i == 23 ? "" : "\n");
        array += (i == 0 ? "" : ",") + w.compact;
        loose_array += (i == 0 ? "" : ",") + w.pretty;
    }
    array += ']';
    loose_array += "]\r\n";
    for (std::size_t n = 1; n <= 64; ++n) {
        check_same(lines, array, loose_lines, loose_array, n, 64);
        check_same(lines, array, loose_lines, loose_array, 64, n);
        check_same(lines, array, loose_lines, loose_array, n, n);
    }
}

TEST_CASE("random text, spoiled or not, cut at random places, is what simdjson makes of it, or an error")
{
    const auto seed = std::random_device{}();
    int failures = 0;
    constexpr int rounds = tests::sanitized ? 200 : 5000;
    for (int round = 0; round != rounds; ++round) {
        INFO("seed " << seed << ", round " << round);
        random_choices choices(seed + (static_cast<std::uint64_t>(round) << 32));
        const auto any = [&choices] { return 1 + tests::any_size(choices, 2048); };
        std::string lines, array;
        for (std::size_t left = tests::any_size(choices, 20); left != 0; --left) {
            const tests::json_text one = any_json(choices, tests::json_numbers::ordinary);
            lines += one.in_line + (choices.below(2) == 0 ? "\r\n" : "\n");
            array += (array.empty() ? '[' : ',') + one.pretty;
        }
        array += array.empty() ? "[]" : "]";
        if (choices.below(2) == 0) {
            lines = spoiled(choices, lines);
            array = spoiled(choices, array);
        }

        const converted_text one_array = converted<ndjson_conversion::to_array>(lines, any, any);
        if (simdjson::validate_utf8(lines)) { // which simdjson requires and the converter does not check
            const converted_text expected = expected_array(lines);
            REQUIRE(one_array.error == expected.error);
            REQUIRE(one_array.elements == expected.elements);
            if (!expected.error) REQUIRE(one_array.text == expected.text);
        }
        const converted_text its_lines = converted<ndjson_conversion::from_array>(array, any, any);
        if (simdjson::validate_utf8(array)) {
            REQUIRE(!its_lines.error == parses(array, true));
            if (!its_lines.error)
                REQUIRE(converted<ndjson_conversion::to_array>(its_lines.text, any, any).text == minified(array));
        }
        if (!one_array.error) {
            const converted_text back = converted<ndjson_conversion::from_array>(one_array.text, any, any);
            REQUIRE_FALSE(back.error);
            REQUIRE(back.elements == one_array.elements);
            REQUIRE(converted<ndjson_conversion::to_array>(back.text, any, any).text == one_array.text);
        }
        failures += one_array.error || its_lines.error;
    }
    CHECK(failures > rounds / 10);
    CHECK(failures < rounds * 9 / 10);
}

TEST_CASE("real documents are converted as simdjson minifies them")
{
    const char* corpus = std::getenv("HOLDFAST_CORPUS");
    std::vector<std::string> files = {"/usr/share/iso-codes/json/iso_639-3.json"};
    if (corpus != nullptr)
        for (const char* name : {"twitter.json", "citm_catalog.json", "canada.json"})
            files.push_back(std::string(corpus) + '/' + name);
    for (const std::string& file : files) {
        INFO(file);
        const simdjson::padded_string text = simdjson::padded_string::load(file);
        const std::string loose(text.data(), text.size());
        const std::string compact = minified(loose);
        check_same(compact + '\n' + compact + '\n', '[' + compact + ',' + compact + ']', compact + "\r\n\r\n" + compact,
                   "[\n" + loose + ",\n" + loose + "\n]\n", 4093, 1021);
    }
}

TEST_CASE("nothing is an empty array, and the other way round")
{
    for (std::size_t n = 1; n <= 3; ++n) {
        CHECK(convert<ndjson_conversion::to_array>("", n, n).text == "[]");
        CHECK(convert<ndjson_conversion::to_array>("\n \r\n", n, n).text == "[]");
        const converted_text o = convert<ndjson_conversion::from_array>(" [\n] ", n, n);
        CHECK(o.text.empty());
        CHECK_FALSE(o.error);
        CHECK(o.elements == 0);
    }
}

TEST_CASE("what is not JSON is refused, with the element where it was")
{
    struct bad {
        std::string_view text;
        std::uint64_t elements;
    };
    const auto check = [](auto convert_text, const bad& b) {
        INFO(b.text);
        for (const std::size_t n : {std::size_t{1}, std::size_t{64}}) {
            const converted_text o = convert_text(b.text, n, n);
            CHECK(o.error == errc::invalid_json);
            CHECK(o.elements == b.elements);
        }
    };
    const bad arrays[] = {
        {"", 0},           {"1", 0},    {"{}", 0},        {"[", 0},     {"[1", 1},         {"[1,2", 2},
        {"[1,]", 2},       {"[,1]", 0}, {"[1,,2]", 2},    {"[1 2]", 1}, {"[1]]", 1},       {"[1],", 1},
        {"[1][2]", 1},     {"[1]x", 1}, {R"(["a)", 1},    {"[{]", 1},   {R"([1,"a]])", 2}, {"[[1}]", 1},
        {"[\"a\nb\"]", 1}, {"[1}", 1},  {R"(["\x"])", 1}, {"[tru]", 1}, {"[01]", 1},       {R"([{"a" 1}])", 1},
    };
    for (const bad& b : arrays)
        check(convert<ndjson_conversion::from_array>, b);
    const bad lines[] = {
        {"1 2", 1},    {"1,2", 1}, {"1\n,2", 2}, {"[1,\n2]", 1}, {"\"a\nb\"", 1},
        {"1\n\"a", 2}, {"{\n", 1}, {"]", 1},     {"-\n", 1},
    };
    for (const bad& b : lines)
        check(convert<ndjson_conversion::to_array>, b);
}

TEST_CASE("the limit of depth is that of checked_json, and counts an array that comes in")
{
    const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
    const std::size_t most = holdfast::checked_json_max_depth;
    CHECK(convert<ndjson_conversion::from_array>(nested(most), 64, 64).text == nested(most - 1) + '\n');
    CHECK(convert<ndjson_conversion::from_array>(nested(most + 1), 64, 64).error == errc::depth_exceeded);
    CHECK(convert<ndjson_conversion::to_array>(nested(most), 64, 64).text == '[' + nested(most) + ']');
    CHECK(convert<ndjson_conversion::to_array>(nested(most + 1), 64, 64).error == errc::depth_exceeded);
}

TEST_CASE("converting allocates nothing")
{
    char chunk[7];
    std::size_t bytes = 0;
    const std::size_t allocations = tests::allocations_in([&] {
        array_to_ndjson lines;
        std::error_code ec;
        std::string_view text = R"([{"a":"a string longer than the chunk"},2])";
        for (;;) {
            const std::string_view part = lines.next(text, chunk, ec);
            if (part.empty()) break;
            bytes += part.size();
        }
    });
    CHECK(allocations == 0);
    CHECK(bytes == std::string_view(R"({"a":"a string longer than the chunk"}n2n)").size());
}
