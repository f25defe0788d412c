// holdfast: tests of an example program of ours, its own text, with faults: its n-th operation fails, for
// every n and in every way in which it can. No fault leaks, hangs, or stops the others from being served.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/fault_injection.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/leak_check.hpp>

#define main example_main
#include FAULTS_SOURCE
#undef main

#include <algorithm>
#include <array>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <poll.h>
#include <sys/mman.h>

namespace faults = tests::faults;

namespace {

/// What a run of the program leaves for the process that started it.
struct record {
    faults::outcome outcome;
    std::uint64_t born = 0;
    std::uint64_t ended = 0;
    std::array<char, 2048> leaks{};
};

record& shared_record()
{
    static void* const memory =
        ::mmap(nullptr, sizeof(record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return *static_cast<record*>(memory);
}

/// The program, in a process of its own, with its fault.
int run_example(const faults::plan& plan)
{
    std::istringstream words(FAULTS_NAME " --port 0 " FAULTS_ARGUMENTS);
    std::vector<std::string> arguments;
    for (std::string word; words >> word;)
        arguments.push_back(word);
    std::vector<char*> argv;
    for (std::string& argument : arguments)
        argv.push_back(argument.data());
    argv.push_back(nullptr);

    record& result = shared_record();
    int status = 0;
    {
        const holdfast::leak_check nothing_left([&](std::string_view left) {
            std::copy_n(left.begin(), std::min(left.size(), result.leaks.size() - 1), result.leaks.begin());
        });
        faults::planned = plan;
        faults::clock_speed = 50;
        faults::observed = &result.outcome;
        status = example_main(static_cast<int>(arguments.size()), argv.data());
        faults::observed = nullptr;
    }
    result.born = holdfast::detail::guard_birth::born();
    result.ended = holdfast::detail::guard_birth::ended();
    return status;
}

/// A client that bears with everything but silence.
class client {
public:
    explicit client(const tcp::endpoint& server) : socket_(io_) { socket_.connect(server, ec_); }

    void send(std::string_view text)
    {
        if (!ec_) net::write(socket_, net::buffer(text), ec_);
    }

    /// Reads so many lines; false when the stream ends before.
    bool lines(std::ptrdiff_t count)
    {
        std::string got;
        while (!ec_ && std::count(got.begin(), got.end(), '\n') < count) {
            tests::await_readable(socket_);
            std::array<char, 4096> bytes;
            got.append(bytes.data(), socket_.read_some(net::buffer(bytes), ec_));
        }
        return !ec_;
    }

    void half_close() { socket_.shutdown(tcp::socket::shutdown_send, ec_); }
    void reset() { socket_.set_option(net::socket_base::linger(true, 0), ec_), socket_.close(ec_); }

    void read_to_end()
    {
        if (socket_.is_open() && !ec_) tests::read_to_end(socket_);
        socket_.close(ec_);
    }

private:
    net::io_context io_;
    tcp::socket socket_;
    holdfast::error_code ec_;
};

tcp::endpoint endpoint_of(tests::process& server)
{
    const std::string first = server.line();
    const auto end = first.find(", pid ");
    if (end == std::string::npos) throw std::runtime_error("the server did not start: " + first);
    return {net::ip::address_v4::loopback(),
            static_cast<unsigned short>(std::stoul(first.substr(first.rfind(':', end) + 1)))};
}

/// One session of the program: a client that ends its stream, one that resets, one that stays in the middle
/// of a line, one that must be served whatever befell the others, and the end by SIGTERM.
int session(tests::process& server, bool& served, std::string& output)
{
    const tcp::endpoint where = endpoint_of(server);
    {
        client polite(where);
        polite.send("one\ntwo\n");
        polite.lines(2);
        polite.half_close();
        polite.read_to_end();
    }
    {
        client rude(where);
        rude.send("three\n");
        rude.lines(1);
        rude.reset();
    }
    client slow(where);
    slow.send("four");
    std::optional<client> witness;
    for (int attempt = 0; attempt != 2 && !served && server.running(); ++attempt) {
        witness.emplace(where); // the one fault may have hit the first attempt
        witness->send("five\n");
        served = witness->lines(1);
    }
    server.signal(SIGUSR1);
    server.signal(SIGTERM);
    slow.read_to_end();
    witness->read_to_end();
    return server.wait(&output, std::chrono::seconds(30));
}

/// Runs the program with the fault and checks what is left; false when the n-th operation was never reached.
bool survives(const faults::plan& plan, std::uint64_t& points)
{
    record& result = shared_record();
    result = {};
    bool served = false;
    std::string output;
    int status = 0;
    INFO(FAULTS_NAME ", operation " << plan.nth << ", way " << plan.way);
    try {
        tests::process server([&] { return run_example(plan); });
        status = session(server, served, output);
    } catch (const std::exception& hang) {
        FAIL(result.outcome.name << ": " << hang.what());
    }
    INFO(result.outcome.name << '\n' << output);
    if (result.outcome.failed) ++points;
    CHECK(result.leaks.data() == std::string());
    CHECK(status == 0);
    CHECK(served);
    CHECK(result.born == result.ended);
    if (output.find("drained, 0 aborted") != std::string::npos) // else their ends are the last to come
        CHECK(output.find("live 0, ") != std::string::npos);
    return result.outcome.ways != 0;
}

} // namespace

TEST_CASE("any system call on a socket may fail: nothing is left open, and the others are served")
{
    std::uint64_t points = 0;
    // A session does not take the very same steps each time: its end is where several in a row were not
    // reached.
    for (std::uint64_t nth = 1, missed = 0; missed != 3; ++nth) {
        std::size_t way = 0;
        do
            missed = survives({nth, way}, points) ? 0 : missed + 1;
        while (++way < shared_record().outcome.ways);
    }
    std::cout << FAULTS_NAME << ": " << points << " faults" << std::endl;
    CHECK(points > 100);
}
