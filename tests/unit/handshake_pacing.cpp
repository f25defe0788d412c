// holdfast: tests of async_serve with a layer: between two steps of handshakes the sessions that exist get their turn.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_layer.hpp>
#include <holdfast/bounded_acceptor.hpp>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct note_end {
    std::vector<close_reason>* ends;
    void operator()(const holdfast::connection_end& end) const noexcept { ends->push_back(end.reason); }
};

/// Asio's own TLS stream.
struct asio_tls {
    net::ssl::context* context;

    auto make(tcp::socket socket) { return net::ssl::stream<tcp::socket>(std::move(socket), *context); }
    template <class Token>
    auto async_handshake(net::ssl::stream<tcp::socket>& stream, Token&& token)
    {
        return stream.async_handshake(net::ssl::stream_base::server, std::forward<Token>(token));
    }
    holdfast::handshake_options options() const { return {}; }
};

/// A server with an echo session over a local socket, whose client sends a byte in each handshake's first step.
struct fixture {
    explicit fixture(std::vector<close_reason>& all) : ends(all), session(io), client(io)
    {
        ends.reserve(100);
        net::local::connect_pair(session, client);
        read();
    }

    void read()
    {
        session.async_read_some(net::buffer(byte), [this](error_code ec, std::size_t) {
            if (ec) return;
            log += 'e';
            read();
        });
    }

    /// A handshake computes.
    void handshake_step()
    {
        log += 'h';
        error_code ignored;
        client.write_some(net::buffer("x", 1), ignored);
    }

    template <class Factory>
    void serve(Factory factory)
    {
        acceptor.async_serve(std::move(factory), [this](auto peer) { (void)peer, ++sessions; }, net::detached);
    }

    /// Clients whose first messages have come before the server looks.
    void connect(int n)
    {
        for (int i = 0; i != n; ++i) {
            tcp::socket socket(io);
            socket.connect(acceptor.local_endpoint());
            clients.push_back(std::make_unique<tests::tls_peer>(std::move(socket)));
            ::SSL_set_tlsext_host_name(clients.back()->ssl(), "localhost");
            clients.back()->handshake();
        }
    }

    tests::certificate files;
    std::vector<close_reason>& ends;
    std::string log;
    int sessions = 0;
    std::array<char, 1> byte{};
    net::io_context io{1};
    net::local::stream_protocol::socket session, client;
    holdfast::bounded_acceptor<tcp, note_end> acceptor{
        io.get_executor(), {net::ip::address_v4::loopback(), 0}, {}, note_end{&ends}};
    std::vector<std::unique_ptr<tests::tls_peer>> clients;
};

} // namespace

TEST_CASE("an echo that is ready runs between two handshakes whose first messages arrived together", "[tls]")
{
    std::vector<close_reason> ends;
    fixture f(ends);
    net::ssl::context asio_context(net::ssl::context::tls_server);
    SECTION("tls_stream")
    {
        f.serve(holdfast::tls(
            holdfast::tls_context::server({.certificate_chain_file = f.files.chain_file(),
                                           .private_key_file = f.files.key_file(),
                                           .choose_context = [&f](std::string_view) -> const holdfast::tls_context* {
                                               f.handshake_step();
                                               return nullptr;
                                           }})));
    }
    SECTION("ssl::stream, by a factory of the user's")
    {
        asio_context.use_certificate_chain_file(f.files.chain_file());
        asio_context.use_private_key_file(f.files.key_file(), net::ssl::context::pem);
        ::SSL_CTX_set_tlsext_servername_callback(
            asio_context.native_handle(), +[](SSL*, int*, void* of) {
                static_cast<fixture*>(of)->handshake_step();
                return SSL_TLSEXT_ERR_OK;
            });
        ::SSL_CTX_set_tlsext_servername_arg(asio_context.native_handle(), &f);
        f.serve(asio_tls{&asio_context});
    }
    f.connect(6);
    tests::run_until(f.io, [&] { return f.log.size() >= 12; });
    CHECK(f.log == "hehehehehehe");
    tests::run_until(f.io, [&] {
        for (auto& each : f.clients)
            each->handshake();
        return f.sessions == 6;
    });
}

TEST_CASE("a context that is destroyed while handshakes wait for their turn ends each connection once", "[tls]")
{
    std::vector<close_reason> ends;
    std::size_t live = 0;
    {
        fixture f(ends);
        f.serve(holdfast::tls(
            holdfast::tls_context::server({.certificate_chain_file = f.files.chain_file(),
                                           .private_key_file = f.files.key_file(),
                                           .choose_context = [&f](std::string_view) -> const holdfast::tls_context* {
                                               f.handshake_step();
                                               return nullptr;
                                           }})));
        f.connect(6);
        tests::run_until(f.io, [&] { return f.log.find('h') != std::string::npos; });
        CHECK(f.log.size() < 6);
        CHECK(ends.empty());
        live = f.acceptor.census().live();
    }
    CHECK(live >= 1);
    CHECK(ends.size() == live);
}
