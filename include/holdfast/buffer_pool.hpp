// holdfast: buffer_pool, buffers that are lent for as long as there is something in them, and bounded in all.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BUFFER_POOL_HPP
#define HOLDFAST_BUFFER_POOL_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/buffer/pool_core.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace holdfast {

template <class Sharing>
class basic_buffer_pool;

/// Limits of a buffer pool.
struct buffer_pool_options {
    /// How many bytes may be lent at a time; a buffer counts with its whole size. No more memory than that is
    /// in use, and `keep_bytes` for each size.
    std::size_t max_bytes = std::numeric_limits<std::size_t>::max();
    /// How many bytes of free buffers of each size keep their memory, so that the next one is warm; what is
    /// beyond goes back to the system at once.
    std::size_t keep_bytes = 1024 * 1024;
};

/// What a buffer pool has done so far, and what it holds.
struct buffer_pool_counters {
    /// Buffers lent, and askings that were turned down since the bytes were out.
    std::uint64_t lent = 0;
    std::uint64_t refused = 0;
    /// Bytes that are lent now, and the most that ever were.
    std::size_t lent_bytes = 0;
    std::size_t peak_bytes = 0;
    /// Bytes of free buffers that keep their memory.
    std::size_t kept_bytes = 0;
};

/// A buffer out of a pool, which it goes back to when this is destroyed. Move-only; an empty or moved-from
/// one holds nothing. It may outlive the pool. A `buffer_pool`'s belongs to its shard; a
/// `shared_buffer_pool`'s goes back on whichever thread.
template <class Sharing>
class basic_buffer_loan {
public:
    /// Holds nothing.
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

    ~basic_buffer_loan() { release(); }

    /// Gives the buffer back now; what was written into it is gone.
    void release() noexcept
    {
        if (block_.data != nullptr) std::exchange(core_, {})->give_back(std::exchange(block_, {}));
    }

    [[nodiscard]] char* data() const noexcept { return block_.data; }
    /// At least what was asked for.
    [[nodiscard]] std::size_t size() const noexcept { return block_.size(); }
    operator std::span<char>() const noexcept { return {data(), size()}; }

    /// Whether it holds a buffer.
    explicit operator bool() const noexcept { return block_.data != nullptr; }

private:
    friend class basic_buffer_pool<Sharing>;
    using core_ptr = detail::counted_ptr<detail::pool_core<Sharing>>;

    basic_buffer_loan(core_ptr core, detail::pool_block block) noexcept
        : core_(std::move(core)), block_(block)
    {
    }

    core_ptr core_;
    detail::pool_block block_{};
};

/// Lends buffers, up to a number of bytes in all: whoever asks for more waits, first come, first served, or
/// is turned down. Buffers have the sizes 512, 1,024, 2,048 and so on. They are mapped apart from the heap,
/// and those that are free give their memory back: beyond `keep_bytes` of a size at once, the others when
/// they were unused from one `trim()` to the next.
///
/// Two of them: `buffer_pool`, which with its loans belongs to one thread or strand, and has neither lock nor
/// atomics; and `shared_buffer_pool`, all of whose members may be called from any thread, with short critical
/// sections. Where none is given, readers and writers borrow from a `shared_buffer_pool` without a limit that
/// belongs to their execution context, `shared_buffer_pool::of(executor)`.
///
/// Lifetime: loans may outlive it. Destroying it fails those who wait with `errc::semaphore_closed`.
/// Cost: borrowing and giving back are O(1), and allocate nothing but a slab of up to 1 MiB (or of one
/// buffer) now and then; beyond `keep_bytes`, amortized, a sort and a system call for every few.
///
///     holdfast::buffer_pool buffers{io.get_executor(), {.max_bytes = 64 << 20}};
///     holdfast::heartbeat_timer<> heart{io.get_executor(), {.on_tick = [&](auto&) { buffers.trim(); }}};
///     auto buffer = co_await buffers.async_borrow(4096);
template <class Sharing>
class basic_buffer_pool {
    using core = detail::pool_core<Sharing>;
    using core_ptr = detail::counted_ptr<core>;

public:
    using executor_type = net::any_io_executor;
    using loan_type = basic_buffer_loan<Sharing>;

    /// Allocates what pool and loans share. Nothing is mapped yet.
    explicit basic_buffer_pool(executor_type executor, const buffer_pool_options& options = {})
        : core_(new core(options.keep_bytes)), bytes_(std::move(executor), options.max_bytes)
    {
    }

    /// The pool that belongs to the execution context of `executor`, has no limit, and is used where none is
    /// given.
    template <class Executor>
    static basic_buffer_pool& of(Executor executor) // by value: a reference makes g++ 14 warn of dangling
        requires std::is_same_v<Sharing, detail::synchronized>
    {
        return net::use_service<service>(net::query(executor, net::execution::context)).pool;
    }

    basic_buffer_pool(const basic_buffer_pool&) = delete;
    basic_buffer_pool& operator=(const basic_buffer_pool&) = delete;

    executor_type get_executor() const noexcept { return bytes_.get_executor(); }

    /// A buffer of at least `size` bytes, at once; empty where the bytes are lent, where others wait for
    /// them, and where the system has no memory.
    [[nodiscard]] loan_type try_borrow(std::size_t size) noexcept
    {
        const auto which = core::class_of(size);
        basic_permit<Sharing> bytes;
        if (limited_) bytes = bytes_.try_acquire(core::bytes_of(which));
        if (bytes || !limited_) {
            try {
                return loan_type(core_, core_->take(which, std::move(bytes)));
            } catch (const std::bad_alloc&) {
            }
        }
        core_->refuse();
        return {};
    }

    /// Waits for a buffer of at least `size` bytes.
    ///
    /// Completion: void(error_code, loan_type), on the handler's executor, never inside this call.
    /// `errc::exceeds_limit` for more than the pool may lend at all; `errc::semaphore_closed` when the pool
    /// goes; `net::error::no_memory` where the system has none.
    /// Cancellation: terminal, partial and total; `operation_aborted`, and nothing is taken.
    /// Cost: as `async_semaphore::async_acquire`.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_borrow(std::size_t size, CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code, loan_type)>(
            borrow_op{*this, core::class_of(size)}, token, bytes_.get_executor());
    }

    /// Gives the memory of free buffers back that were not used since the last call: call it at a tick.
    void trim() noexcept { core_->trim(); }

    [[nodiscard]] buffer_pool_counters counters() const noexcept
    {
        return core_->template counters<buffer_pool_counters>();
    }

    /// Whether it has a limit; else only the system turns somebody down.
    [[nodiscard]] bool limited() const noexcept { return limited_; }

    /// How many operations wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return bytes_.waiting(); }

private:
    struct service final : net::execution_context::service {
        using key_type = service;
        static inline net::execution_context::id id;

        explicit service(net::execution_context& context)
            : net::execution_context::service(context), pool(executor_type())
        {
        }
        void shutdown() noexcept override {} // loans of destroyed operations come back by themselves

        basic_buffer_pool pool;
    };

    class borrow_op {
    public:
        borrow_op(basic_buffer_pool& pool, unsigned which) noexcept
            : semaphore_(&pool.bytes_), core_(pool.core_), which_(which)
        {
        }

        template <class Self>
        void operator()(Self& self)
        {
            self.reset_cancellation_state(net::enable_total_cancellation());
            semaphore_->async_acquire(core::bytes_of(which_), std::move(self));
        }

        template <class Self>
        void operator()(Self& self, error_code ec, basic_permit<Sharing> bytes)
        {
            loan_type loan;
            if (!ec) {
                try {
                    loan = loan_type(core_, core_->take(which_, std::move(bytes)));
                } catch (const std::bad_alloc&) {
                    ec = net::error::no_memory;
                }
            }
            core_ = {};
            self.complete(ec, std::move(loan));
        }

    private:
        basic_async_semaphore<Sharing>* semaphore_; // not used after the first step: the pool may go
        core_ptr core_;
        unsigned which_;
    };

    core_ptr core_;
    basic_async_semaphore<Sharing> bytes_;
    const bool limited_ = bytes_.limit() != std::numeric_limits<std::size_t>::max();
};

/// The pool of one thread or strand.
using buffer_pool = basic_buffer_pool<detail::unsynchronized>;
using buffer_loan = buffer_pool::loan_type;

/// The pool for any number of threads.
using shared_buffer_pool = basic_buffer_pool<detail::synchronized>;
using shared_buffer_loan = shared_buffer_pool::loan_type;

} // namespace holdfast

#endif
