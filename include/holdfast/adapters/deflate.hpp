// holdfast: deflated, a layer that compresses any format's message, with compressors lent by a pool (zlib).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DEFLATE_HPP
#define HOLDFAST_ADAPTERS_DEFLATE_HPP

#include <holdfast/adapters/deflate_options.hpp>
#include <holdfast/adapters/detail/deflate_context.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/step_handler.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/message.hpp>
#include <holdfast/serialize/json.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace holdfast {

/// The message size in bytes above which compression pays, unless measured otherwise.
inline constexpr std::uint64_t default_compression_threshold = 1024 * 1024;

template <class Format>
class deflated;

/// A compressor borrowed from a `deflate_pool`, and returned by the destructor. Move-only. An empty or
/// moved-from one compresses nothing: messages are written as they are. It may outlive its pool. One message
/// at a time uses it.
class [[nodiscard]] compressor {
public:
    /// Holds no compressor.
    compressor() noexcept = default;

    compressor(compressor&& other) noexcept
        : core_(std::move(other.core_)), context_(std::exchange(other.context_, nullptr)), turn_(std::move(other.turn_))
    {
    }

    compressor& operator=(compressor&& other) noexcept
    {
        if (this != &other) {
            release();
            core_ = std::move(other.core_);
            context_ = std::exchange(other.context_, nullptr);
            turn_ = std::move(other.turn_);
        }
        return *this;
    }

    ~compressor() { release(); }

    /// Returns the compressor to the pool. The oldest waiting operation gets it.
    void release() noexcept
    {
        if (context_ == nullptr) return;
        core_->give_back(*std::exchange(context_, nullptr));
        core_ = {};
        turn_.release(); // after the context, which the next one takes
    }

    /// Whether it holds a compressor.
    explicit operator bool() const noexcept { return context_ != nullptr; }

private:
    friend class deflate_pool;
    template <class Format>
    friend class deflated;
    using core_ptr = detail::counted_ptr<detail::deflate_core>;

    compressor(core_ptr core, permit turn) noexcept
        : core_(std::move(core)), context_(&core_->take()), turn_(std::move(turn))
    {
    }

    core_ptr core_;
    detail::deflate_context* context_ = nullptr;
    permit turn_;
};

/// A fixed number of compressors, shared by any number of connections. A compressor takes a quarter of a MiB,
/// too much for each idle connection. An operation that compresses a message borrows one; operations wait in
/// order of arrival.
///
/// Lifetime: borrowed compressors may outlive the pool. Its destructor completes waiting operations with
/// `errc::semaphore_closed`.
/// Thread safety: all members may be called from any thread, as those of `async_semaphore`.
///
///     holdfast::deflate_pool compressors{executor, {.compressors = 8}};
///
///     holdfast::compressor gzip;
///     if (holdfast::serialized_size_exceeds<holdfast::ndjson>(holdfast::default_compression_threshold, rows))
///         gzip = co_await compressors.async_borrow();
///     co_await holdfast::async_write_streamed(peer, holdfast::formatted(
///         std::ref(rows), holdfast::deflated{gzip, holdfast::ndjson{}}));
class deflate_pool {
public:
    using executor_type = net::any_io_executor;

    /// Allocates all compressors. Exceptions: `std::bad_alloc`; `std::invalid_argument` for options that zlib
    /// refuses.
    explicit deflate_pool(executor_type executor, const deflate_options& options = {})
        : core_(new detail::deflate_core), turns_(std::move(executor), options.compressors)
    {
        if (options.compressors == 0) throw std::invalid_argument("deflate_options::compressors must be at least 1");
        core_->make(options.compressors, options.container, options.level, options.window_bits, options.memory_level);
    }

    /// The same, on the executor of a context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    explicit deflate_pool(ExecutionContext& context, const deflate_options& options = {})
        : deflate_pool(executor_type(context.get_executor()), options)
    {
    }

    deflate_pool(const deflate_pool&) = delete;
    deflate_pool& operator=(const deflate_pool&) = delete;

    executor_type get_executor() const noexcept { return turns_.get_executor(); }

    /// Borrows a compressor, and waits for one if none is free.
    ///
    /// Completion: `void(error_code, compressor)`, on the handler's executor, never inside this call;
    /// `errc::semaphore_closed` when the pool is destroyed. Cancellation: terminal, partial and total; the
    /// operation completes with `operation_aborted` and borrows nothing. Exceptions and cost: those of
    /// `async_semaphore::async_acquire`.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, compressor)>
    auto async_borrow(CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, compressor)>(initiate_borrow(*this), token);
    }

    /// Borrows a compressor if one is free and no operation waits. Otherwise returns an empty one.
    [[nodiscard]] compressor try_borrow() noexcept
    {
        permit turn = turns_.try_acquire();
        return turn ? compressor(core_, std::move(turn)) : compressor();
    }

    /// The number of free compressors.
    [[nodiscard]] std::size_t available() const noexcept { return turns_.available(); }
    /// The number of waiting operations.
    [[nodiscard]] std::size_t waiting() const noexcept { return turns_.waiting(); }

private:
    /// The completion of an acquisition.
    struct lend {
        template <class Handler>
        void operator()(Handler&& handler, error_code ec, permit turn)
        {
            std::forward<Handler>(handler)(ec, turn ? compressor(core, std::move(turn)) : compressor());
        }

        compressor::core_ptr core;
    };

    class initiate_borrow {
    public:
        using executor_type = deflate_pool::executor_type;

        explicit initiate_borrow(deflate_pool& pool) noexcept : pool_(&pool) {}

        [[nodiscard]] executor_type get_executor() const noexcept { return pool_->get_executor(); }

        template <class Handler>
        void operator()(Handler&& handler) const
        {
            using decayed = std::decay_t<Handler>;
            pool_->turns_.async_acquire(
                1, detail::step_handler<decayed, lend>(decayed(std::forward<Handler>(handler)), lend{pool_->core_}));
        }

    private:
        deflate_pool* pool_;
    };

    compressor::core_ptr core_;
    async_semaphore turns_;
};

namespace detail {

template <class Format, class Source>
class deflated_cursor;

} // namespace detail

/// A format: the message of `Format`, compressed by a borrowed compressor, or as it is if that is empty.
/// `framed` goes around it: `framed{framing::http_chunked{}, deflated{gzip, ndjson{}}}` is a gzip body in
/// chunked transfer coding.
///
/// A message is a whole stream of the pool's container, or with `deflate_end::flush` a piece of one: the
/// receiver can read all of it at once, and the next message through the same compressor continues the
/// stream. An empty message is an empty stream.
///
/// Lifetime: the compressor must stay borrowed until the message is written. After a failure or a
/// cancellation the stream has no end; the compressor's next message begins a new one. Cost: that of zlib, in
/// the thread that calls `next()`; a chunk takes as much input as fills it, many times its size if that
/// compresses well. No allocation; this layer adds half a KiB.
template <class Format = json>
class deflated {
public:
    explicit deflated(const compressor& by, Format of = {}, deflate_end end = deflate_end::finish) noexcept
        : context_(by.context_), format_(of), ending_(end)
    {
    }

    template <class Source>
    using cursor = detail::deflated_cursor<Format, Source>;

private:
    template <class, class>
    friend class detail::deflated_cursor;

    detail::deflate_context* context_;
    [[no_unique_address]] Format format_;
    deflate_end ending_;
};

namespace detail {

template <class Format, class Source>
class deflated_cursor {
    using format_type = deflated<Format>;

public:
    static constexpr bool repeatable = false; // compressing twice to know the length never pays

    template <class T>
    bool step(chunk_writer& out, T& source, const format_type& format)
    {
        if (format.context_ == nullptr) {
            const std::span<char> room(out.at(), out.room());
            out.advance_to(out.at() + message_.fill(room, source, format.format_));
            ended_ = message_.done();
        } else {
            if (!begun_) format.context_->begin();
            begun_ = true;
            out.many([&](char* p, char* end) {
                // zlib needs a few bytes of room to know that a flush has ended.
                while (!ended_ && end - p >= 16 && message_.error() == errc{}) {
                    if (format.context_->hungry() && !message_.done())
                        format.context_->feed(message_.fill(format.context_->input(), source, format.format_));
                    if (message_.error() == errc{})
                        p = format.context_->deflate(p, end, message_.done(), format.ending_, ended_);
                }
                return p;
            });
        }
        if (message_.error() != errc{}) out.fail(message_.error());
        return ended_;
    }

    void path(std::string& to, auto& source) { append_path(message_.cursor(), to, source); }

private:
    serialize_message<typename Format::template cursor<Source>> message_;
    bool begun_ = false;
    bool ended_ = false;
};

} // namespace detail

} // namespace holdfast

#endif
