// holdfast: converts NDJSON to a JSON array, and an array to NDJSON, piece by piece. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_NDJSON_CONVERTER_HPP
#define HOLDFAST_SERIALIZE_NDJSON_CONVERTER_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/json/string.hpp>
#include <holdfast/serialize/json/syntax.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <system_error>

namespace holdfast {

/// The direction of an `ndjson_converter`.
enum class ndjson_conversion : std::uint8_t {
    to_array,   ///< The input is NDJSON, the output one JSON array.
    from_array, ///< The input is one JSON array, the output NDJSON: one element a line.
};

/// Converts NDJSON to a JSON array (`ndjson_to_array`), or a JSON array to NDJSON (`array_to_ndjson`),
/// without I/O and without holding text: the input comes in pieces of any size, the output goes out in chunks
/// of any size, elements may have any length.
///
/// The input is checked as `checked_json` is, with the same nesting limit: containers may be nested at most
/// `checked_json_max_depth` deep, the outer array of `array_to_ndjson` included. White space between tokens
/// is dropped, so an element printed on many lines becomes one line. Numbers and escapes are copied as they
/// are. UTF-8 is not checked. Blank lines are skipped; a line may end with CR LF; the last line needs no line
/// end. No lines become `[]`, and `[]` becomes no lines.
///
/// Thread safety: one object belongs to one thread at a time. Objects are copyable.
/// Exceptions: none. `next()` and `finish()` report `errc::invalid_json` (also for text after the array, and
/// from `finish()` for an incomplete text) and `errc::depth_exceeded`; after an error every call fails with
/// the same error and returns nothing, and `elements()` says which element it was. Cost: linear in the text;
/// no allocation.
///
///     holdfast::ndjson_to_array array;
///     std::array<char, 16384> chunk;
///     for (std::string_view piece : received) {
///         for (;;) {
///             const std::string_view part = array.next(piece, chunk, ec);
///             if (part.empty()) break; // the piece is consumed, or ec is set
///             send(part);
///         }
///     }
///     // then the same with array.finish(chunk, ec)
template <ndjson_conversion To>
class ndjson_converter {
public:
    /// Converts the front of `text` into `chunk` (at least one byte), removes it from `text`, and returns the
    /// part of `chunk` that it wrote. The result is empty when all of `text` is consumed, or `ec` is set.
    /// Must not be called after `finish()`.
    std::string_view next(std::string_view& text, std::span<char> chunk, std::error_code& ec) noexcept
    {
        char* p = chunk.data();
        char* const end = p + chunk.size();
        const char* s = text.data();
        const char* const last = s + text.size();
        while (s != last && p != end && error_ == errc{}) {
            if (syntax_.in_string()) {
                const std::ptrdiff_t n = detail::copy_plain<false>(p, s, s + std::min(last - s, end - p));
                p += n;
                s += n;
                if (s == last || p == end) break;
            }
            if constexpr (To == ndjson_conversion::to_array)
                p = step_lines(p, s);
            else
                p = step_array(p, s);
        }
        text.remove_prefix(static_cast<std::size_t>(s - text.data()));
        return result(chunk.data(), p, ec);
    }

    /// Ends the input, and returns the next part of the remaining output. Call it until the result is empty,
    /// with a chunk of at least one byte.
    std::string_view finish(std::span<char> chunk, std::error_code& ec) noexcept
    {
        char* p = chunk.data();
        if constexpr (To == ndjson_conversion::to_array) {
            end_line();
            if (tail_ == nullptr) tail_ = elements_ == 0 ? "[]" : "]";
            for (char* const end = p + chunk.size(); p != end && *tail_ != 0; ++tail_)
                *p++ = *tail_;
        } else if (error_ == errc{} && !syntax_.complete()) {
            error_ = errc::invalid_json;
        }
        return result(chunk.data(), p, ec);
    }

    /// The number of elements that have begun (in an array the comma begins an element). After an error: the
    /// error is in the last of them, or after it.
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
    const char* tail_ = nullptr; // the rest of the array's end
    std::uint64_t elements_ = 0;
    errc error_{};
    bool in_line_ = false; // a value has begun in it
};

/// Converts NDJSON to one JSON array.
using ndjson_to_array = ndjson_converter<ndjson_conversion::to_array>;
/// Converts one JSON array to NDJSON.
using array_to_ndjson = ndjson_converter<ndjson_conversion::from_array>;

} // namespace holdfast

#endif
