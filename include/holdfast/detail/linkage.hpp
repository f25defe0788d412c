// holdfast: whether bodies that are no templates are in the headers or in a translation unit of their own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_LINKAGE_HPP
#define HOLDFAST_DETAIL_LINKAGE_HPP

#include <holdfast/version.hpp>

// Header-only by default. With HOLDFAST_SEPARATE_COMPILATION defined everywhere, one source file of the program
// includes <holdfast/impl/src.hpp>, which has the bodies.
#if defined(HOLDFAST_SEPARATE_COMPILATION)
#define HOLDFAST_DECL
#else
#define HOLDFAST_DECL inline
#endif

#endif
