// holdfast: a user's library, for the packaging tests.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/version.hpp>

int major_version() { return HOLDFAST_VERSION_MAJOR; }
