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

#endif
