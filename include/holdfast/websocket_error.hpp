// holdfast: the violations of the WebSocket protocol, each with the code that closes its connection. Standard library
// only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WEBSOCKET_ERROR_HPP
#define HOLDFAST_WEBSOCKET_ERROR_HPP

#include <holdfast/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace holdfast {

/// Close codes of RFC 6455, section 7.4. A Close frame may also contain 3000 to 4999, which applications define.
enum class websocket_close_code : std::uint16_t {
    normal = 1000,
    going_away = 1001,
    protocol_error = 1002,
    unsupported_data = 1003,
    no_code = 1005,        ///< The peer's Close frame contained no code. Never sent.
    no_close_frame = 1006, ///< The connection ended without a Close frame. Never sent.
    invalid_data = 1007,
    policy_violation = 1008,
    message_too_big = 1009,
    internal_error = 1011,
    service_restart = 1012,
    try_again_later = 1013,
};

/// Why a `websocket_reader` rejects what a peer has sent. `close_code_of` returns the code that each one closes the
/// connection with.
enum class websocket_errc : int {
    /// A client's frame was not masked.
    unmasked_frame = 1,
    /// A reserved bit was set that no negotiated extension defines.
    reserved_bit,
    /// An opcode is none of RFC 6455.
    reserved_opcode,
    /// A control frame was fragmented.
    fragmented_control,
    /// A control frame had more than 125 bytes.
    control_too_long,
    /// A continuation frame came without a message that it continues.
    unexpected_continuation,
    /// A new message began before the last fragment of the one before.
    message_interrupted,
    /// A length was not in its shortest form, or above 2^63 - 1.
    invalid_length,
    /// A Close frame had one byte, or a code that must not be sent.
    invalid_close,
    /// A text message, or the reason of a Close frame, is not UTF-8.
    invalid_text,
    /// A message is longer than `max_message_bytes`.
    message_too_long,
    /// A binary message where only text is accepted, or the reverse.
    unaccepted_kind,
    /// A compressed message cannot be decompressed.
    invalid_compression,
    /// A message has more empty fragments than `max_message_bytes`.
    too_many_fragments,
};

namespace detail {

class websocket_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "holdfast.websocket"; }

    std::string message(int value) const override { return std::string(text(value)); }

    bool equivalent(int value, const std::error_condition& group) const noexcept override
    {
        const bool exceeds = value == static_cast<int>(websocket_errc::message_too_long) ||
                             value == static_cast<int>(websocket_errc::too_many_fragments);
        return std::error_category::equivalent(value, group) || (exceeds && group == condition::limit_exceeded);
    }

    /// At most 123 bytes: a Close frame contains it.
    static std::string_view text(int value) noexcept
    {
        switch (static_cast<websocket_errc>(value)) {
        case websocket_errc::unmasked_frame:
            return "a WebSocket client must mask its frames";
        case websocket_errc::reserved_bit:
            return "a reserved bit of a WebSocket frame is set without an extension that defines it";
        case websocket_errc::reserved_opcode:
            return "a WebSocket frame has a reserved opcode";
        case websocket_errc::fragmented_control:
            return "a WebSocket control frame must not be fragmented";
        case websocket_errc::control_too_long:
            return "a WebSocket control frame must not have more than 125 bytes";
        case websocket_errc::unexpected_continuation:
            return "a WebSocket continuation frame has no message to continue";
        case websocket_errc::message_interrupted:
            return "a WebSocket message must end before the next one begins";
        case websocket_errc::invalid_length:
            return "the length of a WebSocket frame must be in its shortest form and below 2^63";
        case websocket_errc::invalid_close:
            return "a WebSocket Close frame has an invalid code";
        case websocket_errc::invalid_text:
            return "a WebSocket text message or close reason is not UTF-8";
        case websocket_errc::message_too_long:
            return "a WebSocket message is longer than max_message_bytes";
        case websocket_errc::unaccepted_kind:
            return "a WebSocket message is of a kind (text or binary) that is not accepted here";
        case websocket_errc::invalid_compression:
            return "a compressed WebSocket message cannot be decompressed";
        case websocket_errc::too_many_fragments:
            return "a WebSocket message has more empty fragments than max_message_bytes";
        }
        return "unknown WebSocket error";
    }
};

} // namespace detail

/// The category of `websocket_errc`, named "holdfast.websocket".
inline const std::error_category& websocket_error_category() noexcept
{
    static const detail::websocket_category instance;
    return instance;
}

/// Makes a `std::error_code` of `websocket_error_category()`; found by argument-dependent lookup.
inline std::error_code make_error_code(websocket_errc e) noexcept
{
    return {static_cast<int>(e), websocket_error_category()};
}

/// Returns the code that closes a connection after a violation.
constexpr websocket_close_code close_code_of(websocket_errc error) noexcept
{
    switch (error) {
    case websocket_errc::invalid_text:
    case websocket_errc::invalid_compression:
        return websocket_close_code::invalid_data;
    case websocket_errc::message_too_long:
    case websocket_errc::too_many_fragments: // 1008 is for what no other code describes
        return websocket_close_code::message_too_big;
    case websocket_errc::unaccepted_kind:
        return websocket_close_code::unsupported_data;
    default:
        return websocket_close_code::protocol_error;
    }
}

} // namespace holdfast

template <>
struct std::is_error_code_enum<holdfast::websocket_errc> : std::true_type {};

#endif
