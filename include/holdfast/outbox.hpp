// holdfast: outbox, a bounded queue of what a connection is to be sent, and what happens when its peer is
// slow.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_OUTBOX_HPP
#define HOLDFAST_OUTBOX_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/outbox/outbox_operations.hpp>
#include <holdfast/detail/outbox/outbox_queue.hpp>
#include <holdfast/detail/outbox/outbox_waiters.hpp>
#include <holdfast/detail/outbox/outbox_write.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/saturated.hpp>
#include <holdfast/error.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/write_streamed.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace holdfast {

/// What an outbox does with a message that would pass its high mark.
enum class overflow_policy : std::uint8_t {
    /// Refuses it, `errc::outbox_full`; `async_push` waits until there is room.
    wait,
    /// Lets the oldest messages go that are not being sent. Where that is not enough it refuses the new one,
    /// and keeps the others.
    drop_oldest,
    /// Ends the connection, once, by a reset, for `close_reason::send_queue_overflow`.
    disconnect,
};

/// Options of an `outbox`.
struct outbox_options {
    /// Never more than this is queued: the bytes of the messages that are not wholly sent, and 16 for each.
    std::size_t high_watermark = 64 * 1024;
    /// Down here those who wait for room are let in again, and storage of the queue that is not needed is
    /// given back. No more than the high mark counts.
    std::size_t low_watermark = 16 * 1024;
    /// Beside the mark, for `push_control`: pongs, closes and farewells pass a full queue.
    std::uint32_t reserve_bytes = 256;
    overflow_policy on_overflow = overflow_policy::disconnect;
    /// More than `soft_watermark` queued at so many calls of `tick()` in a row, and not less in between, ends the
    /// connection, as `disconnect` does. 0: never.
    std::uint16_t soft_limit_ticks = 0;
    std::size_t soft_watermark = 0;
    /// A streamed message is made so many bytes at a time, in a chunk of memory that the queue has while it
    /// sends one, whatever their number.
    std::uint32_t chunk_bytes = 16 * 1024;
    /// TCP_NOTSENT_LOWAT of the socket: the kernel takes no more while it has so many bytes that it has not
    /// sent. What waits here can still be replaced or dropped, what waits there cannot. 0 leaves it alone.
    int notsent_lowat_bytes = 0;
    /// Is notified of what the peer has received: see `holdfast::progress`.
    holdfast::progress progress{};
};
static_assert(std::is_trivially_destructible_v<outbox_options>);

/// The most that an outbox of these options may take in the process while messages have at least so many
/// bytes, if no other queue shares them: what the marks count, the blocks of the messages, the places (whose
/// number doubles), what it holds while it writes, and a chunk, if `chunk_bytes` is not 0. For
/// `connection_cost::queue_bytes`.
constexpr std::size_t worst_case_bytes(const outbox_options& options,
                                       std::size_t smallest_message = 1) noexcept
{
    using detail::saturated_product;
    using detail::saturated_sum;
    constexpr std::size_t place = sizeof(detail::outbox_item);
    constexpr std::size_t block = sizeof(detail::payload_block) + 16; // malloc's own part
    constexpr std::size_t flight = 640;
    const std::uint64_t counted = saturated_sum(options.high_watermark, options.reserve_bytes);
    const std::uint64_t messages =
        counted / saturated_sum(std::max<std::size_t>(smallest_message, 1), place) + 8;
    const std::uint64_t places = saturated_product(std::bit_ceil(messages), place);
    const std::uint64_t chunk = options.chunk_bytes == 0 ? 0 // as pools lend it
                                                         : std::bit_ceil(std::max<std::uint64_t>(options.chunk_bytes, 512));
    std::uint64_t sum = 0;
    for (const std::uint64_t part :
         {counted, saturated_product(messages, block), places, places / 2, std::uint64_t{flight}, chunk})
        sum = saturated_sum(sum, part);
    return static_cast<std::size_t>(std::min<std::uint64_t>(sum, std::numeric_limits<std::size_t>::max()));
}

/// Says that a message is the newest value of this key: it takes the place of an older one that is not being
/// sent yet. (Where it is larger and does not fit, the older one stays.)
struct conflate {
    std::uint64_t key;
};

/// Where in the queue a control message goes.
enum class control_place : std::uint8_t {
    /// Behind all that is queued: farewells.
    last,
    /// Ahead of all but what is being sent: pongs. Where a long streamed message is being sent, it passes
    /// that one only where it interleaves.
    next,
};

/// Options of `push_streamed`.
struct stream_options {
    /// After each chunk the messages queued behind it get their turn. The peer must be able to tell them
    /// apart: each chunk has to be a frame of its own.
    bool interleave = false;
};

/// What the outboxes of all streams have in common: pushing. See `outbox`.
class outbox_base {
public:
    outbox_base(const outbox_base&) = delete;
    outbox_base& operator=(const outbox_base&) = delete;

    /// Queues a reference to the message, or says why not:
    /// - `errc::outbox_full`: it would pass the high mark. `overflow_policy` says what else happens.
    /// - `errc::exceeds_mark`: alone it would; nothing else happens.
    /// - what the outbox was closed with, or failed with: `errc::outbox_closed`, `errc::outbox_full` after a
    ///   disconnection, the stream's error.
    /// - `net::error::no_memory`: there is none for the queue.
    ///
    /// An empty message is nothing. It is written once this turn of the loop is over, with all that is pushed
    /// until then. O(1); with `drop_oldest` and a full queue O(queued). Where `disconnect` ends the
    /// connection, that is the last thing it does: the finalizer may destroy the outbox.
    error_code push(const payload& message) noexcept { return push_one(message, nullptr); }

    /// The same for the newest value of a key. O(queued).
    error_code push(const payload& message, conflate key) noexcept { return push_one(message, &key.key); }

    /// Queues a message that must get through even where the queue is full, against the reserve only:
    /// `errc::outbox_full` where other control messages have used that up; nothing else happens then.
    error_code push_control(const payload& message, control_place place = control_place::last) noexcept
    {
        if (const error_code why = closed_for()) return why;
        if (message.empty()) return {};
        const detail::outbox_item item(message);
        return queued(item, queue_.push_control(item, place == control_place::next));
    }

    /// A time has passed, whose length is the user's: see `outbox_options::soft_limit_ticks`. Where it ends the
    /// connection, that is the last thing it does.
    void tick() noexcept
    {
        if (soft_ticks_ == 0 || closed_) return;
        if (queue_.bytes() <= soft_bytes_)
            ticks_above_ = 0;
        else if (++ticks_above_ >= soft_ticks_)
            fail(close_reason::send_queue_overflow, errc::outbox_full);
    }

    /// Takes no messages any more, and drops those that are not being sent; who waits gets `reason`. Of
    /// several calls, or failures, the first one's counts. The connection stays as it is, but where a message
    /// was sent in part it will end by a reset.
    void close(error_code reason = errc::outbox_closed) noexcept
    {
        if (closed_) return;
        closed_ = reason ? reason : error_code(errc::outbox_closed);
        if (queue_.half_sent()) reset_at_close();
        queue_.clear();
        waiting_.wake_all(closed_);
    }

    /// Whether it takes messages.
    [[nodiscard]] bool is_open() const noexcept { return !closed_for(); }
    /// Why it does not any more.
    [[nodiscard]] error_code error() const noexcept { return closed_for(); }

    /// What counts against the high mark: at most that.
    [[nodiscard]] std::size_t queued_bytes() const noexcept { return queue_.bytes(); }
    /// What counts against the reserve.
    [[nodiscard]] std::size_t control_bytes() const noexcept { return queue_.control_bytes(); }
    /// How many messages are queued, control messages and those being sent included.
    [[nodiscard]] std::size_t queued() const noexcept { return queue_.size(); }
    /// The memory of the queue itself: 16 bytes for each place; none while nothing is queued.
    [[nodiscard]] std::size_t queue_memory() const noexcept
    {
        return queue_.capacity() * sizeof(detail::outbox_item);
    }
    /// How many messages were dropped by `overflow_policy::drop_oldest`.
    [[nodiscard]] std::uint64_t dropped() const noexcept { return queue_.dropped(); }
    /// How many were replaced by newer ones.
    [[nodiscard]] std::uint64_t conflated() const noexcept { return queue_.conflated(); }

protected:
    explicit outbox_base(const outbox_options& options) noexcept
        : queue_(
              {options.high_watermark, std::min(options.low_watermark, options.high_watermark), options.reserve_bytes}),
          progress_(options.progress),
          soft_bytes_(options.soft_watermark),
          chunk_bytes_(std::max<std::uint32_t>(options.chunk_bytes, 1)),
          soft_ticks_(options.soft_limit_ticks),
          on_overflow_(options.on_overflow)
    {
    }
    ~outbox_base() = default;

    /// Begins to write, once this turn of the loop is over; false where there is no memory for that.
    virtual bool begin() noexcept = 0;
    /// The connection must end by a reset.
    virtual void reset_at_close() noexcept = 0;
    /// Ends the connection. The last step: it may destroy the outbox.
    virtual void end(close_reason reason, const error_code& error) noexcept = 0;

    error_code closed_for() const noexcept
    {
        return closed_ ? closed_ : stopped_ ? error_code(errc::outbox_closed) : error_code();
    }

    /// Whether who finds no room waits for it.
    bool waits() const noexcept { return on_overflow_ == overflow_policy::wait && is_open(); }

    error_code push_one(const payload& message, const std::uint64_t* key) noexcept
    {
        if (const error_code why = closed_for()) return why;
        if (message.empty()) return {};
        return push_item(key != nullptr ? detail::outbox_item(message, *key) : detail::outbox_item(message));
    }

    error_code push_item(const detail::outbox_item& item) noexcept
    {
        auto result = detail::outbox_queue::outcome::full;
        if (waiting_.first() == nullptr || item.cost() > queue_.limits().high) // else it would pass them
            result = queue_.push(item, on_overflow_ == overflow_policy::drop_oldest);
        const bool overflow =
            result == detail::outbox_queue::outcome::full && on_overflow_ == overflow_policy::disconnect;
        const error_code ec = queued(item, result);
        if (overflow) fail(close_reason::send_queue_overflow, ec);
        return ec;
    }

    /// What has become of a message that was to be queued.
    error_code queued(detail::outbox_item item, detail::outbox_queue::outcome result) noexcept
    {
        using outcome = detail::outbox_queue::outcome;
        if (result == outcome::queued) {
            if (busy_) return {};
            busy_ = begin();
            if (busy_) return {};
            queue_.clear(); // it is alone there
            return net::error::no_memory;
        }
        item.release();
        if (result == outcome::full) return errc::outbox_full;
        if (result == outcome::too_large) return errc::exceeds_mark;
        return net::error::no_memory;
    }

    /// So many bytes are sent.
    void note_sent(std::size_t n) noexcept
    {
        if (n != 0) progress_(n);
        queue_.sent(n);
        if (queue_.bytes() <= soft_bytes_) ticks_above_ = 0;
    }

    /// Lets those who wait push, in the order in which they came, once the queue is down at the low mark.
    void let_in() noexcept
    {
        if (queue_.bytes() > queue_.limits().low) return;
        while (detail::outbox_waiter* const first = waiting_.first()) {
            if (!queue_.fits(first->item.cost())) return;
            first->has_item = false;
            waiting_.wake_first(queued(first->item, queue_.push(first->item, false)));
        }
    }

    /// Ends queue and connection, while a write is pending or not.
    void fail(close_reason reason, const error_code& error) noexcept
    {
        close(error);
        end(reason, error);
    }

    detail::outbox_queue queue_;
    detail::outbox_waiters waiting_;  // for room
    detail::outbox_waiters flushing_; // until no write is pending
    error_code closed_;
    holdfast::progress progress_;
    std::size_t soft_bytes_;
    std::uint32_t chunk_bytes_;
    std::uint16_t soft_ticks_;
    std::uint16_t ticks_above_ = 0;
    overflow_policy on_overflow_;
    bool stopped_ = false; // async_close was called
    bool busy_ = false;    // a write is pending, or about to begin
};

/// A bounded queue of what a connection is to be sent. Messages are `payload`s, made once and queued to any
/// number of outboxes as a reference of 16 bytes, or sources that are serialized when their turn comes. One
/// write is pending at any time, of all that is queued (up to 64 messages, and half the mark) in one system
/// call.
///
/// What is queued never passes the high mark: a message that would is refused before. What else happens then
/// `overflow_policy` says, in the options; `conflate` keeps only the newest value of a key. A small reserve
/// beside the mark takes control messages through a full queue.
///
/// While nothing is queued it holds no memory but itself (`sizeof`, 248 bytes); while something is, a block
/// of some 550 bytes, the places of the queue, and a chunk while it sends a streamed message. Where these
/// exist a push allocates nothing.
///
/// A failed write, or a source that fails, closes it and ends the connection, for the reason that the error
/// stands for: by the guard's `abort()`, or by closing the socket of a bare stream. It ends by a reset, since
/// a message was sent in part.
///
/// `Stream` is any that `async_write_streamed` takes, whose `async_write_some` takes buffer sequences. It is
/// deduced from the stream or the guard, which must stay at its address and outlive the outbox; no one else
/// writes to it while the outbox is busy. A write that is pending when the outbox is destroyed goes on with
/// its own memory; a layered stream (TLS) that is to be destroyed then must be waited for by `async_flush` or
/// `async_close` first.
///
/// Thread safety: it belongs to the thread or strand of the stream's executor, on which it writes. Others
/// post there: one message to each thread, which pushes it to its outboxes (see `outbox_group`).
///
///     holdfast::outbox box{peer, {.on_overflow = holdfast::overflow_policy::drop_oldest, .progress = beat}};
///     box.push(news);
///     box.push(quote, holdfast::conflate{instrument});
///     box.push_control(pong, holdfast::control_place::next);
///     box.push_streamed<holdfast::ndjson>(snapshot);
///     co_await box.async_close(); // all is sent
///     co_await peer.async_close();
template <class Stream>
class outbox final : public outbox_base {
public:
    using stream_type = Stream;
    using executor_type = typename Stream::executor_type;

    /// Refers to a stream, or to a guard or an acceptor's connection. Sets the socket's option if one was
    /// asked for (where it has none such, nothing happens). Allocates nothing.
    template <class To>
        requires(!std::derived_from<To, outbox_base>)
    explicit outbox(To& to, const outbox_options& options = {}) noexcept
        : outbox_base(options),
          stream_(&detail::stream_of(to)),
          connection_(std::addressof(to)),
          end_([](void* object, close_reason reason, const error_code& error) noexcept {
              end_of(*static_cast<To*>(object), reason, error);
          })
    {
        if (options.notsent_lowat_bytes > 0) set_notsent_lowat(options.notsent_lowat_bytes);
    }

    /// Drops what is queued; who waits, for room or until all is sent, gets `errc::outbox_closed`. Where a
    /// message was sent in part, or may be by the write that is pending, the connection will end by a reset.
    ~outbox()
    {
        close();
        flushing_.wake_all(closed_);
        if (flight_ == nullptr) return;
        if (queue_.writes_payloads()) reset_at_close();
        flight_->owner = nullptr;
        if (flight_->pending)
            flight_->kept.emplace(queue_.take_ring());
        else
            delete flight_;
    }

    executor_type get_executor() const noexcept { return stream_->get_executor(); }

    /// Queues the message, and where the policy is `overflow_policy::wait` and there is no room, waits for it,
    /// first come, first served, until the queue is down at the low mark.
    ///
    /// Completion: void(error_code), on the handler's executor, never inside this call: what `push` returns,
    /// and what the outbox is closed with meanwhile. That must be on the outbox's thread or strand.
    /// Cancellation: terminal, partial and total; `operation_aborted`, and the message is not queued.
    /// Cost: where it waits, one block from the handler's allocator, beside that of Asio's wait.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_push(payload message, CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code)>(
            push_op(this, std::move(message), std::nullopt), token, *stream_);
    }

    /// The same for the newest value of a key.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_push(payload message, conflate key, CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code)>(
            push_op(this, std::move(message), key.key), token, *stream_);
    }

    /// Queues a message that is serialized when its turn comes, one chunk at a time; it counts as the size of
    /// its serializer, and 16. `source` is what `streaming_serializer` takes; an lvalue is copied, `std::ref`
    /// refers. Returns what `push` returns; exceptions: what moving the source throws.
    ///
    /// Where it fails, the connection ends (see above).
    template <class Format = json, class Source>
    error_code push_streamed(Source source, const stream_options& options = {}, Format format = {})
    {
        return push_made<streaming_serializer<Format, Source>>(options, std::move(source), format);
    }

    /// The same for a `Serializer` of the user's own, made in its place: it has `next(chunk, ec)` and
    /// `done()` as `streaming_serializer` has. Each chunk that it returns is written as it is.
    template <class Serializer, class... Args>
    error_code push_made(const stream_options& options, Args&&... args)
    {
        if (const error_code why = closed_for()) return why;
        std::unique_ptr<detail::streamed_source> made(new (std::nothrow) detail::queued_stream<Serializer>(
            options.interleave, std::forward<Args>(args)...));
        if (!made) return net::error::no_memory;
        return push_item(detail::outbox_item(std::move(made)));
    }

    /// Waits until all that is queued is sent (taken by the kernel, that is).
    ///
    /// Completion: void(error_code), on the handler's executor, never inside this call: success, or what the
    /// outbox is closed with, or fails with.
    /// Cancellation: terminal, partial and total; `operation_aborted`. Cost: as `async_push`.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_flush(CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code)>(flush_op(this, false), token, *stream_);
    }

    /// Takes no messages any more, and waits until those that are queued are sent; who waits for room gets
    /// `errc::outbox_closed`. No write is pending on the stream when it completes; else as `async_flush`.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_close(CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code)>(flush_op(this, true), token, *stream_);
    }

private:
    using flight = detail::outbox_flight<outbox>;
    using op = detail::outbox_op<outbox>;
    using push_op = detail::outbox_push_op<outbox>;
    using flush_op = detail::outbox_flush_op<outbox>;
    friend op;
    friend push_op;
    friend flush_op;

    template <class To>
    static void end_of(To& to, close_reason reason, const error_code& error) noexcept
    {
        if constexpr (requires { to.abort(reason, error); }) {
            to.abort(reason, error);
        } else if constexpr (requires(error_code ec) { detail::lowest_layer(to).close(ec); }) {
            error_code ignored;
            detail::reset_at_close(to);
            detail::lowest_layer(to).close(ignored);
        }
    }

    void set_notsent_lowat(int bytes) noexcept
    {
        if constexpr (requires {
                          { detail::lowest_layer(*stream_).native_handle() } -> std::convertible_to<int>;
                      })
            ::setsockopt(detail::lowest_layer(*stream_).native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                         &bytes, sizeof bytes);
    }

    bool begin() noexcept override
    {
        flight_ = new (std::nothrow) flight(*this);
        if (flight_ == nullptr) return false;
        try {
            net::post(stream_->get_executor(), op(*flight_));
            return true;
        } catch (const std::exception&) {
            delete std::exchange(flight_, nullptr);
            return false;
        }
    }

    void reset_at_close() noexcept override { detail::reset_at_close(*stream_); }

    void end(close_reason reason, const error_code& error) noexcept override
    {
        end_(connection_, reason, error);
    }

    void write_next() noexcept
    {
        using turn = detail::outbox_queue::turn;
        for (;;) {
            switch (closed_ ? turn::idle : queue_.next_turn()) {
            case turn::idle:
                return rest();
            case turn::payloads:
                flight_->chunk = {};
                return write(detail::outbox_buffers(queue_.begin_payloads()));
            case turn::chunk:
                return write(detail::outbox_buffers(queue_.begin_chunk()));
            case turn::next_chunk:
                if (const error_code ec = make_chunk()) return give_up(ec);
                break;
            }
        }
    }

    error_code make_chunk() noexcept
    {
        try {
            if (!flight_->chunk) {
                flight_->chunk = shared_buffer_pool::of(stream_->get_executor()).try_borrow(chunk_bytes_);
                if (!flight_->chunk) return net::error::no_memory;
            }
            std::error_code ec;
            queue_.make_chunk({flight_->chunk.data(), chunk_bytes_}, ec);
            return ec;
        } catch (const std::bad_alloc&) {
            return net::error::no_memory;
        } catch (...) {
            return errc::source_failed;
        }
    }

    void write(const detail::outbox_buffers& buffers) noexcept
    {
        try {
            stream_->async_write_some(buffers, op(*flight_));
        } catch (const std::exception&) {
            note_sent(0);
            give_up(net::error::no_memory);
        }
    }

    void written(const error_code& ec, std::size_t n) noexcept
    {
        note_sent(n);
        if (closed_) {
            if (queue_.half_sent()) reset_at_close();
            return rest();
        }
        if (ec) return give_up(ec);
        let_in();
        write_next();
    }

    /// Ends queue and connection; no write is pending.
    void give_up(const error_code& ec) noexcept
    {
        close(ec);
        rest();
        end(reason_of(ec), ec);
    }

    /// No write is pending, and none will be for now.
    void rest() noexcept
    {
        if (closed_) queue_.clear();
        delete std::exchange(flight_, nullptr);
        busy_ = false;
        flushing_.wake_all(closed_);
    }

    Stream* stream_;
    void* connection_;
    void (*end_)(void*, close_reason, const error_code&) noexcept;
    flight* flight_ = nullptr; // while busy
};

template <class To>
outbox(To&) -> outbox<std::remove_reference_t<decltype(detail::stream_of(std::declval<To&>()))>>;
template <class To>
outbox(To&, const outbox_options&)
    -> outbox<std::remove_reference_t<decltype(detail::stream_of(std::declval<To&>()))>>;

} // namespace holdfast

#endif
