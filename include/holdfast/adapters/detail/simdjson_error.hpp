// holdfast: simdjson's errors as holdfast's.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_SIMDJSON_ERROR_HPP
#define HOLDFAST_ADAPTERS_DETAIL_SIMDJSON_ERROR_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/json/syntax.hpp>

#include <simdjson.h>

#include <string_view>

namespace holdfast::detail {

// The error of a value that simdjson did not give. What says nothing about the text, as a missing field or
// another type, is `source_failed`.
inline errc simdjson_value_error(simdjson::error_code failed) noexcept
{
    switch (failed) {
    case simdjson::SUCCESS:
        return {};
    case simdjson::TAPE_ERROR:
    case simdjson::STRING_ERROR:
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
    case simdjson::NUMBER_ERROR:
    case simdjson::UTF8_ERROR:
    case simdjson::EMPTY:
    case simdjson::UNESCAPED_CHARS:
    case simdjson::UNCLOSED_STRING:
    case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
    case simdjson::TRAILING_CONTENT:
        return errc::invalid_json;
    case simdjson::DEPTH_ERROR:
        return errc::depth_exceeded;
    default:
        return errc::source_failed;
    }
}

// Whether all numbers of a text are numbers of JSON, however large. Strings are passed over.
inline bool numbers_are_json(std::string_view text) noexcept
{
    for (std::size_t i = 0; i < text.size();) {
        const char c = text[i];
        if (c == '"') {
            for (++i; i < text.size() && text[i] != '"'; ++i)
                if (text[i] == '\\') ++i;
            ++i;
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            json_syntax number;
            for (; i < text.size(); ++i) {
                if (std::string_view(" \t\r\n,:[]{}\"").find(text[i]) != std::string_view::npos) break;
                if (number.next(text[i]) != errc{}) return false;
            }
            if (!number.complete()) return false;
        } else if (c == '.' || c == '+') {
            return false; // newer simdjson takes it for the beginning of a number
        } else {
            ++i;
        }
    }
    return true;
}

// The error of a text that simdjson did not parse. One code of simdjson's stands for what is no number, and
// for a number that it cannot hold.
inline errc simdjson_parse_error(simdjson::error_code failed, std::string_view text) noexcept
{
    const errc error = simdjson_value_error(failed);
    const bool is_number =
        failed == simdjson::NUMBER_ERROR || (failed != simdjson::CAPACITY && error == errc::source_failed);
    if (is_number && numbers_are_json(text)) return errc::number_out_of_range;
    return error == errc::source_failed ? errc::invalid_json : error;
}

} // namespace holdfast::detail

#endif
