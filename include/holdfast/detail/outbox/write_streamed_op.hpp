// holdfast: the steps of async_write_streamed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_WRITE_STREAMED_OP_HPP
#define HOLDFAST_DETAIL_OUTBOX_WRITE_STREAMED_OP_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/async/execute_later.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/buffer/pool_placed.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/outbox/acknowledgements.hpp>
#include <holdfast/detail/outbox/stream_access.hpp>
#include <holdfast/detail/outbox/write_some.hpp>
#include <holdfast/error.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// All that a message holds while it is sent, apart from a second chunk. It lies at the beginning of its own
/// chunk.
template <class Format, class To, class Source, class Handler>
struct write_streamed_state {
    using stream_type = stream_of_t<To>;
    using stream_executor = typename stream_type::executor_type;
    using handler_executor = net::associated_executor_t<Handler, stream_executor>;

    template <class Options>
    write_streamed_state(std::span<char> rest, To& to, Handler&& h, Source&& source, Format&& format,
                         const Options& options)
        : target(to),
          stream(detail::stream_of(to)),
          keeps_stream(detail::keep_stream(to)),
          handler(std::move(h)),
          stream_work(stream.get_executor()),
          handler_work(net::get_associated_executor(handler, stream.get_executor())),
          cancellation(net::get_associated_cancellation_slot(handler), net::enable_terminal_cancellation()),
          progress(options.progress),
          error_path(options.error_path),
          serializer(std::move(source), std::move(format)),
          chunk(rest.first(std::min(rest.size(), options.chunk_bytes))),
          other(chunk),
          double_buffered(options.double_buffered)
    {
    }

    bool exhausted() const noexcept { return failure || serializer.done(); }

    /// Makes the next chunk, if there is one, in `other`. An error leaves nothing of it to be sent.
    void make() noexcept
    {
        if (exhausted()) return;
        std::error_code ec;
        try {
            made = serializer.next(other, ec);
        } catch (...) {
            ec = errc::source_failed;
        }
        if (!ec) return;
        made = {};
        failure = ec;
        if (error_path == nullptr) return;
        try {
            *error_path = serializer.error_path();
        } catch (...) { // without memory for the path the error is reported all the same
            error_path->clear();
        }
    }

    /// Whether the next chunk is to be made while this one is sent.
    bool makes_next() noexcept
    {
        if (!double_buffered || !made.empty() || exhausted()) return false;
        if (!second) {
            second = shared_buffer_pool::of(stream.get_executor()).try_borrow(chunk.size());
            if (second)
                other = {second.data(), chunk.size()};
            else
                double_buffered = false;
        }
        return double_buffered;
    }

    /// Takes the result of a write.
    void sent(const error_code& ec, std::size_t n) noexcept
    {
        result = ec;
        written += n;
        pending = pending.subspan(n);
        if (ec || !progress) return; // after an error the stream may be gone
        const bool sent_in_part = !(pending.empty() && made.empty() && exhausted());
        if (const std::size_t bytes = acknowledged.observe(detail::descriptor_of(stream), n, sent_in_part))
            progress(bytes);
    }

    /// Whether there is something to be sent; else `result` says how it ended.
    bool more() noexcept
    {
        const bool cancelled = cancellation.cancelled() != net::cancellation_type::none;
        const bool broken = bool(result); // then the stream may be gone already, with its socket
        if (!broken) {
            const bool whole = pending.empty() && made.empty() && exhausted();
            if (cancelled && !whole) {
                result = net::error::operation_aborted;
            } else if (pending.empty()) {
                if (made.empty()) make();
                std::swap(chunk, other);
                pending = std::exchange(made, {});
                if (pending.empty()) result = failure;
            }
        }
        if (!result) return !pending.empty();
        if ((failure && !broken) || (cancelled && written != 0)) detail::reset_at_close(stream);
        if (result != net::error::operation_aborted) detail::note_error(target, result);
        return false;
    }

    To& target;
    stream_type& stream;
    [[no_unique_address]] decltype(detail::keep_stream(std::declval<To&>())) keeps_stream;
    Handler handler;
    net::executor_work_guard<stream_executor> stream_work;
    net::executor_work_guard<handler_executor> handler_work;
    net::cancellation_state cancellation;
    holdfast::progress progress;
    acknowledgements acknowledged;
    std::string* error_path;
    streaming_serializer<Format, Source> serializer;
    op_storage storage;        // of the pending write
    std::span<char> chunk;     // the one that is sent
    std::span<char> other;     // the one to be made; the same where there is no second
    std::span<char> pending{}; // of `chunk`: what is still to be sent
    std::span<char> made{};    // of `other`: what has been made
    error_code failure{};      // of the serializer; reported when all that was made before is sent
    error_code result{};
    std::size_t written = 0;
    bool double_buffered;
    bool finished = false;
    // A write and the making of the next chunk run side by side, perhaps on two threads: the one that ends last
    // continues.
    std::atomic<bool> one_ended{true};
    shared_buffer_loan second;
    pool_placed<write_streamed_state> parked; // this object itself, when the write was the first to end
};

/// The handler of each step of async_write_streamed, and the owner of its state.
template <class State>
class write_streamed_op {
public:
    using executor_type = typename State::handler_executor;
    using allocator_type = op_allocator<void>;
    using cancellation_slot_type = net::cancellation_slot;

    explicit write_streamed_op(pool_placed<State> state) noexcept : storage_(&state->storage), state_(std::move(state))
    {
    }

    executor_type get_executor() const noexcept { return state_->handler_work.get_executor(); }
    allocator_type get_allocator() const noexcept { return allocator_type(*storage_); }
    cancellation_slot_type get_cancellation_slot() const noexcept { return state_->cancellation.slot(); }

    /// The first step, inside the initiating function.
    void start()
    {
        if (detail::has_ended(state_->target)) state_->result = net::error::bad_descriptor;
        if (state_->more())
            send();
        else
            finish_later();
    }

    /// After a write.
    void operator()(const error_code& ec, std::size_t n)
    {
        State& s = *state_;
        s.sent(ec, n);
        s.parked = std::move(state_);
        if (!s.one_ended.exchange(true)) return; // the next chunk is still being made
        state_ = std::move(s.parked);
        (*this)();
    }

    /// Continues, or completes.
    void operator()()
    {
        State& s = *state_;
        if (!s.finished && s.more()) return send();
        auto handler = std::move(s.handler);
        const error_code result = s.result;
        const std::size_t written = s.written;
        state_.reset(); // before the handler is called, which may start the next message
        std::move(handler)(result, written);
    }

private:
    void send()
    {
        State& s = *state_;
        const bool makes_next = s.makes_next();
        s.one_ended = !makes_next;
        const net::const_buffer pending(s.pending.data(), s.pending.size());
        detail::write_some(s.stream, pending, std::move(*this));
        if (!makes_next) return; // the operation may have completed on another thread
        s.make();
        if (!s.one_ended.exchange(true)) return; // the write is still pending
        write_streamed_op(std::move(s.parked)).post();
    }

    void finish_later() // completing there would be inside the initiating function
    {
        state_->finished = true;
        post();
    }

    void post()
    {
        auto executor = state_->stream_work.get_executor();
        execute_later(executor, std::move(*this));
    }

    op_storage* storage_; // apart: Asio calls get_allocator() on a moved-from handler too
    pool_placed<State> state_;
};

/// Completes an operation that has not begun.
template <class Handler, class Executor>
class write_streamed_failure {
public:
    using executor_type = net::associated_executor_t<Handler, Executor>;
    using allocator_type = net::associated_allocator_t<Handler>;

    write_streamed_failure(Handler&& handler, const Executor& fallback, const error_code& ec)
        : handler_(std::move(handler)), fallback_(fallback), result_(ec)
    {
    }

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_, fallback_); }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }

    void operator()() { std::move(handler_)(result_, std::size_t{0}); }

private:
    Handler handler_;
    Executor fallback_;
    error_code result_;
};

/// The initiation of async_write_streamed.
template <class To>
class initiate_write_streamed {
public:
    using executor_type = typename stream_of_t<To>::executor_type;

    explicit initiate_write_streamed(To& to) noexcept : to_(&to) {}

    executor_type get_executor() const noexcept { return detail::stream_of(*to_).get_executor(); }

    template <class Handler, class Source, class Format, class Options>
    void operator()(Handler&& handler, Source&& source, Format&& format, const Options& options) const
    {
        using handler_type = std::decay_t<Handler>;
        using state = write_streamed_state<std::decay_t<Format>, To, std::decay_t<Source>, handler_type>;
        const std::size_t chunk = options.chunk_bytes;
        const std::size_t block = sizeof(state) <= chunk / 4 ? chunk : sizeof(state) + chunk;
        shared_buffer_loan memory;
        try {
            memory = shared_buffer_pool::of(get_executor()).try_borrow(block);
        } catch (const std::bad_alloc&) { // for the pool itself; awaitables do not support an initiation that throws
        }
        handler_type own(std::forward<Handler>(handler));
        if (!memory) {
            note_error(*to_, net::error::no_memory);
            execute_later(get_executor(), write_streamed_failure<handler_type, executor_type>(
                                              std::move(own), get_executor(), net::error::no_memory));
            return;
        }
        write_streamed_op<state>(pool_placed<state>::make(std::move(memory), *to_, std::move(own), std::move(source),
                                                          std::move(format), options))
            .start();
    }

private:
    To* to_;
};

} // namespace holdfast::detail

#endif
