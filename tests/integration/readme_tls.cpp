// holdfast: tests that the README's chat over TLS, compiled from the very text, does what the README says.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"
#include "support/tls_peer.hpp"

#include <csignal>
#include <string>

using tests::tcp;
namespace net = holdfast::net;

namespace {

tests::tls_peer connect(net::io_context& io, tests::process& server)
{
    tcp::socket socket(io);
    tests::connect_when_ready(socket, {net::ip::address_v4::loopback(), 7778}, server);
    tests::tls_peer client(std::move(socket));
    while (!client.handshake())
        tests::await_readable(client.socket());
    return client;
}

/// Reads until `enough()` says so, or the end.
template <class Enough>
std::string read(tests::tls_peer& client, Enough enough)
{
    std::string all;
    do {
        tests::await_readable(client.socket());
        all += client.read();
    } while (!client.ended() && !enough(all));
    return all;
}

std::string common_name(tests::tls_peer& client)
{
    char name[64];
    const std::unique_ptr<X509, decltype(&::X509_free)> seen(::SSL_get_peer_certificate(client.ssl()), &::X509_free);
    ::X509_NAME_get_text_by_NID(::X509_get_subject_name(seen.get()), NID_commonName, name, sizeof name);
    return name;
}

} // namespace

TEST_CASE("the README's chat: all get each line, slow readers are disconnected, a drain says close_notify", "[tls]")
{
    tests::enter_private_network(); // its port is fixed
    tests::certificate files;
    tests::process server({README_TLS, files.chain_file(), files.key_file()});
    net::io_context io;
    auto alice = connect(io, server), bob = connect(io, server), slow = connect(io, server);
    alice.send(alice.seal("hello\n"));
    const auto has_line = [](const std::string& all) { return all.find('\n') != std::string::npos; };
    CHECK(read(alice, has_line) == "hello\n");
    CHECK(read(bob, has_line) == "hello\n");

    // Far more than the kernel's buffers and the outbox of a client that reads nothing.
    const std::string line = std::string(1000, 'x') + '\n';
    std::size_t alice_got = 0, bob_got = 0;
    constexpr std::size_t lines = 20'000;
    for (std::size_t sent = 0; sent != lines; sent += 20) {
        for (int i = 0; i != 20; ++i)
            alice.send(alice.seal(line));
        const std::size_t so_far = (sent + 20) * line.size();
        while (alice_got != so_far || bob_got != so_far) {
            if (alice_got != so_far) alice_got += read(alice, [](auto&) { return true; }).size();
            if (bob_got != so_far) bob_got += read(bob, [](auto&) { return true; }).size();
        }
    }
    CHECK(bob_got == lines * line.size());
    std::string rest = read(slow, [&](const std::string&) { return slow.socket().available() == 0; });
    CHECK_FALSE(slow.ended()); // no close_notify: it has been reset
    CHECK(rest.size() < lines * line.size());

    files.write("renewed.example");
    ::kill(server.pid(), SIGHUP);
    std::string name;
    for (int i = 0; i != 1000 && name != "renewed.example"; ++i) { // a few handshakes may come before the signal
        auto next = connect(io, server);
        name = common_name(next);
    }
    CHECK(name == "renewed.example");

    alice.send(alice.seal("still here\n"));
    CHECK(read(bob, has_line) == "still here\n");
    read(alice, has_line);
    ::kill(server.pid(), SIGTERM);
    for (tests::tls_peer* each : {&alice, &bob}) {
        read(*each, [](auto&) { return false; });
        CHECK(each->ended());
        each->socket().close();
    }
    CHECK(server.wait() == 0);
}
