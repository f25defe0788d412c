// holdfast: does log_collector bring what real Protobuf clients send to curl, whole, filtered and compressed?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/example_server.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>
#include <signal.h>
#include <unistd.h>

using tests::process;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// Sends batches of records by Protobuf's own classes, and prints each with level, service and JSON, as the
/// collector should show it.
constexpr const char* program = R"(
import json, random, socket, sys
import log_collector_pb2 as log
from google.protobuf.internal.encoder import _VarintBytes
port, seed, batches = (int(arg) for arg in sys.argv[1:])
random.seed(seed)
there = socket.create_connection(('127.0.0.1', port))
number = 0
for _ in range(batches):
    batch = log.Batch()
    for _ in range(random.randrange(8)):
        text = ''.join(random.choice(['plain ', '"', '\\', '\n', '\x01', '\u20ac', '\U0001f30a']) for _ in range(random.randrange(20)))
        record = batch.records.add(time_ms=random.getrandbits(60), level=random.randrange(4),
                                   service=random.choice(['billing', 'api gateway']), message=text)
        level = ['debug', 'info', 'warn', 'error'][record.level]
        line = json.dumps({'number': number, 'time_ms': record.time_ms, 'level': level, 'service': record.service,
                           'message': text}, ensure_ascii=False, separators=(',', ':'))
        sys.stdout.buffer.write(f'{record.level} {record.service[0]} {number} {line}\n'.encode())
        number += 1
    whole = batch.SerializeToString()
    there.sendall(_VarintBytes(len(whole)) + whole)
there.shutdown(socket.SHUT_WR)
assert there.recv(1) == b''  # all of it was taken
)";

struct collector : tests::example_server {
    explicit collector(std::vector<std::string> arguments = {})
        : example_server("log_collector", with_port(std::move(arguments)))
    {
        const std::string second = child.line();
        const auto colon = second.rfind(':');
        http_port = second.substr(colon + 1, second.find('/', colon) - colon - 1);
    }

    static std::vector<std::string> with_port(std::vector<std::string> arguments)
    {
        // A drain that is over before the slowest reader has its last bytes resets it.
        arguments.insert(arguments.end(), {"--http-port", "0", "--drain", "60s"});
        return arguments;
    }

    [[nodiscard]] std::vector<std::string> curl(const std::string& path,
                                                const std::vector<std::string>& more = {}) const
    {
        std::vector<std::string> command{"/usr/bin/curl", "--silent", "--show-error", "--noproxy", "*", "--no-buffer"};
        command.insert(command.end(), more.begin(), more.end());
        command.push_back("http://127.0.0.1:" + http_port + path);
        return command;
    }

    [[nodiscard]] tcp::endpoint http_endpoint() const
    {
        return {net::ip::address_v4::loopback(), static_cast<unsigned short>(std::stoul(http_port))};
    }

    /// The answer to a request, with its head, up to the end of the stream.
    [[nodiscard]] std::string ask(const std::string& request) const
    {
        net::io_context io;
        tcp::socket reader(io);
        reader.connect(http_endpoint());
        net::write(reader, net::buffer(request));
        std::string all;
        holdfast::error_code ec;
        net::read(reader, net::dynamic_buffer(all), ec);
        return all;
    }

    std::string http_port;
};

/// The records, as the client printed them.
struct sent_record {
    int level;
    char service; // its first letter
    std::string number, json;
};

std::vector<sent_record> send_records(const collector& to, unsigned seed, int batches)
{
    process client({"/usr/bin/env", "PYTHONPATH=" PYTHON_CLASSES, PYTHON, "-c", program, to.port, std::to_string(seed),
                    std::to_string(batches)});
    std::string printed;
    const int status = client.wait(&printed);
    INFO(printed);
    REQUIRE(status == 0);
    std::vector<sent_record> sent;
    for (std::string_view rest = printed; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(line.size() + 1);
        const auto space = line.find(' ', 4);
        sent.push_back(
            {line[0] - '0', line[2], std::string(line.substr(4, space - 4)), std::string(line.substr(space + 1))});
    }
    return sent;
}

} // namespace

TEST_CASE("curl reads what protoc's classes sent: live and later, filtered, as lines and events, compressed")
{
    if (::access("/usr/bin/curl", X_OK) != 0) {
        WARN("left out: there is no /usr/bin/curl");
        return;
    }
    collector server({"--compressors", "2"});
    process live(server.curl("/logs?level=warn"));
    while (server.ask("GET /status HTTP/1.1\r\nHost: here\r\n\r\n").find("\"bytes_out\":1") == std::string::npos)
        ::poll(nullptr, 0, 10); // until it has its head: from now on it sees all
    const unsigned seed = Catch::rngSeed();
    INFO("seed " << seed);
    const auto sent = send_records(server, seed, 100);
    REQUIRE(sent.size() > 100);

    struct reader {
        std::string path;
        std::vector<std::string> options;
        bool (*passes)(const sent_record&);
        bool events = false;

        [[nodiscard]] std::string expected(const std::vector<sent_record>& sent) const
        {
            std::string all;
            for (const sent_record& each : sent)
                if (passes(each))
                    all += events ? "id: " + each.number + "\ndata: " + each.json + "\n\n" : each.json + "\n";
            return all;
        }
    };
    const std::string event_stream = "Accept: text/event-stream";
    const std::vector<reader> readers{
        {"/logs?last=99999", {}, [](const sent_record&) { return true; }},
        {"/logs?last=99999&level=error", {"--compressed"}, [](const sent_record& r) { return r.level == 3; }},
        {"/logs?last=99999&service=api%20gateway", {}, [](const sent_record& r) { return r.service == 'a'; }},
        {"/logs?last=99999&service=billing&level=info",
         {"--header", event_stream},
         [](const sent_record& r) { return r.service == 'b' && r.level >= 1; },
         true},
        {"/logs?last=99999", {"--compressed", "--header", event_stream}, [](const sent_record&) { return true; }, true},
        {"/logs", // one who was there before
         {"--header", event_stream, "--header", "Last-Event-ID: 41"},
         [](const sent_record& r) { return std::stoi(r.number) > 41; },
         true},
        {"/logs?last=99999", {"--compressed"}, [](const sent_record&) { return true; }}, // no compressor left
    };
    std::vector<std::unique_ptr<process>> running;
    for (const reader& each : readers) {
        running.push_back(std::make_unique<process>(server.curl(each.path, each.options)));
        // The next one comes when this one is served: its first line has come.
        const std::string first = running.back()->line();
        CHECK(each.expected(sent).starts_with(first + "\n"));
    }
    server.child.signal(SIGTERM);
    for (std::size_t i = 0; i != readers.size(); ++i) {
        const std::string expected = readers[i].expected(sent);
        std::string rest;
        CHECK(running[i]->wait(&rest) == 0); // the drain ends each body in good order
        CHECK(expected.substr(expected.find('\n') + 1) == rest);
    }
    std::string rest;
    CHECK(live.wait(&rest) == 0);
    CHECK(rest == reader{"", {}, [](const sent_record& r) { return r.level >= 2; }}.expected(sent));
    CHECK(server.child.wait() == 0);
}

namespace {

/// The content of a chunked response.
std::string without_chunks(std::string_view body)
{
    std::string content;
    while (!body.empty()) {
        const std::size_t line = body.find("\r\n");
        REQUIRE(line != body.npos);
        const std::size_t size = std::stoul(std::string(body.substr(0, line)), nullptr, 16);
        REQUIRE(body.size() >= line + size + 4);
        content += body.substr(line + 2, size);
        body.remove_prefix(line + size + 4);
    }
    return content;
}

} // namespace

TEST_CASE("a reader that is too slow learns how many records it has missed, and costs no memory")
{
    collector server({"--window", "16k"});
    net::io_context io;
    tcp::socket slow(io);
    slow.open(tcp::v4());
    slow.set_option(net::socket_base::receive_buffer_size(4096));
    slow.connect(server.http_endpoint());
    net::write(slow, net::buffer(std::string("GET /logs HTTP/1.1\r\nHost: here\r\n\r\n")));
    std::string all;
    net::read_until(slow, net::dynamic_buffer(all), "\r\n\r\n"); // it is served
    const std::size_t sent = send_records(server, Catch::rngSeed(), 600).size();
    server.child.signal(SIGTERM);
    holdfast::error_code ec;
    net::read(slow, net::dynamic_buffer(all), ec);
    CHECK(ec == net::error::eof);
    slow.close();
    CHECK(all.ends_with("\r\n0\r\n\r\n"));
    all = without_chunks(all.substr(all.find("\r\n\r\n") + 4)); // a chunk may end within a record's name
    std::size_t seen = 0, missed = 0, next = 0;
    bool in_order = true;
    for (auto at = all.find("{\""); at != all.npos; at = all.find("{\"", at + 1)) {
        if (all.compare(at, 9, "{\"missed\"") == 0) {
            missed += std::stoul(all.substr(at + 10));
        } else if (all.compare(at, 10, "{\"number\":") == 0) {
            in_order = in_order && std::stoul(all.substr(at + 10)) >= next;
            next = std::stoul(all.substr(at + 10)) + 1;
            ++seen;
        }
    }
    CHECK(in_order);
    CHECK(missed != 0);
    CHECK(seen + missed == sent);
    CHECK(server.child.wait() == 0);
}

TEST_CASE("a client that sends no batch, or requests what is not there, gets an error or is disconnected, and the "
          "others continue")
{
    collector server;
    using namespace std::string_literals;
    for (const std::string& bad : {"\x03\x0a\x05x"s, "\x01\xff"s, "\x02\x0f\x00"s, "\xff\xff\xff\xff\x7f"s,
                                   "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, "\x7fhalf a batch"s}) {
        net::io_context io;
        tcp::socket client(io);
        client.connect(server.endpoint());
        net::write(client, net::buffer(bad));
        client.shutdown(tcp::socket::shutdown_send);
        std::string all;
        holdfast::error_code ec;
        net::read(client, net::dynamic_buffer(all), ec);
        CHECK(all.empty()); // closed, by a reset where bytes were left unread
    }
    const auto status_of = [&](const std::string& request) { return server.ask(request).substr(0, 12); };
    CHECK(status_of("GET /nowhere HTTP/1.1\r\nHost: here\r\n\r\n") == "HTTP/1.1 404");
    CHECK(status_of("POST /logs HTTP/1.1\r\nHost: here\r\n\r\n") == "HTTP/1.1 405");
    CHECK(status_of("GET /logs?level=loud HTTP/1.1\r\nHost: here\r\n\r\n") == "HTTP/1.1 400");
    CHECK(status_of("GET /logs HTTP/1.0\r\n\r\n") == "HTTP/1.1 505");
    CHECK(status_of("nonsense\r\n\r\n") == "HTTP/1.1 400");
    CHECK(status_of("GET /status HTTP/1.1\r\n\r\n") == "HTTP/1.1 400"); // no Host
    CHECK(status_of("GET /status HTTP/1.1\r\n" + std::string(5000, 'x') + "\r\n\r\n") == "HTTP/1.1 431");
    for (const char* path : {"/status", "/logs"}) {
        const std::string head = server.ask("HEAD " + std::string(path) + " HTTP/1.1\r\nHost: here\r\n\r\n");
        CHECK(head.starts_with("HTTP/1.1 200"));
        CHECK(head.ends_with("\r\n\r\n"));
        CHECK(head.find("\r\n\r\n") == head.size() - 4);
    }
    const std::string status = server.ask("GET /status HTTP/1.1\r\nHost: here\r\n\r\n");
    CHECK(status.find("\"records\":0,\"programs\":{\"live\":0,\"peak\":") != status.npos);
    CHECK(send_records(server, 1, 3).size() > 0);
    server.child.signal(SIGTERM);
    CHECK(server.child.wait() == 0);
}
