// holdfast: the cursors of whole JSON and NDJSON texts.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_ROOT_HPP
#define HOLDFAST_SERIALIZE_JSON_ROOT_HPP

#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/aggregate.hpp>
#include <holdfast/serialize/json/base64.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/enum.hpp>
#include <holdfast/serialize/json/fragment.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/members.hpp>
#include <holdfast/serialize/json/range.hpp>
#include <holdfast/serialize/json/tagged.hpp>
#include <holdfast/serialize/json/tree.hpp>

#include <string>
#include <type_traits>

namespace holdfast::detail {

template <class T>
struct json_root : json_cursor<T> {};

// A source of NDJSON: a range is lines, and anything else is one line.
template <class T, json_kind = json_kind_of<T>()>
struct ndjson_cursor {
    bool step(chunk_writer& out, T& value, const json& options)
    {
        if (!written_) written_ = line_.step(out, value, options);
        return written_ && out.byte('\n');
    }

    static constexpr bool repeatable = is_repeatable<json_cursor<T>>;

    void path(std::string& to, T& value) { append_path(line_, to, value); }

    json_cursor<T> line_{};
    bool written_ = false;
};

template <class T>
struct ndjson_cursor<T, json_kind::range> : json_range_cursor<T, json_lines_layout> {};
template <class T>
struct ndjson_cursor<T, json_kind::foreign> : json_foreign_cursor<std::remove_const_t<T>, true> {};

template <class T>
struct ndjson_cursor<T, json_kind::reference> {
    bool step(chunk_writer& out, const T& value, const json& options) { return inner.step(out, value.get(), options); }

    static constexpr bool repeatable = is_repeatable<ndjson_cursor<typename T::type>>;

    void path(std::string& to, const T& value) { append_path(inner, to, value.get()); }

    ndjson_cursor<typename T::type> inner{};
};

template <class T>
struct ndjson_root {
    bool step(chunk_writer& out, T& value, const ndjson& options)
    {
        return inner.step(out, value, json{options.non_finite, options.utf8});
    }

    static constexpr bool repeatable = is_repeatable<ndjson_cursor<T>>;

    void path(std::string& to, T& value) { append_path(inner, to, value); }

    ndjson_cursor<T> inner{};
};

} // namespace holdfast::detail

#endif
