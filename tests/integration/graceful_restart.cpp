// holdfast: tests that a restart of graceful_server refuses no client and loses no line, whatever its clients
// do.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/process/limits.hpp>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>

using holdfast::error_code;
using tests::process;
using tests::tcp;
namespace net = holdfast::net;

namespace {

const std::string program = EXAMPLES_DIRECTORY "/graceful_server";

/// The server as a service manager starts it: the listener is descriptor 3, and LISTEN_PID its own number.
std::vector<std::string> activated(const std::string& descriptors = "1", const std::string& drain = "20s")
{
    return {"/bin/sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=" + descriptors + " exec \"$@\"", "sh", program, "--port", "0",
            "--drain", drain};
}

/// What the clients have seen, all together.
struct tally {
    std::uint64_t connections = 0, refused = 0, broken = 0;
    std::uint64_t goodbyes = 0;  ///< that named the last line acknowledged
    std::uint64_t delivered = 0; ///< lines acknowledged, in order
    bool stop = false;
};

constexpr std::uint64_t batch = 20; ///< lines that a client delivers in one connection, if it can

/// A client that has lines to deliver, one after the other. After a goodbye it delivers the rest of its batch
/// to the process that listens next.
net::awaitable<void> deliver(net::io_context& io, tcp::endpoint server, tally& seen)
{
    const std::string line = "line\n";
    std::uint64_t left = 0;
    while (!seen.stop || left != 0) {
        if (left == 0) left = batch;
        tcp::socket socket(io, tcp::v4());
        ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC); // or the next server would keep it open
        error_code ec;
        co_await socket.async_connect(server, net::redirect_error(net::use_awaitable, ec));
        if (ec) {
            ++seen.refused;
            continue;
        }
        ++seen.connections;
        std::string text;
        std::uint64_t taken = 0;
        for (; left != 0; ++taken, --left, ++seen.delivered) {
            error_code unsent; // the answers come first: a goodbye may be among them
            co_await net::async_write(socket, net::buffer(line), net::redirect_error(net::use_awaitable, unsent));
            co_await net::async_read_until(socket, net::dynamic_buffer(text), '\n',
                                           net::redirect_error(net::use_awaitable, ec));
            const std::string receipt = "{\"taken\":" + std::to_string(taken + 1) + "}\n";
            if (!text.starts_with(receipt)) break;
            text.erase(0, receipt.size());
        }
        if (left == 0) continue;
        if (!ec && text == "{\"goodbye\":" + std::to_string(taken) + "}\n")
            ++seen.goodbyes;
        else
            ++seen.broken;
    }
}

} // namespace

TEST_CASE("a restart under load refuses no client and loses no line, and the old server exits 0")
{
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0}); // the service manager's
    auto first = std::make_unique<process>(activated(), listener.native_handle());
    REQUIRE(first->line().find("graceful_server: listening on ") == 0);

    tally seen;
    constexpr int clients = 40;
    int running = clients;
    for (int i = 0; i != clients; ++i)
        net::co_spawn(io, deliver(io, listener.local_endpoint(), seen), [&](std::exception_ptr failure) {
            CHECK(!failure);
            --running;
        });
    const auto more = [&](std::uint64_t connections) {
        tests::run_until(io, [&, until = seen.connections + connections] { return seen.connections >= until; });
    };
    more(500);
    for (int restart = 0; restart != 3; ++restart) {
        std::vector<tcp::socket> quiet; // they send nothing more, and have to be notified
        for (int i = 0; i != 20; ++i) {
            quiet.emplace_back(io).connect(listener.local_endpoint());
            ::fcntl(quiet.back().native_handle(), F_SETFD, FD_CLOEXEC);
            net::write(quiet.back(), net::buffer(std::string("line\n")));
            std::string answer; // this server has it, and not the next one
            net::read_until(quiet.back(), net::dynamic_buffer(answer), '\n');
            CHECK(answer == "{\"taken\":1}\n");
        }
        first->signal(SIGTERM);
        // The clients go on until it has gone, and then no process accepts for a while: new clients wait.
        for (auto& each : quiet) {
            tests::run_until(io, [&] { return each.available() != 0; });
            CHECK(tests::read_to_end(each).bytes == "{\"goodbye\":1}\n");
        }
        quiet.clear();
        tests::run_until(io, [&] { return !first->running(); });
        std::string output;
        CHECK(first->wait(&output) == 0);
        INFO(output.substr(output.size() < 2000 ? 0 : output.size() - 2000));
        CHECK(output.find("drained, 0 reset") != std::string::npos);

        first = std::make_unique<process>(activated(), listener.native_handle());
        more(500);
    }
    seen.stop = true;
    tests::run_until(io, [&] { return running == 0; });
    CHECK(seen.refused == 0);
    CHECK(seen.broken == 0);
    CHECK(seen.goodbyes > 0);
    CHECK(seen.delivered % batch == 0); // all of them
    first->signal(SIGTERM);
    CHECK(first->wait() == 0);
    std::cout << seen.connections << " connections over 3 restarts: " << seen.refused << " refused, " << seen.broken
              << " broken, " << seen.goodbyes << " notified, " << seen.delivered << " lines\n";
}

TEST_CASE("the ladder climbs across two restarts: no client is refused, no connection broken, all come back")
{
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0}); // the service manager's
    ::fcntl(listener.native_handle(), F_SETFD, FD_CLOEXEC);
    const std::string pid_file = "graceful_restart." + std::to_string(::getpid()) + ".pid";
    const auto remove = [](const std::string* name) { std::remove(name->c_str()); };
    const std::unique_ptr<const std::string, decltype(remove)> removed{&pid_file}; // also where a check fails
    std::unique_ptr<process> server;
    const auto start = [&] {
        server = std::make_unique<process>(activated("1", "4s"), listener.native_handle());
        REQUIRE(server->line().find("graceful_server: listening on ") == 0);
        std::ofstream(pid_file) << server->pid() << std::endl;
    };
    start();
    process ladder({EXAMPLES_DIRECTORY "/ladder", "--port", std::to_string(listener.local_endpoint().port()),
                    "--pid-file", pid_file, "--rungs", "50,100", "--hello", "line\\n", "--hold", "0s", "--settle",
                    "500ms", "--climbs", "1", "--mix", "idle=70,slow=10,silent=10,aborting=10"});
    const auto serves = [&](std::uint64_t connections) {
        std::error_code ec;
        return holdfast::read_open_descriptors(server->pid(), ec) > connections;
    };
    for (const std::uint64_t rung : {50, 100}) {
        tests::run_until(io, [&] { return serves(rung); });
        server->signal(SIGTERM);
        std::string output;
        CHECK(server->wait(&output) == 0);
        CHECK(output.find("drained, 0 reset") != std::string::npos);
        start();
    }
    std::string report;
    CHECK(ladder.wait(&report, std::chrono::seconds(100)) == 0);
    INFO(report);
    const std::string found = "over 2 restarts 0 connections were refused, 0 broken, and ";
    REQUIRE(report.find(found) != std::string::npos);
    CHECK(std::stoul(report.substr(report.find(found) + found.size())) >= 130); // nearly all of each rung
    server->signal(SIGTERM);
    CHECK(server->wait() == 0);
}

TEST_CASE("a client that does not go is aborted at the deadline, and the server exits 0 all the same")
{
    net::io_context io;
    process server({program, "--port", "0", "--drain", "300ms"});
    const std::string first = server.line();
    const auto end = first.find(", pid ");
    REQUIRE(end != std::string::npos);
    const auto colon = first.rfind(':', end);
    const auto port = static_cast<unsigned short>(std::stoul(first.substr(colon + 1, end - colon - 1)));
    tcp::socket client(io);
    client.connect({net::ip::address_v4::loopback(), port});
    net::write(client, net::buffer(std::string("one\nhal"))); // a line, and the beginning of another
    std::string answer;
    net::read_until(client, net::dynamic_buffer(answer), '\n');
    CHECK(answer == "{\"taken\":1}\n");
    server.signal(SIGTERM);
    std::string output;
    CHECK(server.wait(&output) == 0);
    INFO(output);
    CHECK(output.find("drained, 1 reset") != std::string::npos);
    CHECK(output.find("drain deadline after") != std::string::npos);
    CHECK(tests::read_to_end(client).bytes == "{\"goodbye\":1}\n");
}

TEST_CASE("what a service manager hands over and cannot be served is refused in one line")
{
    net::io_context io;
    const auto refusal = [](const std::vector<std::string>& command, int descriptor) {
        std::string line;
        process child(command, descriptor);
        CHECK(child.wait(&line) == 2);
        return line;
    };
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    CHECK(refusal(activated("2"), listener.native_handle()).find("a single ListenStream=") != std::string::npos);
    CHECK(refusal(activated("x"), listener.native_handle()).find("LISTEN_FDS is 'x'") != std::string::npos);
    tcp::socket no_listener(io, tcp::v4());
    CHECK(refusal(activated(), no_listener.native_handle()).find("no listening TCP socket") != std::string::npos);
    net::local::stream_protocol::acceptor local(
        io, net::local::stream_protocol::endpoint(std::string(1, '\0') + "holdfast"));
    CHECK(refusal(activated(), local.native_handle()).find("no listening TCP socket") != std::string::npos);
}
