// holdfast: is a document's text the same wherever the chunks end? Compiled for each instruction set that the writer has
// code for and the machine has.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/adapters/simdjson.hpp>

#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <cstddef>
#include <random>
#include <string>
#include <string_view>

namespace {

using holdfast::json;
using holdfast::ndjson;

class random_document {
public:
    explicit random_document(unsigned seed) : random_(seed) {}

    // Of so many values, the innermost ones at most at that depth.
    std::string array(std::size_t values, unsigned depth)
    {
        std::string text = "[";
        for (std::size_t i = 0; i != values; ++i)
            text += (i != 0 ? "," : "") + value(depth);
        return text + ']';
    }

private:
    std::size_t below(std::size_t n) { return random_() % n; }

    std::string string()
    {
        constexpr std::string_view escapes[] = {"\\\"", "\\\\", "\\n", "\\u0001", "\u00e9", "\U0001f600"};
        std::string text = "\"";
        const bool plain = below(3) != 0;
        for (std::size_t n = below(4) == 0 ? below(120) : below(36); n != 0; --n)
            text += plain || below(12) != 0 ? std::string_view("x") : escapes[below(std::size(escapes))];
        return text + '"';
    }

    std::string object(std::size_t members, unsigned depth)
    {
        std::string text = "{";
        for (std::size_t i = 0; i != members; ++i)
            text += (i != 0 ? "," : "") + string() + ':' + value(depth);
        return text + '}';
    }

    std::string value(unsigned depth)
    {
        constexpr std::string_view scalars[] = {"0",
                                                "-9223372036854775808",
                                                "18446744073709551615",
                                                "438787341",
                                                "-0.5",
                                                "-1.7976931348623157e+308",
                                                "true",
                                                "false",
                                                "null"};
        switch (below(depth == 0 ? 4 : 8)) {
        case 0:
            return below(2) != 0 ? "[]" : "{}";
        case 1:
            return string();
        case 2:
        case 3:
            return std::string(scalars[below(std::size(scalars))]);
        case 4:
        case 5:
            return array(1 + below(4), depth - 1);
        default:
            return object(1 + below(4), depth - 1);
        }
    }

    std::mt19937 random_;
};

// Around the text of a value.
std::string nested(std::string text, std::size_t levels)
{
    for (; levels != 0; --levels)
        text = levels % 3 == 0 ? "{\"k\":" + text + '}' : '[' + text + ",1]";
    return text;
}

void check(const std::string& text, std::size_t first_chunk, std::size_t last_chunk)
{
    simdjson::dom::parser parser;
    const simdjson::dom::element document = parser.parse(text);
    for (std::size_t n = first_chunk; n <= last_chunk; ++n)
        if (tests::in_chunks(document, n) != text) FAIL(text << " in chunks of " << n);
}

} // namespace

TEST_CASE("a document of values of all kinds is the same in chunks of every size")
{
    for (unsigned seed = 0; seed != 40; ++seed) {
        const std::string text = random_document(seed).array(12, 4);
        check(text, 1, 150);
        check(text, 490, 700); // with what a chunk's end cuts the rest of the text that is set aside is used up
    }
}

TEST_CASE("keys and strings of every length stand wherever a chunk ends")
{
    for (std::size_t key = 0; key != 80; ++key) {
        for (const std::size_t size : {0u, 1u, 15u, 16u, 31u, 32u, 33u, 64u, 90u}) {
            const std::string member = '"' + std::string(key, 'k') + "\":\"" + std::string(size, 'v') + '"';
            check("[[[{" + member + "}],[]]]", 60, 260);
            check("[[[{" + member + ",\"\\n" + member.substr(1) + "}]]]", 60, 260);
            check("[[[{" + member.substr(0, key + 1) + "\\u0001" + member.substr(key + 1) + "}]]]", 60, 260);
        }
    }
}

TEST_CASE("containers open and close around every multiple of 64 levels, wherever a chunk ends")
{
    for (const std::size_t levels : {62u, 63u, 64u, 65u, 127u, 128u, 129u, 200u}) {
        for (unsigned seed = 0; seed != 5; ++seed) {
            const std::string text = nested(random_document(seed).array(4, 4), levels);
            check(text, 1, 20);
            check(text, 70, 110);
            check(text, text.size() - 1, text.size() + 100);
        }
    }
}

TEST_CASE("the lines of an array of values of all kinds are the same in chunks of every size")
{
    for (unsigned seed = 0; seed != 20; ++seed) {
        simdjson::dom::parser parser;
        simdjson::dom::element document = parser.parse(random_document(seed).array(12, 3));
        std::string lines;
        for (const simdjson::dom::element line : document.get_array())
            lines += tests::in_chunks(line, 10'000) + '\n';
        for (std::size_t n = 1; n <= 700; ++n)
            if (tests::in_chunks(document, n, ndjson{}) != lines) FAIL(lines << " in chunks of " << n);
    }
}
