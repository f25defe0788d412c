// holdfast: the ages of watched connections in dense arrays, swept once a tick. No I/O, no clock:
// ticks come from outside.
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

/// The times of a table, in ticks and in strides of several ticks.
struct heartbeat_limits {
    std::uint16_t ping_at = 0; // the age at which a ping is due; 0: never
    std::uint16_t dead_at = 0;
    std::uint32_t stride = 0;   // ticks between two sweeps of the lifetimes; 0: lifetimes have no limit
    std::uint16_t lifetime = 0; // the longest, in strides
    std::uint16_t jitter = 0;   // by how much it is shortened at most
};

/// Whom a table calls, and with what: its own state, and the word that was given with the slot.
struct heartbeat_calls {
    void (*die)(void* state, void* context, close_reason) = nullptr;
    void (*ping)(void* state, void* context) = nullptr;
    std::shared_ptr<void> state{};
};

/// Slots of two-byte ages, all with the same limits. A touch stores zero through a bare pointer; a tick adds
/// one to every slot, saturating, and marks the blocks in which an age crosses a threshold: they are looked
/// at later, slot by slot. Free slots rest at the maximum, which crosses nothing and never wraps.
///
/// Slots come in segments that never move. A slot takes 10 1/8 bytes, 12 1/8 where lifetimes are limited.
class heartbeat_table {
public:
    using age_type = std::uint16_t;

    static constexpr age_type resting = std::numeric_limits<age_type>::max();
    static constexpr std::size_t block_slots = 256;
    static constexpr std::size_t segment_slots = 1024;

    /// Where a walk over the slots has come to.
    struct cursor {
        std::size_t segment = 0;
        std::size_t slot = 0;
    };

    /// What is due for a slot.
    enum class verdict { nothing, ping, timeout, lifetime };

    heartbeat_table(heartbeat_core& owner, const heartbeat_limits& limits, heartbeat_calls calls)
        : core(owner), calls_(std::move(calls)), limits_(limits), credit_(timeout())
    {
    }

    heartbeat_table(const heartbeat_table&) = delete;

    /// Whether this table has these limits and calls this function, without a state of its own.
    [[nodiscard]] bool serves(const heartbeat_calls& calls) const noexcept
    {
        return calls_.state == nullptr && calls_.die == calls.die && calls_.ping == calls.ping;
    }

    /// Makes room for `slots` in all.
    void reserve(std::size_t slots)
    {
        while (segments_.size() * segment_slots < slots)
            grow();
    }

    /// Takes a slot with age zero; its address is stable until it is given back. Allocates a segment when all
    /// slots are taken.
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

    /// The table to which a slot belongs.
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

    /// Nobody is called any more; the slots stay until they are given back.
    void close() noexcept { closed_ = true; }

    /// Whether nothing will ever come of it any more.
    [[nodiscard]] bool idle() const noexcept { return closed_ && in_use_ == 0; }

    /// The time-out in ticks.
    [[nodiscard]] std::size_t timeout() const noexcept { return limits_.dead_at - std::size_t{1}; }

    /// A tick begins, the `now`-th; `elapsed` have passed since the last one, more than one when it came
    /// late. The result says how many were forgiven: the ages of this tick grow by so much less.
    ///
    /// The allowance is one time-out. What is forgiven is taken from it, and it grows by one with each tick
    /// that is on time. While more than half of it is there, a stall of any length is forgiven as a whole: so
    /// one is, but between two such there must be half a time-out of ticks on time, by which the silent age.
    std::uint64_t begin(std::uint64_t now, std::uint64_t elapsed) noexcept
    {
        const std::uint64_t missed = elapsed - 1;
        const std::uint64_t forgiven = 2 * credit_ > timeout() ? missed : std::min(missed, credit_);
        credit_ = missed == 0 ? std::min<std::uint64_t>(credit_ + 1, timeout())
                              : credit_ - std::min(forgiven, credit_);
        growth_ = saturated(elapsed - forgiven);
        strides_ = limits_.stride == 0 ? age_type{0}
                                       : saturated(now / limits_.stride - (now - elapsed) / limits_.stride);
        return forgiven;
    }

    [[nodiscard]] std::size_t segments() const noexcept { return segments_.size(); }

    /// Ages one segment; whether something may be due in it.
    bool sweep(std::size_t which) noexcept
    {
        segment& s = *segments_[which];
        // The ages lie in runs of 2 KiB, each in a page of its own: more than the hardware foresees.
        if (which + 1 != segments_.size())
            for (std::size_t i = 0; i != segment_slots; i += 64 / sizeof(age_type))
                __builtin_prefetch(&segments_[which + 1]->ages[i], 1);
        bool any = false;
        for (std::size_t b = 0; b != s.due.size(); ++b) {
            age_type* const ages = &s.ages[b * block_slots];
            bool due = growth_ == 1 ? grow_by_one(ages) : grow_by(ages, growth_);
            if (strides_ != 0 && s.left && shrink_by(&s.left[b * block_slots], strides_)) due = true;
            s.due[b] = due;
            any = any || due;
        }
        return any;
    }

    /// Finds the next slot in a marked block for which something is due, from `where` on; looks at no more
    /// than about `backlog_timeout` slots, which it lowers. Leaves `where` behind the slot, so that each is found
    /// once a tick.
    verdict find(cursor& where, std::size_t& backlog_timeout, void*& context) noexcept
    {
        for (; where.segment != segments_.size(); ++where.segment, where.slot = 0) {
            if (closed_) continue;
            segment& s = *segments_[where.segment];
            while (where.slot != segment_slots) {
                if (where.slot % block_slots == 0) {
                    if (!s.due[where.slot / block_slots]) {
                        where.slot += block_slots;
                        continue;
                    }
                    if (backlog_timeout == 0) return verdict::nothing;
                    backlog_timeout -= std::min(backlog_timeout, block_slots);
                }
                const std::size_t i = where.slot++;
                const verdict due = judge(s, i);
                if (due == verdict::nothing) continue;
                if (due != verdict::ping)
                    s.alive[i / 64] &= ~bit(i); // a touch after death must not let it die twice
                context = s.contexts[i];
                return due;
            }
        }
        return verdict::nothing;
    }

    void call(verdict due, void* context)
    {
        if (due == verdict::ping)
            calls_.ping(calls_.state.get(), context);
        else
            calls_.die(calls_.state.get(), context,
                       due == verdict::timeout ? close_reason::heartbeat_timeout
                                               : close_reason::max_lifetime);
    }

    heartbeat_core& core;

private:
    struct segment {
        // At an address that is a multiple of the size of the ages, so that an age leads to its segment.
        static constexpr std::size_t alignment = segment_slots * sizeof(age_type);
        static void* operator new(std::size_t size)
        {
            return ::operator new(size, std::align_val_t{alignment});
        }
        static void operator delete(void* memory) noexcept
        {
            ::operator delete(memory, std::align_val_t{alignment});
        }

        [[nodiscard]] std::size_t index(const age_type* age) const noexcept
        {
            return static_cast<std::size_t>(age - ages.data());
        }

        std::array<age_type, segment_slots> ages;
        std::array<void*, segment_slots> contexts; // of a free slot: the next free one
        std::array<std::uint64_t, segment_slots / 64> alive;
        std::array<bool, segment_slots / block_slots> due;
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

    /// One block, of constant length and without branches, so that the compiler makes vector code of it. In
    /// two loops: g++ 12 at -O3 can make one that does both up to five times slower.
    bool grow_by_one(age_type* ages) const noexcept
    {
        const auto before_death = static_cast<age_type>(limits_.dead_at - 1);
        const auto before_ping =
            limits_.ping_at != 0 ? static_cast<age_type>(limits_.ping_at - 1) : before_death;
        age_type crossed = 0;
        for (std::size_t i = 0; i != block_slots; ++i)
            crossed = static_cast<age_type>(crossed | (ages[i] == before_death ? resting : 0) |
                                            (ages[i] == before_ping ? resting : 0));
        for (std::size_t i = 0; i != block_slots; ++i)
            ages[i] = static_cast<age_type>(ages[i] + (ages[i] != resting ? 1 : 0));
        return crossed != 0;
    }

    /// For a tick so late that it is not wholly forgiven. Who was touched since the last tick ages by one all
    /// the same: it may have been just now.
    bool grow_by(age_type* ages, age_type growth) const noexcept
    {
        bool crossed = false;
        for (std::size_t i = 0; i != block_slots; ++i) {
            const age_type old = ages[i];
            ages[i] = old == 0 ? age_type{1} : saturated(std::uint64_t{old} + growth);
            crossed = crossed || (old < limits_.dead_at && ages[i] >= limits_.dead_at) ||
                      (old < limits_.ping_at && ages[i] >= limits_.ping_at);
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

    [[nodiscard]] verdict judge(const segment& s, std::size_t i) const noexcept
    {
        if ((s.alive[i / 64] & bit(i)) == 0) return verdict::nothing;
        const age_type age = s.ages[i];
        if (age >= limits_.dead_at) return verdict::timeout;
        if (s.left && s.left[i] == 0) return verdict::lifetime;
        // Crossed in this very tick: a silence is pinged once.
        if (limits_.ping_at != 0 && age >= limits_.ping_at && age - limits_.ping_at < growth_)
            return verdict::ping;
        return verdict::nothing;
    }

    /// Multiples of the golden ratio: whoever comes in a row leaves evenly spread.
    age_type draw_lifetime() noexcept
    {
        drawn_ += 0x9E3779B9U;
        const auto shorter = static_cast<age_type>((std::uint64_t{drawn_} * (limits_.jitter + 1U)) >> 32U);
        return static_cast<age_type>(limits_.lifetime - shorter + 1); // a stride may end just after it began
    }

    void grow()
    {
        if (segments_.size() == segments_.capacity()) segments_.reserve(2 * segments_.size() + 1);
        std::unique_ptr<segment> fresh(new segment); // its ages stay uninitialized: not {}
        if (limits_.stride != 0) fresh->left = std::make_unique<age_type[]>(segment_slots);
        fresh->ages.fill(resting);
        fresh->alive.fill(0);
        fresh->due.fill(false);
        fresh->table = this;
        for (std::size_t i = segment_slots; i-- != 0;) {
            fresh->contexts[i] = free_;
            free_ = &fresh->ages[i];
        }
        segments_.push_back(std::move(fresh));
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
