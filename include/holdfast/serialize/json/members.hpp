// holdfast: the cursors of what is written member by member: described structs, pairs and tuples.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_MEMBERS_HPP
#define HOLDFAST_SERIALIZE_JSON_MEMBERS_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/element.hpp>
#include <holdfast/serialize/detail/one_of.hpp>
#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/name.hpp>
#include <holdfast/serialize/values.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

// Whether a member with the option omit_empty is left out.
template <class T>
bool json_is_empty(const T& value)
{
    constexpr json_kind kind = json_kind_of<const T>();
    if constexpr (kind == json_kind::optional) {
        return !value;
    } else if constexpr (kind == json_kind::text || kind == json_kind::char_array) {
        return json_text_cursor<const T>::text(value).empty();
    } else if constexpr (kind == json_kind::reference) {
        return json_is_empty(value.get());
    } else if constexpr (kind == json_kind::bytes && std::same_as<T, base64>) {
        return value.bytes().empty();
    } else {
        static_assert(
            requires { std::ranges::empty(value); },
            "holdfast::omit_empty is for optionals, strings, and ranges that have empty()");
        return std::ranges::empty(value);
    }
}

// What is written member by member. `Shape` gives the number of members, each one's value, its cursor, the
// text before it (which may depend on whether it is the first that is written), whether it is left out when
// it is empty, and its part of a path; and the text at the end (which may depend on whether any was written).
template <class T, class Shape, class = std::make_index_sequence<Shape::size>>
struct json_members_cursor;

template <class T, class Shape, std::size_t... I>
struct json_members_cursor<T, Shape, std::index_sequence<I...>> {
    template <std::size_t Index>
    using member_cursor = typename Shape::template cursor<Index>;

    static constexpr bool bounded = (json_bounded<member_cursor<I>> && ...);
    static constexpr bool repeatable = (is_repeatable<member_cursor<I>> && ...);

    static std::size_t room(const T& value)
        requires bounded
    {
        constexpr std::size_t fixed = (Shape::close(true).size() + ... + Shape::template before<I>(I == 0).size());
        return (fixed + ... + member_cursor<I>::room(Shape::template get<I>(value)));
    }

    static char* write(char* p, const T& value, [[maybe_unused]] const json& options, piece_budget& budget)
        requires bounded
    {
        constexpr std::size_t fixed = (Shape::close(true).size() + ... +
                                       (Shape::template before<I>(I == 0).size() + constant_room<member_cursor<I>>));
        if (!budget.take(fixed)) return p;
        const char* const begin = p;
        ((p = write_member<I>(p, p == begin, Shape::template get<I>(value), options, budget)), ...);
        return copy_text(p, Shape::close(p == begin));
    }

    bool step(chunk_writer& out, T& value, const json& options)
    {
        if constexpr (bounded && sizeof...(I) > 1) {
            if (passed_ == 0 && cursor_.empty()) {
                if (out.whole(room(value),
                              [&](char* p, piece_budget& budget) { return write(p, value, options, budget); }))
                    return true;
                if (out.full()) return false;
            }
        }
        return ((I < passed_ || step_member<I>(out, Shape::template get<I>(value), options)) && ...) &&
               out.fixed(Shape::close(!any_));
    }

    void path(std::string& to, T& value)
    {
        static_cast<void>((
            (cursor_.holds(I) && passed_ <= I && (path_of<I>(to, value, Shape::template get<I>(value)), true)) || ...));
    }

private:
    template <std::size_t Index, class Member>
    static char* write_member(char* p, bool first, const Member& member, const json& options, piece_budget& budget)
    {
        if constexpr (Shape::template omits<Index>) {
            if (Shape::template is_empty<Index>(member)) return p;
        }
        return member_cursor<Index>::write(copy_text(p, Shape::template before<Index>(first)), member, options, budget);
    }

    template <std::size_t Index, class Member>
    bool step_member(chunk_writer& out, Member&& member, const json& options)
    {
        if (!cursor_.holds(Index)) {
            if constexpr (Shape::template omits<Index>) {
                if (Shape::template is_empty<Index>(member)) {
                    passed_ = Index + 1;
                    return true;
                }
            }
            if constexpr (json_bounded<member_cursor<Index>>) {
                const std::size_t before = Shape::template before<Index>(!any_).size();
                if (out.whole(before + member_cursor<Index>::room(member), [&](char* p, piece_budget& budget) {
                        budget.take(before + constant_room<member_cursor<Index>>);
                        return write_member<Index>(p, !any_, member, options, budget);
                    })) [[likely]]
                    return pass(Index);
                if (out.full()) return false;
            }
            if (!out.fixed(Shape::template before<Index>(!any_))) return false;
            cursor_.template emplace<member_cursor<Index>>(Index);
        }
        return cursor_.template get<member_cursor<Index>>().step(out, member, options) && pass(Index);
    }

    bool pass(std::size_t index) noexcept
    {
        passed_ = static_cast<std::uint32_t>(index) + 1;
        any_ = true;
        return true;
    }

    template <std::size_t Index, class Member>
    void path_of(std::string& to, T& value, Member&& member)
    {
        Shape::template append_token_to<Index>(to, value);
        append_path(cursor_.template get<member_cursor<Index>>(), to, member);
    }

    // The member in flight, from the moment when the text before it has been taken.
    one_of<member_cursor<I>...> cursor_;
    std::uint32_t passed_ = 0; // members written or left out
    bool any_ = false;         // has been written
};

// A member that is written as something else, which is kept here until it is written: the cursor may point
// into it.
template <class W, class T, class Within>
struct json_converted_cursor {
    using written = json_cursor<W, Within>;
    // What is a single piece needs no place: it is taken, or made again.
    static constexpr bool bounded = std::is_trivially_copyable_v<W> && json_bounded<written>;
    static constexpr bool repeatable = is_repeatable<written>;

    static std::size_t room(const T& value)
        requires bounded
    {
        const W made = static_cast<W>(value);
        return written::room(made);
    }

    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
        requires bounded
    {
        const W made = static_cast<W>(value);
        return write_counted<written>(p, made, options, budget);
    }

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        if (!element_.made()) {
            const T* at = std::addressof(value);
            element_.make(at);
        }
        return cursor_.step(out, element_.get(), options);
    }

    void path(std::string& to, const T&)
    {
        if (element_.made()) append_path(cursor_, to, element_.get());
    }

private:
    serialize_element<W> element_;
    [[no_unique_address]] written cursor_{}; // may point into the element
};

template <class As, class T, class Within>
struct json_member_cursor : json_converted_cursor<As, T, Within> {};
template <class T, class Within>
struct json_member_cursor<as_it_is, T, Within> : json_cursor<T, Within> {};

struct json_plain_shape {
    template <std::size_t>
    static constexpr bool omits = false;
};

template <class T, std::size_t I>
struct json_member_name {
    static constexpr std::string_view name = std::get<I>(describe(type_tag<T>{}).list).name;
};

template <class T, class Within>
struct json_record_shape {
    using value = std::remove_const_t<T>;
    using list_type = decltype(describe(type_tag<value>{}).list);
    static constexpr list_type list = describe(type_tag<value>{}).list;
    static constexpr std::size_t size = std::tuple_size_v<list_type>;

    template <std::size_t I>
    using member_name = json_member_name<value, I>;
    template <std::size_t I>
    static constexpr bool omits = std::get<I>(list).omits_empty;
    static constexpr bool omits_any =
        std::apply([](const auto&... each) { return (false || ... || each.omits_empty); }, list);

    template <std::size_t I>
    static constexpr std::string_view before([[maybe_unused]] bool first) noexcept
    {
        using named = member_name<I>;
        if constexpr (omits_any)
            return first ? json_name<named, '{', ':'>::text : json_name<named, ',', ':'>::text;
        else
            return json_name < named, I == 0 ? '{' : ',', ':' > ::text;
    }

    static constexpr std::string_view close([[maybe_unused]] bool none) noexcept
    {
        if constexpr (omits_any)
            return none ? "{}" : "}";
        else
            return size == 0 ? "{}" : "}";
    }

    template <std::size_t I, class Value>
    static auto& get(Value& v)
    {
        return v.*(std::get<I>(list).member);
    }

    template <std::size_t I>
    using as_type = typename std::tuple_element_t<I, list_type>::as_type;

    template <std::size_t I>
    static bool is_empty(const auto& member)
    {
        if constexpr (std::same_as<as_type<I>, as_it_is>)
            return json_is_empty(member);
        else
            return json_is_empty(static_cast<as_type<I>>(member));
    }

    template <std::size_t I>
    static void append_token_to(std::string& path, const T&)
    {
        append_token(path, member_name<I>::name);
    }

    template <std::size_t I>
    using cursor =
        json_member_cursor<as_type<I>, std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>, Within>;

    template <std::size_t... I>
    static consteval bool names_differ(std::index_sequence<I...>)
    {
        return all_differ(std::array<std::string_view, size>{member_name<I>::name...});
    }
    static_assert(names_differ(std::make_index_sequence<size>{}),
                  "holdfast: two fields of a struct have the same name");
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::record> : json_members_cursor<T, json_record_shape<T, Within>> {};

template <class T, class Within>
struct json_tuple_shape : json_plain_shape {
    static constexpr std::size_t size = std::tuple_size_v<std::remove_const_t<T>>;

    template <std::size_t I>
    static constexpr std::string_view before(bool) noexcept
    {
        return I == 0 ? "[" : ",";
    }

    static constexpr std::string_view close(bool) noexcept { return size == 0 ? "[]" : "]"; }

    template <std::size_t I, class Value>
    static auto& get(Value& v) noexcept
    {
        return std::get<I>(v);
    }

    template <std::size_t I>
    static void append_token_to(std::string& path, const T&)
    {
        append_token(path, I);
    }

    template <std::size_t I>
    using cursor = json_cursor<std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>, Within>;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::tuple> : json_members_cursor<T, json_tuple_shape<T, Within>> {};

} // namespace holdfast::detail

#endif
