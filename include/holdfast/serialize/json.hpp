// holdfast: the JSON and NDJSON formats of streaming_serializer. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_HPP
#define HOLDFAST_SERIALIZE_JSON_HPP

#include <holdfast/serialize/json/policy.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/values.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

namespace holdfast {

namespace detail {

template <class T>
struct json_root;
template <class T>
struct ndjson_root;

} // namespace detail

/// Compact JSON: no space, no line end. Sources are:
///
/// - `bool`; `std::monostate` and `std::nullptr_t`, which are `null`;
/// - integers of up to 64 bits, in full (`signed char` and `unsigned char` are numbers, `char` is a string of
///   one character: `'B'` is `"B"`);
/// - `float` and `double`: the shortest text that reads back as the same value; -0 is `-0.0`;
/// - strings: whatever converts to `std::string_view` (a `const char*` must not be null), `char[N]` and
///   `std::array<char, N>` (up to the first NUL, else whole);
/// - enumerations: numbers, or the names of a description (`described_enum`);
/// - contiguous ranges of `std::byte`: strings in base64;
/// - `std::optional`, `std::unique_ptr`, `std::shared_ptr`: what they hold, or `null`;
/// - `std::variant`: the value it holds, without a tag, or with the name of a description
/// (`described_variant`);
/// - maps (ranges with `key_type` and `mapped_type`): objects, in their order. Keys are strings or `char`,
///   enumerations by name, or numbers and `bool`, which are put in quotes. Equal keys of a multimap are all
///   written;
/// - all other `std::ranges::input_range`s, views and single-pass ones among them, `std::pair` and
///   `std::tuple`: arrays;
/// - described structs (serialize/describe.hpp): objects; also those that contain themselves (`recursive`);
/// - aggregates without a description (`plain_struct`): objects, with the names of their members;
/// - what says how it is written (serialize/values.hpp): durations and time points `in` a unit, `base64`,
///   `raw_json` and `checked_json`;
/// - `std::reference_wrapper`: what it refers to;
/// - simdjson's documents (serialize/simdjson.hpp);
/// - the values of its on-demand documents, which are single-pass sources
///   (serialize/simdjson_ondemand.hpp);
///
/// nested to any depth that the type has. Another type is refused at compile time, with a message that says
/// what is missing. Strings are escaped as JSON demands and no further: `"`, `\`, and U+0000 to U+001F.
struct json {
    /// What becomes of a NaN or an infinity.
    holdfast::non_finite non_finite = holdfast::non_finite::error;
    /// What becomes of bytes that are not UTF-8. Member names are not checked.
    utf8_policy utf8 = utf8_policy::error;

    template <class Source>
    using cursor = detail::json_root<Source>;
};

/// Newline-delimited JSON: the elements of a range (a map is none here: it is an object), each on its own
/// line; a source that is no range is one line. Every line ends with `\n`, the last one too; an empty range
/// is an empty text.
struct ndjson {
    /// What becomes of a NaN or an infinity.
    holdfast::non_finite non_finite = holdfast::non_finite::error;
    /// What becomes of bytes that are not UTF-8. Member names are not checked.
    utf8_policy utf8 = utf8_policy::error;

    template <class Source>
    using cursor = detail::ndjson_root<Source>;
};

} // namespace holdfast

#include <holdfast/serialize/json/root.hpp>

#endif
