// holdfast: what an idle TLS connection costs the server: handshake, a line each way, and five seconds of quiet.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/tls_servers.hpp; node and go beside them. Each runs in a process of its own; the clients
// are this one, and do 32 handshakes at a time.
//
// Metric, for each number of connections; those of a server's first 64 connections do not count:
//   rss_anon_bytes_per_connection  the process's anonymous memory
#include "../tests/support/certificates.hpp"
#include "support/results.hpp"
#include "support/tls_clients.hpp"
#include "support/tls_servers.hpp"

#include <holdfast/process/memory.hpp>

#include <malloc.h>
#include <stdlib.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

constexpr std::string_view line = "hello, this is a line of 32 bytes\n";
constexpr std::size_t warm = 64;

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

void greet(benchmarks::tls_client& client)
{
    client.write(line);
    std::array<char, line.size()> got;
    client.read_all(got.data(), got.size());
    if (std::string_view(got.data(), got.size()) != line) throw std::runtime_error("a line came back changed");
}

void measure(const subject& each, const std::vector<std::uint32_t>& cases, std::size_t at_once,
             std::chrono::seconds quiet, benchmarks::results& results)
{
    const benchmarks::server_process server([&](int listener) {
        ::malloc_trim(0); // what the clients' process has freed is not there for the first connections
        each.serve(listener);
    });
    benchmarks::tls_clients load(server.address);
    load.grow_to(warm, at_once, greet);
    std::this_thread::sleep_for(quiet);
    const double none = rss_anon(server.pid);
    for (const std::uint32_t n : cases) {
        load.grow_to(n, at_once, greet);
        std::this_thread::sleep_for(quiet);
        results.add(each.name, std::to_string(n), "rss_anon_bytes_per_connection",
                    (rss_anon(server.pid) - none) / static_cast<double>(n - warm), "B");
    }
}

int run(int argc, char** argv)
{
    std::uint32_t only = 0, at_once = 32, quiet = 5;
    std::string only_subject;
    benchmarks::results results{"idle_tls"};
    benchmarks::command_line cli{"idle_tls", "What an idle TLS connection costs the server, in bytes."};
    results.add_options(cli);
    cli.add("case", only, "N", "how many connections; 0: 1000 and 5000");
    cli.add("subject", only_subject, "NAME", "one server only, or all");
    cli.add("handshakes", at_once, "N", "handshakes at the same time");
    cli.add("quiet", quiet, "SECONDS", "time without traffic before memory is read");
    if (!cli.parse(argc, argv)) return 0;
    if (only != 0 && (only < 100 || only > 19'900)) benchmarks::command_line::fail("case", "must be 100 to 19900");
    if (at_once == 0 || at_once > 1000) benchmarks::command_line::fail("handshakes", "must be 1 to 1000");
    const std::vector<std::uint32_t> cases = only != 0 ? std::vector{only} : std::vector<std::uint32_t>{1000, 5000};
    results.open();

    const tests::certificate files;
    const benchmarks::tls_service service{.chain_file = files.chain_file(), .key_file = files.key_file()};
    const auto of = [&](auto serve) { return [=, &service](int listener) { serve(listener, service); }; };
    std::vector<subject> subjects{
        {"holdfast", of(benchmarks::serve_holdfast_tls)},
        {"holdfast_compact", of(benchmarks::serve_holdfast_tls_compact)},
        {"asio_ssl", of(benchmarks::serve_asio_ssl)},
        {"openssl_fd", of(benchmarks::serve_openssl_fd)},
    };
#if defined(HOLDFAST_BENCHMARKS_LIBEVENT_TLS)
    subjects.push_back({"libevent", of(benchmarks::serve_libevent_tls)});
#else
    std::printf("Left out: libevent (Debian: libevent-dev)\n");
#endif
    const std::string support = SUPPORT_DIRECTORY;
    const auto program = [&](std::string path, std::string script) {
        return [=, &service](int listener) {
            if (script.empty())
                benchmarks::exec_server(listener, path.c_str(), service.chain_file.c_str(), service.key_file.c_str());
            benchmarks::exec_server(listener, path.c_str(), script.c_str(), service.chain_file.c_str(),
                                    service.key_file.c_str());
        };
    };
    if (std::system("node -e 0 2>/dev/null") == 0)
        subjects.push_back({"node", program("node", support + "/line_server_tls.js")});
    else
        std::printf("Left out: node (Debian: nodejs)\n");
    std::array<char, 32> directory{"/tmp/holdfast-idle-XXXXXX"};
    if (::mkdtemp(directory.data()) == nullptr) benchmarks::fail("mkdtemp");
    const std::string go = std::string(directory.data()) + "/line_server_tls";
    if (std::system(("go build -o " + go + " " + support + "/line_server_tls.go 2>/dev/null").c_str()) == 0)
        subjects.push_back({"go", program(go, {})});
    else
        std::printf("Left out: go (Debian: golang-go)\n");

    bool found = false;
    for (const subject& each : subjects) {
        if (!only_subject.empty() && each.name != only_subject) continue;
        found = true;
        measure(each, cases, at_once, std::chrono::seconds(quiet), results);
    }
    ::unlink(go.c_str());
    ::rmdir(directory.data());
    if (!found) benchmarks::command_line::fail("subject", "there is no such server");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
