// holdfast: the tables of a heartbeat_timer, and the walk over them in turns. No I/O and no clock: ticks come from
// outside.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_CORE_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_CORE_HPP

#include <holdfast/detail/heartbeat/heartbeat_table.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>
#include <holdfast/heartbeat_counters.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace holdfast::detail {

/// The state that a timer shares with its heartbeats, profiles and pending handlers, each of which holds a
/// reference. The count is not atomic: all of them belong to one thread or strand.
class heartbeat_core {
public:
    HOLDFAST_DECL explicit heartbeat_core(std::chrono::nanoseconds tick);
    heartbeat_core(const heartbeat_core&) = delete;

    void acquire() noexcept { ++owners_; }

    void release() noexcept
    {
        if (--owners_ == 0) delete this;
    }

    /// Returns the table with these callbacks. Adds one where there is none yet, or where the callbacks have state.
    HOLDFAST_DECL heartbeat_table& table_for(const heartbeat_limits& limits, heartbeat_calls calls,
                                             std::size_t expected);

    /// Watches a new slot of a table.
    HOLDFAST_DECL heartbeat_table::age_type* watch(heartbeat_table& table, void* context);

    HOLDFAST_DECL static void unwatch(heartbeat_table::age_type* age) noexcept;

    /// Ends the watches of a table. It is destroyed when its last slot is released.
    HOLDFAST_DECL void close(heartbeat_table& table) noexcept;

    [[nodiscard]] std::size_t watched() const noexcept { return watched_; }

    const std::chrono::nanoseconds tick_length;
    heartbeat_counters counters;

protected:
    HOLDFAST_DECL virtual ~heartbeat_core();

    /// Called when the first connection is watched.
    virtual void start() = 0;
    /// Called when a further one is watched.
    virtual void resume() = 0;
    /// Called when the last one is released.
    virtual void stop() noexcept = 0;

    /// Begins tick number `now`, `elapsed` ticks after the last one.
    HOLDFAST_DECL void begin_tick(std::uint64_t now, std::uint64_t elapsed) noexcept;

    /// Ages at least one segment and about `slots` slots at most. Returns whether all segments have been aged.
    HOLDFAST_DECL bool sweep(std::size_t slots) noexcept;

    /// Whether the sweep has marked a block.
    [[nodiscard]] bool any_due() const noexcept { return any_due_; }

    enum class progress { called, paused, finished };

    /// Calls the next callback that is due. Pauses where it has examined `slots` slots, which it counts down,
    /// without finding one. Throws what the callback throws; the next call continues after it.
    HOLDFAST_DECL progress call_next(std::size_t& slots);

private:
    /// While a callback runs, no table is destroyed: it may be the one whose state the callback is.
    class calling_scope {
    public:
        explicit calling_scope(heartbeat_core& core) noexcept : core_(core), outer_(std::exchange(core.calling_, true))
        {
        }
        HOLDFAST_DECL ~calling_scope();

    private:
        heartbeat_core& core_;
        const bool outer_; // a callback may run the context, and so another callback
    };

    HOLDFAST_DECL void remove_if_unused(heartbeat_table& table) noexcept;

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
HOLDFAST_DECL std::uint16_t heartbeat_ticks(std::chrono::nanoseconds time, std::chrono::nanoseconds tick,
                                            const char* name);

/// Converts a time to the age at which it is over; 0: never. The age is one tick more than the time, since the first
/// tick may follow a touch at once.
HOLDFAST_DECL std::uint16_t age_limit(std::chrono::nanoseconds time, std::chrono::nanoseconds tick, const char* name);

/// The largest number of connections for which memory may be reserved beforehand.
inline constexpr std::size_t most_expected_heartbeats = std::size_t{1} << 24U;

HOLDFAST_DECL void check_expected_heartbeats(std::size_t expected, const char* name);

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/heartbeat/impl/heartbeat_core.ipp>
#endif

#endif
