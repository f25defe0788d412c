// holdfast: the bytes that a websocket_reader has received, and what it does with the frames in them. No I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_WEBSOCKET_BUFFER_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_WEBSOCKET_BUFFER_HPP

#include <holdfast/detail/frame/borrowed_buffer.hpp>
#include <holdfast/detail/websocket/inflated_message.hpp>
#include <holdfast/detail/websocket/message_assembler.hpp>
#include <holdfast/error.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/websocket_compression.hpp>
#include <holdfast/websocket_error.hpp>
#include <holdfast/websocket_frame.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast {

/// A message that a `websocket_reader` has read.
struct websocket_message {
    /// The bytes, from all fragments; UTF-8 where the kind is text. Valid until the reader's next operation.
    std::string_view data;
    websocket_kind kind = websocket_kind::text;
};

} // namespace holdfast

namespace holdfast::detail {

/// What a reader of a WebSocket is given.
struct websocket_protocol {
    outbox_base* outbox;
    websocket_compression* compression; // null: not negotiated
    bool text;                          // accepted
    bool binary;                        // accepted
};

/// What a reader of a WebSocket keeps besides the bytes.
template <class Loan>
struct websocket_bytes : buffer_head<Loan> {
    using buffer_head<Loan>::buffer_head;

    message_assembler assembler;
    std::string_view close_reason;
    message_assembler::result compressed; // a message for whose decompression there was no buffer yet
    inflated_message<Loan> inflated;
};

/// The framing of a websocket_reader: its buffer keeps the state of it, where it takes less.
struct framing_of_buffer {};

template <class Pool>
class websocket_buffer : public borrowed_buffer<Pool, websocket_bytes<typename Pool::loan_type>> {
    using bytes = websocket_bytes<typename Pool::loan_type>;
    using event = message_assembler::event;
    using base = borrowed_buffer<Pool, bytes>;
    using base::capacity;
    using base::data;
    using base::drop;
    using base::held;
    using base::untime;

public:
    using base::adopt;
    using base::first_bytes;
    using base::holds;
    using base::late;
    using base::pool;
    using typename base::loan_type;

    websocket_buffer(Pool& from, std::size_t longest, std::size_t first, frame_time_limit* limit,
                     const websocket_protocol& protocol)
        : base(from, longest, first, limit, "websocket_options::max_message_bytes must be at least 1"),
          text_(protocol.text),
          binary_(protocol.binary),
          outbox_(protocol.outbox),
          compression_(protocol.compression)
    {
    }

    [[nodiscard]] websocket_close_code close_code() const noexcept { return close_code_; }
    [[nodiscard]] websocket_compression* compression() const noexcept { return compression_; }

    /// Takes over the bytes that another reader has received and not handed out. Throws std::bad_alloc if they need a
    /// larger buffer and there is none to be had; the other then keeps them.
    template <class Other>
    void take_over(Other& from)
    {
        const std::string_view rest = from.rest();
        const std::size_t needed = sizeof(bytes) + rest.size() + frame_padding;
        if (rest.empty()) return from.shrink();
        loan_type larger;
        if (from.lent() < needed) {
            larger = pool().try_borrow(needed);
            if (!larger) throw std::bad_alloc();
        }
        loan_type previous = from.release();
        loan_type& to = larger ? larger : previous;
        std::memmove(to.data() + sizeof(bytes), rest.data(), rest.size());
        adopt(std::move(to));
        held()->assembler.received(rest.size());
    }

    /// Returns the next whole message. Nothing when there is none yet, or, with `why`, when there will be none.
    std::optional<websocket_message> take(framing_of_buffer, std::error_code& why) noexcept
    {
        if (failure_ != 0)
            why = static_cast<websocket_errc>(failure_);
        else if (ended())
            why = errc::truncated_frame; // which `ended()` turns into the end
        else if (late())
            why = errc::frame_timeout;
        if (why || !holds()) return std::nullopt;
        held()->inflated.clear();
        const websocket_limits limits{max_message(), text_, binary_, compression_ != nullptr};
        for (;;) {
            const bool again = held()->compressed.what == event::message;
            const auto next = again ? held()->compressed : held()->assembler.next(data(), limits);
            switch (next.what) {
            case event::incomplete:
                if (held()->assembler.idle()) untime();
                return std::nullopt;
            case event::message:
                if (next.compressed) return inflate(next, why);
                untime();
                return websocket_message{next.bytes, kind_of(next)};
            case event::ping:
                answer_ping(next.bytes);
                break;
            case event::pong:
                break;
            case event::close:
                if (const auto close = websocket_close_payload::parse(next.bytes); close.error == websocket_errc{}) {
                    untime();
                    held()->close_reason = close.reason;
                    close_code_ = static_cast<websocket_close_code>(close.code);
                    push_close(close_code_, {});
                    why = errc::truncated_frame;
                } else {
                    fail(close.error, why);
                }
                return std::nullopt;
            case event::violation:
                fail(next.error, why);
                return std::nullopt;
            }
        }
    }

    /// Whether the peer has closed the connection by a Close frame.
    [[nodiscard]] bool ended() const noexcept { return close_code_ != websocket_close_code::no_close_frame; }

    /// The reason in the peer's Close frame.
    [[nodiscard]] std::string_view close_reason() const noexcept
    {
        return holds() ? held()->close_reason : std::string_view();
    }

    /// Whether no message has begun, and no byte is held that was not examined.
    [[nodiscard]] bool empty() const noexcept
    {
        return !holds() || ended() || (held()->assembler.idle() && held()->compressed.what != event::message);
    }

    /// Returns the buffer to the pool if it is empty.
    void shrink() noexcept
    {
        if (empty()) drop();
    }

    /// Returns where more bytes can be received. When the buffer is full, one twice as large is borrowed. Empty if
    /// there is none to be had.
    std::span<char> room() noexcept
    {
        if (!holds()) {
            adopt(pool().try_borrow(first_bytes()));
            if (!holds()) return {};
        }
        held()->assembler.compact(data());
        const std::size_t used = held()->assembler.end();
        if (used == capacity() &&
            !this->grow(used, [](bytes& to, const bytes& from) noexcept { to.assembler = from.assembler; }))
            return {};
        return {data() + used, capacity() - used};
    }

    void received(std::size_t n) noexcept { held()->assembler.received(n); }

private:
    static websocket_kind kind_of(const message_assembler::result& message) noexcept
    {
        return message.text ? websocket_kind::text : websocket_kind::binary;
    }

    [[nodiscard]] std::uint32_t max_message() const noexcept { return static_cast<std::uint32_t>(this->max_frame()); }

    std::optional<websocket_message> inflate(const message_assembler::result& message, std::error_code& why) noexcept
    {
        bytes& b = *held();
        why = b.inflated.take(*compression_, message.bytes, message.text, max_message(), pool());
        if (why == errc::pool_exhausted) {
            b.compressed = message;
            return std::nullopt;
        }
        b.compressed = {};
        if (why) {
            fail(static_cast<websocket_errc>(why.value()), why);
            return std::nullopt;
        }
        untime();
        return websocket_message{b.inflated.bytes(), kind_of(message)};
    }

    void fail(websocket_errc error, std::error_code& why) noexcept
    {
        failure_ = static_cast<std::uint8_t>(error) & 0x3fU;
        push_close(close_code_of(error), websocket_category::text(static_cast<int>(error)));
        why = error;
        drop();
    }

    void answer_ping(std::string_view ping) noexcept
    {
        try {
            outbox_->push_control(make_websocket_frame(websocket_opcode::pong, ping, payload_sharing::one_thread),
                                  control_place::next, pong);
        } catch (const std::bad_alloc&) { // a ping without a pong is one that was lost
        }
    }

    void push_close(websocket_close_code code, std::string_view reason) noexcept
    {
        try {
            outbox_->push_final(websocket_close_frame(code, reason));
        } catch (const std::bad_alloc&) {
            outbox_->push_final({}); // nothing may be sent any more
        }
    }

    /// The key of pongs in the outbox's reserve.
    static constexpr conflate pong{0};

    // The small ones come first, beside those of the base.
    std::uint8_t failure_ : 6 = 0; // a websocket_errc: then nothing is read any more
    bool text_ : 1;                // accepted
    bool binary_ : 1;              // accepted
    websocket_close_code close_code_ = websocket_close_code::no_close_frame;
    outbox_base* outbox_;
    websocket_compression* compression_; // null: not negotiated
};

} // namespace holdfast::detail

#endif
