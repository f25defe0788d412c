// holdfast: the cursors of Protobuf's repeated fields and maps, each element of which is made once a pass.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_RANGE_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_RANGE_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/element.hpp>
#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/serialize/detail/walk.hpp>
#include <holdfast/serialize/protobuf/cursor.hpp>
#include <holdfast/serialize/protobuf/kind.hpp>
#include <holdfast/serialize/protobuf/message.hpp>
#include <holdfast/serialize/protobuf/shape.hpp>
#include <holdfast/serialize/protobuf/wire.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

namespace holdfast::detail {

// A short array that lies in memory belongs to its row: walking it gives its size.
template <class R>
concept protobuf_in_memory = std::ranges::contiguous_range<const R> && std::ranges::sized_range<const R>;
inline constexpr std::size_t protobuf_longest = 16;
inline constexpr std::size_t protobuf_no_room = std::size_t{1} << (sizeof(std::size_t) * 4);

// Every element with its tag.
template <class R, protobuf_field Field, class Within>
class protobuf_repeated_cursor {
    using range = iterated<R>;
    using walk = serialize_walk<range, json_kind_of<R>() != json_kind::map>;
    using type = typename walk::element_type;

    static consteval auto cursor_of_element()
    {
        if constexpr (json_kind_of<R>() == json_kind::map)
            return std::type_identity<protobuf_message_cursor<
                type, Field.number, protobuf_fields_cursor<type, protobuf_entry_shape<type, Field, Within>>>>{};
        else
            return std::type_identity<protobuf_cursor<type, written_always(Field), Within>>{};
    }
    using element_cursor = typename decltype(cursor_of_element())::type;

    static_assert(protobuf_kind_of<type>() != protobuf_kind::range || json_kind_of<R>() == json_kind::map,
                  "holdfast: Protobuf has no ranges of ranges: put the inner one into a struct");

    static_assert(
        requires { sizeof(element_cursor); }, // its type is being defined
        "holdfast: a struct that contains itself needs a describe() that returns "
        "holdfast::recursive<Depth>(...)");

    enum class phase : std::uint8_t { opening, element, made, inside, finished };

public:
    static constexpr bool bounded = protobuf_in_memory<R> && protobuf_bounded<element_cursor>;
    static constexpr bool repeatable = std::ranges::forward_range<range> && is_repeatable<element_cursor>;

    static std::size_t room(const R& source)
        requires bounded
    {
        const std::size_t n = std::ranges::size(source);
        if (n > protobuf_longest) return protobuf_no_room;
        const auto* const all = std::ranges::data(source);
        std::size_t room = 0;
        for (std::size_t i = 0; i != n; ++i)
            room += element_cursor::room(all[i]);
        return std::min(room, protobuf_no_room); // sums of it do not overflow
    }

    static char* write(char* p, const R& source, const protobuf_context& context, piece_budget& budget)
        requires bounded
    {
        const std::size_t n = std::ranges::size(source);
        const auto* const all = std::ranges::data(source);
        for (std::size_t i = 0; i != n && budget.error == errc{}; ++i)
            p = write_counted<element_cursor>(p, all[i], context, budget);
        return p;
    }

    static std::uint64_t size(R& source, protobuf_sizer& sizer)
    {
        std::uint64_t size = 0;
        range& r = source;
        element_of<range> made;
        const auto end = std::ranges::end(r);
        for (auto at = std::ranges::begin(r); !(at == end); ++at) {
            size += element_cursor::size(made.make(at), sizer);
            made.drop();
            if (sizer.error != errc{}) break;
        }
        return size;
    }

    bool step(chunk_writer& out, R& source, protobuf_context& context)
    {
        range& r = source;
        for (;;) {
            switch (phase_) {
            case phase::opening:
                phase_ = walk_.begin(r) ? phase::element : phase::finished;
                break;
            case phase::element:
                walk_.make();
                phase_ = phase::made;
                [[fallthrough]];
            case phase::made:
                if constexpr (protobuf_bounded<element_cursor>) {
                    if (write_elements(out, r, context)) break;
                    if (out.full()) return false;
                }
                cursor_.emplace();
                phase_ = phase::inside;
                [[fallthrough]];
            case phase::inside:
                if (!cursor_->step(out, walk_.get(), context)) return false;
                cursor_.reset();
                phase_ = walk_.advance(r) ? phase::element : phase::finished;
                break;
            case phase::finished:
                return true;
            }
        }
    }

    void path(std::string& to, R& source)
    {
        if (!walk_.begun() || phase_ == phase::finished) return;
        if constexpr (json_kind_of<R>() != json_kind::map) append_token(to, walk_.index(source));
        if (cursor_) append_path(*cursor_, to, walk_.get());
    }

private:
    // Writes the element that is made, and those that follow, while each is taken as a whole, with one check
    // an element. Returns false with an element made that was not taken, true at the end of the range.
    bool write_elements(chunk_writer& out, range& r, const protobuf_context& context)
    {
        for (;;) {
            const auto& value = walk_.get();
            if (!out.whole(element_cursor::room(value), [&](char* p, piece_budget& budget) {
                    return write_counted<element_cursor>(p, value, context, budget);
                }))
                return false;
            if (!walk_.advance(r)) {
                phase_ = phase::finished;
                return true;
            }
            walk_.make();
        }
    }

    walk walk_;
    std::optional<element_cursor> cursor_; // may point into the element
    phase phase_ = phase::opening;
};

// Scalars one after the other behind the length of them all.
template <class R, protobuf_field Field>
class protobuf_packed_cursor {
    using range = iterated<R>;
    using scalar = protobuf_scalar<std::ranges::range_value_t<range>, Field.wire>;
    using tag = protobuf_tag<Field.number, wire_type::delimited>;

    static_assert(std::ranges::forward_range<range>,
                  "holdfast: packed scalars have their length before them, so they are read twice: a single-pass "
                  "range of them has to be holdfast::proto::unpacked");

public:
    static constexpr bool bounded = protobuf_in_memory<R>;

    static std::size_t room(const R& source)
        requires bounded
    {
        const std::size_t n = std::ranges::size(source);
        if (n > protobuf_longest) return protobuf_no_room;
        return tag::size + width(n) + n * scalar::max_size;
    }

    static char* write(char* p, const R& source, const protobuf_context&, piece_budget& budget)
        requires bounded
    {
        const std::size_t n = std::ranges::size(source);
        if (n > protobuf_longest || !budget.take(tag::size + width(n) + n * scalar::max_size)) {
            budget.error = errc::source_changed;
            return p;
        }
        if (n == 0) return p;
        const auto* const all = std::ranges::data(source);
        p = tag::write(p);
        char* const begin = p + width(n);
        char* end = begin;
        for (std::size_t i = 0; i != n; ++i)
            end = scalar::write(end, scalar::encode(all[i]));
        const auto size = static_cast<std::size_t>(end - begin);
        p = patch_varint(p, size);
        if (p != begin) std::memmove(p, begin, size);
        return p + size;
    }

    static std::uint64_t size(R& source, protobuf_sizer& sizer)
    {
        const std::uint64_t size = size_of_all(source);
        return size != 0 ? sizer.delimited(tag::size, size) : 0;
    }

    bool step(chunk_writer& out, R& source, protobuf_context& context)
    {
        range& r = source;
        if (!at_) {
            if (out.full()) return false; // before the pass
            const std::uint64_t size = size_of_all(r);
            if (size == 0) return true;
            if (!context.admits(out, size)) return false;
            out.piece<tag::size + 10>([&](char* p) { return write_varint(tag::write(p), size); });
            end_ = context.position(out) + size;
            at_.emplace(std::ranges::begin(r));
        }
        const bool ended = write_elements(out, *at_, std::ranges::end(r));
        if (out.error() != errc{}) return ended; // it is being looked for, and nothing counts
        const std::uint64_t position = context.position(out);
        if (position > end_ || (ended && position != end_)) {
            out.fail(errc::source_changed);
            return false;
        }
        return ended;
    }

private:
    // Whether the elements lie in memory as they are sent.
    using number = std::ranges::range_value_t<range>;
    static constexpr bool is_on_the_wire = std::ranges::contiguous_range<range> && std::is_arithmetic_v<number> &&
                                           scalar::fixed_size && sizeof(number) == scalar::max_size &&
                                           std::endian::native == std::endian::little;

    static constexpr std::size_t width(std::size_t n) noexcept { return varint_size(n * scalar::max_size); }

    static std::uint64_t size_of_all(range& r)
    {
        if constexpr (scalar::fixed_size && std::ranges::sized_range<range>) {
            return static_cast<std::uint64_t>(std::ranges::size(r)) * scalar::max_size;
        } else {
            std::uint64_t size = 0;
            const auto end = std::ranges::end(r);
            for (auto at = std::ranges::begin(r); !(at == end); ++at)
                size += scalar::size(scalar::encode(*at));
            return size;
        }
    }

    template <class Iterator, class Sentinel>
    static bool write_elements(chunk_writer& out, Iterator& at, const Sentinel& end)
    {
        do {
            if constexpr (is_on_the_wire) {
                const std::size_t n = std::min(static_cast<std::size_t>(end - at), out.room() / scalar::max_size);
                if (n != 0) std::memcpy(out.at(), std::to_address(at), n * scalar::max_size);
                out.advance_to(out.at() + n * scalar::max_size);
                at += static_cast<std::ptrdiff_t>(n);
            } else {
                char* p = out.at();
                char* const limit = p + out.room();
                for (; static_cast<std::size_t>(limit - p) >= scalar::max_size && !(at == end); ++at)
                    p = scalar::write(p, scalar::encode(*at));
                out.advance_to(p);
            }
            if (at == end) return true;
            if (!out.piece<scalar::max_size>([&](char* q) { return scalar::write(q, scalar::encode(*at)); }))
                return false;
            ++at;
        } while (!(at == end));
        return true;
    }

    std::optional<std::ranges::iterator_t<range>> at_;
    std::uint64_t end_ = 0; // in the whole text
};

template <class T, protobuf_field Field, class Within>
consteval auto protobuf_range_cursor()
{
    using value = std::ranges::range_value_t<iterated<T>>;
    if constexpr (Field.packed && protobuf_kind_of<value>() == protobuf_kind::scalar)
        return std::type_identity<protobuf_packed_cursor<T, Field>>{};
    else
        return std::type_identity<protobuf_repeated_cursor<T, Field, Within>>{};
}

template <class T, protobuf_field Field, class Within>
struct protobuf_cursor<T, Field, Within, protobuf_kind::range>
    : decltype(protobuf_range_cursor<T, Field, Within>())::type {};

} // namespace holdfast::detail

#endif
