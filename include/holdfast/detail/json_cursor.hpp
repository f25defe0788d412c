// holdfast: the cursors of the JSON formats, derived from the type that is written. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_JSON_CURSOR_HPP
#define HOLDFAST_DETAIL_JSON_CURSOR_HPP

#include <holdfast/detail/json_kind.hpp>
#include <holdfast/detail/json_number.hpp>
#include <holdfast/detail/json_string.hpp>
#include <holdfast/detail/serialize_chunk.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <ranges>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

// A cursor is where the text of one value has got to. All have
//
//     bool step(chunk_writer& out, T& value, const json& options);
//
// which goes on from there, and returns true when the value is written; false when the chunk is full, or
// after out.fail(). Values whose room can be told beforehand without a walk over a range are `bounded`;
// theirs also have
//
//     static std::size_t room(const T& value);
//     static char* write(char* p, const T& value, const json& options, errc& error);
//
// so that a whole row is written with one check, and only the row that straddles the chunk's end takes steps.

namespace holdfast::detail {

template <class T, json_kind = json_kind_of<T>()>
struct json_cursor;

template <class Cursor>
concept json_bounded = Cursor::bounded;

template <class T>
struct json_cursor<T, json_kind::unknown> {
    static_assert(
        sizeof(T) == 0,
        "holdfast cannot write this type as JSON. A struct needs a describe() in its namespace "
        "(holdfast/serialize/describe.hpp); a simdjson document needs holdfast/serialize/simdjson.hpp; a "
        "range of char needs a std::string_view; a const view may have to be not const.");
    static constexpr bool bounded = false;
};

template <class T>
struct json_cursor<T, json_kind::foreign> : json_foreign_cursor<std::remove_const_t<T>, false> {};

// Cursors of values that are a single piece: they remember nothing, since a piece is taken or not begun.
template <class Derived, std::size_t Room>
struct json_piece_cursor {
    static constexpr bool bounded = true;
    static constexpr std::size_t max_room = Room;

    template <class T>
    static constexpr std::size_t room(const T&) noexcept
    {
        return Room;
    }

    template <class T>
    bool step(chunk_writer& out, const T& value, const json& options)
    {
        errc error{};
        const bool taken = out.piece<Room>([&](char* p) { return Derived::write(p, value, options, error); });
        if (error == errc{}) return taken;
        out.fail(error);
        return false;
    }
};

inline char* write_null(char* p) noexcept
{
    std::memcpy(p, "null", 4);
    return p + 4;
}

template <class T>
struct json_cursor<T, json_kind::null> : json_piece_cursor<json_cursor<T>, 4> {
    static char* write(char* p, const T&, const json&, errc&) noexcept { return write_null(p); }
};

template <class T>
struct json_cursor<T, json_kind::boolean> : json_piece_cursor<json_cursor<T>, 5> {
    static char* write(char* p, bool value, const json&, errc&) noexcept
    {
        std::memcpy(p, value ? "true " : "false", 5);
        return p + (value ? 4 : 5);
    }
};

template <class T>
struct json_cursor<T, json_kind::integer> : json_piece_cursor<json_cursor<T>, json_integer_room<T>> {
    static char* write(char* p, T value, const json&, errc&) noexcept { return write_integer(p, value); }
};

template <class T>
struct json_cursor<T, json_kind::floating> : json_piece_cursor<json_cursor<T>, json_double_room> {
    static char* write(char* p, T value, const json& options, errc& error) noexcept
    {
        if (std::isfinite(value)) [[likely]]
            return write_finite<std::remove_const_t<T>>(p, value);
        if (options.non_finite == non_finite::error) error = errc::not_finite;
        return write_null(p);
    }
};

template <class T>
struct json_cursor<T, json_kind::character> : json_piece_cursor<json_cursor<T>, json_string_room(1)> {
    static char* write(char* p, char value, const json& options, errc& error) noexcept
    {
        return write_string(p, {&value, 1}, options.utf8, error);
    }
};

template <class T>
struct json_text_cursor {
    static constexpr bool bounded = true;

    static std::string_view text(const T& value)
    {
        if constexpr (char_array_size<std::remove_const_t<T>> != 0) {
            return char_array_text<std::remove_const_t<T>>(value);
        } else {
            return value;
        }
    }

    static std::size_t room(const T& value)
    {
        const std::string_view bytes = text(value);
        prefetch(bytes.data()); // they are wanted next
        return json_string_room(bytes.size());
    }

    static char* write(char* p, const T& value, const json& options, errc& error)
    {
        return write_string(p, text(value), options.utf8, error);
    }

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        return string.step(out, text(value), options.utf8);
    }

    json_string_cursor string;
};

template <class T>
struct json_cursor<T, json_kind::text> : json_text_cursor<T> {};
template <class T>
struct json_cursor<T, json_kind::char_array> : json_text_cursor<T> {};

template <class T>
struct json_cursor<T, json_kind::reference> : json_cursor<typename T::type> {
    using referred = json_cursor<typename T::type>;

    static std::size_t room(const T& value)
        requires json_bounded<referred>
    {
        return referred::room(value.get());
    }

    static char* write(char* p, const T& value, const json& options, errc& error)
        requires json_bounded<referred>
    {
        return referred::write(p, value.get(), options, error);
    }

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        return referred::step(out, value.get(), options);
    }
};

template <class T>
struct json_cursor<T, json_kind::optional> {
    using held = json_cursor<std::remove_reference_t<decltype(*std::declval<T&>())>>;
    static constexpr bool bounded = held::bounded;

    static std::size_t room(const T& value)
        requires json_bounded<held>
    {
        return value ? held::room(*value) : 4;
    }

    static char* write(char* p, const T& value, const json& options, errc& error)
        requires json_bounded<held>
    {
        return value ? held::write(p, *value, options, error) : write_null(p);
    }

    bool step(chunk_writer& out, T& value, const json& options)
    {
        return value ? inner.step(out, *value, options) : out.fixed("null");
    }

    [[no_unique_address]] held inner{};
};

template <class T>
struct json_cursor<T, json_kind::variant> {
    template <std::size_t I>
    using alternative = std::remove_reference_t<decltype(std::get<I>(std::declval<T&>()))>;

private:
    using indices = std::make_index_sequence<std::variant_size_v<std::remove_const_t<T>>>;

    template <std::size_t... I>
    static consteval bool all_bounded(std::index_sequence<I...>)
    {
        return (json_cursor<alternative<I>>::bounded && ...);
    }

public:
    static constexpr bool bounded = all_bounded(indices{});

    static std::size_t room(const T& value)
        requires bounded
    {
        std::size_t room = 0;
        with_held(value, indices{}, [&]<class Held>(const auto& held) { room = Held::room(held); });
        return room;
    }

    static char* write(char* p, const T& value, const json& options, errc& error)
        requires bounded
    {
        if (value.valueless_by_exception()) error = errc::source_failed;
        with_held(value, indices{},
                  [&]<class Held>(const auto& held) { p = Held::write(p, held, options, error); });
        return p;
    }

    bool step(chunk_writer& out, T& value, const json& options)
    {
        return step_held(out, value, options, indices{});
    }

private:
    template <std::size_t... I, class Visit>
    static void with_held(const T& value, std::index_sequence<I...>, const Visit& visit)
    {
        static_cast<void>(
            ((value.index() == I &&
              (visit.template operator()<json_cursor<alternative<I>>>(*std::get_if<I>(&value)), true)) ||
             ...));
    }

    template <std::size_t... I>
    static std::variant<std::monostate, json_cursor<alternative<I>>...> cursor_of(std::index_sequence<I...>);

    template <std::size_t... I>
    bool step_held(chunk_writer& out, T& value, const json& options, std::index_sequence<I...>)
    {
        if (value.valueless_by_exception()) {
            out.fail(errc::source_failed);
            return false;
        }
        return ((value.index() == I && step_one<I>(out, *std::get_if<I>(&value), options)) || ...);
    }

    template <std::size_t I>
    bool step_one(chunk_writer& out, alternative<I>& value, const json& options)
    {
        if (cursor_.index() != I + 1) cursor_.template emplace<I + 1>();
        return std::get_if<I + 1>(&cursor_)->step(out, value, options);
    }

    decltype(cursor_of(indices{})) cursor_;
};

// What is written member by member. `Shape` gives the number of members, each one's value, its cursor and the
// text before it, and the text at the end.
template <class T, class Shape, class = std::make_index_sequence<Shape::size>>
struct json_members_cursor;

template <class T, class Shape, std::size_t... I>
struct json_members_cursor<T, Shape, std::index_sequence<I...>> {
    template <std::size_t Index>
    using member_cursor = typename Shape::template cursor<Index>;

    static constexpr bool bounded = (json_bounded<member_cursor<I>> && ...);

    static std::size_t room(const T& value)
        requires bounded
    {
        constexpr std::size_t fixed = (Shape::close.size() + ... + Shape::template before<I>.size());
        return (fixed + ... + member_cursor<I>::room(Shape::template get<I>(value)));
    }

    static char* write(char* p, const T& value, [[maybe_unused]] const json& options,
                       [[maybe_unused]] errc& error)
        requires bounded
    {
        ((p = write_member<I>(p, Shape::template get<I>(value), options, error)), ...);
        return copy(p, Shape::close);
    }

    bool step(chunk_writer& out, T& value, const json& options)
    {
        if constexpr (bounded && sizeof...(I) > 1) {
            if (written_ == 0 && cursor_.index() == 0) {
                if (out.whole(room(value),
                              [&](char* p, errc& error) { return write(p, value, options, error); }))
                    return !out.failed();
                if (out.full()) return false;
            }
        }
        return ((I < written_ || step_member<I>(out, Shape::template get<I>(value), options)) && ...) &&
               out.fixed(Shape::close);
    }

private:
    static char* copy(char* p, std::string_view text) noexcept
    {
        std::memcpy(p, text.data(), text.size());
        return p + text.size();
    }

    template <std::size_t Index, class Member>
    static char* write_member(char* p, const Member& member, const json& options, errc& error)
    {
        return member_cursor<Index>::write(copy(p, Shape::template before<Index>), member, options, error);
    }

    template <std::size_t Index, class Member>
    bool step_member(chunk_writer& out, Member& member, const json& options)
    {
        if (cursor_.index() != Index + 1) {
            if constexpr (json_bounded<member_cursor<Index>>) {
                constexpr std::size_t before = Shape::template before<Index>.size();
                if (out.whole(before + member_cursor<Index>::room(member), [&](char* p, errc& error) {
                        return write_member<Index>(p, member, options, error);
                    })) [[likely]] {
                    if (out.failed()) return false;
                    written_ = Index + 1;
                    return true;
                }
                if (out.full()) return false;
            }
            if (!out.fixed(Shape::template before<Index>)) return false;
            cursor_.template emplace<Index + 1>();
        }
        if (!std::get_if<Index + 1>(&cursor_)->step(out, member, options)) return false;
        written_ = Index + 1;
        return true;
    }

    // The member in flight, from the moment when the text before it has been taken.
    std::variant<std::monostate, member_cursor<I>...> cursor_;
    std::uint32_t written_ = 0;
};

// The text before a described member: `{"name":` or `,"name":`, made at compile time, the name escaped.
template <class T, std::size_t Index>
struct json_key {
    static constexpr std::string_view name = std::get<Index>(describe(type<T>{}).list).name;

    static constexpr std::size_t write(char* to)
    {
        std::size_t n = 0;
        const auto put = [&](char c) {
            if (to) to[n] = c;
            ++n;
        };
        put(Index == 0 ? '{' : ',');
        put('"');
        for (const char c : name) {
            const auto u = static_cast<unsigned char>(c);
            if (u < 0x20) {
                for (const char e : {'\\', 'u', '0', '0', char('0' + u / 16), "0123456789abcdef"[u % 16]})
                    put(e);
            } else {
                if (c == '"' || c == '\\') put('\\');
                put(c);
            }
        }
        put('"');
        put(':');
        return n;
    }

    static constexpr auto text = [] {
        std::array<char, write(nullptr)> made{};
        write(made.data());
        return made;
    }();
};

template <class T>
struct json_record_shape {
    using value = std::remove_const_t<T>;
    static constexpr auto list = describe(type<value>{}).list;
    static constexpr std::size_t size = std::tuple_size_v<decltype(describe(type<value>{}).list)>;

    template <std::size_t I>
    static constexpr std::string_view before{json_key<value, I>::text.data(),
                                             json_key<value, I>::text.size()};
    static constexpr std::string_view close = size == 0 ? "{}" : "}";

    template <std::size_t I, class Value>
    static auto& get(Value& v) noexcept
    {
        return v.*(std::get<I>(list).member);
    }

    template <std::size_t I>
    using cursor = json_cursor<std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>>;
};

template <class T>
struct json_cursor<T, json_kind::record> : json_members_cursor<T, json_record_shape<T>> {};

template <class T>
struct json_tuple_shape {
    static constexpr std::size_t size = std::tuple_size_v<std::remove_const_t<T>>;

    template <std::size_t I>
    static constexpr std::string_view before = I == 0 ? "[" : ",";
    static constexpr std::string_view close = size == 0 ? "[]" : "]";

    template <std::size_t I, class Value>
    static auto& get(Value& v) noexcept
    {
        return std::get<I>(v);
    }

    template <std::size_t I>
    using cursor = json_cursor<std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>>;
};

template <class T>
struct json_cursor<T, json_kind::tuple> : json_members_cursor<T, json_tuple_shape<T>> {};

// A number as a key, in quotes.
template <class T>
struct json_quoted_cursor : json_piece_cursor<json_quoted_cursor<T>, json_cursor<T>::max_room + 2> {
    static char* write(char* p, const T& value, const json& options, errc& error)
    {
        *p++ = '"';
        p = json_cursor<T>::write(p, value, options, error);
        *p++ = '"';
        return p;
    }
};

template <class T>
struct json_key_cursor {
    static_assert(sizeof(T) == 0, "holdfast: a JSON object's keys are strings, char, bool or numbers");
};

template <class T>
    requires(json_kind_of<T>() == json_kind::text || json_kind_of<T>() == json_kind::char_array ||
             json_kind_of<T>() == json_kind::character)
struct json_key_cursor<T> : json_cursor<T> {};

template <class T>
    requires(json_kind_of<T>() == json_kind::integer || json_kind_of<T>() == json_kind::floating ||
             json_kind_of<T>() == json_kind::boolean)
struct json_key_cursor<T> : json_quoted_cursor<T> {};

// An entry of a map: the key, a colon, the value.
template <class T>
struct json_entry_shape {
    static constexpr std::size_t size = 2;

    template <std::size_t I>
    static constexpr std::string_view before = I == 0 ? "" : ":";
    static constexpr std::string_view close = "";

    template <std::size_t I, class Value>
    static auto& get(Value& v) noexcept
    {
        return std::get<I>(v);
    }

    template <std::size_t I>
    using member = std::remove_reference_t<decltype(get<I>(std::declval<T&>()))>;
    template <std::size_t I>
    using cursor =
        std::conditional_t<I == 0, json_key_cursor<std::remove_const_t<member<0>>>, json_cursor<member<1>>>;
};

struct json_array_layout {
    static constexpr bool bounded = true;
    static constexpr std::string_view open = "[", close = "]", close_empty = "]";
    static constexpr char separator = ',';
    template <class Element>
    using cursor = json_cursor<Element>;
};

struct json_object_layout {
    static constexpr bool bounded = false;
    static constexpr std::string_view open = "{", close = "}", close_empty = "}";
    static constexpr char separator = ',';
    template <class Element>
    using cursor = json_members_cursor<Element, json_entry_shape<Element>>;
};

struct json_lines_layout {
    static constexpr bool bounded = false;
    static constexpr std::string_view open = "", close = "\n", close_empty = "";
    static constexpr char separator = '\n';
    template <class Element>
    using cursor = json_cursor<Element>;
};

// Where the element lies that an iterator gives: elsewhere, to be pointed at...
template <class Reference>
class json_element {
public:
    using type = std::remove_reference_t<Reference>;

    template <class Iterator>
    type& make(Iterator& at)
    {
        auto&& element = *at;
        pointer_ = std::addressof(element);
        return *pointer_;
    }

    type& get() const noexcept { return *pointer_; }
    void drop() noexcept {}

private:
    type* pointer_ = nullptr;
};

// ... or here, since the iterator makes a new one. It is constructed in place, so that it need not be
// movable.
template <class Reference>
    requires(!std::is_reference_v<Reference>)
class json_element<Reference> {
public:
    using type = std::remove_cv_t<Reference>;

    json_element() noexcept {}
    json_element(const json_element&) = delete;
    json_element& operator=(const json_element&) = delete;
    ~json_element() { drop(); }

    template <class Iterator>
    type& make(Iterator& at)
    {
        ::new (static_cast<void*>(std::addressof(value_))) type(static_cast<type>(*at));
        made_ = true;
        return value_;
    }

    type& get() noexcept { return value_; }

    void drop() noexcept
    {
        if (made_) std::destroy_at(std::addressof(value_));
        made_ = false;
    }

private:
    union {
        type value_;
    };
    bool made_ = false;
};

template <class R, class Layout>
class json_range_cursor {
    using range = std::conditional_t<std::ranges::input_range<const R>, const R, R>;
    using reference = std::ranges::range_reference_t<range>;
    // The proxies of vector<bool> are read at once.
    using element = json_element<
        std::conditional_t<std::same_as<std::ranges::range_value_t<range>, bool>, bool, reference>>;
    using element_cursor = typename Layout::template cursor<typename element::type>;

    enum class phase : std::uint8_t { opening, element, made, inside, separator, closing, closing_empty };

public:
    // A short array that lies in memory belongs to its row: walking it tells its room.
    static constexpr bool bounded = Layout::bounded && std::ranges::contiguous_range<const R> &&
                                    std::ranges::sized_range<const R> && json_bounded<element_cursor>;

    static std::size_t room(const R& source)
        requires bounded
    {
        constexpr std::size_t longest = 16, never = std::size_t{1} << (sizeof(std::size_t) * 4);
        if (std::ranges::size(source) > longest) return never;
        std::size_t room = 2;
        for (const auto& value : source)
            room += element_cursor::room(value) + 1;
        return std::min(room, never); // sums of it do not overflow
    }

    static char* write(char* p, const R& source, const json& options, errc& error)
        requires bounded
    {
        *p++ = Layout::open[0];
        char* const begin = p;
        for (const auto& value : source) {
            p = element_cursor::write(p, value, options, error);
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
                at_.emplace(std::ranges::begin(r));
                phase_ = *at_ == std::ranges::end(r) ? phase::closing_empty : phase::element;
                break;
            case phase::element:
                element_.make(*at_);
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
                if (!cursor_->step(out, element_.get(), options)) return false;
                cursor_.reset();
                phase_ = advance(r) ? phase::separator : phase::closing;
                break;
            case phase::separator:
                if (!out.byte(Layout::separator)) return false;
                phase_ = phase::element;
                break;
            case phase::closing:
                if (out.failed()) return false;
                return out.fixed(Layout::close);
            case phase::closing_empty:
                return out.fixed(Layout::close_empty);
            }
        }
    }

private:
    // Leaves the element for the next one; false at the end.
    bool advance(range& r)
    {
        element_.drop();
        ++*at_;
        return !(*at_ == std::ranges::end(r));
    }

    // What room() looks at of the next element, if that lies in memory, arrives while this one is written.
    void fetch_next([[maybe_unused]] range& r) const
    {
        if constexpr (std::contiguous_iterator<std::ranges::iterator_t<range>> &&
                      std::ranges::sized_range<range> && !std::is_scalar_v<typename element::type>) {
            if (std::ranges::end(r) - *at_ > 1)
                static_cast<void>(element_cursor::room(std::to_address(*at_)[1]));
        }
    }

    // Writes the element that is made, and those that follow, while each is taken as a whole, with one check
    // an element. Returns false with an element made that was not taken, true at the end of the range or
    // after a failure.
    bool write_elements(chunk_writer& out, range& r, const json& options)
    {
        for (;;) {
            const auto& value = element_.get();
            bool more = false;
            fetch_next(r);
            if (!out.whole(element_cursor::room(value) + 1, [&](char* p, errc& error) {
                    p = element_cursor::write(p, value, options, error);
                    if (error != errc{}) [[unlikely]]
                        return p;
                    more = advance(r);
                    if (more) *p++ = Layout::separator;
                    return p;
                }))
                return false;
            if (!more) {
                phase_ = phase::closing;
                return true;
            }
            element_.make(*at_);
        }
    }

    // In this order: the cursor of the element may point into it, the element to the iterator.
    std::optional<std::ranges::iterator_t<range>> at_;
    element element_;
    std::optional<element_cursor> cursor_;
    phase phase_ = phase::opening;
};

template <class T>
struct json_cursor<T, json_kind::range> : json_range_cursor<T, json_array_layout> {};
template <class T>
struct json_cursor<T, json_kind::map> : json_range_cursor<T, json_object_layout> {};

template <class T>
struct json_root : json_cursor<T> {};

// A source of NDJSON: a range is lines, and anything else is one line.
template <class T, json_kind = json_kind_of<T>()>
struct ndjson_cursor {
    bool step(chunk_writer& out, T& value, const json& options)
    {
        if (!written_) written_ = line_.step(out, value, options);
        return written_ && out.byte('\n');
    }

    json_cursor<T> line_{};
    bool written_ = false;
};

template <class T>
struct ndjson_cursor<T, json_kind::range> : json_range_cursor<T, json_lines_layout> {};
template <class T>
struct ndjson_cursor<T, json_kind::foreign> : json_foreign_cursor<std::remove_const_t<T>, true> {};

template <class T>
struct ndjson_cursor<T, json_kind::reference> {
    bool step(chunk_writer& out, const T& value, const json& options)
    {
        return inner.step(out, value.get(), options);
    }

    ndjson_cursor<typename T::type> inner{};
};

template <class T>
struct ndjson_root {
    bool step(chunk_writer& out, T& value, const ndjson& options)
    {
        return inner.step(out, value, json{options.non_finite, options.utf8});
    }

    ndjson_cursor<T> inner{};
};

} // namespace holdfast::detail

#endif
