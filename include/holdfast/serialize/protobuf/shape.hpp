// holdfast: which fields a Protobuf message has, in the order of their numbers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_SHAPE_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_SHAPE_HPP

#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/protobuf/cursor.hpp>
#include <holdfast/serialize/protobuf/kind.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

// A shape gives a message's fields: their descriptions as `entries`; whether a value has one; its value, its
// cursor, and its part of a path.

namespace holdfast::detail {

// A field of a message: a member, or an alternative of one that is a oneof.
struct protobuf_entry {
    static constexpr std::size_t whole = static_cast<std::size_t>(-1);

    std::size_t member = 0;
    std::size_t alternative = whole;
    protobuf_field field{};
    std::string_view name{};
};

constexpr bool protobuf_number_is_valid(int number)
{
    return number >= 1 && number < 1 << 29 && (number < 19000 || number > 19999);
}

template <std::size_t Size>
consteval bool protobuf_numbers_differ(const std::array<protobuf_entry, Size>& sorted)
{
    return std::ranges::adjacent_find(sorted, {}, [](const auto& e) { return e.field.number; }) == sorted.end();
}

template <std::size_t Size>
consteval bool protobuf_numbers_are_valid(const std::array<protobuf_entry, Size>& entries)
{
    return std::ranges::all_of(entries, [](const auto& e) { return protobuf_number_is_valid(e.field.number); });
}

template <std::size_t Size>
consteval auto protobuf_sorted(std::array<protobuf_entry, Size> entries)
{
    std::ranges::sort(entries, {}, [](const auto& e) { return e.field.number; });
    return entries;
}

// The alternatives of a variant, as the fields that it may be; without std::monostate, which is none.
template <class Variant, std::size_t... I>
consteval auto protobuf_choices(std::size_t member, std::index_sequence<I...>)
{
    static_assert((protobuf_is_singular<std::variant_alternative_t<I, Variant>>() && ...),
                  "holdfast: the alternatives of a oneof are no ranges, maps, optionals or pointers: put one "
                  "into a struct");
    constexpr auto names = describe(type_tag<Variant>{}).list;
    constexpr std::size_t size = (0 + ... + !std::same_as<std::variant_alternative_t<I, Variant>, std::monostate>);
    std::array<protobuf_entry, size> all;
    std::size_t n = 0;
    const auto add = [&](std::size_t i, bool is_nothing) {
        if (is_nothing) return;
        all[n++] = {member, i, protobuf_field{.number = names[i].number, .wire = names[i].encoding, .always = true},
                    names[i].name};
    };
    (add(I, std::same_as<std::variant_alternative_t<I, Variant>, std::monostate>), ...);
    return all;
}

template <class Variant>
consteval auto protobuf_choices(std::size_t member)
{
    return protobuf_choices<Variant>(member, std::make_index_sequence<std::variant_size_v<Variant>>{});
}

template <class T>
struct protobuf_record {
    using list_type = decltype(describe(type_tag<T>{}).list);
    static constexpr list_type list = describe(type_tag<T>{}).list;

    template <std::size_t I>
    using as_type = typename std::tuple_element_t<I, list_type>::as_type;

    template <std::size_t I, class Value>
    static auto& get(Value& v)
    {
        return v.*(std::get<I>(list).member);
    }

    // Whether a member is a oneof of this message.
    template <std::size_t I>
    static consteval bool is_oneof()
    {
        using value = std::remove_cvref_t<decltype(get<I>(std::declval<T&>()))>;
        return described_variant<value> && std::get<I>(list).number == 0;
    }

    // Whether each oneof has a value or is std::monostate: none has lost it to an exception.
    static bool valid(const T& v)
    {
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
            [[maybe_unused]] const auto valid_one = [&]<std::size_t Index>(std::integral_constant<std::size_t, Index>) {
                if constexpr (is_oneof<Index>())
                    return !get<Index>(v).valueless_by_exception();
                else
                    return true;
            };
            return (valid_one(std::integral_constant<std::size_t, I>{}) && ...);
        }(std::make_index_sequence<std::tuple_size_v<list_type>>{});
    }

    // The fields that a member stands for.
    template <std::size_t I>
    static consteval auto fields_of_member()
    {
        using value = std::remove_cvref_t<decltype(get<I>(std::declval<T&>()))>;
        constexpr auto described = std::get<I>(list);
        if constexpr (is_oneof<I>()) {
            static_assert(std::same_as<as_type<I>, as_it_is>,
                          "holdfast: a oneof cannot be written by holdfast::written_as");
            return protobuf_choices<value>(I);
        } else {
            static_assert(described.number != 0,
                          "holdfast: this member needs a field number to be written as Protobuf: "
                          "field(\"id\", &quote::id, 1)");
            return std::array{
                protobuf_entry{I, protobuf_entry::whole,
                               protobuf_field{described.number, described.encoding, described.key_encoding,
                                              described.is_always, described.is_packed},
                               described.name}};
        }
    }

    static consteval auto make_entries()
    {
        return []<std::size_t... I>(std::index_sequence<I...>) {
            std::array<protobuf_entry, (std::size_t{0} + ... + fields_of_member<I>().size())> all;
            [[maybe_unused]] auto to = all.begin();
            ((to = std::ranges::copy(fields_of_member<I>(), to).out), ...);
            return all;
        }(std::make_index_sequence<std::tuple_size_v<list_type>>{});
    }
};

template <class T, class Within>
struct protobuf_record_shape {
    using record = protobuf_record<std::remove_const_t<T>>;
    static constexpr auto entries = protobuf_sorted(record::make_entries());

    static_assert(protobuf_numbers_are_valid(entries),
                  "holdfast: a field's number in Protobuf is 1 to 536870911, without 19000 to 19999; the "
                  "alternatives of a oneof have theirs in the variant's description");
    static_assert(protobuf_numbers_differ(entries), "holdfast: two fields of a message have the same number");

    static bool valid(const T& v) { return record::valid(v); }

    template <std::size_t E>
    static bool has(const T& v)
    {
        if constexpr (entries[E].alternative == protobuf_entry::whole)
            return true;
        else
            return record::template get<entries[E].member>(v).index() == entries[E].alternative;
    }

    template <std::size_t E, class Value>
    static auto& get(Value& v)
    {
        if constexpr (entries[E].alternative == protobuf_entry::whole)
            return record::template get<entries[E].member>(v);
        else
            return (*std::get_if<entries[E].alternative>(&record::template get<entries[E].member>(v)));
    }

    template <std::size_t E>
    static void append_token_to(std::string& path, const T&)
    {
        if constexpr (entries[E].alternative != protobuf_entry::whole)
            append_token(path, std::get<entries[E].member>(record::list).name);
        append_token(path, entries[E].name);
    }

    template <std::size_t E>
    static consteval auto cursor_type()
    {
        using value = std::remove_reference_t<decltype(get<E>(std::declval<T&>()))>;
        constexpr auto field = entries[E].field;
        using as = typename record::template as_type<entries[E].member>;
        if constexpr (std::same_as<as, as_it_is>)
            return std::type_identity<protobuf_cursor<value, field, Within>>{};
        else
            return std::type_identity<protobuf_converted_cursor<as, value, field, Within>>{};
    }
    template <std::size_t E>
    using cursor = typename decltype(cursor_type<E>())::type;
};

// A variant that is a message of its own.
template <class T, class Within>
struct protobuf_variant_shape {
    static constexpr auto entries = protobuf_sorted(protobuf_choices<std::remove_const_t<T>>(0));

    static_assert(protobuf_numbers_are_valid(entries),
                  "holdfast: the alternatives of a variant need field numbers to be written as Protobuf: "
                  "alternatives(alternative(\"trade\", 1), alternative(\"quote\", 2))");
    static_assert(protobuf_numbers_differ(entries), "holdfast: two fields of a message have the same number");

    static bool valid(const T& v) noexcept { return !v.valueless_by_exception(); }

    template <std::size_t E>
    static bool has(const T& v)
    {
        return v.index() == entries[E].alternative;
    }

    template <std::size_t E, class Value>
    static auto& get(Value& v)
    {
        return *std::get_if<entries[E].alternative>(&v);
    }

    template <std::size_t E>
    static void append_token_to(std::string& path, const T&)
    {
        append_token(path, entries[E].name);
    }

    template <std::size_t E>
    using cursor = protobuf_cursor<std::remove_reference_t<decltype(get<E>(std::declval<T&>()))>,
                                   protobuf_field(entries[E].field), Within>;
};

// An entry of a map: key and value, both of which are always written.
template <class T, protobuf_field Map, class Within>
struct protobuf_entry_shape {
    using key = std::remove_cvref_t<decltype(std::get<0>(std::declval<T&>()))>;
    using mapped = std::remove_cvref_t<decltype(std::get<1>(std::declval<T&>()))>;

    static_assert(protobuf_kind_of<key>() == protobuf_kind::text || std::integral<key>,
                  "holdfast: the keys of a map in Protobuf are strings, integers or bool");
    static_assert(protobuf_kind_of<mapped>() != protobuf_kind::range,
                  "holdfast: the values of a map in Protobuf are no ranges: put the range into a struct");

    static constexpr std::array<protobuf_entry, 2> entries{
        protobuf_entry{0, protobuf_entry::whole, {.number = 1, .wire = Map.key_wire, .always = true}},
        protobuf_entry{1, protobuf_entry::whole, {.number = 2, .wire = Map.wire, .always = true}}};

    static constexpr bool valid(const T&) noexcept { return true; }

    template <std::size_t>
    static constexpr bool has(const T&) noexcept
    {
        return true;
    }

    template <std::size_t E, class Value>
    static auto& get(Value& v) noexcept
    {
        return std::get<E>(v);
    }

    template <std::size_t E>
    static void append_token_to(std::string& path, const T& entry)
    {
        const auto& of = std::get<0>(entry);
        if constexpr (protobuf_kind_of<key>() == protobuf_kind::text)
            append_token(path, protobuf_text(of));
        else
            append_token(path, std::to_string(of));
    }

    template <std::size_t E>
    using cursor = protobuf_cursor<std::remove_reference_t<decltype(get<E>(std::declval<T&>()))>,
                                   protobuf_field(entries[E].field), Within>;
};

} // namespace holdfast::detail

#endif
