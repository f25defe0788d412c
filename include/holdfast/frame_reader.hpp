// holdfast: frame_reader, frames from a stream, with a hard limit and no buffer while the peer is quiet.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAME_READER_HPP
#define HOLDFAST_FRAME_READER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/frame/frame_buffer.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/frame/next_frame.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_deadline.hpp>
#include <holdfast/framing.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Limits of a `frame_reader`.
struct frame_options {
    /// The longest payload in bytes, without what the framing puts around it. At least 1, at most 2^32 - 1.
    std::size_t max_frame_bytes = 64 * 1024;
    /// The size of the buffer that is borrowed when bytes come; it is doubled when it is full of one frame.
    std::size_t buffer_bytes = 1024;
    /// How long a frame may take once it has begun; null: as long as it likes. The stream must have a socket
    /// at its bottom.
    frame_deadline* deadline = nullptr;
};
static_assert(std::is_trivially_destructible_v<frame_options>);

/// Reads frames from a stream: lines, or whatever `Framing` finds in the bytes. A frame has a hard limit;
/// memory grows with the bytes received, never with a length announced, and an idle connection holds none:
/// the reader waits for readiness, borrows a buffer from a pool when bytes come, and gives it back when all
/// of them were consumed.
///
/// `Stream` is one of these:
///  - an Asio socket;
///  - a layered stream above one that can tell how many bytes its layers hold back, which no readiness
///    announces: by a member `pending()`, or because its `native_handle()` is OpenSSL's, as `ssl::stream`'s;
///    it borrows when the socket has bytes, and keeps the buffer in the middle of a TLS record;
///  - any other asynchronous read stream, on which the buffer is held while it waits.
///
/// `Pool` is the pool to borrow from: one that is given, or `shared_buffer_pool::of()` the stream's executor.
/// When all its bytes are lent, readers without a buffer wait in its queue. Who has one never waits for a
/// larger one, so that no two wait for each other: where it can't be had at once, the read fails.
///
/// Size: 40 bytes where the framing is empty (64-bit).
/// Lifetime: refers to stream, pool and deadline, and must stay in place while an operation is pending.
/// Concurrency: one operation at a time; distinct readers are independent.
///
///     holdfast::frame_reader lines{peer.stream(), {.max_frame_bytes = 4096}};
///     while (auto line = co_await lines.async_next())
///         handle(*line);
///
///     holdfast::frame_reader messages{peer.stream(), buffers, {}, holdfast::framing::u32_length<>{}};
template <class Stream, framing::readable Framing = framing::line, class Pool = shared_buffer_pool>
class frame_reader {
public:
    using executor_type = typename Stream::executor_type;

    /// Borrows from the pool of the stream's execution context. Allocates nothing, once there is one.
    explicit frame_reader(Stream& stream, const frame_options& options = {}, Framing framing = {})
        requires std::is_same_v<Pool, shared_buffer_pool>
        : frame_reader(stream, shared_buffer_pool::of(stream.get_executor()), options, std::move(framing))
    {
    }

    /// Borrows from `pool`. Allocates nothing.
    frame_reader(Stream& stream, Pool& pool, const frame_options& options = {}, Framing framing = {}) noexcept
        : stream_(stream),
          buffer_(pool, options.max_frame_bytes, options.buffer_bytes, std::move(framing)),
          deadline_(options.deadline)
    {
    }

    frame_reader(const frame_reader&) = delete;
    frame_reader& operator=(const frame_reader&) = delete;

    executor_type get_executor() { return stream_.get_executor(); }

    /// Reads the next frame.
    ///
    /// Completion: void(error_code, std::optional<std::string_view>), on the handler's executor, never inside
    /// this call. The view is the payload; it is valid until the next call. Behind it stands what the
    /// framing has there (a line's end), and at least 64 bytes may be read, so that a parser such as
    /// simdjson's works in place. Nothing, without an error, at the end
    /// of the stream (of a drain too).
    /// Errors: `errc::frame_too_long` as soon as a frame is known to be above the limit,
    /// `errc::malformed_frame` (or what the framing says), `errc::frame_timeout` past the deadline: the
    /// stream is then of no more use, and each call says so again. `errc::truncated_frame` when the stream
    /// ends within a frame; `errc::pool_exhausted` where a larger buffer can't be had,
    /// `net::error::no_memory` where the system has none; the stream's own errors. Cancellation: terminal,
    /// partial and total; `operation_aborted`, and no byte is lost. Cost: on a socket a wait and a `recv` for
    /// all the frames that have come; one operation of Asio's for the wait, 100 bytes or so, from the
    /// handler's allocator, or where it has none the heap: nothing else is kept for a callback that waits.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_next(CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, std::optional<std::string_view>)>(
            [this](auto handler) {
                detail::next_frame<frame_reader, decltype(handler)>(*this, std::move(handler)).start();
            },
            token);
    }

private:
    template <class, class>
    friend class detail::next_frame;

    /// Notes that the frame under way must be waited for.
    error_code note_wait() noexcept
    {
        if (deadline_ == nullptr || buffer_.empty()) return {};
        if constexpr (requires {
                          { detail::lowest_layer(stream_).native_handle() } -> std::convertible_to<int>;
                      }) {
            try {
                deadline_->begin(buffer_, detail::lowest_layer(stream_));
            } catch (const std::bad_alloc&) {
                return net::error::no_memory;
            }
        }
        return {};
    }

    Stream& stream_;
    detail::frame_buffer<Framing, Pool> buffer_;
    frame_deadline* deadline_;
};

} // namespace holdfast

#endif
