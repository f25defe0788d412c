// holdfast: the frames that a WebSocket server sends, as payloads and as framings of streamed messages.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WEBSOCKET_FRAME_HPP
#define HOLDFAST_WEBSOCKET_FRAME_HPP

#include <holdfast/detail/websocket/frame_header.hpp>
#include <holdfast/framing.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/websocket_error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast {

/// The kinds of WebSocket messages.
enum class websocket_kind : std::uint8_t {
    text = 1, ///< UTF-8
    binary = 2,
};

namespace framing {

/// Writes a message as one WebSocket frame (RFC 6455), not masked, as a server does. The length is counted in a pass
/// over the source before the first byte.
///
///     const auto quote = holdfast::serialize_to_payload(
///         holdfast::formatted(std::ref(q), holdfast::framed{holdfast::framing::websocket{}, holdfast::json{}}));
struct websocket {
    websocket_kind kind = websocket_kind::text;

    static constexpr std::size_t max_header_size = detail::max_websocket_header;
    static constexpr std::size_t max_trailer_size = 0;
    static constexpr std::uint64_t max_size = 0x7fffffffffffffff;

    char* write_header(char* p, std::uint64_t size) const noexcept
    {
        return detail::write_websocket_header(p, 0x80U | static_cast<unsigned>(kind), size);
    }
    static char* write_trailer(char* p) noexcept { return p; }
};

/// Writes a message as WebSocket fragments, each as large as the chunk allows: neither side holds the whole message.
/// Push it with `stream_options::interleave_control`, so that pings and pongs go between the fragments; RFC 6455
/// permits no other message there.
///
///     const holdfast::framed fragments{holdfast::framing::websocket_fragments{}, holdfast::json{}};
///     outbox.push_streamed(holdfast::formatted(rows, fragments), {.interleave_control = true});
struct websocket_fragments {
    websocket_kind kind = websocket_kind::text;

    static constexpr std::size_t max_header_size = detail::max_websocket_header;
    static constexpr std::size_t max_trailer_size = 0;

    char* write_header(char* p, const part& frame) const noexcept
    {
        const unsigned opcode = frame.first ? static_cast<unsigned>(kind) : detail::websocket_opcode::continuation;
        return detail::write_websocket_header(p, (frame.last ? 0x80U : 0U) | opcode, frame.size);
    }
    static char* write_trailer(char* p, const part&) noexcept { return p; }
};

} // namespace framing

namespace detail {

inline payload make_websocket_frame(unsigned opcode, std::string_view bytes, payload_sharing sharing)
{
    char header[max_websocket_header];
    const char* const end = write_websocket_header(header, 0x80U | opcode, bytes.size());
    return payload({header, static_cast<std::size_t>(end - header)}, bytes, sharing);
}

} // namespace detail

/// Makes a message as one frame, which any number of outboxes can share: a server does not mask. Text must be UTF-8;
/// it is not checked.
///
/// Exceptions: std::bad_alloc. Cost: one allocation, and a copy.
///
///     const holdfast::payload quote = holdfast::websocket_frame(R"({"bid":1.25})");
///     subscribers.push(quote);
[[nodiscard]] inline payload websocket_frame(std::string_view message, websocket_kind kind = websocket_kind::text,
                                             payload_sharing sharing = payload_sharing::any_thread)
{
    return detail::make_websocket_frame(static_cast<unsigned>(kind), message, sharing);
}

/// Makes a ping, for `outbox::push_control`. Only the first 125 bytes of `data` are sent.
///
///     holdfast::heartbeat_profile<session> browsers{heartbeats, {.ping_after = 20s, .timeout = 60s},
///         [ping = holdfast::websocket_ping()](session& s) { s.outbox.push_control(ping, holdfast::control_place::next); }};
///
/// Exceptions: std::bad_alloc.
[[nodiscard]] inline payload websocket_ping(std::string_view data = {})
{
    return detail::make_websocket_frame(detail::websocket_opcode::ping, data.substr(0, 125),
                                        payload_sharing::any_thread);
}

/// Makes a Close frame, for `outbox::push_final`. Of `reason`, which must be UTF-8, the first 123 bytes are sent, or a
/// few less, so that no character is cut. For `websocket_close_code::no_code` and `no_close_frame` the frame is empty.
/// The code is not checked: codes other than those of the enumeration and 3000 to 4999 are invalid.
///
/// Exceptions: std::bad_alloc.
[[nodiscard]] inline payload websocket_close_frame(websocket_close_code code, std::string_view reason = {})
{
    if (code == websocket_close_code::no_code || code == websocket_close_code::no_close_frame)
        return detail::make_websocket_frame(detail::websocket_opcode::close, {}, payload_sharing::any_thread);
    if (reason.size() > 123) {
        std::size_t size = 123;
        while (size != 0 && (static_cast<unsigned char>(reason[size]) & 0xc0U) == 0x80)
            --size;
        reason = reason.substr(0, size);
    }
    const auto number = static_cast<unsigned>(code);
    char bytes[125] = {static_cast<char>(number >> 8U), static_cast<char>(number)};
    if (!reason.empty()) std::memcpy(bytes + 2, reason.data(), reason.size());
    return detail::make_websocket_frame(detail::websocket_opcode::close, {bytes, 2 + reason.size()},
                                        payload_sharing::any_thread);
}

} // namespace holdfast

#endif
