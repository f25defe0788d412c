// holdfast: formatted, a source together with the format that it is written in.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_FORMATTED_HPP
#define HOLDFAST_SERIALIZE_FORMATTED_HPP

#include <holdfast/version.hpp>

#include <type_traits>
#include <utility>

namespace holdfast {

/// A source together with the format that it is written in, for a format that has options: `async_write_streamed`,
/// `outbox::push_streamed` and `serialize_to_payload` take it in place of a source.
///
///     co_await holdfast::async_write_streamed(
///         peer, holdfast::formatted(std::ref(rows), holdfast::framed{holdfast::framing::u32_length<>{}}));
template <class Source, class Format>
class formatted {
public:
    using source_type = Source;
    using format_type = Format;

    /// Takes over the source and the format.
    formatted(Source source, Format format) : source_(std::move(source)), format_(std::move(format)) {}

    [[nodiscard]] const Source& source() const& noexcept { return source_; }
    [[nodiscard]] Source&& source() && noexcept { return std::move(source_); }
    [[nodiscard]] const Format& format() const noexcept { return format_; }

private:
    Source source_;
    [[no_unique_address]] Format format_;
};

template <class Source, class Format>
formatted(Source, Format) -> formatted<Source, Format>;

namespace detail {

template <class T>
inline constexpr bool is_formatted = false;
template <class Source, class Format>
inline constexpr bool is_formatted<formatted<Source, Format>> = true;

/// Calls `use(source, format)` for a source, or for one that is formatted.
template <class Format, class Source, class Use>
decltype(auto) with_format(Source&& source, Use&& use)
{
    if constexpr (is_formatted<std::remove_cvref_t<Source>>) {
        auto format = source.format(); // before the source is moved
        return std::forward<Use>(use)(std::forward<Source>(source).source(), std::move(format));
    } else {
        return std::forward<Use>(use)(std::forward<Source>(source), Format{});
    }
}

} // namespace detail

} // namespace holdfast

#endif
