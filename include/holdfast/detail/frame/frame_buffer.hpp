// holdfast: bytes received and not yet handed out, in a borrowed buffer, and where the frames in them end. No
// I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_FRAME_FRAME_BUFFER_HPP
#define HOLDFAST_DETAIL_FRAME_FRAME_BUFFER_HPP

#include <holdfast/frame_deadline.hpp>
#include <holdfast/framing.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast::detail {

/// What a reader keeps besides the bytes, in front of them in the buffer: a reader without one is small.
template <class Loan>
struct frame_bytes : frame_under_way {
    explicit frame_bytes(Loan&& from) noexcept : loan(std::move(from)) {}

    Loan loan;             // the buffer that this very object is in
    std::size_t begin = 0; // of the frame under way
    std::size_t end = 0;
    std::size_t seen = 0; // how many bytes of it the framing knows already

    char* data() noexcept { return loan.data() + sizeof(frame_bytes); }
};

/// How many bytes are readable behind each frame: for parsers that read in whole vectors.
inline constexpr std::size_t frame_padding = 64;

template <class Framing, class Pool>
class frame_buffer : public frame_holder {
    using loan_type = typename Pool::loan_type;
    using bytes = frame_bytes<loan_type>;

public:
    frame_buffer(Pool& pool, std::size_t max_frame, std::size_t first_bytes, Framing framing) noexcept
        : pool_(pool),
          max_frame_(static_cast<std::uint32_t>(
              std::min<std::size_t>(max_frame, std::numeric_limits<std::uint32_t>::max()))),
          first_bytes_(static_cast<std::uint32_t>(std::clamp<std::size_t>(
              first_bytes, sizeof(bytes) + frame_padding + 1, std::size_t{1} << 30U))),
          framing_(std::move(framing))
    {
    }

    frame_buffer(const frame_buffer&) = delete;
    ~frame_buffer() { drop(); }

    /// The next whole frame; what was handed out before is gone then. Nothing when there is none yet, or
    /// where `why` says that there will be none.
    std::optional<std::string_view> take(std::error_code& why) noexcept
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
        const framing::bounds f = framing_.parse({from, size}, b->seen);
        why = f.error;
        if (!why && f.payload > max_frame_) why = errc::frame_too_long;
        const std::size_t whole = f.header + f.payload + f.trailer;
        if (!why && (f.header > framing::max_overhead || f.trailer > framing::max_overhead ||
                     (f.known && whole == 0))) // which would be found without end
            why = errc::malformed_frame;
        if (!why && !f.known && size >= max_frame_ + 2 * framing::max_overhead)
            why = errc::frame_too_long; // whatever the framing is still waiting for
        if (why) return std::nullopt;
        if (!f.known || whole > size) {
            b->seen = size;
            return std::nullopt;
        }
        b->beat.release();
        b->begin += whole;
        b->seen = 0;
        return std::string_view(from + f.header, f.payload);
    }

    /// Whether no byte is held that was not handed out.
    [[nodiscard]] bool empty() const noexcept { return held() == nullptr || held()->begin == held()->end; }

    /// Whether a buffer is held.
    [[nodiscard]] bool holds() const noexcept { return held() != nullptr; }

    /// Gives the buffer back where it is empty.
    void shrink() noexcept
    {
        if (empty()) drop();
    }

    /// How large a buffer to begin with.
    [[nodiscard]] std::size_t first_bytes() const noexcept { return first_bytes_; }

    /// Room for more bytes. It grows with what was received: where there is none, a buffer twice as large is
    /// borrowed. Empty where that can't be had.
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
            static_cast<frame_under_way&>(*moved) = std::move(static_cast<frame_under_way&>(*b));
            drop();
            under_way = b = moved;
        }
        return {b->data() + b->end, capacity() - b->end};
    }

    void received(std::size_t n) noexcept { held()->end += n; }

    void adopt(loan_type loan) noexcept
    {
        if (!loan) return;
        char* const place = loan.data();
        under_way = ::new (static_cast<void*>(place)) bytes(std::move(loan));
    }

    Pool& pool() noexcept { return pool_; }

private:
    bytes* held() const noexcept { return static_cast<bytes*>(under_way); }

    std::size_t capacity() const noexcept { return held()->loan.size() - sizeof(bytes) - frame_padding; }

    void drop() noexcept
    {
        if (under_way == nullptr) return;
        bytes* const b = held();
        under_way = nullptr;
        const loan_type until_the_end = std::move(b->loan);
        b->~bytes();
    }

    Pool& pool_;
    const std::uint32_t max_frame_;
    const std::uint32_t first_bytes_;
    [[no_unique_address]] Framing framing_;
};

} // namespace holdfast::detail

#endif
