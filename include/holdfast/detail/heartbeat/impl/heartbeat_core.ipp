// holdfast: the bodies of heartbeat_core.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_IMPL_HEARTBEAT_CORE_IPP
#define HOLDFAST_DETAIL_HEARTBEAT_IMPL_HEARTBEAT_CORE_IPP

#include <holdfast/detail/heartbeat/heartbeat_core.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL heartbeat_core::heartbeat_core(std::chrono::nanoseconds tick) : tick_length(tick)
{
    if (tick <= tick.zero() || tick > std::chrono::hours(1))
        throw std::invalid_argument("heartbeat_options::tick must be more than 0 and at most 1 hour");
}

HOLDFAST_DECL heartbeat_table& heartbeat_core::table_for(const heartbeat_limits& limits, heartbeat_calls calls,
                                                         std::size_t expected)
{
    if (calls.state == nullptr)
        for (heartbeat_table* each = first_; each != nullptr; each = each->next)
            if (each->serves(calls)) return *each;
    auto added = std::make_unique<heartbeat_table>(*this, limits, std::move(calls));
    added->reserve(expected);
    heartbeat_table& table = *added.release();
    table.previous = last_;
    (last_ != nullptr ? last_->next : first_) = &table;
    last_ = &table;
    return table;
}

HOLDFAST_DECL heartbeat_table::age_type* heartbeat_core::watch(heartbeat_table& table, void* context)
{
    auto* const age = table.acquire(context);
    acquire();
    try {
        if (watched_++ == 0)
            start();
        else
            resume();
    } catch (...) {
        unwatch(age);
        throw;
    }
    return age;
}

HOLDFAST_DECL void heartbeat_core::unwatch(heartbeat_table::age_type* age) noexcept
{
    heartbeat_table& table = heartbeat_table::of(age);
    heartbeat_core& core = table.core;
    table.release(age);
    core.remove_if_unused(table);
    if (--core.watched_ == 0) core.stop();
    core.release();
}

HOLDFAST_DECL void heartbeat_core::close(heartbeat_table& table) noexcept
{
    table.close();
    remove_if_unused(table);
}

HOLDFAST_DECL heartbeat_core::~heartbeat_core()
{
    while (first_ != nullptr)
        delete std::exchange(first_, first_->next);
}

HOLDFAST_DECL void heartbeat_core::begin_tick(std::uint64_t now, std::uint64_t elapsed) noexcept
{
    std::uint64_t forgiven = 0;
    for (heartbeat_table* each = first_; each != nullptr; each = each->next)
        forgiven = std::max(forgiven, each->begin(now, elapsed));
    ++counters.sweeps;
    counters.missed += elapsed - 1;
    counters.credited += forgiven;
    rewind();
    any_due_ = false;
}

HOLDFAST_DECL bool heartbeat_core::sweep(std::size_t slots) noexcept
{
    for (std::size_t swept = 0; table_ != nullptr; table_ = table_->next, where_ = {})
        for (; where_.segment != table_->segments(); ++where_.segment) {
            if (swept != 0 && swept + heartbeat_table::segment_slots > slots) return false;
            if (table_->sweep(where_.segment)) any_due_ = true;
            swept += heartbeat_table::segment_slots;
        }
    rewind();
    return true;
}

HOLDFAST_DECL heartbeat_core::progress heartbeat_core::call_next(std::size_t& slots)
{
    for (; table_ != nullptr; table_ = table_->next, where_ = {}) {
        heartbeat_table& table = *table_;
        void* context = nullptr;
        const auto found = table.find(where_, slots, context);
        if (found != heartbeat_table::due::nothing) {
            count(found);
            const calling_scope calling(*this);
            table.call(found, context);
            return progress::called;
        }
        if (where_.segment != table.segments()) return progress::paused;
    }
    return progress::finished;
}

HOLDFAST_DECL void heartbeat_core::remove_if_unused(heartbeat_table& table) noexcept
{
    if (!table.unused()) return;
    if (calling_) {
        any_unused_ = true;
        return;
    }
    if (table_ == &table) {
        table_ = table.next;
        where_ = {};
    }
    (table.previous != nullptr ? table.previous->next : first_) = table.next;
    (table.next != nullptr ? table.next->previous : last_) = table.previous;
    delete &table;
}

HOLDFAST_DECL heartbeat_core::calling_scope::~calling_scope()
{
    core_.calling_ = outer_;
    if (outer_ || !std::exchange(core_.any_unused_, false)) return;
    for (heartbeat_table* each = core_.first_; each != nullptr;)
        core_.remove_if_unused(*std::exchange(each, each->next));
}

HOLDFAST_DECL std::uint16_t heartbeat_ticks(std::chrono::nanoseconds time, std::chrono::nanoseconds tick,
                                            const char* name)
{
    if (time == time.max()) return 0;
    const auto ticks = time / tick + (time % tick != tick.zero() ? 1 : 0);
    if (time < tick || ticks > 65'534)
        throw std::invalid_argument(std::string(name) +
                                    " must be 1 to 65,534 ticks, or the largest duration for never");
    return static_cast<std::uint16_t>(ticks);
}

HOLDFAST_DECL std::uint16_t age_limit(std::chrono::nanoseconds time, std::chrono::nanoseconds tick, const char* name)
{
    const std::uint16_t ticks = heartbeat_ticks(time, tick, name);
    return static_cast<std::uint16_t>(ticks == 0 ? 0 : ticks + 1);
}

HOLDFAST_DECL void check_expected_heartbeats(std::size_t expected, const char* name)
{
    if (expected > most_expected_heartbeats)
        throw std::invalid_argument(std::string(name) + " must be at most 16,777,216");
}

} // namespace holdfast::detail

#endif
