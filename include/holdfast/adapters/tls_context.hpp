// holdfast: tls_context, what all TLS connections of a server share: certificates, protocol settings, tickets.
// Reloadable.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_TLS_CONTEXT_HPP
#define HOLDFAST_ADAPTERS_TLS_CONTEXT_HPP

#include <holdfast/adapters/detail/tls_engine.hpp>
#include <holdfast/asio.hpp>

#include <openssl/ssl.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast {

class tls_context;

/// Settings of a `tls_context`.
struct tls_context_options {
    /// The server's certificate and those of its issuers, in PEM format. Empty for a client without a
    /// certificate.
    std::string certificate_chain_file{};
    /// Its private key, in PEM format, not encrypted.
    std::string private_key_file{};
    /// The certificates of the authorities (CA) that must have issued the peer's certificate, in PEM format. Empty: a
    /// server requests no certificate of its clients, and a client uses the system's authorities. OpenSSL keeps the
    /// certificates that a client has shown as long as its object of the connection, some 5 to 7 KB, and has no call
    /// that frees them before; with `compact_records` they are freed after the handshake, and the name in them is kept.
    std::string peer_authorities_file{};
    /// Protocols of the application for ALPN, the preferred one first, such as {"h2", "http/1.1"}. Each has 1
    /// to 255 bytes. A server refuses a client that offers only others; it serves a client that offers none.
    std::vector<std::string> application_protocols{};
    /// Chooses the context whose certificate a client gets, by the name that it requests (SNI; empty where it requests
    /// none). Null: this context's. A server's only. Only the certificate and the ALPN protocols are the chosen
    /// context's: clients are verified by this context's `peer_authorities_file`. A connection of one whose
    /// `compact_records` differs keeps OpenSSL's object. Called in the handshake, on the connection's executor, once or
    /// twice; the context that it returns must be valid during the call. Must not throw.
    std::function<const tls_context*(std::string_view host)> choose_context{};
    /// How many session tickets a TLS 1.3 server sends after each handshake. No session is kept in memory on
    /// the server. 0 to 16.
    std::size_t tickets = 2;
    /// Frees OpenSSL's object of each connection after its handshake, which lowers an idle TLS 1.3 connection
    /// with a coroutine from about 15.6 KB to about 1.5 KB. Records, alerts and KeyUpdate are then handled by holdfast
    /// as RFC 8446 says, with OpenSSL's ciphers; the handshake stays OpenSSL's. Leave it off where a certified
    /// module has to do everything, or where post-handshake authentication is used. Connections of TLS 1.2,
    /// or of a cipher suite other than the three usual ones, keep OpenSSL's object.
    /// Busy connections keep their keys in up to 256 of OpenSSL's cipher contexts of each cipher suite, two a connection:
    /// at most 0.3 MB a suite for the whole process, which stay allocated. The other connections set their keys for each
    /// record, which costs some 130 ns more.
    /// Secrets are overwritten when they are replaced and at the connection's end; but where another thread has protected
    /// the connection's last record, that thread's context keeps its key until its next record. OpenSSL does not overwrite
    /// the object that it frees: where that matters, give it a `free` that does, by `CRYPTO_set_mem_functions`.
    bool compact_records = false;
};

/// What all TLS connections of a server, or all that a client makes, share. TLS 1.2 and newer, OpenSSL's
/// security level 2, no renegotiation, no compression, no early data, no session cache; the server's order of
/// ciphers.
///
/// A copy shares its state with the original: `reload()` of one holds for all copies.
///
/// Lifetime: connections and copies may outlive it.
/// Thread safety: all members may be called from any thread.
///
///     holdfast::tls_context context = holdfast::tls_context::server({.certificate_chain_file = "server.pem",
///     .private_key_file = "key.pem"});
class tls_context {
public:
    /// Makes a context for connections that this side accepts. Reads the files.
    ///
    /// Exceptions: `system_error` that names the file; `std::invalid_argument` for an option out of range;
    /// `std::bad_alloc`.
    static tls_context server(tls_context_options options) { return tls_context(std::move(options), true); }
    /// The same for connections that this side opens. The peer's certificate is verified, and its name: set it by
    /// `tls_stream::set_server_name`.
    static tls_context client(tls_context_options options = {}) { return tls_context(std::move(options), false); }

    /// Reads the files again. Handshakes that begin afterwards use what they hold now; connections that exist
    /// are not touched. Where a file cannot be read, or certificate and key do not match, nothing changes and
    /// `system_error` is thrown.
    void reload()
    {
        handle fresh = make(*options_, server_);
        const std::lock_guard lock(current_->mutex);
        current_->context = std::move(fresh);
    }

    [[nodiscard]] bool compact_records() const noexcept { return options_->compact_records; }

    /// OpenSSL's object of a new connection, which refers to the certificates of this moment. The caller owns
    /// it; null without memory.
    [[nodiscard]] SSL* make_session() const
    {
        const std::lock_guard lock(current_->mutex);
        return ::SSL_new(current_->context.get());
    }

private:
    struct free_context {
        void operator()(SSL_CTX* context) const noexcept { ::SSL_CTX_free(context); }
    };
    using handle = std::unique_ptr<SSL_CTX, free_context>;

    struct current {
        std::mutex mutex;
        handle context;
    };

    tls_context(tls_context_options options, bool is_server)
        : options_(std::make_shared<const tls_context_options>(std::move(options))),
          current_(std::make_shared<current>()),
          server_(is_server)
    {
        current_->context = make(*options_, server_);
    }

    [[noreturn]] static void fail(const std::string& what)
    {
        const unsigned long code = ::ERR_get_error();
        ::ERR_clear_error();
        throw system_error(detail::tls_error(code), what);
    }

    static handle make(const tls_context_options& options, bool is_server)
    {
        if (options.tickets > 16) throw std::invalid_argument("tls_context_options::tickets must be 0 to 16");
        std::string protocols;
        for (const std::string& each : options.application_protocols) {
            if (each.empty() || each.size() > 255)
                throw std::invalid_argument("tls_context_options::application_protocols must have 1 to 255 bytes each");
            protocols += static_cast<char>(each.size());
            protocols += each;
        }
        ::ERR_clear_error();
        handle context(::SSL_CTX_new(is_server ? ::TLS_server_method() : ::TLS_client_method()));
        SSL_CTX* const c = context.get();
        if (c == nullptr) fail("OpenSSL cannot make a TLS context");
        // OpenSSL would ask for the password of an encrypted key on the terminal, and block the event loop meanwhile.
        ::SSL_CTX_set_default_passwd_cb(c, [](char*, int, int, void*) { return -1; });
        ::SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
        ::SSL_CTX_set_security_level(c, 2);
        ::SSL_CTX_set_options(c, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
        ::SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
        ::SSL_CTX_set_num_tickets(c, options.tickets);
        if (options.tickets == 0) ::SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
        if (!options.certificate_chain_file.empty()) {
            if (::SSL_CTX_use_certificate_chain_file(c, options.certificate_chain_file.c_str()) != 1)
                fail("the certificate cannot be read: " + options.certificate_chain_file);
            if (::SSL_CTX_use_PrivateKey_file(c, options.private_key_file.c_str(), SSL_FILETYPE_PEM) != 1)
                fail("the private key cannot be read, is encrypted, or is not the certificate's: " +
                     options.private_key_file);
        } else if (is_server) {
            throw std::invalid_argument("tls_context_options::certificate_chain_file must name a server's certificate");
        }
        if (!options.peer_authorities_file.empty()) {
            if (::SSL_CTX_load_verify_locations(c, options.peer_authorities_file.c_str(), nullptr) != 1)
                fail("the authorities' certificates cannot be read: " + options.peer_authorities_file);
            ::SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        } else if (!is_server) {
            ::SSL_CTX_set_default_verify_paths(c);
            ::SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
        }
        if (is_server) {
            static constexpr unsigned char session_context[] =
                "holdfast"; // tickets of clients with certificates need one
            ::SSL_CTX_set_session_id_context(c, session_context, sizeof session_context - 1);
        }
        ::SSL_CTX_set_max_early_data(c, 0);
        if (!protocols.empty() || options.choose_context) {
            kept* const own = keep(c, {std::move(protocols), options.choose_context, ::SSL_CTX_get_cert_store(c)});
            if (!own->protocols.empty()) set_protocols(c, own->protocols, is_server);
            if (own->choose_context && is_server) {
                ::SSL_CTX_set_tlsext_servername_callback(c, &choose);
                ::SSL_CTX_set_tlsext_servername_arg(c, own);
            }
        }
        if (options.compact_records) ::SSL_CTX_set_keylog_callback(c, &detail::tls_handshake_secrets::on_key_log);
        return context;
    }

    /// What callbacks of OpenSSL's refer to: its context owns it, since handshakes may outlive this object.
    struct kept {
        std::string protocols;
        std::function<const tls_context*(std::string_view)> choose_context;
        X509_STORE* authorities; // the context's, which connections keep as the one that they began with
    };

    static kept* keep(SSL_CTX* c, kept values)
    {
        static const int index = ::SSL_CTX_get_ex_new_index(
            0, nullptr, nullptr, nullptr,
            [](void*, void* own, CRYPTO_EX_DATA*, int, long, void*) { delete static_cast<kept*>(own); });
        auto own = std::make_unique<kept>(std::move(values));
        if (::SSL_CTX_set_ex_data(c, index, own.get()) != 1) throw std::bad_alloc();
        return own.release();
    }

    /// OpenSSL's callback for the server's name.
    static int choose(SSL* ssl, int*, void* own) noexcept
    {
        // After a HelloRetryRequest this is called a second time, by the chosen context where that chooses too: the
        // connection stays that of the context which it began with, and which its session keeps.
        static const int first = ::SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
        if (void* const began_with = ::SSL_get_ex_data(ssl, first))
            own = began_with;
        else if (::SSL_set_ex_data(ssl, first, own) != 1)
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        const char* const host = ::SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        const tls_context* const chosen = static_cast<const kept*>(own)->choose_context(
            host != nullptr ? std::string_view(host) : std::string_view());
        if (chosen == nullptr) return SSL_TLSEXT_ERR_OK;
        // OpenSSL would go on with the chosen context's authorities: who may connect must not depend on a name that the
        // client states.
        X509_STORE* const authorities = static_cast<const kept*>(own)->authorities;
        ::X509_STORE_up_ref(authorities);
        const std::lock_guard lock(chosen->current_->mutex);
        if (::SSL_set_SSL_CTX(ssl, chosen->current_->context.get()) != nullptr &&
            ::SSL_set0_verify_cert_store(ssl, authorities) == 1)
            return SSL_TLSEXT_ERR_OK;
        ::X509_STORE_free(authorities);
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }

    static void set_protocols(SSL_CTX* c, const std::string& protocols, bool is_server)
    {
        if (!is_server) {
            ::SSL_CTX_set_alpn_protos(c, reinterpret_cast<const unsigned char*>(protocols.data()),
                                      static_cast<unsigned>(protocols.size()));
            return;
        }
        ::SSL_CTX_set_alpn_select_cb(
            c,
            [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offered,
               unsigned offered_size, void* of_context) {
                const auto* const ours = static_cast<const std::string*>(of_context);
                unsigned char* chosen = nullptr;
                if (::SSL_select_next_proto(&chosen, size, reinterpret_cast<const unsigned char*>(ours->data()),
                                            static_cast<unsigned>(ours->size()), offered,
                                            offered_size) != OPENSSL_NPN_NEGOTIATED)
                    return SSL_TLSEXT_ERR_ALERT_FATAL;
                *out = chosen;
                return SSL_TLSEXT_ERR_OK;
            },
            const_cast<std::string*>(&protocols));
    }

    std::shared_ptr<const tls_context_options> options_;
    std::shared_ptr<current> current_;
    bool server_;
};

} // namespace holdfast

#endif
