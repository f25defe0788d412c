// holdfast: the members of outbox_base and outbox.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_IMPL_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_IMPL_HPP

#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/async/waiter.hpp>
#include <holdfast/detail/outbox/write_some.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace holdfast {

inline outbox_base::outbox_base(const outbox_options& options, void* connection,
                                const detail::outbox_functions& functions)
    : functions_(&functions),
      connection_(connection),
      progress_(options.progress),
      high_watermark_(options.high_watermark),
      low_watermark_(std::min(options.low_watermark, options.high_watermark)),
      soft_watermark_(options.soft_watermark),
      reserve_bytes_(options.reserve_bytes),
      chunk_bytes_(options.chunk_bytes),
      soft_limit_ticks_(options.soft_limit_ticks),
      write_delay_(static_cast<std::uint16_t>(options.write_delay.count())),
      on_overflow_(options.on_overflow)
{
    detail::check(options);
}

inline error_code outbox_base::push_control(const payload& message, control_place place) noexcept
{
    return push_control_item(message, place, nullptr);
}

inline error_code outbox_base::push_control(const payload& message, control_place place, conflate key) noexcept
{
    return push_control_item(message, place, &key.key);
}

inline error_code outbox_base::push_control_item(const payload& message, control_place place,
                                                 const std::uint64_t* key) noexcept
{
    if (!is_open()) return error();
    if (message.empty()) return {};
    if (flight_ == nullptr && !functions_->begin(*this)) return net::error::no_memory;
    const detail::outbox_item item(message);
    return after_push(item, flight_->queue.push_control(item, place == control_place::next, key), true);
}

inline error_code outbox_base::push_final(const payload& message) noexcept
{
    if (!is_open()) return error();
    error_code result;
    if (!message.empty()) {
        if (flight_ == nullptr && !functions_->begin(*this)) {
            result = net::error::no_memory;
        } else {
            const detail::outbox_item item(message);
            result = after_push(item, flight_->queue.push_final(item), true);
        }
    }
    stop();
    return result;
}

inline void outbox_base::tick() noexcept
{
    if (is_closed_) return;
    ticks_ = true;
    if (acknowledged_.in_flight()) note_progress(0);
    if (flight_ == nullptr) return;
    flight_->queue.keep_memory(true);
    if (!std::exchange(flight_->used, false) && !flight_->busy) return functions_->drop_flight(*this);
    flight_->queue.give_back();
    if (soft_limit_ticks_ == 0) return;
    if (flight_->queue.bytes() <= soft_watermark_)
        flight_->ticks_above = 0;
    else if (++flight_->ticks_above >= soft_limit_ticks_)
        fail(close_reason::send_queue_overflow, errc::outbox_full);
}

inline void outbox_base::close(error_code reason) noexcept
{
    if (is_closed_) return;
    is_closed_ = true;
    ::new (static_cast<void*>(&closed_)) error_code(reason ? reason : error_code(errc::outbox_closed));
    if (flight_ == nullptr) return;
    if (flight_->queue.sent_in_part()) functions_->reset_at_close(connection_);
    flight_->queue.clear();
    while (!flight_->waiting.empty())
        flight_->waiting.front().complete(closed_, false);
    if (!flight_->busy) functions_->drop_flight(*this);
}

inline error_code outbox_base::error() const noexcept
{
    return is_closed_ ? closed_ : stopped_ ? error_code(errc::outbox_closed) : error_code();
}

inline bool outbox_base::waits_for_space() const noexcept { return on_overflow_ == overflow_policy::wait && is_open(); }

inline error_code outbox_base::push_one(const payload& message, const std::uint64_t* key) noexcept
{
    if (!is_open()) return error();
    if (message.empty()) return {};
    return push_item(key != nullptr ? detail::outbox_item(message, *key) : detail::outbox_item(message), false);
}

inline error_code outbox_base::push_item(detail::outbox_item item, bool at_once) noexcept
{
    if (flight_ == nullptr && !functions_->begin(*this)) {
        item.release();
        return net::error::no_memory;
    }
    detail::outbox_queue& queue = flight_->queue;
    auto result = detail::outbox_queue::outcome::full;
    if (flight_->waiting.empty() || item.cost() > high_watermark_) // else it would overtake those that wait
        result = queue.push(item, on_overflow_ == overflow_policy::drop_oldest);
    const bool overflow = result == detail::outbox_queue::outcome::full && on_overflow_ == overflow_policy::disconnect;
    const error_code ec = after_push(item, result, at_once);
    if (overflow) fail(close_reason::send_queue_overflow, ec);
    return ec;
}

inline error_code outbox_base::after_push(detail::outbox_item item, detail::outbox_queue::outcome result,
                                          bool at_once) noexcept
{
    using outcome = detail::outbox_queue::outcome;
    if (result == outcome::queued) {
        if (start_write(at_once)) return {};
        flight_->queue.clear(); // it is alone there
        functions_->drop_flight(*this);
        return net::error::no_memory;
    }
    item.release();
    if (!flight_->busy && !ticks_) functions_->drop_flight(*this);
    if (result == outcome::full) return errc::outbox_full;
    if (result == outcome::too_large) return errc::exceeds_high_watermark;
    return net::error::no_memory;
}

/// After a message was queued. Returns false if no write is pending, and none can begin. The last action can be to end
/// the connection.
inline bool outbox_base::start_write(bool at_once) noexcept
{
    detail::outbox_flight_base& flight = *flight_;
    flight.used = true;
    if (flight.busy) {
        if (flight.delayed && (at_once || flight.queue.fills_a_write())) write_without_delay();
        return true;
    }
    flight.busy = true;
    if (write_delay_ != 0 && !at_once && !flight.queue.fills_a_write() && flight.delay->add(flight)) {
        flight.delayed = true;
        return true;
    }
    flight.busy = functions_->write_later(*this);
    return flight.busy;
}

/// Writes what waits for more messages after the current turn of the event loop. The last action can be to end the
/// connection.
inline void outbox_base::write_without_delay() noexcept
{
    if (!end_delay() || functions_->write_later(*this)) return;
    flight_->delayed = flight_->delay->add(*flight_);
    if (!flight_->delayed) fail(close_reason::out_of_memory, net::error::no_memory);
}

/// Returns whether a write was waiting, which now is neither posted nor about to be.
inline bool outbox_base::end_delay() noexcept
{
    return std::exchange(flight_->delayed, false) && flight_->delay->remove(*flight_);
}

inline void outbox_base::note_sent(std::size_t n) noexcept
{
    detail::outbox_queue& queue = flight_->queue;
    const bool counts = queue.writes_messages() || acknowledged_.in_flight();
    const std::size_t before = queue.size();
    queue.sent(n);
    if (n != 0) detail::outbox_tally::own().note_write(before - queue.size(), n);
    if (is_closed_) return;
    if (progress_ && counts) note_progress(n);
    if (queue.bytes() <= soft_watermark_) flight_->ticks_above = 0;
}

inline void outbox_base::note_progress(std::size_t taken) noexcept
{
    const bool sent_in_part = flight_ != nullptr && flight_->queue.sent_in_part();
    const std::size_t bytes = acknowledged_.observe(functions_->descriptor(connection_), taken, sent_in_part);
    if (bytes != 0) progress_(bytes);
}

/// Once the queue is down at the low watermark.
inline void outbox_base::resume_waiting() noexcept
{
    detail::outbox_flight_base& flight = *flight_;
    if (flight.queue.bytes() > low_watermark_) return;
    while (!flight.waiting.empty()) {
        detail::push_waiter& first = flight.waiting.front();
        const detail::outbox_item item = first.item();
        if (!flight.queue.fits(item.cost())) return;
        const auto result = flight.queue.push(item, false);
        first.complete(after_push(item, result, false), true);
    }
}

inline void outbox_base::stop() noexcept
{
    stopped_ = true;
    if (flight_ == nullptr) return;
    while (!flight_->waiting.empty())
        flight_->waiting.front().complete(errc::outbox_closed, false);
}

/// Ends the queue and the connection, whether a write is pending or not.
inline void outbox_base::fail(close_reason reason, const error_code& error) noexcept
{
    close(error);
    functions_->end(connection_, reason, error); // the last action: the finalizer may destroy the outbox
}

namespace detail {

inline void push_waiter::leave() noexcept
{
    if (!linked()) return;
    unlink();
    outbox_->resume_waiting(); // the next one may fit
}

inline void flush_waiter::leave() noexcept
{
    if (!linked()) return;
    unlink();
    if (deadline_ == time_point::max() || std::chrono::steady_clock::now() < deadline_) return;
    result_ = closes_ ? error_code(errc::close_incomplete) : error_code(net::error::timed_out);
    if (closes_ && !outbox_->is_closed_) outbox_->fail(close_reason::local, result_);
}

} // namespace detail

template <class Stream>
template <class To>
    requires(!std::derived_from<To, outbox_base>)
outbox<Stream>::outbox(To& to, const outbox_options& options)
    : outbox_base(options, std::addressof(to), detail::outbox_functions_of<outbox, To>)
{
    const int bytes = options.notsent_lowat_bytes;
    if (bytes > 0) ::setsockopt(detail::descriptor_of(stream()), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
    if (options.write_delay.count() != 0) detail::write_delays::of(get_executor(), options.write_delay);
}

template <class Stream>
outbox<Stream>::~outbox()
{
    close();
    if (flight_ == nullptr) return;
    while (!flight_->flushing.empty())
        flight_->flushing.front().complete(closed_);
    if (flight_->queue.writes_payloads()) functions_->reset_at_close(connection_);
    end_delay(); // before another thread posts the write
    if (flight_->pending) functions_->keep(connection_, in_flight().kept_stream);
    drop_flight();
}

/// The initiation of async_push.
template <class Stream>
class outbox<Stream>::initiate_push {
public:
    using executor_type = typename outbox::executor_type;

    explicit initiate_push(outbox& of) noexcept : outbox_(&of) {}

    executor_type get_executor() const noexcept { return outbox_->get_executor(); }

    template <class Handler>
    void operator()(Handler&& handler, const payload& message, const std::optional<conflate>& key) const
    {
        std::decay_t<Handler> own(std::forward<Handler>(handler));
        const net::any_io_executor executor(get_executor());
        const bool waits = outbox_->waits_for_space();
        const std::uint64_t* const k = key ? &key->key : nullptr;
        const error_code result = outbox_->push_one(message, k); // where it does not wait, it can end the outbox
        if (!waits || result != errc::outbox_full) return detail::complete_at_once(executor, std::move(own), result);
        const auto waiting = detail::begin_wait<detail::push_waiter>(executor, std::move(own), *outbox_, message, k);
        outbox_->flight_->waiting.push_back(*waiting); // what is full is busy
    }

private:
    outbox* outbox_;
};

/// The initiation of async_flush and async_close.
template <class Stream>
class outbox<Stream>::initiate_flush {
public:
    using executor_type = typename outbox::executor_type;

    explicit initiate_flush(outbox& of) noexcept : outbox_(&of) {}

    executor_type get_executor() const noexcept { return outbox_->get_executor(); }

    template <class Handler>
    void operator()(Handler&& handler, std::chrono::steady_clock::duration deadline, bool closes) const
    {
        using clock = std::chrono::steady_clock;
        std::decay_t<Handler> own(std::forward<Handler>(handler));
        const net::any_io_executor executor(get_executor());
        if (closes) outbox_->stop();
        if (!outbox_->busy())
            return detail::complete_at_once(executor, std::move(own),
                                            outbox_->is_closed_ ? outbox_->closed_ : error_code());
        auto until = clock::time_point::max();
        if (deadline != clock::duration::max())
            if (const auto now = clock::now(); deadline < until - now) until = now + deadline;
        const auto waiting =
            detail::begin_wait<detail::flush_waiter>(executor, std::move(own), *outbox_, until, closes);
        outbox_->flight_->flushing.push_back(*waiting);
        outbox_->write_without_delay();
    }

private:
    outbox* outbox_;
};

template <class Stream>
template <class CompletionToken>
auto outbox<Stream>::start_flush(std::chrono::steady_clock::duration deadline, bool closes, CompletionToken& token)
{
    if (deadline < std::chrono::steady_clock::duration::zero())
        throw std::invalid_argument(closes ? "outbox_close_options::deadline must not be negative"
                                           : "outbox_flush_options::deadline must not be negative");
    return net::async_initiate<CompletionToken, void(error_code)>(initiate_flush(*this), token, deadline, closes);
}

template <class Stream>
template <class Format, class Source>
error_code outbox<Stream>::push_streamed(Source source, const stream_options& options)
{
    if (!is_open()) return error();
    std::unique_ptr<detail::streamed_source> made =
        detail::with_format<Format>(std::move(source), [&](auto&& of, auto format) {
            using queued = detail::queued_stream<decltype(format), std::decay_t<decltype(of)>>;
            return std::unique_ptr<detail::streamed_source>(new (std::nothrow) queued(
                options.interleave, options.interleave_control, std::forward<decltype(of)>(of), std::move(format)));
        });
    if (!made) return net::error::no_memory;
    return push_item(detail::outbox_item(std::move(made)), true);
}

/// Makes the flight; false where there is no memory.
template <class Stream>
bool outbox<Stream>::begin() noexcept
{
    const detail::outbox_queue::marks marks{high_watermark_, low_watermark_, reserve_bytes_};
    flight* const made = new (std::nothrow) flight(*this, stream(), marks);
    if (made == nullptr) return false;
    if (write_delay_ != 0) {
        made->delay = &detail::write_delays::of(get_executor(), std::chrono::milliseconds(write_delay_)); // exists
        made->post = [](detail::delayed_write& write) noexcept { return static_cast<flight&>(write).post_write(); };
    }
    made->queue.keep_memory(ticks_);
    flight_ = made;
    return true;
}

/// Writes after the current turn of the event loop. Returns false where there is no memory.
template <class Stream>
bool outbox<Stream>::write_later() noexcept
{
    return in_flight().post_write();
}

/// Writes until the queue is empty or the stream does not take all. The last action can be to destroy the outbox.
template <class Stream>
void outbox<Stream>::write_next(bool at_once) noexcept
{
    using turn = detail::outbox_queue::turn;
    detail::outbox_queue& queue = flight_->queue;
    flight_->delayed = false;
    for (unsigned sends = 0;;) {
        const turn next = is_closed_ ? turn::idle : queue.next_turn();
        if (next == turn::idle) return rest();
        if (const error_code failure = flight_->failure) return give_up(failure);
        if constexpr (!detail::operations_outlive<Stream>)
            if (functions_->has_ended(connection_)) return give_up(net::error::bad_descriptor);
        if (next == turn::next_chunk) {
            if (const error_code ec = make_chunk()) return give_up(ec);
            continue;
        }
        if (next == turn::payloads && in_flight().chunk) in_flight().chunk = {};
        const auto begin_write = [&] {
            return next == turn::payloads ? detail::outbox_buffers(queue.begin_payloads())
                                          : detail::outbox_buffers(queue.begin_chunk());
        };
        // Most messages fit into the socket's buffer: then Asio's operation, and the turn of the event loop in which it
        // completes, are not needed. At most four, so that a long message leaves the thread to others.
        if (at_once && sends == 4) {
            if (!write_later()) give_up(net::error::no_memory);
            return;
        }
        if (!detail::is_stream_socket<Stream> || !at_once) return write(begin_write());
        error_code ec;
        const std::size_t n = send_now(begin_write(), ec);
        if (ec == net::error::would_block) {
            at_once = false;
            continue;
        }
        ++sends;
        note_sent(n);
        if (ec) { // in the next turn, after a reader that knows why: giving up aborts it
            flight_->failure = ec;
            if (!write_later()) give_up(ec);
            return;
        }
        if (!flight_->waiting.empty()) resume_waiting();
        at_once = !queue.cut_short();
    }
}

/// Sends without waiting. Precondition: the stream is a socket.
template <class Stream>
std::size_t outbox<Stream>::send_now(const detail::outbox_buffers& buffers, error_code& ec) noexcept
{
    if constexpr (detail::is_stream_socket<Stream>)
        return detail::send_now(in_flight().stream->native_handle(), buffers, ec);
    static_cast<void>(buffers);
    ec = net::error::operation_not_supported;
    return 0;
}

template <class Stream>
void outbox<Stream>::write(const detail::outbox_buffers& buffers) noexcept
{
    try {
        detail::write_some(*in_flight().stream, buffers, write_handler(in_flight()));
    } catch (const std::exception&) {
        note_sent(0);
        give_up(net::error::no_memory);
    }
}

template <class Stream>
void outbox<Stream>::after_write(const error_code& ec, std::size_t n) noexcept
{
    note_sent(n);
    if (is_closed_) {
        if (flight_->queue.sent_in_part()) functions_->reset_at_close(connection_);
        return rest();
    }
    if (ec) return give_up(ec);
    resume_waiting();
    write_next(!flight_->queue.cut_short());
}

template <class Stream>
error_code outbox<Stream>::make_chunk() noexcept
{
    try {
        shared_buffer_loan& chunk = in_flight().chunk;
        if (!chunk) {
            chunk = shared_buffer_pool::of(get_executor()).try_borrow(chunk_bytes_);
            if (!chunk) return net::error::no_memory;
        }
        std::error_code ec;
        flight_->queue.make_chunk({chunk.data(), chunk_bytes_}, ec);
        if (!ec) resume_waiting(); // it may have been an empty message
        return ec;
    } catch (const std::bad_alloc&) {
        return net::error::no_memory;
    } catch (...) {
        return errc::source_failed;
    }
}

/// Ends the queue and the connection; no write is pending.
template <class Stream>
void outbox<Stream>::give_up(const error_code& ec) noexcept
{
    close(ec);
    rest();
    functions_->end(connection_, reason_of(ec), ec);
}

/// A strand that had no memory to be run keeps the handler all the same, and with it the flight.
template <class Stream>
void outbox<Stream>::drop_flight() noexcept
{
    end_delay();
    flight& old = in_flight();
    dropped_ = detail::saturated_count(dropped_, old.queue.dropped());
    conflated_ = detail::saturated_count(conflated_, old.queue.conflated());
    flight_ = nullptr;
    old.owner = nullptr;
    if (!old.pending) delete &old;
}

/// No write is pending, and none is due.
template <class Stream>
void outbox<Stream>::rest() noexcept
{
    flight& ended = in_flight();
    if (is_closed_) ended.queue.clear();
    while (!ended.flushing.empty())
        ended.flushing.front().complete(is_closed_ ? closed_ : error_code());
    if (ended.chunk) ended.chunk = {};
    ended.busy = false;
    if (!ticks_ || is_closed_) drop_flight();
}

} // namespace holdfast

#endif
