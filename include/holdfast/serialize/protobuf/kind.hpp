// holdfast: as what Protobuf writes a type, and how it encodes scalars.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_KIND_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_KIND_HPP

#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/protobuf/wire.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

enum class protobuf_kind { unknown, scalar, text, bytes, message, reference, optional, range };

template <class T>
consteval protobuf_kind protobuf_kind_of()
{
    switch (json_kind_of<T>()) {
    case json_kind::boolean:
    case json_kind::integer:
    case json_kind::floating:
    case json_kind::count:
    case json_kind::enumeration:
    case json_kind::named_enumeration:
        return protobuf_kind::scalar;
    case json_kind::character:
    case json_kind::text:
    case json_kind::char_array:
        return protobuf_kind::text;
    case json_kind::bytes:
        return protobuf_kind::bytes;
    case json_kind::record:
    case json_kind::tree:
    case json_kind::tagged:
    case json_kind::tagged_inside:
        return protobuf_kind::message;
    case json_kind::reference:
        return protobuf_kind::reference;
    case json_kind::optional:
        return protobuf_kind::optional;
    case json_kind::map:
    case json_kind::range:
        return protobuf_kind::range;
    default:
        return protobuf_kind::unknown;
    }
}

// Whether it is a message, or refers to one, or holds one or none.
template <class T>
consteval bool protobuf_is_message()
{
    constexpr protobuf_kind kind = protobuf_kind_of<T>();
    if constexpr (kind == protobuf_kind::reference)
        return protobuf_is_message<typename T::type>();
    else if constexpr (kind == protobuf_kind::optional)
        return protobuf_is_message<std::remove_reference_t<decltype(*std::declval<T&>())>>();
    else
        return kind == protobuf_kind::message;
}

// Whether it is one value that is always there: a message, a scalar, a string, or a reference to one.
template <class T>
consteval bool protobuf_is_singular()
{
    constexpr protobuf_kind kind = protobuf_kind_of<T>();
    if constexpr (kind == protobuf_kind::reference)
        return protobuf_is_singular<typename T::type>();
    else
        return kind != protobuf_kind::range && kind != protobuf_kind::optional;
}

// What a description says of a field.
struct protobuf_field {
    int number = 0;
    proto::integer_encoding wire{};
    proto::integer_encoding key_wire{};
    bool always = false; // written also where it is zero or empty
    bool packed = true;
};

// How a scalar is encoded: as `word`, of a size that is fixed or that of a varint.
template <class T, proto::integer_encoding Wire>
struct protobuf_scalar {
    static_assert(Wire == proto::integer_encoding::varint || (std::integral<T> && !std::same_as<T, bool>),
                  "holdfast: the options proto::sint and proto::fixed are for integers");
    static_assert(Wire != proto::integer_encoding::zigzag || std::signed_integral<T>,
                  "holdfast: the option proto::sint is for signed integers");

    static constexpr bool narrow = sizeof(T) <= 4;
    static constexpr bool fixed_size = Wire == proto::integer_encoding::fixed || std::floating_point<T>;
    static constexpr wire_type type = !fixed_size ? wire_type::varint
                                      : narrow    ? wire_type::fixed32
                                                  : wire_type::fixed64;
    // Negative numbers of 32 bits are extended to 64, so that they are the same numbers in an int64.
    static constexpr bool short_word =
        narrow && (fixed_size || Wire == proto::integer_encoding::zigzag || std::unsigned_integral<T>);
    using word = std::conditional_t<short_word, std::uint32_t, std::uint64_t>;
    static constexpr std::size_t max_size = fixed_size ? sizeof(word) : short_word ? 5 : 10;

    static word encode(T value) noexcept
    {
        if constexpr (std::floating_point<T>) {
            return std::bit_cast<word>(value);
        } else if constexpr (Wire == proto::integer_encoding::zigzag) {
            const auto wide = static_cast<std::make_signed_t<word>>(value);
            return static_cast<word>(wide) << 1 ^ static_cast<word>(wide >> (8 * sizeof(word) - 1));
        } else if constexpr (std::signed_integral<T> && !std::same_as<T, bool>) {
            return static_cast<word>(static_cast<std::make_signed_t<word>>(value));
        } else {
            return value;
        }
    }

    static std::size_t size(word w) noexcept { return fixed_size ? sizeof w : varint_size(w); }

    static char* write(char* p, word w) noexcept
    {
        if constexpr (fixed_size)
            return store_little(p, w);
        else
            return write_varint(p, w);
    }
};

template <class T>
    requires std::is_enum_v<T>
struct protobuf_scalar<T, proto::integer_encoding::varint>
    : protobuf_scalar<std::underlying_type_t<T>, proto::integer_encoding::varint> {
    using number = std::underlying_type_t<T>;

    static auto encode(T value) noexcept
    {
        return protobuf_scalar<number, proto::integer_encoding::varint>::encode(static_cast<number>(value));
    }
};

template <class Unit, proto::integer_encoding Wire>
struct protobuf_scalar<in_unit<Unit>, Wire> : protobuf_scalar<typename Unit::rep, Wire> {
    static auto encode(in_unit<Unit> value) noexcept
    {
        return protobuf_scalar<typename Unit::rep, Wire>::encode(value.count());
    }
};

} // namespace holdfast::detail

#endif
