// holdfast: sums and products that stop at the largest value.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SATURATED_HPP
#define HOLDFAST_DETAIL_SATURATED_HPP

#include <cstdint>
#include <limits>

namespace holdfast::detail {

constexpr std::uint64_t saturated_sum(std::uint64_t a, std::uint64_t b) noexcept
{
    constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
    return a > largest - b ? largest : a + b;
}

constexpr std::uint64_t saturated_product(std::uint64_t a, std::uint64_t b) noexcept
{
    constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
    return b != 0 && a > largest / b ? largest : a * b;
}

} // namespace holdfast::detail

#endif
