// holdfast: heartbeat_timer, one timer and one dense array of ages that watch any number of connections.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HEARTBEAT_TIMER_HPP
#define HOLDFAST_HEARTBEAT_TIMER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/heartbeat_table.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// What a `heartbeat_timer` watches for.
struct heartbeat_options {
    /// How often it looks: the grain of all its times. More than zero.
    std::chrono::nanoseconds tick = std::chrono::seconds(1);
    /// After how long without a `touch()` a connection is dead: never earlier, and at most one tick later
    /// (and by as much as the ticks came late). At least one tick, at most 65,533 of them; rounded up to
    /// whole ticks.
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);
};

namespace detail {

/// What a timer and its heartbeats share. Counted by hand and not atomically: it belongs to one shard.
class heartbeat_core {
public:
    explicit heartbeat_core(heartbeat_table::age_type dead_at) noexcept : table(dead_at) {}
    heartbeat_core(const heartbeat_core&) = delete;

    void acquire() noexcept { ++owners_; }

    void release() noexcept
    {
        if (--owners_ == 0) delete this;
    }

    /// Called when the last watched connection has left.
    virtual void stop() noexcept = 0;

    heartbeat_table table;

protected:
    virtual ~heartbeat_core() = default;

private:
    std::size_t owners_ = 0;
};

/// A counted reference to a heartbeat_core.
template <class Core>
class heartbeat_core_ref {
public:
    heartbeat_core_ref() noexcept = default;
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
    explicit operator bool() const noexcept { return core_ != nullptr; }

private:
    Core* core_ = nullptr;
};

} // namespace detail

/// A watched connection's place in its `heartbeat_timer`; two words. Destroying it ends the watch, in O(1).
/// Move-only; it may outlive the timer, and then watches nothing any more.
///
/// Concurrency: it belongs to the timer's shard, as the timer itself: another thread posts to that executor
/// first.
class heartbeat {
public:
    /// Watches nothing; `touch()` must not be called.
    heartbeat() noexcept = default;

    heartbeat(heartbeat&& other) noexcept
        : core_(std::move(other.core_)), age_(std::exchange(other.age_, nullptr))
    {
    }

    heartbeat& operator=(heartbeat&& other) noexcept
    {
        if (this != &other) {
            release();
            core_ = std::move(other.core_);
            age_ = std::exchange(other.age_, nullptr);
        }
        return *this;
    }

    ~heartbeat() { release(); }

    /// Says that the connection is alive: one store. No clock, no branch, no lock, no allocation. After a
    /// death it changes nothing. Precondition: it watches something, so it is neither default-constructed,
    /// moved-from nor released.
    void touch() noexcept { *age_ = 0; }

    /// Ticks since the last `touch()`, rounded up; for the one who sends pings to a quiet peer.
    [[nodiscard]] std::uint16_t age() const noexcept { return *age_; }

    /// Ends the watch.
    void release() noexcept
    {
        if (!core_) return;
        core_->table.release(std::exchange(age_, nullptr));
        if (core_->table.in_use() == 0) core_->stop();
        core_ = {};
    }

    /// Whether it watches something (dead or alive).
    explicit operator bool() const noexcept { return static_cast<bool>(core_); }

private:
    template <class, class>
    friend class heartbeat_timer;

    heartbeat(detail::heartbeat_core_ref<detail::heartbeat_core> core,
              detail::heartbeat_table::age_type* age) noexcept
        : core_(std::move(core)), age_(age)
    {
    }

    detail::heartbeat_core_ref<detail::heartbeat_core> core_;
    detail::heartbeat_table::age_type* age_ = nullptr;
};

/// Anything that a `heartbeat_timer` can end: `connection_guard` and the acceptor's connections are.
template <class T>
concept abortable = requires(T& peer) { peer.abort(close_reason::heartbeat_timeout); };

/// What else can be watched: a call that fits into one word and cannot throw.
template <class F>
concept heartbeat_callback = std::is_nothrow_invocable_v<F&> && std::is_trivially_copyable_v<F> &&
                             sizeof(F) <= sizeof(void*) && !abortable<F>;

/// Watches any number of connections with one timer, which is armed only while something is watched. Each
/// connection costs 12 bytes; a touch is one store; a tick sweeps the ages as an array.
///
/// A tick that comes late, in a stalled or suspended process, counts as one tick: what the peers sent
/// meanwhile could not be read yet, and nobody is killed for the server's own pause.
///
/// `Clock` is a clock that Asio's `basic_waitable_timer` can wait on.
/// Lifetime: heartbeats may outlive it. Destroying it ends the watch over all; no callback runs any more.
/// Concurrency: one per shard. It, its heartbeats and the watched objects belong to one thread or strand:
/// that of its executor.
/// Cost: one block at construction, and one segment of 12 KiB per 1,024 connections,
/// kept until the end.
///
///     holdfast::heartbeat_timer<> heart{io.get_executor(), {.tick = 1s, .timeout = 30s}};
///     auto beat = heart.watch(peer);   // peer.abort(close_reason::heartbeat_timeout) after 30 silent
///     seconds beat.touch();                    // at every sign of life
template <class Executor = net::any_io_executor, class Clock = std::chrono::steady_clock>
class heartbeat_timer {
public:
    using executor_type = Executor;
    using clock_type = Clock;

    /// Throws std::invalid_argument for options out of their range.
    explicit heartbeat_timer(const Executor& executor, const heartbeat_options& options = {})
        : core_(new core(executor, options))
    {
    }

    heartbeat_timer(const heartbeat_timer&) = delete;
    heartbeat_timer& operator=(const heartbeat_timer&) = delete;

    ~heartbeat_timer() { core_->close(); }

    executor_type get_executor() { return core_->executor; }

    /// Watches `peer`, which must stay at its address until the heartbeat is gone: at its death,
    /// `peer.abort(close_reason::heartbeat_timeout)` is called once, on the timer's executor. It may destroy
    /// anything, the timer included. Amortized O(1); allocates one segment per 1,024 connections.
    template <abortable Peer>
    [[nodiscard]] heartbeat watch(Peer& peer)
    {
        return enlist(
            [](void* context) noexcept {
                static_cast<Peer*>(context)->abort(close_reason::heartbeat_timeout);
            },
            std::addressof(peer));
    }

    /// Watches on behalf of `f`, which is called once at the death.
    ///
    ///     auto beat = heart.watch([this]() noexcept { give_up(); });
    template <class F>
        requires(!abortable<F>)
    [[nodiscard]] heartbeat watch(F f)
    {
        static_assert(heartbeat_callback<F>,
                      "heartbeat_timer::watch takes an object with abort(close_reason), or a "
                      "noexcept callable that is trivially copyable and no larger than a "
                      "pointer: capture one pointer or reference");
        void* word = nullptr;
        std::memcpy(&word, &f, sizeof f);
        return enlist(
            [](void* context) noexcept {
                alignas(F) unsigned char copy[sizeof(F)];
                std::memcpy(copy, &context, sizeof copy);
                (*reinterpret_cast<F*>(copy))();
            },
            word);
    }

    /// How many are watched now, the dead whose heartbeat is not gone yet included.
    [[nodiscard]] std::size_t watched() const noexcept { return core_->table.in_use(); }

private:
    struct core final : detail::heartbeat_core {
        using timer_type = net::basic_waitable_timer<Clock, net::wait_traits<Clock>, Executor>;
        using duration = typename Clock::duration;

        core(const Executor& ex, const heartbeat_options& options)
            : heartbeat_core(ticks_until_death(options)),
              executor(ex),
              timer(std::in_place, ex),
              tick(std::chrono::duration_cast<duration>(options.tick))
        {
        }

        static detail::heartbeat_table::age_type ticks_until_death(const heartbeat_options& options)
        {
            if (options.tick <= options.tick.zero())
                throw std::invalid_argument("heartbeat_options.tick must be more than zero");
            const auto ticks = options.timeout / options.tick +
                               (options.timeout % options.tick != options.tick.zero() ? 1 : 0);
            if (options.timeout < options.tick || ticks > 65'533)
                throw std::invalid_argument("heartbeat_options.timeout must be 1 to 65,533 ticks");
            // One more than the time-out: the first tick may follow the touch at once.
            return static_cast<detail::heartbeat_table::age_type>(ticks + 1);
        }

        void start()
        {
            if (running) return;
            running = true;
            due = Clock::now() + tick;
            wait();
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

        void wait()
        {
            timer->expires_at(due);
            timer->async_wait(
                [self = detail::heartbeat_core_ref(this), expected = round](const error_code& ec) {
                    if (!ec && self->round == expected) self->on_tick();
                });
        }

        void on_tick()
        {
            const std::uint64_t expected = round;
            table.tick([&] { return round == expected; });
            if (round != expected) return;
            due =
                Clock::now() + tick; // without catching up: two ticks in haste could kill before the time-out
            wait();
        }

        Executor executor;
        std::optional<timer_type> timer;
        duration tick;
        typename Clock::time_point due{};
        std::uint64_t round = 0; // tells a wait's completion that it is an earlier round's
        bool running = false;
    };

    heartbeat enlist(detail::heartbeat_table::callback on_death, void* context)
    {
        auto* age = core_->table.acquire(on_death, context);
        heartbeat watched(detail::heartbeat_core_ref<detail::heartbeat_core>(core_.get()), age);
        core_->start();
        return watched;
    }

    detail::heartbeat_core_ref<core> core_;
};

} // namespace holdfast

#endif
