// holdfast: a framing of the user's own: the frames that a WebSocket server sends (RFC 6455).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_WEBSOCKET_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_WEBSOCKET_HPP

#include <holdfast/serialize/framed.hpp>

#include <cstddef>
#include <cstdint>

namespace examples {

/// A message as a text or binary frame, or as fragments where it does not fit into a chunk: pings and pongs
/// may go between those, and neither side ever holds the whole.
///
///     const holdfast::framed format{websocket_frames{}, json{}};
///     holdfast::async_write_streamed(peer, holdfast::formatted(rows, format), token);
struct websocket_frames {
    enum class kind : std::uint8_t { text = 1, binary = 2 };
    kind of = kind::text;

    static constexpr std::size_t max_header_size = 10; // the most that stands in front of a payload
    static constexpr std::size_t max_trailer_size = 0;

    char* write_header(char* p, const holdfast::framing::part& part) const noexcept
    {
        const auto opcode = part.first ? static_cast<unsigned>(of) : 0; // 0: goes on
        *p++ = static_cast<char>((part.last ? 0x80 : 0) | opcode);
        const int length_bytes = part.size < 126 ? 0 : part.size <= 0xffff ? 2 : 8;
        *p++ = static_cast<char>(length_bytes == 0 ? part.size : length_bytes == 2 ? 126 : 127);
        for (int i = length_bytes; i-- != 0;)
            *p++ = static_cast<char>(part.size >> 8 * i);
        return p;
    }

    char* write_trailer(char* p, const holdfast::framing::part&) const noexcept { return p; }
};

} // namespace examples

#endif
