// holdfast: one TLS connection on a descriptor: OpenSSL's SSL object, or after the handshake compact records. No Asio
// operations.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_TLS_ENGINE_HPP
#define HOLDFAST_ADAPTERS_DETAIL_TLS_ENGINE_HPP

#include <holdfast/adapters/detail/certificate_error.hpp>
#include <holdfast/adapters/detail/compact_records.hpp>
#include <holdfast/adapters/detail/tls_transport.hpp>
#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/ssl/error.hpp>
#else
#include <asio/ssl/error.hpp>
#endif

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast::detail {

/// An error of OpenSSL's, in Asio's category for them.
inline error_code tls_error(unsigned long code) noexcept
{
    return {static_cast<int>(code), net::error::get_ssl_category()};
}

/// The error with one of OpenSSL's reasons.
inline error_code tls_error_of_reason(int reason) noexcept
{
    return detail::tls_error(static_cast<unsigned long>(ERR_PACK(ERR_LIB_SSL, 0, reason)));
}

/// Empties OpenSSL's queue of errors, as its calls require before `SSL_get_error()`. Nearly always it is empty, which
/// costs much less to see than to make sure of.
inline void clear_tls_errors() noexcept
{
    if (::ERR_peek_error() != 0) ::ERR_clear_error();
}

struct free_ssl {
    void operator()(SSL* ssl) const noexcept { ::SSL_free(ssl); }
};
using ssl_ptr = std::unique_ptr<SSL, free_ssl>;

/// What OpenSSL's callbacks reveal during a handshake whose connection is to be compact: both traffic
/// secrets, and how many records were protected with them. OpenSSL's object owns it.
struct tls_handshake_secrets {
    std::array<unsigned char, 48> client{}, server{};
    std::uint8_t client_bytes = 0, server_bytes = 0;
    std::uint64_t records_read = 0, records_written = 0;

    ~tls_handshake_secrets()
    {
        ::OPENSSL_cleanse(client.data(), client.size());
        ::OPENSSL_cleanse(server.data(), server.size());
    }

    static int index() noexcept
    {
        static const int of_ours = ::SSL_get_ex_new_index(0, nullptr, nullptr, nullptr,
                                                          [](void*, void* own, CRYPTO_EX_DATA*, int, long, void*) {
                                                              delete static_cast<tls_handshake_secrets*>(own);
                                                          });
        return of_ours;
    }
    static tls_handshake_secrets* of(const SSL* ssl) noexcept
    {
        return static_cast<tls_handshake_secrets*>(::SSL_get_ex_data(ssl, index()));
    }

    /// OpenSSL's key log callback: lines as NSS writes them, "LABEL CLIENT_RANDOM SECRET" in hexadecimal.
    static void on_key_log(const SSL* ssl, const char* line) noexcept
    {
        tls_handshake_secrets* const self = of(ssl);
        if (self == nullptr) return;
        const std::string_view text(line);
        const std::string_view label = text.substr(0, text.find(' '));
        const std::string_view hex = text.substr(text.rfind(' ') + 1);
        const bool of_client = label == "CLIENT_TRAFFIC_SECRET_0";
        if ((!of_client && label != "SERVER_TRAFFIC_SECRET_0") || hex.size() > 2 * self->client.size()) return;
        auto& secret = of_client ? self->client : self->server;
        const auto digit = [](char c) {
            return static_cast<unsigned char>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        };
        for (std::size_t i = 0; i != hex.size() / 2; ++i)
            secret[i] = static_cast<unsigned char>(digit(hex[2 * i]) << 4U | digit(hex[2 * i + 1]));
        (of_client ? self->client_bytes : self->server_bytes) = static_cast<std::uint8_t>(hex.size() / 2);
    }

    /// OpenSSL's message callback: each side's Finished is the last message under the keys of the handshake.
    static void on_message(int written, int, int type, const void* message, std::size_t, SSL*,
                           void* self_as_void) noexcept
    {
        auto* const self = static_cast<tls_handshake_secrets*>(self_as_void);
        std::uint64_t& records = written != 0 ? self->records_written : self->records_read;
        if (type == SSL3_RT_HEADER)
            ++records;
        else if (type == SSL3_RT_HANDSHAKE && *static_cast<const unsigned char*>(message) == SSL3_MT_FINISHED)
            records = 0;
    }
};

/// What an engine's call came to.
struct tls_step {
    enum class next : std::uint8_t { done, wait_read, wait_write };

    next what = next::done;
    std::size_t bytes = 0;
    error_code error{};
};

/// One TLS connection. Its calls never block and never wait: they say what has to be waited for.
class tls_engine {
public:
    /// Takes over an SSL object whose role is set. `wants_compact` is for the caller to read.
    explicit tls_engine(ssl_ptr ssl, bool wants_compact = false) : ssl_(nullptr), wants_compact_(wants_compact)
    {
        BIO* const bio = ssl ? ::BIO_new(bio_method()) : nullptr;
        if (bio == nullptr) throw std::bad_alloc();
        ssl_ = ssl.release();
        ::SSL_set_bio(ssl_, bio, bio);
        ::SSL_set_mode(ssl_,
                       SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
        // The transport reads in large steps, into a buffer that an idle connection does not have.
        ::SSL_set_read_ahead(ssl_, 0);
        if (::SSL_is_init_finished(ssl_) != 0) limit_messages();
    }
    tls_engine(const tls_engine&) = delete;

    ~tls_engine()
    {
        if (compact_)
            delete records_;
        else
            ::SSL_free(ssl_);
    }

    /// OpenSSL's object; null once the records are compact.
    [[nodiscard]] SSL* ssl() const noexcept { return compact_ ? nullptr : ssl_; }

    [[nodiscard]] bool compact() const noexcept { return compact_; }
    [[nodiscard]] bool wants_compact() const noexcept { return wants_compact_; }

    /// Whether a handshake has been done.
    [[nodiscard]] bool has_handshaken() const noexcept { return compact_ || ::SSL_is_init_finished(ssl_) != 0; }

    /// What ALPN has negotiated.
    [[nodiscard]] std::string_view protocol() const noexcept
    {
        if (compact_) return negotiated_ ? std::string_view(negotiated_->protocol) : std::string_view();
        const unsigned char* text = nullptr;
        unsigned size = 0;
        ::SSL_get0_alpn_selected(ssl_, &text, &size);
        return {reinterpret_cast<const char*>(text), size};
    }

    /// The common name in the peer's certificate. May throw std::bad_alloc.
    [[nodiscard]] std::string peer_name() const
    {
        if (compact_) return negotiated_ ? negotiated_->peer : std::string();
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
        const std::unique_ptr<X509, decltype(&::X509_free)> peer(::SSL_get1_peer_certificate(ssl_), &::X509_free);
#else
        const std::unique_ptr<X509, decltype(&::X509_free)> peer(::SSL_get_peer_certificate(ssl_), &::X509_free);
#endif
        if (!peer) return {};
        X509_NAME* const subject = ::X509_get_subject_name(peer.get());
        const int place = ::X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
        const std::unique_ptr<BIO, decltype(&::BIO_free)> text(::BIO_new(::BIO_s_mem()), &::BIO_free);
        if (place < 0 || !text ||
            ::ASN1_STRING_print_ex(text.get(), ::X509_NAME_ENTRY_get_data(::X509_NAME_get_entry(subject, place)),
                                   ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB | ASN1_STRFLGS_UTF8_CONVERT) < 0)
            return {};
        char* bytes = nullptr;
        const long size = ::BIO_get_mem_data(text.get(), &bytes);
        return {bytes, static_cast<std::size_t>(size)};
    }

    /// Whether it is a client's that is to verify the peer, and does not know which name.
    [[nodiscard]] bool lacks_server_name() const noexcept
    {
        if (::SSL_is_server(ssl_) != 0 || (::SSL_get_verify_mode(ssl_) & SSL_VERIFY_PEER) == 0) return false;
        if (server_named_) return false;
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
        X509_VERIFY_PARAM* const wanted = ::SSL_get0_param(ssl_);
        if (::X509_VERIFY_PARAM_get0_host(wanted, 0) != nullptr) return false;
        char* const address = ::X509_VERIFY_PARAM_get1_ip_asc(wanted);
        const bool none = address == nullptr;
        ::OPENSSL_free(address);
        return none;
#else
        return true; // OpenSSL cannot be asked whether the user has named one
#endif
    }

    /// The verification of the peer knows its name.
    void note_server_name(bool named) noexcept { server_named_ = named; }

    /// How many bytes are held here that no readiness of the descriptor announces: plaintext, and records
    /// received but not opened. An end that was found after the last data counts as one.
    [[nodiscard]] std::size_t pending() const noexcept
    {
        return plaintext_.size() + state_.received.size() + (end_found_ ? 1 : 0) +
               (compact_ ? std::size_t{0} : static_cast<std::size_t>(::SSL_pending(ssl_)));
    }

    /// The descriptor was found readable.
    void readable() noexcept { state_.drained = false; }

    tls_step handshake(int descriptor) noexcept
    {
        if (lacks_server_name()) return {.error = net::error::invalid_argument};
        tls_transport transport(descriptor, state_);
        const use here(*this, transport);
        ::ERR_clear_error();
        const int result = ::SSL_do_handshake(ssl_);
        tls_step step = result == 1 ? tls_step{} : outcome_of(result);
        if (result == 1 && tls_handshake_secrets::of(ssl_) == nullptr) limit_messages();
        transport.flush();
        if (step.error) return step;
        if (state_.write_failure != 0) return failed(state_.write_failure);
        if (state_.unsent.size() != 0) step.what = tls_step::next::wait_write;
        return step;
    }

    /// Prepares for `make_compact()`: before the handshake. Throws std::bad_alloc.
    void capture_secrets()
    {
        if (tls_handshake_secrets::of(ssl_) != nullptr) return; // of a handshake that was refused before it began
        auto secrets = std::make_unique<tls_handshake_secrets>();
        if (::SSL_set_ex_data(ssl_, tls_handshake_secrets::index(), secrets.get()) != 1) throw std::bad_alloc();
        ::SSL_set_msg_callback(ssl_, &tls_handshake_secrets::on_message);
        ::SSL_set_msg_callback_arg(ssl_, secrets.release());
    }

    /// After the handshake: frees OpenSSL's object, where the protocol and the cipher suite allow that.
    /// Otherwise, and without memory, the connection stays as it is.
    bool make_compact() noexcept
    {
        if (compact_) return false;
        const std::unique_ptr<tls_handshake_secrets> secrets(tls_handshake_secrets::of(ssl_));
        if (!secrets) return false;
        ::SSL_set_ex_data(ssl_, tls_handshake_secrets::index(), nullptr);
        limit_messages();
        if (::SSL_version(ssl_) != TLS1_3_VERSION || ::SSL_has_pending(ssl_) != 0) return false;
        tls_suite suite{};
        switch (::SSL_CIPHER_get_cipher_nid(::SSL_get_current_cipher(ssl_))) {
        case NID_aes_128_gcm:
            suite = tls_suite::aes_128_gcm;
            break;
        case NID_aes_256_gcm:
            suite = tls_suite::aes_256_gcm;
            break;
        case NID_chacha20_poly1305:
            suite = tls_suite::chacha20_poly1305;
            break;
        default:
            return false;
        }
        const auto size = static_cast<std::size_t>(::EVP_MD_size(parameters_of(suite).hash));
        if (secrets->client_bytes != size || secrets->server_bytes != size) return false;
        const std::span<const unsigned char> client(secrets->client.data(), size), server(secrets->server.data(), size);
        const bool is_server = ::SSL_is_server(ssl_) != 0;
        std::unique_ptr<compact_records> records(new (std::nothrow) compact_records);
        if (!records || !records->begin(suite, !is_server, is_server ? client : server, secrets->records_read,
                                        is_server ? server : client, secrets->records_written))
            return false;
        try {
            if (std::string peer = peer_name(); !peer.empty() || !protocol().empty())
                negotiated_ = std::make_unique<const negotiated>(negotiated{std::string(protocol()), std::move(peer)});
        } catch (const std::bad_alloc&) {
            return false;
        }
        ::SSL_set_quiet_shutdown(ssl_, 1);
        ::SSL_free(ssl_);
        records_ = records.release();
        compact_ = true;
        return true;
    }

    /// Reads into `to`, which is not empty: all that has come, up to its size.
    tls_step read(int descriptor, std::span<char> to) noexcept
    {
        if (plaintext_.size() != 0) {
            const std::size_t n = std::min(to.size(), plaintext_.size());
            std::memcpy(to.data(), plaintext_.data(), n);
            plaintext_.consume(n);
            return {.bytes = n};
        }
        tls_transport transport(descriptor, state_);
        sent_since_read_ = 0;
        return compact_ ? read_compact(transport, to) : read_openssl(transport, to);
    }

    /// Seals and sends as much of the parts as fits into one system call; what the socket refuses of it is
    /// kept, and has to be flushed before the next.
    tls_step write(int descriptor, std::span<const std::span<const char>> parts) noexcept
    {
        tls_transport transport(descriptor, state_);
        const use here(*this, transport);
        std::size_t size = 0;
        for (const auto part : parts)
            size += part.size();
        tls_step step;
        if (transport.flush()) step = compact_ ? write_compact(transport, parts, size) : write_openssl(parts, size);
        return end_of_output(transport, step);
    }

    /// Sends what is kept.
    tls_step flush(int descriptor) noexcept
    {
        tls_transport transport(descriptor, state_);
        return end_of_output(transport, {});
    }

    /// Sends close_notify, once.
    tls_step shutdown(int descriptor) noexcept
    {
        tls_transport transport(descriptor, state_);
        const use here(*this, transport);
        tls_step step;
        if (shut_down_) {
            // has been said
        } else if (compact_) {
            if (!records_->failed() && !records_->close(transport)) step.error = net::error::no_memory;
        } else if (::SSL_in_init(ssl_) == 0) {
            ::ERR_clear_error();
            if (const int result = ::SSL_shutdown(ssl_); result < 0) step = outcome_of(result);
        }
        shut_down_ = true;
        step.what = tls_step::next::done;
        return end_of_output(transport, step);
    }

private:
    /// What the handshake has found out, kept for a compact connection where there is anything.
    struct negotiated {
        std::string protocol, peer;
    };

    /// For the duration of a call OpenSSL's descriptor is the transport. Outside of one it has none: calls of the user's
    /// find nothing there.
    class use {
    public:
        use(tls_engine& engine, tls_transport& transport) noexcept
            : bio_(engine.compact_ ? nullptr : ::SSL_get_rbio(engine.ssl_))
        {
            if (bio_ != nullptr) ::BIO_set_data(bio_, &transport);
        }
        ~use()
        {
            if (bio_ != nullptr) ::BIO_set_data(bio_, nullptr);
        }
        use(const use&) = delete;
        use& operator=(const use&) = delete;

    private:
        BIO* const bio_;
    };

    void limit_messages() noexcept
    {
        ::SSL_set_msg_callback(ssl_, &on_message);
        ::SSL_set_msg_callback_arg(ssl_, this);
    }

    /// OpenSSL's message callback after the handshake. OpenSSL answers any number of KeyUpdates, and of attempts to
    /// renegotiate, without returning to its caller; here they are accepted as the compact records accept them.
    static void on_message(int written, int, int type, const void* bytes, std::size_t, SSL*, void* engine) noexcept
    {
        if (written != 0 || (type != SSL3_RT_HEADER && type != SSL3_RT_INNER_CONTENT_TYPE)) return;
        if (*static_cast<const unsigned char*>(bytes) != SSL3_RT_HANDSHAKE) return;
        auto& self = *static_cast<tls_engine*>(engine);
        if (++self.without_data_ > max_without_data) self.state_.flooded = true;
    }

    static tls_transport* transport_of(BIO* bio) noexcept { return static_cast<tls_transport*>(::BIO_get_data(bio)); }

    static BIO_METHOD* bio_method() noexcept
    {
        static BIO_METHOD* const method = [] {
            BIO_METHOD* const made = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "holdfast");
            if (made == nullptr) return made;
            ::BIO_meth_set_create(made, [](BIO* bio) {
                ::BIO_set_init(bio, 1);
                return 1;
            });
            ::BIO_meth_set_read(made, [](BIO* bio, char* to, int size) {
                ::BIO_clear_retry_flags(bio);
                if (transport_of(bio) == nullptr) {
                    ::BIO_set_retry_read(bio);
                    return -1;
                }
                tls_transport& transport = *transport_of(bio);
                if (transport.state().flooded) return 0;
                std::span<char> at_hand = transport.available();
                if (at_hand.empty()) {
                    if (!transport.receive()) {
                        // At the end of the stream as well: OpenSSL would send an alert, and close_notify no more.
                        ::BIO_set_retry_read(bio);
                        return -1;
                    }
                    at_hand = transport.available();
                }
                const std::size_t n = std::min(at_hand.size(), static_cast<std::size_t>(size));
                std::memcpy(to, at_hand.data(), n);
                transport.consume(n);
                return static_cast<int>(n);
            });
            ::BIO_meth_set_write(made, [](BIO* bio, const char* from, int size) {
                ::BIO_clear_retry_flags(bio);
                if (transport_of(bio) == nullptr || !transport_of(bio)->accepts_output()) {
                    ::BIO_set_retry_write(bio);
                    return -1;
                }
                transport_of(bio)->send(from, static_cast<std::size_t>(size));
                return size;
            });
            ::BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) -> long {
                return command == BIO_CTRL_FLUSH ? 1 : 0; // sent at the end of the engine's call
            });
            return made;
        }();
        return method;
    }

    static tls_step failed(int number) noexcept
    {
        return {.error = error_code(number, net::error::get_system_category())};
    }

    /// The end of the TCP stream, or why it cannot be read any more.
    tls_step end_of_input() const noexcept
    {
        if (state_.read_failure != 0) return failed(state_.read_failure);
        if (state_.ended_here) return {.error = net::error::eof};
        return {.error = net::ssl::error::stream_truncated}; // without close_notify
    }

    /// What OpenSSL's last call on this connection came to.
    tls_step outcome_of(int result) noexcept
    {
        switch (::SSL_get_error(ssl_, result)) {
        case SSL_ERROR_WANT_READ:
            if (state_.ended || state_.read_failure != 0) return end_of_input();
            return {.what = tls_step::next::wait_read};
        case SSL_ERROR_WANT_WRITE:
            return {.what = tls_step::next::wait_write};
        case SSL_ERROR_ZERO_RETURN:
            return {.error = net::error::eof};
        default:
            break;
        }
        unsigned long code = ::ERR_get_error();
        ::ERR_clear_error();
        if (code == 0) // OpenSSL reports a failure once
            code = failure_;
        else
            failure_ = static_cast<std::uint32_t>(code);
        if (state_.flooded) return {.error = detail::tls_error_of_reason(tls_too_many_messages)};
        if (state_.ended || state_.read_failure != 0) return end_of_input();
        if (state_.write_failure != 0) return failed(state_.write_failure);
        if (code == 0) return {.error = net::ssl::error::stream_truncated};
        if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
            if (const long why = ::SSL_get_verify_result(ssl_); why != X509_V_OK)
                return {.error = error_code(std::error_code(static_cast<int>(why), certificate_category()))};
        return {.error = tls_error(code)};
    }

    tls_step read_openssl(tls_transport& transport, std::span<char> to) noexcept
    {
        const use here(*this, transport);
        detail::clear_tls_errors();
        std::size_t total = 0;
        while (total != to.size()) {
            std::size_t n = 0;
            const int result = ::SSL_read_ex(ssl_, to.data() + total, to.size() - total, &n);
            if (result != 1) {
                if (total != 0) { // an error comes again with the next call
                    end_found_ = bool(outcome_of(result).error);
                    break;
                }
                return outcome_of(result);
            }
            total += n;
            without_data_ = 0;
            if (::SSL_pending(ssl_) == 0 && transport.available().empty()) break;
        }
        return {.bytes = total};
    }

    tls_step read_compact(tls_transport& transport, std::span<char> to) noexcept
    {
        if (lost_) return {.error = net::error::no_memory};
        std::size_t total = 0;
        for (;;) {
            std::size_t consumed = 0;
            std::span<char> text;
            const auto outcome = records_->open(transport.available(), consumed, text, transport);
            const std::size_t n = std::min(text.size(), to.size() - total);
            if (n != 0) std::memcpy(to.data() + total, text.data(), n);
            total += n;
            const bool kept = plaintext_.append(text.data() + n, text.size() - n);
            if (!text.empty())
                ::OPENSSL_cleanse(text.data(), text.size()); // the buffer goes back to the stack or the heap
            transport.consume(consumed);
            if (!kept) { // what follows must not be delivered; `n` is not 0
                end_found_ = lost_ = true;
                return {.bytes = total};
            }
            switch (outcome) {
            case compact_records::outcome::data:
                if (total == to.size() || (total != 0 && transport.available().empty())) return {.bytes = total};
                break;
            case compact_records::outcome::incomplete:
                if (total != 0) return {.bytes = total};
                if (transport.receive()) break;
                if (transport.state().ended || transport.state().read_failure != 0) return end_of_input();
                return {.what = tls_step::next::wait_read};
            case compact_records::outcome::closed:
                end_found_ = true; // it comes again with the next call
                if (total != 0) return {.bytes = total};
                return {.error = net::error::eof};
            case compact_records::outcome::alert:
            case compact_records::outcome::failed:
                end_found_ = true;
                if (total != 0) return {.bytes = total};
                return {.error = detail::tls_error_of_reason(records_->reason())};
            }
        }
    }

    /// Records are small while a peer waits for the first of them, so that it can open each segment that
    /// comes, and large afterwards.
    [[nodiscard]] std::size_t record_size() noexcept
    {
        return sent_since_read_ < small_until ? small_record : tls_max_plaintext;
    }

    /// Calls `seal(parts, size)` for the parts of each record, until `size` bytes or a system call's worth
    /// are sealed.
    template <class Seal>
    std::size_t in_records(std::span<const std::span<const char>> parts, std::size_t size, Seal seal) noexcept
    {
        std::size_t total = 0, part = 0, begin = 0;
        while (total != size && total < most_in_one_call) {
            const std::size_t wanted = std::min({size - total, record_size(), most_in_one_call - total});
            std::array<std::span<const char>, 16> of_record;
            std::size_t count = 0, n = 0;
            while (n != wanted && count != of_record.size()) {
                const std::span<const char> rest = parts[part].subspan(begin);
                const std::span<const char> taken = rest.first(std::min(rest.size(), wanted - n));
                if (!taken.empty()) of_record[count++] = taken;
                n += taken.size();
                begin += taken.size();
                if (begin == parts[part].size()) {
                    ++part;
                    begin = 0;
                }
            }
            if (!seal(std::span<const std::span<const char>>(of_record.data(), count), n)) break;
            total += n;
            sent_since_read_ = static_cast<std::uint16_t>(std::min<std::size_t>(sent_since_read_ + n, small_until));
        }
        return total;
    }

    tls_step write_compact(tls_transport& transport, std::span<const std::span<const char>> parts,
                           std::size_t size) noexcept
    {
        if (records_->failed()) return {.error = detail::tls_error_of_reason(records_->reason())};
        if (shut_down_) return {.error = net::error::shut_down};
        bool ok = true;
        const std::size_t n = in_records(
            parts, size, [&](auto record, std::size_t bytes) { return ok = records_->seal(record, bytes, transport); });
        if (!ok) return {.bytes = n, .error = detail::tls_error_of_reason(ERR_R_INTERNAL_ERROR)};
        return {.bytes = n};
    }

    tls_step write_openssl(std::span<const std::span<const char>> parts, std::size_t size) noexcept
    {
        detail::clear_tls_errors();
        tls_step step;
        const std::size_t n = in_records(parts, size, [&](auto record, std::size_t bytes) {
            std::array<char, tls_max_plaintext> whole;
            const char* text = record.front().data();
            if (record.size() != 1) {
                std::size_t at = 0;
                for (const auto part : record) {
                    std::memcpy(whole.data() + at, part.data(), part.size());
                    at += part.size();
                }
                text = whole.data();
            }
            std::size_t written = 0;
            const int result = ::SSL_write_ex(ssl_, text, bytes, &written);
            if (result == 1) return written == bytes;
            step = outcome_of(result);
            return false;
        });
        if (n != 0) return {.bytes = n}; // an error comes again with the next call
        return step;
    }

    tls_step end_of_output(tls_transport& transport, tls_step step) noexcept
    {
        const bool sent = transport.flush();
        if (step.error) return step;
        if (state_.write_failure != 0) {
            tls_step failure = failed(state_.write_failure);
            failure.bytes = step.bytes;
            return failure;
        }
        if (!sent) step.what = tls_step::next::wait_write;
        return step;
    }

    static constexpr std::uint8_t max_without_data = 32;
    static constexpr std::size_t small_record = 1360; // with its overhead a segment of Ethernet's
    static constexpr std::uint16_t small_until = 32 * 1024;
    static constexpr std::size_t most_in_one_call = tls_max_plaintext;

    // There is one for each connection: its members are ordered, and as narrow, as its size requires.
    union {
        SSL* ssl_;
        compact_records* records_; // once it is compact
    };
    std::unique_ptr<const negotiated> negotiated_;
    tls_transport_state state_;
    tls_bytes plaintext_;               // opened, and more than the reader had room for
    std::uint32_t failure_ = 0;         // OpenSSL's code
    std::uint16_t sent_since_read_ = 0; // up to `small_until`
    std::uint8_t without_data_ = 0;     // records of handshake messages in a row, after the handshake
    bool compact_ : 1 = false;
    const bool wants_compact_ : 1;
    bool server_named_ : 1 = false;
    bool shut_down_ : 1 = false;
    bool end_found_ : 1 = false; // after data that was returned first
    bool lost_ : 1 = false;      // plaintext, for want of memory
};

} // namespace holdfast::detail

#endif
