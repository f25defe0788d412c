// holdfast: the version, the one place that states it (CMake and pkg-config read it from here), and the language.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_VERSION_HPP
#define HOLDFAST_VERSION_HPP

#define HOLDFAST_VERSION_MAJOR 0
#define HOLDFAST_VERSION_MINOR 1
#define HOLDFAST_VERSION_PATCH 0

/// The version as one number that grows with every release: major * 10000 + minor * 100 + patch.
#define HOLDFAST_VERSION (HOLDFAST_VERSION_MAJOR * 10000 + HOLDFAST_VERSION_MINOR * 100 + HOLDFAST_VERSION_PATCH)

// The lowest headers include this one, so that a compiler says this before anything else.
#if __cplusplus < 202002L
#error "holdfast needs C++20: compile with -std=c++20"
#endif

#endif
