// holdfast: the cursors of JSON, derived from the type that is written; here those of scalars and of choices.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_CURSOR_HPP
#define HOLDFAST_SERIALIZE_JSON_CURSOR_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/one_of.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/number.hpp>
#include <holdfast/serialize/json/string.hpp>

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

// A cursor is where the text of one value has got to. All have
//
//     bool step(chunk_writer& out, T& value, const json& options);
//
// which goes on from there, and returns true when the value is written; false when the chunk is full, or
// after out.fail(). Values whose size is known beforehand without a walk over a range are `bounded`;
// theirs also have
//
//     static std::size_t room(const T& value);
//     static char* write(char* p, const T& value, const json& options, piece_budget& budget);
//
// so that a whole row is written with one check, and only the row that straddles the chunk's end takes steps.
// Where the room is the same for all values, it is `max_room`, and the caller of write() takes it from the budget
// (as a sum, for a row); else write() does. `Within` is the type of the tree that the value lies in
// (detail/json_tree.hpp), or void.

namespace holdfast::detail {

template <class T, class Within = void, json_kind = json_kind_of<T>()>
struct json_cursor;

template <class Cursor>
concept json_bounded = Cursor::bounded;

template <class T, class Within>
struct json_cursor<T, Within, json_kind::unknown> {
    static_assert(sizeof(T) == 0,
                  "holdfast cannot write this type as JSON. A struct that is no holdfast::plain_struct (it has a "
                  "union, a base "
                  "class, or is no aggregate) needs a describe() in its namespace (holdfast/serialize/describe.hpp); a "
                  "pointer "
                  "to an array needs a std::span; a duration or time point needs holdfast::in_unit<Unit>; a simdjson "
                  "document "
                  "needs holdfast/adapters/simdjson.hpp, a value of an on-demand one (get_value(), not get_array()) "
                  "holdfast/adapters/simdjson_ondemand.hpp; a range of char needs a std::string_view; a const view may "
                  "have "
                  "to be not const.");
    static constexpr bool bounded = false;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::foreign> : json_foreign_cursor<std::remove_const_t<T>, false> {};

// Cursors of values that are a single piece: they remember nothing, since a piece is taken or not begun.
template <class Derived, std::size_t Room>
struct json_piece_cursor {
    static constexpr bool bounded = true;
    static constexpr std::size_t max_room = Room;

    template <class T>
    static constexpr std::size_t room(const T&) noexcept
    {
        return Room;
    }

    template <class T>
    bool step(chunk_writer& out, const T& value, const json& options)
    {
        piece_budget budget{Room};
        const bool taken = out.piece<Room>([&](char* p) { return Derived::write(p, value, options, budget); });
        if (budget.error == errc{}) return taken;
        out.fail(budget.error);
        return false;
    }
};

inline char* write_null(char* p) noexcept
{
    std::memcpy(p, "null", 4);
    return p + 4;
}

template <class T, class Within>
struct json_cursor<T, Within, json_kind::null> : json_piece_cursor<json_cursor<T, Within>, 4> {
    static char* write(char* p, const T&, const json&, piece_budget&) noexcept { return write_null(p); }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::boolean> : json_piece_cursor<json_cursor<T, Within>, 5> {
    static char* write(char* p, bool value, const json&, piece_budget&) noexcept
    {
        std::memcpy(p, value ? "true " : "false", 5);
        return p + (value ? 4 : 5);
    }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::integer> : json_piece_cursor<json_cursor<T, Within>, json_integer_room<T>> {
    static char* write(char* p, T value, const json&, piece_budget&) noexcept { return write_integer(p, value); }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::floating> : json_piece_cursor<json_cursor<T, Within>, json_double_room> {
    static char* write(char* p, T value, const json& options, piece_budget& budget) noexcept
    {
        if (__builtin_isfinite(value)) [[likely]]
            return write_finite<std::remove_const_t<T>>(p, value);
        if (options.non_finite == non_finite::error) budget.error = errc::not_finite;
        return write_null(p);
    }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::count>
    : json_piece_cursor<json_cursor<T, Within>, json_cursor<typename T::rep>::max_room> {
    static char* write(char* p, T value, const json& options, piece_budget& budget) noexcept
    {
        return json_cursor<typename T::rep>::write(p, value.count(), options, budget);
    }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::character> : json_piece_cursor<json_cursor<T, Within>, json_string_room(1)> {
    static char* write(char* p, char value, const json& options, piece_budget& budget) noexcept
    {
        return write_string(p, {&value, 1}, options.utf8, budget.error);
    }
};

template <class T>
struct json_text_cursor {
    static constexpr bool bounded = true;

    static std::string_view text(const T& value)
    {
        if constexpr (char_array_size<std::remove_const_t<T>> != 0) {
            return char_array_text<std::remove_const_t<T>>(value);
        } else {
            return value;
        }
    }

    static std::size_t room(const T& value) { return json_string_room(text(value).size()); }

    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
    {
        const std::string_view all = text(value);
        if (!budget.take(json_string_room(all.size()))) return p;
        return write_string(p, all, options.utf8, budget.error);
    }

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        return string.step(out, text(value), options.utf8);
    }

    json_string_cursor string;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::text> : json_text_cursor<T> {};
template <class T, class Within>
struct json_cursor<T, Within, json_kind::char_array> : json_text_cursor<T> {};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::reference> : json_cursor<typename T::type, Within> {
    using referred = json_cursor<typename T::type, Within>;

    static std::size_t room(const T& value)
        requires json_bounded<referred>
    {
        return referred::room(value.get());
    }

    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
        requires json_bounded<referred>
    {
        return referred::write(p, value.get(), options, budget);
    }

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        return referred::step(out, value.get(), options);
    }

    void path(std::string& to, const T& value) { append_path<referred>(*this, to, value.get()); }
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::optional> {
    using held = json_cursor<std::remove_reference_t<decltype(*std::declval<T&>())>, Within>;
    static_assert(std::is_reference_v<decltype(*std::declval<T&>())>,
                  "holdfast: what a smart pointer points to must lie in memory: its operator* returns a value");
    static_assert(
        requires { sizeof(held); }, // its type is being defined
        "holdfast: a struct that contains itself needs a describe() that returns "
        "holdfast::recursive<Depth>(...)");
    static constexpr bool bounded = held::bounded;
    static constexpr bool repeatable = is_repeatable<held>;

    static std::size_t room(const T& value)
        requires json_bounded<held>
    {
        return value ? held::room(*value) : 4;
    }

    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
        requires json_bounded<held>
    {
        if (value) return write_counted<held>(p, *value, options, budget);
        return budget.take(4) ? write_null(p) : p;
    }

    bool step(chunk_writer& out, T& value, const json& options)
    {
        return value ? inner.step(out, *value, options) : out.fixed("null");
    }

    void path(std::string& to, T& value)
    {
        if (value) append_path(inner, to, *value);
    }

    [[no_unique_address]] held inner{};
};

template <class Within>
struct json_plain_alternatives {
    template <std::size_t I, class T>
    using cursor = json_cursor<T, Within>;
};

template <class T, class Within, class Alternatives = json_plain_alternatives<Within>>
struct json_variant_cursor {
    template <std::size_t I>
    using alternative = std::remove_reference_t<decltype(std::get<I>(std::declval<T&>()))>;
    template <std::size_t I>
    using alternative_cursor = typename Alternatives::template cursor<I, alternative<I>>;

private:
    using indices = std::make_index_sequence<std::variant_size_v<std::remove_const_t<T>>>;

    template <std::size_t... I>
    static consteval bool all_bounded(std::index_sequence<I...>)
    {
        return (alternative_cursor<I>::bounded && ...);
    }

    template <std::size_t... I>
    static consteval bool all_repeatable(std::index_sequence<I...>)
    {
        return (is_repeatable<alternative_cursor<I>> && ...);
    }

public:
    static constexpr bool bounded = all_bounded(indices{});
    static constexpr bool repeatable = all_repeatable(indices{});

    static std::size_t room(const T& value)
        requires bounded
    {
        std::size_t room = 0;
        with_held(value, indices{}, [&]<class Held>(const auto& held) { room = Held::room(held); });
        return room;
    }

    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
        requires bounded
    {
        if (value.valueless_by_exception()) budget.error = errc::source_failed;
        with_held(value, indices{},
                  [&]<class Held>(const auto& held) { p = write_counted<Held>(p, held, options, budget); });
        return p;
    }

    bool step(chunk_writer& out, T& value, const json& options) { return step_held(out, value, options, indices{}); }

    void path(std::string& to, T& value) { path_held(to, value, indices{}); }

private:
    template <std::size_t... I, class Visit>
    static void with_held(const T& value, std::index_sequence<I...>, const Visit& visit)
    {
        static_cast<void>((
            (value.index() == I && (visit.template operator()<alternative_cursor<I>>(*std::get_if<I>(&value)), true)) ||
            ...));
    }

    template <std::size_t... I>
    static one_of<alternative_cursor<I>...> cursor_of(std::index_sequence<I...>);

    template <std::size_t... I>
    bool step_held(chunk_writer& out, T& value, const json& options, std::index_sequence<I...>)
    {
        if (value.valueless_by_exception()) {
            out.fail(errc::source_failed);
            return false;
        }
        return ((value.index() == I && step_one<I>(out, *std::get_if<I>(&value), options)) || ...);
    }

    template <std::size_t I>
    bool step_one(chunk_writer& out, alternative<I>& value, const json& options)
    {
        if (!cursor_.holds(I)) cursor_.template emplace<alternative_cursor<I>>(I);
        return cursor_.template get<alternative_cursor<I>>().step(out, value, options);
    }

    template <std::size_t... I>
    void path_held(std::string& to, T& value, std::index_sequence<I...>)
    {
        static_cast<void>(
            ((cursor_.holds(I) && value.index() == I &&
              (append_path(cursor_.template get<alternative_cursor<I>>(), to, *std::get_if<I>(&value)), true)) ||
             ...));
    }

    decltype(cursor_of(indices{})) cursor_;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::variant> : json_variant_cursor<T, Within> {};

} // namespace holdfast::detail

#endif
