// holdfast: frame_reader, which reads frames from a stream, with a hard limit and without a buffer while idle.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAME_READER_HPP
#define HOLDFAST_FRAME_READER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/frame/frame_buffer.hpp>
#include <holdfast/detail/frame/next_frame.hpp>
#include <holdfast/detail/frame/stream_reader.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_time_limit.hpp>
#include <holdfast/framing.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/read_rate.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast {

template <class Peer, class Pool>
class websocket_reader;

/// Options of a `frame_reader`.
struct frame_options {
    /// Maximum payload size in bytes, without header and trailer. At least 1. Values above 2^32 - 1 mean 2^32 - 1.
    std::size_t max_frame_bytes = 64 * 1024;
    /// Size in bytes of the buffer that is borrowed when bytes arrive. Rounded up to a power of two, and doubled
    /// when one frame fills it. Values below about 200 and above 2^30 are adjusted to these limits.
    std::size_t buffer_bytes = 1024;
    /// Is notified of received bytes, also of those of a frame that is still incomplete. A default-constructed one
    /// notifies nothing.
    holdfast::progress progress{};
    /// Limits the time that a frame takes once it has begun: a `frame_deadline`. Null: no limit. Has no effect on a
    /// stream without a socket at its bottom.
    frame_time_limit* deadline = nullptr;
    /// Limits the rate of messages and bytes: the connection's `read_rate`, of a `read_rate_limit`. Null: no limit.
    /// What `async_read_exactly` and `async_read_some` return counts as bytes alone.
    read_rate* rate = nullptr;
};
static_assert(std::is_trivially_destructible_v<frame_options>);

/// Reads frames from a stream: lines, or what another `Framing` finds in the bytes. A payload has a hard limit. Memory
/// grows with the bytes received, never with an announced length. An idle connection holds no buffer: the reader waits
/// for readiness, borrows a buffer from a pool when bytes arrive, and returns it when all of them have been consumed.
///
/// `Peer` is a stream, or a `connection_guard` of one. A guard is notified of each error (`connection_guard::note`), so
/// that its connection ends with the reason. The stream is one of:
///  - an Asio socket;
///  - a layered stream that reports how many bytes its layers hold, which no readiness announces: by a member
///    `pending()`, or as its `native_handle()` is OpenSSL's, like that of `ssl::stream`. A buffer is borrowed when the
///    socket has bytes, and held in the middle of a TLS record;
///  - any other asynchronous read stream. A buffer is held while the reader waits.
///
/// `Pool` is the pool that buffers are borrowed from: `shared_buffer_pool::of()` the stream's executor, or another.
/// When its limit is reached, readers without a buffer wait in order. A reader that has a buffer never waits for a
/// larger one, so that no two wait for each other: the read fails with `errc::pool_exhausted`.
///
/// When a protocol changes, bytes that have been received already are not lost: see the constructors that take over
/// another reader's, `buffered()`, and the operations on raw bytes.
///
/// Size: 56 bytes if the framing is empty (64-bit).
/// Lifetime: refers to the stream, pool, progress, deadline and rate. Must stay at its address while an operation is
/// pending.
/// Thread safety: one operation at a time. Distinct readers are independent.
///
///     holdfast::frame_reader lines{peer, {.max_frame_bytes = 4096}};
///     while (auto line = co_await lines.async_next())
///         handle(*line);
///
///     holdfast::frame_reader messages{peer, buffers, {}, holdfast::framing::u32_length<>{}};
template <class Peer, framing::readable Framing = framing::line, class Pool = shared_buffer_pool>
class frame_reader : detail::stream_reader<Peer, detail::frame_buffer<Pool>> {
    using base = detail::stream_reader<Peer, detail::frame_buffer<Pool>>;
    using base::buffer_;
    using base::note_buffered;
    using base::note_frame;
    using base::stream;
    using typename base::stream_type;

public:
    using executor_type = typename stream_type::executor_type;

    /// The reader of the same kind for another executor.
    template <class Executor>
    struct rebind_executor {
        using other = frame_reader<typename Peer::template rebind_executor<Executor>::other, Framing, Pool>;
    };

    /// Constructs a reader that borrows from the pool of the stream's execution context.
    ///
    /// Exceptions: std::invalid_argument for an option out of range. std::bad_alloc for the first reader of an
    /// execution context, whose pool is then made.
    explicit frame_reader(Peer& peer, const frame_options& options = {}, Framing framing = {})
        requires std::is_same_v<Pool, shared_buffer_pool>
        : frame_reader(peer, shared_buffer_pool::of(detail::readable_stream(peer).get_executor()), options,
                       std::move(framing))
    {
    }

    /// Constructs a reader that borrows from `pool`.
    ///
    /// Exceptions: std::invalid_argument for an option out of range.
    frame_reader(Peer& peer, Pool& pool, const frame_options& options = {}, Framing framing = {})
        : base(peer, options.progress, options.rate, pool, options.max_frame_bytes, options.buffer_bytes,
               options.deadline),
          framing_(std::move(framing))
    {
    }

    /// Constructs a reader that continues where `previous` has stopped, with another framing and the same options: it
    /// takes over the bytes that were received and not handed out, without a copy. `previous` must have no pending
    /// operation. It holds no bytes afterwards.
    ///
    ///     holdfast::frame_reader lines{peer, {.max_frame_bytes = 8192}};          // the request of an upgrade
    ///     // ...
    ///     holdfast::frame_reader messages{std::move(lines), holdfast::framing::u32_length<>{}};
    template <class Previous>
    frame_reader(frame_reader<Peer, Previous, Pool>&& previous, Framing framing) noexcept
        : base(previous.peer_, previous.progress_, previous.rate_, previous.buffer_), framing_(std::move(framing))
    {
    }

    /// The same, with other options.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; `previous` keeps its bytes.
    template <class Previous>
    frame_reader(frame_reader<Peer, Previous, Pool>&& previous, const frame_options& options, Framing framing)
        : frame_reader(previous.peer_, previous.buffer_.pool(), options, std::move(framing))
    {
        buffer_.take_over(previous.buffer_);
    }

    frame_reader(const frame_reader&) = delete;
    frame_reader& operator=(const frame_reader&) = delete;

    [[nodiscard]] executor_type get_executor() const noexcept { return stream().get_executor(); }

    /// Reads the next frame.
    ///
    /// Completion: void(error_code, std::optional<std::string_view>), never inside this call. The view is the payload.
    /// It is valid until the next operation, and followed by the frame's trailer and at least 64 readable bytes, so
    /// that a parser such as simdjson's can work on it directly. Without an error and without a value at the end of the
    /// stream, and when a drain has ended the reading, between two frames.
    ///
    /// Errors:
    ///  - `errc::frame_too_long` as soon as a frame is known to be above the limit;
    ///  - `errc::malformed_frame`, or what the framing reports;
    ///  - `errc::frame_timeout` when the frame's deadline has passed;
    ///  - `errc::rate_exceeded` when the peer sends more than its rate allows, with `rate_policy::disconnect`;
    ///  - `errc::truncated_frame` when the stream ends within a frame, by the peer or by a drain;
    ///  - `net::ssl::error::stream_truncated` when the peer ends a TLS stream between two frames without close_notify,
    ///    as ordinary clients do;
    ///  - `errc::pool_exhausted` when a larger buffer is not available, `errc::exceeds_limit` when the pool's limit is
    ///    less than the first buffer, `net::error::no_memory` when the system has none;
    ///  - those of the stream.
    ///
    /// After each of the first four errors every further call fails with the same error.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`. No byte is lost, except by a layer of
    /// the user's own that loses some at a terminal cancellation: it gets each type as that one.
    ///
    /// Exceptions: std::bad_alloc where there is no memory to complete, when nothing is to be waited for, or when a wait
    /// finds none; the handler is then destroyed. No byte is lost.
    ///
    /// Cost: on a socket one wait, and one system call for all frames that have arrived. Allocates Asio's operation for
    /// the wait, about 100 bytes, from the handler's allocator or the heap.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, std::optional<std::string_view>)>
    auto async_next(CompletionToken&& token = CompletionToken())
    {
        return initiate(detail::by_framing{}, token);
    }

    /// Reads exactly `size` bytes, whatever the framing: a body whose length is known. `size` above `max_frame_bytes`
    /// fails with `errc::frame_too_long`; read it in pieces by `async_read_some`.
    ///
    /// Completion, errors, cancellation and cost: as `async_next`. The view has `size` bytes; for 0 the operation
    /// succeeds at once with an empty view.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, std::optional<std::string_view>)>
    auto async_read_exactly(std::size_t size, CompletionToken&& token = CompletionToken())
    {
        return initiate(detail::raw_bytes{size, size}, token);
    }

    /// Reads at least one byte and at most `max_size`, whatever the framing: those that are buffered, else those that
    /// arrive next. No more than `max_frame_bytes`.
    ///
    /// Completion, errors, cancellation and cost: as `async_next`. The view has 1 to `max_size` bytes; for 0 the
    /// operation succeeds at once with an empty view.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, std::optional<std::string_view>)>
    auto async_read_some(std::size_t max_size, CompletionToken&& token = CompletionToken())
    {
        const std::size_t most = std::min(max_size, buffer_.max_frame());
        return initiate(detail::raw_bytes{std::min<std::size_t>(1, most), most}, token);
    }

    /// Returns the bytes that were received and not handed out. Valid until the next operation.
    [[nodiscard]] std::string_view buffered() const noexcept { return buffer_.rest(); }

    /// Drops the first `size` of the buffered bytes, or all where there are fewer: for bytes that the session has used
    /// in another way, such as given to a TLS handshake, or refused. No operation may be pending.
    void consume(std::size_t size) noexcept
    {
        buffer_.consume(size);
        if (buffer_.empty()) note_frame(false);
        note_buffered();
    }

private:
    template <class, class, class>
    friend class detail::next_frame;
    template <class, framing::readable, class>
    friend class frame_reader;
    template <class, class>
    friend class websocket_reader;

    using loan_type = typename Pool::loan_type;
    using frame_type = std::string_view;
    using signature = void(error_code, std::optional<std::string_view>);

    template <class What, class CompletionToken>
    auto initiate(const What& what, CompletionToken& token)
    {
        return net::async_initiate<CompletionToken, signature>(detail::initiate_next<frame_reader, What>(*this, what),
                                                               token);
    }

    [[no_unique_address]] Framing framing_;
};

#if defined(HOLDFAST_SEPARATE_COMPILATION)
namespace detail {
/// Of a coroutine.
using usual_resumed_read = resumed_read<net::any_io_executor, plain_allocator<void>, shared_buffer_loan>;
extern template void execute_later(const net::any_io_executor&, usual_resumed_read&&);
extern template void queue_wait(const counted_ptr<event_core<synchronized>>&, const net::any_io_executor&,
                                usual_resumed_read);
extern template class borrowed_buffer<shared_buffer_pool, frame_bytes<shared_buffer_loan>>;
extern template class frame_buffer<shared_buffer_pool>;
extern template std::optional<std::string_view> frame_buffer<shared_buffer_pool>::take(const framing::line&,
                                                                                       std::error_code&) noexcept;
} // namespace detail
extern template void shared_buffer_pool::wait_for_buffer(std::size_t, detail::usual_resumed_read);
#endif

} // namespace holdfast

#endif
