// holdfast: the writes of outboxes that wait for more messages, and the timer that they share.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_WRITE_DELAY_HPP
#define HOLDFAST_DETAIL_OUTBOX_WRITE_DELAY_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/async/untracked_executor.hpp>
#include <holdfast/detail/linkage.hpp>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace holdfast::detail {

/// A write that is to begin when its delay has passed.
class delayed_write : public list_hook {
public:
    /// Posts the write to the executor of its outbox; false where there is no memory. On any thread, but not together
    /// with a call of `write_delay::remove` for it.
    bool (*post)(delayed_write&) noexcept = nullptr;

protected:
    delayed_write() noexcept = default;
    ~delayed_write() = default;
};

/// The writes of one execution context that wait for one delay. Thread-safe.
///
/// The timer runs from the first write that is added until it expires; then all begin. Nothing is pending while no write
/// waits. No write allocates memory.
class write_delay {
public:
    using duration = std::chrono::milliseconds;

    HOLDFAST_DECL write_delay(const net::any_io_executor& executor, duration delay);

    [[nodiscard]] duration delay() const noexcept { return delay_; }

    /// Adds a write; false where there is no memory for the timer's wait.
    [[nodiscard]] HOLDFAST_DECL bool add(delayed_write& write) noexcept;

    /// Removes the write; false if it was posted already.
    HOLDFAST_DECL bool remove(delayed_write& write) noexcept;

    /// The execution context ends: no write begins any more.
    HOLDFAST_DECL void end() noexcept;

private:
    class expiry {
    public:
        using storage_type = op_storage_of<192>; // a wait takes about 120 with Asio 1.22
        using allocator_type = op_allocator<void, storage_type>;

        explicit expiry(write_delay& of) noexcept : of_(&of) {}

        allocator_type get_allocator() const noexcept { return allocator_type(of_->storage_); }
        void operator()(const error_code&) const noexcept { of_->expire(); }

    private:
        write_delay* of_;
    };

    HOLDFAST_DECL bool arm() noexcept;

    HOLDFAST_DECL void expire() noexcept;

    std::mutex mutex_;
    intrusive_list<delayed_write> writes_;
    expiry::storage_type storage_; // of the timer's wait
    std::optional<net::steady_timer> timer_;
    const duration delay_;
    bool armed_ = false;
};

/// The delays of one execution context.
class write_delays final : public net::execution_context::service {
public:
    using key_type = write_delays;
    static inline net::execution_context::id id;

    explicit write_delays(net::execution_context& context) : service(context) {}

    /// The writes of that delay. Throws std::bad_alloc where it is new.
    template <class Executor>
    static write_delay& of(const Executor& executor, write_delay::duration delay)
    {
        net::execution_context& context = net::query(executor, net::execution::context);
        return net::use_service<write_delays>(context).get(delay, executor);
    }

private:
    template <class Executor>
    write_delay& get(write_delay::duration delay, const Executor& executor)
    {
        const std::lock_guard lock(mutex_);
        for (const auto& each : delays_)
            if (each->delay() == delay) return *each;
        delays_.push_back(std::make_unique<write_delay>(untracked_executor(executor), delay));
        return *delays_.back();
    }

    HOLDFAST_DECL void shutdown() noexcept override;

    std::mutex mutex_;
    std::vector<std::unique_ptr<write_delay>> delays_;
};

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/outbox/impl/write_delay.ipp>
#endif

#endif
