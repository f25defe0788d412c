// holdfast: heartbeat_timer, one timer and one dense array of ages that watch any number of connections.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HEARTBEAT_TIMER_HPP
#define HOLDFAST_HEARTBEAT_TIMER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/heartbeat/heartbeat_core.hpp>
#include <holdfast/detail/heartbeat/heartbeat_table.hpp>
#include <holdfast/detail/heartbeat/heartbeat_ticker.hpp>
#include <holdfast/error.hpp>
#include <holdfast/heartbeat_counters.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of a `heartbeat_timer`.
struct heartbeat_options {
    /// Time between two sweeps, and the resolution of all times of the timer. More than 0 and at most 1 hour.
    std::chrono::nanoseconds tick = std::chrono::seconds(1);
    /// Time without a `touch()` after which a connection times out: never earlier, and at most one tick later, plus
    /// the lateness of ticks (see `heartbeat_timer`). Rounded up to whole ticks. 1 to 65,534 ticks, or the largest
    /// duration for never.
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);
    /// Number of connections for which memory is allocated at the first watch. More memory is allocated as it is
    /// needed, for 1,024 connections at a time. 0 to 16,777,216.
    std::size_t expected = 0;
    /// Number of connections that one handler examines before other handlers may run. Values below 1,024 count as
    /// 1,024; the largest value means all.
    std::size_t slots_per_turn = 256 * 1024;
    /// Number of callbacks that one handler calls before other handlers may run. 0 counts as 1; the largest value
    /// means all.
    std::size_t calls_per_turn = 64;
    /// Called at the end of each tick with the totals, for metrics. Must not throw.
    std::function<void(const heartbeat_counters&)> on_tick{};
    /// Called with an exception that a callback has thrown. Without it, the exception leaves the context's `run()`, as
    /// does one that this function throws. In each case the remaining callbacks are called in the next turn.
    std::function<void(std::exception_ptr)> on_exception{};
};

/// One connection's entry in a `heartbeat_timer`, of the size of a pointer. Its destructor ends the watch in O(1).
/// Move-only.
///
/// Lifetime: may outlive the timer; it then has no effect.
/// Thread safety: belongs to the thread or strand of its timer, `touch()` included. Another thread posts to that
/// executor.
class heartbeat {
public:
    /// Constructs a heartbeat without an entry.
    heartbeat() noexcept = default;

    heartbeat(heartbeat&& other) noexcept : age_(std::exchange(other.age_, nullptr)) {}

    heartbeat& operator=(heartbeat&& other) noexcept
    {
        if (this != &other) {
            release();
            age_ = std::exchange(other.age_, nullptr);
        }
        return *this;
    }

    ~heartbeat() { release(); }

    /// Records that the connection is alive: one store, without a clock call, branch, lock or allocation. Has no
    /// effect after the time-out. Precondition: `*this` has an entry.
    void touch() noexcept { *age_ = 0; }

    /// Returns the ticks since the last `touch()`, rounded up, without those that were forgiven. Precondition: `*this`
    /// has an entry.
    [[nodiscard]] std::uint16_t age() const noexcept { return *age_; }

    /// Ends the watch.
    void release() noexcept
    {
        if (age_ != nullptr) detail::heartbeat_core::unwatch(std::exchange(age_, nullptr));
    }

    /// Returns whether `*this` has an entry. The entry stays after a time-out.
    explicit operator bool() const noexcept { return age_ != nullptr; }

private:
    template <class, class>
    friend class heartbeat_timer;
    template <class>
    friend class heartbeat_profile;

    explicit heartbeat(detail::heartbeat_table::age_type* age) noexcept : age_(age) {}

    detail::heartbeat_table::age_type* age_ = nullptr;
};

/// What a `heartbeat_timer` can end: a `connection_guard`, an acceptor's connection, or any type with that member.
template <class T>
concept abortable = requires(T& peer, close_reason reason) { peer.abort(reason); };

/// A callable that a `heartbeat_timer` can store in one word.
template <class F>
concept heartbeat_callback =
    std::is_invocable_v<F&> && std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof(void*) && !abortable<F>;

/// Ends connections that show no sign of life. One timer serves any number of connections. The timer is armed only
/// while something is watched.
///
/// What counts as life is said in `progress`: give the heartbeat to readers and writers as their `.progress`, or call
/// `touch()` for bytes received. The server's own pings never count.
///
/// Precision: a connection times out at the earliest after its time-out and at the latest one tick later, plus the
/// lateness of the timer itself. Ticks are on a grid that begins at construction and does not drift. A tick is split
/// into turns of bounded length, so that it does not block other handlers however many connections it concerns.
///
/// Lateness: a stalled loop or a suspended process cannot read what peers have sent. So a late tick counts as one
/// tick, however late it is, and pending reads run before anything is called. This credit is bounded, so that a
/// permanent overload does not keep silent connections open: it is one time-out, and each tick on time restores one
/// tick of it. While more than half of it is left, a stall of any length is forgiven as a whole; otherwise only what
/// is left.
///
/// For pings, a maximum lifetime or several time-outs see `heartbeat_profile`.
///
/// `Clock` is a clock that Asio's `basic_waitable_timer` can wait on. It should be steady: where it is set back, no tick
/// comes until it has caught up. With `manual_clock` a test needs no real time.
///
/// Lifetime: heartbeats may outlive the timer. Its destructor ends all watches; no callback runs after it.
/// Thread safety: the timer, its heartbeats and the watched objects belong to one thread or strand, that of the
/// executor. Servers with several threads use one timer for each shard.
/// Cost: a few allocations at construction, and 12 KiB for each 1,024 connections, which are kept until the end. A tick
/// allocates nothing and reads the clock twice.
///
///     holdfast::heartbeat_timer<> heartbeats{context, {.tick = 1s, .timeout = 30s}};
///     auto heartbeat = heartbeats.watch(peer); // peer.abort(close_reason::heartbeat_timeout) after 30 silent seconds
///     holdfast::outbox outbox{peer, {.progress = heartbeat}};
template <class Executor = net::any_io_executor, class Clock = std::chrono::steady_clock>
class heartbeat_timer {
public:
    using executor_type = Executor;
    using clock_type = Clock;
    using time_point = typename Clock::time_point;

    /// The type of a timer with another executor.
    template <class OtherExecutor>
    struct rebind_executor {
        using other = heartbeat_timer<OtherExecutor, Clock>;
    };

    /// Constructs a timer that watches nothing.
    ///
    /// Exceptions: `std::invalid_argument` for an option out of its range, `std::bad_alloc`.
    explicit heartbeat_timer(const Executor& executor, heartbeat_options options = {})
        : core_(new core(executor, std::move(options)))
    {
    }

    /// The same, with the executor of a context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&> &&
                 std::constructible_from<Executor, typename ExecutionContext::executor_type>
    explicit heartbeat_timer(ExecutionContext& context, heartbeat_options options = {})
        : heartbeat_timer(Executor(context.get_executor()), std::move(options))
    {
    }

    heartbeat_timer(const heartbeat_timer&) = delete;
    heartbeat_timer& operator=(const heartbeat_timer&) = delete;

    ~heartbeat_timer() { core_->close(); }

    executor_type get_executor() const noexcept { return core_->executor; }

    /// Watches `peer`. When it times out, `peer.abort(close_reason::heartbeat_timeout)` is called once, on the timer's
    /// executor. That call may destroy any object, the timer included.
    ///
    /// Lifetime: `peer` must stay at its address until the heartbeat is released.
    /// Exceptions: `std::bad_alloc`.
    /// Cost: amortized O(1), plus the number of types that have been watched. Allocates once for each 1,024
    /// connections of a type.
    template <abortable Peer>
    [[nodiscard]] heartbeat watch(Peer& peer)
    {
        return watch_word([](void*, void* context, close_reason why) { static_cast<Peer*>(context)->abort(why); },
                          std::addressof(peer));
    }

    /// The same, but calls `f()` once at the time-out.
    ///
    ///     auto heartbeat = heartbeats.watch([this] { give_up(); });
    template <class F>
        requires(!abortable<F>)
    [[nodiscard]] heartbeat watch(F f)
    {
        static_assert(
            heartbeat_callback<F>,
            "heartbeat_timer::watch takes an object with abort(close_reason), or a callable without arguments "
            "that is trivially copyable and no larger than a pointer: capture one pointer or reference");
        void* word = nullptr;
        std::memcpy(&word, &f, sizeof f);
        return watch_word(
            [](void*, void* context, close_reason) {
                alignas(F) unsigned char copy[sizeof(F)];
                std::memcpy(copy, &context, sizeof copy);
                (*reinterpret_cast<F*>(copy))();
            },
            word);
    }

    /// Returns the number of entries, those of connections that have timed out included.
    [[nodiscard]] std::size_t watched() const noexcept { return core_->watched(); }

    /// Returns the time of the last tick, without a clock call. While nothing is watched there are no ticks, and the
    /// call reads the clock.
    [[nodiscard]] time_point now() const noexcept { return core_->now(); }

    /// Returns the whole ticks between construction and `now()`.
    [[nodiscard]] std::uint64_t ticks() const noexcept { return core_->ticks(); }

    /// Returns `heartbeat_options::tick`.
    [[nodiscard]] std::chrono::nanoseconds tick_length() const noexcept { return core_->tick_length; }

    /// Returns the totals since construction.
    [[nodiscard]] const heartbeat_counters& counters() const noexcept { return core_->counters; }

private:
    template <class>
    friend class heartbeat_profile;

    using core = detail::heartbeat_ticker<Executor, Clock, heartbeat_options>;

    heartbeat watch_word(void (*on_end)(void*, void*, close_reason), void* context)
    {
        auto& table = core_->table_for(core_->limits, {.on_end = on_end}, core_->options.expected);
        return heartbeat(core_->watch(table, context));
    }

    detail::heartbeat_core_ref<core> core_;
};

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template class detail::heartbeat_ticker<net::any_io_executor, std::chrono::steady_clock, heartbeat_options>;
extern template class heartbeat_timer<net::any_io_executor, std::chrono::steady_clock>;
#endif

} // namespace holdfast

#endif
