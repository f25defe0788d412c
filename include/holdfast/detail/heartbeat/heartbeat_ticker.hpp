// holdfast: the clock of a heartbeat_timer: waits for ticks, sweeps in turns, calls what is due.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_TICKER_HPP
#define HOLDFAST_DETAIL_HEARTBEAT_HEARTBEAT_TICKER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/execute_later.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/heartbeat/heartbeat_core.hpp>
#include <holdfast/detail/heartbeat/heartbeat_table.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <utility>

namespace holdfast::detail {

/// The core of a heartbeat_timer with these `Options`. After `close()` nothing of it is bound to the executor's
/// context but the executor itself.
template <class Executor, class Clock, class Options>
class heartbeat_ticker final : public heartbeat_core {
public:
    using time_point = typename Clock::time_point;
    using duration = typename Clock::duration;

    heartbeat_ticker(const Executor& ex, Options&& opts)
        : heartbeat_core(std::chrono::duration_cast<duration>(opts.tick)),
          executor(ex),
          options(std::move(opts)),
          limits{.dead_at = age_limit(options.timeout, tick_length, "heartbeat_options::timeout")},
          timer_(std::in_place, ex),
          tick_(std::chrono::duration_cast<duration>(options.tick)),
          origin_(Clock::now()),
          now_(origin_)
    {
        check_expected_heartbeats(options.expected, "heartbeat_options::expected");
    }

    [[nodiscard]] time_point now() const noexcept { return running_ ? now_ : Clock::now(); }
    [[nodiscard]] std::uint64_t ticks() const noexcept { return running_ ? ticks_ : ticks_at(Clock::now()); }

    void close() noexcept
    {
        stop();
        timer_.reset(); // now: this object may outlive the execution context
    }

    const Executor executor;
    const Options options;
    const heartbeat_limits limits; // of what is watched without a profile

private:
    using timer_type = net::basic_waitable_timer<Clock, net::wait_traits<Clock>, Executor>;
    using step = void (heartbeat_ticker::*)();
    using self_ref = heartbeat_core_ref<heartbeat_ticker>;

    [[nodiscard]] std::uint64_t ticks_at(time_point when) const noexcept
    {
        return static_cast<std::uint64_t>((when - origin_) / tick_);
    }

    [[nodiscard]] time_point time_of(std::uint64_t nth) const noexcept
    {
        return origin_ + tick_ * static_cast<typename duration::rep>(nth);
    }

    void start() override
    {
        if (!timer_) return; // closed
        now_ = Clock::now();
        ticks_ = ticks_at(now_);
        running_ = true;
        wait(time_of(ticks_ + 1), &heartbeat_ticker::on_tick);
    }

    void stop() noexcept override
    {
        running_ = false;
        next_ = nullptr;
        ++round_;
        if (timer_) timer_->cancel();
    }

    /// Begins again what failed for want of memory.
    void resume() override
    {
        if (running_ && next_ != nullptr && !waiting_) begin_wait();
    }

    // Asio's memory for a step is in this object, so that a tick needs none. (An executor may need some nevertheless, as
    // any_io_executor does to post.)
    using storage = op_storage_of<192>; // a wait takes about 140 with Asio 1.22 and any_io_executor

    /// A handler of this object's.
    struct handler {
        using allocator_type = op_allocator<std::byte, storage>;

        handler(heartbeat_ticker& of, storage& from) noexcept : self(&of), expected(of.round_), memory(&from) {}
        allocator_type get_allocator() const noexcept { return allocator_type(*memory); }

        self_ref self;
        std::uint64_t expected;
        storage* memory; // apart: Asio calls get_allocator() on a moved-from handler too
    };

    struct wait_handler : handler {
        explicit wait_handler(heartbeat_ticker& of) noexcept : handler(of, of.wait_storage_) {}

        void operator()(const error_code& ec)
        {
            heartbeat_ticker& ticker = *this->self.get();
            ticker.waiting_ = false;
            if (ticker.next_ == nullptr) return; // stopped
            if (!ec && ticker.round_ == this->expected)
                (ticker.*std::exchange(ticker.next_, nullptr))();
            else
                ticker.begin_wait();
        }
    };

    struct posted_handler : handler {
        posted_handler(heartbeat_ticker& of, step next) noexcept : handler(of, of.post_storage_), then(next) {}

        void operator()()
        {
            heartbeat_ticker& ticker = *this->self.get();
            if (ticker.round_ == this->expected) (ticker.*then)();
        }

        step then;
    };

    /// Continues with `next` at `until`. Where the handler of a cancelled wait is still queued, that handler begins
    /// the new wait: however often watching stops and starts between two turns of the loop, one handler is queued.
    void wait(time_point until, step next)
    {
        until_ = until;
        next_ = next;
        if (!waiting_) begin_wait();
    }

    void begin_wait()
    {
        timer_->expires_at(until_);
        timer_->async_wait(wait_handler(*this));
        waiting_ = true;
    }

    /// Continues with `next` in another turn of the loop, unless the timer is stopped meanwhile.
    void post(step next)
    {
        try {
            execute_later(executor, posted_handler(*this, next));
        } catch (const std::bad_alloc&) {
            wait(now_, next); // needs none
        }
    }

    void on_tick()
    {
        const time_point begin = Clock::now();
        if (begin < time_of(ticks_ + 1)) return wait(time_of(ticks_ + 1), &heartbeat_ticker::on_tick); // set back
        const std::uint64_t elapsed = ticks_at(begin) - ticks_;
        now_ = begin;
        ticks_ += elapsed;
        begin_tick(ticks_, elapsed);
        // A turn that is posted now runs before the handlers of descriptors that are found ready now, and Asio
        // examines at most 128 ready descriptors at a time.
        grace_ = 2 + (elapsed > 1 ? watched() / 128 : 0);
        sweep_from(begin);
    }

    void on_sweep() { sweep_from(Clock::now()); }

    void sweep_from(time_point begin)
    {
        const bool swept = sweep(options.slots_per_turn);
        const time_point end = Clock::now();
        note_turn(end - begin);
        if (!swept) return post(&heartbeat_ticker::on_sweep);
        note_lateness(end - time_of(ticks_));
        if (any_due())
            on_grace();
        else
            finish();
    }

    /// A connection that is touched when a tick is due but has not run yet ages by that tick, too early. So nothing
    /// is called earlier after a tick than any tick of the connection's life was late.
    void note_lateness(duration late) noexcept
    {
        if (++ticks_in_window_ > 65'536) {
            ticks_in_window_ = 0;
            latest_before_ = std::exchange(latest_, duration::zero());
        }
        latest_ = std::max(latest_, late);
        counters.last_lateness = std::chrono::duration_cast<std::chrono::nanoseconds>(late);
        counters.longest_lateness = std::max(counters.longest_lateness, counters.last_lateness);
    }

    void on_grace()
    {
        if (grace_-- != 0) return post(&heartbeat_ticker::on_grace);
        const time_point begin = Clock::now();
        if (const time_point fair = time_of(ticks_) + std::max(latest_, latest_before_); begin < fair)
            wait(fair, &heartbeat_ticker::on_calls);
        else
            call_from(begin);
    }

    void on_calls() { call_from(Clock::now()); }

    void call_from(time_point begin)
    {
        const std::uint64_t expected = round_;
        auto went = progress::called;
        std::size_t slots = std::max(options.slots_per_turn, heartbeat_table::segment_slots);
        std::exception_ptr thrown;
        try {
            for (std::size_t calls = 0; went == progress::called && round_ == expected; ++calls) {
                if (calls == std::max<std::size_t>(options.calls_per_turn, 1)) {
                    went = progress::paused;
                    break;
                }
                went = call_next(slots);
            }
        } catch (...) {
            thrown = std::current_exception();
        }
        if (thrown && options.on_exception) try {
                options.on_exception(std::exchange(thrown, nullptr));
            } catch (...) {
                thrown = std::current_exception(); // leaves at the end, as without it: the timer goes on
            }
        if (round_ == expected) { // else a callback has ended the timer or the last watch
            note_turn(Clock::now() - begin);
            if (went == progress::finished)
                finish();
            else
                post(&heartbeat_ticker::on_calls);
        }
        if (thrown) std::rethrow_exception(thrown);
    }

    void finish()
    {
        const std::uint64_t expected = round_;
        if (options.on_tick) options.on_tick(counters);
        if (round_ == expected) wait(time_of(ticks_ + 1), &heartbeat_ticker::on_tick);
    }

    void note_turn(duration length) noexcept
    {
        counters.longest_turn =
            std::max(counters.longest_turn, std::chrono::duration_cast<std::chrono::nanoseconds>(length));
    }

    std::optional<timer_type> timer_;
    const duration tick_;
    const time_point origin_;
    time_point now_;
    std::uint64_t ticks_ = 0;
    std::uint64_t round_ = 0; // a handler of an earlier round does nothing
    time_point until_{};      // what is waited for,
    step next_ = nullptr;     // and the step that it is for
    bool waiting_ = false;    // the handler of a wait is pending or queued
    std::size_t grace_ = 0;
    storage wait_storage_, post_storage_;
    duration latest_{}, latest_before_{}; // lateness of ticks in this window and in the one before
    std::uint32_t ticks_in_window_ = 0;
    bool running_ = false;
};

} // namespace holdfast::detail

#endif
