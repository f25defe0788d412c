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
#include <limits>
#include <random>
#include <string>
#include <string_view>

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int rounds = 200'000;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
constexpr int rounds = 200'000;
#else
constexpr int rounds = 10'000'000;
#endif
#else
constexpr int rounds = 10'000'000;
#endif

// Whether a value is written as briefly as std::to_chars writes it (but for "-0.0"), within its room, and
// reads back as it was.
bool well_written(double value)
{
    std::array<char, 64> text;
    text.fill('#');
    const char* const end = holdfast::detail::write_finite(text.data(), value);
    std::array<char, 32> standard;
    const char* const standard_end =
        std::to_chars(standard.data(), standard.data() + standard.size(), value).ptr;
    double back = 0;
    const auto read = std::from_chars(text.data(), end, back);
    return read.ec == std::errc{} && read.ptr == end &&
           std::bit_cast<std::uint64_t>(back) == std::bit_cast<std::uint64_t>(value) &&
           end - text.data() ==
               standard_end - standard.data() + (value == 0 && std::signbit(value) ? 2 : 0) &&
           std::string_view(text.data(), text.size())
                   .find_first_not_of('#', holdfast::detail::json_double_room) == std::string_view::npos;
}

std::string hex(double value)
{
    char text[64];
    std::snprintf(text, sizeof text, "%a", value);
    return text;
}

} // namespace

TEST_CASE("random doubles read back as they were, from a text as short as to_chars makes it")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    for (int i = 0; i < rounds; ++i) {
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

TEST_CASE("decimals of one to seventeen digits, wherever their point is, are written well")
{
    std::mt19937_64 random(7);
    std::uint64_t most = 10;
    for (int digits = 1; digits <= 17; ++digits, most *= 10) {
        for (int point = -22; point <= 22; ++point) {
            for (int i = 0; i < 20; ++i) {
                const double value =
                    std::stod(std::to_string(random() % most) + "e" + std::to_string(point - digits));
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
            if (ours != std::string_view(standard.data(), static_cast<std::size_t>(end - standard.data())))
                FAIL(value);
        }
    }
}
