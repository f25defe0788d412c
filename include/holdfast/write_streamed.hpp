// holdfast: async_write_streamed, a serializer into a stream: one chunk in memory, however large the message.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WRITE_STREAMED_HPP
#define HOLDFAST_WRITE_STREAMED_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/chunk_pool.hpp>
#include <holdfast/detail/lowest_layer.hpp>
#include <holdfast/detail/op_storage.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/streaming_serializer.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <sys/socket.h>

namespace holdfast {

/// Who is told of bytes that a socket took: a reference to an object with `touch()`, such as a `heartbeat`,
/// or to a noexcept callable that takes the number of bytes. The referred object must outlive the operation.
class write_progress {
public:
    /// Tells nobody.
    constexpr write_progress() noexcept = default;

    template <class T>
        requires requires(T& object) { object.touch(); }
    constexpr write_progress(T& object) noexcept // implicit, so that `{.progress = beat}` reads well
        : object_(std::addressof(object)),
          call_([](void* o, std::size_t) noexcept { static_cast<T*>(o)->touch(); })
    {
    }

    template <class F>
        requires std::is_nothrow_invocable_v<F&, std::size_t>
    constexpr write_progress(F& f) noexcept
        : object_(std::addressof(f)), call_([](void* o, std::size_t n) noexcept { (*static_cast<F*>(o))(n); })
    {
    }

    void operator()(std::size_t bytes) const noexcept
    {
        if (call_ != nullptr) call_(object_, bytes);
    }

private:
    void* object_ = nullptr;
    void (*call_)(void*, std::size_t) noexcept = nullptr;
};

/// Options of `async_write_streamed`.
struct write_streamed_options {
    /// The whole memory of the message: how many bytes to serialize at a time, and the cursor. 0 counts as 1.
    std::size_t chunk_bytes = 16 * 1024;
    /// Told whenever the socket took some bytes: a slow reader that takes a little at a time is alive.
    write_progress progress{};
};
static_assert(
    std::is_trivially_destructible_v<write_streamed_options>); // g++ 12 destroys others twice in co_await

namespace detail {

/// All that a message takes while it is sent. It lives at the beginning of its own chunk.
template <class Format, class Stream, class Source>
struct write_streamed_state {
    write_streamed_state(std::span<char> rest, std::size_t chunk_bytes, Stream& to, Source&& source,
                         const Format& format, const write_progress& told)
        : stream(to),
          progress(told),
          serializer(std::move(source), format),
          chunk(rest.first(std::min(rest.size(), chunk_bytes)))
    {
    }

    /// Fills the chunk. An error leaves nothing to be sent.
    error_code serialize() noexcept
    {
        std::error_code ec;
        try {
            pending = serializer.next(chunk, ec);
        } catch (...) {
            ec = errc::source_failed;
        }
        if (ec) {
            pending = {};
            reset_at_close();
        }
        return ec;
    }

    /// What was sent must not look like a whole message: the close that follows resets the connection. Asio's
    /// own set_option() would remember the option, and undo it when the socket is destroyed without a close.
    void reset_at_close() noexcept
    {
        if constexpr (requires {
                          { detail::lowest_layer(stream).native_handle() } -> std::convertible_to<int>;
                      }) {
            const ::linger reset{1, 0};
            ::setsockopt(detail::lowest_layer(stream).native_handle(), SOL_SOCKET, SO_LINGER, &reset,
                         sizeof reset);
        }
    }

    Stream& stream;
    write_progress progress;
    streaming_serializer<Format, Source> serializer;
    op_storage storage; // of the pending write
    std::span<char> chunk;
    std::span<char> pending;
    std::size_t written = 0;
    error_code result;
    bool started = false;
    bool finished = false;
};

/// The steps of async_write_streamed, for net::async_compose.
template <class State>
class write_streamed_op {
public:
    explicit write_streamed_op(chunk_ptr<State> state) noexcept : state_(std::move(state)) {}

    template <class Self>
    void operator()(Self& self, error_code ec = {}, std::size_t n = 0)
    {
        State& s = *state_;
        const bool initiating = !std::exchange(s.started, true);
        if (!s.finished) {
            s.written += n;
            if (n != 0) s.progress(n);
            s.pending = s.pending.subspan(n);
            if (!ec && self.get_cancellation_state().cancelled() != net::cancellation_type::none)
                ec = net::error::operation_aborted;
            if (!ec && s.pending.empty() && !s.serializer.done()) ec = s.serialize();
            if (!ec && !s.pending.empty()) {
                const auto pending = net::buffer(s.pending.data(), s.pending.size());
                s.stream.async_write_some(pending, stored_handler<Self>(std::move(self), s.storage));
                return;
            }
            s.result = ec;
            s.finished = true;
            if (initiating) { // completing here would be inside the initiating function
                auto executor = s.stream.get_executor();
                net::post(executor, std::move(self));
                return;
            }
        }
        const error_code result = s.result;
        const std::size_t written = s.written;
        state_.reset();
        self.complete(result, written);
    }

private:
    chunk_ptr<State> state_;
};

} // namespace detail

/// Serializes `source` into `stream`, one chunk at a time: the next is made when the socket has taken the one
/// before. The message never exists as a whole; rows of a lazy range are made while they are sent.
///
/// `source` is anything that `Format` can serialize; it is moved into the operation, `std::ref(x)` refers to
/// x instead, which must then outlive it. (g++ 12 destroys an aggregate or closure with owning members twice
/// when it is made inside a co_await expression: name it first, and pass it with std::move or std::ref.)
///
/// Completion: void(error_code, std::size_t), on the handler's executor, never inside this call: the bytes
/// that the socket took. The stream's errors; `errc::not_finite`, `errc::invalid_utf8` and the format's other
/// errors; `errc::source_failed` when the source throws. After an error of the source, the close that follows
/// (the guard's `async_close()` and the socket's own destructor too) resets the connection, so that half a
/// message never looks complete. (Local sockets know no reset: there it shows in the text only, as JSON's
/// missing bracket.)
/// Cancellation: terminal, between and within chunks: `operation_aborted`, and the stream
/// is left in the middle of the message: close it.
/// Concurrency: no other write may be pending on `stream`,
/// which must outlive the operation.
/// Cost: one chunk from a pool that belongs to the stream's execution
/// context; source, cursor and the pending write live in it too (in front of it, where they take more than a
/// quarter). Nothing from the heap, and nothing more per chunk. Free chunks beyond 64 give their memory back
/// to the system at once.
///
///     auto rows = std::views::iota(0, 10'000'000) | std::views::transform(make_row);
///     co_await holdfast::async_write_streamed<holdfast::ndjson>(peer.stream(), rows, {.progress = beat});
template <class Format = json, class Stream, class Source,
          class CompletionToken = default_token_t<typename Stream::executor_type>>
auto async_write_streamed(Stream& stream, Source source, write_streamed_options options = {},
                          CompletionToken&& token = CompletionToken(), Format format = {})
{
    using state = detail::write_streamed_state<Format, Stream, Source>;
    return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(
        [&stream](auto handler, Source&& from, const Format& how, const write_streamed_options& opts) {
            const std::size_t chunk =
                std::max<std::size_t>(opts.chunk_bytes, 1); // or there would be no message at all
            const std::size_t block = sizeof(state) <= chunk / 4 ? chunk : sizeof(state) + chunk;
            auto executor = stream.get_executor();
            detail::write_streamed_op<state> op(detail::make_in_chunk<state>(
                detail::chunk_slabs_of(executor, block), chunk, stream, std::move(from), how, opts.progress));
            net::async_compose<decltype(handler), void(error_code, std::size_t)>(std::move(op), handler,
                                                                                 executor);
        },
        token, std::move(source), format, options);
}

} // namespace holdfast

#endif
