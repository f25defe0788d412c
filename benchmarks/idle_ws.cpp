// holdfast: what an idle WebSocket costs the server: handshake, a message each way, and quiet since.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/websocket_servers.hpp; Python's websockets and Node's ws beside them. Each runs in a process of its
// own; the clients are this one.
//
// Cases: the number of connections; _deflate: with permessage-deflate, and a compressed message each way; _tls: over TLS.
//
// Metric, for each number of connections; those of a server's first 64 connections do not count:
//   rss_anon_bytes_per_connection  the process's anonymous memory
#if defined(HOLDFAST_BENCHMARKS_TLS)
#include "../tests/support/certificates.hpp"
#include "support/tls_clients.hpp"
#endif
#include "support/results.hpp"
#include "support/websocket_clients.hpp"
#include "support/websocket_servers.hpp"

#include <holdfast/process/memory.hpp>

#include <malloc.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t warm = 64;

const std::string text = "a WebSocket message of 32 bytes.";
const std::string expected = "\x81\x20" + text; // what comes back

/// Connects until there are `n`; each new one gets a message back.
void grow_to(benchmarks::websocket_clients& clients, std::size_t n)
{
    static const std::string sent = benchmarks::websocket_clients::frame(text);
    clients.grow_to(n, [](std::span<const int> added) {
        for (const int each : added)
            benchmarks::websocket_clients::send(each, sent);
        for (const int each : added)
            if (benchmarks::websocket_clients::receive(
                    each, [](const std::string& got) { return got.size() >= expected.size(); }) != expected)
                throw std::runtime_error("a message came back changed");
    });
}

/// The same with a message of 200 bytes that is worth to be compressed.
void grow_compressed_to(benchmarks::websocket_clients& clients, std::size_t n)
{
    // A block that is stored, and an empty one: the client needs no compressor.
    static const std::string stored("\x00\xc8\x00\x37\xff", 5);
    static const std::string sent = [] {
        std::string frame =
            benchmarks::websocket_clients::frame(stored + benchmarks::published_text + std::string(1, '\0'));
        frame[0] = static_cast<char>(0xc1);
        return frame;
    }();
    clients.grow_to(n, [](std::span<const int> added) {
        for (const int each : added)
            benchmarks::websocket_clients::send(each, sent);
        for (const int each : added) {
            const auto got = benchmarks::websocket_clients::receive(each, [](const std::string& all) {
                return all.size() >= 2 && all.size() >= 2U + static_cast<unsigned char>(all[1]);
            });
            if (static_cast<unsigned char>(got[0]) != 0xc1 || got.size() > 100)
                throw std::runtime_error("a message did not come back compressed");
        }
    });
}

struct subject {
    std::string name;
    std::function<void(int)> serve;
    std::function<void(int)> serve_deflate{}; // none: it is not measured
};

#if defined(HOLDFAST_BENCHMARKS_TLS)
/// The handshake of a WebSocket, and a message that comes back.
void greet(benchmarks::tls_client& client)
{
    client.write(std::string(benchmarks::websocket_clients::request).append("\r\n"));
    std::string response;
    for (char next = 0; !response.ends_with("\r\n\r\n"); response += next)
        client.read_all(&next, 1);
    if (!response.starts_with("HTTP/1.1 101 ")) throw std::runtime_error("a server does not accept the WebSocket");
    client.write(benchmarks::websocket_clients::frame(text));
    std::string got(expected.size(), '\0');
    client.read_all(got.data(), got.size());
    if (got != expected) throw std::runtime_error("a message came back changed");
}
#endif

double rss_anon(::pid_t server)
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(server, ec);
    if (ec) throw std::system_error(ec, "the server's memory");
    return static_cast<double>(memory.rss_anon);
}

void measure(const subject& each, bool deflate, const std::vector<std::uint32_t>& cases, std::chrono::seconds quiet,
             benchmarks::results& results)
{
    const benchmarks::server_process server([&](int listener) {
        ::malloc_trim(0); // what the clients' process has freed is not there for the first connections
        (deflate ? each.serve_deflate : each.serve)(listener);
    });
    benchmarks::websocket_clients load(server.address, deflate);
    const auto grow = deflate ? grow_compressed_to : grow_to;
    grow(load, warm);
    std::this_thread::sleep_for(quiet);
    const double none = rss_anon(server.pid);
    for (const std::uint32_t n : cases) {
        grow(load, n);
        std::this_thread::sleep_for(quiet);
        results.add(each.name, std::to_string(n) + (deflate ? "_deflate" : ""), "rss_anon_bytes_per_connection",
                    (rss_anon(server.pid) - none) / static_cast<double>(n - warm), "B");
    }
}

#if defined(HOLDFAST_BENCHMARKS_TLS)
void measure_tls(const subject& each, const std::vector<std::uint32_t>& cases, std::chrono::seconds quiet,
                 benchmarks::results& results)
{
    const benchmarks::server_process server([&](int listener) {
        ::malloc_trim(0);
        each.serve(listener);
    });
    constexpr std::size_t handshakes = 32; // at a time
    benchmarks::tls_clients load(server.address);
    load.grow_to(warm, handshakes, greet);
    std::this_thread::sleep_for(quiet);
    const double none = rss_anon(server.pid);
    for (const std::uint32_t n : cases) {
        load.grow_to(n, handshakes, greet);
        std::this_thread::sleep_for(quiet);
        results.add(each.name, std::to_string(n) + "_tls", "rss_anon_bytes_per_connection",
                    (rss_anon(server.pid) - none) / static_cast<double>(n - warm), "B");
    }
}
#endif

int run(int argc, char** argv)
{
    std::uint32_t only = 0, quiet = 2;
    std::string only_subject;
    benchmarks::results results{"idle_ws"};
    benchmarks::command_line cli{"idle_ws", "What an idle WebSocket costs the server, in bytes."};
    results.add_options(cli);
    cli.add("case", only, "N", "how many connections; 0: 1000 and 5000");
    cli.add("subject", only_subject, "NAME", "one server only, or all");
    cli.add("quiet", quiet, "SECONDS", "time without traffic before memory is read");
    if (!cli.parse(argc, argv)) return 0;
    if (only != 0 && (only < 100 || only > 19'900)) benchmarks::command_line::fail("case", "must be 100 to 19900");
    const std::vector<std::uint32_t> cases = only != 0 ? std::vector{only} : std::vector<std::uint32_t>{1000, 5000};
    results.open();

    std::vector<subject> subjects{
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
        {"holdfast", benchmarks::serve_holdfast_websocket, benchmarks::serve_holdfast_websocket_deflate},
        {"holdfast_callback", benchmarks::serve_holdfast_websocket_callback,
         benchmarks::serve_holdfast_websocket_callback_deflate},
#else
        {"holdfast", benchmarks::serve_holdfast_websocket},
        {"holdfast_callback", benchmarks::serve_holdfast_websocket_callback},
#endif
    };
#if defined(HOLDFAST_BENCHMARKS_BEAST)
    subjects.push_back({"beast", benchmarks::serve_beast_websocket, benchmarks::serve_beast_websocket_deflate});
#else
    std::printf("Left out: beast (Debian: libboost-dev)\n");
#endif
#if defined(HOLDFAST_BENCHMARKS_UWEBSOCKETS)
    subjects.push_back({"uwebsockets", benchmarks::serve_uwebsockets, benchmarks::serve_uwebsockets_deflate});
#else
    std::printf("Left out: uwebsockets (a checkout in the folder that HOLDFAST_PEERS names, with its uSockets)\n");
#endif
    const std::string support = SUPPORT_DIRECTORY;
    if (std::system("/usr/bin/python3 -c 'import websockets' 2>/dev/null") == 0)
        subjects.push_back({"python_websockets", [=](int listener) {
                                benchmarks::exec_server(listener, "/usr/bin/python3",
                                                        (support + "/websocket_server.py").c_str());
                            }});
    else
        std::printf("Left out: python_websockets (Debian: python3-websockets)\n");
    if (std::system("NODE_PATH=/usr/share/nodejs node -e 'require(\"ws\")' 2>/dev/null") == 0)
        subjects.push_back({"node_ws", [=](int listener) {
                                ::setenv("NODE_PATH", "/usr/share/nodejs", 1);
                                benchmarks::exec_server(listener, "node", (support + "/websocket_server.js").c_str());
                            }});
    else
        std::printf("Left out: node_ws (Debian: node-ws)\n");

    std::vector<subject> tls_subjects;
#if defined(HOLDFAST_BENCHMARKS_TLS)
    const tests::certificate certificate;
    const benchmarks::tls_files files{certificate.chain_file(), certificate.key_file()};
    for (const bool compact : {false, true}) {
        const std::string suffix = compact ? "_compact" : "";
        tls_subjects.push_back({"holdfast" + suffix, [&files, compact](int listener) {
                                    benchmarks::serve_holdfast_websocket_tls(listener, files, compact);
                                }});
        tls_subjects.push_back({"holdfast_callback" + suffix, [&files, compact](int listener) {
                                    benchmarks::serve_holdfast_websocket_callback_tls(listener, files, compact);
                                }});
    }
#if defined(HOLDFAST_BENCHMARKS_BEAST)
    tls_subjects.push_back(
        {"beast", [&files](int listener) { benchmarks::serve_beast_websocket_tls(listener, files); }});
#endif
#if defined(HOLDFAST_BENCHMARKS_UWEBSOCKETS)
    tls_subjects.push_back(
        {"uwebsockets", [&files](int listener) { benchmarks::serve_uwebsockets_tls(listener, files); }});
#endif
#else
    std::printf("Left out: tls (Debian: libssl-dev)\n");
#endif

    bool found = false;
    for (const subject& each : subjects) {
        if (!only_subject.empty() && each.name != only_subject) continue;
        found = true;
        for (const bool deflate : {false, true})
            if (!deflate || each.serve_deflate) measure(each, deflate, cases, std::chrono::seconds(quiet), results);
    }
#if defined(HOLDFAST_BENCHMARKS_TLS)
    for (const subject& each : tls_subjects) {
        if (!only_subject.empty() && each.name != only_subject) continue;
        found = true;
        measure_tls(each, cases, std::chrono::seconds(quiet), results);
    }
#endif
    if (!found) benchmarks::command_line::fail("subject", "there is no such server");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
