// holdfast: what a heartbeat_timer shares with its heartbeats and profiles: all tables, and the walk over
// them in turns. No I/O, no clock: ticks come from outside.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_CORE_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_CORE_HPP

#include <holdfast/detail/heartbeat/heartbeat_table.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace holdfast {

/// What a `heartbeat_timer` has done since its construction.
struct heartbeat_counters {
    /// Ticks that were swept: one for each wake-up, however late.
    std::uint64_t sweeps = 0;
    /// Ticks that came so late that they were swept together with the next, and of these how many were
    /// forgiven: not counted against the silent.
    std::uint64_t missed = 0;
    std::uint64_t credited = 0;
    /// Calls for a ping.
    std::uint64_t pings = 0;
    /// Deaths by silence, and by age.
    std::uint64_t timeouts = 0;
    std::uint64_t lifetimes = 0;
    /// The longest time for which one turn, sweep or callbacks, kept the loop.
    std::chrono::nanoseconds longest_turn{};
};

namespace detail {

/// Counted by hand and not atomically: it belongs to one shard. Each heartbeat, profile, timer and pending
/// wait holds it.
class heartbeat_core {
public:
    explicit heartbeat_core(std::chrono::nanoseconds tick) : tick_length(tick)
    {
        if (tick <= tick.zero() || tick > std::chrono::hours(1))
            throw std::invalid_argument("heartbeat_options.tick must be more than zero, and at most an hour");
    }
    heartbeat_core(const heartbeat_core&) = delete;

    void acquire() noexcept { ++owners_; }

    void release() noexcept
    {
        if (--owners_ == 0) delete this;
    }

    /// The table that serves these calls; made where there is none yet.
    heartbeat_table& table_for(const heartbeat_limits& limits, heartbeat_calls calls, std::size_t expected)
    {
        if (calls.state == nullptr)
            for (const auto& each : tables_)
                if (each->serves(calls)) return *each;
        auto fresh = std::make_unique<heartbeat_table>(*this, limits, std::move(calls));
        fresh->reserve(expected);
        tables_.push_back(std::move(fresh));
        return *tables_.back();
    }

    heartbeat_table::age_type* enlist(heartbeat_table& table, void* context)
    {
        auto* const age = table.acquire(context);
        acquire();
        if (watched_++ == 0) try {
                start();
            } catch (...) {
                discharge(age);
                throw;
            }
        return age;
    }

    static void discharge(heartbeat_table::age_type* age) noexcept
    {
        heartbeat_table& table = heartbeat_table::of(age);
        table.release(age);
        heartbeat_core& core = table.core;
        if (--core.watched_ == 0) core.stop();
        core.release();
    }

    [[nodiscard]] std::size_t watched() const noexcept { return watched_; }

    const std::chrono::nanoseconds tick_length;
    heartbeat_counters counters;

protected:
    virtual ~heartbeat_core() = default;

    /// The first watched connection has come.
    virtual void start() = 0;
    /// The last one has left.
    virtual void stop() noexcept = 0;

    /// The `now`-th tick begins, `elapsed` after the last one.
    void begin_tick(std::uint64_t now, std::uint64_t elapsed) noexcept
    {
        // Profiles that are gone; not earlier, since a callback of theirs may have been running.
        std::erase_if(tables_, [](const auto& table) { return table->idle(); });
        std::uint64_t forgiven = 0;
        for (const auto& table : tables_)
            forgiven = std::max(forgiven, table->begin(now, elapsed));
        ++counters.sweeps;
        counters.missed += elapsed - 1;
        counters.credited += forgiven;
        rewind();
        someone_due_ = false;
    }

    /// Ages at least one segment, and no more than `slots`; whether that was the last.
    bool sweep(std::size_t slots) noexcept
    {
        for (std::size_t swept = 0; table_ != tables_.size(); ++table_, where_ = {})
            for (; where_.segment != tables_[table_]->segments(); ++where_.segment) {
                if (swept != 0 && swept + heartbeat_table::segment_slots > slots) return false;
                if (tables_[table_]->sweep(where_.segment)) someone_due_ = true;
                swept += heartbeat_table::segment_slots;
            }
        rewind();
        return true;
    }

    /// Whether the sweep marked a block.
    [[nodiscard]] bool someone_due() const noexcept { return someone_due_; }

    enum class progress { called, paused, finished };

    /// Calls for the next one that something is due for, unless it has looked at `backlog_timeout` slots before.
    /// Throws what the callback throws; the next call goes on behind it.
    progress call_next(std::size_t& backlog_timeout)
    {
        for (; table_ != tables_.size(); ++table_, where_ = {}) {
            heartbeat_table& table = *tables_[table_];
            void* context = nullptr;
            const auto due = table.find(where_, backlog_timeout, context);
            if (due != heartbeat_table::verdict::nothing) {
                count(due);
                table.call(due, context);
                return progress::called;
            }
            if (where_.segment != table.segments()) return progress::paused;
        }
        return progress::finished;
    }

private:
    void rewind() noexcept
    {
        table_ = 0;
        where_ = {};
    }

    void count(heartbeat_table::verdict due) noexcept
    {
        if (due == heartbeat_table::verdict::ping) ++counters.pings;
        if (due == heartbeat_table::verdict::timeout) ++counters.timeouts;
        if (due == heartbeat_table::verdict::lifetime) ++counters.lifetimes;
    }

    std::size_t owners_ = 0;
    std::size_t watched_ = 0;
    std::vector<std::unique_ptr<heartbeat_table>> tables_;
    std::size_t table_ = 0;         // the walk: in this table,
    heartbeat_table::cursor where_; // here
    bool someone_due_ = false;
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

/// A time in whole ticks, rounded up; throws unless it is at least one tick, and at most 65,534.
inline std::uint16_t heartbeat_ticks(std::chrono::nanoseconds time, std::chrono::nanoseconds tick,
                                     const char* name)
{
    const auto ticks = time / tick + (time % tick != tick.zero() ? 1 : 0);
    if (time < tick || ticks > 65'534)
        throw std::invalid_argument(std::string(name) + " must be 1 to 65,534 ticks");
    return static_cast<std::uint16_t>(ticks);
}

} // namespace detail
} // namespace holdfast

#endif
