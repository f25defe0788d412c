// holdfast: the cursors of variants whose objects name their alternative in a member of their own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_TAGGED_HPP
#define HOLDFAST_SERIALIZE_JSON_TAGGED_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/aggregate.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/members.hpp>
#include <holdfast/serialize/json/name.hpp>

#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace holdfast::detail {

// What each object of the I-th alternative of Variant begins with: `{"type":"trade"`.
template <class Variant, std::size_t I>
struct json_tag {
    static constexpr auto description = describe(type_tag<Variant>{});
    static_assert(all_differ(json_names<Variant, 0, 0>::texts));

    struct member {
        static constexpr std::string_view name = description.tag;
    };
    struct alternative {
        static constexpr std::string_view name = description.list[I].name;
    };
    static constexpr std::string_view text =
        json_joined<json_name<member, '{', ':'>::text, json_name<alternative, 0, 0>::text>::text;
    static constexpr std::string_view closed = json_joined<text, json_closing_brace>::text;
};

// The members of a struct after that.
template <class T, class Tag, class Within>
struct json_tagged_shape : json_struct_shape<T, Within> {
    static_assert(json_kind_of<T>() == json_kind::record || json_kind_of<T>() == json_kind::aggregate,
                  "holdfast: the alternatives of a variant that is tagged_by a member are structs (described, "
                  "but not recursive, or plain) or std::monostate");
    using untagged = json_struct_shape<T, Within>;

    template <std::size_t... I>
    static consteval bool has_member_of_that_name(std::index_sequence<I...>)
    {
        return ((untagged::template member_name<I>::name == Tag::member::name) || ...);
    }
    static_assert(!has_member_of_that_name(std::make_index_sequence<untagged::size>()),
                  "holdfast: the member that a variant is tagged_by is one of an alternative's own members");

    template <std::size_t I>
    static constexpr std::string_view before(bool first) noexcept
    {
        using named = json_name<typename untagged::template member_name<I>, ',', ':'>;
        return first ? json_joined<Tag::text, named::text>::text : named::text;
    }

    static constexpr std::string_view close(bool none) noexcept
    {
        return none || untagged::size == 0 ? Tag::closed : json_closing_brace;
    }
};

template <class T, class Tag, class Within>
struct json_tagged_cursor : json_members_cursor<T, json_tagged_shape<T, Tag, Within>> {};

// Nothing follows it.
template <class T, class Tag, class Within>
    requires std::same_as<std::remove_const_t<T>, std::monostate>
struct json_tagged_cursor<T, Tag, Within> : json_piece_cursor<json_tagged_cursor<T, Tag, Within>, Tag::closed.size()> {
    static char* write(char* p, std::monostate, const json&, piece_budget&) noexcept
    {
        return copy_text(p, Tag::closed);
    }
};

template <class Variant, class Within>
struct json_tagged_alternatives {
    template <std::size_t I, class T>
    using cursor = json_tagged_cursor<T, json_tag<Variant, I>, Within>;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::tagged_inside>
    : json_variant_cursor<T, Within, json_tagged_alternatives<std::remove_const_t<T>, Within>> {};

} // namespace holdfast::detail

#endif
