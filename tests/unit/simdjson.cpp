// holdfast: tests with simdjson: its documents as sources, and as the reader of what was written.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/adapters/simdjson.hpp>

#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace dom = simdjson::dom;

namespace {

using holdfast::errc;
using holdfast::json;
using holdfast::ndjson;
using holdfast::serialize_to_string;
using holdfast::streaming_serializer;
using tests::failure_in_chunks;

template <class Format = json, class Source>
std::string in_chunks(Source source, std::size_t n)
{
    streaming_serializer<Format, Source> text(std::move(source));
    std::string whole;
    std::vector<char> chunk(n);
    for (;;) {
        std::error_code ec;
        const auto part = text.next(chunk, ec);
        if (ec) throw std::system_error(ec);
        if (part.empty()) break;
        if (part.size() != n && !text.done()) throw std::logic_error("a chunk is not full, and not the last one");
        whole.append(part.data(), part.size());
    }
    if (!text.done() || text.bytes_written() != whole.size()) throw std::logic_error("miscounted");
    return whole;
}

// Whether two documents say the same: the same types, bits, texts, and order.
bool equal(dom::element a, dom::element b)
{
    if (a.type() != b.type()) return false;
    switch (a.type()) {
    case dom::element_type::OBJECT: {
        dom::object x = a.get_object(), y = b.get_object();
        auto right = y.begin();
        for (auto left = x.begin(); left != x.end(); ++left, ++right)
            if (right == y.end() || left.key() != right.key() || !equal(left.value(), right.value())) return false;
        return right == y.end();
    }
    case dom::element_type::ARRAY: {
        dom::array x = a.get_array(), y = b.get_array();
        auto right = y.begin();
        for (auto left = x.begin(); left != x.end(); ++left, ++right)
            if (right == y.end() || !equal(*left, *right)) return false;
        return right == y.end();
    }
    case dom::element_type::STRING:
        return a.get_string().value() == b.get_string().value();
    case dom::element_type::INT64:
        return a.get_int64().value() == b.get_int64().value();
    case dom::element_type::UINT64:
        return a.get_uint64().value() == b.get_uint64().value();
    case dom::element_type::DOUBLE:
        return std::bit_cast<std::uint64_t>(a.get_double().value()) ==
               std::bit_cast<std::uint64_t>(b.get_double().value());
    case dom::element_type::BOOL:
        return a.get_bool().value() == b.get_bool().value();
    case dom::element_type::NULL_VALUE:
        return true;
    default:
        return false;
    }
}

// A double whose text has no point is read back as an integer: text that has been through once stays as it
// is.
void check_round_trip(const std::string& file)
{
    INFO(file);
    dom::parser parser, again;
    dom::element document;
    REQUIRE(parser.load(file).get(document) == simdjson::SUCCESS);
    const std::string whole = serialize_to_string<json>(document);
    REQUIRE(whole.size() > 1000);
    dom::element read;
    REQUIRE(again.parse(whole).get(read) == simdjson::SUCCESS);
    if (file.find("canada") == std::string::npos) { // it has 100.0 and the like
        REQUIRE(equal(document, read));
        REQUIRE(whole == simdjson::minify(document));
    } else {
        dom::parser third;
        dom::element unpointed;
        REQUIRE(third.parse(serialize_to_string<json>(read)).get(unpointed) == simdjson::SUCCESS);
        REQUIRE(equal(read, unpointed));
    }
    for (const std::size_t n : {1u, 3u, 29u, 64u, 200u, 1024u, 16384u, 100'000'000u}) {
        INFO("chunks of " << n);
        REQUIRE(in_chunks(document, n) == whole);
    }
}

struct row {
    std::int64_t number;
    std::uint64_t large;
    double real;
    std::string text;
    std::optional<bool> flag;
    std::map<std::string, std::vector<std::string>> tags;

    bool operator==(const row&) const = default;
};

constexpr auto describe(holdfast::type_tag<row>)
{
    using holdfast::field;
    return holdfast::fields(field("number", &row::number), field("large", &row::large), field("real", &row::real),
                            field("text", &row::text), field("flag", &row::flag), field("tags", &row::tags));
}

std::string random_text(std::mt19937_64& random)
{
    static const std::string pieces[] = {
        "a",    "plain text ", "\"",     "\\",         "\n", "\x01",   "\x1f",
        "\x7f", "\u00e9",      "\u20ac", "\U0001f30a", "/",  "\u2028", std::string(1, '\0')};
    std::string made;
    for (auto n = random() % 12; n != 0; --n)
        made += pieces[random() % std::size(pieces)];
    return made;
}

row random_row(std::mt19937_64& random)
{
    row made{};
    made.number = static_cast<std::int64_t>(static_cast<std::int64_t>(random()) >> (random() % 64));
    made.large = std::numeric_limits<std::uint64_t>::max() - random() % 3;
    do
        made.real = std::bit_cast<double>(static_cast<std::uint64_t>(random()));
    while (!std::isfinite(made.real));
    if (random() % 2 != 0) made.real = static_cast<double>(random() % 1'000'000) / 100;
    made.text = random_text(random);
    if (random() % 3 != 0) made.flag = random() % 2 != 0;
    for (auto n = random() % 3; n != 0; --n)
        made.tags[random_text(random)].resize(random() % 3, random_text(random));
    return made;
}

row read_row(dom::element from)
{
    row read{};
    read.number = from["number"].get_int64();
    read.large = from["large"].get_uint64();
    read.real = from["real"].get_double();
    read.text = from["text"].get_string().value();
    if (!from["flag"].is_null()) read.flag = from["flag"].get_bool().value();
    for (const auto tag : from["tags"].get_object()) {
        auto& values = read.tags[std::string(tag.key)];
        for (const auto value : tag.value.get_array())
            values.emplace_back(value.get_string().value());
    }
    return read;
}

} // namespace

TEST_CASE("what was written is read back by simdjson as it was")
{
    std::mt19937_64 random(7);
    std::vector<row> rows;
    for (int i = 0; i < 300; ++i)
        rows.push_back(random_row(random));
    for (const std::size_t n : {1u, 13u, 64u, 1000u, 16384u}) {
        INFO("chunks of " << n);
        dom::parser parser;
        dom::element document;
        const std::string text = in_chunks(std::cref(rows), n);
        REQUIRE(parser.parse(text).get(document) == simdjson::SUCCESS);
        std::size_t i = 0;
        for (const auto element : document.get_array()) {
            REQUIRE(i < rows.size());
            REQUIRE(read_row(element) == rows[i]);
            ++i;
        }
        REQUIRE(i == rows.size());
    }
}

TEST_CASE("real documents are the same after a round trip, whatever the chunk size")
{
    check_round_trip("/usr/share/iso-codes/json/iso_639-3.json");
    check_round_trip("/usr/share/iso-codes/json/iso_3166-2.json");
    if (const char* corpus = std::getenv("HOLDFAST_CORPUS")) {
        for (const char* name : {"twitter.json", "citm_catalog.json", "canada.json"})
            check_round_trip(std::string(corpus) + '/' + name);
    }
}

TEST_CASE("every kind of value in a document is written, whatever the chunk size")
{
    const std::string text =
        R"({"":[],"empty":{},"nested":[[[]],[{}],{"a":{"b":[1,{"c":null}]}}],"numbers":[0,-1,-9223372036854775808,)"
        R"(18446744073709551615,9223372036854775807,0.1,-0.0,5e-324,1.7976931348623157e+308,0.30000000000000004],)"
        R"("literals":[true,false,null],"strings":["","\"\\\b\f\n\r\t\u0000\u001f","é€🌊",)"
        R"("long enough to be cut by many of the chunks, and longer than sixteen bytes anyway"],"\"k\\\u0001":"é"})";
    dom::parser parser;
    dom::element document = parser.parse(text);
    for (std::size_t n = 1; n <= 200; ++n) {
        INFO("chunks of " << n);
        REQUIRE(in_chunks(document, n) == text);
        REQUIRE(in_chunks<ndjson>(document, n) == text + '\n');
    }
}

TEST_CASE("parts of a document, its root's container and the document itself are sources")
{
    dom::parser parser;
    dom::element root = parser.parse(std::string(R"({"a":[1,[2,3],{"x":4}],"b":"s","c":7})"));
    CHECK(serialize_to_string<json>(root["a"].value()) == R"([1,[2,3],{"x":4}])");
    CHECK(serialize_to_string<json>(root["a"].at(1).value()) == "[2,3]");
    CHECK(serialize_to_string<json>(root["b"].value()) == R"("s")");
    CHECK(serialize_to_string<json>(root["c"].value()) == "7");
    CHECK(serialize_to_string<json>(root["a"].get_array().value()) == R"([1,[2,3],{"x":4}])");
    CHECK(serialize_to_string<json>(root["a"].at(2).get_object().value()) == R"({"x":4})");
    dom::document document;
    REQUIRE(parser.parse_into_document(document, std::string(R"([1,"two"])")).error() == simdjson::SUCCESS);
    CHECK(serialize_to_string<json>(document) == R"([1,"two"])");
    CHECK(serialize_to_string<ndjson>(std::as_const(document)) == "1\n\"two\"\n");
    CHECK(serialize_to_string<json>(std::move(document)) == R"([1,"two"])");
}

TEST_CASE("results of elements, arrays and objects are sources, on their own and as members")
{
    dom::parser parser;
    const std::string text = R"({"a":[1,{"x":4}],"b":"s","c":{"d":null}})";
    const auto root = parser.parse(text);
    CHECK(serialize_to_string<json>(root) == text);
    CHECK(serialize_to_string<json>(root["a"]) == R"([1,{"x":4}])");
    CHECK(serialize_to_string<json>(root["b"]) == R"("s")");
    CHECK(serialize_to_string<json>(root["a"].get_array()) == R"([1,{"x":4}])");
    CHECK(serialize_to_string<json>(root["c"].get_object()) == R"({"d":null})");
    CHECK(serialize_to_string<ndjson>(root["a"]) == "1\n{\"x\":4}\n");
    const std::vector<simdjson::simdjson_result<dom::element>> members{root["b"], root["c"], root["a"].at(0)};
    for (std::size_t n = 1; n != 30; ++n)
        REQUIRE(in_chunks(std::cref(members), n) == R"(["s",{"d":null},1])");
}

TEST_CASE("a result that is an error, and a document into which nothing was parsed, fail")
{
    dom::parser parser;
    const auto root = parser.parse(std::string(R"({"a":1})"));
    CHECK(failure_in_chunks(root["b"], 10).error == errc::source_failed);
    CHECK(failure_in_chunks(root["a"].get_array(), 10).error == errc::source_failed);
    CHECK(failure_in_chunks(simdjson::simdjson_result<dom::element>(), 10).error == errc::source_failed);
    CHECK(failure_in_chunks(parser.parse(std::string("[")), 10).error == errc::invalid_json);
    const dom::document document;
    CHECK(failure_in_chunks(std::cref(document), 10).error == errc::source_failed);
    CHECK(failure_in_chunks<ndjson>(std::cref(document), 10).error == errc::source_failed);
}

TEST_CASE("elements stand inside other sources")
{
    dom::parser parser;
    dom::element list = parser.parse(std::string(R"([{"a":1},2,"three"])"));
    std::vector<dom::element> elements;
    for (const dom::element e : list.get_array())
        elements.push_back(e);
    for (const std::size_t n : {1u, 5u, 100u}) {
        INFO("chunks of " << n);
        REQUIRE(in_chunks(elements, n) == R"([{"a":1},2,"three"])");
        REQUIRE(in_chunks<ndjson>(elements, n) == "{\"a\":1}\n2\n\"three\"\n");
        REQUIRE(in_chunks(std::map<int, std::optional<dom::element>>{{1, list}, {2, {}}}, n) ==
                R"({"1":[{"a":1},2,"three"],"2":null})");
    }
}

TEST_CASE("ndjson of a root array is one element a line, whatever the chunk size")
{
    const std::vector<std::pair<std::string, std::string>> cases{
        {"[]", ""},
        {"[1]", "1\n"},
        {R"([[1,2],[],{"a":[3,4]},"s\n",{}])", "[1,2]\n[]\n{\"a\":[3,4]}\n\"s\\n\"\n{}\n"},
        {R"({"a":[1,2]})", "{\"a\":[1,2]}\n"},
        {"{}", "{}\n"},
        {"7", "7\n"},
    };
    for (const auto& [text, lines] : cases) {
        dom::parser parser;
        dom::element document = parser.parse(text);
        for (std::size_t n = 1; n <= 60; ++n) {
            INFO(text << " in chunks of " << n);
            REQUIRE(in_chunks<ndjson>(document, n) == lines);
        }
    }
}

TEST_CASE("one parsed document serves many serializers at once")
{
    dom::parser parser;
    dom::element document = parser.load("/usr/share/iso-codes/json/iso_3166-2.json");
    const std::string whole = serialize_to_string<json>(document);
    constexpr std::size_t readers = 20;
    std::vector<std::unique_ptr<streaming_serializer<json, dom::element>>> texts;
    std::vector<std::string> joined(readers);
    for (std::size_t i = 0; i < readers; ++i)
        texts.push_back(std::make_unique<streaming_serializer<json, dom::element>>(document));
    std::vector<char> chunk(16384);
    for (bool more = true; more;) {
        more = false;
        for (std::size_t i = 0; i < readers; ++i) { // each at its own pace
            std::error_code ec;
            const auto part = texts[i]->next({chunk.data(), 1000 + 700 * i}, ec);
            REQUIRE_FALSE(ec);
            joined[i].append(part.data(), part.size());
            more = more || !texts[i]->done();
        }
    }
    for (const auto& text : joined)
        CHECK(text == whole);
}

TEST_CASE("a document nested more deeply than the cursor can remember is an error, not an overflow")
{
    for (const bool objects : {false, true}) {
        for (const std::size_t depth : {holdfast::simdjson_max_depth, holdfast::simdjson_max_depth + 1}) {
            std::string text;
            for (std::size_t i = 0; i < depth; ++i)
                text += objects ? "{\"a\":" : "[";
            text += objects ? "1" : "";
            text.append(depth, objects ? '}' : ']');
            dom::parser parser;
            REQUIRE(parser.allocate(text.size(), 3000) == simdjson::SUCCESS);
            dom::element document;
            REQUIRE(parser.parse(text).get(document) == simdjson::SUCCESS);
            for (const std::size_t n : {1u, 100u, 16384u}) {
                INFO(depth << " levels in chunks of " << n);
                streaming_serializer<json, dom::element> writer{document};
                std::vector<char> chunk(n);
                std::string joined;
                std::error_code ec;
                while (!ec && !writer.done()) {
                    const auto part = writer.next(chunk, ec);
                    joined.append(part.data(), part.size());
                }
                if (depth == holdfast::simdjson_max_depth) {
                    REQUIRE_FALSE(ec);
                    REQUIRE(joined == text);
                } else {
                    REQUIRE(ec == errc::depth_exceeded);
                    REQUIRE(text.starts_with(joined));
                    REQUIRE(joined.find_first_of("]}") == std::string::npos);
                }
            }
        }
    }
}

TEST_CASE("integers beyond 64 bits are written as they were, where simdjson keeps them")
{
    const std::string text = R"([123456789012345678901234567890,{"a":-98765432109876543210}])";
    const auto check = [&](auto& parser) { // generic, so that what this simdjson lacks is not compiled
        if constexpr (requires { parser.number_as_string(true); }) {
            parser.number_as_string(true);
            dom::element document = parser.parse(text);
            for (std::size_t n = 1; n <= 80; ++n)
                REQUIRE(in_chunks(document, n) == text);
        } else {
            REQUIRE(parser.parse(text).error() != simdjson::SUCCESS);
        }
    };
    dom::parser parser;
    check(parser);
}

TEST_CASE("doubles beyond the integers of 64 bits are written so that simdjson reads them")
{
    std::mt19937_64 random(64);
    dom::parser parser, again;
    for (int i = 0; i != 20'000; ++i) {
        // From 2^60 to 2^80, of either sign.
        const double value = std::ldexp(static_cast<double>(random() >> 11), 8 + i % 20) * (i % 2 != 0 ? 1 : -1);
        const std::string text = serialize_to_string<json>(std::vector{value});
        INFO(text);
        dom::element document, copy;
        REQUIRE(parser.parse(text).get(document) == simdjson::SUCCESS);
        REQUIRE(document.at(0).get_double().value() == value);
        REQUIRE(again.parse(serialize_to_string<json>(document)).get(copy) == simdjson::SUCCESS);
        REQUIRE(copy.at(0).get_double().value() == value);
    }
}

TEST_CASE("an element that was never assigned is an error")
{
    streaming_serializer<json, dom::element> writer{dom::element()};
    std::vector<char> chunk(10);
    std::error_code ec;
    CHECK(writer.next(chunk, ec).empty());
    CHECK(ec == errc::source_failed);
}

TEST_CASE("the size of a document's serializer is what the documentation says")
{
    if constexpr (sizeof(void*) == 8) CHECK(sizeof(streaming_serializer<json, dom::element>) <= 736);
}

TEST_CASE("empty containers stand wherever a chunk's edge cuts them")
{
    std::string text = "[";
    for (int i = 0; i < 200; ++i)
        text += R"({"a":{},"b":[],"c":{"d":[[],{}]}},)";
    text += "[]]";
    dom::parser parser;
    const dom::element root = parser.parse(text);
    for (std::size_t size = 1; size < 400; ++size)
        REQUIRE(in_chunks<json>(root, size) == text);
}
