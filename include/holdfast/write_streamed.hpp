// holdfast: async_write_streamed, which writes a serialized message: one chunk in memory, however large it is.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WRITE_STREAMED_HPP
#define HOLDFAST_WRITE_STREAMED_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/outbox/write_streamed_op.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/serialize/formatted.hpp>
#include <holdfast/serialize/json.hpp>

#include <concepts>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of `async_write_streamed`.
struct write_streamed_options {
    /// Size of a chunk in bytes, and of all memory that the message takes. Must be 1 to 2^30.
    std::size_t chunk_bytes = 16 * 1024;
    /// Makes the next chunk while one is being sent, in a second chunk of memory: for sources and streams that
    /// are slow, such as TLS. Where there is no memory for a second chunk, it continues with one.
    bool double_buffered = false;
    /// Is notified of what the peer has received of the message: see `holdfast::progress`.
    holdfast::progress progress{};
    /// Receives the path of the value that could not be written (`streaming_serializer::error_path()`), as soon as
    /// the source or the format fails; otherwise it is not changed. It must outlive the operation.
    std::string* error_path = nullptr;
};
static_assert(std::is_trivially_destructible_v<write_streamed_options>); // g++ 12 destroys others twice in co_await

/// Serializes `source`, and writes it to `to`, one chunk at a time: the next chunk is made when the stream has
/// taken the previous one. The message never exists as a whole; the rows of a lazy range are made while they are
/// sent.
///
/// - `to` is a stream, or a `connection_guard` of one. A stream has `get_executor()` and
///   `async_write_some(buffers, token)`: sockets, `ssl::stream`, a user's own; `posix::stream_descriptor` for pipes,
///   terminals and regular files (where a write blocks for as long as the kernel's). No write raises SIGPIPE.
/// - `source` is anything that `Format` can serialize, or `formatted(source, format)` for a format with options. It
///   is moved into the operation; `std::ref(x)` refers to `x`, which must then outlive the operation. (g++ 12
///   destroys a temporary aggregate or closure with owning members twice in a co_await expression: name it first,
///   and pass it by std::move or std::ref.)
///
/// Completion: void(error_code, std::size_t), never inside this call; the number of bytes that the stream took.
/// Errors: the stream's; `errc::not_finite`, `errc::invalid_utf8` and the other errors of the format;
/// `errc::source_failed` if the source throws; `net::error::no_memory`. An error of the source is reported after
/// what was made before has been sent. A guard notes the error.
///
/// A message sent in part never looks complete: after an error of the source, and after a cancellation that comes
/// later than the first byte, the close that follows resets the connection, be it the guard's `async_close()` or
/// the socket's destructor. (Local sockets, pipes and files have no reset: there only the text shows it, as a
/// missing bracket of JSON.)
///
/// Cancellation: terminal. The operation completes with `operation_aborted`; the message is then sent in part, and
/// the stream has to be closed. If all bytes had been taken, it succeeds.
///
/// Lifetime: `to` must outlive the operation. When it completes, no write is pending, and its memory is not in use.
/// A guard's layered stream is kept until the pending write has ended, even when the guard is destroyed before.
///
/// Thread safety: no other write may be pending on the stream. The source is read by one thread at a time: in the
/// initiating function, then on the handler's executor. With `.double_buffered`, on a context that several threads
/// run without a strand, `progress` may be notified meanwhile.
///
/// Exceptions: `std::invalid_argument` for an option out of its range; what moving the source throws;
/// `std::bad_alloc` where there is not even memory to complete with `no_memory`: the handler is then destroyed.
///
/// Cost: borrows one chunk of `shared_buffer_pool::of(executor)`, in which source, cursor, handler and the pending
/// write lie too (in a larger one where they take more than a quarter of it). With `.double_buffered` a second one,
/// for messages of more than one chunk. Allocates nothing, and nothing for each chunk.
///
///     auto rows = std::views::iota(0, 10'000'000) | std::views::transform(make_row);
///     co_await holdfast::async_write_streamed<holdfast::ndjson>(peer, rows, {.progress = heartbeat});
template <class Format = json, detail::writable To, class Source,
          net::completion_token_for<void(error_code, std::size_t)> CompletionToken =
              default_token_t<typename detail::stream_of_t<To>::executor_type>>
auto async_write_streamed(To& to, Source source, write_streamed_options options,
                          CompletionToken&& token = CompletionToken())
{
    if (options.chunk_bytes == 0 || options.chunk_bytes > std::size_t{1} << 30)
        throw std::invalid_argument("write_streamed_options::chunk_bytes must be 1 to 2^30");
    return detail::with_format<Format>(std::move(source), [&](auto&& of, auto format) {
        return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(
            detail::initiate_write_streamed<To>(to), token, std::forward<decltype(of)>(of), std::move(format), options);
    });
}

/// The same with the default options.
template <class Format = json, detail::writable To, class Source, class CompletionToken>
    requires(!std::convertible_to<CompletionToken, write_streamed_options>) &&
            net::completion_token_for<CompletionToken, void(error_code, std::size_t)>
auto async_write_streamed(To& to, Source source, CompletionToken&& token)
{
    return async_write_streamed<Format>(to, std::move(source), write_streamed_options(),
                                        std::forward<CompletionToken>(token));
}

/// The same with the default options and the default completion token.
template <class Format = json, detail::writable To, class Source>
auto async_write_streamed(To& to, Source source)
{
    return async_write_streamed<Format>(to, std::move(source), write_streamed_options());
}

} // namespace holdfast

#endif
