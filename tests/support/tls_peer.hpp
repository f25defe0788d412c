// holdfast: a TLS peer by OpenSSL alone, whose records pass through the test's hands.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_TLS_PEER_HPP
#define HOLDFAST_TESTS_SUPPORT_TLS_PEER_HPP

#include "support/sockets.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tests {

/// The client's end of a socket, blocking, with an SSL object on memory.
class tls_peer {
public:
    explicit tls_peer(tcp::socket socket, int version = TLS1_3_VERSION, const char* suites = nullptr)
        : socket_(std::move(socket)),
          context_(::SSL_CTX_new(::TLS_client_method()), &::SSL_CTX_free),
          ssl_(nullptr, &::SSL_free)
    {
        ::SSL_CTX_set_min_proto_version(context_.get(), version);
        ::SSL_CTX_set_max_proto_version(context_.get(), version);
        if (suites != nullptr) ::SSL_CTX_set_ciphersuites(context_.get(), suites);
        ssl_.reset(::SSL_new(context_.get()));
        ::SSL_set_bio(ssl_.get(), ::BIO_new(::BIO_s_mem()), ::BIO_new(::BIO_s_mem()));
        ::SSL_set_connect_state(ssl_.get());
        socket_.non_blocking(true);
    }

    SSL* ssl() { return ssl_.get(); }
    tcp::socket& socket() { return socket_; }

    /// What OpenSSL wants to send, taken out of its hands.
    std::string take_output()
    {
        std::string bytes(::BIO_ctrl_pending(::SSL_get_wbio(ssl_.get())), '\0');
        if (!bytes.empty()) ::BIO_read(::SSL_get_wbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
        return bytes;
    }

    void send(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const auto n = ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n < 0) throw std::runtime_error("the server does not take what it is sent");
            bytes.remove_prefix(static_cast<std::size_t>(n));
        }
    }

    /// Hands OpenSSL what has come. False at the end of the stream.
    bool receive()
    {
        char bytes[65536];
        for (;;) {
            const auto n = ::recv(socket_.native_handle(), bytes, sizeof bytes, MSG_DONTWAIT);
            if (n == 0) return false;
            if (n < 0) return errno == EAGAIN;
            ::BIO_write(::SSL_get_rbio(ssl_.get()), bytes, static_cast<int>(n));
        }
    }

    /// A step of the handshake; true when this side has finished.
    bool handshake()
    {
        receive();
        const bool done = ::SSL_do_handshake(ssl_.get()) == 1;
        ::ERR_clear_error();
        send(take_output());
        return done;
    }

    /// One record, or more, of this text, sealed.
    std::string seal(std::string_view text)
    {
        if (::SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) != static_cast<int>(text.size()))
            throw std::runtime_error("OpenSSL does not seal");
        return take_output();
    }

    /// What has come, opened. `ended()` says whether close_notify was in it.
    std::string read()
    {
        receive();
        std::string all;
        char text[16384];
        for (;;) {
            const int n = ::SSL_read(ssl_.get(), text, sizeof text);
            if (n > 0) {
                all.append(text, static_cast<std::size_t>(n));
                continue;
            }
            error_ = ::SSL_get_error(ssl_.get(), n);
            reason_ = ::ERR_GET_REASON(::ERR_get_error());
            ::ERR_clear_error();
            send(take_output()); // an answer to a KeyUpdate
            return all;
        }
    }
    bool ended() const { return error_ == SSL_ERROR_ZERO_RETURN; }
    int reason() const { return reason_; }

private:
    tcp::socket socket_;
    std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> context_;
    std::unique_ptr<SSL, decltype(&::SSL_free)> ssl_;
    int error_ = 0;
    int reason_ = 0;
};

} // namespace tests

#endif
