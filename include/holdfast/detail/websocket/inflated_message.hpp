// holdfast: a compressed message of a WebSocket client, decompressed into a borrowed buffer within the message limit. No
// I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_INFLATED_MESSAGE_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_INFLATED_MESSAGE_HPP

#include <holdfast/detail/frame/borrowed_buffer.hpp>
#include <holdfast/detail/websocket/utf8_validator.hpp>
#include <holdfast/error.hpp>
#include <holdfast/websocket_compression.hpp>
#include <holdfast/websocket_error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast::detail {

template <class Loan>
class inflated_message {
public:
    /// Decompresses the message into a buffer of the pool, which is held until `clear()`, and which is enlarged as bytes
    /// come. Ends as soon as it is longer than `most`, or its text is not UTF-8.
    template <class Pool>
    std::error_code take(websocket_compression& by, std::string_view compressed, bool text, std::size_t most,
                         Pool& pool) noexcept
    {
        clear();
        target<Pool> to(*this, pool, text, most, 4 * compressed.size());
        const bool valid = by.inflate(compressed, to);
        if (to.failure) {
            clear();
            return to.failure;
        }
        if (!valid || (text && !to.utf8.complete())) {
            clear();
            return valid ? websocket_errc::invalid_text : websocket_errc::invalid_compression;
        }
        return {};
    }

    /// The message. Followed by `frame_padding` readable bytes, if it is not empty.
    [[nodiscard]] std::string_view bytes() const noexcept { return {loan_ ? loan_.data() : padding, size_}; }

    /// Returns the buffer to the pool.
    void clear() noexcept
    {
        loan_ = Loan();
        size_ = 0;
    }

private:
    static constexpr char padding[frame_padding] = {}; // of an empty message

    template <class Pool>
    struct target final : inflate_target {
        target(inflated_message& m, Pool& p, bool is_text, std::size_t limit, std::size_t expected) noexcept
            : message(m), pool(p), text(is_text), most(limit), first(std::min(expected, limit))
        {
        }

        std::span<char> room() noexcept override
        {
            const std::size_t capacity = message.loan_ ? message.loan_.size() - frame_padding : 0;
            if (message.size_ == most) return {&beyond, 1}; // a byte there is one too many
            if (message.size_ == capacity && !grow()) return {};
            return {message.loan_.data() + message.size_,
                    std::min(most, message.loan_.size() - frame_padding) - message.size_};
        }

        bool written(std::size_t n) noexcept override
        {
            if (n == 0) return true;
            if (message.size_ == most) return fail(websocket_errc::message_too_long);
            const std::string_view piece(message.loan_.data() + message.size_, n);
            message.size_ += n;
            return !text || utf8.take(piece) || fail(websocket_errc::invalid_text);
        }

        bool grow() noexcept
        {
            Loan larger = pool.try_borrow(message.loan_ ? 2 * message.loan_.size() : first + frame_padding);
            if (!larger) return fail(errc::pool_exhausted);
            if (message.size_ != 0) std::memcpy(larger.data(), message.loan_.data(), message.size_);
            message.loan_ = std::move(larger);
            return true;
        }

        bool fail(std::error_code why) noexcept
        {
            failure = why;
            return false;
        }

        inflated_message& message;
        Pool& pool;
        bool text;
        std::size_t most;
        std::size_t first;
        char beyond = 0;
        utf8_validator utf8{};
        std::error_code failure{};
    };

    Loan loan_;
    std::size_t size_ = 0;
};

} // namespace holdfast::detail

#endif
