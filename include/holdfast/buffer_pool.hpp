// holdfast: buffer_pool, which lends buffers for as long as they hold data, with a limit on their total size.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BUFFER_POOL_HPP
#define HOLDFAST_BUFFER_POOL_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/step_handler.hpp>
#include <holdfast/detail/async/untracked_executor.hpp>
#include <holdfast/detail/buffer/pool_core.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#if defined(__has_cpp_attribute)
#if __has_cpp_attribute(gnu::no_dangling)
#define HOLDFAST_NO_DANGLING [[gnu::no_dangling]]
#endif
#endif
#if !defined(HOLDFAST_NO_DANGLING)
#define HOLDFAST_NO_DANGLING
#endif

namespace holdfast {

template <class Sharing>
class basic_buffer_loan;

/// Options of a buffer pool.
struct buffer_pool_options {
    /// Maximum number of bytes that are lent at a time. A buffer counts with its whole size. SIZE_MAX, the default:
    /// unlimited.
    std::size_t max_bytes = std::numeric_limits<std::size_t>::max();
    /// Maximum number of bytes of free buffers of one size that keep their memory for the next loan. The memory of
    /// further ones is released to the system at once.
    std::size_t keep_bytes = 1024 * 1024;
};

/// Counters of a buffer pool.
struct buffer_pool_counters {
    /// The number of buffers that were lent.
    std::uint64_t lent = 0;
    /// The number of calls of `try_borrow()` that returned an empty loan.
    std::uint64_t refused = 0;
    /// The number of bytes that are lent now.
    std::size_t lent_bytes = 0;
    /// The highest number of bytes that were lent at a time.
    std::size_t peak_bytes = 0;
    /// The number of bytes of free buffers that keep their memory.
    std::size_t kept_bytes = 0;
};

/// Lends buffers, with a limit on the bytes that are lent at a time. When the limit is reached, `async_borrow` waits in
/// the order of the requests, and `try_borrow` returns an empty loan. The sizes of buffers are 512, 1,024, 2,048 bytes
/// and so on. They are mapped outside the heap. The memory of free buffers is released to the system: at once beyond
/// `keep_bytes` of a size, and otherwise when a buffer was unused from one `trim()` to the next.
///
/// `buffer_pool` is for one thread or strand, and has neither locks nor atomics. `shared_buffer_pool` is for any
/// number of threads. Readers and writers that are given no pool borrow from the unlimited `shared_buffer_pool` of
/// their execution context, `shared_buffer_pool::of(executor)`.
///
/// Lifetime: loans may outlive the pool and its execution context. Destroying the pool fails waiting operations
/// with `errc::semaphore_closed`.
///
/// Thread safety: all members of `shared_buffer_pool` and its loans may be called from any thread, with short locks. A
/// `buffer_pool`, its loans and its handlers belong to one thread or strand. Do not wait for a `buffer_pool` by
/// `net::use_future`, which takes the result on another thread.
///
/// Cost: borrowing and returning are O(1). They allocate nothing but a slab now and then, of up to 1 MiB or of one
/// buffer. Beyond `keep_bytes` a sort and a system call are shared by many returns.
///
///     holdfast::buffer_pool buffers{io, {.max_bytes = 64 << 20}};
///     auto buffer = co_await buffers.async_borrow(4096);
template <class Sharing>
class basic_buffer_pool {
    using core = detail::pool_core<Sharing>;
    using core_ptr = detail::counted_ptr<core>;
    using semaphore_core = detail::semaphore_core<Sharing>;

public:
    using executor_type = net::any_io_executor;
    using loan_type = basic_buffer_loan<Sharing>;

    /// Makes a pool. Nothing is mapped yet.
    ///
    /// Cost: two allocations.
    explicit basic_buffer_pool(executor_type executor, const buffer_pool_options& options = {})
        : executor_(std::move(executor)),
          core_(new core(options.keep_bytes)),
          bytes_(new semaphore_core(options.max_bytes, std::numeric_limits<std::size_t>::max())),
          limited_(options.max_bytes != std::numeric_limits<std::size_t>::max())
    {
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    explicit basic_buffer_pool(ExecutionContext& context, const buffer_pool_options& options = {})
        : basic_buffer_pool(executor_type(context.get_executor()), options)
    {
    }

    /// The pool of the execution context of `executor`: it has no limit, and lives as long as the context.
    template <class Executor>
        requires(std::is_same_v<Sharing, detail::synchronized> &&
                 !std::convertible_to<Executor&, net::execution_context&>)
    HOLDFAST_NO_DANGLING static basic_buffer_pool& of(Executor executor)
    {
        return service::in(net::query(executor, net::execution::context), executor).pool;
    }

    /// The pool of an execution context.
    template <class ExecutionContext>
        requires(std::is_same_v<Sharing, detail::synchronized> &&
                 std::convertible_to<ExecutionContext&, net::execution_context&>)
    static basic_buffer_pool& of(ExecutionContext& context)
    {
        return of(context.get_executor());
    }

    basic_buffer_pool(const basic_buffer_pool&) = delete;
    basic_buffer_pool& operator=(const basic_buffer_pool&) = delete;

    /// Fails waiting operations with `errc::semaphore_closed`.
    ~basic_buffer_pool() { bytes_->close(errc::semaphore_closed); }

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

    /// Borrows a buffer of at least `size` bytes. Returns an empty loan when the limit is reached, when operations
    /// wait, and when the system has no memory.
    [[nodiscard]] loan_type try_borrow(std::size_t size) noexcept
    {
        const auto which = core::class_of(size);
        basic_permit<Sharing> bytes;
        if (limited_) bytes = bytes_->try_take(core::bytes_of(which));
        if (bytes || !limited_)
            if (auto loan = take(core_, which, std::move(bytes))) return loan;
        core_->refuse();
        return {};
    }

    /// Waits for a buffer of at least `size` bytes.
    ///
    /// Completion: void(error_code, loan_type), never inside this call. On failure the loan is empty:
    /// - `errc::exceeds_limit`: the buffer would exceed `max_bytes`;
    /// - `errc::semaphore_closed`: the pool was destroyed;
    /// - `net::error::no_memory`: the system has no memory.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`.
    ///
    /// Exceptions: std::bad_alloc; the handler is then destroyed, and nothing was taken.
    ///
    /// Cost: as `async_semaphore::async_acquire`.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, loan_type)>
    auto async_borrow(std::size_t size, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, loan_type)>(initiate_borrow(*this), token,
                                                                                 core::class_of(size));
    }

    /// Calls `handler`, void(error_code, loan_type), as `async_borrow` does. For readers of a pool with a limit, which have
    /// found no buffer: it costs a wait even where one is free by now.
    template <class Handler>
    void wait_for_buffer(std::size_t size, Handler handler);

    /// Releases the memory of free buffers that were not used since the last call. Call it now and then, such as
    /// at each tick of a heartbeat_timer.
    void trim() noexcept { core_->trim(); }

    [[nodiscard]] buffer_pool_counters counters() const noexcept
    {
        return core_->template counters<buffer_pool_counters>();
    }

    /// Whether it has a limit.
    [[nodiscard]] bool limited() const noexcept { return limited_; }

    /// The number of waiting operations.
    [[nodiscard]] std::size_t waiting() const noexcept { return bytes_->waiting(); }

private:
    /// The pool of an execution context.
    struct service final : net::execution_context::service {
        using key_type = service;
        static inline net::execution_context::id id;

        explicit service(net::execution_context& context)
            : net::execution_context::service(context), pool(executor_type())
        {
        }

        template <class Executor>
        static service& in(net::execution_context& context, const Executor& executor)
        {
            auto& s = net::use_service<service>(context);
            if (!s.has_executor_.load(std::memory_order_acquire)) s.set_executor(detail::untracked_executor(executor));
            return s;
        }

        /// A strand must not outlive its service.
        void shutdown() noexcept override { pool.executor_ = executor_type(); }

        basic_buffer_pool pool;

    private:
        void set_executor(const executor_type& executor)
        {
            const std::lock_guard lock(mutex_);
            if (has_executor_.load(std::memory_order_relaxed)) return;
            pool.executor_ = executor;
            has_executor_.store(true, std::memory_order_release);
        }

        std::mutex mutex_;
        std::atomic<bool> has_executor_ = false; // the context does not report its own
    };

    /// Takes a block for bytes that were granted.
    struct take_block {
        template <class Handler>
        void operator()(Handler&& handler, error_code ec, basic_permit<Sharing> bytes)
        {
            loan_type loan;
            if (!ec) {
                loan = take(from, which, std::move(bytes));
                if (!loan) ec = net::error::no_memory;
            }
            from = {};
            std::forward<Handler>(handler)(ec, std::move(loan));
        }

        core_ptr from;
        unsigned which;
    };

    template <class Handler>
    static detail::step_handler<Handler, take_block> taking(core_ptr from, unsigned which, Handler handler)
    {
        return {std::move(handler), take_block{std::move(from), which}};
    }

    class initiate_borrow {
    public:
        using executor_type = basic_buffer_pool::executor_type;

        explicit initiate_borrow(const basic_buffer_pool& pool)
            : executor_(pool.executor_), core_(pool.core_), bytes_(pool.bytes_), limited_(pool.limited_)
        {
        }

        [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

        template <class H>
        void operator()(H&& h, unsigned which) const
        {
            using handler_type = std::decay_t<H>;
            if (limited_) {
                detail::start_acquire(bytes_, executor_, core::bytes_of(which),
                                      taking(core_, which, handler_type(std::forward<H>(h))));
                return;
            }
            auto loan = take(core_, which, {});
            const error_code ec = loan ? error_code() : error_code(net::error::no_memory);
            detail::complete_at_once(executor_, handler_type(std::forward<H>(h)), ec, std::move(loan));
        }

    private:
        executor_type executor_;
        core_ptr core_; // a deferred operation may be started after the pool has gone
        detail::counted_ptr<semaphore_core> bytes_;
        bool limited_;
    };

    /// Empty when the system has no memory.
    static loan_type take(const core_ptr& from, unsigned which, basic_permit<Sharing> bytes) noexcept
    {
        try {
            return loan_type(from, from->take(which, std::move(bytes)));
        } catch (const std::bad_alloc&) {
            return {};
        }
    }

    executor_type executor_;
    core_ptr core_;
    detail::counted_ptr<semaphore_core> bytes_;
    const bool limited_;
};

template <class Sharing>
template <class Handler>
void basic_buffer_pool<Sharing>::wait_for_buffer(std::size_t size, Handler handler)
{
    const auto which = core::class_of(size);
    detail::queue_acquire(bytes_, executor_, core::bytes_of(which), taking(core_, which, std::move(handler)));
}

/// A borrowed buffer. Its destructor returns the buffer to the pool. An empty or moved-from loan holds none. It may
/// outlive the pool.
template <class Sharing>
class [[nodiscard]] basic_buffer_loan {
public:
    /// Holds no buffer.
    basic_buffer_loan() noexcept = default;

    basic_buffer_loan(basic_buffer_loan&& other) noexcept
        : core_(std::move(other.core_)), block_(std::exchange(other.block_, {}))
    {
    }

    basic_buffer_loan& operator=(basic_buffer_loan&& other) noexcept
    {
        if (this != &other) {
            release();
            core_ = std::move(other.core_);
            block_ = std::exchange(other.block_, {});
        }
        return *this;
    }

    [[gnu::always_inline]] ~basic_buffer_loan() { release(); }

    /// Returns the buffer. Its contents are lost.
    void release() noexcept
    {
        if (block_.data != nullptr) give_back();
    }

    [[nodiscard]] char* data() const noexcept { return block_.data; }
    /// The size in bytes: at least the one that was requested.
    [[nodiscard]] std::size_t size() const noexcept { return block_.size(); }
    operator std::span<char>() const noexcept { return {data(), size()}; }

    /// Whether it holds a buffer.
    explicit operator bool() const noexcept { return block_.data != nullptr; }

private:
    friend class basic_buffer_pool<Sharing>;
    using core_ptr = detail::counted_ptr<detail::pool_core<Sharing>>;

    basic_buffer_loan(core_ptr core, detail::pool_block block) noexcept : core_(std::move(core)), block_(block) {}

    void give_back() noexcept { std::exchange(core_, {})->give_back(std::exchange(block_, {})); }

    core_ptr core_;
    detail::pool_block block_{};
};

/// The pool for one thread or strand, and its loan.
using buffer_pool = basic_buffer_pool<detail::unsynchronized>;
using buffer_loan = buffer_pool::loan_type;

/// The pool for any number of threads, and its loan.
using shared_buffer_pool = basic_buffer_pool<detail::synchronized>;
using shared_buffer_loan = shared_buffer_pool::loan_type;

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template class detail::pool_core<detail::synchronized>;
extern template class basic_buffer_pool<detail::synchronized>;
extern template class basic_buffer_loan<detail::synchronized>;
#endif

} // namespace holdfast

#undef HOLDFAST_NO_DANGLING

#endif
