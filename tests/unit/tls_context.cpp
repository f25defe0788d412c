// holdfast: tests of what a tls_context decides: which certificate a host's name gets, which protocol, which peers are
// trusted, and with which error the others are refused.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/note_end.hpp"
#include "support/sockets.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_layer.hpp>
#include <holdfast/bounded_acceptor.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

using holdfast::close_reason;
using holdfast::error_code;
using tests::note_end;
using tests::tcp;
namespace net = holdfast::net;

namespace {

holdfast::tls_context server_of(const tests::certificate& files, holdfast::tls_context_options options = {})
{
    options.certificate_chain_file = files.chain_file();
    options.private_key_file = files.key_file();
    return holdfast::tls_context::server(std::move(options));
}

/// A client's and a server's stream, and what their handshakes came to.
struct handshake {
    handshake(const holdfast::tls_context& of_server, const holdfast::tls_context& of_client, const std::string& host)
    {
        auto [a, b] = tests::socket_pair(io);
        server.emplace(std::move(a), of_server);
        client.emplace(std::move(b), of_client);
        if (!host.empty()) client->set_server_name(host);
        std::optional<error_code> server_done, client_done;
        server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { server_done = ec; });
        client->async_handshake(holdfast::tls_role::client, [&](error_code ec) {
            client_done = ec;
            if (ec) client->lowest_layer().close();
        });
        tests::run_until(io, [&] { return server_done && client_done; });
        server_error = *server_done;
        client_error = *client_done;
    }

    net::io_context io;
    std::optional<holdfast::tls_stream<>> server, client;
    error_code server_error, client_error;
};

std::string common_name(const X509* certificate)
{
    char name[64] = "";
    ::X509_NAME_get_text_by_NID(::X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    return name;
}

/// The name in the certificate that a client of OpenSSL's gets when it requests `host`.
std::string certificate_for(const holdfast::tls_context& context, const char* host)
{
    net::io_context io;
    auto [a, b] = tests::socket_pair(io);
    holdfast::tls_stream<> server(std::move(a), context);
    tests::tls_peer client(std::move(b));
    if (host != nullptr) ::SSL_set_tlsext_host_name(client.ssl(), host);
    std::optional<error_code> done;
    server.async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
    bool shaken = false;
    tests::run_until(io, [&] {
        shaken = client.handshake() || shaken;
        return done && shaken;
    });
    REQUIRE_FALSE(*done);
    CHECK(server.compact() == context.compact_records());
    const std::unique_ptr<X509, decltype(&::X509_free)> seen(::SSL_get_peer_certificate(client.ssl()), &::X509_free);
    return common_name(seen.get());
}

} // namespace

TEST_CASE("a client accepts the certificate of the host that it has named, and refuses others, each with its error",
          "[tls]")
{
    const tests::certificate files, other("other.example"), expired("localhost", -100);
    SECTION("the right one")
    {
        const handshake h(server_of(files),
                          holdfast::tls_context::client({.peer_authorities_file = files.chain_file()}), "localhost");
        CHECK_FALSE(h.client_error);
        CHECK_FALSE(h.server_error);
        CHECK(h.client->peer_name() == "localhost");
        CHECK(h.server->peer_name().empty());
    }
    const auto refused = [](const holdfast::tls_context& of_server, const std::string& authorities,
                            const std::string& host, int why) {
        const handshake h(of_server, holdfast::tls_context::client({.peer_authorities_file = authorities}), host);
        INFO(h.client_error.message());
        CHECK(h.client_error == error_code(std::error_code(why, holdfast::certificate_category())));
        CHECK(holdfast::reason_of(h.client_error) == close_reason::layer_failed);
    };
    SECTION("another host")
    {
        refused(server_of(files), files.chain_file(), "elsewhere.example", X509_V_ERR_HOSTNAME_MISMATCH);
    }
    SECTION("an address")
    {
        refused(server_of(files), files.chain_file(), "127.0.0.1", X509_V_ERR_IP_ADDRESS_MISMATCH);
    }
    SECTION("expired") { refused(server_of(expired), expired.chain_file(), "localhost", X509_V_ERR_CERT_HAS_EXPIRED); }
    SECTION("an authority that is not known")
    {
        refused(server_of(files), other.chain_file(), "localhost", X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
    }
    SECTION("no host was named")
    {
        const handshake h(server_of(files),
                          holdfast::tls_context::client({.peer_authorities_file = files.chain_file()}), "");
        CHECK(h.client_error == net::error::invalid_argument);
    }
    SECTION("no name at all, or with a character that would end it early")
    {
        net::io_context io;
        holdfast::tls_stream<> stream(tcp::socket(io), holdfast::tls_context::client());
        CHECK_THROWS_AS(stream.set_server_name(""), std::invalid_argument);
        CHECK_THROWS_AS(stream.set_server_name(std::string("localhost\0.evil.example", 23)), std::invalid_argument);
    }
    SECTION("the last of several names counts, an address's too")
    {
        net::io_context io;
        auto [a, b] = tests::socket_pair(io);
        holdfast::tls_stream<> stream(std::move(a), holdfast::tls_context::client());
        X509_VERIFY_PARAM* const expected = ::SSL_get0_param(stream.native_session());
        stream.set_server_name("wrong.example");
        stream.set_server_name("127.0.0.1");
        CHECK(::X509_VERIFY_PARAM_get0_host(expected, 0) == nullptr);
        CHECK(::SSL_get_servername(stream.native_session(), TLSEXT_NAMETYPE_host_name) == nullptr);
        const std::unique_ptr<char, void (*)(char*)> address(::X509_VERIFY_PARAM_get1_ip_asc(expected),
                                                             [](char* text) { ::OPENSSL_free(text); });
        REQUIRE(address);
        CHECK(std::string(address.get()) == "127.0.0.1");
        stream.set_server_name("localhost");
        CHECK(std::string(::X509_VERIFY_PARAM_get0_host(expected, 0)) == "localhost");
        CHECK(::X509_VERIFY_PARAM_get1_ip_asc(expected) == nullptr);
        CHECK_THROWS_AS(stream.set_server_name(""), std::invalid_argument); // the name before stays
        CHECK(std::string(::X509_VERIFY_PARAM_get0_host(expected, 0)) == "localhost");
        CHECK_THROWS_AS(stream.set_server_name(std::string(300, 'x')),
                        std::invalid_argument); // OpenSSL's limit: no name
        error_code unnamed;
        stream.async_handshake(holdfast::tls_role::client, [&](error_code ec) { unnamed = ec; });
        tests::run(io);
        CHECK(unnamed == net::error::invalid_argument);
    }
    SECTION("a handshake that was refused for want of a name can be done with one")
    {
        net::io_context io;
        auto [a, b] = tests::socket_pair(io);
        holdfast::tls_stream<> server(std::move(a), server_of(files));
        holdfast::tls_stream<> client(
            std::move(b),
            holdfast::tls_context::client({.peer_authorities_file = files.chain_file(), .compact_records = true}));
        error_code unnamed, named = net::error::in_progress;
        client.async_handshake(holdfast::tls_role::client, [&](error_code ec) {
            unnamed = ec;
            client.set_server_name("localhost");
            client.async_handshake(holdfast::tls_role::client, [&](error_code again) { named = again; });
        });
        server.async_handshake(holdfast::tls_role::server, [](error_code ec) { CHECK_FALSE(ec); });
        tests::run(io);
        CHECK(unnamed == net::error::invalid_argument);
        CHECK_FALSE(named);
        CHECK(client.compact());
    }
}

TEST_CASE("the host's name chooses the certificate, and a reload of the chosen context takes effect", "[tls]")
{
    const bool compact = GENERATE(false, true);
    tests::certificate one("one.example");
    const tests::certificate two("two.example"), fallback("default.example");
    auto of_one = server_of(one, {.compact_records = compact});
    const auto of_two = server_of(two, {.compact_records = compact});
    std::vector<std::string> requested;
    std::optional<holdfast::tls_context> context =
        server_of(fallback, {.choose_context =
                                 [&](std::string_view host) {
                                     requested.emplace_back(host);
                                     return host == "one.example" ? &of_one : host == "two.example" ? &of_two : nullptr;
                                 },
                             .compact_records = compact});
    CHECK(certificate_for(*context, "one.example") == "one.example");
    CHECK(certificate_for(*context, "two.example") == "two.example");
    CHECK(certificate_for(*context, "three.example") == "default.example");
    CHECK(certificate_for(*context, nullptr) == "default.example");
    CHECK(requested == std::vector<std::string>{"one.example", "two.example", "three.example", ""});
    one.write("renewed.example");
    of_one.reload();
    CHECK(certificate_for(*context, "one.example") == "renewed.example");
}

TEST_CASE("whichever certificate the host's name chooses, clients are verified by the server's own authorities",
          "[tls]")
{
    const bool compact = GENERATE(false, true);
    const tests::certificate fallback("default.example"), one("one.example"), ours("alice"), theirs("mallory");
    const bool has_authorities = GENERATE(false, true), chooses_too = GENERATE(false, true);
    holdfast::tls_context_options options{.peer_authorities_file = has_authorities ? theirs.chain_file() : "",
                                          .compact_records = compact};
    if (chooses_too) options.choose_context = [](std::string_view) { return nullptr; };
    const auto of_one = server_of(one, options);
    int choices = 0;
    const auto context = server_of(fallback, {.peer_authorities_file = ours.chain_file(),
                                              .choose_context =
                                                  [&](std::string_view host) {
                                                      ++choices;
                                                      return host == "one.example" ? &of_one : nullptr;
                                                  },
                                              .compact_records = compact});
    const auto connect = [&](const tests::certificate& client, const tests::certificate& server, const char* host) {
        return handshake(context,
                         holdfast::tls_context::client({.certificate_chain_file = client.chain_file(),
                                                        .private_key_file = client.key_file(),
                                                        .peer_authorities_file = server.chain_file()}),
                         host)
            .server_error;
    };
    const error_code unknown =
        std::error_code(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, holdfast::certificate_category());
    CHECK_FALSE(connect(ours, fallback, "default.example"));
    CHECK(connect(theirs, fallback, "default.example") == unknown);
    CHECK_FALSE(connect(ours, one, "one.example"));
    CHECK(connect(theirs, one, "one.example") == unknown);

    // The name is looked at again after a HelloRetryRequest.
    std::unique_ptr<SSL, decltype(&::SSL_free)> server(context.make_session(), &::SSL_free);
    ::SSL_set_accept_state(server.get());
    ::SSL_set1_groups_list(server.get(), "P-384");
    const std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> of_client(::SSL_CTX_new(::TLS_client_method()),
                                                                        &::SSL_CTX_free);
    ::SSL_CTX_use_certificate_file(of_client.get(), theirs.chain_file().c_str(), SSL_FILETYPE_PEM);
    ::SSL_CTX_use_PrivateKey_file(of_client.get(), theirs.key_file().c_str(), SSL_FILETYPE_PEM);
    const std::unique_ptr<SSL, decltype(&::SSL_free)> client(::SSL_new(of_client.get()), &::SSL_free);
    ::SSL_set_connect_state(client.get());
    ::SSL_set_tlsext_host_name(client.get(), "one.example");
    ::SSL_set1_groups_list(client.get(), "X25519:P-384");
    BIO *one_end = nullptr, *other_end = nullptr;
    REQUIRE(::BIO_new_bio_pair(&one_end, 100'000, &other_end, 100'000) == 1);
    ::SSL_set_bio(server.get(), one_end, one_end);
    ::SSL_set_bio(client.get(), other_end, other_end);
    choices = 0;
    int shaken = 0;
    for (int i = 0; i != 10; ++i) {
        ::SSL_do_handshake(client.get());
        shaken = ::SSL_do_handshake(server.get());
    }
    ::ERR_clear_error();
    CHECK(choices == 2);
    CHECK(shaken != 1);
    CHECK(::SSL_get_verify_result(server.get()) == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
}

TEST_CASE("an encrypted private key is an error: OpenSSL must not read its password from the terminal", "[tls]")
{
    const tests::certificate files;
    const std::unique_ptr<BIO, decltype(&::BIO_free)> in(::BIO_new_file(files.key_file().c_str(), "r"), &::BIO_free);
    const std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key(
        ::PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr), &::EVP_PKEY_free);
    const std::unique_ptr<BIO, decltype(&::BIO_free)> out(::BIO_new_file(files.key_file().c_str(), "w"), &::BIO_free);
    unsigned char password[] = "secret";
    REQUIRE(::PEM_write_bio_PrivateKey(out.get(), key.get(), ::EVP_aes_256_cbc(), password, 6, nullptr, nullptr) == 1);
    REQUIRE(BIO_flush(out.get()) == 1);
    try {
        server_of(files);
        FAIL("it was taken");
    } catch (const holdfast::system_error& e) {
        INFO(e.what());
        CHECK(std::string(e.what()).find("encrypted") != std::string::npos);
    }
}

TEST_CASE("ALPN: the server's preference among what the client offers, none of them is refused", "[tls]")
{
    const bool compact = GENERATE(false, true);
    const tests::certificate files;
    const auto server = server_of(files, {.application_protocols = {"h2", "http/1.1"}, .compact_records = compact});
    const auto of = [&](std::vector<std::string> offered) {
        return handshake(server,
                         holdfast::tls_context::client({.peer_authorities_file = files.chain_file(),
                                                        .application_protocols = std::move(offered)}),
                         "localhost");
    };
    {
        const handshake h = of({"http/1.1", "h2"});
        CHECK(h.server->application_protocol() == "h2");
        CHECK(h.client->application_protocol() == "h2");
        CHECK(h.server->compact() == compact);
    }
    CHECK(of({"http/1.1", "other"}).server->application_protocol() == "http/1.1");
    {
        const handshake h = of({});
        CHECK_FALSE(h.server_error);
        CHECK(h.server->application_protocol().empty());
    }
    {
        const handshake h = of({"other"});
        CHECK(h.server_error);
        CHECK(h.client_error);
    }
}

TEST_CASE("mutual TLS: the client's name is in the census and in the connection's end, others are refused", "[tls]")
{
    const bool compact = GENERATE(false, true);
    const tests::certificate files, client_files("alice\n<admin>"), unknown("mallory");
    std::vector<holdfast::connection_end> ends;
    ends.reserve(10);
    net::io_context io;
    holdfast::bounded_acceptor<tcp, note_end> acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0}, {},
                                                       note_end{&ends});
    std::string name;
    std::optional<holdfast::admitted_connection<holdfast::tls_stream<>, note_end>> session;
    acceptor.async_serve(
        holdfast::tls(
            server_of(files, {.peer_authorities_file = client_files.chain_file(), .compact_records = compact})),
        [&](auto peer) {
            name = peer.stream().peer_name();
            session.emplace(std::move(peer));
        },
        net::detached);
    const auto connect = [&](holdfast::tls_context_options options) {
        options.peer_authorities_file = files.chain_file();
        tcp::socket socket(io);
        socket.connect(acceptor.local_endpoint());
        auto client = std::make_unique<holdfast::tls_stream<>>(std::move(socket),
                                                               holdfast::tls_context::client(std::move(options)));
        client->set_server_name("localhost");
        client->async_handshake(holdfast::tls_role::client, [](error_code) {});
        return client;
    };
    const auto alice =
        connect({.certificate_chain_file = client_files.chain_file(), .private_key_file = client_files.key_file()});
    tests::run_until(io, [&] { return session.has_value(); });
    CHECK(name == "alice\\0A<admin>");
    CHECK(session->stream().compact() == compact);
    std::string shown;
    acceptor.census().for_each([&](const holdfast::census_entry& entry) { shown = entry.name; });
    CHECK(shown == name);
    std::ostringstream report;
    acceptor.census().report(report);
    CHECK(report.str().find(name) != std::string::npos);
    session->set_name("renamed");
    session->close();
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].name.view() == "renamed");
    session.reset();
    SECTION("a certificate of another authority")
    {
        const auto mallory =
            connect({.certificate_chain_file = unknown.chain_file(), .private_key_file = unknown.key_file()});
        tests::run_until(io, [&] { return ends.size() == 2; });
        CHECK(ends[1].error ==
              error_code(std::error_code(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, holdfast::certificate_category())));
    }
    SECTION("no certificate")
    {
        const auto nameless = connect({});
        tests::run_until(io, [&] { return ends.size() == 2; });
        CHECK(ends[1].error);
    }
    CHECK(ends[1].reason == close_reason::handshake_failed);
    CHECK_FALSE(ends[1].name);
    CHECK_FALSE(session);
}

TEST_CASE("a session is resumed by its ticket alone: the server keeps none, and takes no early data", "[tls]")
{
    const tests::certificate files;
    const auto context = server_of(files);
    net::io_context io;
    SSL_SESSION* kept = nullptr;
    for (const bool again : {false, true}) {
        auto [a, b] = tests::socket_pair(io);
        holdfast::tls_stream<> server(std::move(a), context);
        tests::tls_peer client(std::move(b));
        if (again) ::SSL_set_session(client.ssl(), kept);
        std::optional<error_code> done;
        server.async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
        bool shaken = false;
        tests::run_until(io, [&] {
            shaken = client.handshake() || shaken;
            return done && shaken;
        });
        REQUIRE_FALSE(*done);
        client.read(); // the tickets
        CHECK((::SSL_session_reused(client.ssl()) != 0) == again);
        CHECK(::SSL_CTX_sess_number(::SSL_get_SSL_CTX(server.native_session())) == 0);
        if (again) break;
        kept = ::SSL_get1_session(client.ssl());
        CHECK(::SSL_SESSION_has_ticket(kept) != 0);
        CHECK(::SSL_SESSION_get_max_early_data(kept) == 0);
        ::SSL_shutdown(client.ssl()); // else OpenSSL would not use the session again
    }
    ::SSL_SESSION_free(kept);
}

TEST_CASE("numbers of tickets, up to the largest", "[tls]")
{
    const tests::certificate files;
    for (const std::size_t tickets :
         {std::size_t(0), std::size_t(1), std::size_t(16), std::size_t(17), SIZE_MAX - 1, SIZE_MAX}) {
        holdfast::tls_context_options options{
            .certificate_chain_file = files.chain_file(), .private_key_file = files.key_file(), .tickets = tickets};
        if (tickets > 16)
            CHECK_THROWS_WITH(holdfast::tls_context::server(options), tests::contains("tickets"));
        else
            CHECK_NOTHROW(holdfast::tls_context::server(options));
    }
}
