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
#include <cstddef>
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
            if (syntax.in_string()) {
                s = copy_plain(out, s, end, options.utf8);
                if (s == end) break;
                if (options.utf8 != utf8_policy::trust && static_cast<unsigned char>(*s) >= 0x80) {
                    out.piece<json_special_room>(
                        [&](char* p) { return write_special(p, s, end, options.utf8, error); });
                    continue;
                }
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

    static const char* copy_plain(chunk_writer& out, const char* s, const char* end, utf8_policy utf8)
    {
        const char* const last = s + std::min(static_cast<std::size_t>(end - s), out.room());
        const std::ptrdiff_t n = utf8 == utf8_policy::trust ? detail::copy_plain<false>(out.at(), s, last)
                                                            : detail::copy_plain<true>(out.at(), s, last);
        out.advance_to(out.at() + n);
        return s + n;
    }

    json_syntax syntax;
    std::size_t read = 0;
};

} // namespace holdfast::detail

#endif
