// holdfast: the bytes that a reader has received and not handed out, in a borrowed buffer, and the frames in them. No
// I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_FRAME_FRAME_BUFFER_HPP
#define HOLDFAST_DETAIL_FRAME_FRAME_BUFFER_HPP

#include <holdfast/error.hpp>
#include <holdfast/frame_time_limit.hpp>
#include <holdfast/framing.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// What a reader keeps besides the bytes. It lies at the beginning of the buffer, so that a reader without a buffer is
/// small.
template <class Loan>
struct frame_bytes : frame_time_limit::frame {
    explicit frame_bytes(Loan&& from) noexcept : loan(std::move(from)) {}

    Loan loan;             // of the buffer that contains this object
    std::size_t begin = 0; // of the frame that comes next
    std::size_t end = 0;
    std::size_t seen = 0; // number of bytes that the framing was given before

    char* data() noexcept { return loan.data() + sizeof(frame_bytes); }
};

/// Number of readable bytes after each frame, for parsers that read whole vectors.
inline constexpr std::size_t frame_padding = 64;

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
class frame_buffer : public frame_time_limit::reader {
public:
    using loan_type = typename Pool::loan_type;

    frame_buffer(Pool& pool, std::size_t max_frame, std::size_t first_bytes, frame_time_limit* limit)
        : pool_(pool),
          max_frame_(
              static_cast<std::uint32_t>(std::min<std::size_t>(max_frame, std::numeric_limits<std::uint32_t>::max()))),
          first_bytes_(static_cast<std::uint32_t>(
              std::clamp<std::size_t>(first_bytes, sizeof(bytes) + frame_padding + 1, std::size_t{1} << 30U))),
          limit_(limit)
    {
        if (max_frame == 0) throw std::invalid_argument("frame_options.max_frame_bytes must be at least 1");
    }

    /// Takes over the bytes of another, which keeps its limits.
    frame_buffer(frame_buffer& from) noexcept
        : pool_(from.pool_), max_frame_(from.max_frame_), first_bytes_(from.first_bytes_), limit_(from.limit_)
    {
        take_over(from);
    }

    ~frame_buffer() { drop(); }

    /// Takes over the bytes of another with the same pool. This one must be empty.
    void take_over(frame_buffer& from) noexcept
    {
        from.untime(); // it has the address of the other
        drop();
        incomplete = std::exchange(from.incomplete, nullptr);
        if (incomplete != nullptr) held()->seen = 0; // of another framing
    }

    /// Returns the next whole frame; the one before is invalid then. Nothing when there is none yet, or, with `why`,
    /// when there will be none.
    template <class Framing>
    std::optional<std::string_view> take(const Framing& framing, std::error_code& why) noexcept
    {
        bytes* const b = held();
        if (b == nullptr) return std::nullopt;
        if (b->late) {
            why = errc::frame_timeout;
            return std::nullopt;
        }
        const std::size_t size = b->end - b->begin;
        if (size == 0) return std::nullopt;
        const char* const from = b->data() + b->begin;
        const framing::bounds f = framing.parse({from, size}, b->seen);
        why = f.error;
        if (!why && f.payload > max_frame_) why = errc::frame_too_long;
        const std::size_t whole = f.header + f.payload + f.trailer;
        if (!why && (f.header > framing::max_overhead || f.trailer > framing::max_overhead ||
                     (f.known && whole == 0))) // which would be found without end
            why = errc::malformed_frame;
        if (!why && !f.known && size >= std::size_t{max_frame_} + 2 * framing::max_overhead)
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
        return {held()->data() + held()->begin, held()->end - held()->begin};
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
    [[nodiscard]] bool empty() const noexcept { return held() == nullptr || held()->begin == held()->end; }

    /// Whether a buffer is held.
    [[nodiscard]] bool holds() const noexcept { return held() != nullptr; }

    /// Whether the frame was late.
    [[nodiscard]] bool late() const noexcept { return holds() && held()->late; }

    [[nodiscard]] std::size_t max_frame() const noexcept { return max_frame_; }

    /// Whether frames are timed.
    [[nodiscard]] bool timed() const noexcept { return limit_ != nullptr; }

    /// Times the frame that has begun, unless it is timed already. Throws std::bad_alloc.
    void time(void* socket, void (*end_reading)(void*) noexcept)
    {
        bytes& b = *held();
        if (b.watch != nullptr || b.late) return;
        b.socket = socket;
        b.end_reading = end_reading;
        b.watch = limit_->begin(*this);
    }

    /// Returns the buffer to the pool if it is empty.
    void shrink() noexcept
    {
        if (empty()) drop();
    }

    /// Size of the first buffer.
    [[nodiscard]] std::size_t first_bytes() const noexcept { return first_bytes_; }

    /// Returns where more bytes can be received. When the buffer is full, one twice as large is borrowed. Empty if
    /// there is none to be had.
    std::span<char> room() noexcept
    {
        if (!holds()) {
            adopt(pool_.try_borrow(first_bytes_));
            if (!holds()) return {};
        }
        bytes* b = held();
        if (b->begin != 0) {
            std::memmove(b->data(), b->data() + b->begin, b->end - b->begin);
            b->end -= std::exchange(b->begin, 0);
        }
        if (b->end == capacity()) {
            auto larger = pool_.try_borrow(2 * b->loan.size());
            if (!larger) return {};
            char* const place = larger.data();
            auto* const moved = ::new (static_cast<void*>(place)) bytes(std::move(larger));
            std::memcpy(moved->data(), b->data(), b->end);
            moved->end = b->end;
            moved->seen = b->seen;
            static_cast<frame_time_limit::frame&>(*moved) = *b;
            b->watch = nullptr;
            drop();
            incomplete = b = moved;
        }
        return {b->data() + b->end, capacity() - b->end};
    }

    void received(std::size_t n) noexcept { held()->end += n; }

    void adopt(loan_type loan) noexcept
    {
        if (!loan) return;
        char* const place = loan.data();
        incomplete = ::new (static_cast<void*>(place)) bytes(std::move(loan));
    }

    Pool& pool() noexcept { return pool_; }

private:
    using bytes = frame_bytes<loan_type>;

    bytes* held() const noexcept { return static_cast<bytes*>(incomplete); }

    std::size_t capacity() const noexcept { return held()->loan.size() - sizeof(bytes) - frame_padding; }

    void untime() noexcept
    {
        if (incomplete != nullptr && incomplete->watch != nullptr)
            limit_->end(std::exchange(incomplete->watch, nullptr));
    }

    void drop() noexcept
    {
        if (incomplete == nullptr) return;
        untime();
        bytes* const b = held();
        incomplete = nullptr;
        const loan_type until_the_end = std::move(b->loan);
        b->~bytes();
    }

    Pool& pool_;
    const std::uint32_t max_frame_;
    const std::uint32_t first_bytes_;
    frame_time_limit* limit_;
};

} // namespace holdfast::detail

#endif
