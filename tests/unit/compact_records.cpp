// holdfast: tests of compact_records against the trace of RFC 8448, 3: keys, a record in each direction, and the
// counters.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/adapters/detail/compact_records.hpp>
#include <holdfast/adapters/detail/tls_engine.hpp>

#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using holdfast::detail::compact_records;
using holdfast::detail::tls_suite;

std::string bytes(std::string_view hex)
{
    std::string all;
    for (std::size_t i = 0; i + 1 < hex.size();) {
        if (hex[i] == ' ') {
            ++i;
            continue;
        }
        all += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
        i += 2;
    }
    return all;
}

std::span<const unsigned char> span_of(const std::string& text)
{
    return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

const std::string client_secret =
    bytes("9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5");
const std::string server_secret =
    bytes("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43");
const std::string client_record =
    bytes("17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b "
          "98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee "
          "bb 21 69 49 15 e4");

std::string payload()
{
    std::string text;
    for (int i = 0; i != 50; ++i)
        text += static_cast<char>(i);
    return text;
}

struct no_socket {
    holdfast::detail::tls_transport_state state;
    holdfast::detail::tls_transport transport{-1, state};
};

} // namespace

TEST_CASE("the keys of RFC 8448 come from its secrets", "[tls]")
{
    const auto derived = [](const std::string& secret, std::string_view label, std::size_t size) {
        std::string out(size, '\0');
        REQUIRE(holdfast::detail::hkdf_expand_label(::EVP_sha256(), span_of(secret), label,
                                                    {reinterpret_cast<unsigned char*>(out.data()), out.size()}));
        return out;
    };
    CHECK(derived(server_secret, "key", 16) == bytes("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56"));
    CHECK(derived(server_secret, "iv", 12) == bytes("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
    CHECK(derived(client_secret, "key", 16) == bytes("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51"));
    CHECK(derived(client_secret, "iv", 12) == bytes("5b 78 92 3d ee 08 57 90 33 e5 23 d9"));
}

TEST_CASE("the client's record of RFC 8448 is opened, and the same one is sealed", "[tls]")
{
    compact_records server;
    REQUIRE(server.begin(tls_suite::aes_128_gcm, false, span_of(client_secret), 0, span_of(server_secret), 0));
    no_socket p;
    std::string record = client_record;
    std::size_t consumed = 0;
    std::span<char> text;
    for (std::size_t n = 0; n != record.size(); ++n)
        REQUIRE(server.open({record.data(), n}, consumed, text, p.transport) == compact_records::outcome::incomplete);
    REQUIRE(server.open(record, consumed, text, p.transport) == compact_records::outcome::data);
    CHECK(consumed == record.size());
    CHECK(std::string(text.data(), text.size()) == payload());

    compact_records client;
    REQUIRE(client.begin(tls_suite::aes_128_gcm, true, span_of(server_secret), 0, span_of(client_secret), 0));
    const std::string whole = payload();
    const std::span<const char> parts[] = {std::span(whole).first(7), std::span(whole).subspan(7)};
    char* const room = p.transport.output(100).data();
    REQUIRE(client.seal(parts, whole.size(), p.transport));
    CHECK(std::string(room, client_record.size()) == client_record);
}

TEST_CASE("an opened record cannot be opened a second time", "[tls]")
{
    compact_records server;
    REQUIRE(server.begin(tls_suite::aes_128_gcm, false, span_of(client_secret), 0, span_of(server_secret), 0));
    no_socket p;
    std::size_t consumed = 0;
    std::span<char> text;
    std::string record = client_record;
    REQUIRE(server.open(record, consumed, text, p.transport) == compact_records::outcome::data);
    record = client_record;
    CHECK(server.open(record, consumed, text, p.transport) == compact_records::outcome::failed);
    CHECK(server.alert() == holdfast::detail::tls_alert::bad_record_mac);
    CHECK(text.empty());
}

TEST_CASE("a key that has sealed as many records as it may is replaced before the next", "[tls]")
{
    compact_records server, client;
    REQUIRE(server.begin(tls_suite::aes_128_gcm, false, span_of(client_secret), 0, span_of(server_secret),
                         compact_records::max_records_of_a_key - 1));
    REQUIRE(client.begin(tls_suite::aes_128_gcm, true, span_of(server_secret),
                         compact_records::max_records_of_a_key - 1, span_of(client_secret), 0));
    no_socket p;
    std::string sent;
    for (const char* text : {"last of the old key", "first of the new"}) {
        const std::string whole = text;
        const std::span<const char> part(whole);
        char* const room = p.transport.output(1000).data();
        REQUIRE(server.seal({&part, 1}, whole.size(), p.transport));
        sent.append(room, p.transport.output(0).data());
    }
    std::string got;
    std::span<char> rest(sent);
    while (!rest.empty()) {
        std::size_t consumed = 0;
        std::span<char> text;
        REQUIRE(client.open(rest, consumed, text, p.transport) == compact_records::outcome::data);
        got.append(text.data(), text.size());
        rest = rest.subspan(consumed);
    }
    CHECK(got == "last of the old keyfirst of the new");
}

namespace {

using holdfast::detail::tls_alert;
using holdfast::detail::tls_content;

/// What a server makes of records that a client has sealed, of these types and texts: the last one's outcome, the
/// alert that was sent for it, and the reason.
struct verdict {
    compact_records::outcome outcome = compact_records::outcome::incomplete;
    int alert = -1;
    int reason = 0;
};

verdict judge(const std::vector<std::pair<int, std::string>>& records, bool protect = true)
{
    compact_records server;
    REQUIRE(server.begin(tls_suite::aes_128_gcm, false, span_of(client_secret), 0, span_of(server_secret), 0));
    holdfast::detail::tls_traffic_key client, answers;
    REQUIRE(client.begin(tls_suite::aes_128_gcm, span_of(client_secret), 0));
    REQUIRE(answers.begin(tls_suite::aes_128_gcm, span_of(server_secret), 0));
    no_socket p;
    char* const sent = p.transport.output(1000).data();
    verdict v;
    for (const auto& [type, text] : records) {
        const std::span<const char> part(text);
        std::string record(text.size() + 22, '\0');
        if (protect)
            REQUIRE(client.seal(tls_suite::aes_128_gcm, static_cast<tls_content>(type), {&part, 1}, text.size(),
                                record.data()) == record.size());
        else
            record = text;
        std::size_t consumed = 0;
        std::span<char> plaintext;
        v.outcome = server.open(record, consumed, plaintext, p.transport);
        CHECK(plaintext.empty()); // no text of another type is delivered
        if (text == std::string("\x18\0\0\1\0", 5)) REQUIRE(client.update(tls_suite::aes_128_gcm));
    }
    const auto size = static_cast<std::size_t>(p.transport.output(0).data() - sent);
    if (size != 0 && v.outcome == compact_records::outcome::failed) {
        REQUIRE(answers.open(tls_suite::aes_128_gcm, {sent, size}) == 3);
        CHECK(sent[5] == 2);
        CHECK(sent[7] == 21);
        v.alert = static_cast<unsigned char>(sent[6]);
    }
    if (server.failed()) v.reason = server.reason();
    return v;
}

} // namespace

TEST_CASE("each violation has the alert of RFC 8446, and as its reason what was wrong, not an alert received", "[tls]")
{
    const auto fails = [](const verdict& v, int alert, int reason) {
        CHECK(v.outcome == compact_records::outcome::failed);
        CHECK(v.alert == alert);
        CHECK(v.reason == reason);
    };
    using text = std::string;
    fails(judge({{21, ""}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_INVALID_ALERT);
    fails(judge({{21, text("\1", 1)}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_INVALID_ALERT);
    fails(judge({{21, text("\1\0\1\0", 4)}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_INVALID_ALERT);
    fails(judge({{20, text("\1", 1)}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_BAD_RECORD_TYPE);
    fails(judge({{99, "x"}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_BAD_RECORD_TYPE);
    fails(judge({{0, ""}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_BAD_RECORD_TYPE); // padding alone
    fails(judge({{22, ""}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_UNEXPECTED_MESSAGE);
    fails(judge({{22, text("\x18\0\0\0", 4)}}), SSL_AD_DECODE_ERROR, SSL_R_BAD_KEY_UPDATE);
    fails(judge({{22, text("\x18\0\0\2\0\0", 6)}}), SSL_AD_DECODE_ERROR, SSL_R_BAD_KEY_UPDATE);
    fails(judge({{22, text("\x18\0\0\1\2", 5)}}), SSL_AD_ILLEGAL_PARAMETER, SSL_R_BAD_KEY_UPDATE);
    fails(judge({{22, text("\x18\0\0\1\0\x18", 6)}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_NOT_ON_RECORD_BOUNDARY);
    fails(judge({{22, text("\x18\0", 2)}, {23, ""}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_UNEXPECTED_MESSAGE);
    fails(judge({{22, text("\4\0\0\1\0", 5)}}), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_UNEXPECTED_MESSAGE);
    fails(judge({{23, text(16'385, 'x')}}), SSL_AD_RECORD_OVERFLOW, SSL_R_DATA_LENGTH_TOO_LONG);
    const std::vector<std::pair<int, text>> updates(33, {22, text("\x18\0\0\1\0", 5)}), empty(33, {23, ""}),
        warnings(33, {21, text("\1\x5a", 2)});
    fails(judge(updates), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_UNEXPECTED_MESSAGE);
    fails(judge(empty), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_UNEXPECTED_MESSAGE);
    fails(judge(warnings), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_TOO_MANY_WARN_ALERTS);
    text forged("\x17\3\3\0\x19", 5);
    forged.append(25, 'x');
    fails(judge({{0, forged}}, false), SSL_AD_BAD_RECORD_MAC, SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC);
    fails(judge({{0, text("\x17\3\3\0\0", 5)}}, false), SSL_AD_BAD_RECORD_MAC, SSL_R_LENGTH_TOO_SHORT);
    fails(judge({{0, text("\x17\3\3\x41\1", 5)}}, false), SSL_AD_RECORD_OVERFLOW, SSL_R_ENCRYPTED_LENGTH_TOO_LONG);
    fails(judge({{0, text("\x15\3\3\0\2\2\x28", 7)}}, false), SSL_AD_UNEXPECTED_MESSAGE, SSL_R_BAD_RECORD_TYPE);
}

TEST_CASE("an alert that was received is the reason, and none is sent for it", "[tls]")
{
    const verdict v = judge({{21, std::string("\2\x28", 2)}});
    CHECK(v.outcome == compact_records::outcome::alert);
    CHECK(v.reason == SSL_AD_REASON_OFFSET + SSL_AD_HANDSHAKE_FAILURE);
    CHECK(v.alert == -1);
    CHECK(judge({{21, std::string("\1\0", 2)}}).outcome == compact_records::outcome::closed);
}

namespace {

/// An object in memory that is looked at before and after its end.
template <class T>
struct watched {
    watched() : object(::new(static_cast<void*>(memory)) T) {}

    /// Whether eight bytes in a row of this are in its memory.
    [[nodiscard]] bool holds(std::string_view secret) const
    {
        std::string seen(sizeof(T), '\0');
        std::memcpy(seen.data(), memory, sizeof(T));
        for (std::size_t i = 0; i + 8 <= secret.size(); ++i)
            if (seen.find(secret.substr(i, 8)) != seen.npos) return true;
        return false;
    }
    void end() { object->~T(); }

    alignas(T) unsigned char memory[sizeof(T)] = {};
    T* object;
};

} // namespace

TEST_CASE("no secret, key or nonce stays in the memory of what has held it, nor the ones that were replaced", "[tls]")
{
    const std::string key =
        bytes("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51"); // RFC 8448's, of the client's secret
    const std::string nonce = bytes("5b 78 92 3d ee 08 57 90 33 e5 23 d9");
    watched<holdfast::detail::tls_traffic_key> direction;
    REQUIRE(direction.object->begin(tls_suite::aes_128_gcm, span_of(client_secret), 0));
    for (const std::string& each : {client_secret, key, nonce})
        CHECK(direction.holds(each));
    REQUIRE(direction.object->update(tls_suite::aes_128_gcm));
    std::string next(32, '\0');
    REQUIRE(holdfast::detail::hkdf_expand_label(::EVP_sha256(), span_of(client_secret), "traffic upd",
                                                {reinterpret_cast<unsigned char*>(next.data()), next.size()}));
    CHECK(direction.holds(next));
    for (const std::string& each : {client_secret, key, nonce})
        CHECK_FALSE(direction.holds(each));
    direction.end();
    CHECK_FALSE(direction.holds(next));

    watched<compact_records> both;
    REQUIRE(both.object->begin(tls_suite::aes_128_gcm, false, span_of(client_secret), 0, span_of(server_secret), 0));
    for (const std::string& each : {client_secret, server_secret, key, nonce})
        CHECK(both.holds(each));
    both.end();
    for (const std::string& each : {client_secret, server_secret, key, nonce})
        CHECK_FALSE(both.holds(each));

    watched<holdfast::detail::tls_handshake_secrets> captured;
    std::memcpy(captured.object->client.data(), client_secret.data(), client_secret.size());
    std::memcpy(captured.object->server.data(), server_secret.data(), server_secret.size());
    CHECK(captured.holds(client_secret));
    captured.end();
    for (const std::string& each : {client_secret, server_secret})
        CHECK_FALSE(captured.holds(each));
}

TEST_CASE("tickets are passed over by a client, cut at every byte, and what follows them is read", "[tls]")
{
    using text = std::string;
    const text ticket = text("\4\0\1\4", 4) + text(260, 't'), key_update("\x18\0\0\1\0", 5);
    const text messages = ticket + ticket + key_update;
    const auto read_all = [&](const std::vector<text>& pieces) {
        compact_records client;
        REQUIRE(client.begin(tls_suite::aes_128_gcm, true, span_of(server_secret), 0, span_of(client_secret), 0));
        holdfast::detail::tls_traffic_key server;
        REQUIRE(server.begin(tls_suite::aes_128_gcm, span_of(server_secret), 0));
        no_socket p;
        const auto open = [&](tls_content type, const text& content) {
            const std::span<const char> part(content);
            text record(content.size() + 22, '\0');
            REQUIRE(server.seal(tls_suite::aes_128_gcm, type, {&part, 1}, content.size(), record.data()) ==
                    record.size());
            std::size_t consumed = 0;
            std::span<char> plaintext;
            REQUIRE(client.open(record, consumed, plaintext, p.transport) == compact_records::outcome::data);
            return text(plaintext.data(), plaintext.size());
        };
        for (const text& each : pieces)
            CHECK(open(tls_content::handshake, each).empty());
        REQUIRE(server.update(tls_suite::aes_128_gcm));
        CHECK(open(tls_content::application_data, "data") == "data");
    };
    read_all({messages});
    for (std::size_t cut = 1; cut != messages.size(); ++cut)
        read_all({messages.substr(0, cut), messages.substr(cut)});
    std::vector<text> bytes;
    for (const char byte : text("\4\0\0\2xy", 6) + key_update)
        bytes.emplace_back(1, byte);
    read_all(bytes);
}

TEST_CASE("a KeyUpdate that is requested while nothing can be sent precedes the next data, once", "[tls]")
{
    compact_records server;
    REQUIRE(server.begin(tls_suite::aes_128_gcm, false, span_of(client_secret), 0, span_of(server_secret), 0));
    holdfast::detail::tls_traffic_key client, answers;
    REQUIRE(client.begin(tls_suite::aes_128_gcm, span_of(client_secret), 0));
    REQUIRE(answers.begin(tls_suite::aes_128_gcm, span_of(server_secret), 0));
    no_socket p;
    REQUIRE(p.state.unsent.append("sealed before", 13));
    char* const sent = p.transport.output(1000).data();
    const std::string request("\x18\0\0\1\1", 5);
    for (int i = 0; i != 3; ++i) {
        std::string record(request.size() + 22, '\0');
        const std::span<const char> part(request);
        REQUIRE(client.seal(tls_suite::aes_128_gcm, tls_content::handshake, {&part, 1}, request.size(),
                            record.data()) == record.size());
        REQUIRE(client.update(tls_suite::aes_128_gcm));
        std::size_t consumed = 0;
        std::span<char> plaintext;
        REQUIRE(server.open(record, consumed, plaintext, p.transport) == compact_records::outcome::data);
    }
    CHECK(p.transport.output(0).data() == sent);
    p.state.unsent.clear();
    const std::span<const char> data("data", 4);
    REQUIRE(server.seal({&data, 1}, 4, p.transport));
    REQUIRE(server.seal({&data, 1}, 4, p.transport));
    std::string all(sent, p.transport.output(0).data());
    std::span<char> rest(all);
    const auto next = [&](std::size_t size) {
        const std::span<char> record = rest.first(size + 22);
        rest = rest.subspan(record.size());
        REQUIRE(answers.open(tls_suite::aes_128_gcm, record) == size + 1);
        return std::string(record.data() + 5, size + 1);
    };
    CHECK(next(5) == std::string("\x18\0\0\1\0\x16", 6)); // update_not_requested
    REQUIRE(answers.update(tls_suite::aes_128_gcm));
    CHECK(next(4) == "data\x17");
    CHECK(next(4) == "data\x17");
    CHECK(rest.empty());
}

TEST_CASE("the nonce of each record is the key's, with the record's number in it, up to the last number", "[tls]")
{
    const auto nonce = bytes("5b 78 92 3d ee 08 57 90 33 e5 23 d9"); // RFC 8448's, of the client's secret
    const auto key = bytes("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51");
    for (const std::uint64_t number : {0xFFULL, 0x100ULL, 0xFFFFFFULL, 0xFFFFFFFFULL, 0x0123456789ABCDEFULL}) {
        INFO(number);
        holdfast::detail::tls_traffic_key sealing;
        REQUIRE(sealing.begin(tls_suite::aes_128_gcm, span_of(client_secret), number));
        for (std::uint64_t next = number; next != number + 3; ++next) {
            CHECK(sealing.records() == next);
            const std::span<const char> part("x", 1);
            std::string record(23, '\0');
            REQUIRE(sealing.seal(tls_suite::aes_128_gcm, tls_content::application_data, {&part, 1}, 1, record.data()) ==
                    record.size());
            std::string own = nonce;
            for (int i = 0; i != 8; ++i)
                own[own.size() - 1 - static_cast<std::size_t>(i)] ^= static_cast<char>(next >> 8 * i);
            const std::unique_ptr<EVP_CIPHER_CTX, decltype(&::EVP_CIPHER_CTX_free)> opening(::EVP_CIPHER_CTX_new(),
                                                                                            &::EVP_CIPHER_CTX_free);
            REQUIRE(::EVP_DecryptInit_ex(opening.get(), ::EVP_aes_128_gcm(), nullptr, span_of(key).data(),
                                         span_of(own).data()) == 1);
            int n = 0;
            unsigned char opened[2];
            ::EVP_DecryptUpdate(opening.get(), nullptr, &n, span_of(record).data(), 5);
            ::EVP_DecryptUpdate(opening.get(), opened, &n, span_of(record).data() + 5, 2);
            ::EVP_CIPHER_CTX_ctrl(opening.get(), EVP_CTRL_AEAD_SET_TAG, 16, record.data() + 7);
            CHECK(::EVP_DecryptFinal_ex(opening.get(), opened + 2, &n) == 1);
            CHECK(opened[0] == 'x');
            CHECK(opened[1] == 23);
        }
    }
}

namespace {

/// Two ends of a direction, which has its own secret.
struct direction {
    explicit direction(std::size_t number)
    {
        std::memcpy(secret.data(), &number, sizeof number);
        REQUIRE(sealing.begin(suite, span_of(secret), 0));
        REQUIRE(opening.begin(suite, span_of(secret), 0));
    }

    /// Whether records come through.
    [[nodiscard]] bool carries(int records)
    {
        bool ok = true;
        for (int i = 0; i != records; ++i) {
            const std::string text = std::to_string(i) + secret;
            const std::span<const char> part(text);
            std::string record(text.size() + 22, '\0');
            ok = ok && sealing.seal(suite, tls_content::application_data, {&part, 1}, text.size(), record.data()) ==
                           record.size();
            ok = ok && opening.open(suite, record) == text.size() + 1 && record.substr(5, text.size()) == text;
        }
        return ok;
    }
    [[nodiscard]] bool update() { return sealing.update(suite) && opening.update(suite); }

    static constexpr tls_suite suite = tls_suite::aes_256_gcm;
    std::string secret = std::string(48, '\0');
    holdfast::detail::tls_traffic_key sealing, opening;
};

} // namespace

TEST_CASE("a key that is made where another one was protects its own records", "[tls]")
{
    std::optional<direction> here;
    for (std::size_t i = 0; i != 5; ++i) {
        here.emplace(i);
        CHECK(here->carries(50));
        CHECK(here->update());
        CHECK(here->carries(50));
    }
}

TEST_CASE("more busy keys than there are contexts for, in several threads that take turns with them", "[tls]")
{
    constexpr std::size_t threads = 4;
    constexpr std::size_t of_each = holdfast::detail::tls_keyed_contexts::size / 3;
    std::vector<std::vector<std::unique_ptr<direction>>> groups(threads);
    for (std::size_t g = 0; g != threads; ++g)
        for (std::size_t i = 0; i != of_each; ++i)
            groups[g].push_back(std::make_unique<direction>(g * of_each + i));
    std::atomic<std::size_t> failed{0};
    for (std::size_t turn = 0; turn != threads + 1; ++turn) {
        std::vector<std::thread> all;
        for (std::size_t t = 0; t != threads; ++t)
            all.emplace_back([&, t] {
                auto& group = groups[(t + turn) % threads];
                for (int round = 0; round != 5; ++round)
                    for (auto& each : group)
                        failed += each->carries(9) ? 0U : 1U;
                for (std::size_t i = turn; i < group.size(); i += 7)
                    failed += group[i]->update() ? 0U : 1U;
                if (turn == threads) group.clear(); // by another thread than the one that made them
            });
        for (std::thread& each : all)
            each.join();
    }
    CHECK(failed == 0);
}
