// holdfast: the grammar of JSON, for text that is checked while it passes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_SYNTAX_HPP
#define HOLDFAST_SERIALIZE_JSON_SYNTAX_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/values.hpp>

#include <cstdint>
#include <string_view>

namespace holdfast::detail {

// The grammar of JSON, one character at a time.
class json_syntax {
    template <bool Ascii>
    friend class json_tokens; // goes on by whole tokens

public:
    // In a string the next character may be any that needs no escape.
    bool in_string() const noexcept { return state_ == state::string; }

    // Whether c is white space between tokens, which may be left out. It ends a number.
    bool skip(char c) noexcept
    {
        if ((c != ' ' && c != '\t' && c != '\n' && c != '\r') || !between_tokens()) return false;
        if (number_may_end()) state_ = state::after;
        return true;
    }

    // How many containers are open.
    unsigned depth() const noexcept { return depth_; }

    // Whether the text may end.
    bool complete() const noexcept { return depth_ == 0 && (state_ == state::after || number_may_end()); }

    // Goes on by a character that is no white space between tokens.
    errc next(char c) noexcept
    {
        switch (state_) {
        case state::value:
            return begin_value(c);
        case state::first_value:
            return c == ']' ? close() : begin_value(c);
        case state::first_key:
            if (c == '}') return close();
            [[fallthrough]];
        case state::key:
            key_ = true;
            return to(c == '"', state::string);
        case state::colon:
            return to(c == ':', state::value);
        case state::after:
            if (depth_ == 0) return errc::invalid_json;
            if (c == ',') return to(true, in_object() ? state::key : state::value);
            return c == (in_object() ? '}' : ']') ? close() : errc::invalid_json;
        case state::string:
            if (c == '\\') return to(true, state::escape);
            if (c == '"') return to(true, key_ ? state::colon : state::after);
            return to(static_cast<unsigned char>(c) >= 0x20, state::string);
        case state::escape:
            left_ = 4;
            if (c == 'u') return to(true, state::hex);
            return to(std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos, state::string);
        case state::hex:
            return to(std::string_view("0123456789abcdefABCDEF").find(c) != std::string_view::npos,
                      --left_ == 0 ? state::string : state::hex);
        case state::literal: {
            const bool expected = c == *literal_++;
            return to(expected, *literal_ == 0 ? state::after : state::literal);
        }
        case state::minus:
            return to(digit(c), c == '0' ? state::zero : state::digits);
        case state::digits:
            if (digit(c)) return {};
            [[fallthrough]];
        case state::zero:
            if (c == '.') return to(true, state::point);
            if (c == 'e' || c == 'E') return to(true, state::exponent);
            return after_number(c);
        case state::point:
            return to(digit(c), state::fraction);
        case state::fraction:
            if (digit(c)) return {};
            return c == 'e' || c == 'E' ? to(true, state::exponent) : after_number(c);
        case state::exponent:
            if (c == '+' || c == '-') return to(true, state::exponent_sign);
            [[fallthrough]];
        case state::exponent_sign:
            return to(digit(c), state::exponent_digits);
        case state::exponent_digits:
            return digit(c) ? errc{} : after_number(c);
        }
        return errc::invalid_json;
    }

private:
    enum class state : std::uint8_t {
        value,
        first_value, // or the end of the array
        first_key,   // or the end of the object
        key,
        colon,
        after, // a value
        string,
        escape,
        hex,
        literal,
        minus,
        zero,
        digits,
        point,
        fraction,
        exponent,
        exponent_sign,
        exponent_digits,
    };

    static bool digit(char c) noexcept { return c >= '0' && c <= '9'; }
    bool in_object() const noexcept { return objects_ >> (depth_ - 1) & 1; }

    bool number_may_end() const noexcept
    {
        return state_ == state::zero || state_ == state::digits || state_ == state::fraction ||
               state_ == state::exponent_digits;
    }

    bool between_tokens() const noexcept
    {
        switch (state_) {
        case state::value:
        case state::first_value:
        case state::first_key:
        case state::key:
        case state::colon:
        case state::after:
            return true;
        default:
            return number_may_end();
        }
    }

    errc to(bool valid, state next) noexcept
    {
        state_ = next;
        return valid ? errc{} : errc::invalid_json;
    }

    errc after_number(char c) noexcept
    {
        state_ = state::after;
        return next(c);
    }

    errc begin_value(char c) noexcept
    {
        switch (c) {
        case '{':
        case '[':
            if (depth_ == checked_json_max_depth) return errc::depth_exceeded;
            open(c == '{');
            return to(true, c == '{' ? state::first_key : state::first_value);
        case '"':
            key_ = false;
            return to(true, state::string);
        case '-':
            return to(true, state::minus);
        case 't':
            literal_ = "rue";
            return to(true, state::literal);
        case 'f':
            literal_ = "alse";
            return to(true, state::literal);
        case 'n':
            literal_ = "ull";
            return to(true, state::literal);
        default:
            return to(digit(c), c == '0' ? state::zero : state::digits);
        }
    }

    // Precondition: the depth is below the limit.
    void open(bool object) noexcept
    {
        objects_ &= ~(std::uint64_t{1} << depth_);
        objects_ |= std::uint64_t{object} << depth_;
        ++depth_;
    }

    errc close() noexcept
    {
        --depth_;
        return to(true, state::after);
    }

    static_assert(checked_json_max_depth == 64);
    std::uint64_t objects_ = 0;     // whether the containers around are objects, the outermost in the lowest bit
    const char* literal_ = nullptr; // the rest of it
    std::uint8_t depth_ = 0;
    std::uint8_t left_ = 0; // hexadecimal digits of an escape
    state state_ = state::value;
    bool key_ = false; // the string is one
};

} // namespace holdfast::detail

#endif
