// holdfast: noted_error, an error code in five bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_NOTED_ERROR_HPP
#define HOLDFAST_DETAIL_CONNECTION_NOTED_ERROR_HPP

#include <holdfast/asio.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <system_error>

namespace holdfast::detail {

#if defined(HOLDFAST_USE_BOOST_ASIO)
/// Boost's error codes contain more than a category and a value, and are kept whole.
class noted_error {
public:
    void set(const error_code& error) noexcept { error_ = error; }
    [[nodiscard]] error_code get() const noexcept { return error_; }

private:
    error_code error_;
};
#else
/// Categories of errors, each with a number of one byte: a program has few. Thread-safe.
class error_categories {
public:
    /// The number of the categories that are too many.
    static constexpr std::uint8_t none = 255;

    std::uint8_t number_of(const std::error_category& category) noexcept
    {
        for (std::uint8_t i = 0; i != none; ++i) {
            const std::error_category* known = known_[i].load(std::memory_order_relaxed);
            if (known == nullptr && known_[i].compare_exchange_strong(known, &category, std::memory_order_relaxed))
                return i;
            if (known == &category) return i;
        }
        return none;
    }

    /// The error with a value and the category of a number; of one of too many categories, an unspecific one.
    [[nodiscard]] std::error_code error(int value, std::uint8_t number) const noexcept
    {
        if (number == none) return std::make_error_code(std::errc::io_error);
        return {value, *known_[number].load(std::memory_order_relaxed)};
    }

private:
    std::array<std::atomic<const std::error_category*>, none> known_{};
};

/// The categories of the errors that connections have noted.
inline constinit error_categories noted_categories;

/// Each connection has one. As a member with [[no_unique_address]] it leaves its last 3 bytes to the members after it.
class noted_error {
public:
    void set(const error_code& error) noexcept
    {
        value_ = error.value();
        category_ = noted_categories.number_of(error.category());
    }

    [[nodiscard]] error_code get() const noexcept
    {
        if (value_ == 0) return {};
        return noted_categories.error(value_, category_);
    }

private:
    std::int32_t value_ = 0; // 0: no error
    std::uint8_t category_ = 0;
};
#endif

} // namespace holdfast::detail

#endif
