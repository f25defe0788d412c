// holdfast: framings, which find where messages begin and end in a stream of bytes. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAMING_HPP
#define HOLDFAST_FRAMING_HPP

#include <holdfast/error.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <system_error>

/// Where messages begin and end in a stream of bytes. A framing is a small copyable value without I/O: `line`,
/// `u32_length`, `varint_length`, or a user's own type with the same members.
namespace holdfast::framing {

/// The frame at the beginning of some bytes, as far as a framing knows it. The frame consists of a header, the
/// payload and a trailer.
struct bounds {
    /// Size of the header in bytes. A lower bound while `known` is false.
    std::size_t header = 0;
    /// Size of the payload in bytes, received or not. A lower bound while `known` is false.
    std::size_t payload = 0;
    /// Size of the trailer in bytes. A lower bound while `known` is false.
    std::size_t trailer = 0;
    /// Whether the three sizes are final. If not, the framing needs at least one more byte, and at least
    /// `header + payload + trailer` in all.
    bool known = false;
    /// Set when no frame can begin with these bytes.
    std::error_code error{};
};

/// Maximum size of a header, and of a trailer, in bytes, for reading and writing.
inline constexpr std::size_t max_overhead = 250;

/// A framing for reading. `parse(bytes, seen)` returns what is known of the frame that `bytes`, at least one
/// byte, begin with. The result must depend on the bytes alone. The first `seen` bytes were passed to an earlier
/// call, which did not know the frame: a framing that searches for a terminator continues there.
///
/// `parse` reports a size as soon as the bytes determine it: a payload above the reader's limit is rejected by its
/// announced length, before its bytes arrive. A frame takes at least one byte.
///
/// A `frame_reader` rejects a header or trailer above `max_overhead` and a frame of no bytes as
/// `errc::malformed_frame`. It holds at most `max_frame_bytes + 2 * max_overhead` bytes of a frame whose size is not
/// known.
///
/// Exceptions: `parse` must be noexcept.
///
///     struct netstring { // 5:hello,
///         static holdfast::framing::bounds parse(std::string_view bytes, std::size_t) noexcept
///         {
///             std::size_t digits = 0, length = 0;
///             for (; digits < bytes.size() && bytes[digits] >= '0' && bytes[digits] <= '9' && digits < 9; ++digits)
///                 length = 10 * length + static_cast<std::size_t>(bytes[digits] - '0');
///             if (digits == bytes.size()) return {.header = digits + 1};
///             if (digits == 0 || bytes[digits] != ':') return {.error = holdfast::errc::malformed_frame};
///             return {.header = digits + 1, .payload = length, .trailer = 1, .known = true};
///         }
///     };
template <class F>
concept readable = std::copyable<F> && requires(const F& f, std::string_view bytes, std::size_t seen) {
    { f.parse(bytes, seen) } noexcept -> std::same_as<bounds>;
};

/// One part of a message that is written in parts, each a frame of its own.
struct part {
    std::uint64_t size; ///< Size of the payload in bytes. 0 only for the last part.
    bool first;         ///< Whether the message begins with this part.
    bool last;          ///< Whether the message ends with this part.
};

/// A framing for writing (see `framed`) whose header and trailer do not depend on the message.
///
/// `write_header(p)` writes the header at `p` and returns its end; `write_trailer(p)` does the same for the trailer.
/// They write at most `F::max_header_size` and `F::max_trailer_size` bytes. Each of these two constants is at most
/// `max_overhead`.
template <class F>
concept plain = requires(const F& f, char* p) {
    { f.write_header(p) } -> std::same_as<char*>;
    { f.write_trailer(p) } -> std::same_as<char*>;
};

/// A framing for writing whose header depends on the size of the whole message. The size is counted in a pass over
/// the source before the first byte is written. If the framing has a `max_size`, a longer message fails with
/// `errc::not_framable`.
template <class F>
concept sized = requires(const F& f, char* p, std::uint64_t size) {
    { f.write_header(p, size) } -> std::same_as<char*>;
    { f.write_trailer(p) } -> std::same_as<char*>;
};

/// A framing for writing that splits the message into parts. Each part is as large as the chunk allows, or
/// `max_size` if the framing has one. The header of a smaller part must not be longer than that of a larger one.
///
///     struct counted_parts { // 12+twelve bytes3-end
///         static constexpr std::size_t max_header_size = 21, max_trailer_size = 0;
///         char* write_header(char* p, const holdfast::framing::part& part) const noexcept
///         {
///             p = std::to_chars(p, p + 20, part.size).ptr;
///             *p++ = part.last ? '-' : '+';
///             return p;
///         }
///         char* write_trailer(char* p, const holdfast::framing::part&) const noexcept { return p; }
///     };
template <class F>
concept parted = requires(const F& f, char* p, const part& frame) {
    { f.write_header(p, frame) } -> std::same_as<char*>;
    { f.write_trailer(p, frame) } -> std::same_as<char*>;
};

/// Lines that end with LF or CRLF. The payload is the line without its end; it may be empty, and may contain any
/// other byte. A CR belongs to the end of the line only directly before the LF.
/// Writing appends an LF. The message must not contain one; the text of JSON does not.
struct line {
    static constexpr std::size_t max_header_size = 0;
    static constexpr std::size_t max_trailer_size = 1;

    [[nodiscard]] static bounds parse(std::string_view bytes, std::size_t seen) noexcept
    {
        const std::size_t end = bytes.find('\n', seen);
        const std::size_t before = end == bytes.npos ? bytes.size() : end;
        const std::size_t cr = before != 0 && bytes[before - 1] == '\r' ? 1 : 0; // an LF may still follow it
        return {.payload = before - cr, .trailer = cr + 1, .known = end != bytes.npos};
    }

    static char* write_header(char* p) noexcept { return p; }

    static char* write_trailer(char* p) noexcept
    {
        *p++ = '\n';
        return p;
    }
};

/// A header of four bytes with the payload's length, without the header itself. Every length is valid: 0 is an empty
/// payload. A length above the reader's limit is rejected as soon as the header has arrived.
template <std::endian Order = std::endian::big>
struct u32_length {
    static constexpr std::size_t max_header_size = 4;
    static constexpr std::size_t max_trailer_size = 0;
    static constexpr std::uint64_t max_size = 0xffffffff;

    [[nodiscard]] static bounds parse(std::string_view bytes, std::size_t) noexcept
    {
        if (bytes.size() < 4) return {.header = 4};
        std::uint32_t length = 0;
        for (std::size_t i = 0; i != 4; ++i) {
            const auto byte = static_cast<unsigned char>(bytes[Order == std::endian::big ? i : 3 - i]);
            length = length << 8U | byte;
        }
        return {.header = 4, .payload = length, .known = true};
    }

    static char* write_header(char* p, std::uint64_t size) noexcept
    {
        for (unsigned i = 0; i != 4; ++i)
            *p++ = static_cast<char>(size >> 8 * (Order == std::endian::big ? 3 - i : i));
        return p;
    }

    static char* write_trailer(char* p) noexcept { return p; }
};

/// A header with the payload's length as a base-128 varint, as in Protobuf's delimited messages: seven bits in each
/// byte, the lowest first. Reading accepts non-minimal varints, as Protobuf does; a varint of more than ten bytes or
/// 64 bits is `errc::malformed_frame`. Writing is minimal.
struct varint_length {
    static constexpr std::size_t max_header_size = 10;
    static constexpr std::size_t max_trailer_size = 0;

    [[nodiscard]] static bounds parse(std::string_view bytes, std::size_t) noexcept
    {
        std::uint64_t length = 0;
        for (std::size_t i = 0; i != max_header_size; ++i) {
            if (i == bytes.size()) return {.header = i + 1};
            const auto byte = static_cast<unsigned char>(bytes[i]);
            if (i == max_header_size - 1 && byte > 1) break; // more than 64 bits, or an eleventh byte
            length |= std::uint64_t{byte & 0x7FU} << 7 * i;
            if ((byte & 0x80U) == 0) return {.header = i + 1, .payload = saturated(length), .known = true};
        }
        return {.error = errc::malformed_frame};
    }

    static char* write_header(char* p, std::uint64_t size) noexcept
    {
        for (; size > 0x7f; size >>= 7)
            *p++ = static_cast<char>(size | 0x80);
        *p++ = static_cast<char>(size);
        return p;
    }

    static char* write_trailer(char* p) noexcept { return p; }

private:
    static std::size_t saturated(std::uint64_t length) noexcept
    {
        constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();
        return static_cast<std::size_t>(length < most ? length : most);
    }
};

} // namespace holdfast::framing

#endif
