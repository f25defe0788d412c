// holdfast: Catch2, whichever of its major versions is installed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_CATCH_HPP
#define HOLDFAST_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_EXTERNAL_INTERFACES // the leak listener's base
#include <catch2/catch.hpp>
#endif

#include <string>

namespace tests {

/// A matcher of strings that contain this one, whose name differs between the versions.
inline auto contains(const std::string& text)
{
#if __has_include(<catch2/catch_all.hpp>)
    return Catch::Matchers::ContainsSubstring(text);
#else
    return Catch::Matchers::Contains(text);
#endif
}

} // namespace tests

#endif
