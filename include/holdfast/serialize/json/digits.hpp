// holdfast: decimal digits eight at a time. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_DIGITS_HPP
#define HOLDFAST_SERIALIZE_JSON_DIGITS_HPP

#include <bit>
#include <cstdint>
#include <cstring>

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
