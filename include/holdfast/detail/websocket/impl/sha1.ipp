// holdfast: the bodies of sha1.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_IMPL_SHA1_IPP
#define HOLDFAST_DETAIL_WEBSOCKET_IMPL_SHA1_IPP

#include <holdfast/detail/websocket/sha1.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast::detail {

HOLDFAST_DECL std::array<unsigned char, 20> sha1(std::string_view text)
{
    std::string padded(text);
    padded += '\x80';
    padded.append((120 - padded.size() % 64) % 64, '\0');
    for (unsigned i = 8; i-- != 0;)
        padded += static_cast<char>(std::uint64_t{text.size()} * 8 >> 8 * i);

    std::array<std::uint32_t, 5> state{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    for (std::size_t block = 0; block != padded.size(); block += 64) {
        std::array<std::uint32_t, 80> w{};
        for (std::size_t i = 0; i != 64; ++i)
            w[i / 4] = w[i / 4] << 8U | static_cast<unsigned char>(padded[block + i]);
        for (std::size_t i = 16; i != 80; ++i)
            w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        auto [a, b, c, d, e] = state;
        for (std::size_t i = 0; i != 80; ++i) {
            const std::uint32_t f = i < 20   ? (b & c) | (~b & d)
                                    : i < 40 ? b ^ c ^ d
                                    : i < 60 ? (b & c) | (b & d) | (c & d)
                                             : b ^ c ^ d;
            constexpr std::array<std::uint32_t, 4> k{0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
            const std::uint32_t next = std::rotl(a, 5) + f + e + k[i / 20] + w[i];
            e = d;
            d = c;
            c = std::rotl(b, 30);
            b = a;
            a = next;
        }
        state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
    }
    std::array<unsigned char, 20> digest{};
    for (std::size_t i = 0; i != digest.size(); ++i)
        digest[i] = static_cast<unsigned char>(state[i / 4] >> (24 - 8 * (i % 4)));
    return digest;
}

HOLDFAST_DECL std::string base64_digest(const std::array<unsigned char, 20>& bytes)
{
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::uint32_t three = static_cast<std::uint32_t>(bytes[i]) << 16U |
                                    static_cast<std::uint32_t>(bytes[i + 1]) << 8U |
                                    (i + 2 < bytes.size() ? bytes[i + 2] : 0U);
        for (unsigned j = 0; j != 4; ++j)
            text += digest_alphabet[three >> (18 - 6 * j) & 63U];
    }
    text.back() = '='; // 20 bytes leave two
    return text;
}

} // namespace holdfast::detail

#endif
