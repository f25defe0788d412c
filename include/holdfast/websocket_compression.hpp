// holdfast: what a WebSocket server needs of permessage-deflate (RFC 7692); websocket_deflate implements it with zlib.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WEBSOCKET_COMPRESSION_HPP
#define HOLDFAST_WEBSOCKET_COMPRESSION_HPP

#include <holdfast/payload.hpp>
#include <holdfast/websocket_frame.hpp>

#include <cstddef>
#include <span>
#include <string_view>

namespace holdfast {

namespace detail {

/// Where a message is decompressed to.
class inflate_target {
public:
    /// Returns where the next bytes go; empty if there is no more room.
    virtual std::span<char> room() noexcept = 0;
    /// Takes the bytes that were written there; false if no more are wanted.
    virtual bool written(std::size_t n) noexcept = 0;

protected:
    ~inflate_target() = default;
};

template <class Loan>
class inflated_message;

} // namespace detail

class websocket_compression;

/// A message as two frames, made once for any number of receivers.
struct websocket_frames {
    /// For clients that did not negotiate compression.
    payload plain;
    /// For those that did. The same as `plain` where compression would not make the message shorter.
    payload compressed;

    /// Returns the frame for a client; `negotiated` is its `websocket_handshake::compression`.
    [[nodiscard]] const payload& operator[](const websocket_compression* negotiated) const noexcept
    {
        return negotiated != nullptr ? compressed : plain;
    }
};

/// Compression of messages, with the parameters that are negotiated with every client: `accept_websocket` negotiates
/// them, a `websocket_reader` decompresses, and `frame()` compresses. Both directions are without context takeover:
/// each message is compressed by itself, so that no connection holds a compressor, and one frame goes to all receivers.
class websocket_compression {
public:
    websocket_compression(const websocket_compression&) = delete;
    websocket_compression& operator=(const websocket_compression&) = delete;

    /// Makes a message as one frame for clients that negotiated compression: compressed, or plain where that is not
    /// shorter. Text must be UTF-8; it is not checked.
    ///
    /// Exceptions: std::bad_alloc.
    [[nodiscard]] virtual payload frame(std::string_view message, websocket_kind kind = websocket_kind::text,
                                        payload_sharing sharing = payload_sharing::any_thread) = 0;

    /// Makes a message as the frames for all clients. Compresses once, whatever the number of receivers.
    ///
    /// Exceptions: std::bad_alloc.
    ///
    ///     const auto quote = deflate.frames(R"({"bid":1.25})");
    ///     for (auto& each : sessions)
    ///         each.outbox.push(quote[each.compression]);
    [[nodiscard]] websocket_frames frames(std::string_view message, websocket_kind kind = websocket_kind::text,
                                          payload_sharing sharing = payload_sharing::any_thread)
    {
        websocket_frames both{frame(message, kind, sharing), {}};
        both.compressed = both.plain;
        if ((static_cast<unsigned char>(both.plain.text().front()) & 0x40U) != 0)
            both.plain = websocket_frame(message, kind, sharing);
        return both;
    }

    /// Returns the size of the server's window as a power of two: 9 to 15. Offers of clients with a smaller one are
    /// declined.
    [[nodiscard]] unsigned server_window_bits() const noexcept { return server_window_bits_; }

    /// Returns the maximum size of a client's window as a power of two: 9 to 15. Below 15, offers of clients that
    /// cannot limit theirs are declined.
    [[nodiscard]] unsigned client_window_bits() const noexcept { return client_window_bits_; }

protected:
    websocket_compression(unsigned server_window_bits, unsigned client_window_bits) noexcept
        : server_window_bits_(server_window_bits), client_window_bits_(client_window_bits)
    {
    }
    ~websocket_compression() = default;

private:
    template <class Loan>
    friend class detail::inflated_message;

    /// Decompresses the bytes of a message, which end without the last four of their flush. Returns false if they are
    /// invalid. When `to` has no room, or wants no more, it returns true at once.
    virtual bool inflate(std::string_view message, detail::inflate_target& to) noexcept = 0;

    unsigned server_window_bits_;
    unsigned client_window_bits_;
};

/// Makes a message as one frame for one client; `negotiated` is its `websocket_handshake::compression`, null without
/// compression.
///
/// Exceptions: std::bad_alloc.
[[nodiscard]] inline payload websocket_frame(websocket_compression* negotiated, std::string_view message,
                                             websocket_kind kind = websocket_kind::text,
                                             payload_sharing sharing = payload_sharing::any_thread)
{
    return negotiated != nullptr ? negotiated->frame(message, kind, sharing) : websocket_frame(message, kind, sharing);
}

} // namespace holdfast

#endif
