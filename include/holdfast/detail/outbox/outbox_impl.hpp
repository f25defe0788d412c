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

inline outbox_base::outbox_base(const outbox_options& options)
    : queue_({options.high_watermark, std::min(options.low_watermark, options.high_watermark), options.reserve_bytes}),
      progress_(options.progress),
      soft_watermark_(options.soft_watermark),
      chunk_bytes_(options.chunk_bytes),
      soft_ticks_(options.soft_limit_ticks),
      on_overflow_(options.on_overflow)
{
    detail::check(options);
}

inline error_code outbox_base::push_control(const payload& message, control_place place) noexcept
{
    if (const error_code why = error()) return why;
    if (message.empty()) return {};
    const detail::outbox_item item(message);
    return after_push(item, queue_.push_control(item, place == control_place::next));
}

inline error_code outbox_base::push_control(const payload& message, control_place place, conflate key) noexcept
{
    if (const error_code why = error()) return why;
    if (message.empty()) return {};
    const detail::outbox_item item(message);
    return after_push(item, queue_.push_control(item, place == control_place::next, &key.key));
}

inline error_code outbox_base::push_final(const payload& message) noexcept
{
    if (const error_code why = error()) return why;
    error_code result;
    if (!message.empty()) {
        const detail::outbox_item item(message);
        result = after_push(item, queue_.push_final(item));
    }
    stop();
    return result;
}

inline void outbox_base::tick() noexcept
{
    if (closed_) return;
    if (acknowledged_.in_flight()) note_progress(0);
    if (soft_ticks_ == 0) return;
    if (queue_.bytes() <= soft_watermark_)
        ticks_above_ = 0;
    else if (++ticks_above_ >= soft_ticks_)
        fail(close_reason::send_queue_overflow, errc::outbox_full);
}

inline void outbox_base::close(error_code reason) noexcept
{
    if (closed_) return;
    closed_ = reason ? reason : error_code(errc::outbox_closed);
    if (queue_.sent_in_part()) reset_at_close();
    queue_.clear();
    while (!waiting_.empty())
        waiting_.front().complete(closed_, false);
}

inline error_code outbox_base::error() const noexcept
{
    return closed_ ? closed_ : stopped_ ? error_code(errc::outbox_closed) : error_code();
}

inline bool outbox_base::waits_for_space() const noexcept { return on_overflow_ == overflow_policy::wait && is_open(); }

inline error_code outbox_base::push_one(const payload& message, const std::uint64_t* key) noexcept
{
    if (const error_code why = error()) return why;
    if (message.empty()) return {};
    return push_item(key != nullptr ? detail::outbox_item(message, *key) : detail::outbox_item(message));
}

inline error_code outbox_base::push_item(const detail::outbox_item& item) noexcept
{
    auto result = detail::outbox_queue::outcome::full;
    if (waiting_.empty() || item.cost() > queue_.limits().high) // else it would overtake those that wait
        result = queue_.push(item, on_overflow_ == overflow_policy::drop_oldest);
    const bool overflow = result == detail::outbox_queue::outcome::full && on_overflow_ == overflow_policy::disconnect;
    const error_code ec = after_push(item, result);
    if (overflow) fail(close_reason::send_queue_overflow, ec);
    return ec;
}

inline error_code outbox_base::after_push(detail::outbox_item item, detail::outbox_queue::outcome result) noexcept
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

inline void outbox_base::note_sent(std::size_t n) noexcept
{
    const bool counts = queue_.writes_messages() || acknowledged_.in_flight();
    queue_.sent(n);
    if (progress_ && counts) note_progress(n);
    if (queue_.bytes() <= soft_watermark_) ticks_above_ = 0;
}

inline void outbox_base::note_progress(std::size_t taken) noexcept
{
    const std::size_t bytes = acknowledged_.observe(descriptor(), taken, queue_.sent_in_part());
    if (bytes != 0) progress_(bytes);
}

/// Once the queue is down at the low watermark.
inline void outbox_base::resume_waiting() noexcept
{
    if (queue_.bytes() > queue_.limits().low) return;
    while (!waiting_.empty()) {
        detail::push_waiter& first = waiting_.front();
        const detail::outbox_item item = first.item();
        if (!queue_.fits(item.cost())) return;
        const auto result = queue_.push(item, false);
        first.complete(after_push(item, result), true);
    }
}

inline void outbox_base::stop() noexcept
{
    stopped_ = true;
    while (!waiting_.empty())
        waiting_.front().complete(errc::outbox_closed, false);
}

/// Ends the queue and the connection, whether a write is pending or not.
inline void outbox_base::fail(close_reason reason, const error_code& error) noexcept
{
    close(error);
    end(reason, error); // the last action: the finalizer may destroy the outbox
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
    if (closes_ && !outbox_->closed_) outbox_->fail(close_reason::local, result_);
}

} // namespace detail

template <class Stream>
template <class To>
    requires(!std::derived_from<To, outbox_base>)
outbox<Stream>::outbox(To& to, const outbox_options& options)
    : outbox_base(options),
      stream_(&detail::stream_of(to)),
      connection_(std::addressof(to)),
      connection_functions_(&detail::outbox_connection_of<To>)
{
    const int bytes = options.notsent_lowat_bytes;
    if (bytes > 0) ::setsockopt(descriptor(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

template <class Stream>
outbox<Stream>::~outbox()
{
    close();
    while (!flushing_.empty())
        flushing_.front().complete(closed_);
    if (flight_ == nullptr) return;
    if (queue_.writes_payloads()) reset_at_close();
    flight_->owner = nullptr;
    if (flight_->pending) {
        connection_functions_->keep(connection_, flight_->stream);
        flight_->kept.emplace(queue_.take_ring());
    } else {
        delete flight_;
    }
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
        if (!waits || result != errc::outbox_full) return detail::complete_later(executor, std::move(own), result);
        const auto waiting = detail::begin_wait<detail::push_waiter>(executor, std::move(own), *outbox_, message, k);
        outbox_->waiting_.push_back(*waiting);
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
        if (!outbox_->busy_) return detail::complete_later(executor, std::move(own), error_code(outbox_->closed_));
        auto until = clock::time_point::max();
        if (deadline != clock::duration::max())
            if (const auto now = clock::now(); deadline < until - now) until = now + deadline;
        const auto waiting =
            detail::begin_wait<detail::flush_waiter>(executor, std::move(own), *outbox_, until, closes);
        outbox_->flushing_.push_back(*waiting);
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
    if (const error_code why = error()) return why;
    std::unique_ptr<detail::streamed_source> made =
        detail::with_format<Format>(std::move(source), [&](auto&& of, auto format) {
            using queued = detail::queued_stream<decltype(format), std::decay_t<decltype(of)>>;
            return std::unique_ptr<detail::streamed_source>(new (std::nothrow) queued(
                options.interleave, options.interleave_control, std::forward<decltype(of)>(of), std::move(format)));
        });
    if (!made) return net::error::no_memory;
    return push_item(detail::outbox_item(std::move(made)));
}

template <class Stream>
bool outbox<Stream>::begin() noexcept
{
    flight_ = new (std::nothrow) flight(*this);
    if (flight_ == nullptr) return false;
    if (write_later()) return true;
    drop_flight();
    return false;
}

/// Writes after the current turn of the event loop. Returns false where there is no memory.
template <class Stream>
bool outbox<Stream>::write_later() noexcept
{
    try {
        net::post(stream_->get_executor(), write_handler(*flight_));
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

template <class Stream>
void outbox<Stream>::reset_at_close() noexcept
{
    detail::reset_at_close(*stream_);
}

template <class Stream>
void outbox<Stream>::end(close_reason reason, const error_code& error) noexcept
{
    connection_functions_->end(connection_, reason, error);
}

/// Writes until the queue is empty or the stream does not take all. The last action can be to destroy the outbox.
template <class Stream>
void outbox<Stream>::write_next(bool at_once) noexcept
{
    using turn = detail::outbox_queue::turn;
    for (unsigned sends = 0;;) {
        const turn next = closed_ ? turn::idle : queue_.next_turn();
        if (next == turn::idle) return rest();
        if (const error_code failure = flight_->failure) return give_up(failure);
        if (next == turn::next_chunk) {
            if (const error_code ec = make_chunk()) return give_up(ec);
            continue;
        }
        if (next == turn::payloads) flight_->chunk = {};
        const auto begin_write = [&] {
            return next == turn::payloads ? detail::outbox_buffers(queue_.begin_payloads())
                                          : detail::outbox_buffers(queue_.begin_chunk());
        };
        // Most messages fit into the socket's buffer: then Asio's operation, and the turn of the event loop in which it
        // completes, are not needed. At most four, so that a long message leaves the thread to others.
        if (at_once && sends == 4) {
            if (!write_later()) give_up(net::error::no_memory);
            return;
        }
        if (!detail::is_stream_socket<Stream> || !at_once) {
            if (!queue_.make_pinnable()) return give_up(net::error::no_memory);
            return write(begin_write());
        }
        error_code ec;
        const std::size_t n = send_now(begin_write(), ec);
        if (ec == net::error::would_block) {
            at_once = false;
            continue;
        }
        ++sends;
        note_sent(n);
        if (ec) { // in the next turn, after a reader that can tell why: giving up aborts it
            flight_->failure = ec;
            if (!write_later()) give_up(ec);
            return;
        }
        resume_waiting();
        at_once = !queue_.cut_short();
    }
}

/// Sends without waiting. Precondition: the stream is a socket.
template <class Stream>
std::size_t outbox<Stream>::send_now(const detail::outbox_buffers& buffers, error_code& ec) noexcept
{
    if constexpr (detail::is_stream_socket<Stream>) return detail::send_now(stream_->native_handle(), buffers, ec);
    static_cast<void>(buffers);
    ec = net::error::operation_not_supported;
    return 0;
}

template <class Stream>
void outbox<Stream>::write(const detail::outbox_buffers& buffers) noexcept
{
    try {
        detail::write_some(*stream_, buffers, write_handler(*flight_));
    } catch (const std::exception&) {
        note_sent(0);
        give_up(net::error::no_memory);
    }
}

template <class Stream>
void outbox<Stream>::after_write(const error_code& ec, std::size_t n) noexcept
{
    note_sent(n);
    if (closed_) {
        if (queue_.sent_in_part()) reset_at_close();
        return rest();
    }
    if (ec) return give_up(ec);
    resume_waiting();
    write_next(!queue_.cut_short());
}

template <class Stream>
error_code outbox<Stream>::make_chunk() noexcept
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

/// Ends the queue and the connection; no write is pending.
template <class Stream>
void outbox<Stream>::give_up(const error_code& ec) noexcept
{
    close(ec);
    rest();
    end(reason_of(ec), ec);
}

/// A strand that had no memory to be run keeps the handler all the same, and with it the flight.
template <class Stream>
void outbox<Stream>::drop_flight() noexcept
{
    flight* const old = std::exchange(flight_, nullptr);
    old->owner = nullptr;
    if (!old->pending) delete old;
}

/// No write is pending, and none is due.
template <class Stream>
void outbox<Stream>::rest() noexcept
{
    if (closed_) queue_.clear();
    drop_flight();
    busy_ = false;
    while (!flushing_.empty())
        flushing_.front().complete(closed_);
}

} // namespace holdfast

#endif
