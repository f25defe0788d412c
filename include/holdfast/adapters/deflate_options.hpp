// holdfast: the options of a deflate_pool, and how compressed messages are contained and end.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DEFLATE_OPTIONS_HPP
#define HOLDFAST_ADAPTERS_DEFLATE_OPTIONS_HPP

#include <holdfast/detail/saturated.hpp>

#include <cstddef>

namespace holdfast {

/// What stands around compressed bytes: nothing (RFC 1951), zlib's header and checksum (RFC 1950, HTTP's
/// `deflate`), or gzip's (RFC 1952).
enum class deflate_container : unsigned char { raw, zlib, gzip };

/// How a compressed message ends: with the end of the stream, or at a byte's boundary within it.
enum class deflate_end : unsigned char { finish, flush };

/// Options of a `deflate_pool`.
struct deflate_options {
    /// Number of compressors, and so of messages that are compressed at a time. At least 1.
    std::size_t compressors = 4;
    /// Container of the compressed bytes.
    deflate_container container = deflate_container::gzip;
    /// Compression level: 0 (stored), 1 (fast) to 9 (small).
    int level = 6;
    /// Window size as a power of two: 9 to 15.
    int window_bits = 15;
    /// Memory of the match search: 1 to 9.
    int memory_level = 8;

    /// Memory of one compressor in bytes: 4 * 2^window_bits + 2^(memory_level + 9) + 14 KiB. It is allocated
    /// with the pool. SIZE_MAX where these are out of range.
    [[nodiscard]] constexpr std::size_t compressor_bytes() const noexcept
    {
        using detail::saturated_shift;
        using detail::saturated_sum;
        return saturated_sum(saturated_sum(saturated_shift(4, window_bits), saturated_shift(512, memory_level)),
                             14 * 1024);
    }
};

} // namespace holdfast

#endif
