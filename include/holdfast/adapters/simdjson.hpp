// holdfast: simdjson's documents as sources of the JSON formats: parsed once, streamed to many.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_SIMDJSON_HPP
#define HOLDFAST_ADAPTERS_SIMDJSON_HPP

#include <holdfast/adapters/detail/simdjson_error.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/number.hpp>
#include <holdfast/serialize/json/string.hpp>

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace holdfast {

/// The maximum nesting depth of a simdjson document; beyond it `next()` fails with `errc::depth_exceeded`. It
/// is the default limit of simdjson's parser, and takes one bit a level of the serializer.
inline constexpr std::size_t simdjson_max_depth = 1024;

/// With this header `simdjson::dom::element`, `array`, `object`, the `simdjson_result` of each, and (by
/// `std::ref`) `document` are sources of `json` and `ndjson`, on their own and as members, elements and
/// values of other sources. `ndjson` writes a root array one element a line.
///
/// Lifetime: an element is a view of its document, which must exist unchanged until the last byte.
/// Thread safety: the document is only read; many serializers may read it at once, from any thread.
///
/// Strings and keys are written as they were parsed and not checked again, with the escapes that JSON
/// requires; integers as they were; doubles in their shortest form, since simdjson keeps no text of them.
///
/// Errors: `errc::source_failed` for an element that was never assigned, a document into which nothing was
/// parsed, and a result that is an error of access; `errc::invalid_json` and `errc::depth_exceeded` for a
/// result that is an error of parsing; `errc::depth_exceeded` beyond `simdjson_max_depth`.
///
/// simdjson 3.0 up to 4.x. `sizeof(streaming_serializer<json, simdjson::dom::element>)` is 736 bytes on a
/// 64-bit machine.
///
///     simdjson::dom::parser parser;
///     simdjson::dom::element document = parser.load("catalog.json");
///     holdfast::streaming_serializer<holdfast::json, simdjson::dom::element> text{document};
template <class T>
concept simdjson_source = std::same_as<T, simdjson::dom::element> || std::same_as<T, simdjson::dom::array> ||
                          std::same_as<T, simdjson::dom::object> || std::same_as<T, simdjson::dom::document> ||
                          std::same_as<T, simdjson::simdjson_result<simdjson::dom::element>> ||
                          std::same_as<T, simdjson::simdjson_result<simdjson::dom::array>> ||
                          std::same_as<T, simdjson::simdjson_result<simdjson::dom::object>>;

namespace detail {

// A walk over simdjson's tape, on which a document lies flat: one word a value (two for a number), the type
// in its top byte; a container has a word at either end. So the way back up needs no iterators, only what the
// containers around are: a bit a level. With Lines the elements of a root array end with a line feed instead
// of standing in brackets.
template <bool Lines>
class simdjson_cursor {
public:
    static constexpr bool bounded = false;

    bool step(chunk_writer& out, const simdjson::dom::document& source, const json& options)
    {
        if (source.tape == nullptr) { // nothing was parsed into it
            out.fail(errc::source_failed);
            return false;
        }
        return step(out, source.root(), options);
    }

    template <class Value>
    bool step(chunk_writer& out, const simdjson::simdjson_result<Value>& source, const json& options)
    {
        Value value;
        if (const auto failed = simdjson::simdjson_result<Value>(source).get(value)) {
            out.fail(simdjson_value_error(failed));
            return false;
        }
        return step(out, value, options);
    }

    template <class Source>
    bool step(chunk_writer& out, const Source& source, const json&)
    {
        if (document_ == nullptr) begin(source);
        if (document_ == nullptr) {
            out.fail(errc::source_failed); // an element that was never assigned
            return false;
        }
        while (phase_ != phase::done) {
            const bool some = out.many([this](char* p, const char* end) { return run(p, end); });
            if (out.full()) return false; // or the next value would be begun, and no run goes on within one
            if (!some && !advance(out)) return false;
        }
        return true;
    }

private:
    using tape_ref = simdjson::internal::tape_ref;
    using tape_type = simdjson::internal::tape_type;

    enum class phase : std::uint8_t {
        value,     // at a value, the text before it written
        string,    // in a string value
        literal,   // in a number that simdjson kept as text
        next,      // after a value
        separator, // before another value or key
        key,       // at or in a key
        colon,     // after a key
        end_line,  // after everything
        done,
    };

    template <class Source>
    void begin(const Source& source) noexcept
    {
        // An element, array or object is nothing but its place on the tape, which is private.
        static_assert(sizeof(Source) == sizeof(tape_ref) && std::is_trivially_copyable_v<Source> &&
                          std::is_trivially_copyable_v<tape_ref>,
                      "holdfast does not know this version of simdjson");
        const auto place = std::bit_cast<tape_ref>(source);
        document_ = place.doc;
        index_ = place.json_index;
    }

    std::uint64_t word() const noexcept { return document_->tape[index_]; }
    static tape_type type_of(std::uint64_t word) noexcept { return static_cast<tape_type>(word >> 56); }
    std::string_view string() const noexcept { return tape_ref(document_, index_).get_string_view(); }

    // Of the innermost container, whose level is depth_.
    bool in_object() const noexcept { return levels_ & 1; }
    bool in_lines(std::uint32_t depth) const noexcept { return Lines && depth == 1 && lines_; }
    char separator(std::uint32_t depth) const noexcept { return in_lines(depth) ? '\n' : ','; }

    // Goes a step on; false when the chunk is full, or after a failure.
    bool advance(chunk_writer& out)
    {
        switch (phase_) {
        case phase::value:
            return begin_value(out);
        case phase::string:
            if (!string_.step(out, string(), utf8_policy::trust)) return false;
            return behind(1);
        case phase::literal: {
            const std::string_view digits = string();
            for (; literal_ < digits.size(); ++literal_)
                if (!out.byte(digits[literal_])) return false;
            literal_ = 0;
            return behind(1);
        }
        case phase::next:
            return next(out);
        case phase::separator:
            if (!out.byte(separator(depth_))) return false;
            phase_ = in_object() ? phase::key : phase::value;
            return true;
        case phase::key:
            if (!string_.step(out, string(), utf8_policy::trust)) return false;
            ++index_;
            phase_ = phase::colon;
            return true;
        case phase::colon:
            if (!out.byte(':')) return false;
            phase_ = phase::value;
            return true;
        case phase::end_line:
            if (!out.byte('\n')) return false;
            phase_ = phase::done;
            return true;
        case phase::done:
            break;
        }
        return true;
    }

    bool behind(std::size_t words) noexcept
    {
        index_ += words;
        phase_ = phase::next;
        return true;
    }

    bool begin_value(chunk_writer& out)
    {
        const std::uint64_t at = word();
        switch (type_of(at)) {
        case tape_type::START_OBJECT:
        case tape_type::START_ARRAY:
            return open(out, type_of(at) == tape_type::START_OBJECT);
        case tape_type::STRING:
            phase_ = phase::string;
            return true;
        case tape_type::INT64:
            return out.piece<json_integer_room<std::int64_t>>([&](char* p) {
                return write_integer(p, std::bit_cast<std::int64_t>(document_->tape[index_ + 1]));
            }) && behind(2);
        case tape_type::UINT64:
            return out.piece<json_integer_room<std::uint64_t>>([&](char* p) {
                return write_integer(p, document_->tape[index_ + 1]);
            }) && behind(2);
        case tape_type::DOUBLE:
            // JSON has no text for NaN and infinity, so a document has none.
            return out.piece<json_double_room>([&](char* p) {
                return write_finite(p, std::bit_cast<double>(document_->tape[index_ + 1]));
            }) && behind(2);
        case tape_type::TRUE_VALUE:
            return out.fixed("true") && behind(1);
        case tape_type::FALSE_VALUE:
            return out.fixed("false") && behind(1);
        case tape_type::NULL_VALUE:
            return out.fixed("null") && behind(1);
        default:
            // simdjson 4.5 can keep the text of an integer beyond 64 bits.
            if (type_of(at) == static_cast<tape_type>('Z')) {
                phase_ = phase::literal;
                return true;
            }
            out.fail(errc::source_failed);
            return false;
        }
    }

    bool open(chunk_writer& out, bool object)
    {
        if (depth_ == simdjson_max_depth) {
            out.fail(errc::depth_exceeded);
            return false;
        }
        const bool lines = Lines && depth_ == 0 && !object;
        if (!lines && !out.byte(object ? '{' : '[')) return false;
        if (lines) lines_ = true;
        push(levels_, depth_, object);
        ++index_;
        if (closes(word())) {
            no_lines_ = no_lines_ || lines;
            phase_ = phase::next;
        } else {
            phase_ = object ? phase::key : phase::value;
        }
        return true;
    }

    void push(std::uint64_t& levels, std::uint32_t& depth, bool object) noexcept
    {
        if (depth % 64 == 0 && depth != 0) [[unlikely]]
            outer_levels_[depth / 64 - 1] = levels;
        levels = levels << 1 | object;
        ++depth;
    }

    // Leaves the innermost container; false if it was the outermost.
    bool pop(std::uint64_t& levels, std::uint32_t& depth) const noexcept
    {
        --depth;
        levels >>= 1;
        if (depth % 64 == 0) [[unlikely]] {
            if (depth == 0) return false;
            levels = outer_levels_[depth / 64 - 1];
        }
        return true;
    }

    // A bracket and a brace differ in one bit.
    static bool opens(std::uint64_t word) noexcept { return (word >> 56 | 0x20) == '{'; }
    static bool closes(std::uint64_t word) noexcept { return (word >> 56 | 0x20) == '}'; }

    // Writes values, each with all that belongs to it, while they fit between `p` and `end`. It stops before
    // what does not, and leaves that to advance(); also what is begun, and the root.
    char* run(char* p, const char* const end) noexcept
    {
        const bool between = phase_ == phase::next || phase_ == phase::key || (phase_ == phase::value && !in_object());
        if (!between || string_.begun() || depth_ == 0 || end - p < margin) return p;
        const std::uint64_t* const tape = document_->tape.get();
        const auto* const strings = reinterpret_cast<const char*>(document_->string_buf.get());
        const char* const limit = end - margin;
        // Copies, which no store to the chunk can change.
        std::size_t i = index_;
        std::uint64_t levels = levels_;
        std::uint32_t depth = depth_;
        const auto stop = [&](phase at) {
            index_ = i;
            levels_ = levels;
            depth_ = depth;
            phase_ = at;
            return p;
        };
        // Goes from the end of a value to the next one; false where that is left to next().
        const auto go_on = [&] {
            while (closes(tape[i])) {
                if (in_lines(depth) || end - p < 2) return false;
                *p++ = static_cast<char>(type_of(tape[i++]));
                if (!pop(levels, depth)) return false;
            }
            *p++ = separator(depth);
            return true;
        };
        if (phase_ == phase::next && !go_on()) return stop(phase::next);
        while (p <= limit) {
            if (levels & 1) {
                char* const behind = write_padded<16>(p, end, strings, tape[i]);
                if (behind == nullptr) return stop(phase::key);
                p = behind;
                *p++ = ':';
                ++i;
            }
            const std::uint64_t word = tape[i];
            const tape_type type = type_of(word);
            if (type == tape_type::INT64) {
                p = write_integer(p, std::bit_cast<std::int64_t>(tape[i + 1]));
                i += 2;
            } else if (type == tape_type::STRING) {
                char* const behind = write_padded<0>(p, end, strings, word);
                if (behind == nullptr) return stop(phase::value);
                p = behind;
                ++i;
            } else if (type == tape_type::DOUBLE) {
                p = write_finite(p, std::bit_cast<double>(tape[i + 1]));
                i += 2;
            } else if (opens(word)) {
                if (depth == simdjson_max_depth) return stop(phase::value);
                *p++ = static_cast<char>(type);
                ++i;
                if (!closes(tape[i])) {
                    push(levels, depth, type == tape_type::START_OBJECT);
                    continue;
                }
                *p++ = static_cast<char>(type_of(tape[i]));
                ++i;
            } else if (type == tape_type::TRUE_VALUE || type == tape_type::NULL_VALUE) {
                std::memcpy(p, type == tape_type::TRUE_VALUE ? "true" : "null", 4);
                p += 4;
                ++i;
            } else if (type == tape_type::FALSE_VALUE) {
                std::memcpy(p, "false", 5);
                p += 5;
                ++i;
            } else if (type == tape_type::UINT64) {
                p = write_integer(p, tape[i + 1]);
                i += 2;
            } else {
                return stop(phase::value);
            }
            if (!go_on()) return stop(phase::next);
        }
        return stop(levels & 1 ? phase::key : phase::value);
    }

    // The room of what run() writes at once: a key of a block and a colon; and a number, or a string of a block with
    // its quotes; then a bracket and a separator.
    static constexpr std::ptrdiff_t value_margin = 32 + 2 + 2;
    static constexpr std::ptrdiff_t margin = 32 + 2 + 1 + value_margin;
    static_assert(value_margin >= static_cast<std::ptrdiff_t>(json_double_room + 2));
    // A longer key, with an escape at its end, leaves room for a value too.
    static_assert(margin >= static_cast<std::ptrdiff_t>(json_special_room) + 2 + value_margin);

    // Writes the string that a word of the tape stands for where there is the margin up to `end`; nullptr
    // where there is no room for all of it. After each string simdjson's buffer continues for 32 bytes. Most
    // are expected to have at most Usual bytes, as keys do, whose lengths recur.
    template <std::size_t Usual>
    static char* write_padded(char* p, const char* const end, const char* strings, std::uint64_t word) noexcept
    {
        static_assert(simdjson::SIMDJSON_PADDING >= 32 && Usual <= 16);
        const char* const s = strings + (word & 0x00ffffffffffffff) + sizeof(std::uint32_t);
        const auto size = load<std::uint32_t>(s - sizeof(std::uint32_t));
        *p++ = '"';
        unsigned plain = 0;
#if defined(__AVX2__)
        constexpr bool halves = false; // 32 bytes are looked at at once
#else
        constexpr bool halves = Usual != 0;
#endif
        if (halves && size <= Usual) {
            plain = plain_of_16<false>(s); // first, so that the bytes are loaded once
            std::memcpy(p, s, 16);
        } else {
            plain = plain_of_32<false>(s);
            std::memcpy(p, s, 32);
        }
        if (plain < size) {
            p = write_padded_rest(p + plain, end, s + plain, s + size);
            if (p == nullptr) return p;
        } else {
            p += size;
        }
        *p++ = '"';
        return p;
    }

    [[gnu::noinline]] static char* write_padded_rest(char* p, const char* const end, const char* s,
                                                     const char* const last) noexcept
    {
        while (s != last) {
            if (end - p < last - s + margin) return nullptr;
            std::memcpy(p, s, 32);
            const auto n = std::min<std::ptrdiff_t>(plain_of_32<false>(s), last - s);
            p += n;
            s += n;
            if (n == 32 || s == last) continue;
            errc error{}; // never set for trusted strings
            p = write_special(p, s, last, utf8_policy::trust, error);
        }
        return p;
    }

    bool next(chunk_writer& out)
    {
        if (depth_ == 0) {
            phase_ = Lines && !lines_ ? phase::end_line : phase::done;
            return true;
        }
        if (!closes(word())) {
            phase_ = phase::separator;
            return true;
        }
        const bool nothing = in_lines(depth_) && no_lines_;
        if (!nothing && !out.byte(in_lines(depth_) ? '\n' : in_object() ? '}' : ']')) return false;
        (void)pop(levels_, depth_);
        return behind(1);
    }

    const simdjson::dom::document* document_ = nullptr;
    std::size_t index_ = 0;
    json_string_cursor string_;
    std::size_t literal_ = 0;
    // Whether the containers around are objects, the innermost in the lowest bit; of those further out than
    // the multiple of 64 below, the words before.
    std::uint64_t levels_ = 0;
    std::array<std::uint64_t, simdjson_max_depth / 64 - 1> outer_levels_{};
    std::uint32_t depth_ = 0;
    phase phase_ = phase::value;
    bool lines_ = false;    // the source is an array, to be written as lines
    bool no_lines_ = false; // and it is empty
};

template <simdjson_source T, bool Lines>
struct json_foreign_cursor<T, Lines> : simdjson_cursor<Lines> {};

} // namespace detail

} // namespace holdfast

#endif
