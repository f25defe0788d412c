// holdfast: decimal digits eight at a time. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_DIGITS_HPP
#define HOLDFAST_SERIALIZE_JSON_DIGITS_HPP

#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace holdfast::detail {

// The eight decimal digits of a value below 10^8, one a byte, the first in the lowest byte. The value is
// halved into 4 + 4 digits, then 2 + 2 + 2 + 2, then single digits, each time for all parts at once; the
// multiplications by 10486 / 2^20 and 103 / 2^10 divide by 100 and by 10, exactly in these ranges.
constexpr std::uint64_t eight_digits(std::uint32_t value) noexcept
{
    const std::uint64_t by4 = value / 10000 | std::uint64_t{value % 10000} << 32;
    const std::uint64_t high2 = (by4 * 10486 >> 20) & 0x0000007f0000007f;
    const std::uint64_t by2 = high2 | (by4 - 100 * high2) << 16;
    const std::uint64_t high1 = (by2 * 103 >> 10) & 0x000f000f000f000f;
    return high1 | (by2 - 10 * high1) << 8;
}

struct sixteen {
    std::uint64_t first, last; // as of eight_digits()
};

// The same for two values below 10^8.
inline sixteen sixteen_digits(std::uint32_t first, std::uint32_t last) noexcept
{
#if defined(__SSE2__)
    // Divides by 10^4, 100 and 10 by products: with 3518437209 / 2^45, 5243 / 2^19 and 6554 / 2^16.
    const __m128i by8 = _mm_set_epi32(0, static_cast<int>(last), 0, static_cast<int>(first));
    const __m128i high4 = _mm_srli_epi64(_mm_mul_epu32(by8, _mm_set1_epi64x(3518437209)), 45);
    const __m128i low4 = _mm_sub_epi32(by8, _mm_mul_epu32(high4, _mm_set1_epi64x(10000)));
    const __m128i by4 = _mm_or_si128(high4, _mm_slli_epi64(low4, 32));
    const __m128i high2 = _mm_srli_epi16(_mm_mulhi_epu16(by4, _mm_set1_epi16(5243)), 3);
    const __m128i low2 = _mm_sub_epi16(by4, _mm_mullo_epi16(high2, _mm_set1_epi16(100)));
    const __m128i by2 = _mm_or_si128(high2, _mm_slli_epi32(low2, 16));
    const __m128i high1 = _mm_mulhi_epu16(by2, _mm_set1_epi16(6554));
    const __m128i low1 = _mm_sub_epi16(by2, _mm_mullo_epi16(high1, _mm_set1_epi16(10)));
    const __m128i all = _mm_or_si128(high1, _mm_slli_epi16(low1, 8));
    return {static_cast<std::uint64_t>(_mm_cvtsi128_si64(all)),
            static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(all, all)))};
#else
    return {eight_digits(first), eight_digits(last)};
#endif
}

inline constexpr std::uint64_t eight_zeros = 0x3030303030303030;

// Stores the eight bytes of `text`, the lowest first.
inline void store_eight(char* p, std::uint64_t text) noexcept
{
    if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(p, &text, 8);
    } else {
        for (int i = 0; i < 8; ++i)
            p[i] = static_cast<char>(text >> (8 * i));
    }
}

} // namespace holdfast::detail

#endif
