// holdfast: texts that are JSON, with and without white space, and texts that no longer are; made of choices.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_JSON_TEXT_HPP
#define HOLDFAST_TESTS_SUPPORT_JSON_TEXT_HPP

#include "chosen.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace tests {

/// One value as JSON, in three ways.
struct json_text {
    std::string compact;
    std::string in_line; // with white space that ends no line
    std::string pretty;  // with any
};

/// Whether numbers may be larger than parsers can hold.
enum class json_numbers : bool { ordinary, any };

template <class Choices>
void add_json(Choices& choices, json_text& to, json_numbers numbers, int depth)
{
    static constexpr std::array<std::string_view, 14> scalars = {
        "0",
        "-0.0",
        "1.10",
        "-1E+2",
        "true",
        "false",
        "null",
        R"("")",
        R"("a, [b] {c}: \"\\")",
        R"("\u00e9\n\/é€🌊")",
        R"("},]\\")",
        R"("longer than the blocks of thirty-two bytes, and , again with ] and [ in it")",
        "1e400",
        "18446744073709551616"};
    const auto token = [&](std::string_view text) {
        to.compact += text;
        to.in_line += std::string(choices.below(3), ' ') + std::string(text);
        to.in_line += std::string(choices.below(2), '\t');
        to.pretty += std::string(choices.below(2), '\n') + std::string(text);
        to.pretty += std::string(choices.below(2), '\r');
    };
    const std::size_t kind = choices.below(depth < 5 ? 4 : 2);
    if (kind < 2) return token(scalars[choices.below(scalars.size() - (numbers == json_numbers::any ? 0 : 2))]);
    token(kind == 2 ? "[" : "{");
    for (std::size_t i = 0, n = choices.below(4); i < n; ++i) {
        if (i != 0) token(",");
        if (kind == 3) {
            token(R"("k,\"]")");
            token(":");
        }
        add_json(choices, to, numbers, depth + 1);
    }
    token(kind == 2 ? "]" : "}");
}

/// A value of up to six levels.
template <class Choices>
json_text any_json(Choices& choices, json_numbers numbers = json_numbers::any)
{
    json_text made;
    add_json(choices, made, numbers, 0);
    return made;
}

/// The text after one or two accidents: a byte is lost, another, or added. It may be JSON still; of its numbers only an
/// exponent can become too large, and no escape becomes half a surrogate pair.
template <class Choices>
std::string spoiled(Choices& choices, std::string text)
{
    static constexpr std::string_view bytes = "{}[],:\"\\/ \t\n\rtfnu-+.eE0\x01\xc3";
    for (std::size_t left = 1 + choices.below(2); left != 0; --left) {
        const std::size_t at = choices.below(text.size() + 1);
        const std::size_t lost = choices.below(2);
        text.replace(at, lost, choices.below(3), bytes[choices.below(bytes.size())]);
    }
    return text;
}

} // namespace tests

#endif
