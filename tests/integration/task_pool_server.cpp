// holdfast: tests of task_pool_server: answers in order, never too many parts at once, and nothing is left at
// work for a client that has gone.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/example_server.hpp"
#include "support/sockets.hpp"

#include <holdfast/process/memory.hpp>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using tests::tcp;
namespace net = holdfast::net;

namespace {

struct server : tests::example_server {
    explicit server(std::vector<std::string> arguments) : example_server("task_pool_server", std::move(arguments)) {}

    /// Its figures: "parts: 6 begun, 4 sent, 0 at work (at most 2), 0 waiting".
    std::string parts()
    {
        child.signal(SIGUSR1);
        return line_beginning("parts: ");
    }
};

struct client {
    explicit client(const server& where) : socket(io) { socket.connect(where.endpoint()); }

    void send(const std::string& lines) { net::write(socket, net::buffer(lines)); }

    /// The next `count` lines.
    std::string lines(std::ptrdiff_t count)
    {
        std::array<char, 4096> bytes;
        while (std::count(text.begin(), text.end(), '\n') < count) {
            tests::await_readable(socket);
            text.append(bytes.data(), socket.read_some(net::buffer(bytes)));
        }
        std::size_t end = 0;
        for (; count != 0; --count)
            end = text.find('\n', end) + 1;
        std::string first = text.substr(0, end);
        text.erase(0, end);
        return first;
    }

    net::io_context io;
    tcp::socket socket;
    std::string text;
};

/// "1 of 50", "2 of 50"...: the places of the answers to the first job, in the order in which they came.
std::vector<std::string> places(const std::string& answers)
{
    std::vector<std::string> all;
    const std::string part = "{\"job\":1,\"part\":", of = ",\"parts\":";
    for (std::size_t at = 0; (at = answers.find(part, at)) != std::string::npos;) {
        at += part.size();
        const auto between = answers.find(of, at);
        all.push_back(answers.substr(at, between - at) + " of " +
                      answers.substr(between + of.size(), answers.find(',', between + 1) - between - of.size()));
    }
    return all;
}

std::vector<std::string> all_places(int count)
{
    std::vector<std::string> all;
    for (int i = 1; i <= count; ++i)
        all.push_back(std::to_string(i) + " of " + std::to_string(count));
    return all;
}

const std::string endless = "1 1000000000\n"; // a million parts, where each has 1,000 numbers

} // namespace

TEST_CASE("the parts of each job are answered in order, and a job that is none in its place")
{
    server pool({"--part", "1000", "--parts-per-client", "3"});
    client peer(pool);
    std::string asked = "1 2500\n";
    std::string expected = R"({"job":1,"part":1,"parts":3,"primes":168}
{"job":1,"part":2,"parts":3,"primes":135}
{"job":1,"part":3,"parts":3,"primes":64}
)";
    int number = 1;
    for (const std::string none :
         {"", "what", "5", "5 ", "5 1", "0 5", "-1 5", "1 1000000001", "1 5 9", "1  5", "1 99999999999999999999"}) {
        asked += none + "\n";
        expected += "{\"job\":" + std::to_string(++number) +
                    ",\"error\":\"give two whole numbers, FIRST LAST, from 1 to 1000000000\"}\n";
    }
    asked += "999999937 1000000000\r\n7 7\n";
    expected += R"({"job":13,"part":1,"parts":1,"primes":1}
{"job":14,"part":1,"parts":1,"primes":1}
)";
    peer.send(asked);
    peer.socket.shutdown(tcp::socket::shutdown_send); // and is answered all the same
    CHECK(tests::read_to_end(peer.socket).bytes == expected);
    peer.socket.close();
    CHECK(pool.line_beginning("closed by peer") != "");
    pool.child.signal(SIGTERM);
    CHECK(pool.child.wait() == 0);
}

TEST_CASE("no more parts run than one client may have, nor than the limit for all")
{
    server pool({"--part", "1000", "--parts-per-client", "2", "--at-once", "3"});
    const std::string fifty = "999950001 1000000000\n";
    client alone(pool);
    alone.send(fifty);
    const std::string answers = alone.lines(50);
    CHECK(places(answers) == all_places(50));
    CHECK(pool.parts() == "parts: 50 begun, 50 sent, 0 at work (at most 2), 0 waiting");

    std::vector<std::unique_ptr<client>> many;
    for (int i = 0; i != 4; ++i) {
        many.push_back(std::make_unique<client>(pool));
        many.back()->send(fifty);
    }
    for (auto& each : many)
        CHECK(each->lines(50) == answers);
    CHECK(pool.parts() == "parts: 250 begun, 250 sent, 0 at work (at most 3), 0 waiting");
}

TEST_CASE("a client that leaves in the middle of its job leaves no part running, whether it closes or resets")
{
    server pool({"--part", "1000"});
    client stays(pool);
    for (const bool orderly : {true, false}) {
        client leaves(pool);
        leaves.send(endless);
        leaves.lines(5);
        if (orderly)
            leaves.socket.close();
        else
            tests::reset(leaves.socket);
        CHECK(pool.line_beginning("reset by peer after") != ""); // a session ends after its last part
        const std::string parts = pool.parts();
        INFO(parts);
        CHECK(parts.find(", 0 at work (") != std::string::npos);
        CHECK(parts.ends_with("), 0 waiting"));
    }
    stays.send("1 2000\n");
    CHECK(places(stays.lines(2)) == all_places(2));
}

TEST_CASE("a client may wait for longer than the time-out, but not be silent or leave its answers unread")
{
    server pool({"--timeout", "160ms", "--at-once", "1", "--part", "60000"});
    client waits(pool);
    waits.send("999940001 1000000000\n"); // a part that takes longer than that
    CHECK(places(waits.lines(1)) == all_places(1));
    CHECK(pool.line_beginning("heartbeat timeout after") != ""); // it has been silent since

    server quick({"--timeout", "160ms", "--part", "1"});
    client unread(quick);
    unread.send(endless);
    CHECK(quick.line_beginning("heartbeat timeout after") != "");
    CHECK(quick.parts().find(", 0 at work (") != std::string::npos);
}

TEST_CASE("a drain finishes the jobs that have arrived, and aborts them at its deadline")
{
    server pool({"--part", "1000"});
    client peer(pool);
    peer.send("999950001 1000000000\n");
    const std::string first = peer.lines(1);
    pool.child.signal(SIGTERM);
    CHECK(places(first + peer.text + tests::read_to_end(peer.socket).bytes) == all_places(50));
    peer.socket.close();
    std::string output;
    CHECK(pool.child.wait(&output) == 0);
    CHECK(output.find("drained, 0 reset") != std::string::npos);

    server endlessly({"--part", "1000", "--drain", "100ms"});
    client left(endlessly);
    left.send(endless);
    left.lines(1);
    endlessly.child.signal(SIGTERM);
    CHECK(endlessly.child.wait(&output) == 0);
    INFO(output);
    CHECK(output.find("drained, 1 reset") != std::string::npos);
    CHECK(output.find(" 0 at work (") != std::string::npos);
}

TEST_CASE("clients that all have as many parts as they may stay below the line that the server states")
{
    server pool({"--part", "1000000", "--at-once", "1", "--parts-per-client", "4"});
    const std::string stated = pool.line_beginning("task_pool_server: the line: ");
    std::uint64_t base = 0, each = 0;
    REQUIRE(std::sscanf(stated.c_str() + stated.rfind(' '), "%" SCNu64 "+%" SCNu64, &base, &each) == 2);
    std::error_code ec;
    const auto before = holdfast::read_process_memory(pool.child.pid(), ec).rss_anon;
    std::vector<std::unique_ptr<client>> clients;
    for (int i = 0; i != 200; ++i) {
        clients.push_back(std::make_unique<client>(pool));
        clients.back()->send("900000000 1000000000\n");
    }
    unsigned begun = 0;
    while (begun < 800)
        REQUIRE(std::sscanf(pool.parts().c_str(), "parts: %u begun", &begun) == 1);
    const auto grown = holdfast::read_process_memory(pool.child.pid(), ec).rss_anon - before;
    INFO(before << " grew by " << grown << ", of " << base << " + 200 x " << each);
    CHECK(grown > 200 * each / 3); // it is no empty promise
    CHECK(grown < 200 * each);
    CHECK(before < base); // what is there without connections
}

TEST_CASE("limits of nothing are refused in one line")
{
    for (const std::string option : {"--parts-per-client", "--part", "--timeout"}) {
        std::string line;
        CHECK(tests::refusal({tests::examples_directory + "/task_pool_server", option, "0"}, line) == 2);
        CHECK(line.find(option) != std::string::npos);
    }
}
