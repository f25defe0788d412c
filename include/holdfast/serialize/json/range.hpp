// holdfast: the cursors of ranges and maps, each element of which is made once.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_RANGE_HPP
#define HOLDFAST_SERIALIZE_JSON_RANGE_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/serialize/detail/walk.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/enum.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/members.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

// A number as a key, in quotes.
template <class T>
struct json_quoted_cursor : json_piece_cursor<json_quoted_cursor<T>, json_cursor<T>::max_room + 2> {
    static char* write(char* p, const T& value, const json& options, piece_budget& budget)
    {
        *p++ = '"';
        // A key has to be a string, so there is no null in place of a NaN.
        p = json_cursor<T>::write(p, value, json{non_finite::error, options.utf8}, budget);
        *p++ = '"';
        return p;
    }
};

template <class T>
struct json_key_cursor {
    static_assert(sizeof(T) == 0, "holdfast: a JSON object's keys are strings, char, bool, numbers or enumerations");
};

template <class T>
    requires(json_kind_of<T>() == json_kind::text || json_kind_of<T>() == json_kind::char_array ||
             json_kind_of<T>() == json_kind::character)
struct json_key_cursor<T> : json_cursor<T> {};

template <class T>
    requires(json_kind_of<T>() == json_kind::integer || json_kind_of<T>() == json_kind::floating ||
             json_kind_of<T>() == json_kind::boolean || json_kind_of<T>() == json_kind::count ||
             json_kind_of<T>() == json_kind::enumeration)
struct json_key_cursor<T> : json_quoted_cursor<T> {};

template <class T>
    requires(json_kind_of<T>() == json_kind::named_enumeration)
struct json_key_cursor<T> : json_enum_cursor<T, true> {};

// A key as a part of a path.
template <class Key>
void append_key(std::string& path, const Key& key)
{
    if constexpr (json_kind_of<Key>() == json_kind::text || json_kind_of<Key>() == json_kind::char_array) {
        append_token(path, json_text_cursor<Key>::text(key));
    } else {
        char text[json_key_cursor<Key>::max_room];
        piece_budget budget{sizeof text};
        const char* const end = json_key_cursor<Key>::write(text, key, json{}, budget);
        append_token(path, {text + 1, static_cast<std::size_t>(end - text) - 2}); // without its quotes
    }
}

// An entry of a map: the key, a colon, the value.
template <class T, class Within>
struct json_entry_shape : json_plain_shape {
    static constexpr std::size_t size = 2;

    template <std::size_t I>
    static constexpr std::string_view before(bool) noexcept
    {
        return I == 0 ? "" : ":";
    }

    static constexpr std::string_view close(bool) noexcept { return ""; }

    template <std::size_t I, class Value>
    static auto& get(Value& v) noexcept
    {
        return std::get<I>(v);
    }

    template <std::size_t I>
    static void append_token_to(std::string& path, const T& entry)
    {
        append_key(path, std::get<0>(entry));
    }

    template <std::size_t I>
    using member = std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>;
    template <std::size_t I>
    using cursor =
        std::conditional_t<I == 0, json_key_cursor<std::remove_const_t<member<0>>>, json_cursor<member<1>, Within>>;
};

struct json_array_layout {
    static constexpr bool bounded = true, indexed = true;
    static constexpr std::string_view open = "[", close = "]", close_empty = "]";
    static constexpr char separator = ',';
    template <class Element, class Within>
    using cursor = json_cursor<Element, Within>;
};

struct json_object_layout {
    static constexpr bool bounded = false, indexed = false;
    static constexpr std::string_view open = "{", close = "}", close_empty = "}";
    static constexpr char separator = ',';
    template <class Element, class Within>
    using cursor = json_members_cursor<Element, json_entry_shape<Element, Within>>;
};

struct json_lines_layout {
    static constexpr bool bounded = false, indexed = true;
    static constexpr std::string_view open = "", close = "\n", close_empty = "";
    static constexpr char separator = '\n';
    template <class Element, class Within>
    using cursor = json_cursor<Element, Within>;
};

template <class R, class Layout, class Within = void>
class json_range_cursor {
    using range = iterated<R>;
    using walk = serialize_walk<range, Layout::indexed>;
    using element_cursor = typename Layout::template cursor<typename walk::element_type, Within>;

    enum class phase : std::uint8_t { opening, element, made, inside, separator, closing, closing_empty };
    static_assert(
        requires { sizeof(element_cursor); }, // its type is being defined
        "holdfast: a struct that contains itself needs a describe() that returns "
        "holdfast::recursive<Depth>(...)");

public:
    // A short array that lies in memory belongs to its row: walking it gives its size.
    static constexpr bool bounded = Layout::bounded && std::ranges::contiguous_range<const R> &&
                                    std::ranges::sized_range<const R> && json_bounded<element_cursor>;
    static constexpr bool repeatable = std::ranges::forward_range<range> && is_repeatable<element_cursor>;

    static std::size_t room(const R& source)
        requires bounded
    {
        constexpr std::size_t never = std::size_t{1} << (sizeof(std::size_t) * 4);
        const std::size_t n = std::ranges::size(source);
        if (n > longest) return never;
        const auto* const all = std::ranges::data(source);
        std::size_t room = 2 + n;
        for (std::size_t i = 0; i != n; ++i)
            room += element_cursor::room(all[i]);
        return std::min(room, never); // sums of it do not overflow
    }

    static char* write(char* p, const R& source, const json& options, piece_budget& budget)
        requires bounded
    {
        const std::size_t n = std::ranges::size(source);
        const auto* const all = std::ranges::data(source);
        if (n > longest || !budget.take(2 + n * (constant_room<element_cursor> + 1))) {
            budget.error = errc::source_changed;
            return p;
        }
        *p++ = Layout::open[0];
        char* const begin = p;
        for (std::size_t i = 0; i != n; ++i) {
            p = element_cursor::write(p, all[i], options, budget);
            *p++ = Layout::separator;
        }
        p -= p != begin;
        *p++ = Layout::close[0];
        return p;
    }

    bool step(chunk_writer& out, R& source, const json& options)
    {
        range& r = source;
        for (;;) {
            switch (phase_) {
            case phase::opening:
                if (!out.fixed(Layout::open)) return false;
                phase_ = walk_.begin(r) ? phase::element : phase::closing_empty;
                break;
            case phase::element:
                walk_.make();
                phase_ = phase::made;
                [[fallthrough]];
            case phase::made:
                if constexpr (json_bounded<element_cursor>) {
                    if (write_elements(out, r, options)) break;
                    if (out.full()) return false;
                }
                cursor_.emplace();
                phase_ = phase::inside;
                [[fallthrough]];
            case phase::inside:
                if (!cursor_->step(out, walk_.get(), options)) return false;
                cursor_.reset();
                phase_ = walk_.advance(r) ? phase::separator : phase::closing;
                break;
            case phase::separator:
                if (!out.byte(Layout::separator)) return false;
                phase_ = phase::element;
                break;
            case phase::closing:
                return out.fixed(Layout::close);
            case phase::closing_empty:
                return out.fixed(Layout::close_empty);
            }
        }
    }

    void path(std::string& to, R& source)
    {
        if (!walk_.begun() || phase_ == phase::closing || phase_ == phase::closing_empty) return;
        if constexpr (Layout::indexed) append_token(to, walk_.index(source));
        if (cursor_) append_path(*cursor_, to, walk_.get());
    }

private:
    static constexpr std::size_t longest = 16;

    // Writes the element that is made, and those that follow, while each is taken as a whole, with one check
    // an element. Returns false with an element made that was not taken, true at the end of the range.
    bool write_elements(chunk_writer& out, range& r, const json& options)
    {
        for (;;) {
            const auto& value = walk_.get();
            bool more = false;
            if (!out.whole(element_cursor::room(value) + 1, [&](char* p, piece_budget& budget) {
                    --budget.left;
                    p = write_counted<element_cursor>(p, value, options, budget);
                    if (budget.error != errc{}) [[unlikely]]
                        return p;
                    more = walk_.advance(r);
                    if (more) *p++ = Layout::separator;
                    return p;
                }))
                return false;
            if (!more) {
                phase_ = phase::closing;
                return true;
            }
            walk_.make();
        }
    }

    walk walk_;
    std::optional<element_cursor> cursor_; // may point into the element
    phase phase_ = phase::opening;
};

template <class T, class Within>
struct json_cursor<T, Within, json_kind::range> : json_range_cursor<T, json_array_layout, Within> {};
template <class T, class Within>
struct json_cursor<T, Within, json_kind::map> : json_range_cursor<T, json_object_layout, Within> {};

} // namespace holdfast::detail

#endif
