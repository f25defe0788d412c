// holdfast: a program that finds holdfast through another library, for the packaging tests.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/version.hpp>

int major_version();

int main() { return major_version() == HOLDFAST_VERSION_MAJOR ? 0 : 1; }
