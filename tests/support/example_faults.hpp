// holdfast: runs an example program, its own text, with faults: its n-th operation fails, for every n and in
// every way in which it can. Include it in one translation unit of a program only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_EXAMPLE_FAULTS_HPP
#define HOLDFAST_TESTS_SUPPORT_EXAMPLE_FAULTS_HPP

#include "catch.hpp"
#include "fault_injection.hpp"
#include "process.hpp"
#include "sockets.hpp"

#include <holdfast/shards.hpp>
#include <holdfast/testing/leak_check.hpp>

#define main example_main
#include FAULTS_SOURCE
#undef main

#include <algorithm>
#include <array>
#include <iostream>
#include <iterator>
#include <list>
#include <optional>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

namespace faults = tests::faults;
using holdfast::error_code;

namespace {

struct stage;
class client;

/// What a test file says of its program.
struct tested_program {
    std::string arguments;      ///< beside --port 0
    std::size_t listeners = 1;  ///< each says in a line of the output where it is
    bool (*is_served)(client&); ///< at the last one: says something and gets an answer
};
extern const tested_program tested;

/// What clients do, one after the other. Whatever failed for one of them, a witness connects at the end and must
/// be served; then comes SIGTERM.
struct scene {
    std::string name;
    void (*play)(stage&);
    std::string arguments{}; ///< of the program, beside the usual ones
    bool narrow = false;     ///< writes come short
};

/// What a run of the program leaves for the process that started it.
struct record {
    faults::outcome outcome;
    int status = -1;
    std::uint64_t born = 0;
    std::uint64_t ended = 0;
    std::array<char, 2048> leaks{};
};

/// One for each way in which an operation can fail.
using records = std::array<record, 16>;

records& shared_records()
{
    static void* const memory =
        ::mmap(nullptr, sizeof(records), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return *static_cast<records*>(memory);
}

/// Loopback addresses, of which each has ports of its own: those of connections that have ended are in TIME_WAIT for a
/// minute, as are the ports where a program listened, and one address has too few for all runs, and all other tests.
net::ip::address_v4 address_of(std::uint64_t user, unsigned char kind)
{
    static const auto process = static_cast<unsigned char>(1 + ::getpid() % 250); // before it forks
    return net::ip::address_v4({127, process, static_cast<unsigned char>(1 + user % 250), kind});
}

/// Runs the program with its fault.
void run_example(const scene& scene, const faults::plan& plan, record& result)
{
    std::istringstream words(FAULTS_NAME " --port 0 --address " + address_of(plan.nth, 2).to_string() + " " +
                             tested.arguments + " " + scene.arguments);
    std::vector<std::string> arguments;
    for (std::string word; words >> word;)
        arguments.push_back(word);
    std::vector<char*> argv;
    for (std::string& argument : arguments)
        argv.push_back(argument.data());
    argv.push_back(nullptr);
    {
        const holdfast::leak_check nothing_left([&](std::string_view left) {
            std::copy_n(left.begin(), std::min(left.size(), result.leaks.size() - 1), result.leaks.begin());
        });
        faults::planned = plan;
        faults::clock_speed = 100;
        faults::send_buffer = 4096;
        faults::narrow = scene.narrow;
        faults::observed = &result.outcome;
        result.status = example_main(static_cast<int>(arguments.size()), argv.data());
        faults::observed = nullptr;
    }
    result.born = holdfast::detail::guard_tracking::born();
    result.ended = holdfast::detail::guard_tracking::ended();
}

const std::string end_of_run = "-- the end of a run";

/// Runs the program in each of the ways in which its n-th operation can fail, a process being dear.
int run_all_ways(const scene& scene, std::uint64_t nth)
{
    records& results = shared_records();
    std::size_t ways = 1;
    for (std::size_t way = 0; way < ways; ++way) {
        run_example(scene, {nth, way}, results.at(way));
        ways = results[way].outcome.ways;
        std::cout << end_of_run << std::endl;
    }
    return 0;
}

/// A client that accepts every answer but silence.
class client {
public:
    explicit client(const tcp::endpoint& server) : client(server, {}) {}

    /// One whose kernel takes little that it has not read yet.
    client(const tcp::endpoint& server, std::optional<int> receive_buffer) : socket_(io_, tcp::v4())
    {
        if (receive_buffer) socket_.set_option(net::socket_base::receive_buffer_size(*receive_buffer));
        static std::uint64_t clients = 0;
        socket_.bind({address_of(clients++ / 1000, 1), 0});
        socket_.connect(server, ec_);
    }

    void send(std::string_view text)
    {
        if (!ec_) net::write(socket_, net::buffer(text), ec_);
    }

    /// Reads so many lines, or what else ends so, some bytes at a time; false when the stream ends before.
    bool lines(std::ptrdiff_t count, std::size_t at_once = 4096, char end = '\n')
    {
        std::string got;
        std::string bytes(at_once, '\0');
        while (!ec_ && std::count(got.begin(), got.end(), end) < count) {
            tests::await_readable(socket_);
            got.append(bytes, 0, socket_.read_some(net::buffer(bytes), ec_));
        }
        return !ec_;
    }

    void half_close() { socket_.shutdown(tcp::socket::shutdown_send, ec_); }
    void reset() { socket_.set_option(net::socket_base::linger(true, 0), ec_), close(); }
    void close() { socket_.close(ec_); }

    void read_to_end()
    {
        if (socket_.is_open() && !ec_) tests::read_to_end(socket_);
        close();
    }

private:
    net::io_context io_;
    tcp::socket socket_;
    error_code ec_;
};

/// Where the next line of the server's output says where it listens.
tcp::endpoint next_door(tests::process& server)
{
    const std::string line = server.line();
    const auto address = line.find("127.");
    const auto port = line.rfind(':');
    if (address == std::string::npos || port == std::string::npos)
        throw std::runtime_error("the server did not start: " + line);
    return {net::ip::make_address_v4(line.substr(address, port - address)),
            static_cast<unsigned short>(std::stoul(line.substr(port + 1)))};
}

/// Where a scene plays, and which clients are still there when it is over.
struct stage {
    tcp::endpoint where;           ///< the last listener
    tcp::endpoint first_door = {}; ///< the same where there is one
    std::list<client> staying{};   ///< they read on as the server drains
    std::list<client> mute{};      ///< they never read again
};

/// One session of the program; returns what it printed. `served` says whether the witness was.
std::string play(const scene& scene, tests::process& server, bool& served)
{
    const tcp::endpoint first = next_door(server);
    tcp::endpoint last = first;
    for (std::size_t i = 1; i != tested.listeners; ++i)
        last = next_door(server);
    stage s{last, first};
    scene.play(s);
    for (int attempt = 0; attempt != 3 && !served && server.running(); ++attempt) {
        client& witness = s.staying.emplace_back(s.where); // the one fault may have hit the first attempt
        served = tested.is_served(witness);
    }
    server.signal(SIGUSR1);
    server.signal(SIGTERM);
    for (client& each : s.staying)
        each.read_to_end();
    std::string output;
    for (std::string line = server.line(); line != end_of_run; line = server.line()) {
        if (line.empty() && !server.running())
            throw std::runtime_error("it died, status " + std::to_string(server.wait()) + ": " + output);
        output += line + '\n';
    }
    return output;
}

/// How many connections the program says have ended, or nothing where it does not say.
std::optional<std::size_t> ended_connections(const std::string& output)
{
    const std::string words = "ended ";
    const auto at = output.rfind(words);
    if (at == std::string::npos) return {};
    return std::stoul(output.substr(at + words.size()));
}

std::size_t count(const std::string& text, const std::string& words)
{
    std::size_t times = 0;
    for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + words.size()))
        ++times;
    return times;
}

/// Whether the program prints each end in its connections' finalizer.
constexpr bool prints_ends = !std::is_same_v<acceptor, holdfast::bounded_acceptor<tcp>> &&
                             !std::is_same_v<acceptor, holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>>>;

/// Checks what a run of the program has left.
void check(const record& result, const std::string& output, bool served)
{
    INFO(result.outcome.name << '\n' << output);
    CHECK(result.leaks.data() == std::string());
    CHECK(result.status == 0);
    CHECK(served);
    CHECK(result.born == result.ended);
    if (prints_ends) CHECK(count(output, " after ") == ended_connections(output));
    if (output.find("drained, 0 aborted") != std::string::npos) // else their ends are the last to come
        CHECK(output.find("live 0, ") != std::string::npos);
}

/// Plays the scene once for each way in which the n-th operation can fail; returns how many failed, or
/// nothing where it was never reached.
std::optional<std::uint64_t> survives(const scene& scene, std::uint64_t nth)
{
    records& results = shared_records();
    results = {};
    std::uint64_t failed = 0;
    std::size_t way = 0;
    INFO(FAULTS_NAME ", " << scene.name << ", operation " << nth);
    try {
        tests::process server([&] { return run_all_ways(scene, nth); });
        for (std::size_t ways = 1; way < ways; ++way) {
            INFO("way " << way);
            bool served = false;
            const std::string output = play(scene, server, served);
            check(results.at(way), output, served);
            if (results[way].outcome.failed) ++failed;
            if (scene.narrow) CHECK(results[way].outcome.writes > 2);
            ways = results[way].outcome.ways;
        }
        CHECK(server.wait() == 0);
    } catch (const std::exception& hang) {
        FAIL("way " << way << ' ' << results.at(way).outcome.name << ": " << hang.what());
    }
    return results[0].outcome.ways != 0 ? std::optional(failed) : std::nullopt;
}

/// Plays the scene with each fault.
void any_operation_may_fail(const scene& scene)
{
    static std::uint64_t in_all = 0;
    std::uint64_t faults = 0;
    // A session does not take the very same steps each time: its end is where several in a row were not
    // reached.
    for (std::uint64_t nth = 1, missed = 0; missed != 3; ++nth) {
        const auto failed = survives(scene, nth);
        missed = failed ? 0 : missed + 1;
        faults += failed.value_or(0);
    }
    in_all += faults;
    std::cout << FAULTS_NAME << ", " << scene.name << ": " << faults << " faults, " << in_all << " so far" << std::endl;
    CHECK(faults > 50);
}

} // namespace

#endif
