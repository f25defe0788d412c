// holdfast: framing, how a message tells its end on a stream: by a line end, or by its length in front.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAMING_HPP
#define HOLDFAST_FRAMING_HPP

#include <bit>
#include <cstddef>
#include <cstdint>

/// How messages tell their ends: small types for `framed` (serialize/framing.hpp), which writes them.
namespace holdfast::framing {

/// Lines: a line feed behind each message. For formats without line feeds in their text, as JSON is.
struct line {
    static constexpr std::size_t begin_room = 0;
    static constexpr std::size_t end_room = 1;

    char* begin(char* p) const noexcept { return p; }

    char* end(char* p) const noexcept
    {
        *p++ = '\n';
        return p;
    }
};

/// Four bytes of length, then the message.
template <std::endian Order = std::endian::big>
struct u32_length {
    static constexpr std::size_t begin_room = 4;
    static constexpr std::size_t end_room = 0;
    static constexpr std::uint64_t max_size = 0xffffffff;

    char* begin(char* p, std::uint64_t size) const noexcept
    {
        for (unsigned i = 0; i != 4; ++i)
            *p++ = static_cast<char>(size >> 8 * (Order == std::endian::big ? 3 - i : i));
        return p;
    }
    char* end(char* p) const noexcept { return p; }
};

/// The length as a varint, seven bits a byte and the lowest first, then the message: what Protobuf calls
/// delimited.
struct varint_length {
    static constexpr std::size_t begin_room = 10;
    static constexpr std::size_t end_room = 0;

    char* begin(char* p, std::uint64_t size) const noexcept
    {
        for (; size > 0x7f; size >>= 7)
            *p++ = static_cast<char>(size | 0x80);
        *p++ = static_cast<char>(size);
        return p;
    }
    char* end(char* p) const noexcept { return p; }
};

} // namespace holdfast::framing

#endif
