// holdfast: headers of WebSocket frames, and masks. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_FRAME_HEADER_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_FRAME_HEADER_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast::detail {

namespace websocket_opcode {
inline constexpr unsigned continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10;
} // namespace websocket_opcode

/// The mask of a frame: its four bytes in the order in which they apply.
class websocket_mask {
public:
    websocket_mask() noexcept = default;
    explicit websocket_mask(const char* bytes) noexcept { std::memcpy(&key_, bytes, 4); }

    /// Copies `size` bytes to `to`, which is `from` or lies before it, and takes the mask off. The next call continues.
    void apply(char* to, const char* from, std::size_t size) noexcept
    {
        const std::uint64_t twice = std::uint64_t{key_} << 32U | key_;
        std::size_t i = 0;
        if (to == from) { // compilers vectorize this one
            for (std::uint64_t word = 0; size - i >= 8; i += 8) {
                std::memcpy(&word, to + i, 8);
                word ^= twice;
                std::memcpy(to + i, &word, 8);
            }
        } else {
            for (std::uint64_t word = 0; size - i >= 8; i += 8) {
                std::memcpy(&word, from + i, 8);
                word ^= twice;
                std::memcpy(to + i, &word, 8);
            }
        }
        char bytes[4];
        std::memcpy(bytes, &key_, 4);
        for (std::size_t j = 0; i != size; ++i, ++j)
            to[i] = static_cast<char>(from[i] ^ bytes[j % 4]);
        const int turn = static_cast<int>(size % 4 * 8);
        key_ = std::endian::native == std::endian::little ? std::rotr(key_, turn) : std::rotl(key_, turn);
    }

private:
    std::uint32_t key_ = 0;
};

/// A header as far as the bytes determine it.
struct websocket_header {
    bool complete = false;
    std::uint8_t size = 0;        // of the header, once it is complete
    std::uint8_t length_size = 0; // 1, 3 or 9; 0 while it is not known
    bool final = false;
    std::uint8_t reserved = 0; // RSV1 is 4
    std::uint8_t opcode = 0;
    bool masked = false;
    std::uint64_t length = 0; // once `length_size` is known: for a longer form, once the header has so many bytes
    websocket_mask mask;

    /// Reads what is known of the header that `bytes`, at least one, begin with.
    static websocket_header parse(std::string_view bytes) noexcept
    {
        websocket_header h;
        const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
        h.final = (at(0) & 0x80U) != 0;
        h.reserved = static_cast<std::uint8_t>((at(0) >> 4U) & 7U);
        h.opcode = at(0) & 15U;
        if (bytes.size() < 2) return h;
        h.masked = (at(1) & 0x80U) != 0;
        h.length = at(1) & 0x7fU;
        const std::size_t extra = h.length < 126 ? 0 : h.length == 126 ? 2 : 8;
        h.length_size = static_cast<std::uint8_t>(1 + extra);
        h.size = static_cast<std::uint8_t>(2 + extra + (h.masked ? 4 : 0));
        if (bytes.size() < 2 + extra) return h;
        if (extra != 0) {
            h.length = 0;
            for (std::size_t i = 0; i != extra; ++i)
                h.length = h.length << 8U | at(2 + i);
        }
        if (bytes.size() < h.size) return h;
        if (h.masked) h.mask = websocket_mask(bytes.data() + h.size - 4);
        h.complete = true;
        return h;
    }

    [[nodiscard]] bool is_control() const noexcept { return (opcode & 8U) != 0; }
};

/// Most bytes of a header that is not masked.
inline constexpr std::size_t max_websocket_header = 10;

/// Writes the header of a frame that is not masked; returns its end.
inline char* write_websocket_header(char* p, unsigned first_byte, std::uint64_t length) noexcept
{
    *p++ = static_cast<char>(first_byte);
    const unsigned extra = length < 126 ? 0 : length <= 0xffff ? 2 : 8;
    *p++ = static_cast<char>(extra == 0 ? length : extra == 2 ? 126 : 127);
    for (unsigned i = extra; i-- != 0;)
        *p++ = static_cast<char>(length >> 8 * i);
    return p;
}

} // namespace holdfast::detail

#endif
