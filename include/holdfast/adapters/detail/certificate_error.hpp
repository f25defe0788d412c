// holdfast: why the certificate of a TLS peer was refused, as an error code of its own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_CERTIFICATE_ERROR_HPP
#define HOLDFAST_ADAPTERS_DETAIL_CERTIFICATE_ERROR_HPP

#include <holdfast/asio.hpp>

#include <openssl/x509_vfy.h>

#include <string>
#include <system_error>

namespace holdfast {

namespace detail {

class certificate_error_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "holdfast.certificate"; }
    std::string message(int value) const override
    {
        return std::string("the peer's certificate was refused: ") + ::X509_verify_cert_error_string(value);
    }
};

} // namespace detail

/// The category of the errors with which a handshake refuses the peer's certificate. The values are OpenSSL's
/// `X509_V_ERR_...`: `X509_V_ERR_HOSTNAME_MISMATCH`, `X509_V_ERR_CERT_HAS_EXPIRED`,
/// `X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY`, `X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT` and so on.
inline const std::error_category& certificate_category() noexcept
{
    static const detail::certificate_error_category instance;
    return instance;
}

} // namespace holdfast

#endif
