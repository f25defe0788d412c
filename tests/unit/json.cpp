// holdfast: tests of the JSON formats: the text of every kind of value, and of what JSON cannot express.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/json.hpp>

#include "support/catch.hpp"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <forward_list>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace {

using holdfast::errc;
using holdfast::json;
using holdfast::ndjson;
using holdfast::non_finite;
using holdfast::serialize_to_string;
using holdfast::streaming_serializer;
using holdfast::utf8_policy;

template <class T>
std::string text(const T& value, json format = {})
{
    return serialize_to_string<json>(value, format);
}

// The error that ends the text of `value` in chunks of n bytes, none if it comes to its end.
template <class T>
std::error_code error_of(const T& value, json format = {}, std::size_t n = 64)
{
    streaming_serializer<json, std::reference_wrapper<const T>> writer{std::cref(value), format};
    std::vector<char> chunk(n);
    std::error_code ec;
    while (!ec && !writer.done())
        writer.next(chunk, ec);
    return ec;
}

// The text of a string, in chunks of n bytes.
std::string string_text(std::string_view value, utf8_policy policy, std::size_t n)
{
    streaming_serializer<json, std::string_view> writer{value, {.utf8 = policy}};
    std::vector<char> chunk(n);
    std::string whole;
    std::error_code ec;
    while (!writer.done()) {
        const auto part = writer.next(chunk, ec);
        if (ec) return "error";
        whole.append(part.data(), part.size());
    }
    return whole;
}

template <class T>
T parsed(std::string_view digits)
{
    T value{};
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    REQUIRE(ec == std::errc{});
    REQUIRE(end == digits.data() + digits.size());
    return value;
}

template <class T>
std::string shortest(T value)
{
    char digits[64];
    if constexpr (std::is_same_v<T, double>)
        if (std::abs(value) > 0x1p63)
            return {digits, std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific).ptr};
    return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

template <class T>
void check_integers(std::mt19937_64& random)
{
    using limits = std::numeric_limits<T>;
    CHECK(text(limits::min()) == shortest(limits::min()));
    CHECK(text(limits::max()) == shortest(limits::max()));
    for (int i = 0; i < 2000; ++i) { // of every length
        const auto value = static_cast<T>(static_cast<std::int64_t>(random()) >> (i % 64));
        REQUIRE(text(value) == shortest(value));
    }
    std::uint64_t power = 1;
    for (int i = 0; i < 20; ++i, power *= 10) {
        for (const std::uint64_t near : {power - 1, power, power + 1}) {
            REQUIRE(text(static_cast<T>(near)) == shortest(static_cast<T>(near)));
        }
    }
}

} // namespace

TEST_CASE("bool, null and characters")
{
    CHECK(text(true) == "true");
    CHECK(text(false) == "false");
    CHECK(text(nullptr) == "null");
    CHECK(text(std::monostate{}) == "null");
    CHECK(text('B') == "\"B\"");
    CHECK(text('"') == "\"\\\"\"");
    CHECK(text('\0') == "\"\\u0000\"");
    CHECK(error_of('\xe9') == errc::invalid_utf8);
}

TEST_CASE("integers of every width are written in full, those of one byte as numbers")
{
    std::mt19937_64 random(1);
    check_integers<std::int8_t>(random);
    check_integers<std::uint8_t>(random);
    check_integers<std::int16_t>(random);
    check_integers<std::uint16_t>(random);
    check_integers<std::int32_t>(random);
    check_integers<std::uint32_t>(random);
    check_integers<std::int64_t>(random);
    check_integers<std::uint64_t>(random);
    check_integers<long long>(random);
    CHECK(text(std::numeric_limits<std::int64_t>::min()) == "-9223372036854775808");
    CHECK(text(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
}

TEST_CASE("doubles are written in the shortest form that reads back, and as no integer beyond 64 bits")
{
    const std::vector<std::pair<double, std::string>> known{
        {0.0, "0"},
        {-0.0, "-0.0"},
        {1, "1"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {100.25, "100.25"},
        {0.01, "0.01"},
        {-0.07, "-0.07"},
        {123456789.12, "123456789.12"},
        {1e5, "1e+05"},
        {123000, "123000"},
        {5e-324, "5e-324"},
        {0.001, "0.001"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {-2.2250738585072014e-308, "-2.2250738585072014e-308"},
        {9007199254740993.0, "9007199254740992"},
        {-0x1p63, "-9223372036854775808"},
        {0x1.0000000000001p63, "9.223372036854778e+18"},
        {63830272804799840256.0, "6.383027280479984e+19"},
        {0.30000000000000004, "0.30000000000000004"},
    };
    for (const auto& [value, digits] : known)
        CHECK(text(value) == digits);

    std::mt19937_64 random(2);
    for (int i = 0; i < 100'000; ++i) {
        const auto value = std::bit_cast<double>(static_cast<std::uint64_t>(random()));
        if (!std::isfinite(value)) continue;
        REQUIRE(text(value) == shortest(value));
    }
    for (int i = 0; i < 100'000; ++i) { // prices, and their neighbours
        const auto cents = static_cast<double>(random() >> (11 + i % 53));
        for (const double value :
             {cents / 100, -cents / 100, std::nextafter(cents / 100, 1e300), cents, cents / 1000}) {
            if (value == 0) continue;
            REQUIRE(text(value) == shortest(value));
        }
    }
    CHECK(std::signbit(parsed<double>(text(-0.0))));
}

TEST_CASE("floats are written in the shortest form of a float")
{
    CHECK(text(0.1f) == "0.1");
    CHECK(text(-0.0f) == "-0.0");
    CHECK(text(16777216.0f) == "16777216");
    CHECK(text(std::numeric_limits<float>::max()) == "3.4028235e+38");
    CHECK(text(std::numeric_limits<float>::denorm_min()) == "1e-45");
    std::mt19937 random(3);
    for (int i = 0; i < 20'000; ++i) {
        const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
        if (!std::isfinite(value)) continue;
        REQUIRE(parsed<float>(text(value)) == value);
    }
}

TEST_CASE("NaN and infinities are an error, or null where that is chosen")
{
    const double infinity = std::numeric_limits<double>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(error_of(infinity) == errc::not_finite);
    CHECK(error_of(-infinity) == errc::not_finite);
    CHECK(error_of(nan) == errc::not_finite);
    CHECK(error_of(std::vector<double>{1, infinity}) == errc::not_finite);
    CHECK(error_of(std::vector<double>{1, infinity}, {}, 1) == errc::not_finite);
    const json null{.non_finite = non_finite::null};
    CHECK(text(infinity, null) == "null");
    CHECK(text(std::tuple(nan, -infinity, 1.5), null) == "[null,null,1.5]");
    CHECK(serialize_to_string<ndjson>(std::vector<double>{1, -infinity}, {.non_finite = non_finite::null}) ==
          "1\nnull\n");
}

TEST_CASE("strings of every type are strings")
{
    CHECK(text(std::string("abc")) == "\"abc\"");
    CHECK(text(std::string_view("abc")) == "\"abc\"");
    CHECK(text(std::string_view()) == "\"\"");
    CHECK(text(static_cast<const char*>("abc")) == "\"abc\"");
    CHECK(text("abc") == "\"abc\"");
    CHECK(text(std::array<char, 3>{'a', 'b', 'c'}) == "\"abc\"");
    CHECK(text(std::array<char, 6>{'a', 'b', 'c'}) == "\"abc\"");
    const char padded[4] = {'a', 'b', 'c', 'd'};
    CHECK(text(padded) == "\"abcd\"");
    CHECK(text(std::string("a\0b", 3)) == "\"a\\u0000b\"");
}

TEST_CASE("quotes, backslashes and control characters are escaped, and nothing else")
{
    for (int c = 0; c < 0x80; ++c) {
        std::string expected(1, static_cast<char>(c));
        if (c < 0x20) {
            const char* hex = "0123456789abcdef";
            expected = std::string("\\u00") + hex[c / 16] + hex[c % 16];
        }
        if (c == '\b') expected = "\\b";
        if (c == '\t') expected = "\\t";
        if (c == '\n') expected = "\\n";
        if (c == '\f') expected = "\\f";
        if (c == '\r') expected = "\\r";
        if (c == '"' || c == '\\') expected.insert(0, 1, '\\');
        // Wherever it stands in a string of whatever length.
        for (std::size_t length = 1; length <= 40; ++length) {
            for (std::size_t at = 0; at < length; ++at) {
                std::string value(length, 'x');
                value[at] = static_cast<char>(c);
                std::string escaped(length, 'x');
                escaped.replace(at, 1, expected);
                for (const utf8_policy policy : {utf8_policy::error, utf8_policy::trust})
                    REQUIRE(string_text(value, policy, 512) == '"' + escaped + '"');
                REQUIRE(string_text(value, utf8_policy::error, 5) == '"' + escaped + '"');
            }
        }
    }
    CHECK(text(std::string("\u2028\u007f")) == "\"\u2028\u007f\"");
}

TEST_CASE("valid UTF-8 passes, wherever the chunk's edge cuts it")
{
    for (const std::string sequence : {"\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000",
                                       "\U0010ffff", "\u6d77\u85fb", "\u00e9\U0001f30a\u20ac"}) {
        for (std::size_t before = 0; before < 20; ++before) {
            const std::string value = std::string(before, 'x') + sequence + "tail";
            for (const utf8_policy policy : {utf8_policy::error, utf8_policy::replace, utf8_policy::trust}) {
                for (std::size_t n = 1; n <= 20; ++n)
                    REQUIRE(string_text(value, policy, n) == '"' + value + '"');
                REQUIRE(string_text(value, policy, 512) == '"' + value + '"');
            }
        }
    }
}

TEST_CASE("invalid UTF-8 is an error, replaced, or passed, as chosen")
{
    const std::string r = "\ufffd";
    const std::vector<std::pair<std::string, std::string>> invalid{
        {"\x80", r}, // a continuation alone
        {"\xbf\xbf", r + r},
        {"\xc3", r}, // cut short
        {"\xe2\x82", r},
        {"\xf0\x9f\x98", r},
        {"\xf0\x9f", r},
        {"\xc3(", r + "("}, // cut short by another character
        {"\xe2\x28\xa1", r + "(" + r},
        {"\xe2\x82\"", r + "\\\""},
        {"\xf0\x9f\x98\xc3\xa9", r + "\u00e9"},
        {"\xc0\xaf", r + r}, // overlong
        {"\xc1\xbf", r + r},
        {"\xe0\x9f\xbf", r + r + r},
        {"\xf0\x8f\xbf\xbf", r + r + r + r},
        {"\xed\xa0\x80", r + r + r}, // surrogates, alone and in pairs
        {"\xed\xbf\xbf", r + r + r},
        {"\xed\xa0\xbd\xed\xb8\x80", r + r + r + r + r + r},
        {"\xf4\x90\x80\x80", r + r + r + r}, // above U+10FFFF
        {"\xf5\x80\x80\x80", r + r + r + r},
        {"\xfe", r},
        {"\xff\xff", r + r},
    };
    for (const auto& [bytes, replaced] : invalid) {
        for (const std::size_t before : {0u, 1u, 3u, 7u, 8u, 15u, 16u, 17u, 33u}) {
            for (const std::string tail : {"", "t", "a longer tail of 32 characters.."}) {
                const std::string value = std::string(before, 'x') + bytes + tail;
                const std::string expected = '"' + std::string(before, 'x') + replaced + tail + '"';
                for (const std::size_t n : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 16u, 17u, 512u}) {
                    INFO("chunks of " << n << ", after " << before << ", before " << tail.size());
                    REQUIRE(string_text(value, utf8_policy::error, n) == "error");
                    REQUIRE(string_text(value, utf8_policy::replace, n) == expected);
                    if (bytes.back() != '"') REQUIRE(string_text(value, utf8_policy::trust, n) == '"' + value + '"');
                }
            }
        }
    }
    CHECK(error_of(std::string("\xff")) == errc::invalid_utf8);
    CHECK(error_of(std::map<std::string, int>{{"\xff", 1}}) == errc::invalid_utf8);
    CHECK(error_of(std::map<std::string, int>{{"\xff", 1}}, {}, 2) == errc::invalid_utf8);
    CHECK(text(std::map<std::string, int>{{"\xff", 1}}, {.utf8 = utf8_policy::replace}) == "{\"\ufffd\":1}");
}

TEST_CASE("of all bytes that may follow each other, those pass that are UTF-8")
{
    const auto well_formed = [](std::string_view bytes) {
        const char* s = bytes.data();
        while (s != bytes.data() + bytes.size()) {
            const auto sequence = holdfast::detail::utf8_at(s, bytes.data() + bytes.size());
            if (!sequence.well_formed) return false;
            s += sequence.length;
        }
        return true;
    };
    std::string value(4, '\0');
    for (int first = 0x80; first <= 0xff; ++first) {
        for (int second = 0; second <= 0xff; ++second) {
            for (const char third : {'\x7f', '\x80', '\xbf', '\xc0'}) {
                for (const char fourth : {'\x7f', '\x80', '\xbf', '\xc0'}) {
                    value = {static_cast<char>(first), static_cast<char>(second), third, fourth, 't', 'a', 'i', 'l'};
                    char text[64];
                    const char* s = value.data();
                    errc error{};
                    holdfast::detail::write_body(text, std::end(text), s, s + value.size(), utf8_policy::error, error);
                    if ((error == errc{}) != well_formed(value)) FAIL(first << ' ' << second);
                }
            }
        }
    }
}

TEST_CASE("optionals are their value or null, nested ones too")
{
    using inner = std::optional<int>;
    CHECK(text(inner{}) == "null");
    CHECK(text(inner{7}) == "7");
    CHECK(text(std::optional<inner>{}) == "null");
    CHECK(text(std::optional<inner>{inner{}}) == "null");
    CHECK(text(std::optional<inner>{inner{7}}) == "7");
    CHECK(text(std::optional<std::vector<inner>>{{inner{}, inner{1}}}) == "[null,1]");
}

TEST_CASE("variants are the value that they hold")
{
    using value = std::variant<std::monostate, int, std::string, std::vector<double>, int>;
    const std::vector<value> values{value{}, value{std::in_place_index<1>, 5}, value{"s"},
                                    value{std::vector<double>{0.5}}, value{std::in_place_index<4>, 6}};
    CHECK(text(values) == R"([null,5,"s",[0.5],6])");
}

TEST_CASE("ranges are arrays, empty ones too")
{
    CHECK(text(std::vector<int>{}) == "[]");
    CHECK(text(std::vector<int>{1, 2}) == "[1,2]");
    CHECK(text(std::vector<std::vector<std::string>>{{}, {"a"}, {}, {"b", ""}}) == R"([[],["a"],[],["b",""]])");
    CHECK(text(std::list<bool>{true}) == "[true]");
    CHECK(text(std::deque<double>{0.5}) == "[0.5]");
    CHECK(text(std::forward_list<std::int8_t>{65}) == "[65]");
    CHECK(text(std::set<std::string>{"b", "a"}) == R"(["a","b"])");
    CHECK(text(std::array<int, 3>{1, 2, 3}) == "[1,2,3]");
    const int plain[] = {1, 2};
    CHECK(text(plain) == "[1,2]");
    const std::vector<unsigned char> bytes{0, 255};
    CHECK(text(std::span(bytes)) == "[0,255]");
}

TEST_CASE("pairs and tuples are arrays")
{
    CHECK(text(std::pair(1, "one")) == R"([1,"one"])");
    CHECK(text(std::tuple(1, std::vector<int>{}, std::tuple<>{}, std::tuple(true))) == "[1,[],[],[true]]");
}

TEST_CASE("maps are objects, and keys are strings, or numbers in quotes")
{
    CHECK(text(std::map<std::string, int>{}) == "{}");
    CHECK(text(std::map<std::string, int>{{"a", 1}, {"b\"\n", 2}}) == R"({"a":1,"b\"\n":2})");
    CHECK(text(std::map<int, std::string>{{-1, "x"}, {2, "y"}}) == R"({"-1":"x","2":"y"})");
    CHECK(text(std::map<double, std::map<bool, char>>{{0.5, {{false, 'n'}, {true, 'y'}}}}) ==
          R"({"0.5":{"false":"n","true":"y"}})");
    CHECK(text(std::map<char, std::vector<int>>{{'k', {1}}}) == R"({"k":[1]})");
    CHECK(text(std::unordered_map<std::string_view, std::optional<int>>{{"k", {}}}) == R"({"k":null})");
    CHECK(text(std::multimap<int, int>{{1, 2}, {1, 3}}) == R"({"1":2,"1":3})");
    CHECK(text(std::map<std::int64_t, int>{{std::numeric_limits<std::int64_t>::min(), 1}}) ==
          R"({"-9223372036854775808":1})");
}

TEST_CASE("a reference is what it refers to")
{
    std::vector<int> numbers{1, 2};
    CHECK(text(std::ref(numbers)) == "[1,2]");
    CHECK(text(std::pair(std::cref(numbers), std::ref(numbers))) == "[[1,2],[1,2]]");
}

TEST_CASE("ndjson is a range's elements, a line each, and one line of anything else")
{
    CHECK(serialize_to_string<ndjson>(std::vector<int>{}) == "");
    CHECK(serialize_to_string<ndjson>(std::vector<std::string>{"a\nb", "c"}) == "\"a\\nb\"\n\"c\"\n");
    CHECK(serialize_to_string<ndjson>(std::vector<std::vector<int>>{{}, {1, 2}}) == "[]\n[1,2]\n");
    CHECK(serialize_to_string<ndjson>(7) == "7\n");
    CHECK(serialize_to_string<ndjson>(std::string("s")) == "\"s\"\n");
    CHECK(serialize_to_string<ndjson>(std::map<std::string, int>{{"a", 1}, {"b", 2}}) == "{\"a\":1,\"b\":2}\n");
    CHECK(serialize_to_string<ndjson>(std::pair(1, 2)) == "[1,2]\n");
    std::vector<int> numbers{1, 2};
    CHECK(serialize_to_string<ndjson>(std::ref(numbers)) == "1\n2\n");
}

TEST_CASE("serialize_to_string throws what next reports")
{
    try {
        text(std::numeric_limits<double>::infinity());
        FAIL("nothing was thrown");
    } catch (const std::system_error& e) {
        CHECK(e.code() == errc::not_finite);
    }
}
