// holdfast: when memory is too high to let anybody in, as a state machine without I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_MEMORY_GATE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_MEMORY_GATE_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace holdfast::detail {

/// Shuts above a high mark and opens below a low one. As memory that was freed may never go back to the
/// system, it also opens when an eighth of the connections has left that were there when it shut, for as many
/// as there were then; and it lets one in each `probe_interval`. So it cannot stay shut for good.
class memory_gate {
public:
    using clock = std::chrono::steady_clock;

    /// A high mark of 0: always open, never measured.
    memory_gate(std::uint64_t high, std::uint64_t low, clock::duration probe_interval) noexcept
        : high_(high), low_(low), trickle_(probe_interval)
    {
    }

    /// Whether to measure before the next decision: far from the mark after many admissions or a tenth of a
    /// second, near it more often.
    [[nodiscard]] bool due(clock::time_point now) const noexcept
    {
        return high_ != 0 && (admitted_ >= stride_ || now >= measured_at_ + period || !measured_);
    }

    /// Takes a measurement; true where the gate shuts by it.
    bool observe(std::uint64_t used, std::size_t live, clock::time_point now) noexcept
    {
        measured_ = true;
        measured_at_ = now;
        // Half of the way to the mark may pass unseen, if an admission costs what those since the last look
        // did, and 64 KiB at least.
        const std::uint64_t cost = admitted_ != 0 && used > used_ ? (used - used_) / admitted_ : 0;
        const std::uint64_t room = used < high_ ? (high_ - used) / 2 : 0;
        stride_ = std::clamp<std::uint64_t>(room / std::max<std::uint64_t>(cost, 64 * 1024), 1,
                                            std::min<std::uint64_t>(2 * stride_, 256));
        used_ = used;
        admitted_ = 0;
        if (used <= low_) {
            over_ = shut_ = false;
        } else if (used > (over_ ? worst_ + worst_ / 64 : high_)) {
            ceiling_ = over_ ? std::min(ceiling_, live) : live;
            over_ = true;
            worst_ = used;
            if (!shut_) last_in_ = now;
            return !std::exchange(shut_, true);
        }
        return false;
    }

    [[nodiscard]] bool open(std::size_t live, clock::time_point now) noexcept
    {
        if (!over_) return true;
        if (shut_ && live < ceiling_ && ceiling_ - live >= std::max<std::size_t>(1, ceiling_ / 8))
            shut_ = false;
        else if (!shut_ && live >= ceiling_)
            shut_ = true;
        return !shut_ || (trickle_ > trickle_.zero() && now >= last_in_ + trickle_);
    }

    /// When to look again while it is shut; a connection that leaves is another reason.
    [[nodiscard]] clock::time_point look_again(clock::time_point now) const noexcept
    {
        const auto next = now + period;
        return trickle_ > trickle_.zero() ? std::clamp(last_in_ + trickle_, now, next) : next;
    }

    void admitted(clock::time_point now) noexcept
    {
        ++admitted_;
        last_in_ = now;
    }

    [[nodiscard]] bool enabled() const noexcept { return high_ != 0; }

private:
    static constexpr std::chrono::milliseconds period{100};

    std::uint64_t high_;
    std::uint64_t low_;
    clock::duration trickle_;
    clock::time_point measured_at_{};
    clock::time_point last_in_{};
    std::uint64_t stride_ = 1;
    std::uint64_t admitted_ = 0; // since the last measurement
    std::uint64_t used_ = 0;     // as it was measured
    std::uint64_t worst_ = 0;    // the highest use since it went over the high mark
    std::size_t ceiling_ = 0;    // how many connections were too many
    bool measured_ = false;
    bool over_ = false; // the high mark was passed, and the low one not yet again
    bool shut_ = false;
};

} // namespace holdfast::detail

#endif
