// holdfast: the names of members, enumerators and alternatives outside the program, given once for every
// format.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DESCRIBE_HPP
#define HOLDFAST_SERIALIZE_DESCRIBE_HPP

#include <holdfast/serialize/detail/aggregate.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <variant>

namespace holdfast {

/// The only parameter of a `describe` function: it names the type that is described.
template <class T>
struct type_tag {};

/// Option of `field`: the member is left out if it is an optional or smart pointer without a value, an empty
/// string or an empty range.
struct omit_empty_t {};
inline constexpr omit_empty_t omit_empty{};

/// Option of `field`: the member is written as `W(member)`. `W` is for instance a wrapper of
/// serialize/values.hpp, `std::string_view`, or `int` for an enumeration.
///
/// The serializer keeps the `W` until it is written, so `W` may own what it holds; it takes `sizeof(W)` bytes
/// of the serializer. A trivially copyable `W` may be made several times, another one is made once.
template <class W>
struct written_as_t {
    static_assert(std::is_object_v<W>, "holdfast: written_as<W> takes a type that is no reference");
};
template <class W>
inline constexpr written_as_t<W> written_as{};

/// Options of `field` and `alternative` that only Protobuf reads.
namespace proto {

/// How integers are encoded. As an option it holds for all integers of a member: its own value, the elements
/// of a range, the values of a map.
enum class integer_encoding : std::uint8_t {
    /// `int32`, `int64`, `uint32`, `uint64`.
    varint,
    /// `sint32`, `sint64`: short for negative numbers too.
    zigzag,
    /// `fixed32`, `fixed64`, `sfixed32`, `sfixed64`.
    fixed,
};

/// `field("change", &tick::change, 2, proto::sint)`
inline constexpr integer_encoding sint = integer_encoding::zigzag;
/// `field("time", &tick::time, 3, proto::fixed)`
inline constexpr integer_encoding fixed = integer_encoding::fixed;

/// How the keys of a map are encoded: `proto::keys{proto::sint}`.
struct keys {
    integer_encoding encoding;
};

/// The member is written also if it is zero or empty, as proto3 does with an `optional` field that is set. (A
/// `std::optional` is written whenever it holds a value. An empty range is never written.)
struct always_t {};
inline constexpr always_t always{};

/// A range of scalars is written element by element, as `[packed = false]` declares.
struct unpacked_t {};
inline constexpr unpacked_t unpacked{};

} // namespace proto

namespace detail {

template <std::size_t Size>
consteval bool all_differ(const std::array<std::string_view, Size>& names)
{
    for (std::size_t i = 0; i != Size; ++i)
        for (std::size_t j = 0; j != i; ++j)
            if (names[i] == names[j]) return false;
    return true;
}

struct as_it_is {};

template <class... Options>
struct as_type_of {
    using type = as_it_is;
};
template <class First, class... Rest>
struct as_type_of<First, Rest...> : as_type_of<Rest...> {};
template <class W, class... Rest>
struct as_type_of<written_as_t<W>, Rest...> {
    using type = W;
};

} // namespace detail

/// One member of a described struct: its name in the message, and a pointer to the data member (of the struct
/// or of a base). The name must have static storage, as a string literal has. Options follow, in any order: a
/// number (the field number of Protobuf), `omit_empty`, `written_as<W>`, and those of `holdfast::proto`.
///
///     field("sent", &order::sent, 4, omit_empty, written_as<std::optional<in_unit<std::chrono::milliseconds>>>)
template <class Member, class As = detail::as_it_is>
struct field {
    static_assert(std::is_member_object_pointer_v<Member>,
                  "holdfast::field takes a name and a pointer to a data member: field(\"id\", &quote::id)");

    using as_type = As;

    template <class... Options>
    constexpr field(std::string_view name_, Member member_, Options... options) noexcept : name(name_), member(member_)
    {
        (take(options), ...);
    }

    std::string_view name;
    Member member;
    /// The field number of Protobuf. 0: the member has none.
    int number = 0;
    bool omits_empty = false;
    proto::integer_encoding encoding = proto::integer_encoding::varint;
    proto::integer_encoding key_encoding = proto::integer_encoding::varint;
    bool is_always = false;
    bool is_packed = true;

private:
    constexpr void take(int n) noexcept { number = n; }
    constexpr void take(omit_empty_t) noexcept { omits_empty = true; }
    constexpr void take(proto::integer_encoding e) noexcept { encoding = e; }
    constexpr void take(proto::keys k) noexcept { key_encoding = k.encoding; }
    constexpr void take(proto::always_t) noexcept { is_always = true; }
    constexpr void take(proto::unpacked_t) noexcept { is_packed = false; }
    constexpr void take(written_as_t<As>) noexcept {}
};

template <class Member, class... Options>
field(std::string_view, Member, Options...) -> field<Member, typename detail::as_type_of<Options...>::type>;

/// The members of a described struct. JSON writes them in this order, Protobuf in the order of their numbers.
template <class... Fields>
struct fields {
    static constexpr std::size_t size = sizeof...(Fields);
    /// The maximum nesting depth of a struct that contains itself. 0: the struct does not contain itself.
    static constexpr std::size_t depth = 0;

    constexpr explicit fields(Fields... list_) noexcept : list(list_...) {}

    std::tuple<Fields...> list;
};

/// What `recursive` returns.
template <std::size_t Depth, class... Fields>
struct recursive_fields : fields<Fields...> {
    static constexpr std::size_t depth = Depth;

    using fields<Fields...>::fields;
};

/// The members of a described struct that contains itself, directly or through other types: a tree. It may be
/// nested at most `Depth` levels deep; beyond that, writing fails with `errc::depth_exceeded`. The serializer
/// holds one cursor of the struct for each level (56 bytes for the struct below, on a 64-bit machine), since
/// it neither allocates nor recurses. If structs contain each other, describe only one of them in this way.
///
///     struct folder { std::string name; std::vector<folder> folders; };
///     constexpr auto describe(holdfast::type_tag<folder>)
///     {
///         return holdfast::recursive<32>(holdfast::field("name", &folder::name),
///                                        holdfast::field("folders", &folder::folders));
///     }
template <std::size_t Depth, class... Fields>
constexpr recursive_fields<Depth, Fields...> recursive(Fields... list) noexcept
{
    static_assert(Depth > 0);
    return recursive_fields<Depth, Fields...>(list...);
}

/// A value of an enumeration and its name in the message. The name must have static storage.
template <class Enum>
struct enumerator {
    static_assert(std::is_enum_v<Enum>);

    constexpr enumerator(std::string_view name_, Enum value_) noexcept : name(name_), value(value_) {}

    std::string_view name;
    Enum value;
};

/// The names of an enumeration's values. If one value has several names, the first is written.
template <class Enum, std::size_t Size>
struct enumerators {
    template <class... Rest>
    constexpr explicit enumerators(enumerator<Enum> first, Rest... rest) noexcept : list{first, rest...}
    {
    }

    static constexpr std::size_t size = Size;
    std::array<enumerator<Enum>, Size> list;
};

template <class Enum, class... Rest>
enumerators(enumerator<Enum>, Rest...) -> enumerators<Enum, 1 + sizeof...(Rest)>;

/// One alternative of a variant: its name in the message, which must have static storage, its field number of
/// Protobuf (0: none), and the encoding of its integers:
/// `holdfast::alternative("change", 4, holdfast::proto::sint)`.
struct alternative {
    constexpr alternative(const char* name_, int number_ = 0, proto::integer_encoding encoding_ = {}) noexcept
        : name(name_), number(number_), encoding(encoding_)
    {
    }

    std::string_view name;
    int number;
    proto::integer_encoding encoding;
};

/// The names of a variant's alternatives: one for each alternative, in the order of the variant.
template <std::size_t Size>
struct alternatives {
    template <std::convertible_to<alternative>... Names>
    constexpr explicit alternatives(Names... names) noexcept : list{alternative(names)...}
    {
    }

    /// The same, but JSON writes the name as the first member of the alternative's object:
    /// `alternatives("trade", "quote").tagged_by("type")` is written `{"type":"trade","id":7}`. `member` must
    /// have static storage and differ from the alternatives' own members. The alternatives must be structs or
    /// `std::monostate`. Protobuf ignores it.
    constexpr alternatives tagged_by(const char* member) const noexcept
    {
        alternatives tagged = *this;
        tagged.tag = member;
        return tagged;
    }

    static constexpr std::size_t size = Size;
    std::array<alternative, Size> list;
    std::string_view tag{}; ///< The member that `tagged_by` named; empty without it.
};

template <class... Names>
alternatives(Names...) -> alternatives<sizeof...(Names)>;

namespace detail {

template <class T>
inline constexpr bool is_fields = false;
template <class... Fields>
inline constexpr bool is_fields<fields<Fields...>> = true;
template <std::size_t Depth, class... Fields>
inline constexpr bool is_fields<recursive_fields<Depth, Fields...>> = true;

template <class T, class Enum>
inline constexpr bool is_enumerators = false;
template <class Enum, std::size_t Size>
inline constexpr bool is_enumerators<enumerators<Enum, Size>, Enum> = true;

template <class T, class Variant>
inline constexpr bool is_alternatives = false;
template <class... Ts>
inline constexpr bool is_alternatives<alternatives<sizeof...(Ts)>, std::variant<Ts...>> = true;

} // namespace detail

/// A described struct: `describe(type_tag<T>)` returns `fields` or `recursive`. It is `constexpr`, and a
/// function in the struct's namespace or a friend of the struct (which may name private members).
///
///     namespace market {
///     struct quote { std::uint64_t id; std::string symbol; double bid; };
///     constexpr auto describe(holdfast::type_tag<quote>)
///     {
///         using holdfast::field;
///         return holdfast::fields(field("id", &quote::id), field("symbol", &quote::symbol),
///                                 field("bid", &quote::bid));
///     }
///     }
template <class T>
concept described = requires { requires detail::is_fields<decltype(describe(type_tag<T>{}))>; };

/// A struct that JSON writes without a description: an object of all its members, in their order, under the
/// names that they have in the program. Renaming a member changes the text. Speed and serializer size are
/// those of a described struct. Ranges, strings and tuples are not plain structs.
///
/// `T` is an aggregate of at most 32 members without a base class. (An aggregate whose first member converts
/// from anything, as `std::any` does, counts as one with a base class.) The compiler refuses bit-fields,
/// references, and an array after a member without a default constructor. A description is needed
/// for a struct with a union, one that contains itself (`recursive`), and one with options (`omit_empty`,
/// `written_as`). Protobuf needs numbers, so it writes described structs only.
///
///     struct quote { std::uint64_t id; char symbol[8]; double bid; };
///     holdfast::serialize_to_string<holdfast::json>(quote{7, "ABC", 2.5})
///     // {"id":7,"symbol":"ABC","bid":2.5}
template <class T>
concept plain_struct = !described<T> && detail::is_plain_struct<T>();

/// An enumeration whose values JSON writes by name: `describe(type_tag<T>)` returns `enumerators`. A value that
/// the description does not name is written as a number, like each value of an enumeration without one.
///
///     enum class side { buy, sell };
///     constexpr auto describe(holdfast::type_tag<side>)
///     {
///         using holdfast::enumerator;
///         return holdfast::enumerators(enumerator("buy", side::buy), enumerator("sell", side::sell));
///     }
template <class T>
concept described_enum =
    std::is_enum_v<T> && requires { requires detail::is_enumerators<decltype(describe(type_tag<T>{})), T>; };

/// A `std::variant` whose text names the alternative that it holds: `describe(type_tag<T>)`, in the namespace
/// of one of the alternatives, returns `alternatives`. JSON writes `{"trade":{...}}`, or
/// `{"type":"trade",...}` with `tagged_by`. A variant without a description is written as the value that it
/// holds.
///
///     using event = std::variant<trade, quote>;
///     constexpr auto describe(holdfast::type_tag<event>) { return holdfast::alternatives("trade", "quote"); }
template <class T>
concept described_variant = requires { requires detail::is_alternatives<decltype(describe(type_tag<T>{})), T>; };

} // namespace holdfast

#endif
