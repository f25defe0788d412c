// holdfast: how many members of a queue have waited too long, known from its length alone.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_BACKLOG_TIMEOUT_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_BACKLOG_TIMEOUT_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace holdfast::detail {

/// Watches a first-in-first-out queue whose members do not say since when they wait: a listener's backlog. It
/// records from time to time how many have ever arrived. Those that had arrived by a record that is as old as the
/// time-out, and are still there, have waited that long. No member counts as overdue early, and late by two periods at
/// most. No I/O, no clock of its own.
class backlog_timeout {
public:
    using clock = std::chrono::steady_clock;

    /// Zero and times of more than a hundred years: unlimited.
    explicit backlog_timeout(clock::duration time) noexcept : time_(time > longest ? clock::duration::zero() : time) {}

    [[nodiscard]] bool ends() const noexcept { return time_ != time_.zero(); }

    /// How often to measure the queue.
    [[nodiscard]] clock::duration period() const noexcept
    {
        return std::max<clock::duration>((time_ + clock::duration(7)) / 8, std::chrono::milliseconds(1));
    }

    /// The first of the queue has left it.
    void left() noexcept { ++left_; }

    /// How many of the `waiting` that are there now are overdue.
    std::size_t overdue(std::size_t waiting, clock::time_point now) noexcept
    {
        if (const record& last = records_[newest_]; now >= last.at + period()) {
            newest_ = (newest_ + 1) % records_.size();
            records_[newest_] = {now, left_ + waiting};
        }
        std::uint64_t arrived = 0;
        for (const record& each : records_)
            if (each.at + time_ <= now) arrived = std::max(arrived, each.arrived);
        return arrived > left_ ? static_cast<std::size_t>(std::min<std::uint64_t>(arrived - left_, waiting)) : 0;
    }

private:
    static constexpr clock::duration longest = std::chrono::hours(24) * 365 * 100;

    struct record {
        clock::time_point at{};    // the clock's beginning: long ago
        std::uint64_t arrived = 0; // by then, those that have left included
    };

    clock::duration time_;
    std::uint64_t left_ = 0;
    std::array<record, 9> records_{}; // the oldest is as old as the time-out, or older
    std::size_t newest_ = 0;
};

} // namespace holdfast::detail

#endif
