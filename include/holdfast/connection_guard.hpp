// holdfast: connection_guard, the owner of a stream that closes it on every path and says so exactly once.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CONNECTION_GUARD_HPP
#define HOLDFAST_CONNECTION_GUARD_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/async/context_shutdown.hpp>
#include <holdfast/detail/connection/guard_tracking.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/error.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

#include <cerrno>
#include <sys/socket.h>
#include <sys/types.h>

namespace holdfast {

/// Bounds of `connection_guard::async_close`.
struct close_options {
    /// How long to wait for the peer's end of stream.
    std::chrono::steady_clock::duration deadline = std::chrono::seconds(5);
    /// How many bytes of the peer's to read and discard meanwhile.
    std::size_t drain_bytes = 1024 * 1024;
};

/// Owns a stream and closes it on every path: `close()`, `abort()`, `async_close()`, `release()`,
/// move-assignment over it, or destruction, whether its owner returns, throws, is cancelled, or dies with the
/// io_context. Whatever comes first ends the connection; the finalizer then runs exactly once, after the
/// descriptor was closed, and gets the reason, the error and the connection's age. All later attempts do
/// nothing.
///
/// `Stream` is any Asio stream with a socket at the bottom: `tcp::socket`, a local socket, or a layered
/// stream, `ssl::stream` or a user's own, whose `lowest_layer()` or `next_layer()` leads to one. A layer that
/// has to say goodbye to its peer before the socket may close says it in `async_shutdown(token)`,
/// void(error_code), as `ssl::stream` does: `async_close()` calls that of the topmost layer that has one,
/// which answers for those below it.
///
/// Size: at most the stream, the finalizer (none where it is empty), an error code and 16 bytes. (Debug builds add what
/// `leak_check` reports.) Never allocates, except `async_close`, for its own duration, and the first guard of
/// an execution context, which makes it a service of a few words.
///
/// Lifetime: operations on `stream()` must not outlive the guard's moves: they refer to the stream inside it,
/// as with Asio's sockets. A moved-from guard is ended and silent.
///
/// Concurrency: distinct objects are safe, shared ones are not, as with Asio's sockets.
///
///     holdfast::connection_guard peer{std::move(socket), [](const holdfast::connection_end& end) noexcept {
///         std::clog << end << '\n';
///     }};
///     co_await net::async_write(peer.stream(), net::buffer("bye\n", 4), net::use_awaitable);
///     co_await peer.async_close();
template <class Stream = net::ip::tcp::socket, connection_finalizer Finalizer = no_finalizer>
class connection_guard {
public:
    using stream_type = Stream;
    using finalizer_type = Finalizer;
    using executor_type = typename Stream::executor_type;

    /// Takes over an open stream; its age counts from here.
    explicit connection_guard(
        Stream stream, Finalizer finalizer = {},
        std::source_location where =
            std::source_location::current()) noexcept(std::is_nothrow_move_constructible_v<Stream>)
        : stream_(std::move(stream)),
          birth_(std::chrono::steady_clock::now()),
          finalizer_(std::move(finalizer)),
          tracked_(where)
    {
        detail::expect_context_shutdown(stream_.get_executor());
    }

    /// Takes over another guard's connection, without an end of it.
    connection_guard(connection_guard&& other) noexcept(std::is_nothrow_move_constructible_v<Stream>)
        : stream_(std::move(other.stream_)),
          birth_(other.birth_),
          noted_(other.noted_),
          reason_(other.reason_),
          live_(std::exchange(other.live_, false)),
          finalizer_(std::move(other.finalizer_)),
          tracked_(std::move(other.tracked_))
    {
    }

    /// Ends the connection owned so far (`close_reason::replaced`), then takes over the other's.
    connection_guard& operator=(connection_guard&& other) noexcept(std::is_nothrow_move_assignable_v<Stream>)
        requires std::is_move_assignable_v<Stream> && std::is_nothrow_move_assignable_v<Finalizer>
    {
        if (this != &other) {
            close(close_reason::replaced);
            stream_ = std::move(other.stream_);
            birth_ = other.birth_;
            noted_ = other.noted_;
            reason_ = other.reason_;
            live_ = std::exchange(other.live_, false);
            finalizer_ = std::move(other.finalizer_);
            tracked_ = std::move(other.tracked_);
        }
        return *this;
    }

    /// Closes a connection that was not ended before. The reason is, in this order:
    /// - `close_reason::context_destroyed` while the execution context is destroyed with its operations;
    /// - what the error passed to `note()` stands for, with that error;
    /// - `close_reason::exception` while an exception leaves the owner's scope. (C++ does not show a destructor
    ///   which one; the code that catches it can find the reason with `end_by()`.)
    /// - `close_reason::abandoned`.
    ~connection_guard()
    {
        if (live_) close_unnamed();
    }

    /// The stream, to read and write on. It must not be closed behind the guard's back.
    Stream& stream() noexcept { return stream_; }
    const Stream& stream() const noexcept { return stream_; }

    executor_type get_executor() { return stream_.get_executor(); }

    /// Whether the connection has not ended yet.
    [[nodiscard]] bool is_open() const noexcept { return live_; }

    /// Why it ended; `close_reason::none` before, and for a moved-from guard.
    [[nodiscard]] close_reason reason() const noexcept { return reason_; }

    /// How long ago the guard took over the stream. One clock call.
    [[nodiscard]] std::chrono::steady_clock::duration age() const noexcept
    {
        return std::chrono::steady_clock::now() - birth_;
    }

    /// Notes an error of an operation on the stream. The first error noted is the cause of the end where the
    /// guard is then destroyed, or closed by `async_close()`: the finalizer gets `reason_of(error)` and the error.
    /// `frame_reader`, `outbox` and `async_write_streamed` call it for a guard that they are given.
    ///
    /// `operation_aborted` counts for less: a later error replaces it, and it is the cause only while an
    /// exception leaves the owner's scope, since a session may go on after an operation that it has cancelled.
    /// Has no effect without an error, and after the end.
    void note(const error_code& error) noexcept
    {
        if (error && (!noted_ || noted_ == net::error::operation_aborted)) noted_ = error;
    }

    /// Closes the descriptor at once; pending operations on the stream complete with `operation_aborted`.
    /// Bytes in the kernel's send queue still go out, unless the peer's own bytes were left unread: then the
    /// kernel resets the connection and they may be lost. `async_close()` avoids that.
    void close(close_reason reason = close_reason::local, error_code error = {}) noexcept
    {
        end(reason, error, false);
    }

    /// Resets the connection (RST) and frees the descriptor and the kernel's buffers at once, without
    /// TIME_WAIT: for the one who must shed load, and for a peer that does not answer. Pending operations
    /// complete with `operation_aborted`.
    void abort(close_reason reason = close_reason::local, error_code error = {}) noexcept
    {
        end(reason, error, true);
    }

    /// Closes gracefully: shuts down the sending side, reads and discards until the peer's end of stream,
    /// bounded in bytes and in time, then closes. The peer gets every byte that was written before, and no
    /// reset.
    ///
    /// The operation takes the connection over when it is initiated: the guard is no longer open then and may
    /// be moved or destroyed at once, so `peer.async_close({}, net::detached)` is a complete reject_message. (With
    /// `use_awaitable` it is initiated by `co_await`.)
    ///
    /// Where a close must reset, since SO_LINGER is on with a time of 0 (as after an `async_write_streamed`
    /// whose source failed), it closes at once, with `errc::close_incomplete`.
    ///
    /// Completion: void(error_code), on the handler's executor, never inside this call. Success when the
    /// peer's end of stream was seen, or the connection had ended before; `errc::close_incomplete` when a
    /// bound was reached first; the system's error when shutting down or reading failed. The connection has
    /// ended in every case, for `close_reason::peer_closed` where all that the peer sent had been read and
    /// its end of stream was there already, else for `close_reason::local`.
    ///
    /// A layer's goodbye, such as TLS's close_notify, is said first, under the same deadline; where it fails,
    /// the socket is closed as gracefully all the same.
    ///
    /// Throws `std::bad_alloc` where there is no memory to begin: the guard then still has its connection, or
    /// the connection has ended for `close_reason::out_of_memory`; the handler is not called. (A coroutine
    /// that awaits it ends the program then, in Asio 1.22: its awaitables do not bear an initiation that
    /// throws.) Where memory runs out later, the connection ends alike, and the exception leaves the
    /// context's `run()`, as with Asio's own composed operations.
    ///
    /// Cancellation: terminal, partial and total alike close at once and complete with `operation_aborted`.
    /// Concurrency: no other operation may be pending on the stream. Where several threads run the context,
    /// the handler's executor must be a strand. Cost: one block for the connection and a timer, apart from
    /// Asio's own for the waits.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_close(close_options options = {}, CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code)>(close_op{*this, options}, token,
                                                                     stream_.get_executor());
    }

    /// Hands the stream back, open, and ends the guard with `close_reason::released`: the finalizer runs.
    [[nodiscard]] Stream release()
    {
        if (live_) {
            begin_end(close_reason::released);
            finish_end({});
        }
        return std::move(stream_);
    }

protected:
    /// Makes a guard that has ended, around a stream that was never open: what a failed accept returns.
    struct ended_t {};
    connection_guard(ended_t, Stream stream, Finalizer finalizer) noexcept
        : stream_(std::move(stream)),
          birth_(std::chrono::steady_clock::now()),
          live_(false),
          finalizer_(std::move(finalizer)),
          tracked_(std::source_location())
    {
        tracked_.end();
    }

    Finalizer& finalizer() noexcept { return finalizer_; }
    const Finalizer& finalizer() const noexcept { return finalizer_; }

private:
    class close_op;

    void begin_end(close_reason reason) noexcept
    {
        live_ = false;
        reason_ = reason;
        if constexpr (requires { finalizer_.before_close(reason); })
            reason_ = finalizer_.before_close(reason);
    }

    void finish_end(const error_code& error) noexcept
    {
        tracked_.end();
        finalizer_(connection_end{reason_, error, age()}); // the last step: it may destroy the guard
    }

    void close_unnamed() noexcept
    {
        const bool unwinding = std::uncaught_exceptions() > 0;
        if (detail::context_is_ending(stream_.get_executor()))
            close(close_reason::context_destroyed);
        else if (noted_ && (unwinding || noted_ != net::error::operation_aborted))
            close(reason_of(noted_), noted_);
        else
            close(unwinding ? close_reason::exception : close_reason::abandoned);
    }

    void end(close_reason reason, const error_code& error, bool reset) noexcept
    {
        if (!live_) return;
        begin_end(reason);
        auto& socket = detail::lowest_layer(stream_);
        error_code ignored; // the descriptor is gone afterwards, whatever close() reports
        if (reset) socket.set_option(net::socket_base::linger(true, 0), ignored);
        socket.close(ignored);
        finish_end(error);
    }

    Stream stream_;
    std::chrono::steady_clock::time_point birth_;
    error_code noted_{};
    close_reason reason_ = close_reason::none;
    bool live_ = true;
    [[no_unique_address]] Finalizer finalizer_;
    [[no_unique_address]] detail::guard_tracking tracked_;
};

/// The steps of async_close, for net::async_compose. The guard moves into a block that reads and watchdog
/// share, so that the caller's may go away meanwhile.
template <class Stream, connection_finalizer Finalizer>
class connection_guard<Stream, Finalizer>::close_op {
public:
    close_op(connection_guard& guard, const close_options& options) noexcept
        : guard_(&guard), options_(options)
    {
    }

    close_op(close_op&&) noexcept = default;

    /// Where an exception destroys the operation, memory has run out: the watchdog alone still holds the
    /// connection.
    ~close_op()
    {
        if (state_ && !detail::context_is_ending(state_->guard.get_executor()))
            state_->end_for_want_of_memory();
    }

    template <class Self>
    void operator()(Self& self, error_code ec = {})
    {
        switch (step_) {
        case step::start:
            start(self);
            return;
        case step::goodbye: // the layers' own; whether it succeeded or not, the socket comes next
            if (const error_code why = interrupted(self)) return finish(self, why);
            end_stream(self);
            return;
        case step::waiting:
            if (!ec) ec = interrupted(self);
            if (!ec) ec = state_->discard();
            if (ec == net::error::would_block || ec == net::error::try_again) {
                if (const error_code failed = state_->end_late()) return finish(self, failed);
                if (!state_->resets_at_close()) return wait(self);
                ec = errc::close_incomplete; // a drain has reached its deadline meanwhile
            }
            finish(self, state_->expired         ? error_code(errc::close_incomplete)
                         : ec == net::error::eof ? error_code()
                                                 : ec);
            return;
        case step::settled:
            finish(self, result_);
            return;
        }
    }

private:
    struct closing {
        closing(connection_guard&& g, std::size_t drain_bytes)
            : guard(std::move(g)),
              watchdog(guard.get_executor()),
              pause(guard.get_executor()),
              bytes_left(drain_bytes)
        {
            char next = 0;
            if (::recv(descriptor(), &next, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
                deaf = !detail::peer_has_ended(descriptor());
                if (!deaf) reason = close_reason::peer_closed;
            }
            note_cause();
        }

        closing(const closing&) = delete;

        /// The first cause of the end is this close, even when the execution context dies before it is done.
        ~closing() { guard.close(reason); }

        /// What an operation has noted came first.
        void note_cause() noexcept
        {
            const error_code& noted = guard.noted_;
            if (noted && noted != net::error::operation_aborted) reason = reason_of(noted);
        }

        void end_for_want_of_memory() noexcept
        {
            watchdog.cancel();
            guard.close(close_reason::out_of_memory, net::error::no_memory);
        }

        int descriptor() noexcept { return detail::lowest_layer(guard.stream_).native_handle(); }

        error_code end_stream() noexcept
        {
            error_code ec;
            detail::lowest_layer(guard.stream_).shutdown(net::socket_base::shutdown_send, ec);
            ended = true;
            return ec;
        }

        /// Where the receiving side was shut down, the sending side ends only once all is acknowledged.
        error_code end_late() noexcept
        {
            return deaf && !ended && detail::unacknowledged(descriptor()) == 0 ? end_stream() : error_code();
        }

        bool resets_at_close() noexcept
        {
            net::socket_base::linger linger;
            error_code ignored;
            detail::lowest_layer(guard.stream_).get_option(linger, ignored);
            return linger.enabled() && linger.timeout() == 0;
        }

        /// Reads what is there: would_block when there is no more for now, eof at the end, or why it can't go
        /// on.
        error_code discard() noexcept
        {
            std::array<char, 4096> waste;
            for (;;) {
                const ::ssize_t n = ::recv(descriptor(), waste.data(), waste.size(), MSG_DONTWAIT);
                if (n < 0) return {errno, net::error::get_system_category()};
                if (n == 0 && !detail::peer_has_ended(descriptor())) {
                    deaf = true; // a drain has begun meanwhile
                    return net::error::would_block;
                }
                if (n == 0) return net::error::eof;
                if (static_cast<std::size_t>(n) > bytes_left) return errc::close_incomplete;
                bytes_left -= static_cast<std::size_t>(n);
            }
        }

        using timer = net::basic_waitable_timer<std::chrono::steady_clock,
                                                net::wait_traits<std::chrono::steady_clock>, executor_type>;

        connection_guard guard;
        timer watchdog;
        timer pause;
        std::size_t bytes_left;
        close_reason reason = close_reason::local;
        bool expired = false;
        bool ended = false;
        // A drain has shut the receiving side down: reads find an end that is not the peer's, readiness says
        // nothing any more, and once the sending side is shut down too, the kernel resets a peer that still
        // sends.
        bool deaf = false;
    };

    template <class Self>
    void start(Self& self)
    {
        self.reset_cancellation_state(net::enable_total_cancellation());
        connection_guard& guard = *std::exchange(guard_, nullptr);
        auto executor = guard.get_executor();
        if (guard.is_open()) {
            // Not the handler's memory: the watchdog's completion may hold it for longer than the operation
            // lasts.
            state_ = std::make_shared<closing>(std::move(guard), options_.drain_bytes);
            guard.reason_ = state_->reason;
            if (state_->resets_at_close()) {
                result_ = errc::close_incomplete; // half a message was sent: no end of stream may follow it
            } else {
                state_->watchdog.expires_after(options_.deadline);
                state_->watchdog.async_wait(
                    net::bind_executor(self.get_executor(), [state = state_](error_code ec) {
                        if (!ec) {
                            state->expired = true;
                            state->guard.close(state->reason, errc::close_incomplete);
                        }
                    }));
                say_goodbye(self);
                return;
            }
        }
        step_ = step::settled;
        net::post(executor, std::move(self)); // completing here would be inside the initiating function
    }

    template <class Self>
    void say_goodbye(Self& self)
    {
        using layer = detail::polite_layer<Stream>;
        if constexpr (layer::exists) {
            step_ = step::goodbye;
            auto& stream = layer::of(state_->guard.stream_);
            stream.async_shutdown(std::move(self));
        } else {
            end_stream(self);
        }
    }

    /// Ends the sending side of the socket and begins to wait for the peer's.
    template <class Self>
    void end_stream(Self& self)
    {
        const error_code ec = state_->deaf ? error_code() : state_->end_stream();
        if (!ec) {
            wait(self);
        } else if (step_ == step::goodbye) {
            finish(self, ec);
        } else {
            result_ = ec;
            step_ = step::settled;
            auto executor = state_->guard.get_executor();
            net::post(executor, std::move(self));
        }
    }

    template <class Self>
    void wait(Self& self)
    {
        step_ = step::waiting;
        if (state_->deaf) {
            auto& pause = state_->pause;
            pause.expires_after(look_again_after);
            pause.async_wait(std::move(self));
        } else {
            auto& socket = detail::lowest_layer(state_->guard.stream_);
            socket.async_wait(net::socket_base::wait_read, std::move(self));
        }
    }

    /// Why the operation can't go on, where the deadline or a cancellation came while a step was queued.
    template <class Self>
    error_code interrupted(Self& self) const
    {
        if (!state_->guard.is_open()) return errc::close_incomplete;
        if (self.get_cancellation_state().cancelled() != net::cancellation_type::none)
            return net::error::operation_aborted;
        return {};
    }

    template <class Self>
    void finish(Self& self, error_code result)
    {
        if (state_) {
            state_->watchdog.cancel();
            state_->guard.close(state_->reason, result);
            state_.reset();
        }
        self.complete(result);
    }

    static constexpr std::chrono::milliseconds look_again_after{10};

    enum class step : unsigned char { start, goodbye, waiting, settled };

    connection_guard* guard_;
    close_options options_;
    std::shared_ptr<closing> state_;
    error_code result_;
    step step_ = step::start;
};

} // namespace holdfast

#endif
