// holdfast: the ages of watched connections in dense arrays, swept once a tick. No I/O and no clock: ticks come from
// outside.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_TABLE_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_TABLE_HPP

#include <holdfast/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace holdfast::detail {

class heartbeat_core;

/// The times of a table, in ticks and in strides. A stride is a number of ticks.
struct heartbeat_limits {
    std::uint16_t ping_at = 0;  // the age at which a ping is due; 0: never
    std::uint16_t dead_at = 0;  // the age at which it has timed out; 0: never
    std::uint32_t stride = 0;   // ticks between two sweeps of the lifetimes; 0: lifetimes have no limit
    std::uint16_t lifetime = 0; // the longest lifetime, in strides
    std::uint16_t jitter = 0;   // the most strides by which it is shortened
};

/// The callbacks of a table. `state` is the table's, `context` the word that was given with the slot.
struct heartbeat_calls {
    void (*die)(void* state, void* context, close_reason) = nullptr;
    void (*ping)(void* state, void* context) = nullptr;
    std::shared_ptr<void> state{};
};

/// Slots of two-byte ages, all with the same limits. A touch stores zero through a pointer. A tick adds one to every
/// slot, saturating, and marks the blocks of slots in which an age reaches a limit. Marked blocks are then examined
/// slot by slot. A free slot has the largest age, which reaches no limit and does not wrap.
///
/// Slots are in segments that never move. A slot takes 10 1/8 bytes, or 12 1/8 where lifetimes are limited.
class heartbeat_table {
public:
    using age_type = std::uint16_t;

    static constexpr age_type resting = std::numeric_limits<age_type>::max();
    static constexpr std::size_t block_slots = 256;
    static constexpr std::size_t segment_slots = 1024;

    /// A position in a walk over the slots.
    struct cursor {
        std::size_t segment = 0;
        std::size_t slot = 0;
    };

    /// What is due for a slot.
    enum class due { nothing, ping, timeout, lifetime };

    heartbeat_table(heartbeat_core& owner, const heartbeat_limits& limits, heartbeat_calls calls)
        : core(owner), calls_(std::move(calls)), limits_(limits), credit_(full_credit())
    {
    }

    heartbeat_table(const heartbeat_table&) = delete;

    /// Whether this table has the same callbacks, without state.
    [[nodiscard]] bool serves(const heartbeat_calls& calls) const noexcept
    {
        return calls_.state == nullptr && calls_.die == calls.die && calls_.ping == calls.ping;
    }

    /// Allocates segments for `slots` slots in all.
    void reserve(std::size_t slots)
    {
        while (segments_.size() * segment_slots < slots)
            grow();
    }

    /// Takes a free slot and sets its age to zero. Its address is stable until it is released. Allocates a segment
    /// where no slot is free.
    age_type* acquire(void* context)
    {
        if (free_ == nullptr) grow();
        age_type* const age = free_;
        segment& s = segment_of(age);
        const std::size_t i = s.index(age);
        free_ = static_cast<age_type*>(s.contexts[i]);
        s.contexts[i] = context;
        s.alive[i / 64] |= bit(i);
        if (s.left) s.left[i] = draw_lifetime();
        *age = 0;
        ++in_use_;
        return age;
    }

    /// Returns the table of a slot.
    static heartbeat_table& of(age_type* age) noexcept { return *segment_of(age).table; }

    void release(age_type* age) noexcept
    {
        segment& s = segment_of(age);
        const std::size_t i = s.index(age);
        *age = resting;
        s.alive[i / 64] &= ~bit(i);
        if (s.left) s.left[i] = 0;
        s.contexts[i] = free_;
        free_ = age;
        --in_use_;
    }

    /// Ends all callbacks. The slots stay until they are released.
    void close() noexcept { closed_ = true; }

    /// Whether it is closed and all slots are released.
    [[nodiscard]] bool unused() const noexcept { return closed_ && in_use_ == 0; }

    /// The credit of a table when no tick has come late: its time-out in ticks.
    [[nodiscard]] std::size_t full_credit() const noexcept
    {
        return limits_.dead_at != 0 ? limits_.dead_at - std::size_t{1} : std::size_t{resting};
    }

    /// Begins tick number `now`, `elapsed` ticks after the last one: more than one where it comes late. Returns how
    /// many of the missed ticks are forgiven: the ages grow by so many less.
    ///
    /// The credit is at most one time-out. What is forgiven is subtracted from it; each tick on time adds one. While
    /// more than half of it is left, a stall of any length is forgiven as a whole. Between two stalls that are
    /// forgiven as a whole there must so be half a time-out of ticks on time, in which silent connections age.
    std::uint64_t begin(std::uint64_t now, std::uint64_t elapsed) noexcept
    {
        const std::uint64_t missed = elapsed - 1;
        const std::uint64_t forgiven = 2 * credit_ > full_credit() ? missed : std::min(missed, credit_);
        credit_ =
            missed == 0 ? std::min<std::uint64_t>(credit_ + 1, full_credit()) : credit_ - std::min(forgiven, credit_);
        growth_ = saturated(elapsed - forgiven);
        strides_ =
            limits_.stride == 0 ? age_type{0} : saturated(now / limits_.stride - (now - elapsed) / limits_.stride);
        return forgiven;
    }

    [[nodiscard]] std::size_t segments() const noexcept { return segments_.size(); }

    /// Ages one segment. Returns whether something may be due in it.
    bool sweep(std::size_t which) noexcept
    {
        segment& s = *segments_[which];
        // The ages of a segment are 2 KiB in a page of their own, which the hardware does not prefetch.
        if (which + 1 != segments_.size())
            for (std::size_t i = 0; i != segment_slots; i += 64 / sizeof(age_type))
                __builtin_prefetch(&segments_[which + 1]->ages[i], 1);
        bool any = false;
        for (std::size_t b = 0; b != s.marked.size(); ++b) {
            age_type* const ages = &s.ages[b * block_slots];
            bool marked = growth_ == 1 ? grow_by_one(ages) : grow_by(ages, growth_);
            if (strides_ != 0 && s.left && shrink_by(&s.left[b * block_slots], strides_)) marked = true;
            s.marked[b] = marked;
            any = any || marked;
        }
        return any;
    }

    /// Finds the next slot in a marked block for which something is due, from `where` on. Examines about `slots` slots
    /// at most, which it counts down. Leaves `where` after the slot, so that each is found once a tick.
    due find(cursor& where, std::size_t& slots, void*& context) noexcept
    {
        for (; where.segment != segments_.size(); ++where.segment, where.slot = 0) {
            if (closed_) continue;
            segment& s = *segments_[where.segment];
            while (where.slot != segment_slots) {
                if (where.slot % block_slots == 0) {
                    if (!s.marked[where.slot / block_slots]) {
                        where.slot += block_slots;
                        continue;
                    }
                    if (slots == 0) return due::nothing;
                    slots -= std::min(slots, block_slots);
                }
                const std::size_t i = where.slot++;
                const due found = check(s, i);
                if (found == due::nothing) continue;
                if (found != due::ping)
                    s.alive[i / 64] &= ~bit(i); // a touch after the time-out must not cause a second one
                context = s.contexts[i];
                return found;
            }
        }
        return due::nothing;
    }

    void call(due found, void* context)
    {
        if (found == due::ping)
            calls_.ping(calls_.state.get(), context);
        else
            calls_.die(calls_.state.get(), context,
                       found == due::timeout ? close_reason::heartbeat_timeout : close_reason::max_lifetime);
    }

    heartbeat_core& core;
    heartbeat_table* previous = nullptr; // in the core's list
    heartbeat_table* next = nullptr;

private:
    struct segment {
        // At an address that is a multiple of the size of the ages, so that an age leads to its segment.
        static constexpr std::size_t alignment = segment_slots * sizeof(age_type);
        static void* operator new(std::size_t size) { return ::operator new(size, std::align_val_t{alignment}); }
        static void operator delete(void* memory) noexcept { ::operator delete(memory, std::align_val_t{alignment}); }

        [[nodiscard]] std::size_t index(const age_type* age) const noexcept
        {
            return static_cast<std::size_t>(age - ages.data());
        }

        std::array<age_type, segment_slots> ages;
        std::array<void*, segment_slots> contexts; // of a free slot: the next free one
        std::array<std::uint64_t, segment_slots / 64> alive;
        std::array<bool, segment_slots / block_slots> marked;
        heartbeat_table* table;
        std::unique_ptr<age_type[]> left; // strides left to live; null where lifetimes have no limit
    };

    static_assert(sizeof(segment) <= 10.25 * segment_slots);

    static segment& segment_of(age_type* age) noexcept
    {
        return *reinterpret_cast<segment*>(reinterpret_cast<std::uintptr_t>(age) & ~(segment::alignment - 1));
    }

    static constexpr std::uint64_t bit(std::size_t slot) noexcept { return std::uint64_t{1} << slot % 64; }

    static age_type saturated(std::uint64_t n) noexcept
    {
        return static_cast<age_type>(std::min<std::uint64_t>(n, resting));
    }

    /// Whether any age can become due at all; else a block is not marked for ages.
    [[nodiscard]] bool ages_matter() const noexcept { return limits_.dead_at != 0 || limits_.ping_at != 0; }

    /// Ages one block. Of constant length and without branches, so that the compiler vectorizes it. In two loops:
    /// g++ 12 at -O3 can make a single loop up to five times slower.
    bool grow_by_one(age_type* ages) const noexcept
    {
        const std::uint16_t death = limits_.dead_at != 0 ? limits_.dead_at : limits_.ping_at;
        const std::uint16_t ping = limits_.ping_at != 0 ? limits_.ping_at : limits_.dead_at;
        const auto before_death = static_cast<age_type>(death - 1);
        const auto before_ping = static_cast<age_type>(ping - 1);
        age_type crossed = 0;
        for (std::size_t i = 0; i != block_slots; ++i)
            crossed = static_cast<age_type>(crossed | (ages[i] == before_death ? resting : 0) |
                                            (ages[i] == before_ping ? resting : 0));
        for (std::size_t i = 0; i != block_slots; ++i)
            ages[i] = static_cast<age_type>(ages[i] + (ages[i] != resting ? 1 : 0));
        return crossed != 0 && ages_matter();
    }

    /// Ages one block in a tick so late that it is not wholly forgiven. A slot that was touched since the last tick
    /// ages by one all the same: the touch may have been just now.
    bool grow_by(age_type* ages, age_type growth) const noexcept
    {
        const auto reaches = [](age_type old, age_type now, std::uint16_t limit) {
            return limit != 0 && old < limit && now >= limit;
        };
        bool crossed = false;
        for (std::size_t i = 0; i != block_slots; ++i) {
            const age_type old = ages[i];
            ages[i] = old == 0 ? age_type{1} : saturated(std::uint64_t{old} + growth);
            crossed = crossed || reaches(old, ages[i], limits_.dead_at) || reaches(old, ages[i], limits_.ping_at);
        }
        return crossed;
    }

    static bool shrink_by(age_type* left, age_type strides) noexcept
    {
        age_type ended = 0;
        for (std::size_t i = 0; i != block_slots; ++i)
            ended = static_cast<age_type>(ended | (left[i] != 0 && left[i] <= strides ? resting : 0));
        for (std::size_t i = 0; i != block_slots; ++i)
            left[i] = static_cast<age_type>(left[i] - std::min(left[i], strides));
        return ended != 0;
    }

    [[nodiscard]] due check(const segment& s, std::size_t i) const noexcept
    {
        if ((s.alive[i / 64] & bit(i)) == 0) return due::nothing;
        const age_type age = s.ages[i];
        if (limits_.dead_at != 0 && age >= limits_.dead_at) return due::timeout;
        if (s.left && s.left[i] == 0) return due::lifetime;
        // Only in the tick that reaches the limit: one ping for each silence.
        if (limits_.ping_at != 0 && age >= limits_.ping_at && age - limits_.ping_at < growth_) return due::ping;
        return due::nothing;
    }

    /// Draws from multiples of the golden ratio, so that connections made in a row end evenly spread.
    age_type draw_lifetime() noexcept
    {
        drawn_ += 0x9E3779B9U;
        const auto shorter = static_cast<age_type>((std::uint64_t{drawn_} * (limits_.jitter + 1U)) >> 32U);
        return static_cast<age_type>(limits_.lifetime - shorter + 1); // a stride may end just after it began
    }

    void grow()
    {
        if (segments_.size() == segments_.capacity()) segments_.reserve(2 * segments_.size() + 1);
        std::unique_ptr<segment> added(new segment); // not {}: the ages are filled below
        if (limits_.stride != 0) added->left = std::make_unique<age_type[]>(segment_slots);
        added->ages.fill(resting);
        added->alive.fill(0);
        added->marked.fill(false);
        added->table = this;
        for (std::size_t i = segment_slots; i-- != 0;) {
            added->contexts[i] = free_;
            free_ = &added->ages[i];
        }
        segments_.push_back(std::move(added));
    }

    const heartbeat_calls calls_;
    const heartbeat_limits limits_;
    age_type growth_ = 1;
    age_type strides_ = 0;
    std::uint64_t credit_;
    std::uint32_t drawn_ = 0;
    bool closed_ = false;
    std::size_t in_use_ = 0;
    age_type* free_ = nullptr;
    std::vector<std::unique_ptr<segment>> segments_;
};

} // namespace holdfast::detail

#endif
