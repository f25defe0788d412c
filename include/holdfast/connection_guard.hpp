// holdfast: connection_guard, the owner of a stream: closes it on every path and reports its end exactly once.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CONNECTION_GUARD_HPP
#define HOLDFAST_CONNECTION_GUARD_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/async/context_shutdown.hpp>
#include <holdfast/detail/connection/close_operation.hpp>
#include <holdfast/detail/connection/creation_time.hpp>
#include <holdfast/detail/connection/guard_tracking.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/noted_error.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/stream_holder.hpp>
#include <holdfast/detail/connection/unread_input.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

namespace detail {
struct upgrade_access;
} // namespace detail

/// Limits of `connection_guard::async_close`.
struct close_options {
    /// Maximum time to wait for the peer's end of stream. Must not be negative; `duration::max()` means unlimited.
    std::chrono::steady_clock::duration deadline = std::chrono::seconds(5);
    /// Maximum number of bytes of the peer to read and discard meanwhile. `SIZE_MAX` means unlimited.
    std::size_t drain_bytes = 1024 * 1024;
};

/// Owns a stream and closes it on every path: `close()`, `abort()`, `async_close()`, move assignment,
/// `release_unbounded()` and destruction, whether its owner returns, throws, is cancelled or is destroyed with the
/// io_context. The first of these ends the connection: the descriptor is closed, then the finalizer is called, exactly
/// once, with the reason, the error, the age and the peer. All later calls have no effect.
///
/// `Stream` is a socket (`tcp::socket`, a local socket) or a **layer** above one: `ssl::stream`, a TLS stream, a
/// layer of the user's own. A layer provides
/// - `executor_type` and `get_executor()`, and reads and writes as Asio's streams do;
/// - `lowest_layer()`, which returns the socket, or `next_layer()`, which returns the layer below;
/// - optionally `async_shutdown(token)`, void(error_code), which ends the layer's own protocol, as TLS's close_notify:
///   `async_close()` calls it for the topmost layer that has it, which must also end the layers below;
/// - optionally `pending()`, the number of bytes that it has read from the socket and not yet handed to its reader;
/// - optionally `static constexpr bool operations_may_outlive = true`, where its pending operations keep what they
///   need: the guard then holds it without an allocation.
/// Its errors are classified by `reason_of()`. `upgrade()` puts a layer on top of a live connection.
///
/// What the kernel keeps after the end:
/// - `async_close()` delivers all bytes, or resets at its limits: nothing stays.
/// - After `close()` and destruction, bytes that were sent and not yet acknowledged stay. Where bytes are still unsent,
///   because the peer does not read, the close resets the connection and discards them.
/// - For an `admitted_connection`, the bytes that stay count within the acceptor's `max_connections`, or within the
///   limit of the semaphore that it shares with other acceptors: the socket keeps its descriptor. When a connection of
///   one of these acceptors begins or ends, such a socket is closed if all bytes are acknowledged, and reset if 10
///   seconds have passed since its end. Where live connections and these sockets together would exceed the limit, or
///   descriptors are exhausted, the oldest of these sockets is reset.
/// - For any other guard, and once the acceptors and all their connections are gone, the kernel keeps the bytes without
///   a limit on the number of connections, for 10 seconds after the last acknowledgement;
///   `capacity_budget::ended_connections` plans for them.
/// - Bytes of a local socket that the peer has not read stay until it reads or closes.
///
/// No close blocks, whatever SO_LINGER says.
///
/// Lifetime: the user's operations that are pending on `stream()` refer to it as Asio's do. A socket must not be moved
/// with its guard while they are pending; a layered stream stays at its address when the guard moves, and lives until
/// operations that hold a `keep_stream()` have ended. A guard that was moved from counts as ended, and calls no
/// finalizer.
///
/// Thread safety: distinct objects: safe. Shared objects: unsafe; a guard belongs to the thread or strand of its
/// stream.
///
/// Cost: the stream, the finalizer (none where it is empty) and 16 bytes; with Boost.Asio also an error code. A layered
/// stream has one allocation. The first guards of an execution context make services of a few words in it. (Debug
/// builds add what `leak_check` reports.)
///
///     holdfast::connection_guard peer{std::move(socket), [](const holdfast::connection_end& end) noexcept {
///         std::clog << end << '\n';
///     }};
///     co_await net::async_write(peer.stream(), net::buffer("bye\n", 4), net::use_awaitable);
///     co_await peer.async_close();
template <class Stream = net::ip::tcp::socket, connection_finalizer Finalizer = no_finalizer>
class connection_guard {
    using holder = detail::stream_holder<Stream>;

public:
    using stream_type = Stream;
    using finalizer_type = Finalizer;
    using executor_type = typename Stream::executor_type;

    /// The same guard of a stream with another executor.
    template <class Executor>
    struct rebind_executor {
        using other = connection_guard<typename Stream::template rebind_executor<Executor>::other, Finalizer>;
    };

    /// Takes over an open stream. The connection's age counts from here.
    ///
    /// Exceptions: for a layered stream `std::bad_alloc`; the stream is then closed by its own destructor.
    explicit connection_guard(
        Stream stream, Finalizer finalizer = {},
        std::source_location where = std::source_location::current()) noexcept(holder::makes_noexcept);

    /// Takes over another guard's connection without ending it.
    connection_guard(connection_guard&& other) noexcept(holder::moves_noexcept);

    /// Takes over another guard's connection, and ends the one owned before for `close_reason::replaced`.
    connection_guard& operator=(connection_guard&& other) noexcept(holder::moves_noexcept)
        requires holder::assigns && std::is_nothrow_move_assignable_v<Finalizer>;

    /// Closes a connection that was not ended before. The reason is the first that applies:
    /// - `close_reason::context_destroyed` while the execution context is destroyed with its operations. For a
    ///   handler (no coroutine) that owns the guard and waits in one of Asio's channels, this holds only where the
    ///   context had such a channel before its first guard: Asio destroys the waits of younger services first, without
    ///   a sign of the end. The reason is then one of the next;
    /// - the reason of the error passed to `note()`, with that error;
    /// - while an exception leaves the owner's scope, `close_reason::peer_closed` or `peer_reset` where a read of the
    ///   socket would find the end of the stream or of the connection: C++ does not show a destructor which exception
    ///   it is, and after such an end it is most often the error of that. Not for a layered stream;
    /// - `close_reason::exception` while any other exception leaves the owner's scope. The code that catches it can
    ///   find what it stands for with `end_by()`;
    /// - `close_reason::abandoned`.
    ~connection_guard()
    {
        if (live_) close_unnamed();
    }

    /// Returns the stream, to read and write on. Only the guard may close it.
    [[nodiscard]] Stream& stream() noexcept { return stream_.get(); }
    [[nodiscard]] const Stream& stream() const noexcept { return stream_.get(); }

    /// Returns an object that keeps a layered stream's memory until it is destroyed: for an operation that may be
    /// pending when the guard is destroyed. For a socket it is empty, since Asio keeps what a pending operation needs.
    [[nodiscard]] auto keep_stream() noexcept { return stream_.keep(); }

    [[nodiscard]] executor_type get_executor() { return stream_.get().get_executor(); }

    /// Returns whether the connection has not ended.
    [[nodiscard]] bool is_open() const noexcept { return live_; }

    /// Returns why it ended; `close_reason::none` before, and for a guard that was moved from.
    [[nodiscard]] close_reason reason() const noexcept { return reason_; }

    /// Returns the time since the guard took over the stream; of an acceptor's connection that has ended, zero. Cost:
    /// reads the clock; of an acceptor's connection also a short lock.
    [[nodiscard]] std::chrono::steady_clock::duration age() const noexcept { return created_at_.age(finalizer_); }

    /// Notes an error of an operation on the stream. Where the guard is then destroyed, or closed by `async_close()`,
    /// the first error that was noted is the cause of the end: the finalizer gets `reason_of(error)` and the error.
    /// `frame_reader`, `outbox` and `async_write_streamed` call it for a guard that they are given.
    ///
    /// A later error replaces `operation_aborted`, which is the cause only while an exception leaves the owner's scope:
    /// a session may go on after an operation that it has cancelled. The call has no effect without an error, and after
    /// the end.
    void note(const error_code& error) noexcept
    {
        const error_code before = noted_.get();
        if (error && (!before || before == net::error::operation_aborted)) noted_.set(error);
    }

    /// Notes whether received bytes of the peer are buffered and not yet used: `upgrade()` then refuses the connection.
    /// A `frame_reader` that was given the guard calls it; a session that reads by itself may call it.
    void note_buffered(bool holds_bytes) noexcept { holds_bytes_ = holds_bytes; }

    /// Closes the descriptor at once; operations pending on the stream complete with `operation_aborted`. Bytes that
    /// were sent are still delivered. Where bytes are unsent, or bytes of the peer are unread, the connection is reset
    /// and bytes may be lost. `async_close()` delivers all.
    void close(close_reason reason = close_reason::local, error_code error = {}) noexcept { end(reason, error); }

    /// Resets the connection (RST), and frees the descriptor and the kernel's buffers at once, without TIME_WAIT: to
    /// shed load, and for a peer that does not respond. Pending operations complete with `operation_aborted`.
    void abort(close_reason reason = close_reason::local, error_code error = {}) noexcept
    {
        end(reason, error, ending::reset);
    }

    /// Closes gracefully: shuts the layers down, ends the sending side of the socket, reads and discards until the
    /// peer's end of stream, and closes once the peer has acknowledged all that was sent. At the limits of the options
    /// it resets the connection.
    ///
    /// It takes the connection over when it is initiated (with `use_awaitable`: by `co_await`): the guard is no longer
    /// open then, and may be moved or destroyed. `peer.async_close(net::detached)` is a complete graceful end.
    ///
    /// Where SO_LINGER is on with a time of 0, since a message was sent in part, it resets at once, with
    /// `errc::close_incomplete`.
    ///
    /// Completion: void(error_code), never inside this call. The connection has ended in every case. Success: the peer
    /// ended its stream, or reset the connection, or the connection had ended before. `errc::close_incomplete`: at a
    /// limit, or by the acceptor (`bounded_acceptor::end`, the deadline of a drain). Else the system's error. The
    /// reason of the end is that of an error noted before; else `close_reason::peer_closed` or `peer_reset` where that
    /// had happened before and nothing of the peer's was unread; else `close_reason::local`.
    /// Cancellation: terminal, partial and total: resets like a limit, and completes with `operation_aborted`.
    /// Lifetime: no other operation may be pending on the stream.
    /// Exceptions: `std::invalid_argument` for a negative deadline; the guard then still has its connection.
    /// `std::bad_alloc` where there is no memory to begin: the connection has then ended for
    /// `close_reason::out_of_memory`, unless Asio had no memory for the cancellation slot: the guard then still has it.
    /// The handler is not called. (A coroutine that awaits it ends the program then, in Asio 1.22: its awaitables do not
    /// support an initiation that throws.) Where memory is exhausted later, the connection ends alike, and the exception
    /// leaves the context's `run()`, as with Asio's own composed operations.
    /// Cost: one block for the connection and two timers, beside Asio's own for the waits.
    template <net::completion_token_for<void(error_code)> CompletionToken>
    auto async_close(close_options options, CompletionToken&& token)
    {
        if (options.deadline < options.deadline.zero())
            throw std::invalid_argument("close_options::deadline must not be negative");
        return net::async_compose<CompletionToken, void(error_code)>(
            detail::close_operation<connection_guard>(*this, options.deadline, options.drain_bytes), token,
            stream_.get());
    }

    /// The same with the default completion token.
    auto async_close(close_options options) { return async_close(options, default_token_t<executor_type>()); }

    /// The same with the default options.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_close(CompletionToken&& token = CompletionToken())
    {
        return async_close(close_options(), std::forward<CompletionToken>(token));
    }

    /// Returns the open stream, and ends the guard for `close_reason::released`: the finalizer is called, and an
    /// acceptor's permit is returned. **The connection then counts against no limit any more.** To put a layer on top
    /// of the connection, use `upgrade()`.
    [[nodiscard]] Stream release_unbounded();

protected:
    struct ended_t {};
    struct layered_t {};

    /// Makes a guard that has ended, of a stream that was never open: what a failed accept returns.
    connection_guard(ended_t, Stream stream, Finalizer finalizer) noexcept(holder::makes_noexcept);

    /// Takes over the connection of the guard of the stream below; `make` makes the layer of that stream.
    template <class Below, class Make>
    connection_guard(layered_t, connection_guard<Below, Finalizer>& below, Make&& make);

    Finalizer& finalizer() noexcept { return finalizer_; }
    const Finalizer& finalizer() const noexcept { return finalizer_; }

    /// Returns whether it has changed.
    bool change_within_message(bool within) noexcept
    {
        const bool changes = within_message_ != within;
        within_message_ = within;
        return changes;
    }

private:
    template <class, connection_finalizer>
    friend class connection_guard;
    friend class detail::close_operation<connection_guard>;
    friend struct detail::upgrade_access;

    template <class Below, class Make>
    static holder make_layer(connection_guard<Below, Finalizer>& below, Make&& make);

    /// The descriptor, where the stream has one; else -1.
    int descriptor() noexcept
    {
        if constexpr (requires {
                          { detail::lowest_layer(stream_.get()).native_handle() } -> std::convertible_to<int>;
                      })
            return detail::lowest_layer(stream_.get()).native_handle();
        else
            return -1;
    }

    /// What a read would find of the end of a socket's stream: an error, or none.
    error_code end_of_stream() noexcept
    {
        if constexpr (requires { stream_.get().next_layer(); })
            return {}; // the layer may have found another end
        else
            return detail::peek_end(descriptor());
    }

    connection_end begin_end(close_reason reason, const error_code& error) noexcept;
    void finish_end(const connection_end& last) noexcept;
    enum class ending : unsigned char {
        orderly,
        reset,
        disconnected, // already: nothing is left to be sent, and no close waits
    };
    void end(close_reason reason, const error_code& error, ending how = ending::orderly) noexcept;
    void close_unnamed() noexcept;

    /// Returns whether it was live; it is not any more.
    bool take_live() noexcept
    {
        const bool live = live_;
        live_ = false;
        return live;
    }

    holder stream_;
    [[no_unique_address]] detail::creation_time<Finalizer> created_at_;
    [[no_unique_address]] detail::noted_error noted_;
    close_reason reason_ = close_reason::none;
    bool live_ : 1 = true;
    bool within_message_ : 1 = false; // an acceptor's
    bool holds_bytes_ : 1 = false;    // a reader of it
    [[no_unique_address]] Finalizer finalizer_;
    [[no_unique_address]] detail::guard_tracking tracked_;
};

/// Puts a layer on top of a live connection, as for STARTTLS or after a PROXY line. The result is the same connection:
/// it takes over the finalizer, the age, the error that was noted, and the permit and census entry of an acceptor's
/// connection. `peer` then counts as ended, and calls no finalizer. Works for a `connection_guard` and for an
/// `admitted_connection`.
///
/// The first form makes the layer as `Layer(std::move(stream), args...)`, the second by `make(std::move(stream))`,
/// which may return a type that cannot be moved.
///
/// Bytes that a `frame_reader` of the connection has received and not handed out do not reach the layer, and are an
/// error: with STARTTLS, commands that were sent in plain text in the same packet could otherwise be taken for bytes
/// that came over TLS. A client must wait for the answer before it begins the layer's protocol. Bytes that arrive later
/// are read by the layer: TLS fails if they are no handshake. If buffered bytes do belong to the layer, the session
/// first passes `frame_reader::buffered()` to it and calls `frame_reader::consume()`. Bytes that a session has read
/// from `stream()` without a reader are not checked.
///
/// Lifetime: no operation may be pending on the connection.
/// Exceptions: `system_error` with `errc::bytes_before_layer` where a reader holds bytes, what making the layer throws,
/// and `std::bad_alloc`. The connection has ended then, for `close_reason::layer_failed`, the reason of the error,
/// `close_reason::exception` or `close_reason::out_of_memory`.
///
///     auto secure = holdfast::upgrade<net::ssl::stream<tcp::socket>>(std::move(peer), tls_context);
///     co_await secure.stream().async_handshake(net::ssl::stream_base::server, net::use_awaitable);
template <class Layer, class Guard, class... Args>
    requires(!std::is_lvalue_reference_v<Guard>)
[[nodiscard]] auto upgrade(Guard&& peer, Args&&... args);

template <class Guard, class Make>
    requires(!std::is_lvalue_reference_v<Guard>) && std::invocable<Make&, typename Guard::stream_type&&>
[[nodiscard]] auto upgrade(Guard&& peer, Make&& make);

} // namespace holdfast

#include <holdfast/detail/connection/connection_guard_impl.hpp>

#endif
