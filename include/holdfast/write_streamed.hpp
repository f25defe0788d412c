// holdfast: async_write_streamed, a serializer into a stream: one chunk in memory, however large the message.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WRITE_STREAMED_HPP
#define HOLDFAST_WRITE_STREAMED_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/chunk_pool.hpp>
#include <holdfast/detail/lowest_layer.hpp>
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

/// Who is told of bytes that a socket took: a reference to an object with `touch()`, such as a `heartbeat`, or to a noexcept
/// callable that takes the number of bytes. The referred object must outlive the operation.
class write_progress {
public:
    /// Tells nobody.
    constexpr write_progress() noexcept = default;

    template <class T>
        requires requires(T& object) { object.touch(); }
    constexpr write_progress(T& object) noexcept // implicit, so that `{.progress = beat}` reads well
        : object_(std::addressof(object)), call_([](void* o, std::size_t) noexcept { static_cast<T*>(o)->touch(); })
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
        if (call_ != nullptr)
            call_(object_, bytes);
    }

private:
    void* object_ = nullptr;
    void (*call_)(void*, std::size_t) noexcept = nullptr;
};

/// Options of `async_write_streamed`.
struct write_streamed_options {
    /// How many bytes to serialize at a time: the whole memory of the message, apart from the cursor. 0 counts as 1.
    std::size_t chunk_bytes = 16 * 1024;
    /// Told whenever the socket took some bytes: a slow reader that takes a little at a time is alive.
    write_progress progress{};
};
static_assert(std::is_trivially_destructible_v<write_streamed_options>); // g++ 12 destroys others twice in co_await

namespace detail {

/// The steps of async_write_streamed, for net::async_compose.
template <class Format, class Stream, class Source>
class write_streamed_op {
public:
    write_streamed_op(Stream& stream, Source&& source, const Format& format, const write_streamed_options& options)
        : stream_(&stream), source_(std::move(source)), format_(format), options_(options)
    {
    }

    template <class Self>
    void operator()(Self& self, error_code ec = {}, std::size_t n = 0)
    {
        const bool initiating = !state_ && !finished_;
        if (initiating) {
            state_ = std::allocate_shared<state>(
                self.get_allocator(), std::move(*source_), format_,
                chunk_slabs_of(stream_->get_executor(), options_.chunk_bytes), options_.chunk_bytes);
            source_.reset();
        } else if (!finished_) {
            state_->written += n;
            if (n != 0)
                options_.progress(n);
            state_->pending = state_->pending.subspan(n);
            if (!ec && self.get_cancellation_state().cancelled() != net::cancellation_type::none)
                ec = net::error::operation_aborted;
        }
        if (!finished_ && !ec && state_->pending.empty() && !state_->serializer.done())
            ec = serialize();
        if (!finished_ && !ec && !state_->pending.empty()) {
            stream_->async_write_some(net::buffer(state_->pending.data(), state_->pending.size()), std::move(self));
            return;
        }
        if (initiating) { // completing here would be inside the initiating function
            result_ = ec;
            finished_ = true;
            auto executor = stream_->get_executor();
            net::post(executor, std::move(self));
            return;
        }
        if (!finished_)
            result_ = ec;
        const std::size_t written = state_->written;
        state_.reset();
        self.complete(result_, written);
    }

private:
    struct state {
        state(Source&& source, const Format& format, std::shared_ptr<chunk_slabs> slabs, std::size_t chunk_bytes)
            : serializer(std::move(source), format),
              buffer(std::move(slabs), std::max<std::size_t>(chunk_bytes, 1)) // or there would be no message at all
        {
        }

        streaming_serializer<Format, Source> serializer;
        chunk buffer;
        std::span<char> pending;
        std::size_t written = 0;
    };

    error_code serialize() noexcept
    {
        std::error_code ec;
        try {
            state_->pending = state_->serializer.next(state_->buffer.bytes(), ec);
        } catch (...) {
            ec = errc::source_failed;
        }
        if (ec) {
            state_->pending = {};
            // What was sent must not look like a whole message: the close that follows resets the connection. Asio's own
            // set_option() would remember the option, and undo it when the socket is destroyed without a close.
            if constexpr (requires {
                              { detail::lowest_layer(*stream_).native_handle() } -> std::convertible_to<int>;
                          }) {
                const ::linger reset{1, 0};
                ::setsockopt(detail::lowest_layer(*stream_).native_handle(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            }
        }
        return ec;
    }

    Stream* stream_;
    std::optional<Source> source_; // until the state, which does not move, takes it over
    [[no_unique_address]] Format format_;
    write_streamed_options options_;
    std::shared_ptr<state> state_;
    error_code result_;
    bool finished_ = false;
};

} // namespace detail

/// Serializes `source` into `stream`, one chunk at a time: the next is made when the socket has taken the one before. The
/// message never exists as a whole; rows of a lazy range are made while they are sent.
///
/// `source` is anything that `Format` can serialize; it is moved into the operation, `std::ref(x)` refers to x instead,
/// which must then outlive it. (g++ 12 destroys an aggregate or closure with owning members twice when it is made inside a
/// co_await expression: name it first, and pass it with std::move or std::ref.)
///
/// Completion: void(error_code, std::size_t), on the handler's executor, never inside this call: the bytes that the socket
/// took. The stream's errors; `errc::not_finite`, `errc::invalid_utf8` and the format's other errors; `errc::source_failed`
/// when the source throws. After an error of the source, the close that follows (the guard's `async_close()` and the
/// socket's own destructor too) resets the connection, so that half a message never looks complete. (Local sockets know no
/// reset: there it shows in the text only, as JSON's missing bracket.)
/// Cancellation: terminal, between and within chunks: `operation_aborted`, and the stream is left in the middle of the message:
/// close it.
/// Concurrency: no other write may be pending on `stream`, which must outlive the operation.
/// Cost: one block from the handler's allocator, for source and cursor, and a chunk from a pool that belongs to the stream's
/// execution context: free chunks beyond 64 give their memory back to the system at once. Nothing per chunk.
///
///     auto rows = std::views::iota(0, 10'000'000) | std::views::transform(make_row);
///     co_await holdfast::async_write_streamed<holdfast::ndjson>(peer.stream(), rows, {.progress = beat});
template <class Format = json, class Stream, class Source,
          class CompletionToken = default_token_t<typename Stream::executor_type>>
auto async_write_streamed(Stream& stream, Source source, write_streamed_options options = {},
                          CompletionToken&& token = CompletionToken(), Format format = {})
{
    return net::async_compose<CompletionToken, void(error_code, std::size_t)>(
        detail::write_streamed_op<Format, Stream, Source>(stream, std::move(source), format, options), token,
        stream.get_executor());
}

} // namespace holdfast

#endif
