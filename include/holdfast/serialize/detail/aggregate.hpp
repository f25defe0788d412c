// holdfast: the members of a struct that nothing describes, and their names. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_AGGREGATE_HPP
#define HOLDFAST_SERIALIZE_DETAIL_AGGREGATE_HPP

#include <holdfast/version.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

// C++20 has no reflection, but of an aggregate a program can learn what it can be initialized with, hence how
// many members it has; structured bindings are those members; and the signature of a function whose template
// argument is the address of a member has the member's name in it.

namespace holdfast::detail {

inline constexpr std::size_t max_aggregate_size = 32;

// Converts to any member of T. (To a T it does not: T{value} would be a copy.)
template <class T>
struct any_member_of {
    template <class Member>
        requires(!std::same_as<std::remove_cv_t<Member>, T>)
    operator Member() const noexcept;
};

// Converts to the bases of T, which an aggregate takes before its members.
template <class T>
struct any_base_of {
    template <class Base>
        requires(!std::same_as<std::remove_cv_t<Base>, T> && std::is_base_of_v<Base, T>)
    operator Base() const noexcept;
};

// Converts to unions only; to all but unions, which it does not let be initialized by their members either.
template <class T>
struct any_union_of {
    template <class Member>
        requires std::is_union_v<Member>
    operator Member() const noexcept;
};
template <class T>
struct no_union_of {
    template <class Member>
        requires(!std::same_as<std::remove_cv_t<Member>, T> && !std::is_union_v<Member>)
    operator Member() const noexcept
    {
        __builtin_unreachable();
    } // defined for local types
    template <class Member>
        requires std::is_union_v<Member>
    operator Member() const noexcept = delete;
};

// Whether `Braces` times {}, and then a value of each of the types Any, initialize a T. A {} is for one
// member, be it an array, where a value would be for an array's first element. Since no pack can be made of
// {}, each number of them is spelled out here.
template <class T, std::size_t Braces, class... Any>
consteval bool initialized_by()
{
    // clang-format off
#define HOLDFAST_BRACES_4 {}, {}, {}, {}
#define HOLDFAST_BRACES_8 HOLDFAST_BRACES_4, HOLDFAST_BRACES_4
#define HOLDFAST_BRACES_16 HOLDFAST_BRACES_8, HOLDFAST_BRACES_8
#define HOLDFAST_IF_BRACES(n, ...) \
    if constexpr (Braces == n) return requires { T{__VA_ARGS__ __VA_OPT__(,) Any{}...}; };
    HOLDFAST_IF_BRACES(0)
    HOLDFAST_IF_BRACES(1, {})
    HOLDFAST_IF_BRACES(2, {}, {})
    HOLDFAST_IF_BRACES(3, {}, {}, {})
    HOLDFAST_IF_BRACES(4, HOLDFAST_BRACES_4)
    HOLDFAST_IF_BRACES(5, HOLDFAST_BRACES_4, {})
    HOLDFAST_IF_BRACES(6, HOLDFAST_BRACES_4, {}, {})
    HOLDFAST_IF_BRACES(7, HOLDFAST_BRACES_4, {}, {}, {})
    HOLDFAST_IF_BRACES(8, HOLDFAST_BRACES_8)
    HOLDFAST_IF_BRACES(9, HOLDFAST_BRACES_8, {})
    HOLDFAST_IF_BRACES(10, HOLDFAST_BRACES_8, {}, {})
    HOLDFAST_IF_BRACES(11, HOLDFAST_BRACES_8, {}, {}, {})
    HOLDFAST_IF_BRACES(12, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4)
    HOLDFAST_IF_BRACES(13, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4, {})
    HOLDFAST_IF_BRACES(14, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4, {}, {})
    HOLDFAST_IF_BRACES(15, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4, {}, {}, {})
    HOLDFAST_IF_BRACES(16, HOLDFAST_BRACES_16)
    HOLDFAST_IF_BRACES(17, HOLDFAST_BRACES_16, {})
    HOLDFAST_IF_BRACES(18, HOLDFAST_BRACES_16, {}, {})
    HOLDFAST_IF_BRACES(19, HOLDFAST_BRACES_16, {}, {}, {})
    HOLDFAST_IF_BRACES(20, HOLDFAST_BRACES_16, HOLDFAST_BRACES_4)
    HOLDFAST_IF_BRACES(21, HOLDFAST_BRACES_16, HOLDFAST_BRACES_4, {})
    HOLDFAST_IF_BRACES(22, HOLDFAST_BRACES_16, HOLDFAST_BRACES_4, {}, {})
    HOLDFAST_IF_BRACES(23, HOLDFAST_BRACES_16, HOLDFAST_BRACES_4, {}, {}, {})
    HOLDFAST_IF_BRACES(24, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8)
    HOLDFAST_IF_BRACES(25, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, {})
    HOLDFAST_IF_BRACES(26, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, {}, {})
    HOLDFAST_IF_BRACES(27, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, {}, {}, {})
    HOLDFAST_IF_BRACES(28, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4)
    HOLDFAST_IF_BRACES(29, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4, {})
    HOLDFAST_IF_BRACES(30, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4, {}, {})
    HOLDFAST_IF_BRACES(31, HOLDFAST_BRACES_16, HOLDFAST_BRACES_8, HOLDFAST_BRACES_4, {}, {}, {})
    HOLDFAST_IF_BRACES(32, HOLDFAST_BRACES_16, HOLDFAST_BRACES_16)
#undef HOLDFAST_IF_BRACES
#undef HOLDFAST_BRACES_16
#undef HOLDFAST_BRACES_8
#undef HOLDFAST_BRACES_4
    // clang-format on
    return false;
}

template <std::size_t, class Type>
using one_of_many = Type;

template <class T, std::size_t Braces, class... First, std::size_t... I>
consteval bool initialized_by_values(std::index_sequence<I...>)
{
    return initialized_by<T, Braces, First..., one_of_many<I, any_member_of<T>>...>();
}

// How many members T has: as many as it takes {}. If one takes none, since it has no default constructor, it
// and those after it are counted by values. (Then an array counts for too many, and the compiler refuses to
// bind so many.) Above max_aggregate_size: that is more than can be bound, or nothing initializes a T.
template <class T, std::size_t Braces = 0, std::size_t Values = 0>
consteval std::size_t aggregate_size()
{
    if constexpr (Braces + Values > max_aggregate_size)
        return Braces + Values;
    else if constexpr (Values == 0 && initialized_by<T, Braces>() && initialized_by<T, Braces + 1>())
        return aggregate_size<T, Braces + 1>();
    else if constexpr (initialized_by_values<T, Braces>(std::make_index_sequence<Values + 1>()) ||
                       !initialized_by_values<T, Braces>(std::make_index_sequence<Values>()))
        return aggregate_size<T, Braces, Values + 1>();
    else
        return Braces + Values;
}

// Whether T, which has Size members, has a base class.
template <class T, std::size_t Size>
consteval bool has_base()
{
    if constexpr (Size == 0)
        return false;
    else if constexpr (initialized_by<T, 0>())
        return initialized_by<T, 0, any_base_of<T>>();
    else
        return initialized_by_values<T, 0, any_base_of<T>>(std::make_index_sequence<Size - 1>());
}

// Whether the member after the first I is a union. It may be anonymous, and then its struct can't be bound.
template <class T, std::size_t I>
consteval bool is_union_after()
{
    return initialized_by<T, I, any_union_of<T>>() && !initialized_by<T, I, no_union_of<T>>();
}

template <class T, std::size_t... I>
consteval bool has_union(std::index_sequence<I...>)
{
    if constexpr (initialized_by<T, 0, one_of_many<I, no_union_of<T>>...>()) // in most cases, with one question
        return false;
    else
        return (is_union_after<T, I>() || ...);
}

// References to the members. No pack can be made of structured bindings either.
template <class T>
constexpr auto aggregate_members([[maybe_unused]] T& value) noexcept
{
    constexpr std::size_t size = aggregate_size<std::remove_const_t<T>>();
    static_assert(size <= max_aggregate_size);
    if constexpr (size == 0) return std::tuple<>();
    // clang-format off
#define HOLDFAST_MEMBERS_16 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p
#define HOLDFAST_IF_MEMBERS(count, ...) \
    if constexpr (size == count) { auto& [__VA_ARGS__] = value; return std::tie(__VA_ARGS__); }
    HOLDFAST_IF_MEMBERS(1, a)
    HOLDFAST_IF_MEMBERS(2, a, b)
    HOLDFAST_IF_MEMBERS(3, a, b, c)
    HOLDFAST_IF_MEMBERS(4, a, b, c, d)
    HOLDFAST_IF_MEMBERS(5, a, b, c, d, e)
    HOLDFAST_IF_MEMBERS(6, a, b, c, d, e, f)
    HOLDFAST_IF_MEMBERS(7, a, b, c, d, e, f, g)
    HOLDFAST_IF_MEMBERS(8, a, b, c, d, e, f, g, h)
    HOLDFAST_IF_MEMBERS(9, a, b, c, d, e, f, g, h, i)
    HOLDFAST_IF_MEMBERS(10, a, b, c, d, e, f, g, h, i, j)
    HOLDFAST_IF_MEMBERS(11, a, b, c, d, e, f, g, h, i, j, k)
    HOLDFAST_IF_MEMBERS(12, a, b, c, d, e, f, g, h, i, j, k, l)
    HOLDFAST_IF_MEMBERS(13, a, b, c, d, e, f, g, h, i, j, k, l, m)
    HOLDFAST_IF_MEMBERS(14, a, b, c, d, e, f, g, h, i, j, k, l, m, n)
    HOLDFAST_IF_MEMBERS(15, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)
    HOLDFAST_IF_MEMBERS(16, HOLDFAST_MEMBERS_16)
    HOLDFAST_IF_MEMBERS(17, HOLDFAST_MEMBERS_16, q)
    HOLDFAST_IF_MEMBERS(18, HOLDFAST_MEMBERS_16, q, r)
    HOLDFAST_IF_MEMBERS(19, HOLDFAST_MEMBERS_16, q, r, s)
    HOLDFAST_IF_MEMBERS(20, HOLDFAST_MEMBERS_16, q, r, s, t)
    HOLDFAST_IF_MEMBERS(21, HOLDFAST_MEMBERS_16, q, r, s, t, u)
    HOLDFAST_IF_MEMBERS(22, HOLDFAST_MEMBERS_16, q, r, s, t, u, v)
    HOLDFAST_IF_MEMBERS(23, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w)
    HOLDFAST_IF_MEMBERS(24, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x)
    HOLDFAST_IF_MEMBERS(25, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y)
    HOLDFAST_IF_MEMBERS(26, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z)
    HOLDFAST_IF_MEMBERS(27, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z, A)
    HOLDFAST_IF_MEMBERS(28, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z, A, B)
    HOLDFAST_IF_MEMBERS(29, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z, A, B, C)
    HOLDFAST_IF_MEMBERS(30, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z, A, B, C, D)
    HOLDFAST_IF_MEMBERS(31, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z, A, B, C, D, E)
    HOLDFAST_IF_MEMBERS(32, HOLDFAST_MEMBERS_16, q, r, s, t, u, v, w, x, y, z, A, B, C, D, E, F)
#undef HOLDFAST_IF_MEMBERS
#undef HOLDFAST_MEMBERS_16
    // clang-format on
}

// Storage for a T that is never made, so that its members have addresses. Of no use at run time: none is
// emitted.
template <class T>
union aggregate_storage {
    constexpr aggregate_storage() noexcept : none() {}
    constexpr ~aggregate_storage() {}

    char none;
    T value;
};

template <class T>
struct aggregate_stored {
#ifdef __clang__ // where std::string cannot be destroyed in a constant expression, this is no literal type
    [[clang::no_destroy]] static inline constinit aggregate_storage<T> storage{};
#else
    static constexpr aggregate_storage<T> storage{};
#endif
};

// The address of a member as a template argument; in a class, since clang takes no plain one before 18.
template <class Member>
struct member_address {
    Member* address;
};
template <class Member>
member_address(Member*) -> member_address<Member>;

// The signature ends with the member's name: `.value.name}]` (clang), `::name)}]` (g++).
template <member_address Member>
consteval auto name_by_compiler()
{
    const auto in_name = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
               static_cast<unsigned char>(c) >= 0x80;
    };
    const std::string_view signature = __PRETTY_FUNCTION__;
    std::size_t end = signature.size();
    while (!in_name(signature[end - 1]))
        --end;
    std::size_t begin = end;
    while (in_name(signature[begin - 1]))
        --begin;
    return signature.substr(begin, end - begin);
}

template <class T>
struct aggregate_names {
    static constexpr auto members = aggregate_members(aggregate_stored<T>::storage.value);

    template <std::size_t I>
    static consteval std::string_view spelled()
    {
        return name_by_compiler<member_address{std::addressof(std::get<I>(members))}>();
    }
};

// The name of a member, as it is spelled in the program.
template <class T, std::size_t I>
struct aggregate_member_name {
    static constexpr auto bytes = [] { // and not the whole signature in the program
        std::array<char, aggregate_names<T>::template spelled<I>().size()> made{};
        std::ranges::copy(aggregate_names<T>::template spelled<I>(), made.begin());
        return made;
    }();
    static constexpr std::string_view name{bytes.data(), bytes.size()};
};

struct aggregate_probe {
    char first;
    int second_2[2];
};
static_assert(aggregate_member_name<aggregate_probe, 0>::name == "first" &&
                  aggregate_member_name<aggregate_probe, 1>::name == "second_2",
              "holdfast: this compiler spells the names of members in another way than g++ and clang do");

// Whether T is an aggregate with members to be bound and named, and without a base class. (A member that is
// a reference has no name here: it has no address of its own.)
template <class T>
consteval bool is_plain_struct()
{
    if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T>) {
        return false;
    } else {
        constexpr std::size_t size = aggregate_size<T>();
        if constexpr (size > max_aggregate_size || has_base<T, size>())
            return false;
        else if constexpr (has_union<T>(std::make_index_sequence<size>()))
            return false;
        else
            return requires {
                typename std::bool_constant<(aggregate_members(aggregate_stored<T>::storage.value), true)>;
            };
    }
}

} // namespace holdfast::detail

#endif
