// holdfast: sums, products and sizes that stop at the largest value.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SATURATED_HPP
#define HOLDFAST_DETAIL_SATURATED_HPP

#include <algorithm>
#include <cstddef>
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

/// The sum, for a counter of 4 bytes.
constexpr std::uint32_t saturated_count(std::uint32_t a, std::uint64_t b) noexcept
{
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(saturated_sum(a, b), std::numeric_limits<std::uint32_t>::max()));
}

/// value * 2^bits; the largest value where `bits` is out of range, too.
constexpr std::uint64_t saturated_shift(std::uint64_t value, std::int64_t bits) noexcept
{
    if (bits < 0 || bits > 63) return std::numeric_limits<std::uint64_t>::max();
    return saturated_product(value, std::uint64_t{1} << bits);
}

/// A size in 4 bytes. What does not fit is `SIZE_MAX`.
class saturated_size {
public:
    constexpr saturated_size(std::size_t size) noexcept
        : size_(size < unlimited ? static_cast<std::uint32_t>(size) : unlimited)
    {
    }
    constexpr operator std::size_t() const noexcept
    {
        return size_ != unlimited ? size_ : std::numeric_limits<std::size_t>::max();
    }

    static constexpr std::uint32_t unlimited = std::numeric_limits<std::uint32_t>::max();

private:
    std::uint32_t size_;
};

} // namespace holdfast::detail

#endif
