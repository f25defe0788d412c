// holdfast: the tables of a heartbeat_timer, and the walk over them in turns. No I/O and no clock: ticks come from
// outside.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_CORE_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_CORE_HPP

#include <holdfast/detail/heartbeat/heartbeat_table.hpp>
#include <holdfast/error.hpp>
#include <holdfast/heartbeat_counters.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace holdfast::detail {

/// The state that a timer shares with its heartbeats, profiles and pending handlers, each of which holds a
/// reference. The count is not atomic: all of them belong to one thread or strand.
class heartbeat_core {
public:
    explicit heartbeat_core(std::chrono::nanoseconds tick) : tick_length(tick)
    {
        if (tick <= tick.zero() || tick > std::chrono::hours(1))
            throw std::invalid_argument("heartbeat_options.tick must be more than 0 and at most 1 hour");
    }
    heartbeat_core(const heartbeat_core&) = delete;

    void acquire() noexcept { ++owners_; }

    void release() noexcept
    {
        if (--owners_ == 0) delete this;
    }

    /// Returns the table with these callbacks. Adds one where there is none yet, or where the callbacks have state.
    heartbeat_table& table_for(const heartbeat_limits& limits, heartbeat_calls calls, std::size_t expected)
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

    /// Watches a new slot of a table.
    heartbeat_table::age_type* watch(heartbeat_table& table, void* context)
    {
        auto* const age = table.acquire(context);
        acquire();
        if (watched_++ == 0) try {
                start();
            } catch (...) {
                unwatch(age);
                throw;
            }
        return age;
    }

    static void unwatch(heartbeat_table::age_type* age) noexcept
    {
        heartbeat_table& table = heartbeat_table::of(age);
        heartbeat_core& core = table.core;
        table.release(age);
        core.remove_if_unused(table);
        if (--core.watched_ == 0) core.stop();
        core.release();
    }

    /// Ends the watches of a table. It is destroyed when its last slot is released.
    void close(heartbeat_table& table) noexcept
    {
        table.close();
        remove_if_unused(table);
    }

    [[nodiscard]] std::size_t watched() const noexcept { return watched_; }

    const std::chrono::nanoseconds tick_length;
    heartbeat_counters counters;

protected:
    virtual ~heartbeat_core()
    {
        while (first_ != nullptr)
            delete std::exchange(first_, first_->next);
    }

    /// Called when the first connection is watched.
    virtual void start() = 0;
    /// Called when the last one is released.
    virtual void stop() noexcept = 0;

    /// Begins tick number `now`, `elapsed` ticks after the last one.
    void begin_tick(std::uint64_t now, std::uint64_t elapsed) noexcept
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

    /// Ages at least one segment and about `slots` slots at most. Returns whether all segments have been aged.
    bool sweep(std::size_t slots) noexcept
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

    /// Whether the sweep has marked a block.
    [[nodiscard]] bool any_due() const noexcept { return any_due_; }

    enum class progress { called, paused, finished };

    /// Calls the next callback that is due. Pauses where it has examined `slots` slots, which it counts down,
    /// without finding one. Throws what the callback throws; the next call continues after it.
    progress call_next(std::size_t& slots)
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

private:
    /// While a callback runs, no table is destroyed: it may be the one whose state the callback is.
    class calling_scope {
    public:
        explicit calling_scope(heartbeat_core& core) noexcept : core_(core), outer_(std::exchange(core.calling_, true))
        {
        }
        ~calling_scope()
        {
            core_.calling_ = outer_;
            if (outer_ || !std::exchange(core_.any_unused_, false)) return;
            for (heartbeat_table* each = core_.first_; each != nullptr;)
                core_.remove_if_unused(*std::exchange(each, each->next));
        }

    private:
        heartbeat_core& core_;
        const bool outer_; // a callback may run the context, and so another callback
    };

    void remove_if_unused(heartbeat_table& table) noexcept
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

    void rewind() noexcept
    {
        table_ = first_;
        where_ = {};
    }

    void count(heartbeat_table::due found) noexcept
    {
        if (found == heartbeat_table::due::ping) ++counters.pings;
        if (found == heartbeat_table::due::timeout) ++counters.timeouts;
        if (found == heartbeat_table::due::lifetime) ++counters.lifetimes;
    }

    std::size_t owners_ = 0;
    std::size_t watched_ = 0;
    heartbeat_table* first_ = nullptr; // owns all of them
    heartbeat_table* last_ = nullptr;
    heartbeat_table* table_ = nullptr; // where the walk is
    heartbeat_table::cursor where_;
    bool any_due_ = false;
    bool calling_ = false;
    bool any_unused_ = false; // a table became unused while a callback ran
};

/// A counted reference to a heartbeat_core.
template <class Core>
class heartbeat_core_ref {
public:
    explicit heartbeat_core_ref(Core* core) noexcept : core_(core) { core_->acquire(); }
    heartbeat_core_ref(heartbeat_core_ref&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
    heartbeat_core_ref& operator=(heartbeat_core_ref other) noexcept
    {
        std::swap(core_, other.core_);
        return *this;
    }
    ~heartbeat_core_ref()
    {
        if (core_ != nullptr) core_->release();
    }

    Core* operator->() const noexcept { return core_; }
    [[nodiscard]] Core* get() const noexcept { return core_; }

private:
    Core* core_;
};

/// Converts a time to whole ticks, rounded up. The largest duration is 0, which means never. Throws for any other
/// time outside of 1 to 65,534 ticks.
inline std::uint16_t heartbeat_ticks(std::chrono::nanoseconds time, std::chrono::nanoseconds tick, const char* name)
{
    if (time == time.max()) return 0;
    const auto ticks = time / tick + (time % tick != tick.zero() ? 1 : 0);
    if (time < tick || ticks > 65'534)
        throw std::invalid_argument(std::string(name) +
                                    " must be 1 to 65,534 ticks, or the largest duration for never");
    return static_cast<std::uint16_t>(ticks);
}

/// Converts a time to the age at which it is over; 0: never. The age is one tick more than the time, since the first
/// tick may follow a touch at once.
inline std::uint16_t age_limit(std::chrono::nanoseconds time, std::chrono::nanoseconds tick, const char* name)
{
    const std::uint16_t ticks = heartbeat_ticks(time, tick, name);
    return static_cast<std::uint16_t>(ticks == 0 ? 0 : ticks + 1);
}

/// The largest number of connections for which memory may be reserved beforehand.
inline constexpr std::size_t most_expected_heartbeats = std::size_t{1} << 24U;

inline void check_expected_heartbeats(std::size_t expected, const char* name)
{
    if (expected > most_expected_heartbeats)
        throw std::invalid_argument(std::string(name) + " must be at most 16,777,216");
}

} // namespace holdfast::detail

#endif
