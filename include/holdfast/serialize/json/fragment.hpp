// holdfast: the cursors of text that is JSON already: trusted, or checked while it is copied.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_FRAGMENT_HPP
#define HOLDFAST_SERIALIZE_JSON_FRAGMENT_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/string.hpp>
#include <holdfast/serialize/json/syntax.hpp>
#include <holdfast/serialize/values.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast::detail {

template <class T, class Within>
struct json_cursor<T, Within, json_kind::raw> {
    static constexpr bool bounded = true;

    static std::size_t room(const raw_json& value) noexcept { return value.text.size(); }

    static char* write(char* p, const raw_json& value, const json&, piece_budget& budget) noexcept
    {
        if (!budget.take(value.text.size())) return p;
        return std::copy(value.text.begin(), value.text.end(), p);
    }

    bool step(chunk_writer& out, const raw_json& value, const json&)
    {
        if (written > value.text.size()) {
            out.fail(errc::source_changed);
            return false;
        }
        const std::string_view part = value.text.substr(written, out.room());
        out.advance_to(std::copy(part.begin(), part.end(), out.at()));
        written += part.size();
        return written == value.text.size();
    }

    std::size_t written = 0;
};

// A bit for each of the 32 bytes at `s` that is a decimal digit, the first byte's is the lowest.
inline std::uint32_t digits_of_32(const char* s) noexcept
{
#if defined(__SSE2__)
    const auto of_16 = [](const char* from) {
        const __m128i values =
            _mm_sub_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), _mm_set1_epi8('0'));
        const __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
        return static_cast<std::uint32_t>(_mm_movemask_epi8(digits));
    };
    return of_16(s) | of_16(s + 16) << 16;
#else
    std::uint32_t mask = 0;
    for (unsigned i = 0; i != 32; ++i)
        mask |= std::uint32_t{s[i] >= '0' && s[i] <= '9'} << i;
    return mask;
#endif
}

// The end of the white space that [s, end) begins with, or of a part of it.
inline const char* skip_blank(const char* s, const char* end) noexcept
{
#if defined(__SSE2__)
    while (end - s >= 16) { // indented text has long runs
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s));
        const auto is = [&](char c) { return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(c)); };
        const __m128i blank = _mm_or_si128(_mm_or_si128(is(' '), is('\n')), _mm_or_si128(is('\t'), is('\r')));
        const int n = std::countr_one(static_cast<std::uint32_t>(_mm_movemask_epi8(blank)));
        s += n;
        if (n != 16) break;
    }
#else
    while (s != end && (*s == ' ' || *s == '\n' || *s == '\t' || *s == '\r'))
        ++s;
#endif
    return s;
}

// The number of spaces that the 32 bytes at `s` begin with.
inline unsigned spaces_of_32(const char* s) noexcept
{
#if defined(__SSE2__)
    const auto of_16 = [](const char* from) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(' '))));
    };
    return static_cast<unsigned>(std::countr_one(of_16(s) | of_16(s + 16) << 16));
#else
    unsigned n = 0;
    while (n != 32 && s[n] == ' ')
        ++n;
    return n;
#endif
}

// The length of the escape at `s`, whose backslash is followed by five bytes: 0 if it is none.
inline std::size_t escape_length(const char* s) noexcept
{
    if (s[1] != 'u') return std::string_view("\"\\/bfnrt").find(s[1]) != std::string_view::npos ? 2 : 0;
    bool valid = true;
    for (int i = 2; i != 6; ++i) {
        const auto letter = static_cast<unsigned char>((s[i] | 0x20) - 'a');
        const auto digit = static_cast<unsigned char>(s[i] - '0');
        valid = valid && (letter < 6 || digit < 10);
    }
    return valid ? 6 : 0;
}

// Copies the number that the 32 bytes at `s` begin with, and returns its length: 0 if they begin with none that ends
// within them. It may scribble on all 32 at `p`. A number takes no loop: it lies in the mask of the digits as runs.
inline std::size_t copy_number(char* p, const char* s) noexcept
{
    std::memcpy(p, s, 32);
    const std::uint32_t digits = digits_of_32(s);
    const auto run = [=](unsigned at) { return static_cast<unsigned>(std::countr_one(digits >> at)); };
    unsigned n = *s == '-';
    if (run(n) == 0) return 0;
    n += s[n] == '0' ? 1 : run(n);
    if (n < 31 && s[n] == '.') {
        if (run(n + 1) == 0) return 0;
        n += 1 + run(n + 1);
    }
    if (n < 30 && (s[n] == 'e' || s[n] == 'E')) {
        n += s[n + 1] == '+' || s[n + 1] == '-' ? 2 : 1;
        if (run(n) == 0) return 0;
        n += run(n);
    }
    return n < 30 ? n : 0;
}

// Copies whole tokens without the white space between them, as long as `room` bytes are there on both sides. The grammar
// is in the places of the code instead of a state, so that a token costs no more than a branch or two. Stops in front of
// what is not valid, or takes more care: a byte above 127, a control character in a string, a number of 30 bytes.
template <bool Ascii>
class json_tokens {
    using state = json_syntax::state;

public:
    json_tokens(char*& to, char* limit, const char*& from, const char* end, json_syntax& at) noexcept
        : to_(to), from_(from), at_(at), p_(to), limit_(limit), s_(from), end_(end)
    {
    }

    void copy() noexcept
    {
        switch (at_.state_) {
        case state::value:
            goto value;
        case state::first_value:
            goto first_value;
        case state::first_key:
            goto first_key;
        case state::key:
            goto key;
        case state::colon:
            goto colon;
        case state::after:
            goto after;
        case state::string:
            goto string;
        default:
            return;
        }
    first_value:
        if (!next_token()) return stop(state::first_value);
        if (*s_ == ']') goto close;
        goto begin_value;
    value:
        if (!next_token()) return stop(state::value);
    begin_value:
        if (*s_ == '"') {
            at_.key_ = false;
            put();
            goto string;
        }
        if (const std::size_t n = copy_number(p_, s_); n != 0) {
            pass(n);
            goto after;
        }
        if (*s_ == '{' || *s_ == '[') {
            if (at_.depth_ == checked_json_max_depth) return stop(state::value);
            const bool object = *s_ == '{';
            at_.open(object);
            put();
            if (object) goto first_key;
            goto first_value;
        }
        if (const std::size_t n = literal(); n != 0) {
            std::memcpy(p_, s_, 8);
            pass(n);
            goto after;
        }
        return stop(state::value);
    first_key:
        if (!next_token()) return stop(state::first_key);
        if (*s_ == '}') goto close;
        goto begin_key;
    key:
        if (!next_token()) return stop(state::key);
    begin_key:
        if (*s_ != '"') return stop(state::key);
        at_.key_ = true;
        put();
    string:
        if (!has_room()) return stop(state::string);
        std::memcpy(p_, s_, 32);
        if (const unsigned n = plain_of_32<Ascii>(s_); n == 32) {
            pass(32);
            goto string;
        } else {
            pass(n);
        }
        if (*s_ == '"') {
            put();
            if (!at_.key_) goto after;
            goto colon;
        }
        if (*s_ == '\\' && has_room())
            if (const std::size_t n = escape_length(s_); n != 0) {
                std::memcpy(p_, s_, 8);
                pass(n);
                goto string;
            }
        return stop(state::string);
    colon:
        if (!next_token() || *s_ != ':') return stop(state::colon);
        put();
        goto value;
    close:
        (void)at_.close();
        put();
    after:
        if (!next_token() || at_.depth_ == 0) return stop(state::after);
        if (*s_ == ',') {
            put();
            if (at_.in_object()) goto key;
            goto value;
        }
        if (*s_ == (at_.in_object() ? '}' : ']')) goto close;
        stop(state::after);
    }

private:
    // More than a step reads or writes.
    static constexpr std::ptrdiff_t room = 40;

    [[nodiscard]] bool has_room() const noexcept { return end_ - s_ >= room && limit_ - p_ >= room; }

    // Skips white space; false where there may be more of it, or where the room ends.
    bool next_token() noexcept
    {
        if (!has_room()) return false;
        if (!blank()) return true;
        ++s_; // often a single one, or a line's end and its indentation
        if (!blank()) return has_room();
        s_ += spaces_of_32(s_);
        if (!has_room()) return false;
        if (!blank()) return true;
        s_ = skip_blank(s_, end_);
        return has_room() && !blank();
    }
    [[nodiscard]] bool blank() const noexcept { return *s_ == ' ' || *s_ == '\n' || *s_ == '\t' || *s_ == '\r'; }

    [[nodiscard]] std::size_t literal() const noexcept
    {
        const auto is = [this](std::string_view word) { return std::memcmp(s_, word.data(), word.size()) == 0; };
        return is("true") || is("null") ? 4 : is("false") ? 5 : 0;
    }

    void put() noexcept { *p_++ = *s_++; }
    void pass(std::size_t n) noexcept
    {
        p_ += n;
        s_ += n;
    }

    void stop(state where) noexcept
    {
        at_.state_ = where;
        to_ = p_;
        from_ = s_;
    }

    char*& to_;
    const char*& from_;
    json_syntax& at_;
    char* p_;
    char* const limit_;
    const char* s_;
    const char* const end_;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::checked> {
    static constexpr bool bounded = false;

    bool step(chunk_writer& out, const checked_json& value, const json& options)
    {
        const char* const begin = value.text.data();
        const char* const end = begin + value.text.size();
        if (read > value.text.size()) {
            out.fail(errc::source_changed);
            return false;
        }
        const char* s = begin + read;
        errc error{};
        while (s != end && error == errc{} && !out.full()) {
            error =
                options.utf8 == utf8_policy::trust ? copy<false>(out, s, end, syntax) : copy<true>(out, s, end, syntax);
            if (s == end || error != errc{}) break;
            // The chunk has no room, or a sequence is to be checked: in steps.
            if (options.utf8 != utf8_policy::trust && syntax.in_string() && static_cast<unsigned char>(*s) >= 0x80) {
                out.piece<json_special_room>([&](char* p) { return write_special(p, s, end, options.utf8, error); });
                continue;
            }
            const char c = *s++;
            if (syntax.skip(c)) continue;
            error = syntax.next(c);
            if (error == errc{}) out.byte(c);
        }
        read = static_cast<std::size_t>(s - begin);
        if (s == end && error == errc{} && !syntax.complete()) error = errc::invalid_json;
        if (error != errc{}) {
            out.fail(error);
            return false;
        }
        return s == end;
    }

    // Copies what the chunk has the room for, up to a sequence that is to be checked.
    template <bool Ascii>
    static errc copy(chunk_writer& out, const char*& from, const char* end, json_syntax& state) noexcept
    {
        const char* s = from;
        json_syntax at = state; // which no store to the chunk can change
        char* p = out.at();
        char* const limit = p + out.room();
        errc error{};
        while (s != end && p != limit && error == errc{}) {
            json_tokens<Ascii>(p, limit, s, end, at).copy();
            if (s == end || p == limit) break;
            if (at.in_string()) {
                const std::ptrdiff_t n = copy_plain<Ascii>(p, s, s + std::min(end - s, limit - p));
                s += n;
                p += n;
                if (s == end || p == limit) break;
                while (*s == '\\' && end - s > 6 && limit - p > 6) {
                    const std::size_t length = escape_length(s);
                    if (length == 0) break;
                    std::memcpy(p, s, 6);
                    s += length;
                    p += length;
                }
                if (Ascii && static_cast<unsigned char>(*s) >= 0x80) {
                    if (end - s < 4 || limit - p < 8 || !write_special_of_4(p, s)) break;
                    continue;
                }
            }
            const char c = *s++;
            if (at.skip(c)) {
                s = skip_blank(s, end);
                continue;
            }
            error = at.next(c);
            *p = c;
            p += error == errc{};
        }
        from = s;
        state = at;
        out.advance_to(p);
        return error;
    }

    json_syntax syntax;
    std::size_t read = 0;
};

} // namespace holdfast::detail

#endif
