// holdfast: the end of a chunk: where a serializer's pieces go, and what of the last one did not fit.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_CHUNK_HPP
#define HOLDFAST_SERIALIZE_DETAIL_CHUNK_HPP

#include <holdfast/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace holdfast::detail {

// Stands for an error where text turns out to need more than the room that was set aside for it: what it
// belongs to is then written in steps.
inline constexpr errc crowded{-1};

// What may still be written of a piece that is taken as a whole: the room that was set aside for it. What has
// no fixed size asks its source for a size twice: for the room, and when it is written. So before a text or a
// range is written it takes its room from here, and one that has grown meanwhile fails instead of writing
// past the room.
struct piece_budget {
    std::size_t left;
    errc error{};

    bool take(std::size_t n) noexcept
    {
        if (n > left) [[unlikely]] {
            if (error == errc{}) error = errc::source_changed;
            return false;
        }
        left -= n;
        return true;
    }
};

// What of the last piece is still to be sent: it lies in `text`, or is fixed text with static storage.
// One of these a serializer is enough for any depth of nesting, since nothing is begun while it holds bytes.
// It is large enough for an ordinary row, so that small chunks cost a copy and not a slower way of writing.
struct serialize_spill {
    const char* rest = nullptr;
    std::uint32_t size = 0;
    char text[508];

    // Moves as many bytes as there are and fit, and returns how many.
    std::size_t drain(std::span<char> to) noexcept
    {
        const std::size_t n = std::min<std::size_t>(size, to.size());
        if (n == 0) return 0; // `rest` may be null
        std::memcpy(to.data(), rest, n);
        rest += n;
        size -= static_cast<std::uint32_t>(n);
        return n;
    }
};

// One chunk while it is being filled. The text is cut into pieces: a number, a key, an escape. A piece is
// taken as a whole or refused. It is taken whenever nothing is spilled: what of it is beyond the chunk's end
// is then spilled, and every later piece is refused until the next chunk has taken the rest. So cursors need
// to know only which piece comes next, and a refused piece always means that the chunk is full and that bytes
// follow.
class chunk_writer {
public:
    chunk_writer(std::span<char> chunk, serialize_spill& spill) noexcept
        : at_(chunk.data() + spill.drain(chunk)), end_(chunk.data() + chunk.size()), begin_(chunk.data()), spill_(spill)
    {
    }

    char* at() const noexcept { return at_; }
    std::size_t room() const noexcept { return static_cast<std::size_t>(end_ - at_); }

    // How many bytes were taken since the chunk began, with those that are spilled.
    std::size_t position() const noexcept { return static_cast<std::size_t>(at_ - begin_) + spill_.size; }

    // For writers that have made sure of the room beforehand.
    void advance_to(char* at) noexcept { at_ = at; }

    // Takes a piece of at most Max bytes: `render(p)` writes it to `p` and returns its end. It may scribble
    // on the rest of the Max bytes.
    template <std::size_t Max, class Render>
    bool piece(Render render)
    {
        static_assert(Max <= sizeof(serialize_spill::text),
                      "holdfast: the header or trailer of a framing takes at most 508 bytes");
        if (room() >= Max) [[likely]] {
            at_ = render(at_);
            return true;
        }
        if (spill_.size != 0) return false;
        spill(spill_.text, static_cast<std::size_t>(render(spill_.text) - spill_.text));
        return true;
    }

    // Takes text of at most `max` bytes as a piece, which `render(p, budget)` writes, or refuses it: if
    // neither the chunk nor the spill has the room (there may be room for smaller pieces then, see full());
    // if `render` found it `crowded`; and if there is an error in it, whose place is then searched piece by
    // piece.
    template <class Render>
    bool whole(std::size_t max, Render render)
    {
        const bool fits = room() >= max;
        if (!fits && (spill_.size != 0 || max > sizeof spill_.text)) [[unlikely]]
            return false;
        char* const begin = fits ? at_ : spill_.text;
        piece_budget budget{max};
        char* const end = render(begin, budget);
        if (budget.error != errc{}) [[unlikely]] {
            if (budget.error != crowded) {
                error_ = budget.error;
                rewind();
            }
            return false;
        }
        if (fits) [[likely]]
            at_ = end;
        else
            spill(begin, static_cast<std::size_t>(end - begin));
        return true;
    }

    // Takes as many pieces as there is room for: `render(p, end)` writes them and returns their end; once
    // into the chunk, and once into the spill for the chunk's last bytes. Returns whether any was taken. What is
    // spilled serves several small chunks, but beyond a large one it is not much, since it is copied once more.
    template <class Render>
    bool many(Render render)
    {
        char* const begin = at_;
        at_ = render(at_, end_);
        const bool some = at_ != begin;
        if (at_ == end_ || spill_.size != 0) return some;
        const bool small = static_cast<std::size_t>(end_ - begin_) < sizeof spill_.text;
        const std::size_t most = small ? sizeof spill_.text : std::min(sizeof spill_.text, room() + 160);
        char* const end = render(spill_.text, spill_.text + most);
        if (end == spill_.text) return some;
        spill(spill_.text, static_cast<std::size_t>(end - spill_.text));
        return true;
    }

    // How many bytes were taken up to now, those that are spilled among them.
    std::size_t taken() const noexcept { return static_cast<std::size_t>(at_ - begin_) + spill_.size; }

    // Whether the next piece would be refused.
    bool full() const noexcept { return spill_.size != 0; }

    // Takes text with static storage, of any length.
    bool fixed(std::string_view text) noexcept
    {
        if (room() >= text.size()) [[likely]] {
            at_ = std::copy_n(text.data(), text.size(), at_);
            return true;
        }
        if (spill_.size != 0) return false;
        spill(text.data(), text.size());
        return true;
    }

    bool byte(char c)
    {
        return piece<1>([c](char* p) {
            *p = c;
            return p + 1;
        });
    }

    // Whether an error is known to be in the pieces that follow, but not yet where. They need not fit then,
    // since they will not be sent: the chunk is empty again.
    bool searches() noexcept
    {
        if (error_ == errc{} || located_) [[likely]]
            return false;
        rewind();
        return true;
    }

    // After a failure the cursors stop, and the serializer discards the chunk.
    void fail(errc error) noexcept
    {
        error_ = error;
        located_ = true;
    }

    errc error() const noexcept { return error_; }

private:
    [[gnu::noinline]] void spill(const char* from, std::size_t size) noexcept
    {
        const std::size_t n = std::min(size, room());
        if (n != 0) std::memcpy(at_, from, n);
        at_ += n;
        spill_.rest = from + n;
        spill_.size = static_cast<std::uint32_t>(size - n);
    }

    void rewind() noexcept
    {
        at_ = begin_;
        spill_.size = 0;
    }

    char* at_;
    char* end_;
    char* begin_;
    serialize_spill& spill_;
    errc error_{};
    bool located_ = false;
};

} // namespace holdfast::detail

#endif
