// holdfast: what a second thread costs: the server's processor time for a message, with shards on two threads and
// without, under the same load; and how evenly connections are spread.
// SPDX-License-Identifier: BSL-1.0
//
// Cases. `2_echo`: lines of 64 bytes that are sent back. `2`: messages of 64 bytes to all subscribers. `spread`: the
// largest share of the connections that one of four shards has, where 1 is the mean; `spread_after_ends`: the same after
// the connections of two shards have ended and as many clients have connected again.
//
// Subjects. holdfast: shards with one acceptor and, in `2`, a shard_topic. holdfast_shared_count: the same, but the
// receivers of all shards count their references to a message with atomics. holdfast_one_thread: the same sessions on
// one io_context, whose messages go to the outbox_group at once. reuse_port: an acceptor for each io_context, to which
// the kernel distributes clients.
//
// The server is a process of its own: what counts is its processor time, of all its threads. The clients are this
// process. In `2_echo` they send a line each while the server is stopped: in lockstep with one client process, two
// threads would sleep and be woken more often than one.
//
// What threads share, for a machine with more cores than the one that this runs on. A message within a shard: nothing.
// A connection: the acceptor's lock and one counter, at its admission and at its end; 10,000 of each a second are 2 ms of
// that lock's time. A publication to N shards: one allocation, and for each shard a short lock, 40 ns; a shard whose
// thread sleeps is woken by a system call, 5 to 10 us in a virtual machine. With 64 shards a publication costs its
// publisher 3 us while the shards are busy, and up to 0.6 ms when all sleep: 1,500 such publications fill a core, so what
// is published that often belongs together in one message. Each shard copies a small message once (malloc, memcpy).
#include "support/holdfast_sessions.hpp"
#include "support/line_clients.hpp"
#include "support/line_servers.hpp"
#include "support/process_time.hpp"
#include "support/results.hpp"

#include <holdfast/outbox_group.hpp>
#include <holdfast/shard_topic.hpp>
#include <holdfast/shards.hpp>

#include <sys/resource.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using benchmarks::checked;
namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;

constexpr std::size_t threads = 2;
constexpr std::size_t message_bytes = 64;

using sharded_acceptor = holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>>;
using plain_acceptor = holdfast::bounded_acceptor<tcp>;

/// What a thread has; as the line servers have it.
struct shard {
    explicit shard(net::io_context& io)
        : heartbeats(io.get_executor(), {.tick = 1s, .timeout = 30s}), buffers(io.get_executor())
    {
    }
    holdfast::heartbeat_timer<> heartbeats;
    holdfast::buffer_pool buffers;
    holdfast::outbox_group subscribers;
};

/// Runs `serve(shards, acceptor)`, then the threads.
template <class Serve>
void run_shards(int listener, Serve serve)
{
    std::vector<std::jthread> others; // joined after the shards have ended
    holdfast::shards<shard> shards{threads, [](net::io_context& io, std::size_t) { return shard(io); }};
    sharded_acceptor acceptor{shards.context(0),
                              tcp::v4(),
                              listener,
                              {.max_connections = 20'000, .next_executor = shards.least_connections()},
                              shards.finalizer()};
    serve(shards, acceptor);
    for (std::size_t i = 1; i != shards.size(); ++i)
        others.emplace_back(shards.runner(i));
    shards.run(0);
}

/// As the line servers' session.
template <class Connection>
net::awaitable<void> echo(Connection peer, shard& here)
{
    auto heartbeat = here.heartbeats.watch(peer);
    holdfast::frame_reader<typename Connection::stream_type, holdfast::framing::line, holdfast::buffer_pool> lines{
        peer.stream(), here.buffers, {.max_frame_bytes = 4096}};
    while (auto line = co_await lines.async_next()) {
        heartbeat.touch();
        co_await net::async_write(peer.stream(), benchmarks::with_end(*line), net::use_awaitable);
    }
    peer.close(holdfast::close_reason::peer_closed);
}

/// A subscriber. A line with a number has the server send so many messages to all.
template <class Connection, class Publish>
net::awaitable<void> subscribe(Connection peer, shard& here, Publish publish)
{
    auto heartbeat = here.heartbeats.watch(peer);
    holdfast::outbox outbox{peer, {.high_watermark = 64 * 1024, .on_overflow = holdfast::overflow_policy::disconnect}};
    const holdfast::outbox_group::member member{here.subscribers, outbox};
    holdfast::frame_reader<typename Connection::stream_type, holdfast::framing::line, holdfast::buffer_pool> lines{
        peer.stream(), here.buffers, {.max_frame_bytes = 100}};
    const std::string message(message_bytes, 'm');
    outbox.push(holdfast::payload(message)); // it is a member
    while (auto line = co_await lines.async_next()) {
        heartbeat.touch();
        unsigned number = 0;
        std::from_chars(line->data(), line->data() + line->size(), number);
        for (; number != 0; --number)
            publish(message);
    }
    peer.close(holdfast::close_reason::peer_closed);
}

void serve_echo(int listener)
{
    run_shards(listener, [](auto& shards, auto& acceptor) {
        acceptor.async_serve(
            [&](sharded_acceptor::connection_type peer, std::size_t i) { return echo(std::move(peer), shards[i]); },
            net::detached);
    });
}

void serve_echo_one_thread(int listener)
{
    net::io_context io(1);
    shard only(io);
    plain_acceptor acceptor{io, tcp::v4(), listener, {.max_connections = 20'000}};
    acceptor.async_serve([&](plain_acceptor::connection_type peer) { return echo(std::move(peer), only); },
                         net::detached);
    io.run();
}

void serve_broadcast(int listener, std::size_t max_copied_bytes)
{
    run_shards(listener, [&](auto& shards, auto& acceptor) {
        const auto topic = std::make_shared<holdfast::shard_topic<shard>>(
            shards.context(0), shards, [](shard& s, const holdfast::payload& message) { s.subscribers.push(message); },
            holdfast::shard_topic_options{.max_copied_bytes = max_copied_bytes});
        acceptor.async_serve(
            [&shards, topic](sharded_acceptor::connection_type peer, std::size_t i) {
                return subscribe(std::move(peer), shards[i], [topic](const std::string& text) {
                    if (topic->publish(holdfast::payload(text))) throw std::runtime_error("not published");
                });
            },
            net::detached);
    });
}

void serve_broadcast_one_thread(int listener)
{
    net::io_context io(1);
    shard only(io);
    plain_acceptor acceptor{io, tcp::v4(), listener, {.max_connections = 20'000}};
    acceptor.async_serve(
        [&](plain_acceptor::connection_type peer) {
            return subscribe(std::move(peer), only, [&](const std::string& text) {
                only.subscribers.push(holdfast::payload(text, holdfast::payload_sharing::one_thread));
            });
        },
        net::detached);
    io.run();
}

int connect_to(const ::sockaddr_in& server)
{
    const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    checked(::connect(client, reinterpret_cast<const ::sockaddr*>(&server), sizeof server), "connect");
    return client;
}

void reset(int client)
{
    const ::linger at_once{1, 0}; // no port stays in TIME_WAIT
    ::setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    ::close(client);
}

/// Clients that get all messages. They wait for one socket after another: the kernel wakes no client inside the server's
/// writes, where it would be part of the server's time, and two of its threads would compete for the client's epoll.
class subscribers {
public:
    subscribers(const ::sockaddr_in& server, std::size_t n)
    {
        for (std::size_t i = 0; i != n; ++i) {
            sockets_.push_back(connect_to(server));
            const ::timeval limit{10, 0};
            ::setsockopt(sockets_.back(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        }
        read(1); // each is told that it is a member
    }
    subscribers(const subscribers&) = delete;
    ~subscribers() { std::for_each(sockets_.begin(), sockets_.end(), reset); }

    /// Has so many messages sent, and reads them all.
    void receive(std::size_t messages)
    {
        const std::string command = std::to_string(messages) + "\n";
        if (::send(sockets_[0], command.data(), command.size(), MSG_NOSIGNAL) != std::ssize(command))
            throw std::runtime_error("the server does not read");
        read(messages);
    }

    [[nodiscard]] std::size_t size() const noexcept { return sockets_.size(); }

private:
    void read(std::size_t messages)
    {
        std::vector<char> got(messages * message_bytes);
        for (const int each : sockets_)
            if (::recv(each, got.data(), got.size(), MSG_WAITALL) != std::ssize(got))
                throw std::runtime_error("the server stopped sending");
    }

    std::vector<int> sockets_;
};

struct subject {
    std::string name;
    std::function<void(int)> serve;
    std::vector<double> cpu_ns{};
};

std::vector<subject> chosen(std::vector<subject> all, const std::string& only)
{
    if (!only.empty()) std::erase_if(all, [&](const subject& each) { return each.name != only; });
    return all;
}

void report(benchmarks::results& results, const std::string& case_name, const std::vector<subject>& subjects)
{
    for (const subject& each : subjects)
        results.add(each.name, case_name, "server_cpu_ns_per_message", benchmarks::median(each.cpu_ns), "ns");
}

void compare_echo(benchmarks::results& results, const std::string& only, std::uint32_t messages,
                  std::uint32_t connections, std::uint32_t rounds)
{
    auto subjects = chosen({{"holdfast", serve_echo}, {"holdfast_one_thread", serve_echo_one_thread}}, only);
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects) {
            const benchmarks::server_process server(each.serve, benchmarks::server_threads::many);
            benchmarks::line_clients load(server.address, connections);
            load.exchange_rounds(server, messages / 10 + 1); // warms up
            const benchmarks::process_time cpu(server.pid);
            load.exchange_rounds(server, messages);
            each.cpu_ns.push_back(cpu.seconds() * 1e9 / messages);
        }
    report(results, std::to_string(threads) + "_echo", subjects);
}

void compare_broadcast(benchmarks::results& results, const std::string& only, std::uint32_t subscribers_,
                       std::uint32_t burst, std::uint32_t bursts, std::uint32_t rounds)
{
    auto subjects = chosen({{"holdfast", [](int listener) { serve_broadcast(listener, 4096); }},
                            {"holdfast_shared_count", [](int listener) { serve_broadcast(listener, 0); }},
                            {"holdfast_one_thread", serve_broadcast_one_thread}},
                           only);
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects) {
            const benchmarks::server_process server(each.serve, benchmarks::server_threads::many);
            subscribers load(server.address, subscribers_);
            load.receive(burst); // warms up
            const benchmarks::process_time cpu(server.pid);
            for (std::uint32_t i = 0; i != bursts; ++i)
                load.receive(burst);
            each.cpu_ns.push_back(cpu.seconds() * 1e9 / bursts / burst / static_cast<double>(load.size()));
        }
    report(results, std::to_string(threads), subjects);
}

constexpr std::size_t spread_shards = 4;

/// Clients that connect to the acceptors, which all run here.
class spread_clients {
public:
    spread_clients() = default;
    spread_clients(const spread_clients&) = delete;
    ~spread_clients() { std::for_each(sockets_.begin(), sockets_.end(), reset); }

    void connect(const tcp::endpoint& to, std::size_t n)
    {
        ::sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(to.port());
        for (std::size_t i = 0; i != n; ++i)
            sockets_.push_back(connect_to(address));
    }

private:
    std::vector<int> sockets_;
};

/// One acceptor or several: `connections` are those of each shard.
template <class Acceptor>
struct spread_shard {
    std::vector<typename Acceptor::connection_type> connections{};
};

template <class States>
double largest_share(const States& states, std::size_t n)
{
    std::size_t most = 0;
    for (std::size_t i = 0; i != spread_shards; ++i)
        most = std::max(most, states(i).size());
    return static_cast<double>(most) * spread_shards / static_cast<double>(n);
}

/// Polls until all `n` connections are accepted.
template <class Poll, class States>
void accept_all(Poll poll, const States& states, std::size_t n)
{
    for (std::size_t sum = 0; sum != n;) {
        poll();
        sum = 0;
        for (std::size_t i = 0; i != spread_shards; ++i)
            sum += states(i).size();
    }
}

template <class Poll, class States>
void measure_spread(benchmarks::results& results, const std::string& name, const tcp::endpoint& where, std::size_t n,
                    Poll poll, const States& states)
{
    spread_clients clients;
    clients.connect(where, n);
    accept_all(poll, states, n);
    results.add(name, "spread", "largest_share", largest_share(states, n), "1");
    std::size_t ended = 0;
    for (std::size_t i = 0; i != 2; ++i) {
        ended += states(i).size();
        states(i).clear();
    }
    clients.connect(where, ended);
    accept_all(poll, states, n);
    results.add(name, "spread_after_ends", "largest_share", largest_share(states, n), "1");
}

void compare_spread(benchmarks::results& results, std::size_t n)
{
    {
        using state = spread_shard<sharded_acceptor>;
        holdfast::shards<state> shards{spread_shards, [](net::io_context&, std::size_t) { return state(); }};
        sharded_acceptor acceptor{shards.context(0),
                                  {net::ip::address_v4::loopback(), 0},
                                  {.next_executor = shards.least_connections()},
                                  shards.finalizer()};
        acceptor.async_serve([&](auto peer, std::size_t i) { shards[i].connections.push_back(std::move(peer)); },
                             net::detached);
        measure_spread(
            results, "holdfast", acceptor.local_endpoint(), n, [&] { shards.context(0).run_one_for(1s); },
            [&](std::size_t i) -> auto& { return shards[i].connections; });
    }
    {
        using state = spread_shard<plain_acceptor>;
        net::io_context io; // one for all: where they run makes no difference to where the kernel puts the clients
        std::array<state, spread_shards> states;
        std::vector<std::unique_ptr<plain_acceptor>> acceptors;
        tcp::endpoint where(net::ip::address_v4::loopback(), 0);
        for (state& each : states) {
            acceptors.push_back(
                std::make_unique<plain_acceptor>(io, where, holdfast::acceptor_options{.reuse_port = true}));
            where = acceptors.back()->local_endpoint();
            acceptors.back()->async_serve([&](auto peer) { each.connections.push_back(std::move(peer)); },
                                          net::detached);
        }
        measure_spread(
            results, "reuse_port", where, n, [&] { io.run_one_for(1s); },
            [&](std::size_t i) -> auto& { return states[i].connections; });
    }
}

int run(int argc, char** argv)
{
    std::string only, subject;
    std::uint32_t messages = 100'000, connections = 100, subscribers = 2000, burst = 16, bursts = 10, rounds = 7;
    benchmarks::results results{"scale"};
    benchmarks::command_line cli{"scale", "The server's processor time for a message, on two threads and on one."};
    results.add_options(cli);
    cli.add("case", only, "NAME", "2_echo, 2 or spread; empty: all");
    cli.add("subject", subject, "NAME", "one server only, of 2_echo and 2; empty: all");
    cli.add("messages", messages, "N", "of 2_echo: lines in each round");
    cli.add("connections", connections, "N", "of 2_echo: clients at the same time");
    cli.add("subscribers", subscribers, "N", "of 2 and spread: clients");
    cli.add("burst", burst, "N", "of 2: messages that are published at once");
    cli.add("bursts", bursts, "N", "of 2: bursts in each round, one after another");
    cli.add("rounds", rounds, "N", "rounds of each server, in turns; the middle one counts");
    if (!cli.parse(argc, argv)) return 0;
    if (!only.empty() && only != "2_echo" && only != "2" && only != "spread")
        benchmarks::command_line::fail("case", "must be 2_echo, 2 or spread");
    if (messages == 0 || connections == 0 || connections > 10'000 || subscribers < 4 || subscribers > 10'000 ||
        burst == 0 || burst > 500 || bursts == 0 || rounds == 0)
        throw benchmarks::usage_error("up to 10000 clients, bursts of up to 500, and something to do");
    results.open();
    ::rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (only.empty() || only == "2_echo") compare_echo(results, subject, messages, connections, rounds);
    if (only.empty() || only == "2") compare_broadcast(results, subject, subscribers, burst, bursts, rounds);
    if (only.empty() || only == "spread") compare_spread(results, subscribers);
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
