// holdfast: what the tests need of TLS: a stream, and a context without certificates.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_TLS_HPP
#define HOLDFAST_TESTS_SUPPORT_TLS_HPP

#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/ssl.hpp>
#else
#include <asio/ssl.hpp>
#endif

#include <stdexcept>

namespace tests {

using tls_stream = holdfast::net::ssl::stream<holdfast::net::ip::tcp::socket>;

/// Anonymous key exchange: encryption without a certificate, enough to test how a stream goes and ends.
struct anonymous_context : holdfast::net::ssl::context {
    anonymous_context() : holdfast::net::ssl::context(holdfast::net::ssl::context::tlsv12)
    {
        if (::SSL_CTX_set_cipher_list(native_handle(), "AECDH-AES256-SHA:@SECLEVEL=0") != 1)
            throw std::runtime_error("OpenSSL has no anonymous key exchange");
    }
};

} // namespace tests

#endif
