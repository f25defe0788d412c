// holdfast: the names of a struct's members outside the program, given once for every format.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DESCRIBE_HPP
#define HOLDFAST_SERIALIZE_DESCRIBE_HPP

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

namespace holdfast {

/// Names a type in a function's parameters: the only parameter of `describe`.
template <class T>
struct type {};

/// One member of a described struct: the name it has outside, and the pointer to the data member (its own or
/// a base's). The name must have static storage, as a string literal has.
template <class Member>
struct field {
    static_assert(std::is_member_object_pointer_v<Member>,
                  "holdfast::field takes a name and a pointer to a data member: field(\"id\", &quote::id)");

    constexpr field(std::string_view name_, Member member_) noexcept : name(name_), member(member_) {}

    std::string_view name;
    Member member;
};

/// The members of a described struct, in the order in which they are written.
template <class... Members>
struct fields {
    static constexpr std::size_t size = sizeof...(Members);

    constexpr explicit fields(field<Members>... list_) noexcept : list(list_...) {}

    std::tuple<field<Members>...> list;
};

namespace detail {

template <class T>
inline constexpr bool is_fields = false;
template <class... Members>
inline constexpr bool is_fields<fields<Members...>> = true;

} // namespace detail

/// A struct that says how it is written: `describe(type<T>)` is found in its namespace, or as a friend of it
/// (which may name private members), is `constexpr` and returns `fields`.
///
///     namespace market {
///     struct quote { std::uint64_t id; std::string symbol; double bid; };
///     constexpr auto describe(holdfast::type<quote>)
///     {
///         using holdfast::field;
///         return holdfast::fields(field("id", &quote::id), field("symbol", &quote::symbol),
///                                 field("bid", &quote::bid));
///     }
///     }
template <class T>
concept described = requires { requires detail::is_fields<decltype(describe(type<T>{}))>; };

} // namespace holdfast

#endif
