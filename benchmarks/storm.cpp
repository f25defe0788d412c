// holdfast: a connect storm at a limit: all clients connect at once, to a server that has room for one in twenty, and one
// in ten of them sends nothing.
// SPDX-License-Identifier: BSL-1.0
//
// Each client that is not silent sends a line of 64 bytes, reads it back, and resets its connection. A silent one stays
// until the server closes it. The storm ends when all clients that speak are served, or after `--seconds`.
//
// Subjects, each on one thread in a process of its own, with descriptors for `--limit` connections:
//   holdfast        bounded_acceptor with that limit; a heartbeat timer drops a connection that is silent for 500 ms
//   asio            the accept loop of the tutorials: it accepts whatever comes, and goes on after an error. No time-out
//   asio_limit      the same with everything by hand: it stops accepting at the limit, and each connection has a
//                   steady_timer of 500 ms
//   asio_unlimited  asio, with descriptors for all clients
//
// Metrics:
//   served_share       clients served before the end, of those that speak
//   served_p50, _p99   from the begin of the storm until the client has its line back; a client that is not served counts
//                      as the whole time
//   server_cpu         processor time of the server, for each client that is served
//   rss_anon_growth    the most anonymous memory of the server, less that before the storm
//
// What holdfast pays: at the limit a client waits for its turn, as long as silent ones have the places. A server without
// a limit serves all clients sooner, while its memory and descriptors last.
#include "support/holdfast_sessions.hpp"
#include "support/process_time.hpp"
#include "support/results.hpp"
#include "support/rounds.hpp"
#include "support/sockets.hpp"

#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using benchmarks::checked;
namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto silence = 500ms;
constexpr std::uint32_t spare_descriptors = 32; // standard streams, epoll, the listener

struct storm {
    std::uint32_t clients = 4000;
    std::uint32_t limit = 200;
    std::uint32_t seconds = 5;
};

// The servers.

void limit_descriptors(std::uint32_t connections)
{
    const ::rlimit limit{connections + spare_descriptors, connections + spare_descriptors};
    checked(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

void serve_holdfast(int listener, const storm& what)
{
    using executor = net::io_context::executor_type;
    limit_descriptors(what.limit);
    net::io_context io(1);
    holdfast::heartbeat_timer<executor> heartbeats{io.get_executor(), {.tick = 100ms, .timeout = silence}};
    holdfast::buffer_pool buffers{io.get_executor()};
    benchmarks::acceptor<executor> acceptor{io.get_executor(), tcp::v4(), listener, {.max_connections = what.limit}};
    acceptor.async_serve(
        [&](benchmarks::connection<executor> peer) {
            return benchmarks::session(std::move(peer), heartbeats, buffers);
        },
        net::detached);
    io.run();
}

net::awaitable<void> session(tcp::socket peer)
{
    std::array<char, 4096> text;
    for (;;) {
        const std::size_t n = co_await peer.async_read_some(net::buffer(text), net::use_awaitable);
        co_await net::async_write(peer, net::buffer(text, n), net::use_awaitable);
    }
}

net::awaitable<void> accept(tcp::acceptor& from)
{
    for (;;) {
        holdfast::error_code ec;
        tcp::socket peer = co_await from.async_accept(net::redirect_error(net::use_awaitable, ec));
        if (ec) continue;
        peer.set_option(tcp::no_delay(true));
        net::co_spawn(from.get_executor(), session(std::move(peer)), net::detached);
    }
}

void serve_asio(int listener, std::uint32_t connections)
{
    limit_descriptors(connections);
    net::io_context io(1);
    tcp::acceptor acceptor(io, tcp::v4(), listener);
    net::co_spawn(io, accept(acceptor), net::detached);
    io.run();
}

/// Counts its sessions, and accepts the next when one has ended.
class limited_server {
public:
    limited_server(net::io_context& io, int listener, std::uint32_t limit)
        : acceptor_(io, tcp::v4(), listener), limit_(limit)
    {
        accept();
    }

private:
    void accept()
    {
        if (accepting_ || sessions_ == limit_) return;
        accepting_ = true;
        acceptor_.async_accept([this](holdfast::error_code ec, tcp::socket peer) {
            accepting_ = false;
            if (!ec) {
                ++sessions_;
                peer.set_option(tcp::no_delay(true), ec);
                net::co_spawn(acceptor_.get_executor(), timed_session(std::move(peer)),
                              [this](const std::exception_ptr&) {
                                  --sessions_;
                                  accept();
                              });
            }
            accept();
        });
    }

    static net::awaitable<void> timed_session(tcp::socket socket)
    {
        const auto peer =
            std::make_shared<tcp::socket>(std::move(socket)); // the timer's handler may come after the end
        net::steady_timer timer(peer->get_executor());
        std::array<char, 4096> text;
        for (;;) {
            timer.expires_after(silence);
            timer.async_wait([peer](holdfast::error_code ec) {
                if (!ec) peer->close(ec);
            });
            const std::size_t n = co_await peer->async_read_some(net::buffer(text), net::use_awaitable);
            co_await net::async_write(*peer, net::buffer(text, n), net::use_awaitable);
        }
    }

    tcp::acceptor acceptor_;
    std::uint32_t limit_;
    std::uint32_t sessions_ = 0;
    bool accepting_ = false;
};

void serve_limited(int listener, const storm& what)
{
    limit_descriptors(what.limit);
    net::io_context io(1);
    limited_server server(io, listener, what.limit);
    io.run();
}

// The clients.

struct figures {
    double served_share = 0;
    double p50_ms = 0;
    double p99_ms = 0;
    double cpu_us = 0; ///< for each client that is served
    double growth = 0;
};

constexpr std::size_t line_bytes = 64;

class clients {
public:
    explicit clients(std::uint32_t n)
        : open_(n, -1), got_(n, 0), poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll"))
    {
    }
    clients(const clients&) = delete;
    ~clients()
    {
        for (const int each : open_)
            if (each >= 0) benchmarks::reset_client(each);
        ::close(poll_);
    }

    void connect(const ::sockaddr_in& server, std::uint32_t number, bool silent)
    {
        open_[number] = benchmarks::connect_client(server, number);
        ::epoll_event event{EPOLLIN, {.u32 = number}};
        checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, open_[number], &event), "epoll_ctl");
        std::array<char, line_bytes> line;
        line.fill('x');
        line.back() = '\n';
        if (!silent && ::send(open_[number], line.data(), line.size(), MSG_NOSIGNAL) != std::ssize(line))
            benchmarks::fail("send");
    }

    /// Waits for 5 ms at most. Calls `served(number)` for each client that has its line back.
    template <class Served>
    void poll(Served served)
    {
        std::array<::epoll_event, 128> events;
        const int n = ::epoll_wait(poll_, events.data(), events.size(), 5);
        for (int i = 0; i < n; ++i) {
            const std::uint32_t number = events[static_cast<std::size_t>(i)].data.u32;
            std::array<char, line_bytes> text;
            const ::ssize_t size = ::recv(open_[number], text.data(), text.size(), MSG_DONTWAIT);
            if (size > 0) got_[number] += static_cast<std::size_t>(size);
            if (got_[number] == line_bytes) served(number);
            if (size > 0 && got_[number] != line_bytes) continue;
            benchmarks::reset_client(open_[number]); // served, or closed by the server
            open_[number] = -1;
        }
    }

private:
    std::vector<int> open_;
    std::vector<std::size_t> got_;
    int poll_;
};

figures measure(const std::function<void(int)>& serve, const storm& what)
{
    const benchmarks::server_process server(serve);
    {
        clients first(1); // what the server takes once
        bool served = false;
        first.connect(server.address, 0, false);
        for (int i = 0; i != 2000 && !served; ++i)
            first.poll([&](std::uint32_t) { served = true; });
        if (!served) throw std::runtime_error("the server serves no client");
    }
    const double before = benchmarks::rss_anon(server.pid);
    double most = before;
    const benchmarks::process_time cpu(server.pid);
    clients all(what.clients);
    std::vector<double> times;
    const auto start = steady_clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double, std::milli>(steady_clock::now() - start).count(); };
    std::uint32_t speaking = 0;
    for (std::uint32_t i = 0; i != what.clients; ++i) {
        const bool silent = i % 10 == 0;
        speaking += silent ? 0 : 1;
        all.connect(server.address, i, silent);
    }
    for (double sampled = 0; times.size() != speaking && elapsed() < what.seconds * 1e3;) {
        all.poll([&](std::uint32_t) { times.push_back(elapsed()); });
        if (elapsed() - sampled < 5) continue;
        sampled = elapsed();
        most = std::max(most, benchmarks::rss_anon(server.pid));
    }
    const double seconds = cpu.seconds();
    const auto served = static_cast<double>(times.size());
    times.resize(speaking, what.seconds * 1e3);
    const auto at = [&](double part) { return times[static_cast<std::size_t>(part * (speaking - 1))]; }; // in order
    return {served / speaking, at(0.5), at(0.99), seconds * 1e6 / std::max(served, 1.0), most - before};
}

using subject = benchmarks::subject<figures>;

int run(int argc, char** argv)
{
    storm what;
    std::uint32_t rounds = 5;
    benchmarks::results results{"storm"};
    benchmarks::command_line cli{"storm", "All clients connect at once, to a server with room for few of them."};
    results.add_options(cli);
    cli.add("clients", what.clients, "N",
            "clients, of which one in ten is silent; at most 4000, which a backlog holds");
    cli.add("limit", what.limit, "N", "connections at the same time");
    cli.add("seconds", what.seconds, "N", "the longest time of a storm");
    benchmarks::add_rounds(cli, rounds);
    if (!cli.parse(argc, argv)) return 0;
    if (what.clients < 10 || what.clients > 4000) benchmarks::command_line::fail("clients", "must be 10 to 4000");
    if (what.limit == 0 || rounds == 0 || what.seconds == 0 || what.seconds > 60)
        throw benchmarks::usage_error("--limit and --rounds must be at least 1, --seconds 1 to 60");
    results.open();
    benchmarks::raise_descriptors();
    std::array<subject, 4> subjects{
        subject{"holdfast", [&](int listener) { serve_holdfast(listener, what); }},
        subject{"asio", [&](int listener) { serve_asio(listener, what.limit); }},
        subject{"asio_limit", [&](int listener) { serve_limited(listener, what); }},
        subject{"asio_unlimited", [&](int listener) { serve_asio(listener, what.clients); }}};
    benchmarks::run_rounds<figures>(results, subjects, rounds, std::to_string(what.clients),
                                    [&](const auto& serve) { return measure(serve, what); },
                                    {{"served_share", &figures::served_share, "1"},
                                     {"served_p50", &figures::p50_ms, "ms"},
                                     {"served_p99", &figures::p99_ms, "ms"},
                                     {"server_cpu", &figures::cpu_us, "us"},
                                     {"rss_anon_growth", &figures::growth, "B"}});
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
