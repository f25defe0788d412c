// holdfast: coarse_timestamp, the time of day as text for log lines, formatted at most once a tick.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_COARSE_TIMESTAMP_HPP
#define HOLDFAST_COARSE_TIMESTAMP_HPP

#include <holdfast/heartbeat_timer.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace holdfast {

/// The time of day as text, such as "2026-11-24T21:04:08.250Z" (UTC, always 24 characters), as exact as the
/// tick of a `heartbeat_timer`: it is formatted at the first call after a tick, and kept for those that
/// follow. Between two ticks a call compares two numbers. Never allocates.
///
/// While nothing is watched, and so nothing ticks, each call asks the clock. Years lie between 0 and 9999.
///
/// `WallClock` is a clock that counts from 1970, as `std::chrono::system_clock` does.
/// Lifetime: the timer must outlive it. A text is valid until the next call.
/// Concurrency: it belongs to the timer's shard.
///
///     holdfast::coarse_timestamp stamp{heart};
///     std::clog << stamp.text() << ' ' << end << '\n';
template <class Timer = heartbeat_timer<>, class WallClock = std::chrono::system_clock>
class coarse_timestamp {
public:
    explicit coarse_timestamp(const Timer& heart) noexcept : heart_(&heart) {}

    [[nodiscard]] std::string_view text() noexcept
    {
        if (const std::uint64_t tick = heart_->ticks(); heart_->watched() == 0 || tick != formatted_at_) {
            formatted_at_ = tick;
            format();
        }
        return {text_.data(), text_.size()};
    }

private:
    void format() noexcept
    {
        using namespace std::chrono;
        const auto now = floor<milliseconds>(WallClock::now().time_since_epoch());
        const auto day = floor<days>(now);
        const year_month_day date{sys_days{day}};
        const auto time = static_cast<unsigned>((now - day).count());
        put(0, 4, static_cast<unsigned>(static_cast<int>(date.year())));
        put(5, 2, static_cast<unsigned>(date.month()));
        put(8, 2, static_cast<unsigned>(date.day()));
        put(11, 2, time / 3'600'000);
        put(14, 2, time / 60'000 % 60);
        put(17, 2, time / 1'000 % 60);
        put(20, 3, time % 1'000);
    }

    void put(std::size_t at, std::size_t digits, unsigned value) noexcept
    {
        for (std::size_t i = at + digits; i-- != at; value /= 10)
            text_[i] = static_cast<char>('0' + value % 10);
    }

    static constexpr auto never = ~std::uint64_t{0};

    const Timer* heart_;
    std::uint64_t formatted_at_ = never;
    std::array<char, 24> text_{'0', '0', '0', '0', '-', '0', '0', '-', '0', '0', 'T', '0',
                               '0', ':', '0', '0', ':', '0', '0', '.', '0', '0', '0', 'Z'};
};

} // namespace holdfast

#endif
