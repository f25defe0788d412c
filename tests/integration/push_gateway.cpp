// holdfast: does push_gateway answer as HTTP says, and does nobody, a browser included, miss a message over a restart?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/example_server.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <signal.h>
#include <unistd.h>

using tests::process;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// All that comes for the requests, up to the end of the stream.
std::string ask(const tests::example_server& server, const std::string& requests)
{
    net::io_context io;
    tcp::socket client(io);
    client.connect(server.endpoint());
    net::write(client, net::buffer(requests));
    std::string all;
    holdfast::error_code ec;
    net::read(client, net::dynamic_buffer(all), ec);
    return all;
}

std::string get(std::string_view path, std::string_view fields = {}, std::string_view method = "GET")
{
    std::string request(method);
    request.append(" ").append(path).append(" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n");
    return request.append(fields).append("\r\n");
}

std::size_t count(std::string_view text, std::string_view part)
{
    std::size_t found = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1))
        ++found;
    return found;
}

} // namespace

TEST_CASE("push_gateway answers each request, and says what is wrong with the others")
{
    tests::example_server server("push_gateway", {"--max-connections", "100"});
    const auto status_of = [&](const std::string& request) { return ask(server, request).substr(9, 3); };
    CHECK(ask(server, get("/")).find("<!doctype html>") != std::string::npos);
    const std::string head = ask(server, get("/", {}, "HEAD"));
    CHECK(head.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(head.ends_with("\r\n\r\n"));
    CHECK(ask(server, get("/healthz")).ends_with("\r\n\r\nready\n"));
    CHECK(status_of(get("/nowhere")) == "404");
    CHECK(status_of(get("/", {}, "DELETE")) == "405");
    CHECK(status_of(get("/", "Content-Length: 3\r\n", "POST") + "abc") == "413");
    CHECK(status_of(get("/ws")) == "426");
    CHECK(status_of("GET / HTTP/1.1\r\n\r\n") == "400"); // no Host
    CHECK(status_of("nonsense\r\n\r\n") == "400");
    CHECK(status_of("GET / HTTP/1.1\nHost: a\n\n") == "400");
    CHECK(status_of(get("/", "X: " + std::string(9000, 'x') + "\r\n")) == "431");
    CHECK(status_of("GET / HTTP/1.0\r\n\r\n") == "200");
    CHECK(status_of("GET /events HTTP/1.0\r\n\r\n") == "505");
    const std::string metrics = ask(server, "GET /metrics HTTP/1.0\r\n\r\n");
    for (const std::string_view each : {"# TYPE holdfast_connections gauge\nholdfast_connections 1\n",
                                        "\nholdfast_plan_process_bytes ", "\nholdfast_topic_published_total ",
                                        "\nholdfast_loop_lag_max_seconds ", "\nholdfast_process_rss_anon_bytes "})
        CHECK(count(metrics, each) == 1);
    CHECK(ask(server, get("/metrics")).ends_with("\r\n0\r\n\r\n"));
    std::string many; // on one connection, up to the limit
    for (int i = 0; i != 101; ++i)
        many += "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n";
    const std::string answers = ask(server, many);
    CHECK(count(answers, "HTTP/1.1 200 OK") == 100);
    CHECK(count(answers, "Connection: close") == 1);
    server.child.signal(SIGTERM);
    CHECK(server.child.wait() == 0);
}

TEST_CASE("a client that names its last event continues after it; one that has missed more gets the state")
{
    tests::example_server server("push_gateway", {"--max-connections", "100", "--interval", "5ms", "--ring", "400k"});
    const auto events = [&](const std::string& last, int most) { // the ids that come
        net::io_context io;
        tcp::socket client(io);
        client.connect(server.endpoint());
        net::write(client, net::buffer(get("/events", last.empty() ? last : "Last-Event-ID: " + last + "\r\n")));
        std::string text;
        std::vector<std::string> ids;
        for (; most != 0; --most) {
            const auto end = net::read_until(client, net::dynamic_buffer(text), "\n\n");
            const std::string event = text.substr(0, end);
            text.erase(0, end);
            const auto id = event.find("id: ");
            REQUIRE(id != event.npos);
            ids.push_back((event.find("event: snapshot\n") != event.npos ? "state " : "") +
                          event.substr(id + 4, event.find('\n', id) - id - 4));
        }
        return ids;
    };
    const auto next = [](const std::string& id) {
        const auto dash = id.find('-') + 1;
        return id.substr(0, dash) + std::to_string(std::stoul(id.substr(dash)) + 1);
    };
    auto first = events("", 4);
    REQUIRE(first[0].starts_with("state "));
    first[0].erase(0, 6);
    for (std::size_t i = 0; i != 3; ++i)
        CHECK(first[i + 1] == next(first[i]));
    const auto second = events(first[3], 1000); // more than the ring keeps
    CHECK(second[0] == next(first[3]));
    bool in_order = true;
    for (std::size_t i = 0; i + 1 != second.size(); ++i)
        in_order = in_order && second[i + 1] == next(second[i]);
    CHECK(in_order);
    CHECK(events(first[3], 1)[0].starts_with("state "));
    CHECK(events("0-" + first[3].substr(first[3].find('-') + 1), 1)[0].starts_with("state ")); // of another process
    server.child.signal(SIGTERM);
    CHECK(server.child.wait() == 0);
}

TEST_CASE("over a graceful restart and a SIGKILL no client and no browser misses a message without being told")
{
    std::vector<std::string> command{
        "/usr/bin/env", "python3",  GATEWAY_CHECK,   tests::examples_directory + "/push_gateway",
        "--clients",    "300",      "--never",       "3",
        "--kill",       "--report", REPORT_DIRECTORY};
    if (::access("/usr/bin/chromium", X_OK) == 0)
        command.insert(command.end(), {"--browser", "/usr/bin/chromium"});
    else
        WARN("left out: the browser; there is no /usr/bin/chromium (tests/run installs it)");
    process check(command);
    std::string output;
    const int status = check.wait(&output, std::chrono::seconds(110));
    INFO(output);
    CHECK(status == 0);
    CHECK(output.find("gateway: nothing missed, nothing doubled, within the bound\n") != std::string::npos);
}

#if defined(CLUSTER_CHECK)
TEST_CASE("a cluster of nodes: no client misses a message, whichever node, Redis or HAProxy goes and comes back")
{
    process check({"/usr/bin/env", "python3", CLUSTER_CHECK, tests::examples_directory + "/push_gateway",
                   "--redis-server", REDIS_SERVER, "--haproxy", HAPROXY, "--clients", "200", "--outage", "2",
                   "--stagger", "1", "--slowstart", "1", "--rate", "5"});
    std::string output;
    const int status = check.wait(&output, std::chrono::seconds(110));
    INFO(output);
    CHECK(status == 0);
    CHECK(output.find("nothing missed, nothing doubled, within the bounds\n") != std::string::npos);
}
#endif
