// holdfast: what a format's cursors may offer beside step(): the path to where they are, a second pass.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_CURSOR_HPP
#define HOLDFAST_SERIALIZE_DETAIL_CURSOR_HPP

#include <holdfast/serialize/detail/chunk.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast::detail {

// Whether a cursor's source can be read a second time: all can, but for what holds a single-pass range.
template <class Cursor>
inline constexpr bool is_repeatable = true;
template <class Cursor>
    requires requires { Cursor::repeatable; }
inline constexpr bool is_repeatable<Cursor> = Cursor::repeatable;

// The room of a cursor's values where it is the same for all; else 0.
template <class Cursor>
inline constexpr std::size_t constant_room = 0;
template <class Cursor>
    requires requires { Cursor::max_room; }
inline constexpr std::size_t constant_room<Cursor> = Cursor::max_room;

// Writes a value whose size has not been taken from the budget yet.
template <class Cursor, class T, class Options>
char* write_counted(char* p, const T& value, const Options& options, piece_budget& budget)
{
    if constexpr (constant_room<Cursor> != 0)
        if (!budget.take(constant_room<Cursor>)) return p;
    return Cursor::write(p, value, options, budget);
}

// Appends the path from a cursor's value to where it is; a cursor without parts has none.
template <class Cursor, class T>
void append_path(Cursor& cursor, std::string& path, T& value)
{
    if constexpr (requires { cursor.path(path, value); }) cursor.path(path, value);
}

// A part of a path, as in JSON Pointer (RFC 6901).
inline void append_token(std::string& path, std::string_view name)
{
    path += '/';
    for (const char c : name) {
        if (c == '~')
            path += "~0";
        else if (c == '/')
            path += "~1";
        else
            path += c;
    }
}

inline void append_token(std::string& path, std::uint64_t index) { append_token(path, std::to_string(index)); }

} // namespace holdfast::detail

#endif
