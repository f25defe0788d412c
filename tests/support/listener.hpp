// holdfast: the base of listeners to a run of tests, whose name differs between Catch2's major versions.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_LISTENER_HPP
#define HOLDFAST_TESTS_SUPPORT_LISTENER_HPP

#include "support/catch.hpp"

namespace tests {

#if __has_include(<catch2/catch_all.hpp>)
using listener_base = Catch::EventListenerBase;
#else
using listener_base = Catch::TestEventListenerBase;
#endif

} // namespace tests

#endif
