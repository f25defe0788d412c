// holdfast: outbox, a bounded queue of the messages that a connection is to send.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_OUTBOX_HPP
#define HOLDFAST_OUTBOX_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/outbox/acknowledgements.hpp>
#include <holdfast/detail/outbox/outbox_queue.hpp>
#include <holdfast/detail/outbox/outbox_waiters.hpp>
#include <holdfast/detail/outbox/outbox_write.hpp>
#include <holdfast/detail/outbox/stream_access.hpp>
#include <holdfast/error.hpp>
#include <holdfast/outbox_options.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/serialize/formatted.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

namespace holdfast {

struct json; // include <holdfast/serialize/json.hpp> to push streamed JSON

/// The part of an `outbox` that does not depend on its stream: pushing, closing, and figures. It is the type of the
/// elements of a list of outboxes of different streams, such as `outbox_group`.
///
/// Lifetime, thread safety and cost: see `outbox`.
class outbox_base {
public:
    outbox_base(const outbox_base&) = delete;
    outbox_base& operator=(const outbox_base&) = delete;

    /// Queues a reference to the message. It is written after the current turn of the event loop, or after
    /// `outbox_options::write_delay`, together with all that is pushed until then. An empty message is ignored. Returns
    /// an error if the message is not queued:
    /// - `errc::outbox_full`: it would exceed the high watermark. `overflow_policy` defines what else happens.
    /// - `errc::exceeds_high_watermark`: it exceeds the high watermark alone; nothing else happens.
    /// - `error()`, when the outbox was closed or has failed.
    /// - `net::error::no_memory`: there is no memory for the queue.
    ///
    /// Lifetime: with `overflow_policy::disconnect` it can end the connection, as its last action; the finalizer may
    /// destroy the outbox.
    /// Cost: O(1); with `overflow_policy::drop_oldest` and a full queue O(queued messages).
    error_code push(const payload& message) noexcept { return push_one(message, nullptr); }

    /// The same for the newest value of a key. Cost: O(queued messages).
    error_code push(const payload& message, conflate key) noexcept { return push_one(message, &key.key); }

    /// Queues a control message, which counts against the reserve instead of the high watermark: a ping, a pong, a
    /// closing message. It never counts as progress. Returns `errc::outbox_full` when other control messages have
    /// used the reserve up, and `errc::exceeds_high_watermark` when it exceeds the reserve alone; nothing else happens
    /// then. Other errors are those of `push`.
    error_code push_control(const payload& message, control_place place = control_place::last) noexcept;

    /// The same, but where the reserve is used up, it replaces the last control messages of the key and the place that
    /// are not being sent, as many as it needs: for pongs, of which the newest must be sent. `errc::outbox_full` where
    /// these are too few. `key` is less than 2^63. Cost: O(queued messages) then.
    error_code push_control(const payload& message, control_place place, conflate key) noexcept;

    /// Queues a control message after all others, whatever the reserve, and accepts no messages any more: a closing
    /// message after which nothing may come. Pending `async_push` operations complete with `errc::outbox_closed`. Call
    /// `async_close` to wait until all is sent. Returns `error()`, or `net::error::no_memory`.
    error_code push_final(const payload& message) noexcept;

    /// Counts for `outbox_options::soft_limit_ticks`, and checks which bytes the peer has acknowledged. For
    /// `soft_limit_ticks` it must be called at regular intervals, such as by a heartbeat timer; otherwise it is
    /// optional. Its last action can be to end the connection.
    ///
    /// It also changes when memory is freed. An outbox for which it is called keeps the block of its writes while
    /// messages come between two calls, so that steady messages allocate nothing; otherwise the block is freed whenever
    /// nothing is queued.
    void tick() noexcept;

    /// Closes the outbox: no message is accepted any more, messages that are not being sent are dropped, and pending
    /// operations complete with `reason`. Of several calls and failures the first one determines `error()`. The
    /// connection is not ended; but if a message was sent in part, the close of the connection resets it.
    void close(error_code reason = errc::outbox_closed) noexcept;

    /// Returns whether messages are accepted.
    [[nodiscard]] bool is_open() const noexcept { return !is_closed_ && !stopped_; }
    /// Returns why messages are not accepted: `errc::outbox_closed`, `errc::outbox_full` after a disconnection, an
    /// error of the stream or of a source, or what `close()` was given; no error while the outbox is open.
    [[nodiscard]] error_code error() const noexcept;

    /// Returns the bytes that count against the high watermark.
    [[nodiscard]] std::size_t queued_bytes() const noexcept { return flight_ ? flight_->queue.bytes() : 0; }
    /// Returns the bytes that count against the reserve.
    [[nodiscard]] std::size_t control_bytes() const noexcept { return flight_ ? flight_->queue.control_bytes() : 0; }
    /// Returns the number of queued messages, control messages and those being sent included.
    [[nodiscard]] std::size_t queued() const noexcept { return flight_ ? flight_->queue.size() : 0; }
    /// Returns the memory of the queue in bytes: 16 for each place; 0 for up to eight messages, and while nothing is
    /// queued, unless `tick()` is called.
    [[nodiscard]] std::size_t queue_memory() const noexcept
    {
        return flight_ ? flight_->queue.allocated() * sizeof(detail::outbox_item) : 0;
    }
    /// Returns the number of messages that `overflow_policy::drop_oldest` has dropped. At most 2^32 - 1.
    [[nodiscard]] std::uint64_t dropped() const noexcept
    {
        return detail::saturated_count(dropped_, flight_ ? flight_->queue.dropped() : 0);
    }
    /// Returns the number of messages that were replaced by newer ones. At most 2^32 - 1.
    [[nodiscard]] std::uint64_t conflated() const noexcept
    {
        return detail::saturated_count(conflated_, flight_ ? flight_->queue.conflated() : 0);
    }

private:
    template <class>
    friend class outbox;
    friend class detail::push_waiter;
    friend class detail::flush_waiter;

    outbox_base(const outbox_options& options, void* connection, const detail::outbox_functions& functions);
    ~outbox_base() = default;

    bool busy() const noexcept { return flight_ != nullptr && flight_->busy; }
    bool waits_for_space() const noexcept;
    error_code push_one(const payload& message, const std::uint64_t* key) noexcept;
    error_code push_item(detail::outbox_item item, bool at_once) noexcept;
    error_code push_control_item(const payload& message, control_place place, const std::uint64_t* key) noexcept;
    error_code after_push(detail::outbox_item item, detail::outbox_queue::outcome result, bool at_once) noexcept;
    bool start_write(bool at_once) noexcept;
    void write_without_delay() noexcept;
    bool end_delay() noexcept;
    void note_sent(std::size_t n) noexcept;
    void note_progress(std::size_t taken) noexcept;
    void resume_waiting() noexcept;
    void stop() noexcept;
    void fail(close_reason reason, const error_code& error) noexcept;

    const detail::outbox_functions* functions_;
    void* connection_;
    detail::outbox_flight_base* flight_ = nullptr; // while busy
    union {                                        // nothing is notified of the progress of a closed outbox
        holdfast::progress progress_;
        error_code closed_;
    };
    std::uint32_t dropped_ = 0; // before the flight, as is `conflated_`
    std::uint32_t conflated_ = 0;
    detail::saturated_size high_watermark_, low_watermark_, soft_watermark_;
    std::uint32_t reserve_bytes_;
    std::uint32_t chunk_bytes_;
    std::uint16_t soft_limit_ticks_;
    std::uint16_t write_delay_; // in milliseconds
    [[no_unique_address]] detail::acknowledgements acknowledged_;
    overflow_policy on_overflow_ : 2;
    bool is_closed_ : 1 = false;
    bool stopped_ : 1 = false; // by async_close
    bool ticks_ : 1 = false;   // `tick()` is called
};

/// A bounded queue of the messages that a connection is to send. Messages are `payload`s, of which the queue holds a
/// reference of 16 bytes, or sources that are serialized when their turn comes. At any time at most one write is
/// pending; it gathers up to 64 messages, and half the high watermark, in one system call.
///
/// The queued bytes never exceed the high watermark. `overflow_policy` defines what happens to a message that would
/// exceed it; with `conflate` only the newest value of a key is queued. Control messages use a reserve of their own.
///
/// If a write or a source fails, the outbox is closed and the connection is reset, for the reason that the error stands
/// for: by `abort()` of a guard, or by closing the socket of a bare stream. The peer sees that a message was sent in
/// part.
///
/// `Stream` is any stream that `async_write_streamed` takes and whose `async_write_some` takes buffer sequences. It
/// is deduced from a stream or a `connection_guard`. Only the outbox may write to the stream while it is busy.
///
/// Lifetime: the stream or the guard must stay at its address, and outlive the outbox. A write that is pending when the
/// outbox is destroyed continues with memory of its own. It also keeps a guard's layered stream (TLS) when the guard is
/// destroyed; a layered stream without a guard must outlive the write: await `async_close` first.
///
/// Thread safety: it belongs to the thread or strand of the stream's executor, on which it writes; the handlers of its
/// operations must run there too. Other threads post to that executor: one message for each thread, which pushes it to
/// its outboxes (see `outbox_group`).
///
/// Cost: `sizeof`, 80 bytes (64-bit), while nothing is queued. Otherwise a block of about 500 bytes on a socket, and of
/// 850 on other streams, with places for eight messages; more places, of 16 bytes, which double; and a chunk while it
/// sends a streamed message. A push allocates nothing else. Messages that the kernel takes at once need no operation of
/// Asio's.
///
///     holdfast::outbox outbox{peer, {.on_overflow = holdfast::overflow_policy::drop_oldest, .progress = heartbeat}};
///     outbox.push(news);
///     outbox.push(quote, holdfast::conflate{instrument});
///     outbox.push_control(pong, holdfast::control_place::next);
///     outbox.push_streamed<holdfast::ndjson>(snapshot);
///     co_await outbox.async_close(); // all is sent
///     co_await peer.async_close();
template <class Stream>
class outbox final : public outbox_base {
public:
    using stream_type = Stream;
    using executor_type = typename Stream::executor_type;

    /// The type of an outbox of a stream with another executor.
    template <class Executor>
    struct rebind_executor {
        using other = outbox<typename Stream::template rebind_executor<Executor>::other>;
    };

    /// Refers to a stream, or to a guard of one. Sets TCP_NOTSENT_LOWAT if the options say so and the socket has it.
    ///
    /// Exceptions: `std::invalid_argument` for an option out of its range.
    /// Cost: allocates nothing.
    template <class To>
        requires(!std::derived_from<To, outbox_base>)
    explicit outbox(To& to, const outbox_options& options = {});

    /// Drops what is queued. Pending operations complete with `errc::outbox_closed`. If a message was sent in part, or
    /// a write is pending, the connection will end by a reset.
    ~outbox();

    [[nodiscard]] executor_type get_executor() const noexcept { return stream().get_executor(); }

    /// Queues the message. With `overflow_policy::wait`, if there is no space, waits for it: operations resume in the
    /// order of their initiation, when the queue has drained to the low watermark.
    ///
    /// Completion: void(error_code), never inside this call; what `push` returns, or what the outbox is closed with
    /// meanwhile.
    /// Cancellation: terminal, partial and total; `operation_aborted`, and the message is not queued.
    /// Exceptions: std::bad_alloc where there is no memory for the operation; the message may be queued all the same.
    /// Cost: while it waits, one block of the handler's allocator, and that of Asio's wait.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_push(payload message, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_push(*this), token, std::move(message),
                                                                      std::optional<conflate>());
    }

    /// The same for the newest value of a key.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_push(payload message, conflate key, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_push(*this), token, std::move(message),
                                                                      std::optional<conflate>(key));
    }

    /// Queues a message that is serialized when its turn comes, one chunk at a time. Against the high watermark it
    /// counts as the size of its serializer and 16 bytes. `source` is what `Format` can serialize, or
    /// `formatted(source, format)`; an lvalue is copied, `std::ref` refers. Returns what `push` returns. If the source
    /// fails, the connection is reset.
    ///
    /// Lifetime: while the source is being read, it must not close, destroy, or push to this outbox.
    ///
    /// Exceptions: what moving the source throws.
    template <class Format = json, class Source>
    error_code push_streamed(Source source, const stream_options& options = {});

    /// Waits until all queued messages are sent, that is, taken by the kernel.
    ///
    /// Completion: void(error_code), never inside this call. Success; `net::error::timed_out` at the deadline; or what
    /// the outbox is closed with, or fails with.
    /// Cancellation: terminal, partial and total; `operation_aborted`.
    /// Exceptions: `std::invalid_argument` for an option out of its range.
    /// Cost: as `async_push`.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_flush(outbox_flush_options options, CompletionToken&& token = CompletionToken())
    {
        return start_flush(options.deadline, false, token);
    }

    /// The same with the default options.
    template <class CompletionToken = default_token_t<executor_type>>
        requires(!std::convertible_to<CompletionToken, outbox_flush_options>) &&
                net::completion_token_for<CompletionToken, void(error_code)>
    auto async_flush(CompletionToken&& token = CompletionToken())
    {
        return start_flush(outbox_flush_options().deadline, false, token);
    }

    /// Accepts no messages any more, and waits until those that are queued are sent. Pending `async_push` operations
    /// complete with `errc::outbox_closed`. At the deadline the connection is reset, for `close_reason::local`.
    ///
    /// Completion: void(error_code), never inside this call. Success: no write is pending on the stream.
    /// `errc::close_incomplete` at the deadline; or what the outbox is closed with, or fails with.
    /// Cancellation: terminal, partial and total; `operation_aborted`. Messages that are queued are still sent.
    /// Exceptions: `std::invalid_argument` for an option out of its range.
    /// Cost: as `async_push`.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_close(outbox_close_options options, CompletionToken&& token = CompletionToken())
    {
        return start_flush(options.deadline, true, token);
    }

    /// The same with the default options.
    template <class CompletionToken = default_token_t<executor_type>>
        requires(!std::convertible_to<CompletionToken, outbox_close_options>) &&
                net::completion_token_for<CompletionToken, void(error_code)>
    auto async_close(CompletionToken&& token = CompletionToken())
    {
        return start_flush(outbox_close_options().deadline, true, token);
    }

private:
    using flight = detail::outbox_flight<outbox>;
    using write_handler = detail::outbox_write_handler<outbox>;
    friend write_handler;
    friend detail::outbox_access;

    class initiate_push;
    class initiate_flush;

    template <class CompletionToken>
    auto start_flush(std::chrono::steady_clock::duration deadline, bool closes, CompletionToken& token);

    Stream& stream() const noexcept { return *static_cast<Stream*>(functions_->stream(connection_)); }
    flight& in_flight() const noexcept { return static_cast<flight&>(*flight_); }

    bool begin() noexcept;
    bool write_later() noexcept;
    void drop_flight() noexcept;
    void write_next(bool at_once) noexcept;
    std::size_t send_now(const detail::outbox_buffers& buffers, error_code& ec) noexcept;
    void write(const detail::outbox_buffers& buffers) noexcept;
    void after_write(const error_code& ec, std::size_t n) noexcept;
    error_code make_chunk() noexcept;
    void give_up(const error_code& ec) noexcept;
    void rest() noexcept;
};

template <class To>
outbox(To&) -> outbox<detail::stream_of_t<To>>;
template <class To>
outbox(To&, const outbox_options&) -> outbox<detail::stream_of_t<To>>;

} // namespace holdfast

#include <holdfast/detail/outbox/outbox_impl.hpp>

#endif
