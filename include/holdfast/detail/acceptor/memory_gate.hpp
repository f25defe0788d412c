// holdfast: when memory use is too high to accept, as a state machine without I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_MEMORY_GATE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_MEMORY_GATE_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace holdfast::detail {

/// Closes above a high watermark and opens below a low one. As freed memory may never return to the system, it
/// also opens when an eighth of the connections that existed when it closed has ended, for up to as many as there
/// were then; and for one in each `probe_interval`. So it cannot stay closed for good.
class memory_gate {
public:
    using clock = std::chrono::steady_clock;

    /// A high watermark of 0: always open, never measured. A probe interval of zero or of more than a hundred years:
    /// no probes.
    memory_gate(std::uint64_t high, std::uint64_t low, clock::duration probe_interval) noexcept
        : high_(high), low_(low), probe_interval_(probe_interval > longest ? clock::duration::zero() : probe_interval)
    {
    }

    /// Whether to measure before the next decision: far from the watermark after many admissions or a tenth of a
    /// second, near it more often.
    [[nodiscard]] bool due(clock::time_point now) const noexcept
    {
        return high_ != 0 && (admitted_ >= stride_ || now >= measured_at_ + period || !measured_);
    }

    /// Takes a measurement; true where the gate closes by it.
    bool observe(std::uint64_t used, std::size_t live, clock::time_point now) noexcept
    {
        measured_ = true;
        measured_at_ = now;
        // Half of the distance to the watermark may pass unseen, if an admission costs what those since the last
        // measurement did, and 64 KiB at least.
        const std::uint64_t cost = admitted_ != 0 && used > used_ ? (used - used_) / admitted_ : 0;
        const std::uint64_t distance = used < high_ ? (high_ - used) / 2 : 0;
        stride_ = std::clamp<std::uint64_t>(distance / std::max<std::uint64_t>(cost, 64 * 1024), 1,
                                            std::min<std::uint64_t>(2 * stride_, 256));
        used_ = used;
        admitted_ = 0;
        if (used <= low_) {
            over_ = closed_ = false;
        } else if (used > (over_ ? worst_ + worst_ / 64 : high_)) {
            ceiling_ = over_ ? std::min(ceiling_, live) : live;
            over_ = true;
            worst_ = used;
            if (!closed_) last_admitted_ = now;
            return !std::exchange(closed_, true);
        }
        return false;
    }

    /// Memory could not be measured: what was measured last holds, and the next attempt is due after a period.
    void unmeasured(clock::time_point now) noexcept
    {
        measured_ = true;
        measured_at_ = now;
        admitted_ = 0;
    }

    [[nodiscard]] bool open(std::size_t live, clock::time_point now) noexcept
    {
        if (!over_) return true;
        if (closed_ && live < ceiling_ && ceiling_ - live >= std::max<std::size_t>(1, ceiling_ / 8))
            closed_ = false;
        else if (!closed_ && live >= ceiling_)
            closed_ = true;
        return !closed_ || (probes() && now >= last_admitted_ + probe_interval_);
    }

    /// When to decide again while it is closed, at the latest: a connection that ends is an earlier reason.
    [[nodiscard]] clock::time_point next_probe(clock::time_point now) const noexcept
    {
        const auto next = now + period;
        return probes() ? std::clamp(last_admitted_ + probe_interval_, now, next) : next;
    }

    void admitted(clock::time_point now) noexcept
    {
        ++admitted_;
        last_admitted_ = now;
    }

    [[nodiscard]] bool enabled() const noexcept { return high_ != 0; }

private:
    static constexpr std::chrono::milliseconds period{100};
    static constexpr clock::duration longest = std::chrono::hours(24) * 365 * 100;

    [[nodiscard]] bool probes() const noexcept { return probe_interval_ > clock::duration::zero(); }

    std::uint64_t high_;
    std::uint64_t low_;
    clock::duration probe_interval_;
    clock::time_point measured_at_{};
    clock::time_point last_admitted_{};
    std::uint64_t stride_ = 1;
    std::uint64_t admitted_ = 0; // since the last measurement
    std::uint64_t used_ = 0;     // as it was measured
    std::uint64_t worst_ = 0;    // the highest use since it exceeded the high watermark
    std::size_t ceiling_ = 0;    // the number of connections that was too many
    bool measured_ = false;
    bool over_ = false; // the high watermark was exceeded, and memory use has not yet fallen below the low one
    bool closed_ = false;
};

} // namespace holdfast::detail

#endif
