// holdfast: Protobuf's wire format: varints, tags, little-endian numbers, strings.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_WIRE_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_WIRE_HPP

#include <holdfast/serialize/json/string.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast::detail {

inline constexpr std::uint64_t varint_tops = 0x8080808080808080;

// Seven bits of the value in each byte: 64 bits take ten bytes.
constexpr std::size_t varint_size(std::uint64_t value) noexcept
{
    return (static_cast<std::size_t>(std::bit_width(value | 1)) * 9 + 64) / 64;
}

template <class Word>
char* store_little(char* p, Word word) noexcept
{
    if constexpr (std::endian::native == std::endian::big) {
        if constexpr (sizeof(Word) == 8)
            word = __builtin_bswap64(word);
        else
            word = __builtin_bswap32(word);
    }
    std::memcpy(p, &word, sizeof word);
    return p + sizeof word;
}

// The lowest 28 bits, seven in each byte; and the lowest 56.
constexpr std::uint32_t spread_28(std::uint32_t bits) noexcept
{
    bits = (bits & 0x00003fff) | (bits & 0x0fffc000) << 2;
    return (bits & 0x007f007f) | (bits & 0x3f803f80) << 1;
}

constexpr std::uint64_t spread_56(std::uint64_t bits) noexcept
{
    bits = (bits & 0x000000000fffffff) | (bits & 0x00fffffff0000000) << 4;
    bits = (bits & 0x00003fff00003fff) | (bits & 0x0fffc0000fffc000) << 2;
    return (bits & 0x007f007f007f007f) | (bits & 0x3f803f803f803f80) << 1;
}

// A varint of more than 28 bits.
inline char* write_long_varint(char* p, std::uint32_t value) noexcept
{
    store_little(p, spread_28(value) | static_cast<std::uint32_t>(varint_tops));
    p[4] = static_cast<char>(value >> 28);
    return p + 5;
}

inline char* write_long_varint(char* p, std::uint64_t value) noexcept
{
    if (value < std::uint64_t{1} << 56) {
        const std::size_t size = varint_size(value);
        store_little(p, spread_56(value) | varint_tops >> (72 - 8 * size));
        return p + size;
    }
    store_little(p, spread_56(value) | varint_tops);
    p[8] = static_cast<char>(value >> 56);
    if (value >> 63 == 0) return p + 9;
    p[9] = 1;
    return p + 10;
}

// Writes up to ten bytes, by the width of the value: the numbers of a column are mostly of one width, so that
// the branches are foreseen. It may scribble on the rest of the ten bytes, or of five for a word of 32 bits.
template <class Word>
[[gnu::always_inline]] inline char* write_varint(char* p, Word value) noexcept
{
    if (value < 1u << 7) {
        *p = static_cast<char>(value);
        return p + 1;
    }
    if (value < 1u << 14) {
        p[0] = static_cast<char>(value | 0x80);
        p[1] = static_cast<char>(value >> 7);
        return p + 2;
    }
    if (value < 1u << 28) {
        const auto bits = static_cast<std::uint32_t>(value);
        const unsigned fourth = bits >> 21 != 0 ? 1 : 0;
        store_little(p, spread_28(bits) | (fourth != 0 ? 0x808080u : 0x8080u));
        return p + 3 + fourth;
    }
    return write_long_varint(p, value);
}

// A varint that leaves the bytes behind it alone: they may be written already.
inline char* patch_varint(char* p, std::size_t value) noexcept
{
    for (; value >= 0x80; value >>= 7)
        *p++ = static_cast<char>(value | 0x80);
    *p++ = static_cast<char>(value);
    return p;
}

enum class wire_type : std::uint32_t { varint = 0, fixed64 = 1, delimited = 2, fixed32 = 5 };

// The bytes before a field's value. The number 0 has none: it is that of messages in a delimited stream.
template <int Number, wire_type Type>
struct protobuf_tag {
    static constexpr std::uint32_t value = static_cast<std::uint32_t>(Number) << 3 | static_cast<std::uint32_t>(Type);
    static constexpr std::size_t size = Number == 0 ? 0 : varint_size(value);

    static constexpr auto bytes = [] {
        std::array<char, size> made{};
        for (std::size_t i = 0; i < size; ++i)
            made[i] = static_cast<char>((value >> 7 * i & 0x7f) | (i + 1 < size ? 0x80 : 0));
        return made;
    }();

    static char* write(char* p) noexcept
    {
        if constexpr (size == 1)
            *p = bytes[0];
        else if constexpr (size != 0)
            std::memcpy(p, bytes.data(), size);
        return p + size;
    }
};

// Copies a string, and returns whether all its bytes are ASCII.
inline bool copy_ascii(char* p, const char* s, std::size_t n) noexcept
{
    if (n < 4) {
        char all = 0;
        for (std::size_t i = 0; i < n; ++i)
            all = static_cast<char>(all | (p[i] = s[i]));
        return (all & 0x80) == 0;
    }
    if (n < 8) {
        const auto first = load<std::uint32_t>(s), last = load<std::uint32_t>(s + n - 4);
        std::memcpy(p, &first, 4);
        std::memcpy(p + n - 4, &last, 4);
        return ((first | last) & static_cast<std::uint32_t>(varint_tops)) == 0;
    }
    std::uint64_t all = 0;
    for (std::size_t i = 0; i + 8 <= n; i += 8) {
        const auto word = load<std::uint64_t>(s + i);
        std::memcpy(p + i, &word, 8);
        all |= word;
    }
    const auto last = load<std::uint64_t>(s + n - 8);
    std::memcpy(p + n - 8, &last, 8);
    return ((all | last) & varint_tops) == 0;
}

inline bool is_utf8(std::string_view text) noexcept
{
    const char* s = text.data();
    const char* const end = s + text.size();
    while (s != end) {
        while (end - s >= 8 && (load<std::uint64_t>(s) & varint_tops) == 0)
            s += 8;
        if (s == end) break;
        const utf8_sequence sequence = utf8_at(s, end);
        if (!sequence.well_formed) return false;
        s += sequence.length;
    }
    return true;
}

} // namespace holdfast::detail

#endif
