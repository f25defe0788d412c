// holdfast: the version, the one place that states it (CMake and pkg-config read it from here).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_VERSION_HPP
#define HOLDFAST_VERSION_HPP

#define HOLDFAST_VERSION_MAJOR 0
#define HOLDFAST_VERSION_MINOR 1
#define HOLDFAST_VERSION_PATCH 0

/// The version as one number that grows with every release: major * 10000 + minor * 100 + patch.
#define HOLDFAST_VERSION (HOLDFAST_VERSION_MAJOR * 10000 + HOLDFAST_VERSION_MINOR * 100 + HOLDFAST_VERSION_PATCH)

#endif
