// holdfast: are simdjson's on-demand values written as their text, in chunks of any size, and checked?
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/adapters/simdjson_ondemand.hpp>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/chosen.hpp"
#include "support/json_text.hpp"
#include "support/scale.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <ranges>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ondemand = simdjson::ondemand;

namespace {

using holdfast::errc;
using holdfast::json;
using holdfast::ndjson;
using holdfast::simdjson_elements;
using holdfast::streaming_serializer;

struct written {
    std::string text{};
    std::error_code error{};
    std::string path{};
};

template <class Format = json, class Source>
written in_chunks(Source source, std::size_t n)
{
    streaming_serializer<Format, Source> text(std::move(source));
    written w;
    for (std::vector<char> chunk(n); !text.done() && !w.error;) {
        const auto part = text.next(chunk, w.error);
        w.text.append(part.data(), part.size());
        if (!w.error && part.size() != n && !text.done()) FAIL("a chunk is not full, and not the last one");
    }
    if (w.error) w.path = text.error_path();
    return w;
}

/// A document, parsed anew each time, since it can be read once.
struct document {
    explicit document(std::string_view json_text) : text(json_text) {}

    ondemand::document& again()
    {
        REQUIRE_FALSE(parser.iterate(text).get(root));
        return root;
    }

    simdjson::padded_string text;
    ondemand::parser parser;
    ondemand::document root;
};

constexpr std::string_view sample = R"({
    "numbers" : [ 1.10, -0.0, 1e400, 18446744073709551616, 0.1e-2 , 7 ],
    "text"    : "\u00e9 \/ \n é" ,
    "empty"   : [ [ ] , { } , "" ],
    "rows"    : [ {"id": 1, "tags": ["a", null]}, {"id": 2, "tags": []},
                  {"id": 3, "tags": [true, { "deep" : [false] }]} ]
})";

constexpr std::string_view compact =
    R"({"numbers":[1.10,-0.0,1e400,18446744073709551616,0.1e-2,7],"text":"\u00e9 \/ \n é",)"
    R"("empty":[[],{},""],"rows":[{"id":1,"tags":["a",null]},{"id":2,"tags":[]},)"
    R"({"id":3,"tags":[true,{"deep":[false]}]}]})";

using result = simdjson::simdjson_result<ondemand::value>;

struct picked {
    result number;
    result text;
    result rest;
};
constexpr auto describe(holdfast::type_tag<picked>)
{
    using holdfast::field;
    return holdfast::fields(field("number", &picked::number), field("text", &picked::text),
                            field("rest", &picked::rest));
}

} // namespace

TEST_CASE("a value's text is written without its white space, and else as it is, in chunks of any size")
{
    document d(sample);
    for (std::size_t n = 1; n != 130; ++n) {
        CHECK(in_chunks(d.again().get_value(), n).text == compact);
        CHECK(in_chunks<ndjson>(d.again().get_value(), n).text == std::string(compact) + '\n');
        CHECK(in_chunks<ndjson>(d.again()["empty"], n).text == "[]\n{}\n\"\"\n");
        CHECK(in_chunks<ndjson>(d.again()["rows"], n).text ==
              "{\"id\":1,\"tags\":[\"a\",null]}\n{\"id\":2,\"tags\":[]}\n"
              "{\"id\":3,\"tags\":[true,{\"deep\":[false]}]}\n");
    }
    CHECK(in_chunks(d.again()["numbers"].at(2), 3).text == "1e400");
    for (const std::string_view scalar : {"1e400", "\"\\u00e9\"", "null", "true", "-1"}) {
        document one("[ " + std::string(scalar) + " ]");
        CHECK(in_chunks(one.again().at(0), 1).text == scalar);
        CHECK(in_chunks<ndjson>(one.again().at(0), 1).text == std::string(scalar) + '\n');
    }
}

TEST_CASE("random values are written as their text without its white space, in chunks of random sizes")
{
    const auto seed = std::random_device{}();
    for (std::uint64_t round = 0; round != (tests::sanitized ? 200 : 2000); ++round) {
        INFO("seed " << seed << ", round " << round);
        tests::random_choices choices(seed + (round << 32));
        const auto n = [&choices] { return 1 + tests::any_size(choices, 2048); };
        std::string pretty, lines, picked_ones;
        for (std::size_t left = tests::any_size(choices, 20); left != 0; --left) {
            const tests::json_text one = tests::any_json(choices);
            pretty += (pretty.empty() ? '[' : ',') + one.pretty;
            picked_ones += (picked_ones.empty() ? '[' : ',') + one.compact;
            lines += one.compact + '\n';
        }
        pretty += pretty.empty() ? "[]" : "]";
        picked_ones += picked_ones.empty() ? "[]" : "]";
        document d(pretty);
        REQUIRE(tests::in_chunks<json>(d.again().get_value().value(), n).text == picked_ones);
        REQUIRE(tests::in_chunks<json>(simdjson_elements(d.again().get_value()), n).text == picked_ones);
        REQUIRE(tests::in_chunks<ndjson>(d.again().get_value().value(), n).text == lines);
    }
}

TEST_CASE("rows are picked from a document while they are written")
{
    document d(sample);
    const auto rows = [&](auto f) {
        return simdjson_elements(d.again()["rows"]) | std::views::transform(std::move(f));
    };
    for (std::size_t n = 1; n != 20; ++n) {
        CHECK(in_chunks(rows([](result row) { return row["tags"]; }), n).text ==
              R"([["a",null],[],[true,{"deep":[false]}]])");
        CHECK(in_chunks<ndjson>(rows([](result row) { return row["id"]; }), n).text == "1\n2\n3\n");
        const auto id_and_tags = [](result row) {
            const auto id = row["id"].get_int64().value() * 10;
            return std::pair(id, row["tags"]); // in the document's order
        };
        CHECK(in_chunks(rows(id_and_tags), n).text == R"([[10,["a",null]],[20,[]],[30,[true,{"deep":[false]}]]])");
        auto odd = std::views::filter(simdjson_elements(d.again()["numbers"]),
                                      [](result number) { return number.get_double().error() == 0; });
        CHECK(in_chunks(std::move(odd), n).text == "[1.10,-0.0,18446744073709551616,0.1e-2,7]");
        ondemand::document& root = d.again();
        picked members{root["numbers"].at(1), root["text"], root["rows"]};
        CHECK(in_chunks(std::move(members), n).text ==
              R"({"number":-0.0,"text":"\u00e9 \/ \n é","rest":[{"id":1,"tags":["a",null]},)"
              R"({"id":2,"tags":[]},{"id":3,"tags":[true,{"deep":[false]}]}]})");
    }
    document none("[]");
    CHECK(in_chunks(simdjson_elements(none.again().get_value()), 5).text == "[]");
    STATIC_REQUIRE_FALSE(holdfast::multi_pass_source<ondemand::value, json>);
    STATIC_REQUIRE_FALSE(holdfast::multi_pass_source<picked, json>);
}

TEST_CASE("what on-demand parsing would find late, or never, fails at its place, and nothing comes after it")
{
    for (const std::size_t n : {1U, 7U, 100U}) {
        // Only the token's first byte tells its type.
        for (const std::string_view broken :
             {R"([1, tru])", R"([1, 01])", R"([1, nul])", R"([1, [1 2]])", R"([1, {"a" 1}])", R"([1, "\x"])",
              R"([1, {"a":1,}])", R"([1, [2}])", R"([1, -])", R"([1, 1.e3])"}) {
            INFO(broken << ", chunks of " << n);
            document d(broken);
            const written w = in_chunks(simdjson_elements(d.again().get_value()), n);
            CHECK(w.error == errc::invalid_json);
            CHECK(w.path == "/1");
            CHECK(w.text.size() <= std::string_view("[1,").size() + broken.size());
            CHECK(w.text == w.text.substr(0, w.text.find("]]")));
            CHECK(in_chunks(d.again().get_value(), n).error == errc::invalid_json);
            CHECK(in_chunks<ndjson>(d.again().get_value(), n).error == errc::invalid_json);
        }
        document unended(R"([1, [2, 3)");
        CHECK(in_chunks(simdjson_elements(unended.again().get_value()), n).error == errc::invalid_json);
        document cut(R"([1 2])");
        CHECK(in_chunks(simdjson_elements(cut.again().get_value()), n).error == errc::invalid_json);
        document good(sample);
        const written missing = in_chunks(picked{good.again()["numbers"].at(9), {}, {}}, n);
        CHECK(missing.error == errc::source_failed);
        CHECK(missing.path == "/number");
        CHECK(in_chunks(good.again()["nothing"], n).error == errc::source_failed);
        CHECK(in_chunks(simdjson_elements(good.again()["text"]), n).error == errc::source_failed);
        CHECK(in_chunks(picked{}, n).error == errc::source_failed);
        document scalar("42");
        CHECK(in_chunks(scalar.again().get_value(), n).error == errc::source_failed);
    }
    document good(sample);
    ondemand::document& root = good.again();
    picked passed{root["empty"], root["rows"].at(0)["id"], {}};
    const written w = in_chunks(std::move(passed), 10);
    CHECK(w.error == errc::source_failed);
    CHECK(w.path == "/number");
    document deep(std::string(100, '[') + std::string(100, ']'));
    CHECK(in_chunks(deep.again().get_value(), 7).error == errc::depth_exceeded);
}

TEST_CASE("an array or object that the parser has passed, or returned from, is not mistaken for another one")
{
    document d(R"({"a":[1,2],"b":[7,8,9],"c":{"d":5},"e":5})");
    const auto refuses = [](auto get, auto meanwhile) {
        for (const std::size_t n : {1U, 100U}) {
            const auto passed = [&] {
                result value = get();
                meanwhile();
                return value;
            };
            CHECK(in_chunks(passed(), n).error == errc::source_failed);
            CHECK(in_chunks<ndjson>(passed(), n).error == errc::source_failed);
            CHECK(in_chunks(simdjson_elements(passed()), n).error == errc::source_failed);
        }
    };
    for (const char* const name : {"a", "b", "c"}) {
        INFO(name);
        const auto get = [&] { return d.again()[name]; };
        refuses(get, [&] { REQUIRE_FALSE(d.root["e"].get_int64().error()); });
        refuses(get, [&] { REQUIRE_FALSE(d.root["b"].get_array().error()); });
        refuses(get, [&] { d.root.rewind(); });
        refuses(get, [&] { REQUIRE_FALSE(d.parser.iterate(d.text).get(d.root)); });
    }
    document broken(R"({"a":[1 2],"b":[7,8,9]})");
    refuses([&] { return broken.again()["a"]; },
            [&] {
                for (auto each : broken.again()["a"].get_array()) // simdjson gives the document up
                    if (each.error()) break;
            });
}

TEST_CASE("text after a document is not left out")
{
    for (const std::string_view more :
         {"[1] x", "[1] [2]", "[1],[2]", "[1]]", R"({"a":1}{"b":2})", R"({"a":1}})", R"({"a":[1]}])"}) {
        INFO(more);
        document d(more);
        for (const std::size_t n : {1U, 100U}) {
            CHECK(in_chunks(d.again().get_value(), n).error == errc::invalid_json);
            CHECK(in_chunks<ndjson>(d.again().get_value(), n).error == errc::invalid_json);
            if (more.front() == '[')
                CHECK(in_chunks(simdjson_elements(d.again().get_value()), n).error == errc::invalid_json);
        }
    }
}

TEST_CASE("white space after an array makes no chunk of its own")
{
    document d(R"({"a":[1] , "b":2})");
    for (const std::size_t n : {1U, 2U, 9U}) {
        streaming_serializer<ndjson, result> text(d.again()["a"]);
        std::vector<char> chunk(n);
        for (std::error_code ec; !text.done();)
            REQUIRE_FALSE(text.next(chunk, ec).empty());
    }
}

TEST_CASE("on-demand values are written without an allocation")
{
    std::string many = "[";
    for (int i = 0; i != 1000; ++i)
        many += R"({"id": 12345, "text": "some of it"},)";
    many.back() = ']';
    document d(many);
    d.again();
    std::vector<char> chunk(4096);
    const auto allocations = tests::allocations_in([&] {
        simdjson_elements rows(d.again().get_value());
        streaming_serializer<json, std::reference_wrapper<simdjson_elements>> text(rows);
        for (std::error_code ec; !text.done();)
            text.next(chunk, ec);
    });
    CHECK(allocations == 0);
}
