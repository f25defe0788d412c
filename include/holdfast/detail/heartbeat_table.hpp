// holdfast: the ages of watched connections in dense arrays, swept once a tick. No I/O, no clock:
// ticks come from outside.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_TABLE_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_TABLE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace holdfast::detail {

/// Slots of two-byte ages. A touch stores zero through a bare pointer; a tick adds one to every slot,
/// saturating, and looks closer only at blocks in which an age has just become `dead_at`. Free slots rest at
/// the maximum, which never fires and never wraps. 12 bytes a slot, in segments that never move.
class heartbeat_table {
public:
    using age_type = std::uint16_t;
    using callback = void (*)(void* context) noexcept;

    static constexpr age_type resting = std::numeric_limits<age_type>::max();
    static constexpr std::size_t block_slots = 256;
    static constexpr std::size_t segment_slots = 1024;

    explicit heartbeat_table(age_type dead_at) noexcept : dead_at_(dead_at) {}

    /// Takes a slot with age zero; its address is stable until `release()`. At most 255 different callbacks.
    /// Allocates a segment when all slots are taken.
    age_type* acquire(callback on_death, void* context)
    {
        const std::uint8_t kind = kind_of(on_death);
        if (free_ == nowhere) grow();
        const std::size_t index = free_;
        segment& s = *segments_[index / segment_slots];
        const std::size_t i = index % segment_slots;
        free_ = reinterpret_cast<std::uintptr_t>(s.contexts[i]);
        s.contexts[i] = context;
        s.kinds[i] = kind;
        s.ages[i] = 0;
        ++in_use_;
        return &s.ages[i];
    }

    void release(age_type* age) noexcept
    {
        segment& s = segment_of(age);
        const auto i = static_cast<std::size_t>(age - s.ages.data());
        *age = resting;
        s.kinds[i] = nobody;
        s.contexts[i] = reinterpret_cast<void*>(free_);
        free_ = s.first + i;
        --in_use_;
    }

    [[nodiscard]] std::size_t in_use() const noexcept { return in_use_; }

    /// Adds one tick and calls back for each slot that dies of it, once. Callbacks may acquire and release
    /// slots, their own included; the sweep ends early when `go_on()` turns false, as when a callback ended
    /// the timer.
    template <class GoOn>
    void tick(GoOn go_on)
    {
        for (std::size_t n = 0; n != segments_.size(); ++n) { // by index: a callback may add segments
            segment& s = *segments_[n];
            for (std::size_t first = 0; first != segment_slots; first += block_slots) {
                if (!grow_older(&s.ages[first], dead_at_)) continue;
                for (std::size_t i = first; i != first + block_slots; ++i) {
                    if (s.ages[i] != dead_at_ || s.kinds[i] == nobody) continue;
                    const callback on_death = callbacks_[s.kinds[i]];
                    s.kinds[i] = nobody; // a touch after death must not make it die twice
                    on_death(s.contexts[i]);
                    if (!go_on()) return;
                }
            }
        }
    }

private:
    static constexpr std::size_t nowhere = std::numeric_limits<std::size_t>::max();
    static constexpr std::uint8_t nobody = 0;

    // Aligned to the size of its ages, so that the address of an age leads to its segment.
    struct alignas(segment_slots * sizeof(age_type)) segment {
        std::array<age_type, segment_slots> ages;
        std::array<void*, segment_slots> contexts; // of a free slot: the index of the next free one
        std::array<std::uint8_t, segment_slots> kinds;
        std::size_t first;
    };

    static_assert(sizeof(segment) == 12 * segment_slots);

    static segment& segment_of(age_type* age) noexcept
    {
        return *reinterpret_cast<segment*>(reinterpret_cast<std::uintptr_t>(age) & ~(alignof(segment) - 1));
    }

    /// One block, of constant length and without branches, so that the compiler makes vector code of it. In
    /// two loops: g++ 12 at -O3 can make one that does both up to five times slower.
    static bool grow_older(age_type* ages, age_type dead_at) noexcept
    {
        for (std::size_t i = 0; i != block_slots; ++i)
            ages[i] = static_cast<age_type>(ages[i] + (ages[i] != resting ? 1 : 0));
        age_type died = 0;
        for (std::size_t i = 0; i != block_slots; ++i)
            died = static_cast<age_type>(died | (ages[i] == dead_at ? resting : 0));
        return died != 0;
    }

    std::uint8_t kind_of(callback f)
    {
        for (std::size_t kind = 1; kind < callbacks_.size(); ++kind)
            if (callbacks_[kind] == f) return static_cast<std::uint8_t>(kind);
        if (callbacks_.size() > std::numeric_limits<std::uint8_t>::max())
            throw std::length_error("heartbeat_timer: more than 255 types of watched objects in one timer");
        callbacks_.push_back(f);
        return static_cast<std::uint8_t>(callbacks_.size() - 1);
    }

    void grow()
    {
        if (segments_.size() == segments_.capacity())
            segments_.reserve(2 * segments_.size() + 1); // before the free list refers to the new segment
        auto fresh = std::make_unique_for_overwrite<segment>();
        fresh->first = segments_.size() * segment_slots;
        for (std::size_t i = segment_slots; i-- != 0;) {
            fresh->ages[i] = resting;
            fresh->kinds[i] = nobody;
            fresh->contexts[i] = reinterpret_cast<void*>(free_);
            free_ = fresh->first + i;
        }
        segments_.push_back(std::move(fresh));
    }

    const age_type dead_at_;
    std::size_t in_use_ = 0;
    std::size_t free_ = nowhere;
    std::vector<std::unique_ptr<segment>> segments_;
    std::vector<callback> callbacks_{nullptr};
};

} // namespace holdfast::detail

#endif
