// holdfast: a double's shortest decimal digits, and their text. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_DOUBLE_HPP
#define HOLDFAST_SERIALIZE_JSON_DOUBLE_HPP

#include <holdfast/serialize/json/digits.hpp>
#include <holdfast/serialize/json/powers_of_ten.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

// (16 digits and a last one) * 10^exponent; of the 17 digits the first is not 0, and the last ones may be.
struct decimal { // which two registers hold
    std::uint64_t sixteen;
    std::uint32_t last;
    int exponent;
};

// For 15 or 16 digits, and a last one.
constexpr decimal with_17_digits(std::uint64_t digits, std::uint64_t last, int exponent) noexcept
{
    const bool lacks_one = digits < 1'000'000'000'000'000; // which is unpredictable, so there is no branch
    const std::uint64_t longer = 10 * digits + last;
    return {lacks_one ? longer : digits, static_cast<std::uint32_t>(lacks_one ? 0 : last), exponent - lacks_one};
}

// The shortest decimal of a finite value above 0, from three products, each of which is known exactly enough.
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
    return with_17_digits(digits / 10, digits % 10, exponent);
}

// The same from one product, or nothing (zeros) where that is not exact enough.
[[gnu::always_inline]] inline decimal shortest_decimal_quickly(double value) noexcept
{
    constexpr int bias = 1075;
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
    const int biased = static_cast<int>(bits >> 52);
    // Its neighbours are not equally far; it is subnormal, or so large that the table lacks its power.
    if (fraction == 0 || static_cast<unsigned>(biased - 1) >= 2045) [[unlikely]]
        return {};

    // value = c * 2^q = (whole + part / 2^64) * 10^(k + 1), where the interval that is rounded to the value is 0.1 to 1
    // wide: so it contains at most one integer, and the nearest tenth.
    const std::uint64_t c = fraction | std::uint64_t{1} << 52;
    const int q = biased - bias;
    const int k = (q * 1262611) >> 22;
    constexpr int fine = 11; // bits of the part that the first product has
    const int h = q + ((-(k + 1) * 1741647) >> 19) + 1 + fine;
    const uint128 power = powers_of_ten[-(k + 1) - least_power_of_ten];
    const uint128 high = multiply(power.high, c << h);
    const std::uint64_t low = high.low + multiply(power.low, c << h).high;
    const std::uint64_t top = high.high + (low < high.low);
    const std::uint64_t whole = top >> fine;
    const std::uint64_t part = top << (64 - fine) | low >> fine;

    // The part and half of the interval, in units of 2^-64, are each less than two off; ten parts less than twenty.
    constexpr std::uint64_t margin = 4, margin_of_ten = 32;
    const std::uint64_t half = power.high >> (1 + fine - h);
    const uint128 tenths = multiply(part, 10);
    if (part - half + margin <= 2 * margin || part + half + margin <= 2 * margin ||
        tenths.low - (std::uint64_t{1} << 63) + margin_of_ten <= 2 * margin_of_ten) [[unlikely]]
        return {};
    const bool down = part < half, up = part + half < half; // an integer is in the interval
    const std::uint64_t nearest = tenths.high + (tenths.low >> 63);
    return with_17_digits(whole + up, (down | up) ? 0 : nearest, k);
}

// Sixteen bytes of one kind, one of another, and more of a third: 16 of them, from a place that is chosen.
struct byte_window {
    constexpr byte_window(unsigned char before, unsigned char middle, unsigned char after) noexcept
    {
        for (std::size_t i = 0; i != 32; ++i)
            bytes[i] = i < 16 ? before : i == 16 ? middle : after;
    }

    unsigned char bytes[32]{};
};

// The first 16 of a decimal's digits, as numbers.
class sixteen_digits {
public:
    explicit sixteen_digits(std::uint64_t value) noexcept
    {
        constexpr std::uint64_t e8 = 100'000'000;
        const auto first = static_cast<std::uint32_t>(value / e8), last = static_cast<std::uint32_t>(value % e8);
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
        all_ = _mm_or_si128(high1, _mm_slli_epi16(low1, 8));
#else
        first_ = eight_digits(first);
        last_ = eight_digits(last);
#endif
    }

    // How many there are before the zeros at the end, with one more if that is not 0 itself. The first must not be 0.
    int significant(std::uint32_t one_more) const noexcept
    {
#if defined(__SSE2__)
        const int zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(all_, _mm_setzero_si128()));
        const auto others = (static_cast<std::uint32_t>(zeros) ^ 0xffff) | std::uint32_t{one_more != 0} << 16 | 1;
        return 1 + (std::countl_zero(others) ^ 31);
#else
        return one_more != 0 ? 17
               : last_ != 0  ? 16 - (std::countl_zero(last_) >> 3)
                             : 8 - (std::countl_zero(first_) >> 3);
#endif
    }

    // Stores their text: 16 bytes.
    void store(char* p) const noexcept
    {
#if defined(__SSE2__)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_or_si128(all_, _mm_set1_epi8('0')));
#else
        store_eight(p, first_ + eight_zeros);
        store_eight(p + 8, last_ + eight_zeros);
#endif
    }

    // The same with a point before the one at 16 - `from`, which pushes the last one out; without it where that is 16.
    void store_pointed(char* p, std::size_t from) const noexcept
    {
        // What is left where it is, what is moved by a byte, and what makes text of both.
        static constexpr byte_window stay{0xff, 0, 0}, move{0, 0, 0xff}, text{'0', '.', '0'};
#if defined(__SSE2__)
        const auto at = [from](const byte_window& w) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.bytes + from));
        };
        const __m128i left = _mm_and_si128(all_, at(stay));
        const __m128i right = _mm_and_si128(_mm_slli_si128(all_, 1), at(move));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_or_si128(_mm_or_si128(left, right), at(text)));
#else
        const auto put = [&](std::size_t offset, std::uint64_t here, std::uint64_t moved) {
            const auto at = [&](const byte_window& w) {
                std::uint64_t word = 0;
                for (std::size_t i = 0; i != 8; ++i)
                    word |= std::uint64_t{w.bytes[from + offset + i]} << (8 * i);
                return word;
            };
            store_eight(p + offset, (here & at(stay)) | (moved & at(move)) | at(text));
        };
        put(0, first_, first_ << 8);
        put(8, last_, last_ << 8 | first_ >> 56);
#endif
    }

private:
#if defined(__SSE2__)
    __m128i all_;
#else
    std::uint64_t first_, last_; // as of eight_digits()
#endif
};

// How a decimal is written: as std::to_chars does, in fixed notation unless the scientific one is shorter. (Beyond the
// integers of 64 bits write_decimal takes the scientific one always.)
struct decimal_layout {
    int size;  // the number of digits without zeros at the end
    int whole; // the number of digits before the point

    bool fixed() const noexcept { return whole >= (size == 1 ? -2 : -3) && whole <= size + (size == 1 ? 4 : 5); }
};

// Writes fixed notation with at most 15 digits before the point; without branches, since lengths are hard to predict.
[[gnu::always_inline]] inline char* write_fixed(char* p, const sixteen_digits& digits, std::uint32_t last,
                                                decimal_layout layout) noexcept
{
    const auto [size, whole] = layout;
    // Where the digits begin, after "0." and zeros where none is before the point; and where that is.
    struct place {
        unsigned char begin, from, point;
    };
    static constexpr auto places = [] {
        std::array<place, 19> all{};
        for (int i = -3; i <= 15; ++i)
            all[static_cast<unsigned>(i + 3)] = {static_cast<unsigned char>(i <= 0 ? 2 - i : 0),
                                                 static_cast<unsigned char>(i <= 0 ? 0 : 16 - i), i > 0};
        return all;
    }();
    const place at = places[static_cast<unsigned>(whole + 3)];
    std::memcpy(p, "0.000000", 8);
    char* const to = p + at.begin;
    digits.store(to + at.point);
    to[16 + at.point] = static_cast<char>('0' + last);
    digits.store_pointed(to, at.from);
    const int end = size + (static_cast<unsigned>(whole - 1) < static_cast<unsigned>(size - 1));
    return to + (end < whole ? whole : end);
}

// Writes any decimal, which is the value's.
[[gnu::noinline]] inline char* write_decimal(char* p, decimal shortest, double value) noexcept
{
    const sixteen_digits digits(shortest.sixteen);
    const decimal_layout layout{digits.significant(shortest.last), 17 + shortest.exponent};
    const auto [size, whole] = layout;
    const auto put = [&](char* to) noexcept { // all 17
        digits.store(to);
        to[16] = static_cast<char>('0' + shortest.last);
    };
    // Many parsers, simdjson's too, refuse an integer beyond 64 bits: it is written as a real number.
    if (layout.fixed() && value <= 0x1p63) {
        if (whole <= 15) return write_fixed(p, digits, shortest.last, layout);
        // to_chars gives all digits of what is beyond the integers that a double can represent.
        if (whole > size && value >= 0x1p53) return std::to_chars(p, p + json_double_room, value).ptr;
        put(p);
        if (whole >= size) return p + whole;
        p[17] = p[16]; // there are 16 before the point
        p[16] = '.';
        return p + 18;
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

[[gnu::noinline]] inline char* write_shortest_exactly(char* p, double value) noexcept
{
    return write_decimal(p, shortest_decimal_exactly(value), value);
}

// Writes the shortest text of a finite value above 0, but scientific notation beyond 2^63.
inline char* write_shortest(char* p, double value) noexcept
{
    const decimal shortest = shortest_decimal_quickly(value);
    if (shortest.sixteen == 0) [[unlikely]]
        return write_shortest_exactly(p, value);
    const sixteen_digits digits(shortest.sixteen);
    const decimal_layout layout{digits.significant(shortest.last), 17 + shortest.exponent};
    // Most are: from 0.00... with at most two zeros to ten, and with more digits to a million million.
    if (static_cast<unsigned>(layout.whole + 2) <= 17 && layout.whole <= layout.size + 4) [[likely]]
        return write_fixed(p, digits, shortest.last, layout);
    return write_decimal(p, shortest, value);
}

} // namespace holdfast::detail

#endif
