// holdfast: a double's shortest decimal digits, and their text. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_DOUBLE_HPP
#define HOLDFAST_SERIALIZE_JSON_DOUBLE_HPP

#include <holdfast/serialize/json/digits.hpp>
#include <holdfast/serialize/json/powers_of_ten.hpp>

#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace holdfast::detail {

// The room a float or a double needs: "-1.7976931348623157e+308" has 24 bytes; digits are stored eight at a
// time.
inline constexpr std::size_t json_double_room = 26;

// The shortest decimal that reads back as a double, and the nearest to it of those, by Schubfach (Raffaele
// Giulietti, "The Schubfach way to render doubles", 2021): three products with a power of ten of 128 bits.

constexpr uint128 multiply(std::uint64_t a, std::uint64_t b) noexcept
{
#if defined(__SIZEOF_INT128__)
    __extension__ using wide = unsigned __int128;
    const wide product = wide{a} * b;
    return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
#else
    const std::uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
    const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    const std::uint64_t other = a0 * b1 + (middle & 0xffffffff);
    return {a1 * b1 + (middle >> 32) + (other >> 32), a * b};
#endif
}

// digits * 10^exponent; there are 17 digits, of which the last ones may be zeros.
struct decimal {
    std::uint64_t digits;
    int exponent;
};

// For 16 or 17 digits.
constexpr decimal with_17_digits(std::uint64_t digits, int exponent) noexcept
{
    const bool lacks_one = digits < 10'000'000'000'000'000; // which is unpredictable, so there is no branch
    return {digits + (9 * digits & (0 - std::uint64_t{lacks_one})), exponent - lacks_one};
}

// The same from three products, each of which is known exactly enough.
[[gnu::noinline]] inline decimal shortest_decimal_exactly(double value) noexcept
{
    constexpr int bias = 1075;
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
    const int biased = static_cast<int>(bits >> 52 & 0x7ff);
    // value = c * 2^q
    const std::uint64_t c = biased != 0 ? fraction | std::uint64_t{1} << 52 : fraction;
    const int q = (biased != 0 ? biased : 1) - bias;

    // The interval that is rounded to the value, and the value, in quarters of 2^q, then of 10^k.
    const bool lower_is_closer = fraction == 0 && biased > 1;
    const int k = (q * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22; // floor(log10(2^q)), or of 3/4 of it
    const int h = q + ((-k * 1741647) >> 19) + 1;                       // floor(log2(10^-k))
    const uint128 power = powers_of_ten[-k - least_power_of_ten];
    const auto times_power = [power](std::uint64_t x) noexcept { // rounded to odd
        const uint128 high = multiply(power.high, x);
        const std::uint64_t low = high.low + multiply(power.low, x).high;
        return (high.high + (low < high.low)) | (low > 1);
    };
    const std::uint64_t odd = c & 1; // the ends of the interval belong to even values
    const std::uint64_t lower = times_power((4 * c - 2 + lower_is_closer) << h) + odd;
    const std::uint64_t middle = times_power(4 * c << h);
    const std::uint64_t upper = times_power((4 * c + 2) << h) - odd;

    // A digit less, if exactly one of the two neighbours is inside; else the neighbour that is inside, or the
    // nearer one: without a branch too.
    const std::uint64_t s = middle / 4, tens = s / 10 * 10;
    const bool tens_below = lower <= 4 * tens, tens_above = 4 * tens + 40 <= upper;
    const bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    const bool nearer_above = middle + (s & 1) > 4 * s + 2;
    const std::uint64_t shorter = tens + (tens_above ? 10 : 0);
    const std::uint64_t longer = s + ((above & !below) | (nearer_above & (above == below)));
    std::uint64_t digits = tens_below != tens_above ? shorter : longer;
    int exponent = k;
    while (digits < 1'000'000'000'000'000) { // of a subnormal
        digits *= 10;
        --exponent;
    }
    return with_17_digits(digits, exponent);
}

// The shortest decimal of a finite value above 0.
inline decimal shortest_decimal(double value) noexcept
{
    constexpr int bias = 1075;
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
    const int biased = static_cast<int>(bits >> 52);
    if (fraction == 0 || biased == 0) [[unlikely]] // its neighbours are not equally far, or it is subnormal
        return shortest_decimal_exactly(value);

    // value = c * 2^q = scaled * 10^k, where the interval that is rounded to the value is 1 to 10 wide: so it contains
    // the nearest integer, and at most one multiple of ten.
    const std::uint64_t c = fraction | std::uint64_t{1} << 52;
    const int q = biased - bias;
    const int k = (q * 1262611) >> 22;
    const int h = q + ((-k * 1741647) >> 19) + 1;
    const uint128 power = powers_of_ten[-k - least_power_of_ten];
    const uint128 high = multiply(power.high, c << h);
    const std::uint64_t part = high.low + multiply(power.low, c << h).high; // of 2^64
    const std::uint64_t whole = high.high + (part < high.low);

    // How far above a multiple of ten it is, and half of the interval, in units of 2^-60: each less than two off.
    constexpr std::uint64_t ten = std::uint64_t{10} << 60, margin = 4;
    const std::uint64_t units = whole % 10;
    const std::uint64_t above = (units << 60) + (part >> 4);
    const std::uint64_t half = power.high >> (5 - h);
    const bool unclear = (above - half + margin <= 2 * margin) | (ten - above - half + margin <= 2 * margin) |
                         (part - (std::uint64_t{1} << 63) + margin <= 2 * margin);
    if (unclear) [[unlikely]]
        return shortest_decimal_exactly(value);
    const bool down = above < half, up = ten - above < half;
    const std::uint64_t shorter = whole - units + (up ? 10 : 0);
    const std::uint64_t nearest = whole + (part >> 63);
    return with_17_digits(down || up ? shorter : nearest, k);
}

// Writes the shortest text of a finite value above 0: as std::to_chars does, in fixed notation unless the
// scientific one is shorter.
inline char* write_shortest(char* p, double value) noexcept
{
    const decimal shortest = shortest_decimal(value);
    constexpr std::uint64_t e8 = 100'000'000;
    const std::uint64_t high = shortest.digits / e8;
    const std::uint64_t first = high / e8;
    const auto [middle, last] =
        sixteen_digits(static_cast<std::uint32_t>(high % e8), static_cast<std::uint32_t>(shortest.digits % e8));
    const auto put = [=](char* to) noexcept { // all 17
        *to = static_cast<char>('0' + first);
        store_eight(to + 1, middle + eight_zeros);
        store_eight(to + 9, last + eight_zeros);
    };
    // The digits that count, and where the point is among them.
    const int size = last != 0     ? 17 - (std::countl_zero(last) >> 3)
                     : middle != 0 ? 9 - (std::countl_zero(middle) >> 3)
                                   : 1;
    const int whole = 17 + shortest.exponent;

    if (1 <= whole && whole <= 8 && whole < size) [[likely]] {
        put(p + 1);
        // The first eight over it again: up to the point they stand a byte to the left.
        const std::uint64_t eight = (first | middle << 8) + eight_zeros;
        const std::uint64_t left = ~std::uint64_t{0} >> (64 - 8 * whole);
        store_eight(p, (eight & left) | (eight << 8 & ~left));
        p[whole] = '.';
        return p + size + 1;
    }
    if (whole >= -3 + (size == 1) && whole <= size + 5 - (size == 1)) {
        if (whole <= 0) {
            std::memcpy(p, "0.000", 5);
            put(p + 2 - whole);
            return p + 2 - whole + size;
        }
        // to_chars gives all digits of what is beyond the integers that a double can represent.
        if (whole > size && value >= 0x1p53) return std::to_chars(p, p + json_double_room, value).ptr;
        put(p);
        if (whole >= size) return p + whole;
        store_eight(p + whole + 1, (last + eight_zeros) >> (8 * (whole - 9)));
        p[whole] = '.';
        return p + size + 1;
    }

    put(p + 1);
    p[0] = p[1];
    p[1] = '.';
    p += size == 1 ? 1 : size + 1;
    const int scale = whole - 1;
    const unsigned magnitude = static_cast<unsigned>(scale < 0 ? -scale : scale);
    *p++ = 'e';
    *p++ = scale < 0 ? '-' : '+';
    if (magnitude >= 100) *p++ = static_cast<char>('0' + magnitude / 100);
    *p++ = static_cast<char>('0' + magnitude / 10 % 10);
    *p++ = static_cast<char>('0' + magnitude % 10);
    return p;
}

} // namespace holdfast::detail

#endif
