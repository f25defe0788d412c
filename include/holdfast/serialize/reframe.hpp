// holdfast: NDJSON to one JSON array and back, while the text passes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_REFRAME_HPP
#define HOLDFAST_SERIALIZE_REFRAME_HPP

#include <holdfast/serialize/json/string.hpp>
#include <holdfast/serialize/json/syntax.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <system_error>

namespace holdfast {

/// Which of the two `reframer` makes.
enum class reframe_to : std::uint8_t {
    array,  ///< lines of NDJSON come in, one JSON array goes out
    ndjson, ///< one JSON array comes in, its elements go out, each as a line
};

/// Turns NDJSON into a JSON array, or an array into NDJSON, without I/O and holding none of it: the text
/// comes in pieces of any size and goes out in chunks of any size, elements may be of any length.
///
/// Everything is checked as by `checked_json`, with which it shares its limit: in what comes in, containers
/// are nested at most `checked_json_max_depth` deep, the array that becomes lines among them. White space
/// between tokens is left out, so an element printed on many lines becomes one; all else, numbers and escapes
/// too, goes out as it is, and UTF-8 is not checked. Blank lines are skipped, lines may end with CR LF, the
/// last one without. No lines are `[]`, and the other way round.
///
/// Errors: `errc::invalid_json` (also for what is behind the array, and at `finish()` for what is incomplete)
/// and `errc::depth_exceeded`. The call that fails returns nothing, as all calls after it; `elements()` tells
/// where it was.
///
/// Linear; no allocation, nothing throws. One object is for one thread at a time; it may be copied.
///
///     holdfast::reframer<holdfast::reframe_to::array> lines;
///     std::array<char, 16384> chunk;
///     for (std::string_view piece : received) {
///         for (;;) {
///             const std::string_view part = lines.next(piece, chunk, ec);
///             if (part.empty()) break; // all of the piece was taken, or ec is set
///             send(part);
///         }
///     }
///     // then the same with lines.finish(chunk, ec)
template <reframe_to To>
class reframer {
public:
    /// Takes from the front of `text` what fits into `chunk` (at least one byte), and returns what it wrote
    /// there. Empty: all of `text` was taken, or `ec` is set. Not to be called after `finish()`.
    std::string_view next(std::string_view& text, std::span<char> chunk, std::error_code& ec) noexcept
    {
        char* p = chunk.data();
        char* const end = p + chunk.size();
        const char* s = text.data();
        const char* const last = s + text.size();
        while (s != last && p != end && error_ == errc{}) {
            if (syntax_.in_string()) {
                p = detail::copy_plain<false>(p, s, s + std::min(last - s, end - p));
                if (s == last || p == end) break;
            }
            if constexpr (To == reframe_to::array)
                p = step_lines(p, s);
            else
                p = step_array(p, s);
        }
        text.remove_prefix(static_cast<std::size_t>(s - text.data()));
        return result(chunk.data(), p, ec);
    }

    /// Says that there is no more text, and returns what is still to be sent: to be called until it returns
    /// nothing, with a chunk of at least one byte.
    std::string_view finish(std::span<char> chunk, std::error_code& ec) noexcept
    {
        char* p = chunk.data();
        if constexpr (To == reframe_to::array) {
            end_line();
            if (tail_ == nullptr) tail_ = elements_ == 0 ? "[]" : "]";
            for (char* const end = p + chunk.size(); p != end && *tail_ != 0; ++tail_)
                *p++ = *tail_;
        } else if (error_ == errc{} && !syntax_.complete()) {
            error_ = errc::invalid_json;
        }
        return result(chunk.data(), p, ec);
    }

    /// How many elements have begun, in an array by the comma before them; after an error it is in the last
    /// of these, or behind it.
    std::uint64_t elements() const noexcept { return elements_; }

private:
    std::string_view result(const char* begin, const char* end, std::error_code& ec) const noexcept
    {
        ec.clear();
        if (error_ == errc{}) return {begin, static_cast<std::size_t>(end - begin)};
        ec = make_error_code(error_);
        return {};
    }

    // A step reads at most a character and writes at most one.
    char* step_lines(char* p, const char*& s) noexcept
    {
        if (*s == '\n') {
            ++s;
            end_line();
        } else if (syntax_.skip(*s)) {
            ++s;
        } else if (!in_line_) {
            in_line_ = true;
            *p++ = elements_++ == 0 ? '[' : ',';
        } else {
            error_ = syntax_.next(*s);
            *p++ = *s++;
        }
        return p;
    }

    void end_line() noexcept
    {
        if (!in_line_ || error_ != errc{}) return;
        if (!syntax_.complete()) error_ = errc::invalid_json;
        syntax_ = {};
        in_line_ = false;
    }

    char* step_array(char* p, const char*& s) noexcept
    {
        const char c = *s++;
        if (syntax_.skip(c)) return p;
        const unsigned depth = syntax_.depth();
        if (depth == 1 && elements_ == 0 && c != ']' && c != ',') elements_ = 1;
        error_ = syntax_.next(c);
        if (error_ != errc{}) return p;
        if (depth == 0) {
            if (c != '[') error_ = errc::invalid_json;
        } else if (syntax_.depth() == 0) {
            if (elements_ != 0) *p++ = '\n';
        } else if (depth == 1 && c == ',') { // one in a string is copied before
            ++elements_;
            *p++ = '\n';
        } else {
            *p++ = c;
        }
        return p;
    }

    detail::json_syntax syntax_; // of the line, or of the array
    const char* tail_ = nullptr; // what is left of the array's end
    std::uint64_t elements_ = 0;
    errc error_{};
    bool in_line_ = false; // a value has begun in it
};

} // namespace holdfast

#endif
