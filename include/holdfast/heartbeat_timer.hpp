// holdfast: heartbeat_timer, one timer and one dense array of ages that watch any number of connections.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HEARTBEAT_TIMER_HPP
#define HOLDFAST_HEARTBEAT_TIMER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/heartbeat/heartbeat_core.hpp>
#include <holdfast/detail/heartbeat/heartbeat_table.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// What a `heartbeat_timer` watches for, and how much it does at a time.
struct heartbeat_options {
    /// How often it looks: the grain of all its times. More than zero, at most an hour.
    std::chrono::nanoseconds tick = std::chrono::seconds(1);
    /// After how long without a `touch()` a connection is dead: never earlier, and at most one tick later
    /// (and by as much as ticks came late, see `heartbeat_timer`). At least one tick, at most 65,534 of them;
    /// rounded up to whole ticks.
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);
    /// How many connections to make room for at once; more find room as they come, 1,024 at a time.
    std::size_t expected = 0;
    /// How many connections are looked at before the loop gets its turn; at least 1,024 are.
    std::size_t slots_per_turn = 256 * 1024;
    /// How many pings and deaths are called for before the loop gets its turn; 0 counts as 1.
    std::size_t calls_per_turn = 64;
    /// Told what the timer has done so far, at the end of each tick: for metrics. It must not throw.
    std::function<void(const heartbeat_counters&)> on_tick{};
    /// Takes what a callback throws. Where there is none, it leaves the context's `run()`, as from any
    /// handler of Asio's; the others are looked after in the next turn in either case.
    std::function<void(std::exception_ptr)> on_exception{};
};

/// A watched connection's place in its `heartbeat_timer`; one word. Destroying it ends the watch, in O(1).
/// Move-only; it may outlive the timer, and then watches nothing any more.
///
/// Concurrency: it belongs to the timer's shard, as the timer itself: another thread posts to that executor
/// first, `touch()` included.
class heartbeat {
public:
    /// Watches nothing; `touch()` must not be called.
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

    /// Says that the connection is alive: one store. No clock, no branch, no lock, no allocation. After a
    /// death it changes nothing. Precondition: it watches something, so it is neither default-constructed,
    /// moved-from nor released.
    ///
    /// What counts as life is yours to say: bytes received, and bytes that the socket took
    /// (`async_write_streamed(..., {.progress = beat})`). A full queue and a read not yet asked for are not.
    void touch() noexcept { *age_ = 0; }

    /// Ticks since the last `touch()`, rounded up, without those that were forgiven.
    [[nodiscard]] std::uint16_t age() const noexcept { return *age_; }

    /// Ends the watch.
    void release() noexcept
    {
        if (age_ != nullptr) detail::heartbeat_core::discharge(std::exchange(age_, nullptr));
    }

    /// Whether it watches something (dead or alive).
    explicit operator bool() const noexcept { return age_ != nullptr; }

private:
    template <class, class>
    friend class heartbeat_timer;
    template <class>
    friend class heartbeat_profile;

    explicit heartbeat(detail::heartbeat_table::age_type* age) noexcept : age_(age) {}

    detail::heartbeat_table::age_type* age_ = nullptr;
};

/// Anything that a `heartbeat_timer` can end: `connection_guard` and the acceptor's connections are.
template <class T>
concept abortable = requires(T& peer, close_reason reason) { peer.abort(reason); };

/// What else can be watched: a call that fits into one word.
template <class F>
concept heartbeat_callback =
    std::is_invocable_v<F&> && std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof(void*) && !abortable<F>;

/// Watches any number of connections with one timer, which is armed only while something is watched. A touch
/// is one store; a tick sweeps the ages as an array. Each connection costs 12 bytes here, and one word for
/// its `heartbeat`.
///
/// Precision: nobody is called for before their time, and at most one tick after it, the timer's own
/// lateness and turns aside. A turn is bounded (`slots_per_turn`, `calls_per_turn`) and the next one is
/// posted, so a tick never holds up the loop, however many die in it. Ticks lie on a grid that begins at
/// construction, and do not drift.
///
/// Lateness: what peers sent to a stalled loop, or to a suspended process or machine, could not be read yet.
/// So a tick that comes late counts as one, however late, and before anybody is called for, the loop gets
/// turns in which pending reads can run. This credit is bounded, so that steady overload makes nobody
/// immortal: it is one time-out, filled up again by one tick for each tick on time. While more than half of
/// it is there, a stall of any length is forgiven as a whole; else as much of it as is left.
///
/// Connections with other times, pings or a limited lifetime: see `heartbeat_profile`.
///
/// `Clock` is a clock that Asio's `basic_waitable_timer` can wait on; with `manual_clock` a test plays days
/// without waiting.
/// Lifetime: heartbeats may outlive it. Destroying it ends the watch over all; no callback runs any more.
/// Concurrency: one per shard. It, its heartbeats and the watched objects belong to one thread or strand:
/// that of its executor.
/// Cost: a few blocks at construction, and one segment of 12 KiB per 1,024 connections, kept until the end.
/// A tick allocates nothing and asks the clock twice.
///
///     holdfast::heartbeat_timer<> heart{io.get_executor(), {.tick = 1s, .timeout = 30s}};
///     auto beat = heart.watch(peer); // peer.abort(close_reason::heartbeat_timeout) after 30 silent seconds
///     beat.touch();                  // at every sign of life
template <class Executor = net::any_io_executor, class Clock = std::chrono::steady_clock>
class heartbeat_timer {
public:
    using executor_type = Executor;
    using clock_type = Clock;
    using time_point = typename Clock::time_point;

    /// Throws std::invalid_argument for options out of their range.
    explicit heartbeat_timer(const Executor& executor, heartbeat_options options = {})
        : core_(new core(executor, std::move(options)))
    {
    }

    heartbeat_timer(const heartbeat_timer&) = delete;
    heartbeat_timer& operator=(const heartbeat_timer&) = delete;

    ~heartbeat_timer() { core_->close(); }

    executor_type get_executor() { return core_->executor; }

    /// Watches `peer`, which must stay at its address until the heartbeat is gone: at its death,
    /// `peer.abort(close_reason::heartbeat_timeout)` is called once, on the timer's executor. It may destroy
    /// anything, the timer included. Amortized O(1), plus the number of types watched so far; allocates one
    /// segment per 1,024 connections of a type.
    template <abortable Peer>
    [[nodiscard]] heartbeat watch(Peer& peer)
    {
        return enlist([](void*, void* context, close_reason why) { static_cast<Peer*>(context)->abort(why); },
                      std::addressof(peer));
    }

    /// Watches on behalf of `f`, which is called once at the death.
    ///
    ///     auto beat = heart.watch([this] { give_up(); });
    template <class F>
        requires(!abortable<F>)
    [[nodiscard]] heartbeat watch(F f)
    {
        static_assert(heartbeat_callback<F>,
                      "heartbeat_timer::watch takes an object with abort(close_reason), or a callable "
                      "without arguments that is trivially copyable and no larger than a pointer: capture "
                      "one pointer or reference");
        void* word = nullptr;
        std::memcpy(&word, &f, sizeof f);
        return enlist(
            [](void*, void* context, close_reason) {
                alignas(F) unsigned char copy[sizeof(F)];
                std::memcpy(copy, &context, sizeof copy);
                (*reinterpret_cast<F*>(copy))();
            },
            word);
    }

    /// How many are watched now, the dead whose heartbeat is not gone yet included.
    [[nodiscard]] std::size_t watched() const noexcept { return core_->watched(); }

    /// The time, up to a tick ago and without asking the clock. (While nothing is watched, and so nothing
    /// ticks, it does ask.)
    [[nodiscard]] time_point now() const noexcept { return core_->running ? core_->now : Clock::now(); }

    /// The whole ticks from construction to `now()`.
    [[nodiscard]] std::uint64_t ticks() const noexcept
    {
        return core_->running ? core_->ticks : core_->ticks_at(Clock::now());
    }

    /// What it has done so far.
    [[nodiscard]] const heartbeat_counters& counters() const noexcept { return core_->counters; }

private:
    template <class>
    friend class heartbeat_profile;

    struct core final : detail::heartbeat_core {
        using timer_type = net::basic_waitable_timer<Clock, net::wait_traits<Clock>, Executor>;
        using duration = typename Clock::duration;

        core(const Executor& ex, heartbeat_options&& opts)
            : heartbeat_core(std::chrono::duration_cast<duration>(opts.tick)),
              executor(ex),
              timer(std::in_place, ex),
              tick(std::chrono::duration_cast<duration>(opts.tick)),
              options(std::move(opts)),
              limits{.dead_at =
                         static_cast<std::uint16_t>( // one more: the first tick may follow the touch at once
                             1 + detail::heartbeat_ticks(options.timeout, tick_length,
                                                         "heartbeat_options.timeout"))},
              origin(Clock::now()),
              now(origin)
        {
        }

        [[nodiscard]] std::uint64_t ticks_at(time_point when) const noexcept
        {
            return static_cast<std::uint64_t>((when - origin) / tick);
        }

        [[nodiscard]] time_point time_of(std::uint64_t nth) const noexcept
        {
            return origin + tick * static_cast<typename duration::rep>(nth);
        }

        void start() override
        {
            if (!timer) return; // closed
            now = Clock::now();
            ticks = ticks_at(now);
            running = true;
            wait(time_of(ticks + 1), &core::on_tick);
        }

        void stop() noexcept override
        {
            running = false;
            ++round;
            if (timer) timer->cancel();
        }

        void close() noexcept
        {
            stop();
            timer.reset(); // now, since the core may outlive the execution context
        }

        using step = void (core::*)();

        /// What goes on with `next`, unless the timer was stopped meanwhile.
        auto going_on(step next)
        {
            return
                [self = detail::heartbeat_core_ref(this), expected = round, next](const error_code& ec = {}) {
                    if (!ec && self->round == expected) (self.get()->*next)();
                };
        }

        void wait(time_point until, step next)
        {
            timer->expires_at(until);
            timer->async_wait(going_on(next));
        }

        void post(step next) { net::post(executor, going_on(next)); }

        void on_tick()
        {
            const time_point begin = Clock::now();
            if (begin < time_of(ticks + 1)) return wait(time_of(ticks + 1), &core::on_tick); // set back
            const std::uint64_t elapsed = ticks_at(begin) - ticks;
            now = begin;
            ticks += elapsed;
            begin_tick(ticks, elapsed);
            // A turn posted now comes before the handlers of what is found to be ready now, and Asio looks
            // for no more than 128 ready descriptors at a time.
            grace = 2 + (elapsed > 1 ? watched() / 128 : 0);
            sweep_from(begin);
        }

        void on_sweep() { sweep_from(Clock::now()); }

        void sweep_from(time_point begin)
        {
            const bool swept = sweep(options.slots_per_turn);
            const time_point end = Clock::now();
            note_turn(end - begin);
            if (!swept) return post(&core::on_sweep);
            note_lateness(end - time_of(ticks));
            if (someone_due())
                on_grace();
            else
                finish();
        }

        /// Those who were touched when a tick was due and had not come yet aged by it, too early. So nobody
        /// is called for earlier after a tick than any tick of their life came late.
        void note_lateness(duration late) noexcept
        {
            if (++ticks_in_window > 65'536) {
                ticks_in_window = 0;
                latest_before = std::exchange(latest, duration::zero());
            }
            latest = std::max(latest, late);
        }

        void on_grace()
        {
            if (grace-- != 0) return post(&core::on_grace);
            const time_point begin = Clock::now();
            if (const time_point fair = time_of(ticks) + std::max(latest, latest_before); begin < fair)
                wait(fair, &core::on_calls);
            else
                call_from(begin);
        }

        void on_calls() { call_from(Clock::now()); }

        void call_from(time_point begin)
        {
            const std::uint64_t expected = round;
            auto went = progress::called;
            std::size_t backlog_timeout = std::max(options.slots_per_turn, detail::heartbeat_table::segment_slots);
            std::exception_ptr thrown;
            try {
                for (std::size_t calls = 0; went == progress::called && round == expected; ++calls) {
                    if (calls == std::max<std::size_t>(options.calls_per_turn, 1)) {
                        went = progress::paused;
                        break;
                    }
                    went = call_next(backlog_timeout);
                }
            } catch (...) {
                thrown = std::current_exception();
            }
            if (thrown && options.on_exception) options.on_exception(std::exchange(thrown, nullptr));
            if (round == expected) { // or a callback ended the timer, or the last watch
                note_turn(Clock::now() - begin);
                if (went == progress::finished)
                    finish();
                else
                    post(&core::on_calls);
            }
            if (thrown) std::rethrow_exception(thrown);
        }

        void finish()
        {
            const std::uint64_t expected = round;
            if (options.on_tick) options.on_tick(counters);
            if (round == expected) wait(time_of(ticks + 1), &core::on_tick);
        }

        void note_turn(duration length) noexcept
        {
            counters.longest_turn =
                std::max(counters.longest_turn, std::chrono::duration_cast<std::chrono::nanoseconds>(length));
        }

        const Executor executor;
        std::optional<timer_type> timer;
        const duration tick;
        const heartbeat_options options;
        const detail::heartbeat_limits limits; // of what is watched without a profile
        const time_point origin;
        time_point now;
        std::uint64_t ticks = 0;
        std::uint64_t round = 0; // tells a wait's completion that it is an earlier round's
        std::size_t grace = 0;
        duration latest{}, latest_before{}; // of the ticks in this window and in the one before
        std::uint32_t ticks_in_window = 0;
        bool running = false;
    };

    heartbeat enlist(void (*die)(void*, void*, close_reason), void* context)
    {
        auto& table = core_->table_for(core_->limits, {.die = die}, core_->options.expected);
        return heartbeat(core_->enlist(table, context));
    }

    detail::heartbeat_core_ref<core> core_;
};

} // namespace holdfast

#endif
