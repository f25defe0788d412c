// holdfast: the bodies of heartbeat_table.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_IMPL_HEARTBEAT_TABLE_IPP
#define HOLDFAST_DETAIL_HEARTBEAT_IMPL_HEARTBEAT_TABLE_IPP

#include <holdfast/detail/heartbeat/heartbeat_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL heartbeat_table::heartbeat_table(heartbeat_core& owner, const heartbeat_limits& limits,
                                               heartbeat_calls calls)
    : core(owner), calls_(std::move(calls)), limits_(limits), credit_(full_credit())
{
}

HOLDFAST_DECL void heartbeat_table::reserve(std::size_t slots)
{
    while (segments_.size() * segment_slots < slots)
        grow();
}

HOLDFAST_DECL heartbeat_table::age_type* heartbeat_table::acquire(void* context)
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

HOLDFAST_DECL void heartbeat_table::release(age_type* age) noexcept
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

HOLDFAST_DECL std::uint64_t heartbeat_table::begin(std::uint64_t now, std::uint64_t elapsed) noexcept
{
    const std::uint64_t missed = elapsed - 1;
    const std::uint64_t forgiven = 2 * credit_ > full_credit() ? missed : std::min(missed, credit_);
    credit_ = missed == 0 ? std::min<std::uint64_t>(credit_ + 1, full_credit()) : credit_ - std::min(forgiven, credit_);
    growth_ = saturated(elapsed - forgiven);
    strides_ = limits_.stride == 0 ? age_type{0} : saturated(now / limits_.stride - (now - elapsed) / limits_.stride);
    return forgiven;
}

HOLDFAST_DECL bool heartbeat_table::sweep(std::size_t which) noexcept
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

HOLDFAST_DECL heartbeat_table::due heartbeat_table::find(cursor& where, std::size_t& slots, void*& context) noexcept
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

HOLDFAST_DECL void heartbeat_table::call(due found, void* context)
{
    if (found == due::ping)
        calls_.ping(calls_.state.get(), context);
    else
        calls_.on_end(calls_.state.get(), context,
                      found == due::timeout ? close_reason::heartbeat_timeout : close_reason::max_lifetime);
}

HOLDFAST_DECL bool heartbeat_table::grow_by_one(age_type* ages) const noexcept
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

HOLDFAST_DECL bool heartbeat_table::grow_by(age_type* ages, age_type growth) const noexcept
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

HOLDFAST_DECL bool heartbeat_table::shrink_by(age_type* left, age_type strides) noexcept
{
    age_type ended = 0;
    for (std::size_t i = 0; i != block_slots; ++i)
        ended = static_cast<age_type>(ended | (left[i] != 0 && left[i] <= strides ? resting : 0));
    for (std::size_t i = 0; i != block_slots; ++i)
        left[i] = static_cast<age_type>(left[i] - std::min(left[i], strides));
    return ended != 0;
}

HOLDFAST_DECL heartbeat_table::due heartbeat_table::check(const segment& s, std::size_t i) const noexcept
{
    if ((s.alive[i / 64] & bit(i)) == 0) return due::nothing;
    const age_type age = s.ages[i];
    if (limits_.dead_at != 0 && age >= limits_.dead_at) return due::timeout;
    if (s.left && s.left[i] == 0) return due::lifetime;
    // Only in the tick that reaches the limit: one ping for each silence.
    if (limits_.ping_at != 0 && age >= limits_.ping_at && age - limits_.ping_at < growth_) return due::ping;
    return due::nothing;
}

HOLDFAST_DECL heartbeat_table::age_type heartbeat_table::draw_lifetime() noexcept
{
    drawn_ += 0x9E3779B9U;
    const auto shorter = static_cast<age_type>((std::uint64_t{drawn_} * (limits_.jitter + 1U)) >> 32U);
    return static_cast<age_type>(limits_.lifetime - shorter + 1); // a stride may end just after it began
}

HOLDFAST_DECL void heartbeat_table::grow()
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

} // namespace holdfast::detail

#endif
