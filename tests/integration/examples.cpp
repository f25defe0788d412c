// holdfast: tests of the example programs as their users start them: what they promise, and what they
// answer to bad input.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/example_server.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <simdjson.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/stat.h>

using tests::process;
using tests::refusal;
using tests::tcp;
namespace net = holdfast::net;

namespace {

const std::string programs = tests::examples_directory;

using server = tests::example_server;

std::string read_all(tcp::socket& client)
{
    std::string all;
    holdfast::error_code ec;
    net::read(client, net::dynamic_buffer(all), ec);
    return all;
}

/// The ladder of the issue: 100 clients that each read 1 KiB/s of 100 MB, measured at once and 20 s later.
int slow_ladder(server& feed, std::string& output)
{
    process ladder({programs + "/ladder", "--port", feed.port, "--pid", std::to_string(feed.child.pid()), "--rungs",
                    "100", "--mix", "slow=100", "--slow-rate", "1k", "--rung-deadline", "5", "--hold", "20", "--climbs",
                    "1", "--budget-bytes", std::to_string(16 * 1024 + 4 * 1024)});
    return ladder.wait(&output, std::chrono::minutes(2));
}

} // namespace

TEST_CASE("100 slow readers of a 100 MB snapshot cost market_feed a chunk and 4 KiB each, also 20 seconds later")
{
    server feed("market_feed", {"--instruments", "1000000", "--send-buffer", "64k"});
    std::string output;
    const int status = slow_ladder(feed, output);
    INFO(output);
    CHECK(status == 0);
    CHECK(feed.child.running());
}

TEST_CASE("market_feed stays below the line that it states, also where no client reads")
{
    server feed("market_feed", {"--max-connections", "600", "--chunk", "16k", "--send-buffer", "64k"});
    const std::string stated = feed.line_beginning("market_feed: the line: ");
    process ladder({programs + "/ladder", "--port", feed.port, "--pid", std::to_string(feed.child.pid()), "--rungs",
                    "100,300,600", "--mix", "silent=50,slow=40,idle=10", "--settle", "500ms", "--hold", "300ms",
                    "--rung-deadline", "3s", "--climbs", "1", "--plan", stated.substr(stated.rfind(' ') + 1)});
    std::string output;
    CHECK(ladder.wait(&output) == 0);
    INFO(stated << '\n' << output);
    CHECK(output.find("RssAnon stays below the stated line") != std::string::npos);
    CHECK(output.find("the kernel's part stays below the stated line") != std::string::npos);
}

TEST_CASE("a server says how many connections fit, and refuses or warns of what does not")
{
    std::string line;
    const std::vector<std::string> promised{programs + "/market_feed", "--port", "0", "--memory", "100M"};
    CHECK(refusal(promised, line) == 2);
    CHECK(line.find("12000 connections may take") != std::string::npos);
    const auto at = line.rfind("give --max-connections ");
    REQUIRE(at != std::string::npos);
    std::string fitting = line.substr(at + std::string("give --max-connections ").size());
    fitting.pop_back();
    auto accepted = promised; // what it advises is taken
    accepted.insert(accepted.end(), {"--max-connections", fitting});
    process feed(accepted);
    CHECK(feed.line().find("listening on ") != std::string::npos);
    CHECK(feed.line().find("of 100 MiB; ") != std::string::npos);
    CHECK(feed.line().find(": the line: ") != std::string::npos);
    CHECK(refusal({programs + "/market_feed", "--memory", "1M"}, line) == 2);
    CHECK(line.find("not even one connection fits") != std::string::npos);
}

TEST_CASE("market_feed rejects one connection too many of an address, with a line that says so, and logs it")
{
    server feed("market_feed", {"--instruments", "10", "--per-address", "2"});
    net::io_context io;
    std::vector<tcp::socket> clients;
    for (int i = 0; i != 2; ++i) {
        clients.emplace_back(io).connect(feed.endpoint());
        char first = 0;
        net::read(clients.back(), net::buffer(&first, 1));
    }
    tcp::socket third(io);
    third.connect(feed.endpoint());
    CHECK(read_all(third) == "{\"error\":\"too many connections: try again later\"}\n");
    CHECK(feed.line_beginning("market_feed: a connection was rejected at the limit of connections of one address") !=
          "");
}

TEST_CASE("the same 100 slow readers exceed the memory of naive_feed")
{
    server feed("naive_feed", {"--instruments", "1000000", "--send-buffer", "64k", "--memory-limit", "2G"});
    std::string output;
    const int status = slow_ladder(feed, output);
    INFO(output);
    CHECK(status == 1); // a result, not an error of the ladder
}

TEST_CASE("the feeds answer SIGTERM within their drain, print their census, and exit 0")
{
    for (const std::string name : {"market_feed", "naive_feed"}) {
        server feed(name, {"--instruments", "10"});
        net::io_context io;
        tcp::socket client(io);
        client.connect(feed.endpoint());
        char first = 0;
        net::read(client, net::buffer(&first, 1));
        CHECK(first == '{');
        feed.child.signal(SIGTERM);
        const std::string rest = read_all(client); // up to the end of the stream
        CHECK(std::count(rest.begin(), rest.end(), '\n') >= 10);
        client.close();
        CHECK(feed.child.wait() == 0);
    }
}

TEST_CASE("market_feed on three threads sends all clients the same changes, keeps one limit, and drains")
{
    constexpr std::size_t clients = 7, instruments = 10, lines = instruments + 9; // the snapshot, and three ticks
    server feed("market_feed", {"--threads", "3", "--instruments", "10", "--rate", "3", "--max-connections", "7",
                                "--reject", "--drain", "10s"});
    net::io_context io;
    std::map<std::string, std::string> changes; // by their time, which is of one change
    std::map<std::string, std::size_t> receivers;
    auto all = tests::connect(io, feed.endpoint(), clients);
    for (auto& client : all) {
        std::string text;
        for (std::size_t n = 0; n != lines; ++n) {
            const auto size = net::read_until(client, net::dynamic_buffer(text), '\n');
            const std::string line = text.substr(0, size);
            text.erase(0, size);
            if (n < instruments) continue;
            const auto begin = line.find("\"time\":");
            REQUIRE(begin != std::string::npos);
            const std::string time = line.substr(begin, line.find_first_of(",}", begin) - begin);
            CHECK(changes.emplace(time, line).first->second == line);
            ++receivers[time];
        }
    }
    CHECK(std::any_of(receivers.begin(), receivers.end(), [](const auto& each) { return each.second > 3; }));
    tcp::socket refused(io);
    refused.connect(feed.endpoint());
    CHECK(read_all(refused).starts_with("{\"error\""));
    feed.child.signal(SIGTERM);
    for (auto& client : all) {
        read_all(client);
        client.close();
    }
    std::string output;
    CHECK(feed.child.wait(&output) == 0);
    CHECK(output.find("drained, 0 reset") != std::string::npos);
    CHECK(output.find("  drained: 7\n") != std::string::npos);
}

TEST_CASE("market_feed notifies 100 idle clients of its drain and exits long before its deadline of 30 seconds")
{
    server feed("market_feed", {"--instruments", "10", "--drain", "30s"});
    net::io_context io;
    std::vector<tcp::socket> clients;
    for (int i = 0; i != 100; ++i) {
        clients.emplace_back(io).connect(feed.endpoint());
        char first = 0;
        net::read(clients.back(), net::buffer(&first, 1));
    }
    feed.child.signal(SIGTERM);
    for (auto& client : clients) {
        read_all(client);
        client.close();
    }
    std::string output;
    CHECK(feed.child.wait(&output, std::chrono::seconds(15)) == 0);
    CHECK(output.find("drained, 0 reset") != std::string::npos);
    CHECK(output.find("  drained: 100\n") != std::string::npos);
}

TEST_CASE("echo_server echoes lines as JSON and drains at SIGTERM")
{
    server echo("echo_server", {});
    net::io_context io;
    tcp::socket client(io);
    client.connect(echo.endpoint());
    net::write(client, net::buffer(std::string("one\ntwo\n")));
    std::string answer;
    net::read_until(client, net::dynamic_buffer(answer), "two\"}\n");
    CHECK(answer == "{\"line\":1,\"text\":\"one\"}\n{\"line\":2,\"text\":\"two\"}\n");
    echo.child.signal(SIGTERM);
    CHECK(read_all(client).empty());
    client.close();
    CHECK(echo.child.wait() == 0);
}

TEST_CASE("netstring_server reads and writes a framing of its own")
{
    server echo("netstring_server", {});
    net::io_context io;
    tcp::socket client(io);
    client.connect(echo.endpoint());
    net::write(client, net::buffer(std::string("5:hello,0:,")));
    client.shutdown(tcp::socket::shutdown_send);
    CHECK(read_all(client) == "28:{\"message\":1,\"text\":\"hello\"},23:{\"message\":2,\"text\":\"\"},");
    tcp::socket other(io);
    other.connect(echo.endpoint());
    net::write(other, net::buffer(std::string("hello")));
    CHECK(read_all(other).empty());
    echo.child.signal(SIGTERM);
    CHECK(echo.child.wait() == 0);
}

TEST_CASE("callback_server answers each message, closes after the last one, refuses what is too long, and drains")
{
    using namespace std::string_literals;
    server echo("callback_server", {});
    net::io_context io;
    tcp::socket client(io);
    client.connect(echo.endpoint());
    net::write(client, net::buffer("\0\0\0\5hello\0\0\0\0"s));
    client.shutdown(tcp::socket::shutdown_send);
    CHECK(read_all(client) == "\0\0\0\x1b{\"number\":1,\"text\":\"hello\"}\0\0\0\x16{\"number\":2,\"text\":\"\"}"s);
    tcp::socket other(io);
    other.connect(echo.endpoint());
    net::write(other, net::buffer("\0\0\x10\1"s)); // 4097 bytes are announced
    CHECK(read_all(other).empty());
    tcp::socket idle(io);
    idle.connect(echo.endpoint());
    net::write(idle, net::buffer("\0\0\0\1a"s));
    std::string answer;
    net::read_until(idle, net::dynamic_buffer(answer), '}');
    echo.child.signal(SIGTERM);
    CHECK(read_all(idle).empty());
    idle.close();
    std::string log;
    CHECK(echo.child.wait(&log) == 0);
    for (const std::string end : {"closed by peer after ", "frame limit after ", "drained after "}) {
        INFO(end << "in:\n" << log);
        CHECK(log.find(end) != log.npos);
    }
}

TEST_CASE("behind a load balancer echo_server logs the client's address")
{
    server echo("echo_server", {"--proxy", "10.0.0.0/8,127.0.0.0/8"});
    net::io_context io;
    tcp::socket client(io);
    client.connect(echo.endpoint());
    net::write(client, net::buffer(std::string("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\nhello\n")));
    client.shutdown(tcp::socket::shutdown_send);
    CHECK(read_all(client) == "{\"line\":1,\"text\":\"hello\"}\n");
    CHECK(echo.line_beginning("closed by peer").find("192.0.2.1:4711") != std::string::npos);
    std::string line;
    CHECK(refusal({programs + "/echo_server", "--proxy", "10.0.0.1/8"}, line) == 2);
    CHECK(line.find("10.0.0.1/8") != std::string::npos);
}

TEST_CASE("echo_server logs why each client went")
{
    server echo("echo_server", {});
    net::io_context io;
    for (const bool orderly : {true, false}) {
        tcp::socket client(io);
        client.connect(echo.endpoint());
        net::write(client, net::buffer(std::string("one\n")));
        std::string answer;
        net::read_until(client, net::dynamic_buffer(answer), '\n');
        if (orderly)
            client.close();
        else
            tests::reset(client);
        CHECK(echo.line_beginning(orderly ? "closed by peer after" : "reset by peer after") != "");
    }
}

TEST_CASE("market_feed answers its census as JSON on its admin socket, which comes and goes with it")
{
    using local = net::local::stream_protocol;
    const std::string path = "admin_" + std::to_string(::getpid());
    net::io_context io;
    local::acceptor(io, path).close(); // the name stays, as after a crash
    server feed("market_feed", {"--instruments", "10", "--admin", path});
    std::vector<tcp::socket> clients;
    for (int i = 0; i != 3; ++i) {
        clients.emplace_back(io).connect(feed.endpoint());
        char first = 0;
        net::read(clients.back(), net::buffer(&first, 1));
    }
    clients[0].close();

    simdjson::dom::parser parser;
    simdjson::dom::element census;
    std::string answer;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    do { // until the feed has seen one go
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        local::socket admin(io);
        admin.connect(path);
        answer = tests::read_to_end(admin).bytes;
        REQUIRE(parser.parse(answer).get(census) == simdjson::SUCCESS);
    } while (std::uint64_t(census["live"]) != 2);
    INFO(answer);
    CHECK(answer.ends_with("}\n"));
    CHECK(std::uint64_t(census["peak"]) == 3);
    CHECK(std::uint64_t(census["ended"]) == 1);
    CHECK(simdjson::dom::object(census["ended_by"]).size() == 1);
    const simdjson::dom::array members = census["members"];
    REQUIRE(members.size() == 2);
    for (const auto member : members) {
        const auto remote = std::string_view(member["remote"]);
        CHECK(std::any_of(clients.begin() + 1, clients.end(), [&](const tcp::socket& client) {
            return remote == "127.0.0.1:" + std::to_string(client.local_endpoint().port());
        }));
        CHECK(std::uint64_t(member["bytes_out"]) > 100);
        CHECK(std::uint64_t(member["bytes_in"]) == 0);
        CHECK(std::int64_t(member["age_ms"]) >= 0);
        CHECK(!bool(member["draining"]));
    }

    std::string line;
    CHECK(refusal({programs + "/market_feed", "--port", "0", "--admin", path}, line) == 2);
    CHECK(line.find("a program listens there") != std::string::npos);
    CHECK(refusal({programs + "/market_feed", "--port", "0", "--admin", "/nowhere/admin"}, line) == 2);
    CHECK(line.find("cannot listen on /nowhere/admin: No such file") != std::string::npos);
    CHECK(refusal({programs + "/market_feed", "--port", "0", "--admin", std::string(200, 'a')}, line) == 2);
    CHECK(line.find("cannot listen on aaa") != std::string::npos);
    clients.clear();
    feed.child.signal(SIGTERM);
    CHECK(feed.child.wait() == 0);
    struct ::stat left{};
    CHECK(::lstat(path.c_str(), &left) != 0);

    std::ofstream(path) << "not a socket";
    CHECK(refusal({programs + "/market_feed", "--port", "0", "--admin", path}, line) == 2);
    CHECK(line.find("a file is in the way") != std::string::npos);
    CHECK(std::remove(path.c_str()) == 0); // it was not touched
}

TEST_CASE("what cannot work is refused in one line that says what to do, with exit status 2")
{
    std::string line;
    for (const std::string name : {"market_feed", "naive_feed", "echo_server", "graceful_server", "task_pool_server",
                                   "netstring_server", "log_collector"}) {
        const bool two_ports = name == "log_collector";
        const server first(name, two_ports ? std::vector<std::string>{"--http-port", "0"} : std::vector<std::string>{});
        CHECK(refusal({programs + "/" + name, "--port", first.port}, line) == 2);
        CHECK(line.find("cannot listen on ") != std::string::npos);
        CHECK(refusal({programs + "/" + name, "--bogus"}, line) == 2);
        CHECK(line.find("--bogus") != std::string::npos);
        CHECK(line.find("--help") != std::string::npos);
        CHECK(refusal({programs + "/" + name, "--address", "192.0.2.1"}, line) == 2); // reserved for documentation
        CHECK(line.find("cannot listen on ") != std::string::npos);
        CHECK(refusal({programs + "/" + name, two_ports ? "--max-readers" : "--max-connections", "4000000000"}, line) ==
              2);
        CHECK(line.find("descriptors") != std::string::npos);
    }
    const std::string not_json = "not_json_" + std::to_string(::getpid());
    std::ofstream(not_json) << "{\"half\": ";
    for (const std::string name : {"market_feed", "naive_feed"}) {
        CHECK(refusal({programs + "/" + name, "--document", not_json}, line) == 2);
        CHECK(line.find(not_json) != std::string::npos);
        CHECK(refusal({programs + "/" + name, "--document", "/nowhere"}, line) == 2);
        CHECK(line.find("/nowhere") != std::string::npos);
    }
    std::remove(not_json.c_str());
    CHECK(refusal({programs + "/ladder"}, line) == 2);
}

TEST_CASE("a port that needs a privilege which the process lacks is refused with the way out")
{
    if (::geteuid() == 0) {
        // As the user "nobody", in a child's child: this process must stay as it is.
        std::string line;
        process child({"/usr/bin/env", "setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all",
                       programs + "/echo_server", "--port", "80"});
        const int status = child.wait(&line);
        INFO(line);
        CHECK(status == 2);
        CHECK(line.find("choose a port of 1024 or above") != std::string::npos);
        return;
    }
    std::string line;
    CHECK(refusal({programs + "/echo_server", "--port", "80"}, line) == 2);
    CHECK(line.find("choose a port of 1024 or above") != std::string::npos);
}
