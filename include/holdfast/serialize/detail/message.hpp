// holdfast: a message that is being written: a cursor, and what its last chunk did not take.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_MESSAGE_HPP
#define HOLDFAST_SERIALIZE_DETAIL_MESSAGE_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

namespace holdfast::detail {

// What a serializer consists of, and a layer that holds the message of another format; with a reference it
// borrows the cursor. Immovable once begun: the cursor points into the source, and the spill into itself.
template <class Cursor>
class serialize_message {
public:
    serialize_message() = default;
    explicit serialize_message(Cursor& cursor) noexcept
        requires std::is_reference_v<Cursor>
        : cursor_(cursor)
    {
    }

    // Fills `chunk` and returns how many bytes of it: all, unless the message ends or fails; none for an
    // empty chunk, and after the end or a failure. An exception of the source leaves through here.
    template <class Source, class Format>
    std::size_t fill(std::span<char> chunk, Source& source, const Format& format)
    {
        if (error_ != errc{} || chunk.empty()) return 0;
        if (spill_.size > chunk.size()) return spill_.drain(chunk); // as for most chunks smaller than a row
        chunk_writer out(chunk, spill_);
        if (!finished_ && spill_.size == 0) {
            error_ = errc::source_failed; // what stands if the next line throws
            do
                finished_ = cursor_.step(out, source, format);
            while (!finished_ && out.searches());
            error_ = out.error();
            if (error_ != errc{}) return 0;
        }
        return chunk.size() - out.room();
    }

    // Whether the last byte has been returned: never after a failure.
    bool done() const noexcept { return finished_ && spill_.size == 0 && error_ == errc{}; }

    errc error() const noexcept { return error_; }
    Cursor& cursor() noexcept { return cursor_; }

private:
    Cursor cursor_{};
    serialize_spill spill_;
    errc error_{};
    bool finished_ = false;
};

// How many bytes the rest of a message will be, or more than `enough`: what is known to be larger is not
// counted to its end.
template <class Message, class Source, class Format>
std::uint64_t measure(Message& message, Source& source, const Format& format,
                      std::uint64_t enough = std::numeric_limits<std::uint64_t>::max())
{
    char chunk[4096]; // never read
    std::uint64_t size = 0;
    while (!message.done() && message.error() == errc{} && size <= enough)
        size += message.fill(chunk, source, format);
    return size;
}

} // namespace holdfast::detail

#endif
