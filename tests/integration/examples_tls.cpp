// holdfast: do the example servers serve TLS as they serve TCP, and take a renewed certificate while clients stay?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/example_server.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <csignal>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

using tests::example_server;
using tests::process;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// A client by Asio's ssl::stream, which trusts one certificate only.
class tls_client {
public:
    tls_client(const tcp::endpoint& server, const std::string& authority)
        : context_(net::ssl::context::tls_client), stream_(io_, context_)
    {
        context_.load_verify_file(authority);
        stream_.set_verify_mode(net::ssl::verify_peer);
        stream_.lowest_layer().connect(server);
        stream_.handshake(net::ssl::stream_base::client);
    }

    /// Sends the text, and returns what comes up to the first `end`.
    std::string exchange(std::string_view text, std::string_view end = "\n")
    {
        net::write(stream_, net::buffer(text));
        std::string got;
        const std::size_t n = net::read_until(stream_, net::dynamic_buffer(got), end);
        return got.substr(0, n);
    }

    /// Why the stream has ended, once the server ends it.
    holdfast::error_code end()
    {
        holdfast::error_code ec;
        std::string rest;
        net::read(stream_, net::dynamic_buffer(rest), ec);
        return ec;
    }

private:
    net::io_context io_;
    net::ssl::context context_;
    net::ssl::stream<tcp::socket> stream_;
};

std::string tls_of(const tests::certificate& files) { return files.chain_file() + "," + files.key_file(); }

std::string contents(const std::string& path)
{
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> arguments(const tests::certificate& files, std::vector<std::string> more = {})
{
    more.insert(more.end(), {"--tls", tls_of(files)});
    return more;
}

} // namespace

TEST_CASE("each example server answers over TLS, whatever keeps the records")
{
    struct example {
        const char *name, *request, *answer;
        std::vector<std::string> arguments;
    };
    const auto& each = GENERATE(values<example>({
        {"echo_server", "hello\n", "{\"line\":1,\"text\":\"hello\"}\n", {}},
        {"graceful_server", "hello\n", "{\"taken\":1}\n", {}},
        {"netstring_server", "5:hello,", "28:{\"message\":1,\"text\":\"hello\"},", {}},
        {"task_pool_server", "1 10\n", "{\"job\":1,\"part\":1,\"parts\":1,\"primes\":4}\n", {}},
        {"market_feed", "", "{\"id\":0,", {"--instruments", "1"}},
        {"push_gateway",
         "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
         "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n\r\nready\n",
         {}},
        {"naive_feed", "", "{\"id\":0,", {"--instruments", "1"}},
    }));
    const bool compact = GENERATE(false, true);
    const std::string name = each.name;
    if (name == "naive_feed" && compact) return; // Asio's ssl::stream
    if (::access((tests::examples_directory + "/" + name).c_str(), X_OK) != 0) {
        WARN("left out: " << name << " was not built");
        return;
    }
    INFO(name << (compact ? ", compact" : ""));
    const tests::certificate files;
    auto options = arguments(files, each.arguments);
    if (compact) options.push_back("--tls-compact");
    example_server server(name, options);
    {
        tls_client client(server.endpoint(), files.chain_file());
        CHECK(client.exchange(each.request, each.answer) == each.answer);
    }
    { // one that speaks no TLS is dropped, and the others are served
        net::io_context io;
        tcp::socket plain(io);
        plain.connect(server.endpoint());
        net::write(plain, net::buffer(std::string_view("this is no ClientHello, and longer than a record's header\n")));
        std::string rest;
        holdfast::error_code ec;
        net::read(plain, net::dynamic_buffer(rest), ec);
        CHECK(ec);
        CHECK(rest.find(each.answer) == std::string::npos);
    }
    {
        tls_client client(server.endpoint(), files.chain_file());
        CHECK(client.exchange(each.request, each.answer) == each.answer);
        if (name == "naive_feed") return;
        ::kill(server.child.pid(), SIGTERM);
        CHECK(client.end() == net::error::eof); // a drain sends close_notify
    }
    std::string output;
    CHECK(server.child.wait(&output) == 0);
}

TEST_CASE("SIGHUP: new clients get the renewed certificate, those that are connected stay")
{
    tests::certificate files;
    const tests::certificate elsewhere;
    example_server server("echo_server", arguments(files));
    const std::string old = elsewhere.chain_file();
    std::ofstream(old) << contents(files.chain_file());

    tls_client first(server.endpoint(), old);
    CHECK(first.exchange("one\n") == "{\"line\":1,\"text\":\"one\"}\n");

    files.write("localhost");
    ::kill(server.child.pid(), SIGHUP);
    CHECK(server.line_beginning("echo_server: the certificate").find("read again") != std::string::npos);
    CHECK(first.exchange("two\n") == "{\"line\":2,\"text\":\"two\"}\n");
    tls_client second(server.endpoint(), files.chain_file());
    CHECK(second.exchange("one\n") == "{\"line\":1,\"text\":\"one\"}\n");
    CHECK_THROWS_AS(tls_client(server.endpoint(), old), holdfast::system_error);

    std::ofstream(files.key_file()) << "no key\n"; // a renewal that went wrong
    ::kill(server.child.pid(), SIGHUP);
    CHECK(server.line_beginning("echo_server: the certificate").find("in use stays") != std::string::npos);
    CHECK(first.exchange("three\n") == "{\"line\":3,\"text\":\"three\"}\n");
    tls_client third(server.endpoint(), files.chain_file());
    CHECK(third.exchange("one\n") == "{\"line\":1,\"text\":\"one\"}\n");
}

TEST_CASE("curl reads log_collector over HTTPS")
{
    const tests::certificate files;
    example_server server("log_collector", arguments(files, {"--http-port", "0"}));
    const std::string line = server.line_beginning("log_collector: readers at https://");
    const auto begin = line.rfind(':') + 1;
    const std::string port = line.substr(begin, line.find('/', begin) - begin);
    process curl(
        {"/bin/sh", "-c",
         "curl -sS -4 --max-time 20 --cacert " + files.chain_file() + " https://localhost:" + port + "/status"});
    std::string answer;
    CHECK(curl.wait(&answer) == 0);
    CHECK(answer.starts_with("{\"records\":0,"));
}

TEST_CASE("what --tls cannot use is refused in one line")
{
    const tests::certificate files, other;
    const std::string program = tests::examples_directory + "/echo_server";
    std::string line;
    for (const std::string& value : {std::string("nothing"), files.chain_file() + ",", files.chain_file() + ",/nowhere",
                                     files.chain_file() + "," + other.key_file()}) {
        CHECK(tests::refusal({program, "--port", "0", "--tls", value}, line) == 2);
        CHECK(line.find("tls") != std::string::npos);
    }
}

TEST_CASE("the ladder climbs over TLS, and stays away from a certificate that it does not trust")
{
    const tests::certificate files, other;
    example_server server("echo_server", arguments(files));
    const std::string plan = server.line_beginning("echo_server: the line");
    const auto climb = [&](const std::string& authority) {
        return process({tests::examples_directory + "/ladder",
                        "--port",
                        server.port,
                        "--pid",
                        std::to_string(server.child.pid()),
                        "--host",
                        "localhost",
                        "--tls",
                        "--ca",
                        authority,
                        "--hello",
                        "hello\\n",
                        "--rungs",
                        "20,40",
                        "--mix",
                        "idle=60,silent=20,half-closed=10,aborting=10",
                        "--settle",
                        "0.3",
                        "--hold",
                        "0.2",
                        "--climbs",
                        "2",
                        "--rung-deadline",
                        "5",
                        "--plan",
                        plan.substr(plan.rfind(' ') + 1)});
    };
    std::string output;
    CHECK(climb(files.chain_file()).wait(&output) == 0);
    INFO(output);
    CHECK(output.find("stays below the stated line") != std::string::npos);
    CHECK(climb(other.chain_file()).wait(&output) == 1);
    INFO(output);
    CHECK(output.find("only 0 of 20 connections could be made") != std::string::npos);
}
