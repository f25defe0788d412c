// holdfast: the concepts and accesses of std::ranges, without its views.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_RANGES_HPP
#define HOLDFAST_SERIALIZE_DETAIL_RANGES_HPP

// Views make <ranges> one of the most expensive headers of the standard library. libstdc++ has what is used here in
// what <algorithm> needs for its constrained algorithms.
#include <algorithm>
#include <iterator>
#if !defined(__GLIBCXX__)
#include <ranges>
#endif

#endif
