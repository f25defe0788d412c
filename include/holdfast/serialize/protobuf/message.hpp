// holdfast: the cursors of Protobuf's messages: field by field, and behind their length within another one.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_MESSAGE_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_MESSAGE_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/one_of.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/protobuf/cursor.hpp>
#include <holdfast/serialize/protobuf/shape.hpp>
#include <holdfast/serialize/protobuf/wire.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

// What a message holds, without tag and length.
template <class T, class Shape, class = std::make_index_sequence<Shape::entries.size()>>
struct protobuf_fields_cursor;

template <class T, class Shape, std::size_t... E>
struct protobuf_fields_cursor<T, Shape, std::index_sequence<E...>> {
    template <std::size_t I>
    using field_cursor = typename Shape::template cursor<I>;

    static constexpr bool bounded = (protobuf_bounded<field_cursor<E>> && ...);
    static constexpr bool repeatable = (is_repeatable<field_cursor<E>> && ...);

    static std::size_t room([[maybe_unused]] const T& value)
        requires bounded
    {
        return (std::size_t{0} + ... + room_of<E>(value));
    }

    static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
        requires bounded
    {
        return budget.take(fixed_room()) ? write_taken(p, value, context, budget) : p;
    }

    // The room of those fields that have the same in each message.
    static constexpr std::size_t fixed_room() noexcept
        requires bounded
    {
        return (std::size_t{0} + ... + (is_whole<E> ? constant_room<field_cursor<E>> : 0));
    }

    // The same where that room is taken from the budget already.
    static char* write_taken(char* p, [[maybe_unused]] const T& value, [[maybe_unused]] const protobuf_context& context,
                             piece_budget& budget)
        requires bounded
    {
        if (!Shape::valid(value)) budget.error = errc::source_failed;
        ((p = write_field<E>(p, value, context, budget)), ...);
        return p;
    }

    static std::uint64_t size([[maybe_unused]] T& value, protobuf_sizer& sizer)
    {
        if (!Shape::valid(value) && sizer.error == errc{}) sizer.error = errc::source_failed;
        return (std::uint64_t{0} + ... + size_of<E>(value, sizer));
    }

    [[gnu::noinline]] bool step(chunk_writer& out, T& value, protobuf_context& context)
    {
        if constexpr (bounded && sizeof...(E) > 1) {
            if (passed_ == 0 && cursor_.empty()) {
                if (out.whole(room(value),
                              [&](char* p, piece_budget& budget) { return write(p, value, context, budget); }))
                    return true;
                if (out.full()) return false;
            }
        }
        if (!Shape::valid(value)) {
            out.fail(errc::source_failed);
            return false;
        }
        return ((E < passed_ || step_field<E>(out, value, context)) && ...);
    }

    void path(std::string& to, T& value)
    {
        static_cast<void>(((passed_ == E && Shape::template has<E>(value) && (path_of<E>(to, value), true)) || ...));
    }

private:
    // Whether the room is that of the field in each message: no alternative of a oneof.
    template <std::size_t I>
    static constexpr bool is_whole = Shape::entries[I].alternative == protobuf_entry::whole;

    template <std::size_t I>
    static std::size_t room_of(const T& value)
    {
        return Shape::template has<I>(value) ? field_cursor<I>::room(Shape::template get<I>(value)) : 0;
    }

    template <std::size_t I>
    static char* write_field(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
    {
        if (!Shape::template has<I>(value)) return p;
        if constexpr (is_whole<I>)
            return field_cursor<I>::write(p, Shape::template get<I>(value), context, budget);
        else
            return write_counted<field_cursor<I>>(p, Shape::template get<I>(value), context, budget);
    }

    template <std::size_t I>
    static std::uint64_t size_of(T& value, protobuf_sizer& sizer)
    {
        if (!Shape::template has<I>(value)) return 0;
        auto&& field = Shape::template get<I>(value);
        return field_cursor<I>::size(field, sizer);
    }

    template <std::size_t I>
    bool step_field(chunk_writer& out, T& value, protobuf_context& context)
    {
        if (Shape::template has<I>(value)) {
            auto&& field = Shape::template get<I>(value);
            if (!cursor_.holds(I)) {
                if constexpr (protobuf_bounded<field_cursor<I>>) {
                    if (out.whole(field_cursor<I>::room(field), [&](char* p, piece_budget& budget) {
                            return write_counted<field_cursor<I>>(p, field, context, budget);
                        })) [[likely]] {
                        passed_ = I + 1;
                        return true;
                    }
                    if (out.full()) return false;
                }
                cursor_.template emplace<field_cursor<I>>(I);
            }
            if (!cursor_.template get<field_cursor<I>>().step(out, field, context)) return false;
        }
        passed_ = I + 1;
        return true;
    }

    template <std::size_t I>
    void path_of(std::string& to, T& value)
    {
        Shape::template append_token_to<I>(to, value);
        auto&& field = Shape::template get<I>(value);
        if (cursor_.holds(I)) append_path(cursor_.template get<field_cursor<I>>(), to, field);
    }

    one_of<field_cursor<E>...> cursor_; // of the field in flight
    std::uint32_t passed_ = 0;          // fields written or left out
};

// What a message of type T holds; protobuf_tree.hpp has those that contain themselves.
template <class T, class Within, json_kind = json_kind_of<T>()>
struct protobuf_body;
template <class T, class Within>
struct protobuf_body<T, Within, json_kind::record> : protobuf_fields_cursor<T, protobuf_record_shape<T, Within>> {};
template <class T, class Within>
struct protobuf_body<T, Within, json_kind::tagged> : protobuf_fields_cursor<T, protobuf_variant_shape<T, Within>> {};
template <class T, class Within>
struct protobuf_body<T, Within, json_kind::tagged_inside> : protobuf_body<T, Within, json_kind::tagged> {};

// A message within another one, or in a delimited stream: tag, length, and what it holds.
template <class T, int Number, class Body>
struct protobuf_message_cursor {
    using tag = protobuf_tag<Number, wire_type::delimited>;
    static constexpr bool bounded = Body::bounded;

    static_assert(is_repeatable<Body>,
                  "holdfast: a message within another one has its length before it, so what it holds is read twice: "
                  "a single-pass range can only be the source itself, or a member of the message at its root");

    static std::size_t room(const T& value)
        requires bounded
    {
        const std::size_t body = Body::room(value);
        return tag::size + width(body) + body;
    }

    // The length takes as many bytes as the room for the rest would; where that was too many, what is written
    // moves.
    static char* write(char* p, const T& value, const protobuf_context& context, piece_budget& budget)
        requires bounded
    {
        const std::size_t length = width(Body::room(value));
        std::size_t fixed = 0;
        if constexpr (requires { Body::fixed_room(); }) fixed = Body::fixed_room();
        if (!budget.take(tag::size + length + fixed)) return p;
        p = tag::write(p);
        char* const begin = p + length;
        char* end = nullptr;
        if constexpr (requires { Body::fixed_room(); })
            end = Body::write_taken(begin, value, context, budget);
        else
            end = Body::write(begin, value, context, budget);
        const auto size = static_cast<std::size_t>(end - begin);
        if (size < 0x80 && length == 1 && budget.error == errc{}) [[likely]] {
            *p = static_cast<char>(size);
            return end;
        }
        if (size > protobuf_max_bytes) [[unlikely]]
            budget.error = errc::message_too_large;
        if (varint_size(size) > length) [[unlikely]]
            budget.error = errc::source_changed;
        if (budget.error != errc{}) [[unlikely]]
            return end;
        p = patch_varint(p, size);
        if (p != begin) [[unlikely]]
            std::memmove(p, begin, size);
        return p + size;
    }

    static std::uint64_t size(T& value, protobuf_sizer& sizer)
    {
        return sizer.delimited(tag::size, Body::size(value, sizer));
    }

    bool step(chunk_writer& out, T& value, protobuf_context& context)
    {
        if (end_ == 0) {
            if constexpr (bounded) {
                if (out.whole(room(value),
                              [&](char* p, piece_budget& budget) { return write(p, value, context, budget); }))
                    return true;
                if (out.full()) return false;
            }
            if (!begin(out, value, context)) return false;
        }
        const std::uint64_t outer = std::exchange(context.end, end_);
        const bool ended = body_.step(out, value, context);
        context.end = outer;
        if (out.error() != errc{}) return ended; // its place is being searched, and nothing counts
        const std::uint64_t position = context.position(out);
        if (position > end_ || (ended && position != end_)) {
            out.fail(errc::source_changed);
            return false;
        }
        return ended;
    }

    void path(std::string& to, T& value)
    {
        if (end_ != 0) append_path(body_, to, value);
    }

private:
    // The size of a length, which is mostly one byte.
    static constexpr std::size_t width(std::size_t body) noexcept { return body < 0x80 ? 1 : varint_size(body); }

    [[gnu::noinline]] bool begin(chunk_writer& out, T& value, protobuf_context& context)
    {
        if (out.full()) return false; // before the pass
        protobuf_sizer sizer{.depth = context.depth};
        const std::uint64_t size = Body::size(value, sizer);
        if (sizer.error != errc{}) {
            out.fail(sizer.error);
            return false;
        }
        if (!context.admits(out, size)) return false;
        out.piece<tag::size + 10>([&](char* p) { return write_varint(tag::write(p), size); });
        end_ = context.position(out) + size;
        return true;
    }

    [[no_unique_address]] Body body_{};
    std::uint64_t end_ = 0; // in the whole text; 0: not begun
};

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::message>
    : protobuf_message_cursor<T, Field.number, protobuf_body<T, Within>> {
    static_assert(Field.wire == proto::integer_encoding::varint,
                  "holdfast: the options proto::sint and proto::fixed are for integers");
};

} // namespace holdfast::detail

#endif
