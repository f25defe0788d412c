// holdfast: async_write_streamed, a serializer into a stream: one chunk in memory, however large the message.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WRITE_STREAMED_HPP
#define HOLDFAST_WRITE_STREAMED_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/buffer/pool_placed.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/error.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of `async_write_streamed`.
struct write_streamed_options {
    /// The whole memory of the message: how many bytes to serialize at a time, and the cursor. 0 counts as 1.
    std::size_t chunk_bytes = 16 * 1024;
    /// Makes the next chunk while one is being sent, in a second chunk of memory: for sources that take their
    /// time, and streams that take theirs (TLS). Without a second chunk to be had it goes on with one.
    bool double_buffered = false;
    /// Is notified of what the peer has received of the message: see `holdfast::progress`.
    holdfast::progress progress{};
    /// Where to put the path of the value that could not be written, as the serializer's `error_path()`: set
    /// as soon as the source or the format fails (a write of what was made before may fail after that), and
    /// else left as it is. It must outlive the operation.
    std::string* error_path = nullptr;
};
static_assert(
    std::is_trivially_destructible_v<write_streamed_options>); // g++ 12 destroys others twice in co_await

namespace detail {

/// The stream to write to: that of a guard, else the object itself.
template <class To>
auto& stream_of(To& to) noexcept
{
    if constexpr (requires { to.stream(); })
        return to.stream();
    else
        return to;
}

/// All that a message takes while it is sent, apart from a second chunk. It lives at the beginning of its own
/// chunk.
template <class Format, class Stream, class Source, class Handler>
struct write_streamed_state {
    using stream_executor = typename Stream::executor_type;
    using handler_executor = net::associated_executor_t<Handler, stream_executor>;

    write_streamed_state(std::span<char> rest, Stream& to, Handler&& h, Source&& source, const Format& format,
                         const write_streamed_options& options)
        : stream(to),
          handler(std::move(h)),
          stream_work(to.get_executor()),
          handler_work(net::get_associated_executor(handler, to.get_executor())),
          cancellation(net::get_associated_cancellation_slot(handler), net::enable_terminal_cancellation()),
          progress(options.progress),
          error_path(options.error_path),
          serializer(std::move(source), format),
          chunk(rest.first(std::min(rest.size(), std::max<std::size_t>(options.chunk_bytes, 1)))),
          other(chunk),
          ahead(options.double_buffered)
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
        } catch (...) { // without memory for it the error is told all the same
            error_path->clear();
        }
    }

    /// Whether a chunk is to be made while this one is sent.
    bool makes_ahead() noexcept
    {
        if (!ahead || !made.empty() || exhausted()) return false;
        if (!second) {
            second = shared_buffer_pool::of(stream.get_executor()).try_borrow(chunk.size());
            if (second)
                other = {second.data(), chunk.size()};
            else
                ahead = false;
        }
        return ahead;
    }

    /// Takes the result of a write.
    void sent(const error_code& ec, std::size_t n) noexcept
    {
        result = ec;
        written += n;
        if (n != 0) progress(n);
        pending = pending.subspan(n);
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
        return false;
    }

    Stream& stream;
    Handler handler;
    net::executor_work_guard<stream_executor> stream_work;
    net::executor_work_guard<handler_executor> handler_work;
    net::cancellation_state cancellation;
    holdfast::progress progress;
    std::string* error_path;
    streaming_serializer<Format, Source> serializer;
    op_storage storage;        // of the pending write
    std::span<char> chunk;     // the one that is sent
    std::span<char> other;     // the one to be made; the same where there is no second
    std::span<char> pending{}; // of `chunk`: what is still to be sent
    std::span<char> made{};    // of `other`: what has been made
    error_code failure{};      // of the serializer; reported when all that was made before it is sent
    error_code result{};
    std::size_t written = 0;
    bool ahead;
    bool finished = false;
    // A write and the making of the next chunk run side by side, perhaps on two threads: the second to end
    // goes on.
    std::atomic<bool> one_ended{true};
    shared_buffer_loan second;
    pool_placed<write_streamed_state> parked; // this object itself, when the write was the first to end
};

/// The handler of each of async_write_streamed's steps, and the owner of its state.
template <class State>
class write_streamed_op {
public:
    using executor_type = typename State::handler_executor;
    using allocator_type = op_allocator<void>;
    using cancellation_slot_type = net::cancellation_slot;

    explicit write_streamed_op(pool_placed<State> state) noexcept
        : storage_(&state->storage), state_(std::move(state))
    {
    }

    executor_type get_executor() const noexcept { return state_->handler_work.get_executor(); }
    allocator_type get_allocator() const noexcept { return allocator_type(*storage_); }
    cancellation_slot_type get_cancellation_slot() const noexcept { return state_->cancellation.slot(); }

    /// The first step, inside the initiating function.
    void start()
    {
        if (state_->more())
            send();
        else
            finish_later();
    }

    /// Behind a write.
    void operator()(const error_code& ec, std::size_t n)
    {
        State& s = *state_;
        s.sent(ec, n);
        s.parked = std::move(state_);
        if (!s.one_ended.exchange(true)) return; // the next chunk is still being made
        state_ = std::move(s.parked);
        (*this)();
    }

    /// Goes on.
    void operator()()
    {
        State& s = *state_;
        if (!s.finished && s.more()) return send();
        auto handler = std::move(s.handler);
        const error_code result = s.result;
        const std::size_t written = s.written;
        state_.reset(); // before the handler is called, which may begin the next message
        std::move(handler)(result, written);
    }

private:
    void send()
    {
        State& s = *state_;
        const bool ahead = s.makes_ahead();
        s.one_ended = !ahead;
        const auto pending = net::buffer(s.pending.data(), s.pending.size());
        s.stream.async_write_some(pending, std::move(*this));
        if (!ahead) return; // all may be over by now
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
        net::post(executor, std::move(*this));
    }

    op_storage* storage_; // apart, since Asio asks a handler for its allocator when it has moved it, too
    pool_placed<State> state_;
};

} // namespace detail

/// Serializes `source` into `to`, a stream or a `connection_guard`, one chunk at a time: the next is made
/// when the socket has taken the one before, or with `.double_buffered` meanwhile. The message never exists as a whole;
/// rows of a lazy range are made while they are sent.
///
/// `source` is anything that `Format` can serialize; it is moved into the operation, `std::ref(x)` refers to
/// x instead, which must then outlive it. (g++ 12 destroys an aggregate or closure with owning members twice
/// when it is made inside a co_await expression: name it first, and pass it with std::move or std::ref.)
///
/// A stream is what has `get_executor()` and `async_write_some(buffers, token)`: sockets, `ssl::stream`, a
/// user's own; `posix::stream_descriptor` for pipes and terminals, and for regular files, where a write
/// blocks for as long as the kernel's; `stream_file` where Asio has it.
///
/// Completion: void(error_code, std::size_t), on the handler's executor, never inside this call: the bytes
/// that the socket took. The stream's errors; `errc::not_finite`, `errc::invalid_utf8` and the format's other
/// errors; `errc::source_failed` when the source throws. An error of the source is reported when what was
/// made before it has been sent; the option `error_path` tells which value it was.
///
/// Half a message never looks complete: after an error of the source, and after a cancellation in the middle,
/// the close that follows (the guard's `async_close()` and the socket's own destructor too) resets the
/// connection. (Local sockets, pipes and files know no reset: there it shows in the text only, as JSON's
/// missing bracket.)
/// Cancellation: terminal, between and within chunks: `operation_aborted`, and the stream is left in the
/// middle of the message: close it. When all had been sent already, the operation succeeds. No write is
/// pending and no memory of the operation is in use any more when it completes, however it does.
/// Concurrency: no other write may be pending on the stream, which must outlive the operation. The source is
/// read by one thread at a time, in the initiating function first and then on the handler's executor; with
/// `.double_buffered`, where several threads run the context and there is no strand, `progress` may be told meanwhile.
/// Cost: one chunk from `shared_buffer_pool::of()` the stream's executor; source, cursor, handler and
/// the pending write live in it too (in front of it, where they take more than a quarter). With `.double_buffered` a
/// second one, for messages of more than one chunk. Nothing from the heap, and nothing more per chunk.
///
///     auto rows = std::views::iota(0, 10'000'000) | std::views::transform(make_row);
///     co_await holdfast::async_write_streamed<holdfast::ndjson>(peer, rows, {.progress = beat});
template <class Format = json, class To, class Source,
          class CompletionToken = default_token_t<typename To::executor_type>>
auto async_write_streamed(To& to, Source source, write_streamed_options options = {},
                          CompletionToken&& token = CompletionToken(), Format format = {})
{
    auto& stream = detail::stream_of(to);
    return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(
        [&stream](auto handler, Source&& from, const Format& how, const write_streamed_options& opts) {
            using stream_type = std::remove_reference_t<decltype(stream)>;
            using state = detail::write_streamed_state<Format, stream_type, Source, decltype(handler)>;
            const std::size_t chunk =
                std::max<std::size_t>(opts.chunk_bytes, 1); // or there would be no message at all
            const std::size_t block = sizeof(state) <= chunk / 4 ? chunk : sizeof(state) + chunk;
            detail::write_streamed_op<state>(
                detail::pool_placed<state>::make(shared_buffer_pool::of(stream.get_executor()), block, stream,
                                            std::move(handler), std::move(from), how, opts))
                .start();
        },
        token, std::move(source), format, options);
}

} // namespace holdfast

#endif
