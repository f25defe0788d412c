// holdfast: the JSON and NDJSON formats of streaming_serializer. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_HPP
#define HOLDFAST_SERIALIZE_JSON_HPP

#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json/policy.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>
#include <holdfast/serialize/values.hpp>

namespace holdfast {

namespace detail {

template <class T>
struct json_root;
template <class T>
struct ndjson_root;

} // namespace detail

/// Compact JSON, without spaces and line ends. Sources are:
///
/// - `bool`; `std::monostate` and `std::nullptr_t`: `null`;
/// - integers of up to 64 bits (`signed char` and `unsigned char` are numbers, `char` is a string of one character:
///   `'B'` is `"B"`);
/// - `float` and `double`: the shortest text that reads back as the same value; -0 is `-0.0`, and magnitudes above 2^63
///   have an exponent, since many parsers refuse integers beyond 64 bits;
/// - strings: types that convert to `std::string_view` (a `const char*` must not be null), `char[N]` and
///   `std::array<char, N>` (up to the first NUL);
/// - enumerations: numbers, or the names of a description (`described_enum`);
/// - contiguous ranges of `std::byte`: strings in base64;
/// - `std::optional`, `std::unique_ptr`, `std::shared_ptr`: the value, or `null`;
/// - `std::variant`: the value that it holds, with a name if it is a `described_variant`;
/// - maps (ranges with `key_type` and `mapped_type`): objects, in the order of the map. Keys are strings or `char`,
///   enumerations by name, or numbers and `bool` in quotes. Equal keys of a multimap are all written;
/// - other `std::ranges::input_range`s (views and single-pass ranges too), `std::pair` and `std::tuple`: arrays;
/// - described structs (serialize/describe.hpp): objects; structs that contain themselves need `recursive`;
/// - aggregates without a description (`plain_struct`): objects with the names of their members;
/// - the wrappers of serialize/values.hpp: `in_unit`, `base64`, `raw_json`, `checked_json`;
/// - `std::reference_wrapper`: the value that it refers to;
/// - simdjson documents (adapters/simdjson.hpp), and values of its on-demand documents, which are single-pass
///   sources (adapters/simdjson_ondemand.hpp);
///
/// nested as the types are. Other types are refused at compile time; the error says what is missing. Strings
/// are escaped only where JSON requires it: `"`, `\`, and U+0000 to U+001F.
struct json {
    /// What is written for a NaN or an infinity.
    holdfast::non_finite non_finite = holdfast::non_finite::error;
    /// What is done with bytes that are not UTF-8. Member names are not checked.
    utf8_policy utf8 = utf8_policy::error;

    template <class Source>
    using cursor = detail::json_root<Source>;
};

/// Newline-delimited JSON: each element of a range on a line of its own; a source that is no range (a map is
/// none, it is an object) is one line. Every line ends with `\n`, the last too; an empty range is an empty
/// text.
struct ndjson {
    /// What is written for a NaN or an infinity.
    holdfast::non_finite non_finite = holdfast::non_finite::error;
    /// What is done with bytes that are not UTF-8. Member names are not checked.
    utf8_policy utf8 = utf8_policy::error;

    template <class Source>
    using cursor = detail::ndjson_root<Source>;
};

} // namespace holdfast

#include <holdfast/serialize/json/root.hpp>

#endif
