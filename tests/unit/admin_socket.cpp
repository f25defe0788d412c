// holdfast: tests of the admin socket: its answer is the census as JSON, its file comes and goes with it.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/server/admin_socket.hpp>

#include <fstream>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::close_reason;
using tests::tcp;
namespace net = holdfast::net;
using local = net::local::stream_protocol;

namespace {

struct fixture {
    std::string ask()
    {
        local::socket client(clients);
        client.connect(path);
        tests::run_until(io, [&] {
            char byte;
            return ::recv(client.native_handle(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
        });
        client.shutdown(local::socket::shutdown_send);
        io.poll();
        return tests::read_to_end(client).bytes;
    }

    [[nodiscard]] bool file_exists() const
    {
        struct ::stat found{};
        return ::lstat(path.c_str(), &found) == 0;
    }

    const std::string path = "admin_socket_" + std::to_string(::getpid());
    net::io_context io, clients;
    holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.timeout = 30s}};
    holdfast::bounded_acceptor<tcp> acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
};

} // namespace

TEST_CASE("each client gets the census as one line of JSON")
{
    fixture f;
    std::vector<holdfast::bounded_acceptor<tcp>::connection_type> kept;
    f.acceptor.async_serve([&](auto peer) { kept.push_back(std::move(peer)); }, net::detached);
    tcp::socket client(f.clients);
    client.connect(f.acceptor.local_endpoint());
    tests::run_until(f.io, [&] { return kept.size() == 1; });
    const holdfast::admin_socket admin{f.io.get_executor(), f.path, f.acceptor.census(), f.heartbeats};
    const std::string remote = "127.0.0.1:" + std::to_string(client.local_endpoint().port());
    const std::string answer = f.ask();
    CHECK(answer.starts_with("{\"live\":1,\"peak\":1,\"ended\":0,\"ended_by\":{},\"members\":[{\"id\":"));
    CHECK(answer.find("\"remote\":\"" + remote + "\",\"age_ms\":") != std::string::npos);
    CHECK(answer.ends_with("\"bytes_in\":0,\"bytes_out\":0,\"draining\":false}]}\n"));
    kept[0].close(close_reason::refused);
    kept.clear();
    CHECK(f.ask() == "{\"live\":0,\"peak\":1,\"ended\":1,\"ended_by\":{\"refused\":1},\"members\":[]}\n");
}

TEST_CASE("the file replaces a stale one and is removed, another file, and a live socket, stay")
{
    fixture f;
    const auto refusal = [&](const std::string& path) -> std::string {
        try {
            holdfast::admin_socket admin{f.io.get_executor(), path, f.acceptor.census(), f.heartbeats};
        } catch (const holdfast::system_error& error) {
            return error.what();
        }
        return "opened";
    };
    local::acceptor(f.clients, f.path).close(); // as a process that has crashed leaves it
    REQUIRE(f.file_exists());
    {
        const holdfast::admin_socket admin{f.io.get_executor(), f.path, f.acceptor.census(), f.heartbeats};
        CHECK(f.ask().starts_with("{\"live\":0"));
        CHECK(refusal(f.path).starts_with("cannot listen on " + f.path + " (a program listens there"));
        CHECK(f.ask().starts_with("{\"live\":0"));
    }
    CHECK(!f.file_exists());
    std::ofstream(f.path) << "not a socket";
    CHECK(refusal(f.path).starts_with("cannot listen on " + f.path));
    CHECK(f.file_exists());
    ::unlink(f.path.c_str());
    CHECK(refusal(std::string(200, 'a')).starts_with("cannot listen on aaa"));
}
