// holdfast: what of Asio and of the library is no template, compiled once for all tests. Header-only, as most users have
// it, are everything, sizes and README's programs.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/impl/src.hpp>
#else
#include <asio/impl/src.hpp>
#endif

#include <holdfast/impl/src.hpp>
