// holdfast: do curl, OpenSSL's own client, Python, Node, and Go where it is installed, get a whole answer from a
// tls_stream, and a proper end?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/adapters/tls_stream.hpp>

#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include <unistd.h>

using tests::tcp;
namespace net = holdfast::net;

namespace {

std::string body()
{
    std::string text;
    for (int i = 0; text.size() < 300'000; ++i)
        text += "line " + std::to_string(i) + "\n";
    return text;
}

/// Answers one request of each connection, and says close_notify.
net::awaitable<void> answer(tcp::socket socket, const holdfast::tls_context& context)
{
    holdfast::tls_stream<> stream(std::move(socket), context);
    co_await stream.async_handshake(holdfast::tls_role::server);
    std::string request;
    co_await net::async_read_until(stream, net::dynamic_buffer(request, 8192), "\r\n\r\n", net::use_awaitable);
    const std::string text = body();
    const std::string head =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n";
    co_await net::async_write(stream, net::buffer(head), net::use_awaitable);
    co_await net::async_write(stream, net::buffer(text), net::use_awaitable);
    co_await stream.async_shutdown();
    char rest[512]; // until the peer ends as well
    holdfast::error_code ec;
    do
        co_await stream.async_read_some(net::buffer(rest), net::redirect_error(net::use_awaitable, ec));
    while (!ec);
}

net::awaitable<void> serve(tcp::acceptor& listener, const holdfast::tls_context& context)
{
    for (;;)
        net::co_spawn(listener.get_executor(), answer(co_await listener.async_accept(net::use_awaitable), context),
                      [](const std::exception_ptr&) {});
}

/// What a program prints, while the server runs.
std::string output_of(net::io_context& io, std::vector<std::string> command, int& status)
{
    tests::process program(std::move(command));
    std::string printed;
    auto done = std::async(std::launch::async, [&] { return program.wait(&printed); });
    io.restart();
    while (done.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
        io.run_for(std::chrono::milliseconds(5));
    status = done.get();
    return printed;
}

} // namespace

TEST_CASE("programs of others get the whole answer and a proper end, whatever protects the records", "[tls]")
{
    const bool compact = GENERATE(false, true);
    INFO((compact ? "compact records" : "OpenSSL's records"));
    const tests::certificate files;
    const auto context = holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                                        .private_key_file = files.key_file(),
                                                        .application_protocols = {"http/1.1"},
                                                        .compact_records = compact});
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    net::co_spawn(io, serve(listener, context), net::detached);
    const std::string port = std::to_string(listener.local_endpoint().port());
    const std::string url = "https://localhost:" + port + "/";
    const std::string request = "GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n";
    const std::string text = body();
    int status = -1;

    SECTION("curl, TLS 1.3 and 1.2")
    {
        for (const char* version : {"--tls-max 1.3", "--tls-max 1.2"}) {
            const std::string got =
                output_of(io,
                          {"/bin/sh", "-c",
                           std::string("curl -sS -4 --cacert ") + files.chain_file() + " " + version + " " + url},
                          status);
            CHECK(status == 0);
            CHECK(got == text);
        }
    }
    SECTION("openssl s_client, each cipher suite, with updates of its key")
    {
        for (const char* suite : {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}) {
            // A line "K" has s_client update its key and ask for the server's, "k" its own alone. It ends with its input:
            // requests follow until it has the answer.
            const std::string got =
                output_of(io,
                          {"/bin/sh", "-c",
                           "(sleep 0.3; echo K; sleep 0.1; echo k; while sleep 0.1 && printf '" + request +
                               "' 2>/dev/null; do :; done) | openssl s_client -connect 127.0.0.1:" + port +
                               " -servername localhost -CAfile " + files.chain_file() +
                               " -verify_return_error -ciphersuites " + suite + " 2>/dev/null"},
                          status);
            CHECK(status == 0);
            CHECK(got.find(text) != std::string::npos);
        }
    }
    SECTION("Python, which takes an end without close_notify for a failure")
    {
        const std::string script = "import ssl,socket\n"
                                   "c=ssl.create_default_context(cafile='" +
                                   files.chain_file() +
                                   "')\n"
                                   "s=c.wrap_socket(socket.create_connection(('127.0.0.1'," +
                                   port +
                                   ")),server_hostname='localhost',"
                                   "suppress_ragged_eofs=False)\n"
                                   "s.sendall(b'" +
                                   request +
                                   "')\n"
                                   "d=b''\n"
                                   "while True:\n"
                                   "  p=s.recv(65536)\n"
                                   "  if not p: break\n"
                                   "  d+=p\n"
                                   "s.unwrap()\n"
                                   "print(len(d.split(b'\\r\\n\\r\\n',1)[1]))\n";
        const std::string got = output_of(io, {"/usr/bin/python3", "-c", script}, status);
        CHECK(got == std::to_string(text.size()) + "\n");
        CHECK(status == 0);
    }
    SECTION("Node")
    {
        const std::string script = "require('https').get({host:'127.0.0.1',servername:'localhost',port:" + port +
                                   ",ca:require('fs').readFileSync('" + files.chain_file() +
                                   "')},r=>{let n=0;r.on('data',d=>n+=d.length);"
                                   "r.on('end',()=>console.log(n))})";
        const std::string got = output_of(io, {"/bin/sh", "-c", "exec node -e \"$0\"", script}, status);
        CHECK(got == std::to_string(text.size()) + "\n");
        CHECK(status == 0);
    }
    SECTION("Go, which takes an end without close_notify for a failure, by TLS 1.3 and 1.2")
    {
        if (::access("/usr/bin/go", X_OK) != 0) {
            WARN("left out: Go; there is no /usr/bin/go (Debian: golang-go)");
            return;
        }
        const auto folder = std::filesystem::path(files.chain_file()).parent_path().string();
        std::ofstream(folder + "/client.go") << R"(package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
)

func main() {
	pem, _ := os.ReadFile(os.Args[2])
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		c, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: roots, ServerName: "localhost",
			MinVersion: version, MaxVersion: version, NextProtos: []string{"http/1.1"}})
		if err != nil {
			panic(err)
		}
		c.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		all, err := io.ReadAll(c)
		if err != nil || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
			panic(err)
		}
		c.Close()
		os.Stdout.Write(all[bytes.Index(all, []byte("\r\n\r\n"))+4:])
	}
}
)";
        const std::string got = output_of(io,
                                          {"/bin/sh", "-c",
                                           "cd " + folder + " && CGO_ENABLED=0 GOCACHE=" + folder +
                                               "/cache GO111MODULE=off /usr/bin/go run client.go " + port + " " +
                                               files.chain_file() + " 2>&1"},
                                          status);
        CHECK(status == 0);
        CHECK(got == text + text);
    }
    SECTION("a client that does not trust the certificate, and the server goes on")
    {
        const tests::certificate others; // that did not sign it; without any, the status of curl is another one
        output_of(io, {"/bin/sh", "-c", "curl -sS -4 --cacert " + others.chain_file() + " " + url + " 2>/dev/null"},
                  status);
        CHECK(status == 60);
        const std::string got =
            output_of(io, {"/bin/sh", "-c", "curl -sS -4 --cacert " + files.chain_file() + " " + url}, status);
        CHECK(got == text);
    }
    SECTION("a client that speaks plain text, and the server goes on")
    {
        output_of(io, {"/bin/sh", "-c", "curl -sS -4 --max-time 5 http://localhost:" + port + "/ 2>/dev/null"}, status);
        CHECK(status != 0);
        const std::string got =
            output_of(io, {"/bin/sh", "-c", "curl -sS -4 --cacert " + files.chain_file() + " " + url}, status);
        CHECK(got == text);
    }
}
