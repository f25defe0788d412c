// holdfast: from the bytes of a WebSocket client to its messages, in place. No I/O; standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_MESSAGE_ASSEMBLER_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_MESSAGE_ASSEMBLER_HPP

#include <holdfast/detail/websocket/frame_header.hpp>
#include <holdfast/detail/websocket/utf8_validator.hpp>
#include <holdfast/websocket_error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast::detail {

/// What an assembler accepts.
struct websocket_limits {
    std::uint32_t max_message;
    bool text = true;
    bool binary = true;
    bool compressed = false; // permessage-deflate was negotiated

    /// Most bytes of a message as it is received. Data that does not compress gets a little longer, more so where a
    /// client flushes its compressor for each fragment.
    [[nodiscard]] std::size_t max_received(bool is_compressed) const noexcept
    {
        return is_compressed ? std::size_t{max_message} + max_message / 8 + 64 : std::size_t{max_message};
    }
};

/// Assembles messages in the buffer that their bytes were received into. The buffer contains the bytes of the message
/// that has begun, unmasked and without headers, and then those that were received after them and not examined yet.
/// Positions are relative to the buffer's data, which may move.
class message_assembler {
public:
    enum class event : std::uint8_t { incomplete, message, ping, pong, close, violation };

    struct result {
        event what = event::incomplete;
        std::string_view bytes{}; // of the message, as received, or the control frame; valid until the buffer changes
        bool text = false;        // of a message
        bool compressed = false;
        websocket_errc error{};
    };

    /// Examines what was received. To be called again until it returns `incomplete` or `violation`.
    result next(char* data, const websocket_limits& limits) noexcept
    {
        for (;;) {
            if (!within_message()) begin_ = assembled_ = raw_;
            if (in_frame_) {
                if (!take_payload(data)) return violation(websocket_errc::invalid_text);
                if (left_ != 0) return {};
                in_frame_ = false;
                if (final_) return end_message(data);
            }
            if (raw_ == end_) return {};
            const websocket_header h = websocket_header::parse({data + raw_, end_ - raw_});
            if (const auto error = check(h, limits); error != websocket_errc{}) return violation(error);
            if (!h.complete) return {};
            if (h.is_control()) {
                if (end_ - raw_ < h.size + h.length) return {};
                return take_control(data, h);
            }
            begin_frame(h);
        }
    }

    /// Returns whether a message has begun whose last byte was not handed out, or bytes are left.
    [[nodiscard]] bool idle() const noexcept { return !within_message() && raw_ == end_; }

    /// Moves what is left to the front of the buffer. Precondition: nothing handed out is in use.
    void compact(char* data) noexcept
    {
        if (!within_message()) begin_ = assembled_ = raw_;
        const std::size_t message = assembled_ - begin_;
        if (begin_ != 0) std::memmove(data, data + begin_, message);
        if (raw_ != message) std::memmove(data + message, data + raw_, end_ - raw_);
        end_ -= raw_ - message;
        begin_ = 0;
        assembled_ = raw_ = message;
    }

    /// The bytes in use begin at the buffer's data and end here. Precondition: `compact()`.
    [[nodiscard]] std::size_t end() const noexcept { return end_; }

    void received(std::size_t size) noexcept { end_ += size; }

    /// The bytes that were not examined, and are not of a message that has begun.
    [[nodiscard]] std::string_view rest(const char* data) const noexcept { return {data + raw_, end_ - raw_}; }

private:
    [[nodiscard]] bool within_message() const noexcept { return kind_ != 0; }

    static result violation(websocket_errc error) noexcept { return {.what = event::violation, .error = error}; }

    /// In the order of the header's bytes, so that the error does not depend on how these are cut.
    [[nodiscard]] websocket_errc check(const websocket_header& h, const websocket_limits& limits) const noexcept
    {
        using enum websocket_errc;
        namespace opcode = websocket_opcode;
        const bool may_be_compressed = limits.compressed && (h.opcode == opcode::text || h.opcode == opcode::binary);
        if ((h.reserved & (may_be_compressed ? 3U : 7U)) != 0) return reserved_bit;
        if (h.is_control()) {
            if (h.opcode > opcode::pong) return reserved_opcode;
            if (!h.final) return fragmented_control;
        } else {
            if (h.opcode > opcode::binary) return reserved_opcode;
            if (h.opcode == opcode::continuation && !within_message()) return unexpected_continuation;
            if (h.opcode != opcode::continuation && within_message()) return message_interrupted;
            if ((h.opcode == opcode::text && !limits.text) || (h.opcode == opcode::binary && !limits.binary))
                return unaccepted_kind;
        }
        if (h.length_size == 0) return {};
        if (!h.masked) return unmasked_frame;
        if (h.is_control() && h.length_size != 1) return control_too_long;
        if (!length_known(h)) return {};
        if ((h.length_size == 3 && h.length < 126) || (h.length_size == 9 && h.length <= 0xffff) ||
            h.length >> 63U != 0)
            return invalid_length;
        const bool is_compressed = within_message() ? compressed_ : h.reserved != 0;
        if (!h.is_control() && h.length > limits.max_received(is_compressed) - (assembled_ - begin_))
            return message_too_long;
        if (is_empty_fragment(h) && within_message() && empty_fragments_ == limits.max_message)
            return too_many_fragments;
        return {};
    }

    /// Whether it is one of those of which a message could have any number: all others add a byte, or end it.
    static bool is_empty_fragment(const websocket_header& h) noexcept
    {
        return !h.is_control() && !h.final && h.length == 0;
    }

    [[nodiscard]] bool length_known(const websocket_header& h) const noexcept
    {
        return h.length_size == 1 || end_ - raw_ > h.length_size;
    }

    void begin_frame(const websocket_header& h) noexcept
    {
        raw_ += h.size;
        if (!within_message()) {
            kind_ = h.opcode;
            compressed_ = h.reserved != 0;
            text_ = {};
            empty_fragments_ = 0;
        }
        if (begin_ == assembled_) begin_ = assembled_ = raw_; // its first bytes stay where they are
        if (is_empty_fragment(h)) ++empty_fragments_;
        in_frame_ = true;
        final_ = h.final;
        left_ = h.length;
        mask_ = h.mask;
    }

    /// False if the text is not UTF-8.
    bool take_payload(char* data) noexcept
    {
        const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, end_ - raw_));
        char* const to = data + assembled_;
        mask_.apply(to, data + raw_, size);
        assembled_ += size;
        raw_ += size;
        left_ -= size;
        if (kind_ != websocket_opcode::text || compressed_) return true;
        return text_.take({to, size}) && (left_ != 0 || !final_ || text_.complete());
    }

    result end_message(const char* data) noexcept
    {
        const result r{.what = event::message,
                       .bytes = {data + begin_, assembled_ - begin_},
                       .text = kind_ == websocket_opcode::text,
                       .compressed = compressed_};
        kind_ = 0;
        return r;
    }

    result take_control(char* data, websocket_header h) noexcept
    {
        const auto length = static_cast<std::size_t>(h.length);
        char* const bytes = data + raw_ + h.size;
        h.mask.apply(bytes, bytes, length);
        raw_ += h.size + length;
        const event what = h.opcode == websocket_opcode::close  ? event::close
                           : h.opcode == websocket_opcode::ping ? event::ping
                                                                : event::pong;
        return {.what = what, .bytes = {bytes, length}};
    }

    std::size_t begin_ = 0;     // of the message that has begun,
    std::size_t assembled_ = 0; // and the end of its bytes
    std::size_t raw_ = 0;       // the bytes that were not examined,
    std::size_t end_ = 0;       // and their end
    std::uint64_t left_ = 0;    // of the payload of the frame that has begun
    websocket_mask mask_;
    std::uint32_t empty_fragments_ = 0; // of the message that has begun
    std::uint8_t kind_ = 0;             // the opcode of the message that has begun
    bool in_frame_ = false;
    bool final_ = false;
    bool compressed_ = false;
    utf8_validator text_;
};

/// The code and the reason of a Close frame.
struct websocket_close_payload {
    std::uint16_t code = 1005;
    std::string_view reason{};
    websocket_errc error{};

    static websocket_close_payload parse(std::string_view bytes) noexcept
    {
        websocket_close_payload close;
        if (bytes.empty()) return close;
        if (bytes.size() == 1) {
            close.error = websocket_errc::invalid_close;
            return close;
        }
        close.code = static_cast<std::uint16_t>(static_cast<unsigned char>(bytes[0]) << 8U |
                                                static_cast<unsigned char>(bytes[1]));
        close.reason = bytes.substr(2);
        if (!may_be_sent(close.code)) {
            close.error = websocket_errc::invalid_close;
            return close;
        }
        utf8_validator text;
        if (!text.take(close.reason) || !text.complete()) close.error = websocket_errc::invalid_text;
        return close;
    }

    /// Whether a Close frame may contain the code: those of RFC 6455 and of its registry, and those of applications.
    static constexpr bool may_be_sent(std::uint16_t code) noexcept
    {
        return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
               (code >= 3000 && code <= 4999);
    }
};

} // namespace holdfast::detail

#endif
