// holdfast: the cursors of Protobuf's fields, derived from the type that is written; here those of scalars,
// strings, and of what refers to another value.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_CURSOR_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_CURSOR_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/element.hpp>
#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/serialize/protobuf.hpp>
#include <holdfast/serialize/protobuf/kind.hpp>
#include <holdfast/serialize/protobuf/wire.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// A cursor is where one field, with its tag, has got to. All have
//
//     bool step(chunk_writer& out, T& value, protobuf_context& context);
//     static std::uint64_t size(T& value, protobuf_sizer& sizer);
//
// The first goes on from there, and returns true when the field is written; false when the chunk is full, or
// after out.fail(). The second returns beforehand how many bytes that will be. Fields whose size is known
// without a walk over a range are `bounded`; theirs also have
//
//     static std::size_t room(const T& value);
//     static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget);
//
// so that a whole row is written with one check (the budget is that of JSON's cursors), and its length put
// before it afterwards: only what fits neither into the chunk nor into the spill is traversed for its
// length, and takes steps. `Within` is the type of the tree that the value lies in
// (detail/protobuf_tree.hpp), or void.

namespace holdfast::detail {

// Where in the whole message the serializer is.
struct protobuf_context {
    bool check_utf8 = true;
    std::uint64_t base = 0; // what was written before the position 0 of the chunk
    std::uint64_t end = std::numeric_limits<std::uint64_t>::max(); // of the innermost message
    std::size_t depth = 0;                                         // of the innermost node of a tree

    std::uint64_t position(const chunk_writer& out) const noexcept { return base + out.position(); }

    // Whether a message or a string of that many bytes may begin.
    bool admits(chunk_writer& out, std::uint64_t size) const noexcept
    {
        if (size > protobuf_max_bytes)
            out.fail(errc::message_too_large);
        else if (size > end - std::min(end, position(out)))
            out.fail(errc::source_changed);
        else
            return true;
        return false;
    }
};

// What a pass for lengths carries with it.
struct protobuf_sizer {
    errc error{};
    std::size_t depth = 0; // of the nodes of a tree

    // The size of what stands behind its length, with that.
    std::uint64_t delimited(std::size_t tag_size, std::uint64_t size) noexcept
    {
        if (size > protobuf_max_bytes && error == errc{}) error = errc::message_too_large;
        return tag_size + varint_size(size) + size;
    }
};

template <class T, protobuf_field Field, class Within, protobuf_kind = protobuf_kind_of<T>()>
struct protobuf_cursor;

template <class Cursor>
concept protobuf_bounded = Cursor::bounded;

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::unknown> {
    static_assert(sizeof(T) == 0,
                  "holdfast cannot write this type as Protobuf. A struct needs a describe() in its namespace "
                  "(holdfast/serialize/describe.hpp), and so does a variant; a duration or time point needs "
                  "holdfast::in_unit<Unit>; a pair, a tuple or a range of ranges has to be a struct; a range of "
                  "char needs a std::string_view; a const view may have to be not const.");
    static constexpr bool bounded = false;
};

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::scalar> {
    using scalar = protobuf_scalar<std::remove_const_t<T>, Field.wire>;
    using tag = protobuf_tag<Field.number, scalar::type>;
    static constexpr bool bounded = true;
    static constexpr std::size_t max_room = tag::size + scalar::max_size;

    static constexpr std::size_t room(const T&) noexcept { return max_room; }

    static char* write(char* p, const T& value, const protobuf_context&, piece_budget&) noexcept
    {
        const auto word = scalar::encode(value);
        if constexpr (std::same_as<std::remove_const_t<T>, bool>) { // without a branch that cannot be predicted
            *tag::write(p) = static_cast<char>(word);
            return p + (Field.always || word != 0 ? max_size_of_bool : 0);
        } else {
            if (!Field.always && word == 0) return p;
            return scalar::write(tag::write(p), word);
        }
    }

    static std::uint64_t size(const T& value, protobuf_sizer&) noexcept
    {
        const auto word = scalar::encode(value);
        return Field.always || word != 0 ? tag::size + scalar::size(word) : 0;
    }

    bool step(chunk_writer& out, const T& value, const protobuf_context& context)
    {
        piece_budget budget{max_room};
        return out.piece<max_room>([&](char* p) { return write(p, value, context, budget); });
    }

private:
    static constexpr std::size_t max_size_of_bool = tag::size + 1;
};

template <class T>
std::string_view protobuf_text(const T& value)
{
    constexpr json_kind kind = json_kind_of<const T>();
    if constexpr (kind == json_kind::character)
        return {&value, 1};
    else if constexpr (kind == json_kind::char_array)
        return char_array_text<T>(value);
    else if constexpr (std::same_as<T, base64>)
        return {reinterpret_cast<const char*>(value.bytes().data()), value.bytes().size()};
    else if constexpr (kind == json_kind::bytes)
        return {reinterpret_cast<const char*>(std::ranges::data(value)), std::ranges::size(value)};
    else
        return value;
}

// Strings and bytes.
template <class T, protobuf_field Field, bool IsText>
struct protobuf_text_cursor {
    using tag = protobuf_tag<Field.number, wire_type::delimited>;
    static constexpr bool bounded = true;

    static_assert(Field.wire == proto::integer_encoding::varint,
                  "holdfast: the options proto::sint and proto::fixed are for integers");

    static std::size_t room(const T& value) { return tag::size + 5 + protobuf_text(value).size(); }

    static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
    {
        const std::string_view text = protobuf_text(value);
        if (!budget.take(tag::size + 5 + text.size())) return p;
        if (!Field.always && text.empty()) return p;
        if (text.size() > protobuf_max_bytes) [[unlikely]] { // and the chunk has the room
            budget.error = errc::message_too_large;
            return p;
        }
        p = write_varint(tag::write(p), static_cast<std::uint32_t>(text.size()));
        if (!copy_ascii(p, text.data(), text.size()) && IsText && context.check_utf8 && !is_utf8(text)) [[unlikely]]
            budget.error = errc::invalid_utf8;
        return p + text.size();
    }

    static std::uint64_t size(const T& value, protobuf_sizer& sizer)
    {
        const std::size_t size = protobuf_text(value).size();
        return Field.always || size != 0 ? sizer.delimited(tag::size, size) : 0;
    }

    bool step(chunk_writer& out, const T& value, const protobuf_context& context)
    {
        const std::string_view text = protobuf_text(value);
        if (left_ == none) {
            if (!Field.always && text.empty()) return true;
            if (!context.admits(out, text.size())) return false;
            if (IsText && context.check_utf8 && !is_utf8(text)) {
                out.fail(errc::invalid_utf8);
                return false;
            }
            const auto size = static_cast<std::uint32_t>(text.size());
            if (!out.piece<tag::size + 5>([&](char* p) { return write_varint(tag::write(p), size); })) return false;
            left_ = size;
            size_ = size;
        }
        if (text.size() != size_) {
            out.fail(errc::source_changed);
            return false;
        }
        const std::string_view part = text.substr(text.size() - left_, out.room());
        out.advance_to(std::copy(part.begin(), part.end(), out.at()));
        left_ -= static_cast<std::uint32_t>(part.size());
        return left_ == 0;
    }

private:
    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

    std::uint32_t left_ = none; // none: not begun
    std::uint32_t size_ = 0;
};

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::text>
    : protobuf_text_cursor<std::remove_const_t<T>, Field, true> {};
template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::bytes>
    : protobuf_text_cursor<std::remove_const_t<T>, Field, false> {};

// A member that is written as something else: see json_converted_cursor.
template <class W, class T, protobuf_field Field, class Within>
struct protobuf_converted_cursor {
    using written = protobuf_cursor<W, Field, Within>;
    static constexpr bool bounded = std::is_trivially_copyable_v<W> && protobuf_bounded<written>;
    static constexpr bool repeatable = is_repeatable<written>;

    static std::size_t room(const T& value)
        requires bounded
    {
        const W made = static_cast<W>(value);
        return written::room(made);
    }

    static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
        requires bounded
    {
        const W made = static_cast<W>(value);
        return write_counted<written>(p, made, context, budget);
    }

    static std::uint64_t size(const T& value, protobuf_sizer& sizer)
    {
        W made = static_cast<W>(value);
        return written::size(made, sizer);
    }

    bool step(chunk_writer& out, const T& value, protobuf_context& context)
    {
        if (!element_.made()) {
            const T* at = std::addressof(value);
            element_.make(at);
        }
        return cursor_.step(out, element_.get(), context);
    }

    void path(std::string& to, const T&)
    {
        if (element_.made()) append_path(cursor_, to, element_.get());
    }

private:
    serialize_element<W> element_;
    [[no_unique_address]] written cursor_{}; // may point into the element
};

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::reference> : protobuf_cursor<typename T::type, Field, Within> {
    using referred = protobuf_cursor<typename T::type, Field, Within>;

    static std::size_t room(const T& value)
        requires protobuf_bounded<referred>
    {
        return referred::room(value.get());
    }

    static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
        requires protobuf_bounded<referred>
    {
        return referred::write(p, value.get(), context, budget);
    }

    static std::uint64_t size(const T& value, protobuf_sizer& sizer) { return referred::size(value.get(), sizer); }

    bool step(chunk_writer& out, const T& value, protobuf_context& context)
    {
        return referred::step(out, value.get(), context);
    }

    void path(std::string& to, const T& value) { append_path<referred>(*this, to, value.get()); }
};

constexpr protobuf_field written_always(protobuf_field field) noexcept
{
    field.always = true;
    return field;
}

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::optional> {
    using held = protobuf_cursor<std::remove_reference_t<decltype(*std::declval<T&>())>, written_always(Field), Within>;
    static_assert(
        requires { sizeof(held); }, // its type is being defined
        "holdfast: a struct that contains itself needs a describe() that returns "
        "holdfast::recursive<Depth>(...)");
    static constexpr bool bounded = held::bounded;
    static constexpr bool repeatable = is_repeatable<held>;

    static std::size_t room(const T& value)
        requires protobuf_bounded<held>
    {
        return value ? held::room(*value) : 0;
    }

    static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
        requires protobuf_bounded<held>
    {
        return value ? write_counted<held>(p, *value, context, budget) : p;
    }

    static std::uint64_t size(T& value, protobuf_sizer& sizer) { return value ? held::size(*value, sizer) : 0; }

    bool step(chunk_writer& out, T& value, protobuf_context& context)
    {
        return !value || inner.step(out, *value, context);
    }

    void path(std::string& to, T& value)
    {
        if (value) append_path(inner, to, *value);
    }

    [[no_unique_address]] held inner{};
};

} // namespace holdfast::detail

#endif
