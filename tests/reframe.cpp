// holdfast: tests of reframing: lines of NDJSON to an array and back, in pieces and chunks of every size.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/reframe.hpp>

#include "support/allocations.hpp"
#include "support/catch.hpp"

#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using holdfast::errc;
using holdfast::reframe_to;
using holdfast::reframer;

struct outcome {
    std::string text;
    std::error_code error;
    std::uint64_t elements = 0;
};

// The text comes in pieces of a size and goes out in chunks of a size.
template <reframe_to To>
outcome reframe(std::string_view text, std::size_t piece_size, std::size_t chunk_size)
{
    reframer<To> to;
    outcome o;
    std::vector<char> chunk(chunk_size);
    const auto take = [&](auto&& next) {
        for (;;) {
            const std::string_view part = next();
            if (part.empty()) break;
            o.text += part;
        }
    };
    while (!text.empty() && !o.error) {
        std::string_view piece = text.substr(0, piece_size);
        text.remove_prefix(piece.size());
        take([&] { return to.next(piece, chunk, o.error); });
        if (!o.error && !piece.empty()) FAIL("a piece was not taken");
    }
    if (!o.error) take([&] { return to.finish(chunk, o.error); });
    o.elements = to.elements();
    if (o.error) {
        // It stays so, and nothing more comes.
        std::error_code again;
        std::string_view more = "1\n";
        if (!to.next(more, chunk, again).empty() || again != o.error) FAIL("it went on after an error");
        if (!to.finish(chunk, again).empty() || again != o.error) FAIL("it ended well after an error");
    }
    return o;
}

void check_same(const std::string& lines, const std::string& array, const std::string& loose_lines,
                const std::string& loose_array, std::size_t piece, std::size_t chunk)
{
    INFO("pieces of " << piece << ", chunks of " << chunk);
    const outcome a = reframe<reframe_to::array>(loose_lines, piece, chunk);
    REQUIRE_FALSE(a.error);
    REQUIRE(a.text == array);
    const outcome l = reframe<reframe_to::ndjson>(loose_array, piece, chunk);
    REQUIRE_FALSE(l.error);
    REQUIRE(l.text == lines);
    REQUIRE(a.elements == l.elements);
}

// Writes a random value twice: compact, and with white space that is none of a line's ends, or any.
class writer {
public:
    explicit writer(unsigned seed) : random_(seed) {}

    unsigned below(unsigned n) { return std::uniform_int_distribution<unsigned>(0, n - 1)(random_); }

    void token(std::string_view text)
    {
        compact += text;
        in_line += std::string(below(3), ' ') + std::string(text) + std::string(below(2), '\t');
        pretty += std::string(below(2), '\n') + std::string(text) + std::string(below(2), '\r');
    }

    void value(unsigned depth)
    {
        static constexpr std::string_view scalars[] = {
            "0",
            "-0.0",
            "1.10",
            "1e400",
            "18446744073709551616",
            "-1E+2",
            "true",
            "false",
            "null",
            R"("")",
            R"("a, [b] {c}: \"\\")",
            R"("\u00e9\n\/é€🌊")",
            R"("},]\\")",
            R"("longer than the blocks of thirty-two bytes, and , again with ] and [ in it")"};
        const unsigned kind = below(depth < 5 ? 4 : 2);
        if (kind < 2) return token(scalars[below(std::size(scalars))]);
        token(kind == 2 ? "[" : "{");
        for (unsigned i = 0, n = below(4); i < n; ++i) {
            if (i != 0) token(",");
            if (kind == 3) {
                token(R"("k,\"]")");
                token(":");
            }
            value(depth + 1);
        }
        token(kind == 2 ? "]" : "}");
    }

    std::string compact, in_line, pretty;

private:
    std::mt19937 random_;
};

} // namespace

TEST_CASE("random values are the same both ways, in pieces and chunks of every size")
{
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::string lines, loose_lines = "\n \r\n", array = "[", loose_array = " \n[";
    for (unsigned i = 0; i < 24; ++i) {
        writer w(seed + i);
        w.value(0);
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

TEST_CASE("real documents are reframed as simdjson minifies them")
{
    const char* corpus = std::getenv("HOLDFAST_CORPUS");
    std::vector<std::string> files = {"/usr/share/iso-codes/json/iso_639-3.json"};
    if (corpus != nullptr)
        for (const char* name : {"twitter.json", "citm_catalog.json", "canada.json"})
            files.push_back(std::string(corpus) + '/' + name);
    for (const std::string& file : files) {
        INFO(file);
        const simdjson::padded_string text = simdjson::padded_string::load(file);
        std::string compact(text.size(), 0);
        std::size_t size = 0;
        REQUIRE(simdjson::minify(text.data(), text.size(), compact.data(), size) == simdjson::SUCCESS);
        compact.resize(size);
        const std::string loose(text.data(), text.size());
        check_same(compact + '\n' + compact + '\n', '[' + compact + ',' + compact + ']',
                   compact + "\r\n\r\n" + compact, "[\n" + loose + ",\n" + loose + "\n]\n", 4093, 1021);
    }
}

TEST_CASE("nothing is an empty array, and the other way round")
{
    for (std::size_t n = 1; n <= 3; ++n) {
        CHECK(reframe<reframe_to::array>("", n, n).text == "[]");
        CHECK(reframe<reframe_to::array>("\n \r\n", n, n).text == "[]");
        const outcome o = reframe<reframe_to::ndjson>(" [\n] ", n, n);
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
    const auto check = [](auto reframed, const bad& b) {
        INFO(b.text);
        for (const std::size_t n : {std::size_t{1}, std::size_t{64}}) {
            const outcome o = reframed(b.text, n, n);
            CHECK(o.error == errc::invalid_json);
            CHECK(o.elements == b.elements);
        }
    };
    const bad arrays[] = {
        {"", 0},           {"1", 0},     {"{}", 0},         {"[", 0},
        {"[1", 1},         {"[1,2", 2},  {"[1,]", 2},       {"[,1]", 0},
        {"[1,,2]", 2},     {"[1 2]", 1}, {"[1]]", 1},       {"[1],", 1},
        {"[1][2]", 1},     {"[1]x", 1},  {R"(["a)", 1},     {"[{]", 1},
        {R"([1,"a]])", 2}, {"[[1}]", 1}, {"[\"a\nb\"]", 1}, {"[1}", 1},
        {R"(["\x"])", 1},  {"[tru]", 1}, {"[01]", 1},       {R"([{"a" 1}])", 1},
    };
    for (const bad& b : arrays)
        check(reframe<reframe_to::ndjson>, b);
    const bad lines[] = {
        {"1 2", 1},    {"1,2", 1}, {"1\n,2", 2}, {"[1,\n2]", 1}, {"\"a\nb\"", 1},
        {"1\n\"a", 2}, {"{\n", 1}, {"]", 1},     {"-\n", 1},
    };
    for (const bad& b : lines)
        check(reframe<reframe_to::array>, b);
}

TEST_CASE("the limit of depth is that of checked_json, and counts the array")
{
    const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
    const std::size_t most = holdfast::checked_json_max_depth;
    CHECK(reframe<reframe_to::ndjson>(nested(most), 64, 64).text == nested(most - 1) + '\n');
    CHECK(reframe<reframe_to::ndjson>(nested(most + 1), 64, 64).error == errc::depth_exceeded);
    CHECK(reframe<reframe_to::array>(nested(most), 64, 64).text == '[' + nested(most) + ']');
    CHECK(reframe<reframe_to::array>(nested(most + 1), 64, 64).error == errc::depth_exceeded);
}

TEST_CASE("reframing allocates nothing")
{
    char chunk[7];
    std::size_t bytes = 0;
    const std::size_t allocations = tests::allocations_in([&] {
        reframer<reframe_to::ndjson> lines;
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
