// holdfast: a fuzz target: the records of a real session, cut, altered, swapped, repeated and left out, after their
// handshake: what is delivered is always the beginning of what was sent, and its end is never taken for a proper one
// where something is missing. The client is sent the alert that RFC 8446 names for the first record that is wrong.
// SPDX-License-Identifier: BSL-1.0
#include "../support/certificates.hpp"
#include "choices.hpp"

#include <holdfast/adapters/tls_context.hpp>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

using holdfast::detail::tls_engine;
using holdfast::detail::tls_step;

namespace {

const holdfast::tls_context& context(bool compact)
{
    static const tests::certificate files;
    static const auto make = [](bool with_compact) {
        return holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                              .private_key_file = files.key_file(),
                                              .tickets = 0,
                                              .compact_records = with_compact});
    };
    static const auto plain = make(false), of_compact = make(true);
    return compact ? of_compact : plain;
}

/// OpenSSL's client on memory, and an engine as the server, after their handshake.
class session {
public:
    explicit session(bool compact, int suite)
    {
        static constexpr const char* suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                                 "TLS_CHACHA20_POLY1305_SHA256"};
        fuzz::check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_) == 0);
        ::SSL_CTX_set_min_proto_version(clients_.get(), TLS1_3_VERSION);
        ::SSL_CTX_set_ciphersuites(clients_.get(), suites[suite]);
        client_.reset(::SSL_new(clients_.get()));
        ::SSL_set_bio(client_.get(), ::BIO_new(::BIO_s_mem()), ::BIO_new(::BIO_s_mem()));
        ::SSL_set_connect_state(client_.get());
        ::SSL_set_msg_callback(
            client_.get(), +[](int written, int, int type, const void* message, std::size_t size, SSL*, void* self) {
                if (written == 0 && type == SSL3_RT_ALERT && size == 2)
                    static_cast<session*>(self)->alert_ = static_cast<const unsigned char*>(message)[1];
            });
        ::SSL_set_msg_callback_arg(client_.get(), this);
        server_ = std::make_unique<tls_engine>(holdfast::detail::ssl_ptr(context(compact).make_session()));
        ::SSL_set_accept_state(server_->ssl());
        if (compact) server_->capture_secrets();
        for (bool server_done = false, client_done = false; !server_done || !client_done;) {
            client_done = ::SSL_do_handshake(client_.get()) == 1;
            send(take());
            if (!server_done) {
                server_->readable();
                const tls_step step = server_->handshake(ends_[0]);
                fuzz::check(!step.error);
                server_done = step.what == tls_step::next::done;
            }
            receive();
        }
        if (compact) fuzz::check(server_->make_compact());
    }
    ~session()
    {
        ::close(ends_[0]);
        if (ends_[1] >= 0) ::close(ends_[1]);
    }

    std::string seal(std::string_view text)
    {
        fuzz::check(::SSL_write(client_.get(), text.data(), static_cast<int>(text.size())) ==
                    static_cast<int>(text.size()));
        return take();
    }
    std::string key_update(bool requested)
    {
        ::SSL_key_update(client_.get(), requested ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
        ::SSL_do_handshake(client_.get());
        return take();
    }
    std::string close()
    {
        ::SSL_shutdown(client_.get());
        return take();
    }

    void send(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const auto n = ::send(ends_[1], bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n <= 0) return;
            bytes.remove_prefix(static_cast<std::size_t>(n));
        }
    }
    void end() { ::close(std::exchange(ends_[1], -1)); }

    /// The alert that the client was sent, after the server's end: -1 for none.
    int alert()
    {
        receive();
        std::array<char, 64> nothing;
        while (::SSL_read(client_.get(), nothing.data(), static_cast<int>(nothing.size())) > 0) {
        }
        ::ERR_clear_error();
        return alert_;
    }

    /// Reads what there is; the error of the end, if that has come.
    holdfast::error_code read(std::string& all, std::size_t room)
    {
        std::string to(room, '\0');
        for (;;) {
            server_->readable();
            const tls_step step = server_->read(ends_[0], {to.data(), to.size()});
            all.append(to, 0, step.bytes);
            if (step.error) return step.error;
            if (step.what != tls_step::next::done) return {};
            fuzz::check(step.bytes != 0);
        }
    }

private:
    std::string take()
    {
        std::string bytes(::BIO_ctrl_pending(::SSL_get_wbio(client_.get())), '\0');
        if (!bytes.empty()) ::BIO_read(::SSL_get_wbio(client_.get()), bytes.data(), static_cast<int>(bytes.size()));
        return bytes;
    }
    void receive()
    {
        std::array<char, 16384> bytes;
        for (;;) {
            const auto n = ::recv(ends_[1], bytes.data(), bytes.size(), MSG_DONTWAIT);
            if (n <= 0) return;
            ::BIO_write(::SSL_get_rbio(client_.get()), bytes.data(), static_cast<int>(n));
        }
    }

    int ends_[2] = {-1, -1};
    int alert_ = -1;
    std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> clients_{::SSL_CTX_new(::TLS_client_method()), &::SSL_CTX_free};
    std::unique_ptr<SSL, decltype(&::SSL_free)> client_{nullptr, &::SSL_free};
    std::unique_ptr<tls_engine> server_;
};

/// The alert for the first of these records that is not the one that was sent, as RFC 8446 says in 5.1, 5.2 and 6; -1 where
/// it is cut off, or all are there.
int alert_for(std::string_view altered, const std::vector<std::string>& sent)
{
    for (const std::string& each : sent) {
        if (!altered.starts_with(each)) break;
        altered.remove_prefix(each.size());
        if (&each == &sent.back()) return -1;
    }
    if (altered.size() < 5) return -1;
    const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(altered[i])); };
    const std::size_t length = byte(3) << 8U | byte(4);
    if (byte(0) != SSL3_RT_APPLICATION_DATA) return SSL_AD_UNEXPECTED_MESSAGE;
    if (length > 16384 + 256) return SSL_AD_RECORD_OVERFLOW;
    return length < 17 || altered.size() >= 5 + length ? SSL_AD_BAD_RECORD_MAC : -1;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choices(data, size);
    const bool compact = choices.below(2) == 1;
    session s(compact, static_cast<int>(choices.below(3)));

    std::vector<std::string> records;
    std::string text;
    const std::size_t count = 1 + choices.below(6);
    for (std::size_t i = 0; i != count; ++i) {
        if (const auto kind = choices.below(8); kind < 2) {
            records.push_back(s.key_update(kind == 1));
        } else {
            std::string part(1 + choices.below(kind == 7 ? 16384 : 40), static_cast<char>('a' + i));
            text += part;
            records.push_back(s.seal(part));
        }
    }
    records.push_back(s.close());
    const std::vector<std::string> sent_records = records;
    std::string sent;
    for (const std::string& each : records)
        sent += each;

    std::string altered;
    for (std::size_t changes = choices.below(3); changes != 0; --changes) {
        const std::size_t which = choices.below(records.size()), other = choices.below(records.size());
        switch (choices.below(6)) {
        case 0:
            records[which][choices.below(records[which].size())] ^= static_cast<char>(1U << choices.below(8));
            break;
        case 1:
            std::swap(records[which], records[other]);
            break;
        case 2:
            records[which] += std::string(records[other]); // repeated
            break;
        case 3:
            records[which] = choices.text(100); // left out, or bytes of the fuzzer's own
            break;
        case 4:
            records[which].resize(choices.below(records[which].size() + 1));
            break;
        case 5:
            break;
        }
        if (records[which].empty()) records[which] = " ";
    }
    for (const std::string& each : records)
        altered += each;

    std::string got;
    holdfast::error_code end;
    const std::size_t most = 1 + choices.below(20'000), room = 1 + choices.below(5000);
    for (std::size_t at = 0; at < altered.size() && !end; at += most) {
        s.send(std::string_view(altered).substr(at, most));
        end = s.read(got, room);
    }
    const int alert = s.alert();
    s.end();
    if (!end) end = s.read(got, room);
    fuzz::check(bool(end)); // the peer has ended its stream
    fuzz::check(got.size() <= text.size() && text.starts_with(got));
    if (end == holdfast::net::error::eof) fuzz::check(altered.starts_with(sent) && got == text);
    if (altered == sent) fuzz::check(end == holdfast::net::error::eof);
    // OpenSSL's own records: it also looks at the version, which we leave to the cipher.
    if (compact || altered == sent) fuzz::check(alert == alert_for(altered, sent_records));
    const holdfast::error_code first = end;
    fuzz::check(s.read(got, room) == first); // and so it stays
    return 0;
}
