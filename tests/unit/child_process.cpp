// holdfast: tests that a process which the server has spawned keeps neither its connections nor its port open.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>

#include <csignal>
#include <fcntl.h>
#include <spawn.h>
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
