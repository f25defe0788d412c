// holdfast: websocket_reader, which reads the messages of a WebSocket client, and the closing handshake.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WEBSOCKET_HPP
#define HOLDFAST_WEBSOCKET_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/frame/stream_reader.hpp>
#include <holdfast/detail/websocket/close_websocket.hpp>
#include <holdfast/detail/websocket/websocket_buffer.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/frame_time_limit.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/read_rate.hpp>
#include <holdfast/websocket_compression.hpp>
#include <holdfast/websocket_error.hpp>
#include <holdfast/websocket_frame.hpp>
#include <holdfast/websocket_handshake.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of a `websocket_reader`.
struct websocket_options {
    /// Maximum size of a message in bytes, all fragments together, and maximum number of its empty fragments. At least
    /// 1. Values above 2^32 - 1 mean 2^32 - 1.
    std::size_t max_message_bytes = 64 * 1024;
    /// Whether text messages are accepted.
    bool text = true;
    /// Whether binary messages are accepted.
    bool binary = true;
    /// Size in bytes of the buffer that is borrowed when bytes arrive. Rounded up to a power of two, and doubled
    /// when one message fills it. Values below about 250 and above 2^30 are adjusted to these limits.
    std::size_t buffer_bytes = 1024;
    /// Is notified of received bytes.
    holdfast::progress progress{};
    /// Limits the time that a message takes once it has begun, all fragments together: a `frame_deadline`. Null: no
    /// limit. Has no effect on a stream without a socket at its bottom.
    frame_time_limit* deadline = nullptr;
    /// The compression that the handshake has negotiated, `websocket_handshake::compression`; null if none. A
    /// compressed message is decompressed once all of it has arrived, into a buffer of the pool. `max_message_bytes`
    /// limits both: the decompressed size, and the compressed one with an eighth and 64 bytes more.
    websocket_compression* compression = nullptr;
    /// Limits the rate of messages and bytes: the connection's `read_rate`, of a `read_rate_limit`. Null: no limit.
    /// Control frames count as bytes alone.
    read_rate* rate = nullptr;
};
static_assert(std::is_trivially_destructible_v<websocket_options>);

/// Reads the messages of a WebSocket client (RFC 6455), server side, after the handshake (`accept_websocket`). A
/// message has a hard limit. Memory grows with the bytes received, never with an announced length. Fragments are
/// assembled, and masks are taken off, in place; text is checked as UTF-8 while it arrives. An idle connection holds no
/// buffer, as with `frame_reader`; streams, guards and pools are as there.
///
/// Control frames are handled by the reader while it reads:
///  - A ping is answered through the outbox's reserve, ahead of all messages that are not being sent. Where the
///    reserve is used up, the newest pong replaces earlier ones, as RFC 6455 permits; a reserve of 1 KiB takes some
///    thirty small ones. A pong takes up to 143 bytes of the reserve. One that is longer than the reserve is not sent,
///    nor is one for which messages that are being sent to a client that does not read leave no space there.
///  - A pong is ignored; like all received bytes it is progress.
///  - A Close frame is answered with one of the same code through `outbox::push_final`; then the outbox accepts no more
///    messages, and `async_next` returns no value.
///  - After a violation a Close frame with its code and reason is pushed in the same way.
///
/// In each case the session then ends with `async_close_websocket`, which sends what is queued. A coroutine takes
/// errors as codes for that, since an exception that leaves it destroys the connection before the Close frame is sent.
/// After other errors, such as `errc::rate_exceeded` and `errc::frame_timeout`, no Close frame is queued: that of
/// `async_close_websocket` is sent, with the code of its options.
///
/// Size: 72 bytes (64-bit).
/// Lifetime: refers to the stream, outbox, pool, progress, deadline, compression and rate. Must stay at its address
/// while an operation is pending.
/// Thread safety: one operation at a time, on the thread or strand of the outbox; the handlers of its operations must
/// run there too, since the reader answers in the outbox. Distinct readers are independent.
///
///     holdfast::outbox outbox{peer, {.reserve_bytes = 1024}};
///     outbox.push(handshake.response);
///     holdfast::websocket_reader messages{std::move(lines), outbox, {.max_message_bytes = 4096}};
///     holdfast::error_code error;
///     while (auto message = co_await messages.async_next(net::redirect_error(net::use_awaitable, error)))
///         outbox.push(holdfast::websocket_frame(message->data));
///     co_await holdfast::async_close_websocket(peer, outbox);
template <class Peer, class Pool = shared_buffer_pool>
class websocket_reader : detail::stream_reader<Peer, detail::websocket_buffer<Pool>> {
    using base = detail::stream_reader<Peer, detail::websocket_buffer<Pool>>;
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
        using other = websocket_reader<typename Peer::template rebind_executor<Executor>::other, Pool>;
    };

    /// Constructs a reader that borrows from the pool of the stream's execution context. The outbox is that of the
    /// same connection.
    ///
    /// Exceptions: std::invalid_argument for an option out of range. std::bad_alloc for the first reader of an
    /// execution context, whose pool is then made.
    websocket_reader(Peer& peer, outbox_base& outbox, const websocket_options& options = {})
        requires std::is_same_v<Pool, shared_buffer_pool>
        : websocket_reader(peer, shared_buffer_pool::of(detail::readable_stream(peer).get_executor()), outbox, options)
    {
    }

    /// Constructs a reader that borrows from `pool`.
    ///
    /// Exceptions: std::invalid_argument for an option out of range.
    websocket_reader(Peer& peer, Pool& pool, outbox_base& outbox, const websocket_options& options = {})
        : base(peer, options.progress, options.rate, pool, options.max_message_bytes, options.buffer_bytes,
               options.deadline, detail::websocket_protocol{&outbox, options.compression, options.text, options.binary})
    {
    }

    /// Constructs a reader that continues where the reader of the request has stopped: it takes over the bytes that
    /// were received after the request. `request` must have no pending operation. It holds no bytes afterwards.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc if the bytes need a larger buffer
    /// that is not available. `request` then keeps its bytes.
    template <class Framing>
    websocket_reader(frame_reader<Peer, Framing, Pool>&& request, outbox_base& outbox,
                     const websocket_options& options = {})
        : websocket_reader(request.peer_, request.buffer_.pool(), outbox, options)
    {
        buffer_.take_over(request.buffer_);
    }

    websocket_reader(const websocket_reader&) = delete;
    websocket_reader& operator=(const websocket_reader&) = delete;

    [[nodiscard]] executor_type get_executor() const noexcept { return stream().get_executor(); }

    /// Reads the next message.
    ///
    /// Completion: void(error_code, std::optional<websocket_message>), never inside this call. The message is valid
    /// until the next operation, and followed by at least 64 readable bytes. Without an error and without a value when
    /// the peer has closed the connection (see `close_code()`), at the end of the stream between two messages, and when
    /// a drain has ended the reading there.
    ///
    /// Errors:
    ///  - a `websocket_errc` for each violation of the protocol, and for a message above the limit, as soon as the
    ///    bytes determine it; for a length and for a Close frame, when all of its bytes have arrived;
    ///  - `websocket_errc::invalid_compression` where a compressed message is invalid, and the errors above where its
    ///    decompressed bytes are too many or not UTF-8: once all of the compressed bytes have arrived;
    ///  - `errc::frame_timeout` when the message's deadline has passed;
    ///  - `errc::rate_exceeded` when the peer sends more than its rate allows, with `rate_policy::disconnect`;
    ///  - `errc::truncated_frame` when the stream ends within a message, by the peer or by a drain;
    ///  - `net::ssl::error::stream_truncated`, `errc::pool_exhausted`, `net::error::no_memory` and those of the stream,
    ///    as with `frame_reader`.
    ///
    /// After those of the protocol, of the deadline and of the rate, and after the peer's Close frame, each call
    /// completes with the same result.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`. No byte is lost, except by a layer of
    /// the user's own that loses some at a terminal cancellation: it gets each type as that one.
    ///
    /// Cost: as `frame_reader::async_next`; a ping allocates its pong.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code, std::optional<websocket_message>)>
    auto async_next(CompletionToken&& token = CompletionToken())
    {
        using signature = void(error_code, std::optional<websocket_message>);
        return net::async_initiate<CompletionToken, signature>(
            detail::initiate_next<websocket_reader, detail::by_framing>(*this, {}), token);
    }

    /// Returns the code of the peer's Close frame; `websocket_close_code::no_code` if that had none, and
    /// `no_close_frame` if there was none.
    [[nodiscard]] websocket_close_code close_code() const noexcept { return buffer_.close_code(); }

    /// Returns the compression of the options, for `websocket_frame`; null if none was negotiated.
    [[nodiscard]] websocket_compression* compression() const noexcept { return buffer_.compression(); }

    /// Returns the text that is the reason in the peer's Close frame; empty if there was none. Valid until the next
    /// operation. (It is not the enumeration `holdfast::close_reason`.)
    [[nodiscard]] std::string_view close_reason() const noexcept { return buffer_.close_reason(); }

private:
    template <class, class, class>
    friend class detail::next_frame;

    using loan_type = typename Pool::loan_type;
    using frame_type = websocket_message;

    [[no_unique_address]] detail::framing_of_buffer framing_;
};

template <class Peer>
websocket_reader(Peer&, outbox_base&) -> websocket_reader<Peer>;
template <class Peer>
websocket_reader(Peer&, outbox_base&, const websocket_options&) -> websocket_reader<Peer>;
template <class Peer, class Framing, class Pool>
websocket_reader(frame_reader<Peer, Framing, Pool>&&, outbox_base&) -> websocket_reader<Peer, Pool>;
template <class Peer, class Framing, class Pool>
websocket_reader(frame_reader<Peer, Framing, Pool>&&, outbox_base&, const websocket_options&)
    -> websocket_reader<Peer, Pool>;

/// Options of `async_close_websocket`.
struct websocket_close_options {
    /// The code and the reason of the Close frame. They have no effect where one was sent already: as the answer to the
    /// peer's, or after a violation.
    websocket_close_code code = websocket_close_code::normal;
    std::string_view reason{};
    /// Maximum time until the connection has ended. Must not be negative; `duration::max()` means unlimited.
    std::chrono::steady_clock::duration deadline = std::chrono::seconds(5);
    /// Maximum number of bytes of the peer to read and discard meanwhile. `SIZE_MAX` means unlimited.
    std::size_t drain_bytes = 1024 * 1024;
};

/// Ends a WebSocket connection gracefully, whichever side has begun to close: sends what is queued and a Close frame,
/// ends the sending side, reads and discards until the peer's end of stream, its own Close frame included, and closes.
/// At the limits of the options the connection is reset. `Peer` is a `connection_guard`, or an acceptor's connection;
/// `outbox` is that of the same connection.
///
/// Completion: void(error_code), never inside this call. The connection has ended in every case. Success: the peer has
/// taken everything and ended its stream. Otherwise the error of `outbox::async_close` or of
/// `connection_guard::async_close`.
/// Cancellation: terminal, partial and total; resets the connection, and completes with `operation_aborted`.
/// Lifetime: `peer` and `outbox` must exist until the completion: the finalizer must not destroy them. No other
/// operation may be pending on the stream.
/// Exceptions: those of `connection_guard::async_close`; `std::invalid_argument` for an option out of its range. Where
/// memory is exhausted later, the connection ends; where Asio itself has no memory to call the handler of the outbox's
/// part, the guard still has the connection.
/// Cost: that of the two operations.
template <class Peer, class Outbox,
          net::completion_token_for<void(error_code)> CompletionToken = default_token_t<typename Peer::executor_type>>
auto async_close_websocket(Peer& peer, Outbox& outbox, const websocket_close_options& options,
                           CompletionToken&& token = CompletionToken())
{
    if (options.deadline < options.deadline.zero())
        throw std::invalid_argument("websocket_close_options::deadline must not be negative");
    return net::async_compose<CompletionToken, void(error_code)>(
        detail::close_websocket<Peer, Outbox>(peer, outbox, options.deadline, options.drain_bytes,
                                              websocket_close_frame(options.code, options.reason)),
        token, peer.stream());
}

/// The same with the default options.
template <class Peer, class Outbox, class CompletionToken = default_token_t<typename Peer::executor_type>>
    requires(!std::convertible_to<CompletionToken, websocket_close_options>) &&
            net::completion_token_for<CompletionToken, void(error_code)>
auto async_close_websocket(Peer& peer, Outbox& outbox, CompletionToken&& token = CompletionToken())
{
    return holdfast::async_close_websocket(peer, outbox, websocket_close_options(),
                                           std::forward<CompletionToken>(token));
}

} // namespace holdfast

#endif
