// holdfast: separate_compilation.cpp's part that needs OpenSSL.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/ssl/impl/src.hpp>
#else
#include <asio/ssl/impl/src.hpp>
#endif
