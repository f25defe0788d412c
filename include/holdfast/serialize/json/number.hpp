// holdfast: numbers as JSON text: integers eight digits at a time, doubles in their shortest form.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_NUMBER_HPP
#define HOLDFAST_SERIALIZE_JSON_NUMBER_HPP

#include <holdfast/serialize/json/digits.hpp>
#include <holdfast/serialize/json/double.hpp>

#include <bit>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace holdfast::detail {

// The room an integer needs: its digits and its sign, and at least the eight bytes that are stored at once.
template <std::integral T>
inline constexpr std::size_t json_integer_room = sizeof(T) == 8   ? 20
                                                 : sizeof(T) == 4 ? 11
                                                                  : 9;
// Writes a value below 10^8 without leading zeros; stores eight bytes.
inline char* write_below_1e8(char* p, std::uint32_t value) noexcept
{
    const std::uint64_t digits = eight_digits(value);
    // The leading zero digits are the low zero bytes; the last digit always stays.
    const int leading = std::countr_zero(digits | std::uint64_t{1} << 56) / 8;
    store_eight(p, (digits + eight_zeros) >> (8 * leading));
    return p + (8 - leading);
}

inline char* write_unsigned(char* p, std::uint64_t value) noexcept
{
    constexpr std::uint64_t e8 = 100'000'000;
    if (value < e8) return write_below_1e8(p, static_cast<std::uint32_t>(value));
    const auto low = static_cast<std::uint32_t>(value % e8);
    const std::uint64_t rest = value / e8;
    if (rest < 10) { // as in many an identifier
        *p++ = static_cast<char>('0' + rest);
    } else if (rest < e8) {
        p = write_below_1e8(p, static_cast<std::uint32_t>(rest));
    } else {
        p = write_below_1e8(p, static_cast<std::uint32_t>(rest / e8));
        store_eight(p, eight_digits(static_cast<std::uint32_t>(rest % e8)) + eight_zeros);
        p += 8;
    }
    store_eight(p, eight_digits(low) + eight_zeros);
    return p + 8;
}

template <std::integral T>
char* write_integer(char* p, T value) noexcept
{
    if constexpr (std::signed_integral<T>) {
        auto magnitude = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
        if (value < 0) {
            *p++ = '-';
            magnitude = 0 - magnitude;
        }
        return write_unsigned(p, magnitude);
    } else {
        return write_unsigned(p, value);
    }
}

// With builtins: <cmath> also has the special functions, which take long to compile.

// Writes the shortest text that reads back as the same value, of a finite value; no integer beyond 64 bits.
template <std::floating_point T>
char* write_finite(char* p, T value) noexcept
{
    // Prices: if the nearest multiple of 1/100 reads back as the value, and has at most 15 digits, then it is
    // the shortest such text, since no two decimals of at most 15 digits have the same nearest double.
    if constexpr (sizeof(T) == 8) {
        const double magnitude = __builtin_fabs(value);
        if (magnitude < 1e13) [[likely]] {
            const auto hundredths = static_cast<std::int64_t>(magnitude * 100 + 0.5);
            if (static_cast<double>(hundredths) / 100 == magnitude) [[likely]] {
                const auto whole = static_cast<std::uint64_t>(hundredths) / 100;
                const auto cents = static_cast<unsigned>(static_cast<std::uint64_t>(hundredths) % 100);
                if (cents != 0) [[likely]] {
                    *p = '-';
                    p = write_unsigned(p + (__builtin_signbit(value) != 0), whole);
                    const unsigned tenths = cents / 10, rest = cents % 10;
                    p[0] = '.';
                    p[1] = static_cast<char>('0' + tenths);
                    p[2] = static_cast<char>('0' + rest);
                    return p + 2 + (rest != 0);
                }
                // "1e+06" is shorter than "1000000": left to write_shortest.
                if (whole % 100'000 != 0 || whole == 0) {
                    *p = '-';
                    p = write_unsigned(p + (__builtin_signbit(value) != 0), whole);
                    // Without the point a reader would take -0 for the integer 0.
                    if (whole != 0 || !(__builtin_signbit(value) != 0)) return p;
                    std::memcpy(p, ".0", 2);
                    return p + 2;
                }
            }
        }
        *p = '-';
        return write_shortest(p + (__builtin_signbit(value) != 0), magnitude);
    } else if (value == 0 && (__builtin_signbit(value) != 0)) {
        std::memcpy(p, "-0.0", 4);
        return p + 4;
    } else {
        return std::to_chars(p, p + json_double_room, value).ptr;
    }
}

} // namespace holdfast::detail

#endif
