// holdfast: websocket_deflate, permessage-deflate (RFC 7692) with a fixed number of compressors (zlib).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_WEBSOCKET_DEFLATE_HPP
#define HOLDFAST_ADAPTERS_WEBSOCKET_DEFLATE_HPP

#include <holdfast/adapters/detail/deflate_context.hpp>
#include <holdfast/adapters/detail/inflate_context.hpp>
#include <holdfast/detail/saturated.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/websocket_compression.hpp>
#include <holdfast/websocket_frame.hpp>

#include <cstddef>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string_view>

namespace holdfast {

/// Options of a `websocket_deflate`.
struct websocket_deflate_options {
    /// Number of compressors: messages that are compressed at a time. At least 1; one for each thread that sends makes
    /// sure that every message is compressed.
    std::size_t compressors = 1;
    /// Number of decompressors: messages that are decompressed at a time. At least 1; with one for each thread that
    /// reads no thread waits.
    std::size_t decompressors = 1;
    /// Messages of fewer bytes are sent uncompressed.
    std::size_t threshold = 128;
    /// Compression level: 1 (fast) to 9 (small).
    int level = 6;
    /// Size of the server's window as a power of two: 9 to 15. Clients that offer a smaller maximum get no compression.
    unsigned window_bits = 13;
    /// Memory of the match search: 1 to 9.
    int memory_level = 6;
    /// Maximum size of a client's window as a power of two: 9 to 15. Below 15, clients that cannot limit theirs get no
    /// compression.
    unsigned client_window_bits = 15;

    /// Memory in bytes of all compressors and decompressors. It is allocated at construction. It saturates at SIZE_MAX.
    [[nodiscard]] constexpr std::size_t bytes() const noexcept
    {
        using detail::saturated_product;
        using detail::saturated_shift;
        using detail::saturated_sum;
        const auto compressor = saturated_sum(
            saturated_sum(saturated_shift(4, window_bits), saturated_shift(512, memory_level)), 16 * 1024);
        const auto decompressor = saturated_sum(saturated_shift(1, client_window_bits), 10 * 1024);
        return saturated_sum(saturated_product(compressors, compressor),
                             saturated_product(decompressors, decompressor));
    }
};

/// Compression of WebSocket messages with zlib: one object serves all connections of a program. No connection holds a
/// compressor or decompressor, not even within a message: both are in use only during the call that compresses or
/// decompresses a whole message. A slow client can therefore not keep them from others.
///
///  - A message is compressed by `frame()`, or once for all receivers by `frames()`. It is sent uncompressed if it is
///    shorter than the threshold, if compression does not make it shorter, or if all compressors are in use by other
///    threads. Streamed messages (`framing::websocket`, `framing::websocket_fragments`) are sent uncompressed, which
///    the extension permits for each message.
///  - A message is decompressed by a `websocket_reader` when all of it has arrived. If other threads use all
///    decompressors, the thread blocks until the first of them has finished its message. Decompression ends as soon as
///    the message is longer than `max_message_bytes` (1009), or its text is not UTF-8, or its bytes are invalid (1007).
///
/// The memory is bounded by `websocket_deflate_options::bytes()`, whatever the number of connections.
///
/// Lifetime: must outlive the connections that negotiated it, and their readers.
/// Thread safety: all members may be called from any thread.
/// Cost: `frame()` allocates the payload, and while it compresses as many bytes as the message has.
///
///     holdfast::websocket_deflate deflate{{.compressors = threads, .decompressors = threads}};
///
///     const auto handshake = holdfast::accept_websocket(method, header, {.compression = &deflate});
///     holdfast::websocket_reader messages{std::move(lines), outbox, {.compression = handshake.compression}};
///     outbox.push(holdfast::websocket_frame(handshake.compression, text));
class websocket_deflate final : public websocket_compression {
public:
    /// Allocates all compressors and decompressors.
    ///
    /// Exceptions: std::bad_alloc; std::invalid_argument for an option out of range.
    explicit websocket_deflate(const websocket_deflate_options& options = {})
        : websocket_compression(options.window_bits, options.client_window_bits),
          threshold_(options.threshold),
          inflaters_(checked(options).decompressors, options.client_window_bits)
    {
        compressors_.make(options.compressors, deflate_container::raw, options.level,
                          static_cast<int>(options.window_bits), options.memory_level);
    }

    [[nodiscard]] payload frame(std::string_view message, websocket_kind kind = websocket_kind::text,
                                payload_sharing sharing = payload_sharing::any_thread) override
    {
        if (message.size() < threshold_ || message.size() < 2) return websocket_frame(message, kind, sharing);
        // A buffer that ends where compression would not pay.
        const auto buffer = std::make_unique_for_overwrite<char[]>(message.size());
        const std::size_t size = compress(message, buffer.get());
        if (size == 0) return websocket_frame(message, kind, sharing);
        constexpr unsigned rsv1 = 0x40;
        return detail::make_websocket_frame(rsv1 | static_cast<unsigned>(kind), {buffer.get(), size}, sharing);
    }

private:
    static const websocket_deflate_options& checked(const websocket_deflate_options& o)
    {
        const auto check = [](bool good, const char* why) {
            if (!good) throw std::invalid_argument(why);
        };
        check(o.compressors >= 1, "websocket_deflate_options::compressors must be at least 1");
        check(o.decompressors >= 1, "websocket_deflate_options::decompressors must be at least 1");
        check(o.level >= 1 && o.level <= 9, "websocket_deflate_options::level must be 1 to 9");
        check(o.window_bits >= 9 && o.window_bits <= 15, "websocket_deflate_options::window_bits must be 9 to 15");
        check(o.memory_level >= 1 && o.memory_level <= 9, "websocket_deflate_options::memory_level must be 1 to 9");
        check(o.client_window_bits >= 9 && o.client_window_bits <= 15,
              "websocket_deflate_options::client_window_bits must be 9 to 15");
        return o;
    }

    /// Compresses into as many bytes as the message has; returns the size without the end of the flush, 0 if it does
    /// not fit or there is no compressor.
    std::size_t compress(std::string_view message, char* buffer) noexcept
    {
        detail::deflate_context* const mine = compressors_.try_take();
        if (mine == nullptr) return 0;
        constexpr std::size_t flush_end = 4;
        const char* const end = buffer + message.size();
        char* p = buffer;
        mine->begin();
        for (bool ended = false; !ended && p != end;) {
            const std::string_view piece = message.substr(0, std::numeric_limits<int>::max());
            if (mine->hungry()) {
                mine->feed(piece);
                message.remove_prefix(piece.size());
            }
            p = mine->deflate(p, end, message.empty(), deflate_end::flush, ended);
        }
        compressors_.give_back(*mine);
        return p == end ? 0 : static_cast<std::size_t>(p - buffer) - flush_end;
    }

    bool inflate(std::string_view message, detail::inflate_target& to) noexcept override
    {
        return inflaters_.inflate(message, to);
    }

    std::size_t threshold_;
    detail::deflate_core compressors_;
    detail::inflate_pool inflaters_;
};

} // namespace holdfast

#endif
