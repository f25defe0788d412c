// holdfast: a token bucket kept as one point in time.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_TOKEN_BUCKET_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_TOKEN_BUCKET_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>

namespace holdfast::detail {

/// Allows a burst of tokens at once, then one each interval. It stores when it will be full again, so neither a
/// pause nor a leap of the clock allows more than a burst. Large intervals and bursts saturate. No clock of its
/// own.
class token_bucket {
public:
    using clock = std::chrono::steady_clock;

    /// `burst` is at least 1.
    token_bucket(clock::duration interval, std::size_t burst) noexcept
        : interval_(std::min(interval, longest)), depth_(times(interval_, burst - 1))
    {
    }

    /// The interval of a rate; zero without one.
    static clock::duration per_second(double rate) noexcept
    {
        if (!(rate > 0)) return {};
        const double ticks = static_cast<double>(clock::period::den) / static_cast<double>(clock::period::num) / rate;
        if (ticks >= static_cast<double>(longest.count())) return longest;
        return std::max(clock::duration(static_cast<clock::rep>(ticks)), clock::duration(1));
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
    /// Ages: sums of the clock's time with one or two of them do not overflow.
    static constexpr clock::duration longest{std::numeric_limits<clock::rep>::max() / 8};

    static clock::duration times(clock::duration interval, std::size_t n) noexcept
    {
        if (interval <= interval.zero() || n == 0) return {};
        const auto most = static_cast<std::size_t>(longest / interval);
        return n > most ? longest : interval * static_cast<clock::rep>(n);
    }

    clock::duration interval_;
    clock::duration depth_;
    clock::time_point full_at_{}; // the clock's beginning: long ago
};

} // namespace holdfast::detail

#endif
