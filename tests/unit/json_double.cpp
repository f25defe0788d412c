// holdfast: tests of numbers as JSON text: doubles read back bit by bit and as short as they can be.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/serialize/json/number.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <string_view>

namespace {

// HOLDFAST_DOUBLES sets another number: a hundred million take half a minute where they are optimized.
std::uint64_t rounds()
{
    const char* const wanted = std::getenv("HOLDFAST_DOUBLES");
    return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 1'000'000;
}

// Whether a value is written as std::to_chars writes it (but for "-0.0", and in scientific notation beyond the integers
// of 64 bits), within its room, and reads back as it was.
bool well_written(double value)
{
    std::array<char, 64> text;
    text.fill('#');
    const char* const end = holdfast::detail::write_finite(text.data(), value);
    std::array<char, 32> standard;
    char* const standard_limit = standard.data() + standard.size();
    const char* const standard_end =
        std::abs(value) > 0x1p63
            ? std::to_chars(standard.data(), standard_limit, value, std::chars_format::scientific).ptr
            : std::to_chars(standard.data(), standard_limit, value).ptr;
    double back = 0;
    const auto read = std::from_chars(text.data(), end, back);
    const std::string_view ours(text.data(), static_cast<std::size_t>(end - text.data()));
    const std::string_view theirs(standard.data(), static_cast<std::size_t>(standard_end - standard.data()));
    return read.ec == std::errc{} && read.ptr == end &&
           std::bit_cast<std::uint64_t>(back) == std::bit_cast<std::uint64_t>(value) &&
           ours == (value == 0 && std::signbit(value) ? "-0.0" : theirs) &&
           std::string_view(text.data(), text.size()).find_first_not_of('#', holdfast::detail::json_double_room) ==
               std::string_view::npos;
}

std::string hex(double value)
{
    char text[64];
    std::snprintf(text, sizeof text, "%a", value);
    return text;
}

using holdfast::detail::uint128;

// From 5^k and from 2^832 / 5^-k, which have the same bits as 10^k.
struct computed_powers {
    static constexpr int least = -292, greatest = 324;

    std::array<uint128, greatest - least + 1> table{};

    computed_powers()
    {
        std::array<std::uint32_t, words> up{1}, down{};
        down[words - 1] = 1;
        for (int k = 0; k <= greatest; ++k) {
            table[static_cast<std::size_t>(k - least)] = first_bits(up);
            std::uint64_t carry = 0;
            for (auto& word : up) {
                carry += std::uint64_t{word} * 5;
                word = static_cast<std::uint32_t>(carry);
                carry >>= 32;
            }
        }
        for (int k = -1; k >= least; --k) {
            std::uint64_t rest = 0;
            for (std::size_t i = words; i-- != 0;) {
                rest = rest << 32 | down[i];
                down[i] = static_cast<std::uint32_t>(rest / 5);
                rest %= 5;
            }
            down[0] |= 1; // it never comes out even: what is cut off below is not zero
            table[static_cast<std::size_t>(k - least)] = first_bits(down);
            down[0] &= ~std::uint32_t{1};
        }
    }

private:
    static constexpr std::size_t words = 27;

    static constexpr uint128 first_bits(const std::array<std::uint32_t, words>& number)
    {
        std::size_t top = words - 1;
        while (number[top] == 0)
            --top;
        const auto word = [&](std::size_t below) {
            return below <= top ? std::uint64_t{number[top - below]} : std::uint64_t{0};
        };
        const int shift = std::countl_zero(number[top]);
        const auto pair = [&](std::size_t at) { // 64 bits, from 32 * at bits below the first one
            const std::uint64_t both = word(at) << 32 | word(at + 1);
            return shift == 0 ? both : both << shift | word(at + 2) >> (32 - shift);
        };
        uint128 bits{pair(0), pair(2)};
        bool cut = ((word(4) << shift) & 0xffffffff) != 0;
        for (std::size_t i = 5; i <= top; ++i)
            cut = cut || word(i) != 0;
        if (cut && ++bits.low == 0) ++bits.high;
        return bits;
    }
};

} // namespace

TEST_CASE("random doubles read back as they were, from the text that to_chars makes")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    for (std::uint64_t i = 0, n = rounds(); i < n; ++i) {
        const auto value = std::bit_cast<double>(std::uint64_t{random()});
        if (std::isfinite(value) && !well_written(value)) FAIL(hex(value));
    }
}

TEST_CASE("powers of two and of ten, their neighbours, and the ends of the range are written well")
{
    const double infinity = std::numeric_limits<double>::infinity();
    const auto with_neighbours = [&](double value) {
        INFO(hex(value));
        CHECK(well_written(value));
        CHECK(well_written(-value));
        CHECK(well_written(std::nextafter(value, 0)));
        if (const double next = std::nextafter(value, infinity); next < infinity) CHECK(well_written(next));
    };
    for (int exponent = -1074; exponent < 1024; ++exponent)
        with_neighbours(std::ldexp(1.0, exponent));
    for (int exponent = -323; exponent <= 308; ++exponent)
        with_neighbours(std::strtod(("1e" + std::to_string(exponent)).c_str(), nullptr));
    with_neighbours(0);
    with_neighbours(std::numeric_limits<double>::max());
}

TEST_CASE("the digits are the nearest of the shortest: one product decides as much as three")
{
    using holdfast::detail::shortest_decimal_quickly, holdfast::detail::shortest_decimal_exactly;
    std::mt19937_64 random(13);
    std::uint64_t compared = 0, asked = 0;
    const auto same = [&](std::uint64_t bits) {
        const auto value = std::bit_cast<double>(bits);
        const auto fast = shortest_decimal_quickly(value), exact = shortest_decimal_exactly(value);
        ++asked;
        if (fast.sixteen == 0) return; // it does not tell
        ++compared;
        if (fast.sixteen != exact.sixteen || fast.last != exact.last || fast.exponent != exact.exponent)
            FAIL(hex(value));
    };
    for (std::uint64_t biased = 1; biased < 2047; ++biased) {
        for (std::uint64_t i = 1; i < 50; ++i) { // those of few bits, from both ends, are where it may be a tie
            same(biased << 52 | i);
            same(biased << 52 | ((std::uint64_t{1} << 52) - i));
            same(biased << 52 | i << 46);
            same(biased << 52 | random() >> 12);
        }
    }
    CHECK(compared > asked / 2);
}

TEST_CASE("decimals of one to seventeen digits, wherever their point is, are written well")
{
    std::mt19937_64 random(7);
    std::uint64_t most = 10;
    for (int digits = 1; digits <= 17; ++digits, most *= 10) {
        for (int point = -22; point <= 22; ++point) {
            for (int i = 0; i < 20; ++i) {
                const double value = std::stod(std::to_string(random() % most) + "e" + std::to_string(point - digits));
                if (!well_written(value)) FAIL(hex(value));
            }
        }
    }
}

TEST_CASE("integers of every number of digits are written as to_chars writes them")
{
    std::mt19937_64 random(11);
    for (int bits = 0; bits < 64; ++bits) {
        for (int i = 0; i < 1000; ++i) {
            const std::uint64_t value = std::uint64_t{random()} >> bits;
            std::array<char, 32> text, standard;
            const std::string_view ours(
                text.data(),
                static_cast<std::size_t>(holdfast::detail::write_integer(text.data(), value) - text.data()));
            const auto end = std::to_chars(standard.data(), standard.data() + standard.size(), value).ptr;
            if (ours != std::string_view(standard.data(), static_cast<std::size_t>(end - standard.data()))) FAIL(value);
        }
    }
}

TEST_CASE("the powers of ten are what long arithmetic computes")
{
    const computed_powers computed;
    REQUIRE(computed.table.size() == std::size(holdfast::detail::powers_of_ten));
    for (std::size_t i = 0; i != computed.table.size(); ++i) {
        INFO("10 to the " << static_cast<int>(i) + computed_powers::least);
        REQUIRE(computed.table[i].high == holdfast::detail::powers_of_ten[i].high);
        REQUIRE(computed.table[i].low == holdfast::detail::powers_of_ten[i].low);
    }
}
