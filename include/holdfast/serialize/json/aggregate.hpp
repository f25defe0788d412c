// holdfast: the cursors of structs without a description, which are written by the names of their members.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_AGGREGATE_HPP
#define HOLDFAST_SERIALIZE_JSON_AGGREGATE_HPP

#include <holdfast/serialize/detail/aggregate.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/members.hpp>
#include <holdfast/serialize/json/name.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

template <class T, class Within>
struct json_aggregate_shape : json_plain_shape {
    using value = std::remove_const_t<T>;
    static constexpr std::size_t size = aggregate_size<value>();

    template <std::size_t I>
    using member_name = aggregate_member_name<value, I>;

    template <std::size_t I>
    static constexpr std::string_view before(bool) noexcept
    {
        return json_name < member_name<I>, I == 0 ? '{' : ',', ':' > ::text;
    }

    static constexpr std::string_view close(bool) noexcept { return size == 0 ? "{}" : "}"; }

    template <std::size_t I, class Value>
    static auto& get(Value& v) noexcept
    {
        return std::get<I>(aggregate_members(v));
    }

    template <std::size_t I>
    static void append_token_to(std::string& path, const T&)
    {
        append_token(path, member_name<I>::name);
    }

    template <std::size_t I>
    using cursor = json_cursor<std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>, Within>;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::aggregate> : json_members_cursor<T, json_aggregate_shape<T, Within>> {};

// The shape of a struct, described or not.
template <class T, class Within>
using json_struct_shape = std::conditional_t<json_kind_of<T>() == json_kind::aggregate, json_aggregate_shape<T, Within>,
                                             json_record_shape<T, Within>>;

} // namespace holdfast::detail

#endif
