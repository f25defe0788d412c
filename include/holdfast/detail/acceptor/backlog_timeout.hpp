// holdfast: how many of a queue have waited for too long, known from its length alone.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_BACKLOG_TIMEOUT_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_BACKLOG_TIMEOUT_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace holdfast::detail {

/// Watches a queue that is first come, first served, and whose members can't be asked since when they wait: a
/// listener's backlog. How many have ever come is written down from time to time; those who had come by a
/// time that lies the backlog_timeout back, and are still there, have waited for as long. Nobody is taken for
/// impatient early, and late by two periods at most. No I/O, no clock of its own.
class backlog_timeout {
public:
    using clock = std::chrono::steady_clock;

    /// Zero: endless.
    explicit backlog_timeout(clock::duration time) noexcept : time_(time) {}

    [[nodiscard]] bool ends() const noexcept { return time_ != time_.zero(); }

    /// How often to look.
    [[nodiscard]] clock::duration period() const noexcept
    {
        return std::max<clock::duration>((time_ + clock::duration(7)) / 8, std::chrono::milliseconds(1));
    }

    /// The first of the queue has left it.
    void left() noexcept { ++left_; }

    /// How many are overdue of the `waiting` that are there now.
    std::size_t overdue(std::size_t waiting, clock::time_point now) noexcept
    {
        if (const look& last = looks_[newest_]; now >= last.at + period()) {
            newest_ = (newest_ + 1) % looks_.size();
            looks_[newest_] = {now, left_ + waiting};
        }
        std::uint64_t come = 0;
        for (const look& each : looks_)
            if (each.at + time_ <= now) come = std::max(come, each.come);
        return come > left_ ? static_cast<std::size_t>(std::min<std::uint64_t>(come - left_, waiting)) : 0;
    }

private:
    struct look {
        clock::time_point at{}; // the clock's beginning: long ago
        std::uint64_t come = 0; // who had come by then, those who have left included
    };

    clock::duration time_;
    std::uint64_t left_ = 0;
    std::array<look, 9> looks_{}; // the oldest is as old as the backlog_timeout, or older
    std::size_t newest_ = 0;
};

} // namespace holdfast::detail

#endif
