// holdfast: what it costs to send the same messages to ten thousand WebSockets.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/websocket_servers.hpp. Each is a server in a process of its own, on one thread; the clients are
// this process. One of them orders a burst of messages of some 200 bytes to all, which the server queues in one turn of its
// event loop, and the next burst when every client has received all of them.
//
// Metrics, the middle of the rounds, in which the subjects take turns:
//   messages_per_second       messages delivered, for each second of the server's processor time
//   wall_messages_per_second  on few cores mostly the clients' cost
//   peak_bytes_per_client     growth of the server's memory above that of the connected clients, at its peak
//
// Cases: the number of clients, with bursts of 16 messages; _burst_1, one message at a time; and _deflate, bursts of 16 of a
// message of JSON, with permessage-deflate.
#include "support/process_time.hpp"
#include "support/results.hpp"
#include "support/websocket_clients.hpp"
#include "support/websocket_servers.hpp"

#include <malloc.h>
#include <sys/epoll.h>
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
#include <zlib.h>
#endif

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using benchmarks::checked;
using benchmarks::fail;
using std::chrono::steady_clock;

/// A field of /proc/PID/status, in bytes.
double status_of(::pid_t process, std::string_view field)
{
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(field)) return std::stod(line.substr(field.size())) * 1024;
    throw std::runtime_error("no figures of the server's process");
}

/// A text message as a server sends it, of 126 to 65,535 bytes.
std::string plain_frame(std::string_view text)
{
    std::string frame("\x81\x7e");
    frame += static_cast<char>(text.size() >> 8U);
    frame += static_cast<char>(text.size() & 0xFFU);
    return frame.append(text);
}

#if defined(HOLDFAST_BENCHMARKS_ZLIB)
/// Receives a compressed message of 126 to 65,535 bytes, and returns its frame. Without context takeover the next ones of
/// the same text are equal to it.
std::string receive_compressed(int socket, std::string_view text)
{
    std::string frame = benchmarks::websocket_clients::receive(socket, [](const std::string& all) {
        return all.size() >= 4 &&
               all.size() >= 4U + static_cast<unsigned char>(all[2]) * 256U + static_cast<unsigned char>(all[3]);
    });
    std::string data = frame.substr(4).append("\0\0\xff\xff", 4);
    std::array<char, 1024> plain;
    ::z_stream z{};
    if (::inflateInit2(&z, -15) != Z_OK) throw std::bad_alloc();
    z.next_in = reinterpret_cast<Bytef*>(data.data());
    z.avail_in = static_cast<uInt>(data.size());
    z.next_out = reinterpret_cast<Bytef*>(plain.data());
    z.avail_out = static_cast<uInt>(plain.size());
    const int result = ::inflate(&z, Z_SYNC_FLUSH);
    const std::string_view got(plain.data(), plain.size() - z.avail_out);
    ::inflateEnd(&z);
    if (!frame.starts_with("\xc1\x7e") || result != Z_OK || got != text)
        throw std::runtime_error("a message did not come compressed");
    return frame;
}
#endif

/// The clients' side of the messages: counts and compares them.
class receivers {
public:
    explicit receivers(std::span<const int> sockets)
        : poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")), clients_(sockets.size())
    {
        for (std::size_t i = 0; i != sockets.size(); ++i) {
            clients_[i].socket = sockets[i];
            ::epoll_event event{EPOLLIN, {.ptr = &clients_[i]}};
            checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, sockets[i], &event), "epoll_ctl");
        }
    }
    receivers(const receivers&) = delete;
    ~receivers() { ::close(poll_); }

    /// Receives until each client has had that frame `burst` times.
    void receive(std::string_view frame, std::size_t burst)
    {
        std::string all;
        for (std::size_t i = 0; i != burst; ++i)
            all += frame;
        for (client& each : clients_)
            each.got = 0;
        std::array<::epoll_event, 512> events;
        std::array<char, 65536> chunk;
        for (std::size_t left = clients_.size(); left != 0;) {
            const int n = ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), 30'000);
            if (n <= 0) throw std::runtime_error("the server stopped sending");
            for (int i = 0; i != n; ++i) {
                client& each = *static_cast<client*>(events[static_cast<std::size_t>(i)].data.ptr);
                const auto size = ::recv(each.socket, chunk.data(), chunk.size(), MSG_DONTWAIT);
                if (size <= 0) fail("recv");
                const auto bytes = static_cast<std::size_t>(size);
                if (each.got + bytes > all.size() || std::memcmp(all.data() + each.got, chunk.data(), bytes) != 0)
                    throw std::runtime_error("a message has changed on its way");
                each.got += bytes;
                if (each.got == all.size()) --left;
            }
        }
    }

private:
    struct client {
        int socket;
        std::size_t got;
    };

    int poll_;
    std::vector<client> clients_;
};

struct figures {
    double messages_per_second, wall_messages_per_second, peak_bytes_per_client;
};

struct load {
    std::uint32_t clients = 10'000, burst = 16, bursts = 10;
    bool deflate = false;
};

struct subject {
    std::string name;
    std::function<void(int)> serve, serve_deflate;
    std::vector<figures> rounds{};

    [[nodiscard]] benchmarks::measured middle(double figures::* which) const
    {
        std::vector<double> values;
        for (const figures& each : rounds)
            values.push_back(each.*which);
        return benchmarks::median(values);
    }
};

figures measure(const subject& each, const load& what)
{
    const benchmarks::server_process server([&](int listener) {
        ::malloc_trim(0); // what the clients' process has freed is not there for the first connections
        (what.deflate ? each.serve_deflate : each.serve)(listener);
    });
    benchmarks::websocket_clients clients(server.address, what.deflate);
    clients.grow_to(what.clients, [](auto) {});
    const auto send_order = [&](std::uint32_t messages) {
        const std::string order = benchmarks::websocket_clients::frame(std::to_string(messages));
        benchmarks::websocket_clients::send(clients.sockets().front(), order);
    };
    std::string frame = plain_frame(benchmarks::published_text);
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
    if (what.deflate) {
        send_order(1);
        for (const int client : clients.sockets())
            frame = receive_compressed(client, benchmarks::published_json);
    }
#endif
    receivers all(clients.sockets());
    const auto publish = [&] {
        send_order(what.burst);
        all.receive(frame, what.burst);
    };
    const double before = status_of(server.pid, "VmRSS:");
    if (!(std::ofstream("/proc/" + std::to_string(server.pid) + "/clear_refs") << "5" << std::flush))
        throw std::runtime_error("the peak of the server's memory cannot be reset");
    publish(); // warms up
    const benchmarks::process_time processor(server.pid);
    const auto start = steady_clock::now();
    for (std::uint32_t i = 0; i != what.bursts; ++i)
        publish();
    const double messages = static_cast<double>(what.clients) * what.burst * what.bursts;
    return {messages / processor.seconds(),
            messages / std::chrono::duration<double>(steady_clock::now() - start).count(),
            (status_of(server.pid, "VmHWM:") - before) / what.clients};
}

void compare(benchmarks::results& results, std::vector<subject> subjects, const std::string& only_subject,
             const load& what, const std::string& name, std::uint32_t rounds)
{
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects)
            if (only_subject.empty() || each.name == only_subject) each.rounds.push_back(measure(each, what));
    for (const subject& each : subjects) {
        if (each.rounds.empty()) continue;
        results.add(each.name, name, "messages_per_second", each.middle(&figures::messages_per_second), "1/cpu_s");
        results.add(each.name, name, "wall_messages_per_second", each.middle(&figures::wall_messages_per_second),
                    "1/s");
        results.add(each.name, name, "peak_bytes_per_client", each.middle(&figures::peak_bytes_per_client), "B");
    }
}

int run(int argc, char** argv)
{
    std::string only, only_subject;
    load what;
    std::uint32_t rounds = 3;
    benchmarks::results results{"broadcast_ws"};
    benchmarks::command_line cli{"broadcast_ws", "The same messages to many WebSockets."};
    results.add_options(cli);
    cli.add("case", only, "NAME", "burst (named by the number of clients), burst_1 or deflate; empty: all");
    cli.add("subject", only_subject, "NAME", "one server only, or all");
    cli.add("clients", what.clients, "N", "WebSockets");
    cli.add(
        "bursts", what.bursts, "N",
        "bursts of 16 messages in a round; four times as many of one; a quarter with deflate, where peers are slow");
    cli.add("rounds", rounds, "N", "rounds, in which the servers take turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    const std::string number = std::to_string(what.clients);
    const bool bursts = only.empty() || only == "burst" || only == number;
    const bool single = only.empty() || only == "burst_1" || only == number + "_burst_1";
    const bool deflate = only.empty() || only == "deflate" || only == number + "_deflate";
    if (!bursts && !single && !deflate) benchmarks::command_line::fail("case", "must be burst, burst_1 or deflate");
    if (what.clients == 0 || what.clients > 19'900 || what.bursts == 0 || rounds == 0)
        throw benchmarks::usage_error("there must be 1 to 19900 clients, and something to do");
    results.open();
    std::vector<subject> subjects{
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
        {"holdfast", benchmarks::broadcast_holdfast_websocket, benchmarks::broadcast_holdfast_websocket_deflate},
#else
        {"holdfast", benchmarks::broadcast_holdfast_websocket, nullptr},
#endif
#if defined(HOLDFAST_BENCHMARKS_BEAST)
        {"beast", benchmarks::broadcast_beast_websocket, benchmarks::broadcast_beast_websocket_deflate},
        {"beast_single", benchmarks::broadcast_beast_websocket_single,
         benchmarks::broadcast_beast_websocket_single_deflate},
#endif
#if defined(HOLDFAST_BENCHMARKS_UWEBSOCKETS)
        {"uwebsockets", benchmarks::broadcast_uwebsockets, benchmarks::broadcast_uwebsockets_deflate},
#endif
    };
#if !defined(HOLDFAST_BENCHMARKS_BEAST)
    std::printf("Left out: beast, beast_single (Debian: libboost-dev)\n");
#endif
#if !defined(HOLDFAST_BENCHMARKS_UWEBSOCKETS)
    std::printf("Left out: uwebsockets (a checkout in the folder that HOLDFAST_PEERS names, with its uSockets)\n");
#endif
    if (bursts) compare(results, subjects, only_subject, what, number, rounds);
    if (single) {
        load one = what;
        one.burst = 1;
        one.bursts *= 4;
        compare(results, subjects, only_subject, one, number + "_burst_1", rounds);
    }
#if defined(HOLDFAST_BENCHMARKS_ZLIB)
    if (deflate) {
        what.deflate = true;
        what.bursts = (what.bursts + 3) / 4;
        compare(results, subjects, only_subject, what, number + "_deflate", rounds);
    }
#else
    if (deflate) std::printf("Left out: deflate (Debian: zlib1g-dev)\n");
#endif
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
