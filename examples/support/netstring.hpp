// holdfast: netstrings, a framing of the examples' own: 5:hello, is a message of five bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_NETSTRING_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_NETSTRING_HPP

#include <holdfast/framing.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace examples {

/// The payload's length in decimal digits and a colon in front of it, a comma after it (which is not looked
/// at). At most nine digits are read.
struct netstring {
    /// Reading: what is known of the frame that `bytes` begin with.
    [[nodiscard]] static holdfast::framing::bounds parse(std::string_view bytes, std::size_t) noexcept
    {
        std::size_t digits = 0;
        std::size_t length = 0;
        for (; digits < bytes.size() && bytes[digits] >= '0' && bytes[digits] <= '9' && digits < 9; ++digits)
            length = 10 * length + static_cast<std::size_t>(bytes[digits] - '0');
        if (digits == bytes.size()) return {.header = digits + 1}; // so many bytes at least
        if (digits == 0 || bytes[digits] != ':') return {.error = holdfast::errc::malformed_frame};
        return {.header = digits + 1, .payload = length, .trailer = 1, .known = true};
    }

    // Writing: what stands around a message whose size is known, and how much room that takes.

    static constexpr std::size_t max_header_size = 21;
    static constexpr std::size_t max_trailer_size = 1;

    static char* write_header(char* p, std::uint64_t size) noexcept
    {
        p = std::to_chars(p, p + 20, size).ptr;
        *p++ = ':';
        return p;
    }

    static char* write_trailer(char* p) noexcept
    {
        *p++ = ',';
        return p;
    }
};

} // namespace examples

#endif
