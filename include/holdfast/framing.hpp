// holdfast: framing, where a message ends in a stream of bytes. Standard library only.
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

/// How messages lie in a stream of bytes: as lines, or with their length in front. A framing is a small
/// stateless value that looks at bytes and does no I/O; a user's own is one more type with the same members.
namespace holdfast::framing {

/// What a framing knows of the frame that some bytes begin with: a head, the payload, a tail. The frame ends
/// at the sum of the three.
struct bounds {
    /// Bytes in front of the payload; while they are not `known`, the least that they can be.
    std::size_t head = 0;
    /// Bytes of the payload, whether they have come yet or not; while not `known`, the least that they can
    /// be.
    std::size_t payload = 0;
    /// Bytes behind the payload.
    std::size_t tail = 0;
    /// Whether the above is certain. If not, at least one more byte is needed, and as many as are missing in
    /// `head + payload + tail`.
    bool known = false;
    /// Why these bytes can't begin a frame, whatever follows.
    std::error_code error{};
};

/// The most that a head or a tail may take, each.
inline constexpr std::size_t max_overhead = 256;

/// A framing that a `frame_reader` can read. `look(bytes, seen)` is asked what it knows of the frame that
/// `bytes` begin with (at least one byte); it must depend on the bytes alone. `seen` are those of them that
/// it has looked at already, without coming to know: 0 at first, so that a terminator is searched for once.
///
/// What it tells must be true as soon as it can be: a payload above the reader's limit is refused by the
/// number, before its bytes are waited for. It must not throw.
///
///     struct netstring { // 5:hello,
///         static holdfast::framing::bounds look(std::string_view bytes, std::size_t) noexcept
///         {
///             std::size_t digits = 0, length = 0;
///             for (; digits < bytes.size() && bytes[digits] >= '0' && bytes[digits] <= '9' && digits < 9;
///             ++digits)
///                 length = 10 * length + static_cast<std::size_t>(bytes[digits] - '0');
///             if (digits == bytes.size()) return {.head = digits + 1};
///             if (digits == 0 || bytes[digits] != ':') return {.error = holdfast::errc::malformed_frame};
///             return {.head = digits + 1, .payload = length, .tail = 1, .known = true};
///         }
///     };
template <class F>
concept readable = std::copyable<F> && requires(const F& f, std::string_view bytes, std::size_t seen) {
    { f.look(bytes, seen) } noexcept -> std::same_as<bounds>;
};

/// A part of a message that is written as a frame of its own.
struct part {
    std::uint64_t size; ///< in bytes; 0 only in the last one
    bool first;
    bool last;
};

/// What writes a frame around a message (see `framed`). `begin(p, ...)` writes what comes in front of the
/// payload to p and returns its end, `end(p, ...)` what comes behind; at most `max_header_size` and `end_room`
/// bytes. What `begin` asks for says when it can be written: here nothing needs to be known.
template <class F>
concept plain = requires(const F& f, char* p) {
    { f.begin(p) } -> std::same_as<char*>;
    { f.end(p) } -> std::same_as<char*>;
};

/// The same, but it needs the size of the whole message, which a pass over the source counts beforehand.
/// Longer than `max_size`, if there is one, is `errc::unframable`.
template <class F>
concept sized = requires(const F& f, char* p, std::uint64_t size) {
    { f.begin(p, size) } -> std::same_as<char*>;
    { f.end(p) } -> std::same_as<char*>;
};

/// The same, but the message goes out in parts, each as large as there is room in the chunk, or `max_size`. A
/// smaller part's `begin` is no longer.
///
///     struct counted_parts { // 12+twelve bytes3-end
///         static constexpr std::size_t max_header_size = 21, end_room = 0;
///         char* begin(char* p, const holdfast::framing::part& part) const noexcept
///         {
///             p = std::to_chars(p, p + 20, part.size).ptr;
///             *p++ = part.last ? '-' : '+';
///             return p;
///         }
///         char* end(char* p, const holdfast::framing::part&) const noexcept { return p; }
///     };
template <class F>
concept parted = requires(const F& f, char* p, const part& frame) {
    { f.begin(p, frame) } -> std::same_as<char*>;
    { f.end(p, frame) } -> std::same_as<char*>;
};

/// Lines that end with LF or CRLF, neither of which belongs to the payload. A payload may be empty, and may
/// hold any other byte, CRs too: a CR belongs to the end of the line only right before the LF.
/// Written with an LF behind the message, which must not hold one: as JSON's text does not.
struct line {
    static constexpr std::size_t max_header_size = 0;
    static constexpr std::size_t end_room = 1;

    [[nodiscard]] static bounds look(std::string_view bytes, std::size_t seen) noexcept
    {
        const std::size_t end = bytes.find('\n', seen);
        const std::size_t before = end == bytes.npos ? bytes.size() : end;
        const std::size_t cr =
            before != 0 && bytes[before - 1] == '\r' ? 1 : 0; // if no LF is there, it may come
        return {.payload = before - cr, .tail = cr + 1, .known = end != bytes.npos};
    }

    static char* begin(char* p) noexcept { return p; }

    static char* end(char* p) noexcept
    {
        *p++ = '\n';
        return p;
    }
};

/// The payload's length in four bytes in front of it, which do not count themselves. Every length is valid, 0
/// is an empty payload; 4,294,967,295 costs no more memory than the four bytes where the reader's limit is
/// lower.
template <std::endian Order = std::endian::big>
struct u32_length {
    static constexpr std::size_t max_header_size = 4;
    static constexpr std::size_t end_room = 0;
    static constexpr std::uint64_t max_size = 0xffffffff;

    [[nodiscard]] static bounds look(std::string_view bytes, std::size_t) noexcept
    {
        if (bytes.size() < 4) return {.head = 4};
        std::uint32_t length = 0;
        for (std::size_t i = 0; i != 4; ++i) {
            const auto byte = static_cast<unsigned char>(bytes[Order == std::endian::big ? i : 3 - i]);
            length = length << 8U | byte;
        }
        return {.head = 4, .payload = length, .known = true};
    }

    static char* begin(char* p, std::uint64_t size) noexcept
    {
        for (unsigned i = 0; i != 4; ++i)
            *p++ = static_cast<char>(size >> 8 * (Order == std::endian::big ? 3 - i : i));
        return p;
    }

    static char* end(char* p) noexcept { return p; }
};

/// The payload's length as a base-128 varint in front of it, seven bits a byte, the lowest first, as Protobuf
/// delimits its messages. Non-minimal lengths are valid, as they are there (a writer may leave room for a
/// length it fills in later); ten bytes and 64 bits are the most, else `errc::malformed_frame`. Written
/// minimal.
struct varint_length {
    static constexpr std::size_t max_head = 10;
    static constexpr std::size_t max_header_size = max_head;
    static constexpr std::size_t end_room = 0;

    [[nodiscard]] static bounds look(std::string_view bytes, std::size_t) noexcept
    {
        std::uint64_t length = 0;
        for (std::size_t i = 0; i != max_head; ++i) {
            if (i == bytes.size()) return {.head = i + 1};
            const auto byte = static_cast<unsigned char>(bytes[i]);
            if (i == max_head - 1 && byte > 1) break; // more than 64 bits, or an eleventh byte
            length |= std::uint64_t{byte & 0x7FU} << 7 * i;
            if ((byte & 0x80U) == 0) return {.head = i + 1, .payload = saturated(length), .known = true};
        }
        return {.error = errc::malformed_frame};
    }

    static char* begin(char* p, std::uint64_t size) noexcept
    {
        for (; size > 0x7f; size >>= 7)
            *p++ = static_cast<char>(size | 0x80);
        *p++ = static_cast<char>(size);
        return p;
    }

    static char* end(char* p) noexcept { return p; }

private:
    static std::size_t saturated(std::uint64_t length) noexcept
    {
        constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();
        return static_cast<std::size_t>(length < most ? length : most);
    }
};

} // namespace holdfast::framing

#endif
