// holdfast: wrappers that say how a value is written: times in a unit, bytes in base64, JSON as it stands.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_VALUES_HPP
#define HOLDFAST_SERIALIZE_VALUES_HPP

#include <holdfast/serialize/detail/ranges.hpp>
#include <holdfast/version.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>

namespace holdfast {

/// A duration, or a time point since its clock's epoch, as a number in a stated unit. `Unit` is a
/// `std::chrono::duration`. Durations and time points alone are not sources: the text would not say their
/// unit, and would change with the program's types.
///
/// The number is rounded down, below zero too. `Unit`'s representation must be able to hold it. Real numbers
/// stay real: `in_unit<std::chrono::duration<double>>` is seconds with a fraction.
///
///     holdfast::field("time", &quote::time, holdfast::written_as<holdfast::in_unit<std::chrono::milliseconds>>)
///     holdfast::in_unit<std::chrono::seconds>(age)
template <class Unit>
class in_unit {
public:
    using rep = typename Unit::rep;

    template <class Rep, class Period>
        requires(std::chrono::treat_as_floating_point_v<rep> || !std::chrono::treat_as_floating_point_v<Rep>)
    constexpr explicit in_unit(std::chrono::duration<Rep, Period> d) : count_(converted(d).count())
    {
    }

    template <class Clock, class Duration>
    constexpr explicit in_unit(std::chrono::time_point<Clock, Duration> t) : in_unit(t.time_since_epoch())
    {
    }

    constexpr rep count() const noexcept { return count_; }

private:
    template <class Duration>
    static constexpr Unit converted(Duration d)
    {
        if constexpr (std::chrono::treat_as_floating_point_v<rep>)
            return std::chrono::duration_cast<Unit>(d);
        else
            return std::chrono::floor<Unit>(d);
    }

    rep count_;
};

/// Bytes as a string in base64 (RFC 4648, section 4: `+`, `/` and padding). Contiguous ranges of `std::byte`
/// are written in base64 by themselves; this wrapper is for bytes of another type. It refers to the bytes.
///
///     holdfast::field("key", &session::key, holdfast::written_as<holdfast::base64>)
///     holdfast::base64(std::string_view("any bytes"))
class base64 {
public:
    template <std::ranges::contiguous_range R>
        requires std::ranges::sized_range<R> && (sizeof(std::ranges::range_value_t<R>) == 1) &&
                 (std::same_as<std::ranges::range_value_t<R>, std::byte> ||
                  (std::integral<std::ranges::range_value_t<R>> && !std::same_as<std::ranges::range_value_t<R>, bool>))
    explicit base64(const R& range) noexcept
        : bytes_(std::as_bytes(std::span(std::ranges::data(range), std::ranges::size(range))))
    {
    }

    std::span<const std::byte> bytes() const noexcept { return bytes_; }

private:
    std::span<const std::byte> bytes_;
};

/// The text of one JSON value, written as it is and not checked. It refers to the text.
struct raw_json {
    constexpr explicit raw_json(std::string_view text_) noexcept : text(text_) {}

    std::string_view text;
};

/// The maximum nesting depth of the text of a `checked_json`.
inline constexpr std::size_t checked_json_max_depth = 64;

/// The text of one JSON value, checked while it is copied: `next()` fails with `errc::invalid_json` if it is
/// not one JSON value, and with `errc::depth_exceeded` beyond `checked_json_max_depth`. White space between
/// tokens is dropped, so the value stays on one line of NDJSON. Strings are checked by the format's
/// `utf8_policy`; everything else is copied as it is, so numbers keep their digits. That includes what JSON's
/// grammar allows and some parsers refuse: numbers beyond their range, and the escape of half a surrogate pair.
/// It refers to the text.
struct checked_json {
    constexpr explicit checked_json(std::string_view text_) noexcept : text(text_) {}

    std::string_view text;
};

} // namespace holdfast

#endif
