// holdfast: checks UTF-8 piece by piece. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_UTF8_VALIDATOR_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_UTF8_VALIDATOR_HPP

#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast::detail {

/// Rejects a text at the first byte that no UTF-8 can contain there, wherever the pieces are cut.
class utf8_validator {
public:
    /// Takes the next piece; false if it is not UTF-8.
    bool take(std::string_view piece) noexcept
    {
        const char* p = piece.data();
        const char* const end = p + piece.size();
        while (p != end) {
            if (missing_ == 0) {
                p = skip_ascii(p, end);
                if (p == end) return true;
            }
            if (!take(static_cast<unsigned char>(*p++))) return false;
        }
        return true;
    }

    /// Whether the text may end here.
    [[nodiscard]] bool complete() const noexcept { return missing_ == 0; }

private:
    static const char* skip_ascii(const char* p, const char* end) noexcept
    {
        for (std::uint64_t word = 0; end - p >= 8; p += 8) {
            std::memcpy(&word, p, 8);
            if ((word & 0x8080808080808080U) != 0) break;
        }
        while (p != end && static_cast<unsigned char>(*p) < 0x80)
            ++p;
        return p;
    }

    bool take(unsigned char byte) noexcept
    {
        if (missing_ != 0) {
            if (byte < least_ || byte > most_) return false;
            --missing_;
            least_ = 0x80;
            most_ = 0xbf;
            return true;
        }
        if (byte < 0x80) return true;
        if (byte < 0xc2 || byte > 0xf4) return false;
        missing_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        least_ = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80; // no longer form than needed
        most_ = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;  // no surrogate, nothing above U+10FFFF
        return true;
    }

    std::uint8_t missing_ = 0; // bytes of the character that has begun
    std::uint8_t least_ = 0x80;
    std::uint8_t most_ = 0xbf;
};

} // namespace holdfast::detail

#endif
