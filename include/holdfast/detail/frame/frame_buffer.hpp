// holdfast: the bytes that a reader has received and not handed out, in a borrowed buffer, and the frames in them. No
// I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_FRAME_FRAME_BUFFER_HPP
#define HOLDFAST_DETAIL_FRAME_FRAME_BUFFER_HPP

#include <holdfast/detail/frame/borrowed_buffer.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_time_limit.hpp>
#include <holdfast/framing.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// What a reader of frames keeps besides the bytes.
template <class Loan>
struct frame_bytes : buffer_head<Loan> {
    using buffer_head<Loan>::buffer_head;

    std::size_t begin = 0; // of the frame that comes next
    std::size_t end = 0;
    std::size_t seen = 0; // number of bytes that the framing was given before
};

/// Stands in for a framing where bytes are read as they are: `least` of them, and up to `most` that are there.
struct raw_bytes {
    std::size_t least;
    std::size_t most;

    [[nodiscard]] framing::bounds parse(std::string_view bytes, std::size_t) const noexcept
    {
        return {.payload = std::clamp(bytes.size(), least, most), .known = true};
    }
};

template <class Pool>
class frame_buffer : public borrowed_buffer<Pool, frame_bytes<typename Pool::loan_type>> {
    using bytes = frame_bytes<typename Pool::loan_type>;
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
    using base::max_frame;
    using base::pool;
    using typename base::loan_type;

    frame_buffer(Pool& from, std::size_t longest, std::size_t first, frame_time_limit* limit)
        : base(from, longest, first, limit, "frame_options::max_frame_bytes must be at least 1")
    {
    }

    /// Takes over the bytes of another, which keeps its limits.
    frame_buffer(frame_buffer& from) noexcept : base(from) { take_over(from); }

    /// Takes over the bytes of another with the same pool. This one must be empty.
    void take_over(frame_buffer& from) noexcept
    {
        drop();
        this->take_buffer(from);
        if (holds()) held()->seen = 0; // of another framing
    }

    /// Returns the next whole frame; the one before is invalid then. Nothing when there is none yet, or, with `why`,
    /// when there will be none.
    template <class Framing>
    std::optional<std::string_view> take(const Framing& framing, std::error_code& why) noexcept
    {
        if (!holds()) return std::nullopt;
        bytes* const b = held();
        if (b->late) {
            why = errc::frame_timeout;
            return std::nullopt;
        }
        const std::size_t size = b->end - b->begin;
        if (size == 0) return std::nullopt;
        const char* const from = data() + b->begin;
        const framing::bounds f = framing.parse({from, size}, b->seen);
        why = f.error;
        if (!why && f.payload > max_frame()) why = errc::frame_too_long;
        const std::size_t whole = f.header + f.payload + f.trailer;
        if (!why && (f.header > framing::max_overhead || f.trailer > framing::max_overhead ||
                     (f.known && whole == 0))) // which would be found without end
            why = errc::malformed_frame;
        if (!why && !f.known && size >= max_frame() + 2 * framing::max_overhead)
            why = errc::frame_too_long; // whatever the framing is still waiting for
        if (why) return std::nullopt;
        if (!f.known || whole > size) {
            b->seen = std::is_same_v<Framing, raw_bytes> ? 0 : size;
            return std::nullopt;
        }
        untime();
        b->begin += whole;
        b->seen = 0;
        return std::string_view(from + f.header, f.payload);
    }

    /// The bytes that were not handed out.
    [[nodiscard]] std::string_view rest() const noexcept
    {
        if (!holds()) return {};
        return {data() + held()->begin, held()->end - held()->begin};
    }

    /// Drops the first `n` bytes that were not handed out, or all of them.
    void consume(std::size_t n) noexcept
    {
        if (!holds()) return;
        untime();
        held()->begin += std::min(n, held()->end - held()->begin);
        held()->seen = 0;
    }

    /// Whether no byte is held that was not handed out.
    [[nodiscard]] bool empty() const noexcept { return !holds() || held()->begin == held()->end; }

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
        bytes* const b = held();
        if (b->begin != 0) {
            std::memmove(data(), data() + b->begin, b->end - b->begin);
            b->end -= std::exchange(b->begin, 0);
        }
        if (b->end == capacity() && !this->grow(b->end, [](bytes& to, const bytes& from) noexcept {
                to.end = from.end;
                to.seen = from.seen;
            }))
            return {};
        return {data() + held()->end, capacity() - held()->end};
    }

    void received(std::size_t n) noexcept { held()->end += n; }
};

} // namespace holdfast::detail

#endif
