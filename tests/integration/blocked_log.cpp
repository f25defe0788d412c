// holdfast: tests that a log whose reader does not read, or is gone, never stops a server.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/example_server.hpp"
#include "support/log.hpp"
#include "support/sockets.hpp"

#include <holdfast/server/line_log.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

using tests::tcp;
namespace net = holdfast::net;

namespace {

struct pipe_ends {
    int reading = -1, writing = -1;
    pipe_ends()
    {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        reading = ends[0];
        writing = ends[1];
        ::fcntl(writing, F_SETPIPE_SZ, 4096);
    }
    pipe_ends(const pipe_ends&) = delete;
    ~pipe_ends()
    {
        close_reader();
        ::close(writing);
    }
    void close_reader()
    {
        if (reading >= 0) ::close(std::exchange(reading, -1));
    }
    std::string read_all() const // that is there
    {
        std::string all;
        while (read_more(all, 0)) {
        }
        return all;
    }
    std::string read_to(std::string_view end) const // which another thread writes
    {
        std::string all;
        while (!all.ends_with(end))
            REQUIRE(read_more(all, 30'000));
        return all;
    }

private:
    bool read_more(std::string& to, int wait_ms) const
    {
        std::array<char, 65536> bytes;
        ::pollfd readable{reading, POLLIN, 0};
        if (::poll(&readable, 1, wait_ms) <= 0) return false;
        const auto n = ::read(reading, bytes.data(), bytes.size());
        if (n > 0) to.append(bytes.data(), static_cast<std::size_t>(n));
        return n > 0;
    }
};

/// Sends `request` and reads the answer; the time it took.
std::chrono::microseconds exchange(const tests::example_server& server, const std::string& request,
                                   const std::string& answer)
{
    const auto begin = std::chrono::steady_clock::now();
    net::io_context io;
    tcp::socket client(io);
    client.connect(server.endpoint());
    net::write(client, net::buffer(request));
    std::string got(answer.size(), '\0');
    tests::await_readable(client);
    net::read(client, net::buffer(got));
    CHECK(got == answer);
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
}

/// Connects, says something and resets, `count` times: each is a line of the server's log.
void connect_and_reset(const tests::example_server& server, const std::string& request, int count)
{
    net::io_context io;
    for (int i = 0; i != count; ++i) {
        tcp::socket client(io);
        client.connect(server.endpoint());
        holdfast::error_code ec;
        net::write(client, net::buffer(request), ec);
        tests::reset(client);
    }
}

/// A message as callback_server frames it.
std::string with_length(const std::string& text)
{
    return std::string(3, '\0') + static_cast<char>(text.size()) + text;
}

constexpr std::size_t most_of_a_pipe = 50'000; // which holds 64 KiB, less where a line has begun a page of its own

/// Has the server drain and exit while nothing reads its output, which is returned.
std::string end_unread(tests::example_server& server)
{
    server.child.signal(SIGTERM);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (server.child.running() && std::chrono::steady_clock::now() < deadline)
        ::poll(nullptr, 0, 10);
    CHECK_FALSE(server.child.running());
    std::string output;
    CHECK(server.child.wait(&output) == 0);
    return output;
}

} // namespace

TEST_CASE("a server whose log pipe is full continues, drains, and exits")
{
    struct program {
        std::string name, request, answer;
    };
    const std::string wrong_job =
        "{\"job\":1,\"error\":\"give two whole numbers, FIRST LAST, from 1 to 1000000000\"}\n";
    for (const auto& [name, request, answer] :
         {program{"echo_server", "one\n", "{\"line\":1,\"text\":\"one\"}\n"},
          program{"graceful_server", "one\n", "{\"taken\":1}\n"},
          program{"netstring_server", "3:one,", "26:{\"message\":1,\"text\":\"one\"},"},
          program{"task_pool_server", "one\n", wrong_job},
          program{"starting_point", "get one\n", "{\"key\":\"one\",\"value\":3}\n"},
          program{"callback_server", with_length("one"), with_length("{\"number\":1,\"text\":\"one\"}")}}) {
        tests::example_server server(name, {"--drain", "5s"});
        const auto before = exchange(server, request, answer);
        connect_and_reset(server, request, 5000); // the output of more than 64 KiB is not read
        std::chrono::microseconds slowest{};
        for (int i = 0; i != 100; ++i)
            slowest = std::max(slowest, exchange(server, request, answer));
        WARN(name << ": an exchange takes " << before.count() << " us before, and " << slowest.count()
                  << " us at most of 100 with a full log pipe");
        CHECK(end_unread(server).size() > most_of_a_pipe);
    }
}

TEST_CASE("a server whose log pipe is full of reports continues, drains, and exits")
{
    constexpr std::string_view health = "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n";
    std::vector<std::string> names{"market_feed"};
#if defined(EXAMPLES_WITH_BEAST)
    names.insert(names.end(), {"log_collector", "push_gateway"});
#endif
    for (const std::string& name : names) {
        INFO(name);
        const bool has_readers = name == "log_collector"; // which its reports list, and have a port of their own
        std::vector<std::string> arguments{"--drain", "5s"};
        if (has_readers) arguments.insert(arguments.end(), {"--http-port", "0"});
        tests::example_server server(name, arguments);
        tcp::endpoint listed = server.endpoint();
        if (has_readers) {
            const std::string readers = server.line_beginning("log_collector: readers at ");
            const auto colon = readers.rfind(':');
            listed.port(static_cast<unsigned short>(std::stoul(readers.substr(colon + 1))));
        }
        net::io_context io;
        auto clients = tests::connect(io, listed, 30); // of which each report lists ten
        for (int i = 0; i != 200; ++i) {
            server.child.signal(SIGUSR1);
            tcp::socket client(io);
            client.connect(server.endpoint());
            if (name == "push_gateway") net::write(client, net::buffer(health.data(), health.size()));
            if (has_readers) client.shutdown(tcp::socket::shutdown_send);
            tests::await_readable(client);
            char byte;
            holdfast::error_code ec;
            client.read_some(net::buffer(&byte, 1), ec);
            CHECK(ec == (has_readers ? holdfast::error_code(net::error::eof) : holdfast::error_code()));
        }
        clients.clear();
        CHECK(end_unread(server).size() > most_of_a_pipe);
    }
}

TEST_CASE("a full log drops the oldest lines, counts them, and continues when it is read again")
{
    const pipe_ends pipe;
    constexpr std::size_t lines = 3 * examples::log_queue::capacity;
    const examples::log_queue log(pipe.writing);
    for (std::size_t i = 0; i != lines; ++i)
        examples::log_line("line ", i);
    const std::string text = pipe.read_to("line " + std::to_string(lines - 1) + "\n");
    std::size_t dropped = 0, reports = 0, written = 0;
    for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
        if (text.compare(at, 5, "log: ") == 0) {
            dropped += std::stoul(text.substr(at + 5));
            ++reports;
        } else {
            ++written;
        }
    }
    CHECK(reports >= 1);
    CHECK(dropped > 0);
    CHECK(written + dropped == lines);
    examples::log_line("one more");
    CHECK(pipe.read_to("one more\n") == "one more\n");
}

TEST_CASE("a log whose reader has left neither ends the process nor blocks its end")
{
    pipe_ends pipe;
    {
        const examples::log_queue log(pipe.writing);
        pipe.close_reader();
        for (int i = 0; i != 1000; ++i)
            examples::log_line("line ", i);
    }
    pipe_ends full;
    {
        const examples::log_queue log(full.writing);
        for (int i = 0; i != 10'000; ++i)
            examples::log_line("line ", i);
    } // without a reader
    examples::log_line("without a log");
    CHECK(full.read_all().find("line ") != std::string::npos);
}

TEST_CASE("line_log never blocks: a full pipe drops lines and says so, one without a reader ends nothing")
{
    pipe_ends pipe;
    ::fcntl(pipe.writing, F_SETPIPE_SZ, 65536); // in pages, of which each that holds a byte is used up
    holdfast::line_log log(pipe.writing);
    log("two\nlines, number ", 2, '\n');
    log(std::string(100'000, 'x')); // cut: a pipe takes no more at once for certain
    CHECK(pipe.read_all() == "two\nlines, number 2\n" + std::string(4000, 'x') + "\n");
    int lines = 0;
    while (log.dropped() == 0)
        log("line ", lines++);
    for (int i = 0; i != 9; ++i)
        log("dropped");
    CHECK(log.dropped() == 10);
    std::string expected;
    for (int i = 0; i != lines - 1; ++i)
        expected += "line " + std::to_string(i) + "\n";
    CHECK(pipe.read_all() == expected);
    log("goes on");
    CHECK(pipe.read_all() == "log: 10 lines were dropped\ngoes on\n");
    pipe.close_reader();
    log("unheard");
    CHECK(log.dropped() == 11);

    std::array<int, 2> ends{}; // a service manager's log may be a socket
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    {
        holdfast::line_log of_socket(ends[0]);
        while (of_socket.dropped() == 0)
            of_socket(std::string(1000, 's'));
    }
    ::close(ends[0]);
    ::close(ends[1]);
}
