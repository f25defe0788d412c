// holdfast: the cursors of framed messages.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_FRAMED_CURSOR_HPP
#define HOLDFAST_SERIALIZE_DETAIL_FRAMED_CURSOR_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/message.hpp>
#include <holdfast/serialize/framed.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace holdfast::detail {

template <class Framing>
constexpr std::uint64_t max_frame_size()
{
    if constexpr (requires { Framing::max_size; }) return Framing::max_size;
    return std::numeric_limits<std::uint64_t>::max();
}

// Counts what a cursor writes against a size that was stated before.
class size_check {
public:
    explicit size_check(std::uint64_t stated = 0) noexcept : left_(stated) {}

    // Steps the cursor; fails where it comes to more, or ends with less.
    template <class Cursor, class Source, class Format>
    bool step(Cursor& cursor, chunk_writer& out, Source& source, const Format& format)
    {
        const std::size_t before = out.taken();
        const bool ended = cursor.step(out, source, format);
        if (out.error() != errc{}) return ended;
        const std::size_t written = out.taken() - before;
        if (written > left_ || (ended && written != left_)) {
            out.fail(errc::source_changed);
            return false;
        }
        left_ -= written;
        return ended;
    }

private:
    std::uint64_t left_;
};

// One frame around the whole message.
template <class Framing, class Format, class Source>
    requires framing::plain<Framing> || framing::sized<Framing>
class framed_cursor<Framing, Format, Source> {
    using inner_cursor = typename Format::template cursor<Source>;
    using format_type = framed<Framing, Format>;
    static constexpr bool sized = framing::sized<Framing>;
    static constexpr bool stated = std::same_as<Framing, framing::content_length>;
    static_assert(!sized || is_repeatable<inner_cursor>,
                  "a length in front needs a source that can be read twice, and a format whose size does not "
                  "depend on the chunks");

public:
    static constexpr bool repeatable = is_repeatable<inner_cursor>;

    template <class T>
    bool step(chunk_writer& out, T& source, const format_type& format)
    {
        if (phase_ == phase::begin && !begin(out, source, format)) return false;
        if (phase_ == phase::payload) {
            bool ended = false;
            if constexpr (sized || stated)
                ended = size_.step(inner_, out, source, format.format);
            else
                ended = inner_.step(out, source, format.format);
            if (!ended) return false;
            phase_ = phase::end;
        }
        return out.piece<Framing::max_trailer_size>([&](char* p) { return format.framing.write_trailer(p); });
    }

    void path(std::string& to, auto& source) { append_path(inner_, to, source); }

private:
    enum class phase : unsigned char { begin, payload, end };

    template <class T>
    bool begin(chunk_writer& out, T&, const format_type& format)
        requires(!sized)
    {
        if (!out.piece<Framing::max_header_size>([&](char* p) { return format.framing.write_header(p); })) return false;
        if constexpr (stated) size_ = size_check(format.framing.size);
        phase_ = phase::payload;
        return true;
    }

    // Counts the message, beginning with a chunk of it where it belongs: if that is all, it may stay.
    template <class T>
    bool begin(chunk_writer& out, T& source, const format_type& format)
        requires(sized)
    {
        if (out.full()) return false;
        serialize_message<inner_cursor&> message(inner_);
        char* const payload = out.at() + std::min(out.room(), Framing::max_header_size);
        const std::size_t here = message.fill({payload, out.at() + out.room()}, source, format.format);
        const bool all = message.done();
        const std::uint64_t size = here + (all ? 0 : measure(message, source, format.format));
        if (message.error() != errc{} || size > max_frame_size<Framing>()) {
            out.fail(message.error() != errc{} ? message.error() : errc::not_framable);
            return false;
        }
        if (all) {
            char front[Framing::max_header_size];
            const auto n = static_cast<std::size_t>(format.framing.write_header(front, size) - front);
            std::memmove(out.at() + n, payload, here);
            std::memcpy(out.at(), front, n);
            out.advance_to(out.at() + n + here);
            phase_ = phase::end;
            return true;
        }
        std::destroy_at(&inner_); // again, from its beginning
        std::construct_at(&inner_);
        size_ = size_check(size);
        phase_ = phase::payload;
        return out.piece<Framing::max_header_size>([&](char* p) { return format.framing.write_header(p, size); });
    }

    inner_cursor inner_{};
    size_check size_{};
    phase phase_ = phase::begin;
};

// A frame around each part of the message: a chunk is one frame.
template <class Framing, class Format, class Source>
    requires framing::parted<Framing>
class framed_cursor<Framing, Format, Source> {
    using format_type = framed<Framing, Format>;

public:
    static constexpr bool repeatable = false; // the chunks say how many frames there are

    template <class T>
    bool step(chunk_writer& out, T& source, const format_type& format)
    {
        if (out.full() || ended_) return ended_;
        if (out.room() >= format_type::whole_frames)
            out.advance_to(frame(out.at(), out.at() + out.room(), source, format));
        else
            out.piece<small_frame>([&](char* p) { return frame(p, p + small_frame, source, format); });
        if (message_.error() != errc{}) out.fail(message_.error());
        return ended_;
    }

    void path(std::string& to, auto& source) { append_path(message_.cursor(), to, source); }

private:
    // Where a chunk has no room for a whole frame, which is then cut.
    static constexpr std::size_t small_frame = std::max<std::size_t>(64, format_type::whole_frames);

    // Writes a frame, as large as there is room up to `end`, and returns its end.
    template <class T>
    char* frame(char* const p, char* const end, T& source, const format_type& format)
    {
        const auto room_behind = [&](const char* from) {
            const auto room = static_cast<std::size_t>(end - from) - Framing::max_trailer_size;
            return static_cast<std::size_t>(std::min<std::uint64_t>(room, max_frame_size<Framing>()));
        };
        char front[Framing::max_header_size];
        const auto begin = [&](const framing::part& part) {
            return static_cast<std::size_t>(format.framing.write_header(front, part) - front);
        };
        char* const payload = p + begin({room_behind(p), first_, false}); // it can't be longer
        framing::part part{message_.fill({payload, room_behind(payload)}, source, format.format), first_, false};
        if (message_.error() != errc{}) return p;
        part.last = ended_ = message_.done();
        first_ = false;
        const std::size_t n = begin(part);
        if (p + n != payload) std::memmove(p + n, payload, part.size);
        std::memcpy(p, front, n);
        return format.framing.write_trailer(p + n + part.size, part);
    }

    serialize_message<typename Format::template cursor<Source>> message_;
    bool first_ = true;
    bool ended_ = false;
};

// A server-sent event.
template <class Format, class Source>
class framed_cursor<framing::sse, Format, Source> {
    using inner_cursor = typename Format::template cursor<Source>;
    using format_type = framed<framing::sse, Format>;

public:
    static constexpr bool repeatable = is_repeatable<inner_cursor>;

    template <class T>
    bool step(chunk_writer& out, T& source, const format_type& format)
    {
        return fields(out, format.framing) && data(out, source, format.format) && out.fixed("\n\n");
    }

    void path(std::string& to, auto& source) { append_path(message_.cursor(), to, source); }

private:
    // Writes what stands in front of the data.
    bool fields(chunk_writer& out, const framing::sse& event)
    {
        const bool negative = event.retry && event.retry->count() < 0;
        if (field_ == 0 && (negative || has_line_end(event.event) || has_line_end(event.id))) {
            out.fail(errc::not_framable);
            return false;
        }
        const bool type = !event.event.empty(), id = !event.id.empty(), retry = event.retry.has_value();
        const std::array<std::string_view, 9> texts{type ? "event: " : "",  event.event, type ? "\n" : "",
                                                    id ? "id: " : "",       event.id,    id ? "\n" : "",
                                                    retry ? "retry: " : "", "",          "data: "};
        for (; field_ != texts.size(); ++field_) {
            if (retry && field_ == 7) {
                if (!out.piece<32>([&](char* p) {
                        p = std::to_chars(p, p + 24, event.retry->count()).ptr;
                        *p++ = '\n';
                        return p;
                    }))
                    return false;
            } else if (!out.fixed(texts[field_])) {
                return false;
            }
        }
        return true;
    }

    static bool has_line_end(std::string_view text) noexcept
    {
        return text.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos;
    }

    // Writes the message, with the field's name after each line end.
    template <class T>
    bool data(chunk_writer& out, T& source, const Format& format)
    {
        for (;;) {
            if (rest_.empty()) {
                if (message_.done()) return true;
                rest_ = {text_, message_.fill(text_, source, format)};
                if (message_.error() != errc{}) {
                    out.fail(message_.error());
                    return false;
                }
            }
            if (std::exchange(after_cr_, false) && rest_.starts_with('\n')) rest_.remove_prefix(1);
            const std::string_view line = rest_.substr(0, rest_.find_first_of("\r\n"));
            const std::string_view part = line.substr(0, out.room());
            out.advance_to(std::copy(part.begin(), part.end(), out.at()));
            rest_.remove_prefix(part.size());
            if (part.size() != line.size()) return false;
            if (rest_.empty()) continue;
            if (!out.fixed("\ndata: ")) return false;
            after_cr_ = rest_.front() == '\r';
            rest_.remove_prefix(1);
        }
    }

    serialize_message<inner_cursor> message_;
    char text_[512];        // of the message, on its way
    std::string_view rest_; // of the text
    unsigned char field_ = 0;
    bool after_cr_ = false;
};

} // namespace holdfast::detail

#endif
