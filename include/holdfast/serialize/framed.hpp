// holdfast: framed, a layer around any format: the message with its length, in parts, or as an event.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_FRAMED_HPP
#define HOLDFAST_SERIALIZE_FRAMED_HPP

#include <holdfast/framing.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast {

namespace framing {

/// Writes nothing around the message, but checks its size against one that was announced elsewhere, as in
/// HTTP's Content-Length. If the source has changed since, writing fails with `errc::source_changed` before a
/// byte too many is returned.
///
///     const auto size = holdfast::serialized_size<holdfast::json>(rows);
///     holdfast::framed exact{holdfast::framing::content_length{size}, holdfast::json{}};
struct content_length {
    std::uint64_t size;

    static constexpr std::size_t max_header_size = 0;
    static constexpr std::size_t max_trailer_size = 0;

    char* write_header(char* p) const noexcept { return p; }
    char* write_trailer(char* p) const noexcept { return p; }
};

/// The chunks of HTTP/1.1's chunked transfer coding (`Transfer-Encoding: chunked`).
struct http_chunked {
    /// Whether the body ends with this message. If not, another message continues it.
    bool ends = true;

    static constexpr std::size_t max_header_size = 18;
    static constexpr std::size_t max_trailer_size = 7;

    char* write_header(char* p, const part& frame) const noexcept
    {
        if (frame.size == 0) return p;
        p = std::to_chars(p, p + 16, frame.size, 16).ptr;
        return put(p, "\r\n");
    }

    char* write_trailer(char* p, const part& frame) const noexcept
    {
        if (frame.size != 0) p = put(p, "\r\n");
        return frame.last && ends ? put(p, "0\r\n\r\n") : p;
    }

private:
    static char* put(char* p, std::string_view text) noexcept { return std::copy(text.begin(), text.end(), p); }
};

/// Parts of a message, each preceded by four bytes: the length in the lower 30 bits, whether more parts
/// follow in bit 30, and in the highest bit whether it is a part at all. A message of one part is the frame
/// that `u32_length` writes. Such frames of other messages may come between the parts of a large one.
template <std::endian Order = std::endian::big>
struct u32_parts {
    static constexpr std::uint32_t is_part = 0x80000000;
    static constexpr std::uint32_t more_follow = 0x40000000;
    static constexpr std::size_t max_header_size = 4;
    static constexpr std::size_t max_trailer_size = 0;
    static constexpr std::uint64_t max_size = more_follow - 1;

    char* write_header(char* p, const part& frame) const noexcept
    {
        const std::uint64_t marks = frame.first && frame.last ? 0 : frame.last ? is_part : is_part | more_follow;
        return u32_length<Order>{}.write_header(p, frame.size | marks);
    }
    char* write_trailer(char* p, const part&) const noexcept { return p; }
};

/// A server-sent event (`Content-Type: text/event-stream`). Its data is the message, each line of it after
/// `data: `. CR, LF and CRLF in the message are line ends; the receiver gets LF for each. A line end or NUL in
/// `event` or `id`, and a negative `retry`, fail with `errc::not_framable`. Lifetime: `event` and `id` refer to text
/// that must exist until the message is written.
struct sse {
    /// The type of the event. Empty: none; the receiver assumes "message".
    std::string_view event{};
    /// The id that a receiver sends when it reconnects. Empty: none.
    std::string_view id{};
    /// How long a receiver waits before it reconnects. Empty: the receiver's default.
    std::optional<std::chrono::milliseconds> retry{};
};

} // namespace framing

namespace detail {

template <class Framing, class Format, class Source>
class framed_cursor;

} // namespace detail

/// A format: the message of `Format` with `Framing` around it. It is serialized as any format is, chunk by
/// chunk and without allocation. A framing that needs the message's length counts it in a pass over the
/// source.
///
/// `Framing` is `framing::line`, `u32_length`, `varint_length`, `content_length`, `http_chunked`,
/// `u32_parts`, `sse`, or a type of the user's: see `framing::plain`, `sized` and `parted`. Its header and
/// its trailer take at most 508 bytes each. Layers may be nested.
///
/// With a framing in parts (`http_chunked`, `u32_parts`) each chunk of at least `framed::whole_frames` bytes
/// is exactly one frame, which may be a few bytes shorter than the chunk; so other frames can be sent between
/// two chunks. A smaller chunk cuts frames. The size of such a message depends on the chunks, so
/// `serialized_size`, and a length in front of it, do not compile.
///
/// Errors: those of `Format`; `errc::not_framable`; `errc::source_changed` if the source changed after it was
/// counted. A message that fails never has its end: no last chunk, no last part. Cost: one more pass with a
/// length in front; half a KiB more of cursor in parts, 1 KiB as an event.
///
///     holdfast::framed<holdfast::framing::u32_length<>, holdfast::json> // as a type
///     const holdfast::framed chunked{holdfast::framing::http_chunked{}, holdfast::ndjson{}};
///     co_await holdfast::async_write_streamed(peer, holdfast::formatted(rows, chunked));
template <class Framing, class Format = json>
struct framed {
    static_assert(
        [] {
            if constexpr (requires { Framing::max_header_size + Framing::max_trailer_size; })
                return Framing::max_header_size <= framing::max_overhead &&
                       Framing::max_trailer_size <= framing::max_overhead;
            return true;
        }(),
        "a framing's max_header_size and max_trailer_size must be at most framing::max_overhead");

    Framing framing{};
    Format format{};

    template <class Source>
    using cursor = detail::framed_cursor<Framing, Format, Source>;

    /// The minimum size in bytes of a chunk that is one whole frame.
    static constexpr std::size_t whole_frames = [] {
        if constexpr (framing::parted<Framing>) return Framing::max_header_size + Framing::max_trailer_size + 1;
        return std::size_t{1};
    }();
};

template <class Framing, class Format>
framed(Framing, Format) -> framed<Framing, Format>;
template <class Framing>
framed(Framing) -> framed<Framing>;

} // namespace holdfast

#include <holdfast/serialize/detail/framed_cursor.hpp>

#endif
