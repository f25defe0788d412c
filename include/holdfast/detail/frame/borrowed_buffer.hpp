// holdfast: a reader's buffer, which it borrows while it holds bytes, and what it keeps besides them. No I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_FRAME_BORROWED_BUFFER_HPP
#define HOLDFAST_DETAIL_FRAME_BORROWED_BUFFER_HPP

#include <holdfast/frame_time_limit.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

namespace holdfast::detail {

/// Number of readable bytes after each frame, for parsers that read whole vectors.
inline constexpr std::size_t frame_padding = 64;

/// What a reader keeps besides the bytes. It lies at the beginning of the buffer, so that a reader without a buffer is
/// small.
template <class Loan>
struct buffer_head : frame_time_limit::frame {
    buffer_head(Loan&& from, void* lender) noexcept : loan(std::move(from)), pool(lender) {}

    Loan loan;  // of the buffer that contains this object
    void* pool; // the reader's: its type is not the head's
    bool drained = false;
};

/// `Head` is a `buffer_head`; the bytes follow it.
template <class Pool, class Head>
class borrowed_buffer : public frame_time_limit::reader {
public:
    using loan_type = typename Pool::loan_type;

    /// `why` is the message of std::invalid_argument where `max_frame` is 0.
    borrowed_buffer(Pool& pool, std::size_t max_frame, std::size_t first_bytes, frame_time_limit* limit,
                    const char* why)
        : limit_(limit),
          max_frame_(
              static_cast<std::uint32_t>(std::min<std::size_t>(max_frame, std::numeric_limits<std::uint32_t>::max()))),
          first_size_(power_of_two(first_bytes) & 0x7fU),
          holds_(false)
    {
        idle = &pool;
        if (max_frame == 0) throw std::invalid_argument(why);
    }

    /// The same limits and pool; takes no bytes over.
    borrowed_buffer(const borrowed_buffer& from) noexcept
        : reader(), limit_(from.limit_), max_frame_(from.max_frame_), first_size_(from.first_size_), holds_(false)
    {
        idle = &from.pool();
    }

    ~borrowed_buffer() { drop(); }

    /// Whether a buffer is held.
    [[nodiscard]] bool holds() const noexcept { return holds_; }

    /// Whether the frame was late.
    [[nodiscard]] bool late() const noexcept { return holds() && held()->late; }

    [[nodiscard]] std::size_t max_frame() const noexcept { return max_frame_; }

    /// Whether frames are timed.
    [[nodiscard]] bool timed() const noexcept { return limit_ != nullptr; }

    /// Times the frame that has begun, unless it is timed already. Throws std::bad_alloc.
    void time(void* socket, void (*end_reading)(void*) noexcept)
    {
        Head& b = *held();
        if (b.watch != nullptr || b.late) return;
        b.socket = socket;
        b.end_reading = end_reading;
        b.watch = limit_->begin(*this);
    }

    /// Whether the last read into the buffer has taken all that had arrived by then.
    [[nodiscard]] bool drained() const noexcept { return holds() && held()->drained; }
    void note_drained(bool drained) noexcept { held()->drained = drained; }

    /// Size of the first buffer.
    [[nodiscard]] std::size_t first_bytes() const noexcept { return std::size_t{1} << first_size_; }

    void adopt(loan_type loan) noexcept
    {
        if (!loan) return;
        char* const place = loan.data();
        incomplete = ::new (static_cast<void*>(place)) Head(std::move(loan), idle);
        holds_ = true;
    }

    /// Takes over the buffer of another with the same pool, if that holds one. This one holds none.
    void take_buffer(borrowed_buffer& from) noexcept
    {
        from.untime(); // it has the address of the other
        if (!from.holds()) return;
        incomplete = from.incomplete;
        holds_ = true;
        from.idle = held()->pool;
        from.holds_ = false;
    }

    [[nodiscard]] Pool& pool() const noexcept { return *static_cast<Pool*>(holds() ? held()->pool : idle); }
    [[nodiscard]] frame_time_limit* limit() const noexcept { return limit_; }

    /// Size of the buffer that is held; 0 if none is.
    [[nodiscard]] std::size_t lent() const noexcept { return holds() ? held()->loan.size() : 0; }

    /// Gives the buffer away, and keeps none.
    loan_type release() noexcept
    {
        if (!holds()) return {};
        untime();
        Head* const b = held();
        idle = b->pool;
        holds_ = false;
        loan_type loan = std::move(b->loan);
        b->~Head();
        return loan;
    }

protected:
    /// Precondition: a buffer is held.
    Head* held() const noexcept { return static_cast<Head*>(incomplete); }
    char* data() const noexcept { return held()->loan.data() + sizeof(Head); }
    [[nodiscard]] std::size_t capacity() const noexcept { return held()->loan.size() - sizeof(Head) - frame_padding; }

    /// Borrows a buffer twice as large, copies the first `used` bytes, and the head by `copy(to, from)`. False if there is
    /// none to be had.
    template <class Copy>
    bool grow(std::size_t used, Copy copy) noexcept
    {
        Head* const b = held();
        auto larger = pool().try_borrow(2 * b->loan.size());
        if (!larger) return false;
        char* const place = larger.data();
        auto* const moved = ::new (static_cast<void*>(place)) Head(std::move(larger), b->pool);
        std::memcpy(place + sizeof(Head), data(), used);
        copy(*moved, *b);
        static_cast<frame_time_limit::frame&>(*moved) = *b;
        b->watch = nullptr;
        drop();
        incomplete = moved;
        holds_ = true;
        return true;
    }

    void untime() noexcept
    {
        if (holds() && incomplete->watch != nullptr) limit_->end(std::exchange(incomplete->watch, nullptr));
    }

    void drop() noexcept { const loan_type until_the_end = release(); }

private:
    static unsigned power_of_two(std::size_t first_bytes) noexcept
    {
        const auto size = std::clamp<std::size_t>(first_bytes, sizeof(Head) + frame_padding + 1, std::size_t{1} << 30U);
        return static_cast<unsigned>(std::bit_width(size - 1));
    }

    // What derives from this has small members, too. Where a buffer is held, its head knows the pool.
    frame_time_limit* limit_;
    const std::uint32_t max_frame_;
    const std::uint8_t first_size_ : 7; // the power of two, as the pool lends
    bool holds_ : 1;
};

} // namespace holdfast::detail

#endif
