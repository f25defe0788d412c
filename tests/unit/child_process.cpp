// holdfast: tests that a process which the server has spawned keeps nothing of it open: neither its connections nor its
// port, nor any other descriptor.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/server/admin_socket.hpp>
#include <holdfast/server/drain_at_signal.hpp>
#include <holdfast/server/saved_ring.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;

/// A program that lives until it is killed, or for a minute, with all descriptors that are not close-on-exec.
class child_process {
public:
    child_process()
    {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        char name[] = "sh", option[] = "-c", program[] = "echo; exec sleep 60";
        char* arguments[] = {name, option, program, nullptr};
        const bool started = ::posix_spawnp(&id_, name, &actions, nullptr, arguments, environ) == 0;
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        char line = 0;
        const bool runs =
            started && ::read(ends[0], &line, 1) == 1; // from now on: its execve has closed what it closes
        ::close(ends[0]);
        if (!runs) throw std::runtime_error("a child process cannot be started");
    }
    child_process(const child_process&) = delete;
    ~child_process()
    {
        ::kill(id_, SIGKILL);
        ::waitpid(id_, nullptr, 0);
    }

    [[nodiscard]] bool alive() const { return ::waitpid(id_, nullptr, WNOHANG) == 0; }

private:
    ::pid_t id_ = 0;
};

/// One admitted connection, its client, and a child that was spawned while both were open.
struct with_child {
    with_child()
    {
        server.emplace(io, tcp::endpoint(net::ip::address_v4::loopback(), 0));
        client.connect(server->local_endpoint());
        server->async_accept([this](error_code, connection accepted) { peer.emplace(std::move(accepted)); });
        tests::run_until(io, [&] { return peer.has_value(); });
        REQUIRE(peer->is_open());
        child.emplace();
    }

    net::io_context io;
    tcp::socket client{io};
    std::optional<acceptor> server;
    std::optional<connection> peer;
    std::optional<child_process> child;
};

} // namespace

TEST_CASE("close() reaches the client while a child process lives")
{
    with_child test;
    test.peer->close();
    CHECK(tests::read_to_end(test.client).end == net::error::eof);
    CHECK(test.child->alive());
}

TEST_CASE("abort() reaches the client while a child process lives")
{
    with_child test;
    test.peer->abort();
    CHECK(tests::read_to_end(test.client).end == net::error::connection_reset);
    CHECK(test.child->alive());
}

TEST_CASE("the end of a silent connection reaches the client while a child process lives")
{
    with_child test;
    holdfast::heartbeat_timer<> heartbeats{test.io.get_executor(), {.tick = 10ms, .timeout = 50ms}};
    const auto heartbeat = heartbeats.watch(*test.peer);
    tests::run_until(test.io, [&] { return !test.peer->is_open(); });
    CHECK(tests::read_to_end(test.client).end == net::error::connection_reset);
    CHECK(test.child->alive());
}

TEST_CASE("unacknowledged bytes of a closed connection do not keep it open in a child process")
{
    with_child test;
    tests::drop_incoming(test.client);
    net::write(test.peer->stream(), net::buffer("bye\n", 4));
    test.peer->close();
    const child_process second; // while the socket waits for the acknowledgement
    const int unused = 0;
    REQUIRE(::setsockopt(test.client.native_handle(), SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0);
    const auto got = tests::read_to_end(test.client);
    CHECK(got.bytes == "bye\n");
    CHECK(got.end == net::error::eof);
    CHECK(second.alive());
}

TEST_CASE("the port is free when the acceptor has closed, while a child process lives")
{
    with_child test;
    const auto endpoint = test.server->local_endpoint();
    test.server->close();
    CHECK_NOTHROW(acceptor(test.io, endpoint));
    CHECK(test.child->alive());
}

namespace {

/// What a child's descriptors refer to, beside its three standard ones.
std::vector<std::string> descriptors_of_a_child()
{
    tests::process child({"/bin/ls", "-l", "/proc/self/fd"});
    std::string text;
    REQUIRE(child.wait(&text) == 0);
    std::istringstream lines(text);
    std::vector<std::string> found;
    for (std::string line; std::getline(lines, line);) {
        const auto arrow = line.find(" -> ");
        if (arrow == std::string::npos) continue; // the first line
        const auto number = line.substr(line.rfind(' ', arrow - 1) + 1, arrow - line.rfind(' ', arrow - 1) - 1);
        const std::string target = line.substr(arrow + 4);
        if (number == "0" || number == "1" || number == "2" ||
            (target.starts_with("/proc/") && target.ends_with("/fd")))
            continue; // the last: ls
        found.push_back(target);
    }
    std::sort(found.begin(), found.end());
    return found;
}

/// A client's socket, which is not the library's.
template <class Socket, class Endpoint>
void connect_closed_on_exec(Socket& client, const Endpoint& to)
{
    client.open(to.protocol());
    REQUIRE(::fcntl(client.native_handle(), F_SETFD, FD_CLOEXEC) == 0);
    client.connect(to);
}

} // namespace

namespace {

std::function<void()> at_fsync;

} // namespace

/// Calls the kernel, and takes the place of the C library's function in this program.
extern "C" int fsync(int descriptor)
{
    if (at_fsync) at_fsync();
    return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

TEST_CASE("a child process gets none of the descriptors that the library opens")
{
    const auto before = descriptors_of_a_child();
    {
        const int of_the_user = ::open("/dev/null", O_RDONLY); // NOLINT(android-cloexec-open): this is what it tests
        CHECK(descriptors_of_a_child().size() == before.size() + 1);
        ::close(of_the_user);
    }
    const auto directory = std::filesystem::temp_directory_path() / ("holdfast_child_" + std::to_string(::getpid()));
    std::filesystem::create_directory(directory);
    {
        net::io_context io;
        holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.tick = 10ms, .timeout = 30s}};
        // With the descriptor that it holds in reserve, and the file that it measures memory by.
        holdfast::acceptor_options options;
        options.on_descriptor_limit = holdfast::overload_policy::reject;
        options.memory = {.of = holdfast::memory_limits::memory_source::process,
                          .high_watermark = std::uint64_t{1} << 40};
        acceptor server{io, tcp::endpoint(net::ip::address_v4::loopback(), 0), options};
        std::vector<connection> sessions;
        server.async_serve([&](connection peer) { sessions.push_back(std::move(peer)); }, net::detached);
        const holdfast::drain_at_signal stop{server}; // Asio's pipe for signals
        const std::string path = directory / "admin";
        const holdfast::admin_socket admin{io.get_executor(), path, server.census(), heartbeats};
        tcp::socket client(io);
        connect_closed_on_exec(client, server.local_endpoint());
        net::local::stream_protocol::socket asking(io);
        connect_closed_on_exec(asking, net::local::stream_protocol::endpoint(path));
        tests::run_until(io, [&] { return sessions.size() == 1 && asking.available() != 0; });
        const auto heartbeat = heartbeats.watch(sessions[0]); // a timer
        io.poll();
        CHECK(descriptors_of_a_child() == before);
    }
    {
        // The file and its directory are open while they are written to the disk.
        int written = 0;
        at_fsync = [&] {
            ++written;
            CHECK(descriptors_of_a_child() == before);
        };
        holdfast::replay_ring ring;
        holdfast::save_ring(directory / "ring", ring);
        at_fsync = {};
        CHECK(written == 2);
    }
    std::filesystem::remove_all(directory);
}
