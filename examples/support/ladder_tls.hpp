// holdfast: the ladder's TLS clients, by OpenSSL alone.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_TLS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_TLS_HPP

#include "command_line.hpp"

#include <cerrno>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace ladder {

/// What an operation on a TLS connection came to.
enum class tls_result : unsigned char { done, wait_read, wait_write, ended, failed };

/// The client's side of one TLS connection, upon a non-blocking descriptor that it does not own. An empty one is of a
/// plain connection.
class tls_session {
public:
    tls_session() = default;
    tls_session(SSL_CTX* context, int fd, const std::string& host) : ssl_(::SSL_new(context))
    {
        if (!ssl_) return;
        ::SSL_set_fd(ssl_.get(), fd);
        ::SSL_set_connect_state(ssl_.get());
        in_addr v4{};
        in6_addr v6{};
        if (::inet_pton(AF_INET, host.c_str(), &v4) == 1 || ::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
            ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl_.get()), host.c_str());
        } else {
            ::SSL_set1_host(ssl_.get(), host.c_str());
            ::SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
        }
    }

    explicit operator bool() const { return ssl_ != nullptr; }

    tls_result handshake() { return result_of(::SSL_do_handshake(ssl_.get())); }

    tls_result read(char* to, std::size_t most, std::size_t& got)
    {
        got = 0;
        return result_of(::SSL_read_ex(ssl_.get(), to, most, &got));
    }

    void write(std::string_view text)
    {
        ::SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size()));
        ::ERR_clear_error();
    }

    void shutdown()
    {
        ::SSL_shutdown(ssl_.get());
        ::ERR_clear_error();
    }

private:
    struct deleter {
        void operator()(SSL* ssl) const { ::SSL_free(ssl); }
    };

    tls_result result_of(int result)
    {
        if (result > 0) return tls_result::done;
        const int error = ::SSL_get_error(ssl_.get(), result);
        ::ERR_clear_error();
        switch (error) {
        case SSL_ERROR_WANT_READ:
            return tls_result::wait_read;
        case SSL_ERROR_WANT_WRITE:
            return tls_result::wait_write;
        case SSL_ERROR_ZERO_RETURN:
            return tls_result::ended;
        default:
            return tls_result::failed;
        }
    }

    std::unique_ptr<SSL, deleter> ssl_;
};

/// What the TLS connections of a process share.
class tls_client_context {
public:
    /// `authorities`: a PEM file of certificates that the server's has to be issued by; empty: any certificate will do.
    /// Throws a `usage_error`.
    explicit tls_client_context(const std::string& authorities) : context_(::SSL_CTX_new(::TLS_client_method()))
    {
        if (!context_) throw examples::usage_error("OpenSSL cannot make a TLS context");
        ::SSL_CTX_set_mode(context_.get(), SSL_MODE_RELEASE_BUFFERS);
        ::SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
        if (authorities.empty()) return;
        if (::SSL_CTX_load_verify_locations(context_.get(), authorities.c_str(), nullptr) != 1)
            examples::command_line::fail("ca", "cannot be read as PEM certificates: '" + authorities + "'");
        ::SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    }

    tls_session connect(int fd, const std::string& host) const { return {context_.get(), fd, host}; }

private:
    struct deleter {
        void operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }
    };
    std::unique_ptr<SSL_CTX, deleter> context_;
};

} // namespace ladder

#endif
