// holdfast: what an idle WebSocket costs the server: handshake, a message each way, and quiet since.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/websocket_servers.hpp; Python's websockets and Node's ws beside them. None compresses. Each runs
// in a process of its own; the clients are this one.
//
// Metric, for each number of connections; those of a server's first 64 connections do not count:
//   rss_anon_bytes_per_connection  the process's anonymous memory
#include "support/results.hpp"
#include "support/websocket_servers.hpp"

#include <holdfast/process/memory.hpp>

#include <malloc.h>
#include <poll.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using benchmarks::checked;
using benchmarks::fail;

constexpr std::size_t warm = 64;

class clients {
public:
    explicit clients(const ::sockaddr_in& server) : server_(server) {}
    clients(const clients&) = delete;
    ~clients()
    {
        for (const int each : sockets_) {
            const ::linger reset{1, 0}; // no port stays in TIME_WAIT
            ::setsockopt(each, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(each);
        }
    }

    /// Connects until there are `n`; each new one does the handshake, and gets a message back.
    void grow_to(std::size_t n)
    {
        static const std::string text = "a WebSocket message of 32 bytes.";
        static const std::string sent = "\x81\xa0" + std::string(4, '\0') + text; // the mask is 0
        static const std::string expected = "\x81\x20" + text;
        while (sockets_.size() != n) {
            const std::size_t first = sockets_.size();
            const std::size_t last = std::min(n, first + 64);
            while (sockets_.size() != last)
                connect();
            for (std::size_t i = first; i != last; ++i)
                send(sockets_[i], request);
            for (std::size_t i = first; i != last; ++i)
                if (!receive(sockets_[i], [](const std::string& got) {
                         return got.ends_with("\r\n\r\n");
                     }).starts_with("HTTP/1.1 101 "))
                    throw std::runtime_error("a server does not accept the WebSocket");
            for (std::size_t i = first; i != last; ++i)
                send(sockets_[i], sent);
            for (std::size_t i = first; i != last; ++i)
                if (receive(sockets_[i], [](const std::string& got) { return got.size() >= expected.size(); }) !=
                    expected)
                    throw std::runtime_error("a message came back changed");
        }
    }

private:
    static constexpr std::string_view request =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

    void connect()
    {
        sockets_.push_back(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
        if (::connect(sockets_.back(), reinterpret_cast<const ::sockaddr*>(&server_), sizeof server_) != 0)
            fail("connect");
    }

    static void send(int socket, std::string_view bytes)
    {
        if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) != std::ssize(bytes)) fail("send");
    }

    template <class Complete>
    static std::string receive(int socket, Complete complete)
    {
        std::string all;
        while (!complete(all)) {
            std::array<char, 1024> got;
            ::pollfd readable{socket, POLLIN, 0};
            if (::poll(&readable, 1, 10'000) != 1) throw std::runtime_error("the server stopped answering");
            const auto n = ::recv(socket, got.data(), got.size(), 0);
            if (n <= 0) fail("recv");
            all.append(got.data(), static_cast<std::size_t>(n));
        }
        return all;
    }

    ::sockaddr_in server_;
    std::vector<int> sockets_;
};

struct subject {
    std::string name;
    std::function<void(int)> serve;
};

double rss_anon(::pid_t server)
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(server, ec);
    if (ec) throw std::system_error(ec, "the server's memory");
    return static_cast<double>(memory.rss_anon);
}

void measure(const subject& each, const std::vector<std::uint32_t>& cases, std::chrono::seconds quiet,
             benchmarks::results& results)
{
    const benchmarks::server_process server([&](int listener) {
        ::malloc_trim(0); // what the clients' process has freed is not there for the first connections
        each.serve(listener);
    });
    clients load(server.address);
    load.grow_to(warm);
    std::this_thread::sleep_for(quiet);
    const double none = rss_anon(server.pid);
    for (const std::uint32_t n : cases) {
        load.grow_to(n);
        std::this_thread::sleep_for(quiet);
        results.add(each.name, std::to_string(n), "rss_anon_bytes_per_connection",
                    (rss_anon(server.pid) - none) / static_cast<double>(n - warm), "B");
    }
}

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
        {"holdfast", benchmarks::serve_holdfast_websocket},
        {"holdfast_callback", benchmarks::serve_holdfast_websocket_callback},
    };
#if defined(HOLDFAST_BENCHMARKS_BEAST)
    subjects.push_back({"beast", benchmarks::serve_beast_websocket});
#else
    std::printf("Left out: beast (Debian: libboost-dev)\n");
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

    bool found = false;
    for (const subject& each : subjects) {
        if (!only_subject.empty() && each.name != only_subject) continue;
        found = true;
        measure(each, cases, std::chrono::seconds(quiet), results);
    }
    if (!found) benchmarks::command_line::fail("subject", "there is no such server");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
