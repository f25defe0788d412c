// holdfast: a tls_stream of a server, in each way that it can keep its records, and OpenSSL's client.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_TLS_SERVER_HPP
#define HOLDFAST_TESTS_SUPPORT_TLS_SERVER_HPP

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/sockets.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_stream.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tests {

using holdfast::error_code;

/// How the server keeps its connection, and what is negotiated.
struct tls_variant {
    const char* name;
    bool compact;
    int version = TLS1_3_VERSION;
    const char* suites = nullptr;
};
inline const std::vector<tls_variant> variants = {
    {"OpenSSL's records, TLS 1.2", false, TLS1_2_VERSION},
    {"OpenSSL's records, TLS 1.3", false},
    {"compact records asked for, TLS 1.2", true, TLS1_2_VERSION},
    {"compact, AES-128", true, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
    {"compact, AES-256", true, TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
    {"compact, ChaCha20", true, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"}};

/// A server's stream and its client.
struct tls_server {
    explicit tls_server(const tls_variant& v, std::size_t tickets = 2)
        : context(holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                                 .private_key_file = files.key_file(),
                                                 .tickets = tickets,
                                                 .compact_records = v.compact}))
    {
        auto [a, b] = tests::socket_pair(io);
        server.emplace(std::move(a), context);
        client.emplace(std::move(b), v.version, v.suites);
    }

    void handshake()
    {
        std::optional<error_code> done;
        server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
        bool client_done = false;
        tests::run_until(io, [&] {
            client_done = client->handshake() || client_done;
            return done.has_value() && client_done;
        });
        REQUIRE_FALSE(*done);
    }

    /// Begins to read; `got` and `read_error` say what came.
    void read(std::size_t size = 65536)
    {
        buffer.resize(size);
        got.reset();
        server->async_read_some(net::buffer(buffer), [this](error_code ec, std::size_t n) {
            read_error = ec;
            got = buffer.substr(0, n);
        });
        io.restart();
        io.poll();
    }
    void await_read()
    {
        tests::run_until(io, [this] { return got.has_value(); });
    }

    /// Writes it all, while the client reads; what the client got.
    std::string write(const std::string& text)
    {
        std::optional<error_code> done;
        net::async_write(*server, net::buffer(text), [&](error_code ec, std::size_t) { done = ec; });
        std::string all;
        tests::run_until(io, [&] {
            all += client->read();
            return done.has_value() && all.size() >= text.size();
        });
        REQUIRE_FALSE(*done);
        return all;
    }

    net::io_context io;
    tests::certificate files;
    holdfast::tls_context context;
    std::optional<holdfast::tls_stream<>> server;
    std::optional<tests::tls_peer> client;
    std::string buffer;
    std::optional<std::string> got;
    error_code read_error;
};

inline std::string text_of(std::size_t size)
{
    std::string text(size, ' ');
    for (std::size_t i = 0; i != size; ++i)
        text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
    return text;
}

} // namespace tests

#endif
