// holdfast: TLS 1.3 record protection without an SSL object: two keys, two nonces and two counters a connection.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_COMPACT_RECORDS_HPP
#define HOLDFAST_ADAPTERS_DETAIL_COMPACT_RECORDS_HPP

#include <holdfast/adapters/detail/tls_ciphers.hpp>
#include <holdfast/adapters/detail/tls_transport.hpp>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/core_names.h>
#include <openssl/params.h>
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace holdfast::detail {

/// Alerts that this side sends or has to know (RFC 8446, 6).
enum class tls_alert : std::uint8_t {
    close_notify = 0,
    unexpected_message = 10,
    bad_record_mac = 20,
    record_overflow = 22,
    decode_error = 50,
    illegal_parameter = 47,
    internal_error = 80,
    user_canceled = 90,
};

/// OpenSSL's reason for more records without data in a row than are accepted.
inline constexpr int tls_too_many_messages = SSL_R_UNEXPECTED_MESSAGE;

/// The types of records.
enum class tls_content : std::uint8_t { change_cipher_spec = 20, alert = 21, handshake = 22, application_data = 23 };

inline constexpr std::size_t tls_tag_bytes = 16;
inline constexpr std::size_t tls_nonce_bytes = 12;

struct tls_suite_parameters {
    std::size_t key_bytes;
    const EVP_MD* hash;
};

inline tls_suite_parameters parameters_of(tls_suite suite) noexcept
{
    switch (suite) {
    case tls_suite::aes_128_gcm:
        return {16, ::EVP_sha256()};
    case tls_suite::aes_256_gcm:
        return {32, ::EVP_sha384()};
    case tls_suite::chacha20_poly1305:
        break;
    }
    return {32, ::EVP_sha256()};
}

/// HKDF-Expand-Label of RFC 8446, 7.1, with an empty context; false where OpenSSL fails, for want of memory.
inline bool hkdf_expand_label(const EVP_MD* hash, std::span<const unsigned char> secret, std::string_view label,
                              std::span<unsigned char> out) noexcept
{
    std::array<unsigned char, 2 + 1 + 6 + 16 + 1> info{};
    constexpr std::string_view prefix = "tls13 ";
    std::size_t n = 0;
    info[n++] = static_cast<unsigned char>(out.size() >> 8U);
    info[n++] = static_cast<unsigned char>(out.size());
    info[n++] = static_cast<unsigned char>(prefix.size() + label.size());
    for (const char c : prefix)
        info[n++] = static_cast<unsigned char>(c);
    for (const char c : label)
        info[n++] = static_cast<unsigned char>(c);
    info[n++] = 0;
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&::EVP_PKEY_CTX_free)> context(
        ::EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr), &::EVP_PKEY_CTX_free);
    std::size_t size = out.size();
    return context && ::EVP_PKEY_derive_init(context.get()) == 1 &&
           ::EVP_PKEY_CTX_set_hkdf_mode(context.get(), EVP_PKEY_HKDEF_MODE_EXPAND_ONLY) == 1 &&
           ::EVP_PKEY_CTX_set_hkdf_md(context.get(), hash) == 1 &&
           ::EVP_PKEY_CTX_set1_hkdf_key(context.get(), secret.data(), static_cast<int>(secret.size())) == 1 &&
           ::EVP_PKEY_CTX_add1_hkdf_info(context.get(), info.data(), static_cast<int>(n)) == 1 &&
           ::EVP_PKEY_derive(context.get(), out.data(), &size) == 1 && size == out.size();
}

/// One direction of a connection: the traffic secret, and what is derived from it (RFC 8446, 7.3).
class tls_traffic_key {
public:
    tls_traffic_key() noexcept = default;
    tls_traffic_key(const tls_traffic_key&) = delete;
    ~tls_traffic_key()
    {
        tls_keyed_contexts::forget(*this, context_);
        ::OPENSSL_cleanse(bytes_.data(), bytes_.size());
    }

    /// Takes over a direction that has carried `records` records under this secret.
    bool begin(tls_suite suite, std::span<const unsigned char> secret, std::uint64_t records) noexcept
    {
        std::memcpy(bytes_.data(), secret.data(), secret.size());
        set_records(records);
        return derive(suite);
    }

    /// Goes on to the next secret, as a KeyUpdate says.
    bool update(tls_suite suite) noexcept
    {
        std::array<unsigned char, max_secret> next;
        const std::span<unsigned char> out(next.data(), secret(suite).size());
        const bool ok = hkdf_expand_label(parameters_of(suite).hash, secret(suite), "traffic upd", out);
        if (ok) std::memcpy(bytes_.data(), next.data(), out.size());
        ::OPENSSL_cleanse(next.data(), next.size());
        set_records(0);
        return ok && derive(suite);
    }

    /// How many records were protected with this key.
    [[nodiscard]] std::uint64_t records() const noexcept
    {
        std::uint64_t number = 0;
        for (std::size_t i = 0; i != sequence_bytes; ++i)
            number = number << 8U | bytes_[at_sequence + i];
        return number;
    }

    /// Seals a record of type `type` around the payload's parts into `out`, which has room for it: the size
    /// of the record, or 0 where OpenSSL fails.
    std::size_t seal(tls_suite suite, tls_content type, std::span<const std::span<const char>> parts, std::size_t size,
                     char* out) noexcept
    {
        auto* const record = reinterpret_cast<unsigned char*>(out);
        write_header(record, size + 1 + tls_tag_bytes);
        tls_keyed_contexts::lease lease;
        EVP_CIPHER_CTX* const context = start(suite, true, record, lease);
        if (context == nullptr) return 0;
        unsigned char* to = record + tls_header_bytes;
        int n = 0;
        for (const std::span<const char> part : parts) {
            if (::EVP_EncryptUpdate(context, to, &n, reinterpret_cast<const unsigned char*>(part.data()),
                                    static_cast<int>(part.size())) != 1)
                return 0;
            to += n;
        }
        const auto last = static_cast<unsigned char>(type);
        if (::EVP_EncryptUpdate(context, to, &n, &last, 1) != 1) return 0;
        to += n;
        if (::EVP_EncryptFinal_ex(context, to, &n) != 1) return 0;
        if (!get_tag(context, to)) return 0;
        return tls_header_bytes + size + 1 + tls_tag_bytes;
    }

    /// Opens a whole record in place. The size of the inner plaintext, its type and padding included; none
    /// where it was not sealed with this key and number.
    std::optional<std::size_t> open(tls_suite suite, std::span<char> record) noexcept
    {
        auto* const bytes = reinterpret_cast<unsigned char*>(record.data());
        const std::size_t size = record.size() - tls_header_bytes - tls_tag_bytes;
        tls_keyed_contexts::lease lease;
        EVP_CIPHER_CTX* const context = start(suite, false, bytes, lease);
        int n = 0, last = 0;
        unsigned char* const text = bytes + tls_header_bytes;
        if (context == nullptr || ::EVP_DecryptUpdate(context, text, &n, text, static_cast<int>(size)) != 1 ||
            !set_tag(context, text + size) || ::EVP_DecryptFinal_ex(context, text + n, &last) != 1)
            return std::nullopt;
        return size;
    }

    static void write_header(unsigned char* record, std::size_t length) noexcept
    {
        record[0] = static_cast<unsigned char>(tls_content::application_data);
        record[1] = 3;
        record[2] = 3;
        record[3] = static_cast<unsigned char>(length >> 8U);
        record[4] = static_cast<unsigned char>(length);
    }

private:
    static constexpr std::size_t max_secret = 48, max_key = 32, sequence_bytes = 8;
    static constexpr std::size_t at_key = max_secret, at_nonce = at_key + max_key,
                                 at_sequence = at_nonce + tls_nonce_bytes;

    [[nodiscard]] std::span<const unsigned char> secret(tls_suite suite) const noexcept
    {
        return {bytes_.data(), static_cast<std::size_t>(::EVP_MD_size(parameters_of(suite).hash))};
    }

    bool derive(tls_suite suite) noexcept
    {
        tls_keyed_contexts::forget(*this, context_); // the key before
        tls_cipher_contexts::forget_key(suite);
        const auto [key_bytes, hash] = parameters_of(suite);
        return hkdf_expand_label(hash, secret(suite), "key", {bytes_.data() + at_key, key_bytes}) &&
               hkdf_expand_label(hash, secret(suite), "iv", {bytes_.data() + at_nonce, tls_nonce_bytes});
    }

    void set_records(std::uint64_t number) noexcept
    {
        for (std::size_t i = sequence_bytes; i-- != 0; number >>= 8U)
            bytes_[at_sequence + i] = static_cast<unsigned char>(number);
    }

    static bool control(EVP_CIPHER_CTX* context, int command, unsigned char* tag) noexcept
    {
        return ::EVP_CIPHER_CTX_ctrl(context, command, static_cast<int>(tls_tag_bytes), tag) == 1;
    }
    // OpenSSL 3 translates the older call into newer ones, by comparing names; but an engine's cipher has the older alone.
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    static std::array<OSSL_PARAM, 2> tag_at(unsigned char* tag) noexcept
    {
        return {::OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, tls_tag_bytes),
                ::OSSL_PARAM_construct_end()};
    }
    static bool get_tag(EVP_CIPHER_CTX* context, unsigned char* tag) noexcept
    {
        return ::EVP_CIPHER_CTX_get_params(context, tag_at(tag).data()) == 1 ||
               control(context, EVP_CTRL_AEAD_GET_TAG, tag);
    }
    static bool set_tag(EVP_CIPHER_CTX* context, unsigned char* tag) noexcept
    {
        return ::EVP_CIPHER_CTX_set_params(context, tag_at(tag).data()) == 1 ||
               control(context, EVP_CTRL_AEAD_SET_TAG, tag);
    }
#else
    static bool get_tag(EVP_CIPHER_CTX* context, unsigned char* tag) noexcept
    {
        return control(context, EVP_CTRL_AEAD_GET_TAG, tag);
    }
    static bool set_tag(EVP_CIPHER_CTX* context, unsigned char* tag) noexcept
    {
        return control(context, EVP_CTRL_AEAD_SET_TAG, tag);
    }
#endif

    /// Has a context with the key, the record's nonce and the header that is authenticated. A key of many records gets one
    /// that keeps it.
    EVP_CIPHER_CTX* start(tls_suite suite, bool sealing, const unsigned char* header,
                          tls_keyed_contexts::lease& lease) noexcept
    {
        std::array<unsigned char, tls_nonce_bytes> nonce;
        std::memcpy(nonce.data(), bytes_.data() + at_nonce, nonce.size());
        for (std::size_t i = 0; i != sequence_bytes; ++i)
            nonce[tls_nonce_bytes - sequence_bytes + i] ^= bytes_[at_sequence + i];
        const std::uint64_t number = records();
        set_records(number + 1);
        const unsigned char* key = nullptr;
        lease = tls_keyed_contexts::find(*this, context_);
        if (!lease) {
            key = bytes_.data() + at_key;
            if (number % records_for_context == records_for_context - 1)
                lease = tls_keyed_contexts::take(suite, *this, context_);
        }
        EVP_CIPHER_CTX* const context = lease ? lease.context() : tls_cipher_contexts::get(suite, sealing);
        if (context == nullptr || ::EVP_CipherInit_ex(context, nullptr, nullptr, key, nonce.data(), sealing) != 1)
            return nullptr;
        if (lease && key != nullptr) lease.keyed_by(*this);
        int n = 0;
        return ::EVP_CipherUpdate(context, nullptr, &n, header, static_cast<int>(tls_header_bytes)) == 1 ? context
                                                                                                         : nullptr;
    }

    /// After so many records, and every so many again, a key without a context of its own tries to get one: what a
    /// connection sends before it is idle is less.
    static constexpr std::uint64_t records_for_context = 16;

    // Secret, key, nonce and the number of the next record, without gaps: there are two of these a connection.
    std::array<unsigned char, at_sequence + sequence_bytes> bytes_{};
    std::uint16_t context_ = tls_keyed_contexts::none; // that may have the key
};

/// A TLS 1.3 connection after its handshake, without OpenSSL's SSL object. The handshake, the key exchange
/// and the certificates are OpenSSL's, and so are the ciphers; the framing of records, alerts and KeyUpdate
/// are done here, as RFC 8446 says in 4.6.3, 5 and 6.
class compact_records {
public:
    /// Why reading a record led to no data.
    enum class outcome : std::uint8_t {
        data,       ///< plaintext is there, perhaps none
        incomplete, ///< more bytes are needed
        closed,     ///< the peer's close_notify
        alert,      ///< the peer's fatal alert, `alert()`; the reason says that it was received
        failed,     ///< a violation of the protocol, `reason()`; an alert `alert()` was sent
    };

    compact_records() noexcept = default;
    compact_records(const compact_records&) = delete;
    /// A context of another thread, one that is not for keys of many records, may keep this connection's key until its next
    /// record.
    ~compact_records() { tls_cipher_contexts::forget_key(suite_); }

    bool begin(tls_suite suite, bool is_client, std::span<const unsigned char> read_secret, std::uint64_t records_read,
               std::span<const unsigned char> write_secret, std::uint64_t records_written) noexcept
    {
        suite_ = suite;
        is_client_ = is_client;
        return in_.begin(suite, read_secret, records_read) && out_.begin(suite, write_secret, records_written);
    }

    [[nodiscard]] tls_alert alert() const noexcept { return alert_; }
    [[nodiscard]] bool failed() const noexcept { return state_ == state::failed; }
    /// Once it has failed: OpenSSL's reason for that, of the violation, or of the alert that was received.
    [[nodiscard]] int reason() const noexcept { return reason_ == 0 ? ERR_R_INTERNAL_ERROR : reason_; }

    /// Takes the next record from the bytes at hand and deals with alerts and KeyUpdates. `consumed` is how
    /// many of the bytes it took; the plaintext lies in them.
    outcome open(std::span<char> bytes, std::size_t& consumed, std::span<char>& plaintext,
                 tls_transport& transport) noexcept
    {
        consumed = 0;
        plaintext = {};
        if (state_ == state::failed) return outcome::failed;
        if (state_ == state::closed) return outcome::closed;
        if (bytes.size() < tls_header_bytes) return outcome::incomplete;
        const auto* const header = reinterpret_cast<const unsigned char*>(bytes.data());
        const std::size_t length = std::size_t{header[3]} << 8U | header[4];
        if (static_cast<tls_content>(header[0]) != tls_content::application_data)
            return fail(tls_alert::unexpected_message, SSL_R_BAD_RECORD_TYPE, transport);
        if (length > tls_max_plaintext + 256)
            return fail(tls_alert::record_overflow, SSL_R_ENCRYPTED_LENGTH_TOO_LONG, transport);
        if (length < 1 + tls_tag_bytes) return fail(tls_alert::bad_record_mac, SSL_R_LENGTH_TOO_SHORT, transport);
        if (bytes.size() < tls_header_bytes + length) return outcome::incomplete;
        consumed = tls_header_bytes + length;
        const std::optional<std::size_t> inner = in_.open(suite_, bytes.first(consumed));
        if (!inner) return fail(tls_alert::bad_record_mac, SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, transport);
        char* const text = bytes.data() + tls_header_bytes;
        std::size_t n = *inner;
        while (n != 0 && text[n - 1] == 0)
            --n; // padding
        if (n == 0) return fail(tls_alert::unexpected_message, SSL_R_BAD_RECORD_TYPE, transport);
        if (n - 1 > tls_max_plaintext) return fail(tls_alert::record_overflow, SSL_R_DATA_LENGTH_TOO_LONG, transport);
        const auto type = static_cast<tls_content>(text[n - 1]);
        const std::span<char> content(text, n - 1);
        if (type != tls_content::handshake && partial_ != 0)
            return fail(tls_alert::unexpected_message, SSL_R_UNEXPECTED_MESSAGE, transport);
        switch (type) {
        case tls_content::application_data:
            plaintext = content; // of this type alone: nothing else is data
            if (!content.empty())
                without_data_ = 0;
            else if (++without_data_ > max_without_data)
                return fail(tls_alert::unexpected_message, tls_too_many_messages, transport);
            return outcome::data;
        case tls_content::alert:
            return receive_alert(content, transport);
        case tls_content::handshake:
            return receive_handshake(content, transport);
        case tls_content::change_cipher_spec:
            break;
        }
        return fail(tls_alert::unexpected_message, SSL_R_BAD_RECORD_TYPE, transport);
    }

    /// Seals at most one record of the payload. False where OpenSSL fails: the connection is of no more use.
    bool seal(std::span<const std::span<const char>> parts, std::size_t size, tls_transport& transport) noexcept
    {
        if ((answer_due_ || out_.records() >= max_records_of_a_key) && !send_key_update(transport)) return false;
        return send(tls_content::application_data, parts, size, transport);
    }

    bool close(tls_transport& transport) noexcept
    {
        said_close_ = true; // nothing is sent after it: RFC 8446, 6.1
        return send_alert(1, tls_alert::close_notify, transport);
    }

    /// After how many records a key is replaced: RFC 8446, 5.5, allows 2^24.5 for AES-GCM.
    static constexpr std::uint64_t max_records_of_a_key = std::uint64_t{1} << 24U;

private:
    enum class state : std::uint8_t { open, closed, failed };

    bool send(tls_content type, std::span<const std::span<const char>> parts, std::size_t size,
              tls_transport& transport) noexcept
    {
        const std::span<char> room = transport.output(tls_header_bytes + size + 1 + tls_tag_bytes);
        const std::size_t sealed = out_.seal(suite_, type, parts, size, room.data());
        transport.sealed(sealed);
        return sealed != 0;
    }

    bool send_alert(unsigned char level, tls_alert what, tls_transport& transport) noexcept
    {
        const std::array<char, 2> text{static_cast<char>(level), static_cast<char>(what)};
        const std::span<const char> part(text);
        return send(tls_content::alert, {&part, 1}, text.size(), transport);
    }

    bool send_key_update(tls_transport& transport) noexcept
    {
        answer_due_ = false;
        static constexpr std::array<char, 5> message{24, 0, 0, 1, 0}; // update_not_requested
        const std::span<const char> part(message);
        return send(tls_content::handshake, {&part, 1}, message.size(), transport) && out_.update(suite_);
    }

    outcome fail(tls_alert why, int reason, tls_transport& transport) noexcept
    {
        alert_ = why;
        reason_ = static_cast<std::uint16_t>(reason);
        state_ = state::failed;
        if (!said_close_) (void)send_alert(2, why, transport);
        return outcome::failed;
    }

    outcome receive_alert(std::span<const char> text, tls_transport& transport) noexcept
    {
        // One alert a record, never a part of one: RFC 8446, 5.1 and 5.4.
        if (text.size() != 2) return fail(tls_alert::unexpected_message, SSL_R_INVALID_ALERT, transport);
        alert_ = static_cast<tls_alert>(text[1]);
        if (alert_ == tls_alert::user_canceled) // a close_notify follows
            return ++without_data_ > max_without_data
                       ? fail(tls_alert::unexpected_message, SSL_R_TOO_MANY_WARN_ALERTS, transport)
                       : outcome::data;
        if (alert_ == tls_alert::close_notify) {
            state_ = state::closed;
            return outcome::closed;
        }
        reason_ = static_cast<std::uint16_t>(SSL_AD_REASON_OFFSET + static_cast<int>(alert_));
        state_ = state::failed; // whatever its level says: RFC 8446, 6.2
        return outcome::alert;
    }

    /// Of the messages that may follow a handshake a server knows KeyUpdate alone; what a client gets
    /// besides, tickets, is passed over.
    outcome receive_handshake(std::span<const char> text, tls_transport& transport) noexcept
    {
        if (text.empty()) return fail(tls_alert::unexpected_message, SSL_R_UNEXPECTED_MESSAGE, transport);
        if (++without_data_ > max_without_data)
            return fail(tls_alert::unexpected_message, tls_too_many_messages, transport);
        while (!text.empty()) {
            if (partial_ < header_bytes) {
                message_ = message_ << 8U | static_cast<unsigned char>(text[0]);
                text = text.subspan(1);
                if (++partial_ != header_bytes) continue;
                const std::uint32_t length = message_ & max_length;
                if (message_ >> 24U == new_session_ticket && is_client_ && length != 0 && length <= 64 * 1024) continue;
                if (message_ >> 24U != key_update)
                    return fail(tls_alert::unexpected_message, SSL_R_UNEXPECTED_MESSAGE, transport);
                // A length that is wrong is decode_error, a value illegal_parameter: RFC 8446, 6.2 and 4.6.3.
                if (length != 1) return fail(tls_alert::decode_error, SSL_R_BAD_KEY_UPDATE, transport);
                continue;
            }
            if (message_ >> 24U == new_session_ticket) { // its rest is counted down in the header
                const std::size_t part = std::min<std::size_t>(message_ & max_length, text.size());
                message_ -= static_cast<std::uint32_t>(part);
                text = text.subspan(part);
                if ((message_ & max_length) == 0) partial_ = 0;
                continue;
            }
            partial_ = 0;
            const char requested = text[0];
            text = text.subspan(1);
            if (requested != 0 && requested != 1)
                return fail(tls_alert::illegal_parameter, SSL_R_BAD_KEY_UPDATE, transport);
            if (!text.empty()) // no message crosses a change of keys
                return fail(tls_alert::unexpected_message, SSL_R_NOT_ON_RECORD_BOUNDARY, transport);
            if (!in_.update(suite_)) return fail(tls_alert::internal_error, internal_error, transport);
            // An answer must precede the next application data, and one is enough for all requests before it (RFC 8446,
            // 4.6.3): while the peer reads nothing it waits for that data.
            if (requested == 1 && !said_close_) answer_due_ = true;
            if (answer_due_ && transport.state().unsent.size() == 0 && !send_key_update(transport))
                return fail(tls_alert::internal_error, internal_error, transport);
        }
        return outcome::data;
    }

    /// Records without data in a row that are accepted: more are an attack on the processor.
    static constexpr std::uint8_t max_without_data = 32;

    /// Of handshake messages (RFC 8446, 4).
    static constexpr std::uint8_t header_bytes = 4, new_session_ticket = 4, key_update = 24;
    static constexpr std::uint32_t max_length = 0xFFFFFF;
    static constexpr int internal_error = 0; // OpenSSL's does not fit into `reason_`

    tls_traffic_key in_, out_;
    std::uint32_t message_ = 0; // the header of a handshake message, as far as it has come
    std::uint16_t reason_ = internal_error;
    std::uint8_t partial_ = 0; // bytes of that header
    std::uint8_t without_data_ = 0;
    tls_suite suite_ = tls_suite::aes_128_gcm;
    tls_alert alert_ = tls_alert::close_notify;
    state state_ = state::open;
    bool is_client_ : 1 = false;
    bool answer_due_ : 1 = false; // to a KeyUpdate that requests one
    bool said_close_ : 1 = false;
};
static_assert(sizeof(compact_records) <= 216); // what malloc gives as one block of 224 bytes

} // namespace holdfast::detail

#endif
