// holdfast: the cursors of whole Protobuf messages, and of delimited ones.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_ROOT_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_ROOT_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/protobuf.hpp>
#include <holdfast/serialize/protobuf/cursor.hpp>
#include <holdfast/serialize/protobuf/kind.hpp>
#include <holdfast/serialize/protobuf/message.hpp>
#include <holdfast/serialize/protobuf/range.hpp>
#include <holdfast/serialize/protobuf/tree.hpp>

#include <cstdint>
#include <string>

namespace holdfast::detail {

// A source is a message, or the field 1 of one.
template <class T, protobuf_kind = protobuf_kind_of<T>()>
struct protobuf_source {
    static_assert(sizeof(T) == 0,
                  "holdfast: a source of Protobuf is a described struct or variant, or a range. Give the struct a "
                  "describe() with field numbers, in its namespace (holdfast/serialize/describe.hpp)");
};
template <class T>
struct protobuf_source<T, protobuf_kind::message> : protobuf_body<T, void> {};
template <class T>
struct protobuf_source<T, protobuf_kind::range> : protobuf_cursor<T, protobuf_field{.number = 1}, void> {};

// A source of delimited messages: a range is many, and anything else is one.
template <class T, protobuf_kind = protobuf_kind_of<T>()>
struct protobuf_delimited_source {
    static_assert(sizeof(T) == 0,
                  "holdfast: a source of delimited Protobuf is a described struct or variant, or a range of them. Give "
                  "the struct a describe() with field numbers, in its namespace (holdfast/serialize/describe.hpp)");
};
template <class T>
struct protobuf_delimited_source<T, protobuf_kind::message> : protobuf_cursor<T, protobuf_field{}, void> {};
template <class T>
struct protobuf_delimited_source<T, protobuf_kind::range> : protobuf_repeated_cursor<T, protobuf_field{}, void> {
    static_assert(protobuf_is_message<std::ranges::range_value_t<iterated<T>>>(),
                  "holdfast: what is delimited in Protobuf are described structs or variants");
};

template <class T, template <class, protobuf_kind> class Source>
struct protobuf_referred : Source<typename T::type, protobuf_kind_of<typename T::type>()> {
    using referred = Source<typename T::type, protobuf_kind_of<typename T::type>()>;

    static std::uint64_t size(const T& value, protobuf_sizer& sizer) { return referred::size(value.get(), sizer); }

    bool step(chunk_writer& out, const T& value, protobuf_context& context)
    {
        return referred::step(out, value.get(), context);
    }

    void path(std::string& to, const T& value) { append_path<referred>(*this, to, value.get()); }
};
template <class T>
struct protobuf_source<T, protobuf_kind::reference> : protobuf_referred<T, protobuf_source> {};
template <class T>
struct protobuf_delimited_source<T, protobuf_kind::reference> : protobuf_referred<T, protobuf_delimited_source> {};

template <class T, class Source, bool OneMessage>
struct protobuf_whole {
    static constexpr bool repeatable = is_repeatable<Source>;

    template <class Format>
    bool step(chunk_writer& out, T& value, const Format& options)
    {
        protobuf_context context{.check_utf8 = options.check_utf8, .base = written_ - out.position()};
        if constexpr (OneMessage && repeatable) {
            if (options.measure_first && written_ == 0 && !measure(out, value)) return false;
        }
        const bool ended = inner_.step(out, value, context);
        if (out.error() != errc{}) return ended;
        written_ = context.position(out);
        if (!OneMessage || written_ <= protobuf_max_bytes) return ended;
        out.fail(errc::message_too_large);
        return false;
    }

    void path(std::string& to, T& value) { append_path(inner_, to, value); }

private:
    static bool measure(chunk_writer& out, T& value)
    {
        protobuf_sizer sizer;
        if (Source::size(value, sizer) > protobuf_max_bytes && sizer.error == errc{})
            sizer.error = errc::message_too_large;
        if (sizer.error != errc{}) out.fail(sizer.error);
        return sizer.error == errc{};
    }

    Source inner_{};
    std::uint64_t written_ = 0;
};

template <class T>
struct protobuf_root : protobuf_whole<T, protobuf_source<T>, true> {};
template <class T>
struct protobuf_delimited_root : protobuf_whole<T, protobuf_delimited_source<T>, false> {};

} // namespace holdfast::detail

#endif
