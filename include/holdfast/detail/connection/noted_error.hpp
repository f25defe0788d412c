// holdfast: noted_error, an error code without the padding of one.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_NOTED_ERROR_HPP
#define HOLDFAST_DETAIL_CONNECTION_NOTED_ERROR_HPP

#include <holdfast/asio.hpp>

#include <system_error>

namespace holdfast::detail {

/// As a member with [[no_unique_address]] it leaves its last 4 bytes to the members after it. Boost's error codes contain
/// more than a category and a value, and are kept whole.
class noted_error {
public:
#if defined(HOLDFAST_USE_BOOST_ASIO)
    void set(const error_code& error) noexcept { error_ = error; }
    [[nodiscard]] error_code get() const noexcept { return error_; }

private:
    error_code error_;
#else
    void set(const error_code& error) noexcept
    {
        category_ = &error.category();
        value_ = error.value();
    }
    [[nodiscard]] error_code get() const noexcept { return {value_, *category_}; }

private:
    const std::error_category* category_ = &std::system_category();
    int value_ = 0;
#endif
};

} // namespace holdfast::detail

#endif
