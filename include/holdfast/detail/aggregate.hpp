// holdfast: the members of a struct that nothing describes, and their names. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_AGGREGATE_HPP
#define HOLDFAST_DETAIL_AGGREGATE_HPP

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

// Whether `Braces` times {}, and then a value of each of the types Any, initialize a T. A {} is for one
// member, be it an array, where a value would be for an array's first element.
template <class T, std::size_t Braces, class... Any>
consteval bool initialized_by()
{
    if constexpr (Braces == 0) return requires { T{Any{}...}; };
    if constexpr (Braces == 1) return requires { T{{}, Any{}...}; };
    if constexpr (Braces == 2) return requires { T{{}, {}, Any{}...}; };
    if constexpr (Braces == 3) return requires { T{{}, {}, {}, Any{}...}; };
    if constexpr (Braces == 4) return requires { T{{}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 5) return requires { T{{}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 6) return requires { T{{}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 7) return requires { T{{}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 8) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 9) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 10) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 11) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 12)
        return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 13)
        return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 14)
        return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 15)
        return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 16)
        return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 17)
        return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...}; };
    if constexpr (Braces == 18)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 19)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 20)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 21)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 22)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},      {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 23)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 24)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},      {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 25)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 26)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},      {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 27)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 28)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},      {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 29)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 30)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},      {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 31)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
    if constexpr (Braces == 32)
        return requires {
            T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},      {},
              {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Any{}...};
        };
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
// and those behind it are counted by values. (Then an array counts for too many, and the compiler refuses to
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

// References to the members.
template <class T>
constexpr auto aggregate_members([[maybe_unused]] T& value) noexcept
{
    constexpr std::size_t size = aggregate_size<std::remove_const_t<T>>();
    if constexpr (size == 1) {
        auto& [a] = value;
        return std::tie(a);
    } else if constexpr (size == 2) {
        auto& [a, b] = value;
        return std::tie(a, b);
    } else if constexpr (size == 3) {
        auto& [a, b, c] = value;
        return std::tie(a, b, c);
    } else if constexpr (size == 4) {
        auto& [a, b, c, d] = value;
        return std::tie(a, b, c, d);
    } else if constexpr (size == 5) {
        auto& [a, b, c, d, e] = value;
        return std::tie(a, b, c, d, e);
    } else if constexpr (size == 6) {
        auto& [a, b, c, d, e, f] = value;
        return std::tie(a, b, c, d, e, f);
    } else if constexpr (size == 7) {
        auto& [a, b, c, d, e, f, g] = value;
        return std::tie(a, b, c, d, e, f, g);
    } else if constexpr (size == 8) {
        auto& [a, b, c, d, e, f, g, h] = value;
        return std::tie(a, b, c, d, e, f, g, h);
    } else if constexpr (size == 9) {
        auto& [a, b, c, d, e, f, g, h, i] = value;
        return std::tie(a, b, c, d, e, f, g, h, i);
    } else if constexpr (size == 10) {
        auto& [a, b, c, d, e, f, g, h, i, j] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j);
    } else if constexpr (size == 11) {
        auto& [a, b, c, d, e, f, g, h, i, j, k] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k);
    } else if constexpr (size == 12) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l);
    } else if constexpr (size == 13) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m);
    } else if constexpr (size == 14) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
    } else if constexpr (size == 15) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
    } else if constexpr (size == 16) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
    } else if constexpr (size == 17) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q);
    } else if constexpr (size == 18) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r);
    } else if constexpr (size == 19) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s);
    } else if constexpr (size == 20) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t);
    } else if constexpr (size == 21) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u);
    } else if constexpr (size == 22) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v);
    } else if constexpr (size == 23) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w);
    } else if constexpr (size == 24) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x);
    } else if constexpr (size == 25) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y);
    } else if constexpr (size == 26) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z);
    } else if constexpr (size == 27) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A);
    } else if constexpr (size == 28) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B);
    } else if constexpr (size == 29) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B,
                        C);
    } else if constexpr (size == 30) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C, D] =
            value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C,
                        D);
    } else if constexpr (size == 31) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C, D, E] =
            value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C,
                        D, E);
    } else if constexpr (size == 32) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C, D, E,
               F] = value;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C,
                        D, E, F);
    } else {
        static_assert(size == 0);
        return std::tuple<>();
    }
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
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
               c == '$' || static_cast<unsigned char>(c) >= 0x80;
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
        else
            return requires {
                typename std::bool_constant<(aggregate_members(aggregate_stored<T>::storage.value), true)>;
            };
    }
}

} // namespace holdfast::detail

#endif
