// holdfast: the cursors of described choices: enumerations by name, variants with the name of what they hold.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_ENUM_HPP
#define HOLDFAST_SERIALIZE_JSON_ENUM_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/name.hpp>
#include <holdfast/serialize/json/number.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

// The texts of the names of a description of enumerators or alternatives.
template <class T, char Before, char After>
struct json_names {
    static constexpr auto list = describe(type_tag<T>{}).list;

    template <std::size_t I>
    struct named {
        static constexpr std::string_view name = list[I].name;
    };

    static constexpr auto texts = []<std::size_t... I>(std::index_sequence<I...>) {
        return std::array{json_name<named<I>, Before, After>::text...};
    }(std::make_index_sequence<list.size()>{});

    static_assert(all_differ(texts), "holdfast: two enumerators or alternatives have the same name");

    static constexpr std::size_t longest = [] {
        std::size_t most = 0;
        for (const std::string_view text : texts)
            most = std::max(most, text.size());
        return most;
    }();
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::enumeration>
    : json_piece_cursor<json_cursor<T, Within>, json_integer_room<std::underlying_type_t<T>>> {
    static char* write(char* p, T value, const json&, piece_budget&) noexcept
    {
        return write_integer(p, static_cast<std::underlying_type_t<T>>(value));
    }
};

// A value without a name is a number, which has to be in quotes where it is a key.
template <class T, bool Key>
struct json_enum_cursor
    : json_piece_cursor<json_enum_cursor<T, Key>, std::max(json_names<std::remove_const_t<T>, 0, 0>::longest,
                                                           json_integer_room<std::underlying_type_t<T>> + 2)> {
    static char* write(char* p, T value, const json&, piece_budget&) noexcept
    {
        using names = json_names<std::remove_const_t<T>, 0, 0>;
        for (std::size_t i = 0; i < names::list.size(); ++i)
            if (names::list[i].value == value) return copy_text(p, names::texts[i]);
        if (Key) *p++ = '"';
        p = write_integer(p, static_cast<std::underlying_type_t<T>>(value));
        if (Key) *p++ = '"';
        return p;
    }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::named_enumeration> : json_enum_cursor<T, false> {};

// An object whose only member has the name of the alternative.
template <class T, class Within>
struct json_cursor<T, Within, json_kind::tagged> {
    using held = json_variant_cursor<T, Within>;
    using names = json_names<std::remove_const_t<T>, '{', ':'>;

    static constexpr bool bounded = held::bounded;
    static constexpr bool repeatable = held::repeatable;

    static std::size_t room(const T& value)
        requires json_bounded<held>
    {
        return names::longest + held::room(value) + 1;
    }

    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
        requires json_bounded<held>
    {
        if (!budget.take(names::longest + 1)) return p;
        if (!value.valueless_by_exception()) p = copy_text(p, names::texts[value.index()]);
        p = held::write(p, value, options, budget);
        *p++ = '}';
        return p;
    }

    bool step(chunk_writer& out, T& value, const json& options)
    {
        if (!begun && !value.valueless_by_exception()) {
            if (!out.fixed(names::texts[value.index()])) return false;
            begun = true;
        }
        if (!written) written = inner.step(out, value, options);
        return written && out.byte('}');
    }

    void path(std::string& to, T& value)
    {
        if (!begun) return;
        append_token(to, names::list[value.index()].name);
        inner.path(to, value);
    }

    held inner;
    bool begun = false, written = false;
};

} // namespace holdfast::detail

#endif
