// holdfast: strings as JSON text: what needs no escape is found 16 to 64 bytes at a time and copied in runs.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_STRING_HPP
#define HOLDFAST_SERIALIZE_JSON_STRING_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/json/policy.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#if defined(__AVX2__) || defined(__AVX512BW__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__AARCH64EL__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace holdfast::detail {

// The room that is set aside for a string of n bytes with its quotes. Each byte may become \u00XX, but few
// do: the room is enough where no more than one byte in four is escaped, and for two bytes of any kind. Text
// beyond that is `crowded`, and is written in steps.
constexpr std::size_t json_string_room(std::size_t n) noexcept { return n + n / 4 + 14; }

// A byte is *plain* if it goes out as it is: no control character, no quote, no backslash, and in Ascii also
// none above 127, since those have to be checked.
template <bool Ascii>
constexpr bool is_plain(char c) noexcept
{
    const auto u = static_cast<unsigned char>(c);
    return u >= 0x20 && u != '"' && u != '\\' && (!Ascii || u < 0x80);
}

// Whether all eight bytes of a word are plain.
template <bool Ascii>
constexpr bool all_plain(std::uint64_t bytes) noexcept
{
    constexpr std::uint64_t ones = 0x0101010101010101;
    constexpr std::uint64_t tops = ones << 7;
    const std::uint64_t quote = bytes ^ ones * '"';
    const std::uint64_t slash = bytes ^ ones * '\\';
    // A byte's top bit comes out set if the byte is below 0x20, or zero in quote or slash; a borrow from a
    // lower byte can set more, but only where a lower one was set.
    std::uint64_t hits = ((bytes - ones * 0x20) & ~bytes) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
    if constexpr (Ascii) hits |= bytes;
    return (hits & tops) == 0;
}

template <class Word>
Word load(const char* p) noexcept
{
    Word word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

// Exchanges the quote and the space, and control characters with one another: one comparison finds quotes and those.
inline constexpr char quote_to_space = '"' ^ ' ';

#if defined(__SSE2__)
// A bit for each of 16 bytes that is not plain.
template <bool Ascii>
std::uint32_t special_of_16(__m128i bytes) noexcept
{
    const __m128i turned = _mm_xor_si128(bytes, _mm_set1_epi8(quote_to_space));
    // The signed comparison catches bytes above 127 together with the control characters.
    const __m128i low = Ascii ? _mm_cmplt_epi8(turned, _mm_set1_epi8(0x21))
                              : _mm_cmpeq_epi8(_mm_min_epu8(turned, _mm_set1_epi8(0x20)), turned);
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')))));
}

template <bool Ascii>
std::uint32_t special_of_16(const char* s) noexcept
{
    return special_of_16<Ascii>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(s)));
}
#endif

// The number of plain bytes that the 16 at `s` begin with.
template <bool Ascii>
unsigned plain_of_16(const char* s) noexcept
{
#if defined(__SSE2__)
    return static_cast<unsigned>(std::countr_zero(special_of_16<Ascii>(s) | 0x10000));
#elif defined(__AARCH64EL__) && defined(__ARM_NEON)
    const uint8x16_t bytes = vld1q_u8(reinterpret_cast<const std::uint8_t*>(s));
    const uint8x16_t low =
        Ascii ? vcltq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(0x20)) : vcltq_u8(bytes, vdupq_n_u8(0x20));
    const uint8x16_t marks = vorrq_u8(vceqq_u8(bytes, vdupq_n_u8('"')), vceqq_u8(bytes, vdupq_n_u8('\\')));
    // Narrowing leaves four bits for each byte.
    const uint8x8_t hits = vshrn_n_u16(vreinterpretq_u16_u8(vorrq_u8(low, marks)), 4);
    return static_cast<unsigned>(std::countr_zero(vget_lane_u64(vreinterpret_u64_u8(hits), 0))) / 4;
#else
    unsigned n = 0;
    if (all_plain<Ascii>(load<std::uint64_t>(s))) n = all_plain<Ascii>(load<std::uint64_t>(s + 8)) ? 16 : 8;
    while (n < 16 && is_plain<Ascii>(s[n]))
        ++n;
    return n;
#endif
}

#if defined(__SSE2__)
// A bit for each of the 32 bytes at `s` that is not plain.
template <bool Ascii>
std::uint32_t special_of_32(const char* s) noexcept
{
#if defined(__AVX2__)
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s));
    const __m256i turned = _mm256_xor_si256(bytes, _mm256_set1_epi8(quote_to_space));
    const __m256i low = Ascii ? _mm256_cmpgt_epi8(_mm256_set1_epi8(0x21), turned)
                              : _mm256_cmpeq_epi8(_mm256_min_epu8(turned, _mm256_set1_epi8(0x20)), turned);
    return static_cast<std::uint32_t>(
        _mm256_movemask_epi8(_mm256_or_si256(low, _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\\')))));
#else
    return special_of_16<Ascii>(s) | special_of_16<Ascii>(s + 16) << 16;
#endif
}
#endif

// The number of plain bytes that the 32 at `s` begin with.
template <bool Ascii>
unsigned plain_of_32(const char* s) noexcept
{
#if defined(__SSE2__)
    return static_cast<unsigned>(std::countr_zero(special_of_32<Ascii>(s)));
#else
    const unsigned n = plain_of_16<Ascii>(s);
    return n == 16 ? 16 + plain_of_16<Ascii>(s + 16) : n;
#endif
}

#if defined(__AVX512BW__)
// A bit for each of 64 bytes that is not plain.
template <bool Ascii>
std::uint64_t special_of_64(__m512i bytes) noexcept
{
    const __m512i blank = _mm512_set1_epi8(0x20);
    return (Ascii ? _mm512_cmplt_epi8_mask(bytes, blank) : _mm512_cmplt_epu8_mask(bytes, blank)) |
           _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('"')) | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('\\'));
}
#endif

// Whether all bytes of two words are plain.
template <bool Ascii>
bool all_plain(std::uint64_t a, std::uint64_t b) noexcept
{
#if defined(__SSE2__)
    const auto wide = [](std::uint64_t word) { return _mm_cvtsi64_si128(static_cast<long long>(word)); };
    return special_of_16<Ascii>(_mm_unpacklo_epi64(wide(a), wide(b))) == 0;
#else
    return all_plain<Ascii>(a) && all_plain<Ascii>(b);
#endif
}

// Copies the fewer than 16 bytes of [s, end) if all are plain. Lengths are hard to foretell, so there are few
// branches: four words that overlap are any length from 4 to 15.
template <bool Ascii>
[[gnu::always_inline]] inline bool copy_plain_tail(char* p, const char* s, const char* end) noexcept
{
    const auto n = static_cast<std::size_t>(end - s);
    if (n >= 4) [[likely]] {
        const std::size_t half = n / 8 * 4; // 0 below 8: the words in the middle are those at the ends then
        const auto word = [=](std::size_t at) {
            const auto bytes = load<std::uint32_t>(s + at);
            std::memcpy(p + at, &bytes, 4);
            return std::uint64_t{bytes};
        };
        const std::uint64_t first = word(0) | word(half) << 32;
        const std::uint64_t last = word(n - 4 - half) | word(n - 4) << 32;
        return all_plain<Ascii>(first, last);
    }
    for (std::size_t i = 0; i < n; ++i) {
        p[i] = s[i];
        if (!is_plain<Ascii>(s[i])) return false;
    }
    return true;
}

// A UTF-8 sequence at the beginning of some bytes: its length if it is well-formed, else the length of the
// longest prefix of it that could have become so (at least 1), which is what U+FFFD replaces.
struct utf8_sequence {
    unsigned length;
    bool well_formed;
};

inline utf8_sequence utf8_at(const char* s, const char* end) noexcept
{
    const auto lead = static_cast<unsigned char>(*s);
    unsigned length = 0;
    // The second byte is held to what excludes overlong forms, surrogates and values above U+10FFFF.
    unsigned char low = 0x80, high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        length = 2;
    } else if ((lead & 0xf0) == 0xe0) {
        length = 3;
        if (lead == 0xe0) low = 0xa0;
        if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        length = 4;
        if (lead == 0xf0) low = 0x90;
        if (lead == 0xf4) high = 0x8f;
    } else {
        return {1, lead < 0x80};
    }
    for (unsigned i = 1; i < length; ++i) {
        if (end - s == static_cast<std::ptrdiff_t>(i)) return {i, false};
        const auto next = static_cast<unsigned char>(s[i]);
        if (next < low || next > high) return {i, false};
        low = 0x80;
        high = 0xbf;
    }
    return {length, true};
}

// The room of what stands for one byte that is not plain, or for a sequence that begins with it.
inline constexpr std::size_t json_special_room = 6;

// What is to be done with a byte that is not plain, by its value: so that text with many of them, of any kind, needs no
// branch that depends on the kind.
struct json_special {
    char text[8];                // of an escape; zeros for the first byte of a UTF-8 sequence
    std::uint32_t keep;          // the sequence goes out as it is: all ones; for an escape 0
    std::uint32_t mask, bits;    // marks the bytes of a sequence, whose first is the lowest here
    unsigned char second, range; // the least value of the second byte, and how far it may be above that
    unsigned char taken, written;
};

inline constexpr auto json_specials = [] {
    std::array<json_special, 256> all{};
    for (unsigned u = 0; u != 256; ++u)
        all[u].bits = 1; // which `mask` never gives: begins no sequence
    const auto escape = [&](unsigned u, char letter) {
        all[u] = {{'\\', letter}, 0, 0, 0, 0, 0xff, 1, 2};
        if (letter != 'u') return;
        all[u] = {{'\\', 'u', '0', '0', u < 0x10 ? '0' : '1', "0123456789abcdef"[u & 15]}, 0, 0, 0, 0, 0xff, 1, 6};
    };
    constexpr std::string_view letters = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    static_assert(letters.size() == 0x20);
    for (unsigned u = 0; u != 0x20; ++u)
        escape(u, letters[u]);
    escape('"', '"');
    escape('\\', '\\');
    const auto sequence = [&](unsigned u, unsigned char n, std::uint32_t mask, unsigned char least,
                              unsigned char most) {
        const auto range = static_cast<unsigned char>(most - least);
        all[u] = {{}, ~std::uint32_t{0}, mask, mask & 0x80808080, least, range, n, n};
    };
    // The second byte is held to what excludes overlong forms, surrogates and values above U+10FFFF.
    for (unsigned u = 0xc2; u <= 0xdf; ++u)
        sequence(u, 2, 0xc000, 0x80, 0xbf);
    for (unsigned u = 0xe0; u <= 0xef; ++u)
        sequence(u, 3, 0xc0c000, u == 0xe0 ? 0xa0 : 0x80, u == 0xed ? 0x9f : 0xbf);
    for (unsigned u = 0xf0; u <= 0xf4; ++u)
        sequence(u, 4, 0xc0c0c000, u == 0xf0 ? 0x90 : 0x80, u == 0xf4 ? 0x8f : 0xbf);
    return all;
}();

// Writes what stands for the byte or the sequence at `s`, and moves `s` past it. Reads four bytes, stores eight. False
// if the sequence is ill-formed; nothing is written then.
[[gnu::always_inline]] inline bool write_special_of_4(char*& p, const char*& s) noexcept
{
    if constexpr (std::endian::native != std::endian::little) return false; // left to write_special()
    const json_special& special = json_specials[static_cast<unsigned char>(*s)];
    const auto word = load<std::uint32_t>(s);
    const auto second = static_cast<unsigned char>((word >> 8) - special.second);
    if ((word & special.mask) != special.bits || second > special.range) [[unlikely]]
        return false;
    const std::uint64_t text = load<std::uint64_t>(special.text) | (word & special.keep);
    std::memcpy(p, &text, 8);
    p += special.written;
    s += special.taken;
    return true;
}

// Writes what stands for the byte at `s`, which is not plain, or for the sequence that it begins; moves `s`
// past it.
inline char* write_special(char* p, const char*& s, const char* end, utf8_policy policy, errc& error) noexcept
{
    const auto u = static_cast<unsigned char>(*s);
    if (u < 0x80) {
        std::memcpy(p, json_specials[u].text, json_special_room);
        ++s;
        return p + json_specials[u].written;
    }
    const utf8_sequence sequence = utf8_at(s, end);
    if (sequence.well_formed) {
        for (unsigned i = 0; i < sequence.length; ++i)
            *p++ = s[i];
    } else if (policy == utf8_policy::replace) {
        std::memcpy(p, "\xef\xbf\xbd", 3);
        p += 3;
    } else {
        error = errc::invalid_utf8;
    }
    s += sequence.length;
    return p;
}

// Copies the plain bytes that [s, last) begins with, and returns how many they are. It may scribble on all that many
// bytes at `p`.
template <bool Ascii>
[[gnu::always_inline]] inline std::ptrdiff_t copy_plain(char* p, const char* s, const char* last) noexcept
{
    const std::ptrdiff_t size = last - s;
    std::ptrdiff_t done = 0;
#if defined(__AVX512BW__)
    for (; size - done >= 64; done += 64) {
        const __m512i bytes = _mm512_loadu_si512(s + done);
        _mm512_storeu_si512(p + done, bytes);
        // A branch, so that the next step does not wait for the number.
        if (const std::uint64_t specials = special_of_64<Ascii>(bytes); specials != 0)
            return done + std::countr_zero(specials);
    }
    // A mask instead of branches that depend on the length.
    const __mmask64 within = (std::uint64_t{1} << (size - done)) - 1;
    const __m512i bytes = _mm512_maskz_loadu_epi8(within, s + done);
    _mm512_mask_storeu_epi8(p + done, within, bytes);
    return done + std::countr_zero(special_of_64<Ascii>(bytes) | ~within);
#else
    for (; size - done >= 32; done += 32) {
        const unsigned n = plain_of_32<Ascii>(s + done);
        std::memcpy(p + done, s + done, 32);
        // A branch, so that the next step does not wait for the number.
        if (n != 32) return done + n;
    }
    // The rest together with bytes that are known to be plain.
    if (size >= 32) {
        const unsigned n = plain_of_32<Ascii>(last - 32);
        std::memcpy(p + size - 32, last - 32, 32);
        return size - 32 + n;
    }
    if (size >= 16) {
        const unsigned n = plain_of_16<Ascii>(s), m = plain_of_16<Ascii>(last - 16);
        std::memcpy(p, s, 16);
        std::memcpy(p + size - 16, last - 16, 16);
        return n != 16 ? n : size - 16 + m;
    }
    if (copy_plain_tail<Ascii>(p, s, last)) [[likely]]
        return size;
    while (is_plain<Ascii>(s[done])) {
        p[done] = s[done];
        ++done;
    }
    return done;
#endif
}

// Writes what [from, end) stands for, and moves `from` past what is written: all of it, or what there is room for
// up to `limit`. It then stops at the limit, or less than json_special_room before it at what is not plain.
template <bool Ascii>
char* write_body(char* p, char* limit, const char*& from, const char* end, utf8_policy policy, errc& error) noexcept
{
    const char* s = from; // which no store can change
    for (;;) {
        const std::ptrdiff_t n = copy_plain<Ascii>(p, s, s + std::min(end - s, limit - p));
        p += n;
        s += n;
        if (s == end || p == limit) break;
        do { // text in another script has many in a row
            if (end - s >= 4 && limit - p >= 8 && write_special_of_4(p, s)) [[likely]]
                continue;
            if (static_cast<std::size_t>(limit - p) < json_special_room) {
                from = s;
                return p;
            }
            p = write_special(p, s, end, policy, error);
        } while (s != end && !is_plain<Ascii>(*s));
        if (s == end) break;
    }
    from = s;
    return p;
}

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template char* write_body<false>(char*, char*, const char*&, const char*, utf8_policy, errc&) noexcept;
extern template char* write_body<true>(char*, char*, const char*&, const char*, utf8_policy, errc&) noexcept;
#endif

inline char* write_body(char* p, char* limit, const char*& s, const char* end, utf8_policy policy, errc& error) noexcept
{
    return policy == utf8_policy::trust ? write_body<false>(p, limit, s, end, policy, error)
                                        : write_body<true>(p, limit, s, end, policy, error);
}

// Writes a string with its quotes where there is room for json_string_room(text.size()); sets `error` to
// `crowded` if that was not enough.
inline char* write_string(char* p, std::string_view text, utf8_policy policy, errc& error) noexcept
{
    char* const limit = p + json_string_room(text.size()) - 1;
    const char* s = text.data();
    const char* const end = s + text.size();
    *p++ = '"';
    if (text.size() < 16 && policy != utf8_policy::trust && copy_plain_tail<true>(p, s, end)) { // most of them
        p += text.size();
        *p = '"';
        return p + 1;
    }
    p = write_body(p, limit, s, end, policy, error);
    if (s != end && error == errc{}) [[unlikely]]
        error = crowded;
    *p++ = '"';
    return p;
}

// A string in flight: 16 bytes.
class json_string_cursor {
public:
    // Returns true when the string is written; the cursor is then ready for another one.
    bool step(chunk_writer& out, std::string_view text, utf8_policy policy)
    {
        if (!begun()) {
            if (out.whole(json_string_room(text.size()),
                          [&](char* p, piece_budget& budget) { return write_string(p, text, policy, budget.error); }))
                return true;
            if (!out.byte('"')) return false;
            at_ = text.empty() ? "" : text.data(); // the data of an empty view may be null
            end_ = at_ + text.size();
        }
        return go_on(out, policy);
    }

    // Whether a part of a string is written.
    bool begun() const noexcept { return at_ != nullptr; }

private:
    [[gnu::noinline]] bool go_on(chunk_writer& out, utf8_policy policy)
    {
        errc error{};
        for (;;) {
            out.advance_to(write_body(out.at(), out.at() + out.room(), at_, end_, policy, error));
            if (at_ == end_ || out.room() == 0 || error != errc{}) break;
            out.piece<json_special_room>([&](char* p) { return write_special(p, at_, end_, policy, error); });
        }
        if (error != errc{}) out.fail(error);
        if (error != errc{} || at_ != end_ || !out.byte('"')) return false;
        at_ = nullptr;
        return true;
    }

    const char* at_ = nullptr;
    const char* end_ = nullptr;
};

} // namespace holdfast::detail

#endif
