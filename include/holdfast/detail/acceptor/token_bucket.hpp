// holdfast: a token bucket kept as one point in time.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_TOKEN_BUCKET_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_TOKEN_BUCKET_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace holdfast::detail {

/// Lets `burst` through at once, then one each `interval`. What it remembers is when it will be full again,
/// so neither a pause nor a leap of the clock lets more than a burst through. No I/O, no clock of its own.
class token_bucket {
public:
    using clock = std::chrono::steady_clock;

    token_bucket(clock::duration interval, std::size_t burst) noexcept
        : interval_(interval), depth_(interval * static_cast<long>(burst - 1))
    {
    }

    /// When there is a token: `now` or later.
    [[nodiscard]] clock::time_point ready_at(clock::time_point now) const noexcept
    {
        return std::max(now, full_at_ - depth_);
    }

    /// Takes a token, if there is one.
    bool take(clock::time_point now) noexcept
    {
        if (ready_at(now) > now) return false;
        full_at_ = std::max(full_at_, now) + interval_;
        return true;
    }

private:
    clock::duration interval_;
    clock::duration depth_;
    clock::time_point full_at_{}; // the clock's beginning: long ago
};

} // namespace holdfast::detail

#endif
