// holdfast: how JSON writes a type: as which of its kinds of value. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_KIND_HPP
#define HOLDFAST_SERIALIZE_JSON_KIND_HPP

#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/serialize/values.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace holdfast::detail {

// A cursor for a type of another library, which serialize/simdjson.hpp and simdjson_ondemand.hpp specialize.
template <class T, bool Lines>
struct json_foreign_cursor;

template <class T, template <class...> class Template>
inline constexpr bool is_specialization = false;
template <template <class...> class Template, class... Args>
inline constexpr bool is_specialization<Template<Args...>, Template> = true;

template <class T>
inline constexpr std::size_t char_array_size = 0;
template <std::size_t N>
inline constexpr std::size_t char_array_size<char[N]> = N;
template <std::size_t N>
inline constexpr std::size_t char_array_size<std::array<char, N>> = N;

// What converts to numbers as well (as simdjson's elements do) is no string.
template <class T>
concept json_text = std::convertible_to<const T&, std::string_view> && !std::convertible_to<const T&, double>;

// Bytes that lie in memory are base64.
template <class T>
concept json_bytes = std::ranges::contiguous_range<const T> && std::ranges::sized_range<const T> &&
                     std::same_as<std::ranges::range_value_t<const T>, std::byte>;

template <class T>
inline constexpr bool is_in = false;
template <class Unit>
inline constexpr bool is_in<in_unit<Unit>> = true;

// A pointer to an array does not know its length.
template <class T>
concept json_nullable = (is_specialization<T, std::optional> || is_specialization<T, std::unique_ptr> ||
                         is_specialization<T, std::shared_ptr>) &&
                        requires(T& value) { *value; };

template <class T>
concept json_foreign = requires { sizeof(json_foreign_cursor<T, false>); };

template <class T>
concept tuple_like = requires { std::tuple_size<T>::value; };

template <class T>
concept map_like = requires {
    typename T::key_type;
    typename T::mapped_type;
};

enum class json_kind {
    unknown,
    foreign,
    null,
    boolean,
    character,
    integer,
    floating,
    count,       // in a unit
    enumeration, // by value
    named_enumeration,
    text,
    char_array,
    bytes,
    raw,
    checked,
    reference,
    optional,
    variant,
    tagged,        // a variant with names
    tagged_inside, // which are members of what it holds
    record,
    tree, // a record that contains itself
    map,
    range,
    tuple,
    aggregate, // a struct without a description
};

// T may be const, which matters to views: some can only be iterated when they are not.
template <class T>
consteval json_kind json_kind_of()
{
    using value = std::remove_const_t<T>;
    if constexpr (json_foreign<value>) {
        return json_kind::foreign;
    } else if constexpr (std::same_as<value, std::monostate> || std::same_as<value, std::nullptr_t>) {
        return json_kind::null;
    } else if constexpr (std::same_as<value, bool>) {
        return json_kind::boolean;
    } else if constexpr (std::same_as<value, char>) {
        return json_kind::character;
    } else if constexpr (std::same_as<value, wchar_t> || std::same_as<value, char8_t> ||
                         std::same_as<value, char16_t> || std::same_as<value, char32_t>) {
        return json_kind::unknown;
    } else if constexpr (std::integral<value>) {
        return sizeof(value) <= 8 ? json_kind::integer : json_kind::unknown;
    } else if constexpr (std::same_as<value, float> || std::same_as<value, double>) {
        return json_kind::floating;
    } else if constexpr (described<value>) {
        return decltype(describe(type_tag<value>{}))::depth == 0 ? json_kind::record : json_kind::tree;
    } else if constexpr (is_in<value>) {
        return json_kind::count;
    } else if constexpr (std::is_enum_v<value>) {
        return described_enum<value> ? json_kind::named_enumeration : json_kind::enumeration;
    } else if constexpr (std::same_as<value, base64> || json_bytes<value>) {
        return json_kind::bytes;
    } else if constexpr (std::same_as<value, raw_json>) {
        return json_kind::raw;
    } else if constexpr (std::same_as<value, checked_json>) {
        return json_kind::checked;
    } else if constexpr (char_array_size<value> != 0) {
        return json_kind::char_array;
    } else if constexpr (json_text<value>) {
        return json_kind::text;
    } else if constexpr (is_specialization<value, std::reference_wrapper>) {
        return json_kind::reference;
    } else if constexpr (json_nullable<value>) {
        return json_kind::optional;
    } else if constexpr (is_specialization<value, std::variant>) {
        if constexpr (!described_variant<value>)
            return json_kind::variant;
        else
            return describe(type_tag<value>{}).tag.empty() ? json_kind::tagged : json_kind::tagged_inside;
    } else if constexpr (std::ranges::input_range<T>) {
        using element = std::remove_cvref_t<std::ranges::range_reference_t<T>>;
        // A range of itself (std::filesystem::path) has no end; a range of char may be text or not.
        if constexpr (std::same_as<element, value> || std::same_as<element, char>) return json_kind::unknown;
        return map_like<value> ? json_kind::map : json_kind::range;
    } else if constexpr (tuple_like<value>) {
        return json_kind::tuple;
    } else if constexpr (std::ranges::range<value>) { // but not if it is const
        return json_kind::unknown;
    } else if constexpr (plain_struct<value>) {
        return json_kind::aggregate;
    } else {
        return json_kind::unknown;
    }
}

template <class T>
std::string_view char_array_text(const T& array) noexcept
{
    const char* begin = std::data(array);
    const void* nul = std::memchr(begin, 0, char_array_size<T>);
    return {begin, nul ? static_cast<std::size_t>(static_cast<const char*>(nul) - begin) : char_array_size<T>};
}

} // namespace holdfast::detail

#endif
