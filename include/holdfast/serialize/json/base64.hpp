// holdfast: bytes as JSON strings in base64, three at a time.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_BASE64_HPP
#define HOLDFAST_SERIALIZE_JSON_BASE64_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/values.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace holdfast::detail {

inline constexpr char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Writes `bytes`, the last one or two of them padded.
inline char* write_base64(char* p, std::span<const std::byte> bytes) noexcept
{
    const auto at = [&](std::size_t i) { return i < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i]) : 0; };
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::uint32_t three = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
        p[0] = base64_digits[three >> 18];
        p[1] = base64_digits[three >> 12 & 63];
        p[2] = i + 1 < bytes.size() ? base64_digits[three >> 6 & 63] : '=';
        p[3] = i + 2 < bytes.size() ? base64_digits[three & 63] : '=';
        p += 4;
    }
    return p;
}

template <class T, class Within>
struct json_cursor<T, Within, json_kind::bytes> {
    static constexpr bool bounded = true;

    static std::span<const std::byte> bytes(const T& value)
    {
        if constexpr (std::same_as<std::remove_const_t<T>, base64>)
            return value.bytes();
        else
            return {std::ranges::data(value), std::ranges::size(value)};
    }

    static std::size_t room(const T& value) { return (bytes(value).size() + 2) / 3 * 4 + 2; }

    static char* write(char* p, const T& value, const json&, piece_budget& budget)
    {
        const std::span<const std::byte> all = bytes(value);
        if (!budget.take((all.size() + 2) / 3 * 4 + 2)) return p;
        *p++ = '"';
        p = write_base64(p, all);
        *p++ = '"';
        return p;
    }

    bool step(chunk_writer& out, const T& value, const json&)
    {
        if (!begun && !out.byte('"')) return false;
        begun = true;
        const std::span<const std::byte> all = bytes(value);
        if (written > all.size()) {
            out.fail(errc::source_changed);
            return false;
        }
        std::span<const std::byte> rest = all.subspan(written);
        const std::size_t fit = std::min(rest.size() / 3, out.room() / 4) * 3;
        out.advance_to(write_base64(out.at(), rest.first(fit)));
        written += fit;
        for (rest = rest.subspan(fit); !rest.empty();) {
            const auto next = rest.first(std::min<std::size_t>(rest.size(), 3));
            if (!out.piece<4>([&](char* p) { return write_base64(p, next); })) return false;
            written += next.size();
            rest = rest.subspan(next.size());
        }
        return out.byte('"');
    }

    std::size_t written = 0;
    bool begun = false;
};

} // namespace holdfast::detail

#endif
