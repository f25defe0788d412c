// holdfast: is text the same whether it is looked at in blocks or byte by byte? Compiled for each instruction set that
// the writer has code for and the machine has.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/json.hpp>

#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <array>
#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

using holdfast::checked_json;
using holdfast::json;
using holdfast::utf8_policy;

constexpr utf8_policy policies[] = {utf8_policy::error, utf8_policy::replace, utf8_policy::trust};

// What a byte stands for that is no part of a UTF-8 sequence.
std::string escaped(char c)
{
    constexpr std::string_view letters = "btn\vfr";
    if (c == '"' || c == '\\') return {'\\', c};
    if (c >= '\b' && c <= '\r' && c != '\v') return {'\\', letters[static_cast<std::size_t>(c - '\b')]};
    if (static_cast<unsigned char>(c) >= 0x20) return {c};
    return std::string("\\u00") + (c < 0x10 ? '0' : '1') + "0123456789abcdef"[c & 15];
}

// The string's text, none if it is an error: written byte by byte.
std::optional<std::string> string_text(std::string_view value, utf8_policy policy)
{
    std::string text = "\"";
    const char* const end = value.data() + value.size();
    for (const char* s = value.data(); s != end;) {
        if (static_cast<unsigned char>(*s) < 0x80 || policy == utf8_policy::trust) {
            text += escaped(*s++);
            continue;
        }
        const auto sequence = holdfast::detail::utf8_at(s, end);
        if (!sequence.well_formed && policy == utf8_policy::error) return {};
        text += sequence.well_formed ? std::string(s, sequence.length) : "\ufffd";
        s += sequence.length;
    }
    return text + '"';
}

// The text of checked JSON, none if it is an error: its characters go through the grammar one by one.
std::optional<std::string> checked_text(std::string_view value)
{
    holdfast::detail::json_syntax syntax;
    std::string text;
    for (const char c : value) {
        if (!syntax.in_string() && syntax.skip(c)) continue;
        if (syntax.next(c) != holdfast::errc{}) return {};
        text += c;
    }
    return syntax.complete() ? std::optional(text) : std::nullopt;
}

template <class Source>
std::optional<std::string> written(Source source, std::size_t n, json format = {})
{
    try {
        return tests::in_chunks(source, n, format);
    } catch (const std::system_error&) {
        return {};
    }
}

void check_string(std::string_view value, std::size_t first_chunk, std::size_t last_chunk)
{
    for (const utf8_policy policy : policies) {
        const auto expected = string_text(value, policy);
        for (std::size_t n = first_chunk; n <= last_chunk; ++n)
            if (written(value, n, {.utf8 = policy}) != expected) FAIL(value << " in chunks of " << n);
    }
}

void check_checked(std::string_view value, std::size_t first_chunk, std::size_t last_chunk)
{
    const auto expected = checked_text(value);
    for (std::size_t n = first_chunk; n <= last_chunk; ++n)
        if (written(checked_json(value), n, {.utf8 = utf8_policy::trust}) != expected)
            FAIL(value << " in chunks of " << n);
}

// What is not plain, and what looks like it.
constexpr std::string_view pieces[] = {"\"",
                                       "\\",
                                       "\n",
                                       "\x01",
                                       "\x1f",
                                       "\x7f",
                                       "\u00e9",
                                       "\u65e5",
                                       "\uffff",
                                       "\U0001f600",
                                       "\U0010ffff",
                                       "\x80",
                                       "\xbf",
                                       "\xc3",
                                       "\xc1\xbf",
                                       "\xe2\x82",
                                       "\xed\xa0\x80",
                                       "\xf0\x9f\x98",
                                       "\xf4\x90\x80\x80",
                                       "\xff",
                                       "\\u00e9"};

} // namespace

TEST_CASE("a string is escaped and checked wherever in it that is due")
{
    for (const std::string_view piece : pieces) {
        for (std::size_t before = 0; before != 140; ++before) {
            for (const std::size_t after : std::array<std::size_t, 9>{0, 1, 3, 31, 35, 36, 67, 68, 130}) {
                const std::string value = std::string(before, 'x') + std::string(piece) + std::string(after, 'y');
                check_string(value, 512, 512);
            }
        }
    }
}

TEST_CASE("a string of many pieces is the same in chunks of every size")
{
    std::mt19937 random{24};
    for (int i = 0; i != 150; ++i) {
        std::string value;
        const std::size_t size = random() % 250;
        const std::size_t kinds = i % 3 == 0 ? 11 : std::size(pieces); // well-formed ones only
        const std::size_t distance = 1 + random() % 40;
        while (value.size() < size) {
            value.append(random() % distance, 'x');
            value += pieces[random() % kinds];
        }
        check_string(value, 1, 80);
        check_string(value, 250, 330);
    }
}

TEST_CASE("checked text is that of its characters one by one: every number, and what is nearly one")
{
    constexpr std::string_view characters = "x-+0.e17"; // none ends with the first
    const std::string tail(40, ' ');
    for (unsigned of = 0; of != 8 * 8 * 8 * 8 * 8; ++of) {
        std::string number;
        for (unsigned rest = of; rest != 0; rest /= 8)
            number += characters[rest % 8];
        check_checked('[' + number + "," + number + ']' + tail, 200, 200);
    }
    for (std::size_t whole = 1; whole != 36; ++whole) { // longer than what is looked at at once
        for (std::size_t fraction = 0; fraction != 36; ++fraction) {
            for (const std::string_view exponent : {"", "e7", "E-12", "e+345"}) {
                std::string number(whole, '4');
                if (fraction != 0) number += '.' + std::string(fraction, '3');
                number += exponent;
                check_checked('[' + number + ",-" + number + ']' + tail, 200, 200);
            }
        }
    }
}

TEST_CASE("checked text is that of its characters one by one, in chunks of every size")
{
    constexpr std::string_view tokens[] = {
        "-65.613616999999977",
        "0",
        "1e5",
        "\"plain\"",
        "\"\\u00e9\\n\\\"\\ud83d\\ude00\"",
        "true",
        "null",
        "[]",
        "{}",
        "{ \"a key that is longer than a block of the widest kind: 64\" : [1, 2.5] }",
        "01",
        "\"\\u12g4\"",
        "\"\\x\"",
        "-",
        "1.",
        "\"\n\"",
    };
    std::mt19937 random{24};
    for (int i = 0; i != 150; ++i) {
        const std::size_t kinds = i % 3 != 0 ? 10 : std::size(tokens); // valid ones only
        std::string value = "[";
        for (unsigned k = 0; k != 12; ++k) {
            if (k != 0) value += ',';
            value.append(random() % 3 == 0 ? random() % 40 : 0, random() % 2 ? ' ' : '\n');
            value += tokens[random() % kinds];
            value.append(random() % 4 == 0 ? 1 : 0, '\t');
        }
        check_checked(value + ']', 1, 70);
        check_checked(value + "] ", 300, 310);
    }
}

TEST_CASE("white space of any length may end a checked text, and nothing after it is read")
{
    for (const std::string_view value : {"[1]", "[1,", "{}", "\"a\"", "-1.5", "true", "[\"\\u00e9\"]"})
        for (const std::string_view space : {"\n", " ", "\t\r\n "})
            for (std::size_t n = 0; n != 200; ++n) {
                std::string text(value);
                while (text.size() != value.size() + n)
                    text += space[(text.size() - value.size()) % space.size()];
                check_checked(text, 400, 401);
                // What is behind the text would be an error, and in memory of its own size it is found by ASan.
                const std::vector<char> alone(text.begin(), text.end());
                check_checked(std::string_view(alone.data(), alone.size()), 400, 401);
                const std::string before_another = text + "\"]";
                check_checked(std::string_view(before_another).substr(0, text.size()), 400, 401);
            }
}
