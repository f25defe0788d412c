// holdfast: what JSON does with values that it cannot express; part of serialize/json.hpp.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_POLICY_HPP
#define HOLDFAST_SERIALIZE_JSON_POLICY_HPP

#include <cstdint>

namespace holdfast {

/// What becomes of a NaN or an infinity, for which JSON has no text.
enum class non_finite : std::uint8_t {
    /// `next()` fails with `errc::not_finite`.
    error,
    /// `null` is written in its place.
    null,
};

/// What becomes of bytes in a string that are not UTF-8, as JSON requires: overlong forms, surrogates, values
/// above U+10FFFF, sequences cut short.
enum class utf8_policy : std::uint8_t {
    /// `next()` fails with `errc::invalid_utf8`.
    error,
    /// Each ill-formed sequence is replaced by U+FFFD: the longest prefix of what could have become
    /// well-formed, else one byte.
    replace,
    /// Nothing is checked and the bytes go out as they are: for strings that are known to be UTF-8.
    trust,
};

} // namespace holdfast

#endif
