// holdfast: framed, a layer around any format: the same message with its length, in parts, or as an event.
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
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast {

namespace framing {

/// Nothing around the message, but it must be of this size: for a length that was told elsewhere, as in
/// HTTP's Content-Length. A source that was changed since then fails as `errc::source_changed`, before a byte
/// too many is out.
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

/// The chunks of HTTP/1.1's chunked transfer coding, as `Transfer-Encoding: chunked` announces them.
struct http_chunked {
    /// Whether the body ends with this message; else another one goes on with it.
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
    static char* put(char* p, std::string_view text) noexcept
    {
        return std::copy(text.begin(), text.end(), p);
    }
};

/// Parts of a message, each with four bytes in front: its length in the lower 30 bits, then whether more
/// parts follow, and in the highest bit whether it is a part at all. A message of one part is the very frame
/// that `u32_length` writes; such frames, of other messages, may stand between the parts of a large one.
template <std::endian Order = std::endian::big>
struct u32_parts {
    static constexpr std::uint32_t is_part = 0x80000000;
    static constexpr std::uint32_t more_follow = 0x40000000;
    static constexpr std::size_t max_header_size = 4;
    static constexpr std::size_t max_trailer_size = 0;
    static constexpr std::uint64_t max_size = more_follow - 1;

    char* write_header(char* p, const part& frame) const noexcept
    {
        const std::uint64_t marks = frame.first && frame.last ? 0
                                    : frame.last              ? is_part
                                                              : is_part | more_follow;
        return u32_length<Order>{}.write_header(p, frame.size | marks);
    }
    char* write_trailer(char* p, const part&) const noexcept { return p; }
};

/// A server-sent event (`Content-Type: text/event-stream`): its data is the message, each line of it after
/// `data: `. CR, LF and CRLF in it are line ends; the receiver gets each as LF.
struct sse {
    /// The event's type; empty: none, which a receiver takes for "message".
    std::string_view event{};
    /// What a receiver that connects again says it knows; empty: none.
    std::string_view id{};
    /// How long a receiver is to wait before it connects again.
    std::optional<std::chrono::milliseconds> retry{};
    // A line end in `event` or `id` fails as `errc::unframable`. Both must be there until the message is
    // sent.
};

} // namespace framing

namespace detail {

template <class Framing, class Format, class Source>
class framed_cursor;

} // namespace detail

/// A format: `Format`'s message with `Framing` around it. It is serialized as any format is, chunk by chunk
/// and without allocation; what needs the message's length first counts it in a pass over the source, and
/// nothing ever holds the whole.
///
/// `Framing` is `framing::line`, `u32_length`, `varint_length`, `content_length`, `http_chunked`, `u32_parts`,
/// `sse`, or a type of the user's: see `framing::writable`. Layers may lie around layers.
///
/// In parts (`http_chunked`, `u32_parts`) each chunk of at least `framed::whole_frames` bytes is exactly one
/// frame, so between two of them other frames may be sent: they wait for one chunk at most. Such a chunk can
/// be a few bytes short of full. A smaller chunk cuts frames. How large a message in parts will be depends on
/// the chunks: `serialized_size` does not compile for it, nor does a length in front of it.
///
/// Errors, beside those of `Format`: `errc::unframable`; `errc::source_changed` where the source was changed
/// after its size had been told. A message that fails never has its end: no last chunk, no last part.
/// Cost: with a length in front, a pass more; in parts and as an event, half a KiB (1 KiB) more of cursor.
///
///     holdfast::framed<holdfast::framing::u32_length<>, holdfast::json> // as a type
///     holdfast::async_write_streamed(peer, rows, {}, net::use_awaitable,
///                                    holdfast::framed{holdfast::framing::http_chunked{},
///                                    holdfast::ndjson{}});
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

    /// The smallest chunk that is one whole frame.
    static constexpr std::size_t whole_frames = [] {
        if constexpr (framing::parted<Framing>) return Framing::max_header_size + Framing::max_trailer_size + 1;
        return std::size_t{1};
    }();
};

template <class Framing, class Format>
framed(Framing, Format) -> framed<Framing, Format>;

} // namespace holdfast

#include <holdfast/serialize/detail/framed_cursor.hpp>

#endif
