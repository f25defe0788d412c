// holdfast: what JSON does with values that it cannot express; part of serialize/json.hpp.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_POLICY_HPP
#define HOLDFAST_SERIALIZE_JSON_POLICY_HPP

#include <cstdint>

namespace holdfast {

/// What JSON writes for a NaN or an infinity, which it cannot express. As the key of a map they always fail.
enum class non_finite : std::uint8_t {
    /// `next()` fails with `errc::not_finite`.
    error,
    /// `null` is written instead.
    null,
};

/// What JSON does with bytes in a string that are not UTF-8: overlong forms, surrogates, values above
/// U+10FFFF, incomplete sequences.
enum class utf8_policy : std::uint8_t {
    /// `next()` fails with `errc::invalid_utf8`.
    error,
    /// U+FFFD replaces each ill-formed sequence: the longest prefix of a well-formed one, else one byte.
    replace,
    /// Nothing is checked: for strings that are known to be UTF-8.
    trust,
};

} // namespace holdfast

#endif
