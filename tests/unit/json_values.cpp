// holdfast: tests of values.hpp: times in a unit, bytes in base64, JSON as it stands, and members written as
// these.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/values.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

using holdfast::base64;
using holdfast::checked_json;
using holdfast::errc;
using holdfast::in_unit;
using holdfast::json;
using holdfast::ndjson;
using holdfast::raw_json;
using holdfast::serialize_to_string;
using holdfast::utf8_policy;
using namespace std::chrono_literals;

namespace app {

enum class level : std::uint8_t { low = 1, high = 200 };

struct event {
    std::chrono::system_clock::time_point time;
    std::optional<std::chrono::milliseconds> took;
    std::vector<unsigned char> key;
    std::string details; // JSON
    level urgency = level::high;
    const char* source = "here";
};

constexpr auto describe(holdfast::type_tag<event>)
{
    using holdfast::written_as, holdfast::field;
    return holdfast::fields(field("time", &event::time, written_as<in_unit<std::chrono::seconds>>),
                            field("took", &event::took, written_as<std::optional<in_unit<std::chrono::microseconds>>>),
                            field("key", &event::key, written_as<base64>),
                            field("details", &event::details, written_as<raw_json>),
                            field("urgency", &event::urgency, written_as<unsigned>),
                            field("source", &event::source, written_as<std::string_view>));
}

} // namespace app

namespace {

std::string checked(std::string_view text, std::size_t n = 64, json format = {})
{
    return tests::in_chunks(checked_json(text), n, format);
}

std::error_code checked_error(std::string_view text, std::size_t n = 64)
{
    return tests::failure_in_chunks(checked_json(text), n).error;
}

std::vector<std::byte> bytes_of(std::string_view text)
{
    std::vector<std::byte> bytes;
    for (const char c : text)
        bytes.push_back(static_cast<std::byte>(c));
    return bytes;
}

} // namespace

TEST_CASE("durations and time points are numbers of the unit that is stated, rounded down")
{
    using std::chrono::milliseconds, std::chrono::seconds, std::chrono::nanoseconds;
    CHECK(serialize_to_string<json>(in_unit<milliseconds>(2s)) == "2000");
    CHECK(serialize_to_string<json>(in_unit<seconds>(1999ms)) == "1");
    CHECK(serialize_to_string<json>(in_unit<seconds>(-1ms)) == "-1");
    CHECK(serialize_to_string<json>(in_unit<nanoseconds>(nanoseconds::min())) == "-9223372036854775808");
    CHECK(serialize_to_string<json>(in_unit<std::chrono::duration<double>>(1500ms)) == "1.5");
    CHECK(serialize_to_string<json>(
              in_unit<std::chrono::duration<double, std::milli>>(std::chrono::duration<float>(0.25f))) == "250");
    CHECK(serialize_to_string<json>(in_unit<std::chrono::duration<int, std::ratio<60>>>(2h)) == "120");
    const std::chrono::sys_days day = std::chrono::year(2024) / 2 / 29;
    CHECK(serialize_to_string<json>(in_unit<seconds>(day)) == "1709164800");
    CHECK(serialize_to_string<json>(in_unit<milliseconds>(std::chrono::sys_days(1900y / 1 / 1) - 1ns)) ==
          "-2208988800001");
    CHECK_FALSE(std::is_constructible_v<in_unit<seconds>, std::chrono::duration<double>>); // would be cut
}

TEST_CASE("bytes are base64, for every length and cut wherever the chunk's edge is")
{
    CHECK(serialize_to_string<json>(bytes_of("")) == R"("")"); // the examples of RFC 4648
    CHECK(serialize_to_string<json>(bytes_of("f")) == R"("Zg==")");
    CHECK(serialize_to_string<json>(bytes_of("fo")) == R"("Zm8=")");
    CHECK(serialize_to_string<json>(bytes_of("foo")) == R"("Zm9v")");
    CHECK(serialize_to_string<json>(bytes_of("foob")) == R"("Zm9vYg==")");
    CHECK(serialize_to_string<json>(bytes_of("fooba")) == R"("Zm9vYmE=")");
    CHECK(serialize_to_string<json>(bytes_of("foobar")) == R"("Zm9vYmFy")");
    CHECK(serialize_to_string<json>(std::array{std::byte{0xfb}, std::byte{0xff}, std::byte{0xbf}}) == R"("+/+/")");

    std::mt19937 random(1);
    for (std::size_t length = 0; length < 40; ++length) {
        std::vector<std::byte> bytes(length);
        for (auto& byte : bytes)
            byte = static_cast<std::byte>(random());
        const std::string whole = serialize_to_string<json>(std::pair(bytes, 1));
        CHECK(whole.size() == (length + 2) / 3 * 4 + 6);
        for (std::size_t n = 1; n <= 60; ++n)
            REQUIRE(tests::in_chunks(std::pair(std::span(std::as_const(bytes)), 1), n) == whole);
    }
    const std::vector<std::byte> large(100'001, std::byte{0x55}); // as a row's member, longer than any chunk
    const std::string whole = serialize_to_string<json>(std::vector(1, large));
    CHECK(whole.substr(0, 10) == "[\"VVVVVVVV");
    CHECK(whole.substr(whole.size() - 6) == "VVU=\"]");
    CHECK(whole.size() == 4 + 100'002 / 3 * 4);
}

TEST_CASE("base64 takes bytes of every type")
{
    CHECK(serialize_to_string<json>(base64(std::string_view("foo"))) == R"("Zm9v")");
    CHECK(serialize_to_string<json>(base64(std::vector<unsigned char>{'f'})) == R"("Zg==")");
    CHECK(serialize_to_string<json>(base64(std::array<std::int8_t, 1>{-1})) == R"("/w==")");
    CHECK_FALSE(std::is_constructible_v<base64, std::vector<int>>);
    CHECK_FALSE(std::is_constructible_v<base64, std::vector<bool>>);
}

TEST_CASE("a member is written as what its description says, made anew for every chunk")
{
    const app::event event{std::chrono::sys_seconds(90s) + 1ms, 5ms, {1, 2}, R"({"x": [1]})"};
    const std::string whole =
        R"({"time":90,"took":5000,"key":"AQI=","details":{"x": [1]},"urgency":200,"source":"here"})";
    for (std::size_t n = 1; n <= 100; ++n)
        REQUIRE(tests::in_chunks(std::cref(event), n) == whole);
    CHECK(serialize_to_string<json>(app::event{{}, {}, {}, "0"}).substr(0, 35) ==
          R"({"time":0,"took":null,"key":"","det)");
}

TEST_CASE("smart pointers are what they point to, or null")
{
    CHECK(serialize_to_string<json>(std::make_unique<int>(1)) == "1");
    CHECK(serialize_to_string<json>(std::shared_ptr<std::string>()) == "null");
    std::vector<std::unique_ptr<std::vector<int>>> rows(2); // can only be moved
    rows[1] = std::make_unique<std::vector<int>>(2, 7);
    CHECK(tests::in_chunks(std::move(rows), 3) == "[null,[7,7]]");
}

TEST_CASE("a raw fragment is written as it is, in rows that are made on the fly too")
{
    const std::string fragment = R"({"any": ["text" , 1e400]})";
    for (std::size_t n = 1; n <= 40; ++n) {
        REQUIRE(tests::in_chunks(raw_json(fragment), n) == fragment);
        REQUIRE(tests::in_chunks(std::tuple(1, raw_json(fragment), raw_json("2")), n) == "[1," + fragment + ",2]");
    }
    const std::string long_one(5000, '1');
    CHECK(tests::in_chunks(std::vector{raw_json(long_one), raw_json("2")}, 64) == '[' + long_one + ",2]");
}

TEST_CASE("a checked fragment is copied without its white space, cut anywhere")
{
    const std::string text =
        "\t{ \"a b\" : [ 1, -2.50e+3 ,\r\n0, true,false,null , \"\" ] , \"\\u00e9\\\"\\\\ \xc3\xa9\" : "
        "{} , \"n\":[] , \"x\":[[0.0],{\"y\":-0E-1}] } ";
    const std::string compact = "{\"a b\":[1,-2.50e+3,0,true,false,null,\"\"],\"\\u00e9\\\"\\\\ \xc3\xa9\":{},"
                                "\"n\":[],\"x\":[[0.0],{\"y\":-0E-1}]}";
    for (std::size_t n = 1; n <= 140; ++n)
        REQUIRE(checked(text, n) == compact);
    CHECK(serialize_to_string<ndjson>(std::vector{checked_json("[1,\n2]"), checked_json(" \"\\n\" ")}) ==
          "[1,2]\n\"\\n\"\n");
    for (const std::string_view valid : {"0", "-0", "12", "1.5", "1e5", "1E-5", "\"\"", "true", "false", "null", "[]",
                                         "{}", " [ ] ", "{ }", "123456789012345678901234567890", "\"\x7f\""})
        CHECK_FALSE(checked_error(valid));
}

TEST_CASE("a fragment that is not one JSON value is an error, cut anywhere, and never looks complete")
{
    for (const std::string_view bad : {"",
                                       " ",
                                       "01",
                                       "-",
                                       "-a",
                                       "1.",
                                       ".5",
                                       "1.e1",
                                       "1e",
                                       "1e+",
                                       "+1",
                                       "0x1",
                                       "1 2",
                                       "- 1",
                                       "1. 5",
                                       "tru",
                                       "tr ue",
                                       "truex",
                                       "nul",
                                       "True",
                                       "NaN",
                                       "[",
                                       "]",
                                       "[1",
                                       "[1,",
                                       "[1,]",
                                       "[,1]",
                                       "[1 2]",
                                       "[1}",
                                       "{",
                                       "}",
                                       "{\"a\"}",
                                       "{\"a\":}",
                                       "{\"a\":1,}",
                                       "{\"a\":1 \"b\":2}",
                                       "{a:1}",
                                       "{1:1}",
                                       "{\"a\":1]",
                                       "{\"a\" 1}",
                                       "{,}",
                                       "\"",
                                       "\"a",
                                       "\"\\\"",
                                       "\"\\x\"",
                                       "\"\\u12\"",
                                       "\"\\u12g4\"",
                                       "\"\n\"",
                                       "\"\t\"",
                                       "[1]]",
                                       "{}{}",
                                       "[1],",
                                       "'a'",
                                       "\"a\"b",
                                       "/**/1",
                                       "\xef\xbb\xbf"
                                       "1",
                                       "1\v"}) {
        for (const std::size_t n : {1u, 2u, 3u, 100u}) {
            INFO(bad << " in chunks of " << n);
            REQUIRE(checked_error(bad, n) == errc::invalid_json);
        }
    }
    CHECK(checked_error(std::string_view("1\0", 2)) == errc::invalid_json);
    CHECK(tests::failure_in_chunks(std::pair(1, checked_json("[1,]")), 1).path == "/1");
}

TEST_CASE("a fragment's strings are held to the format's policy of UTF-8")
{
    CHECK(checked_error("\"\xff\"") == errc::invalid_utf8);
    CHECK(checked_error("\"\xe2\x82\"", 1) == errc::invalid_utf8);
    CHECK(checked_error("{\"\xc3\":1}") == errc::invalid_utf8);
    for (const std::size_t n : {1u, 2u, 100u}) {
        CHECK(checked("[\"x\xe2\x82y\"]", n, {.utf8 = utf8_policy::replace}) == "[\"x\ufffdy\"]");
        CHECK(checked("[\"x\xff\"]", n, {.utf8 = utf8_policy::trust}) == "[\"x\xff\"]");
    }
    CHECK(checked_error("\xff") == errc::invalid_json); // outside of strings nothing is text
}

TEST_CASE("a fragment may be nested to a depth of 64, arrays and objects alike")
{
    std::string open, closing;
    for (std::size_t depth = 1; depth <= 65; ++depth) {
        open += depth % 3 == 0 ? "{\"k\":" : "[";
        closing += depth % 3 == 0 ? '}' : ']';
        const std::string nested = open + "1" + std::string(closing.rbegin(), closing.rend());
        if (depth <= holdfast::checked_json_max_depth)
            CHECK(checked(nested, 3) == nested);
        else
            CHECK(checked_error(nested, 3) == errc::depth_exceeded);
    }
}
