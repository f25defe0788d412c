// holdfast: the ages of watched connections in dense arrays, swept once a tick. No I/O and no clock: ticks come from
// outside.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_TABLE_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_TABLE_HPP

#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
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
    void (*on_end)(void* state, void* context, close_reason) = nullptr;
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

    HOLDFAST_DECL heartbeat_table(heartbeat_core& owner, const heartbeat_limits& limits, heartbeat_calls calls);

    heartbeat_table(const heartbeat_table&) = delete;

    /// Whether this table has the same callbacks, without state.
    [[nodiscard]] bool serves(const heartbeat_calls& calls) const noexcept
    {
        return calls_.state == nullptr && calls_.on_end == calls.on_end && calls_.ping == calls.ping;
    }

    /// Allocates segments for `slots` slots in all.
    HOLDFAST_DECL void reserve(std::size_t slots);

    /// Takes a free slot and sets its age to zero. Its address is stable until it is released. Allocates a segment
    /// where no slot is free.
    HOLDFAST_DECL age_type* acquire(void* context);

    /// Returns the table of a slot.
    static heartbeat_table& of(age_type* age) noexcept { return *segment_of(age).table; }

    HOLDFAST_DECL void release(age_type* age) noexcept;

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
    HOLDFAST_DECL std::uint64_t begin(std::uint64_t now, std::uint64_t elapsed) noexcept;

    [[nodiscard]] std::size_t segments() const noexcept { return segments_.size(); }

    /// Ages one segment. Returns whether something may be due in it.
    HOLDFAST_DECL bool sweep(std::size_t which) noexcept;

    /// Finds the next slot in a marked block for which something is due, from `where` on. Examines about `slots` slots
    /// at most, which it counts down. Leaves `where` after the slot, so that each is found once a tick.
    HOLDFAST_DECL due find(cursor& where, std::size_t& slots, void*& context) noexcept;

    HOLDFAST_DECL void call(due found, void* context);

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
    HOLDFAST_DECL bool grow_by_one(age_type* ages) const noexcept;

    /// Ages one block in a tick so late that it is not wholly forgiven. A slot that was touched since the last tick
    /// ages by one all the same: the touch may have been just now.
    HOLDFAST_DECL bool grow_by(age_type* ages, age_type growth) const noexcept;

    HOLDFAST_DECL static bool shrink_by(age_type* left, age_type strides) noexcept;

    [[nodiscard]] HOLDFAST_DECL due check(const segment& s, std::size_t i) const noexcept;

    /// Draws from multiples of the golden ratio, so that connections made in a row end evenly spread.
    HOLDFAST_DECL age_type draw_lifetime() noexcept;

    HOLDFAST_DECL void grow();

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

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/heartbeat/impl/heartbeat_table.ipp>
#endif

#endif
