// holdfast: how does an acceptor listen: close-on-exec, IP versions, socket files, adopted listeners, and clients
// that are in the backlog at the end?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::acceptor_options;
using holdfast::close_reason;
using holdfast::error_code;
using holdfast::ip_versions;
using tests::connect, tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;
using local = net::local::stream_protocol;
using local_acceptor = holdfast::bounded_acceptor<local>;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

/// Open descriptors that a child process would inherit.
std::vector<int> inheritable()
{
    std::vector<int> found;
    for (int i = 3; i != 1024; ++i)
        if (const int flags = ::fcntl(i, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC) == 0) found.push_back(i);
    return found;
}

bool has_ipv6()
{
    net::io_context io;
    tcp::acceptor any(io, tcp::v6());
    error_code ec;
    any.bind({net::ip::address_v6::loopback(), 0}, ec);
    return !ec;
}

std::string socket_path(const char* name)
{
    return "/tmp/holdfast-test-" + std::string(name) + '-' + std::to_string(::getpid());
}

net::awaitable<void> wait_for_end(connection peer)
{
    char byte = 0;
    error_code ec;
    co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::redirect_error(net::use_awaitable, ec));
    co_await net::async_write(peer.stream(), net::buffer("bye\n", 4), net::redirect_error(net::use_awaitable, ec));
    co_await peer.async_close({}, net::redirect_error(net::use_awaitable, ec));
}

} // namespace

TEST_CASE("a child process inherits neither listeners nor connections")
{
    net::io_context io;
    tcp::socket client(io, tcp::v4());
    tcp::socket rejected(io, tcp::v4());
    tcp::acceptor inherited(io, any_port);
    const int copy = ::dup(inherited.native_handle());
    const auto before = inheritable();
    acceptor accepting{io,
                       any_port,
                       {.max_connections = 1,
                        .on_connection_limit = holdfast::overload_policy::reject,
                        .on_descriptor_limit = holdfast::overload_policy::reset,
                        .reserve_descriptors = true}};
    std::vector<connection> kept;
    accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    client.connect(accepting.local_endpoint());
    tests::run_until(io, [&] { return kept.size() == 1; });
    rejected.connect(accepting.local_endpoint());
    tests::run_until(io, [&] { return accepting.rejected() == 1; });
    CHECK(inheritable() == before);
    const acceptor adopted{io, tcp::v4(), copy};
    CHECK(inheritable().size() == before.size() - 1); // the adopted one is close-on-exec from now on
    accepting.close();
    kept.clear();
    client.close();
    rejected.close();
    tests::run(io);
}

TEST_CASE("an IPv6 listener takes IPv4 clients or does not, as the option says")
{
    if (!has_ipv6()) return;
    net::io_context io;
    const tcp::endpoint everywhere{tcp::v6(), 0};
    for (const auto versions : {ip_versions::v6_only, ip_versions::dual_stack}) {
        acceptor accepting{io, everywhere, {.max_per_address = 1, .versions = versions}};
        tcp::socket client(io, tcp::v4());
        error_code ec;
        client.connect({net::ip::address_v4::loopback(), accepting.local_endpoint().port()}, ec);
        CHECK(!ec == (versions == ip_versions::dual_stack));
        tcp::socket v6(io);
        v6.connect({net::ip::address_v6::loopback(), accepting.local_endpoint().port()});
    }
    tcp::acceptor inherited(io, tcp::v6());
    inherited.set_option(net::ip::v6_only(true));
    inherited.bind(everywhere);
    inherited.listen();
    CHECK_THROWS_AS((acceptor{io, tcp::v6(), inherited.native_handle(), {.versions = ip_versions::dual_stack}}),
                    std::invalid_argument);
    const acceptor adopted{io, tcp::v6(), inherited.release(), {.versions = ip_versions::v6_only}};
}

TEST_CASE("a stale socket file is replaced when that is requested, and that of a live server never")
{
    const std::string path = socket_path("stale");
    const local::endpoint at(path);
    net::io_context io;
    {
        const local::acceptor gone(io, at); // leaves its file
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
    CHECK_THROWS_AS((local_acceptor{io, at}), holdfast::system_error);
    {
        const local_acceptor accepting{io, at, {.replace_stale_socket_file = true}};
        CHECK_THROWS_AS((local_acceptor{io, at, {.replace_stale_socket_file = true}}), holdfast::system_error);
        local::socket client(io);
        client.connect(at);
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
    ::unlink(path.c_str());
    const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ::close(file);
    CHECK_THROWS_AS((local_acceptor{io, at, {.replace_stale_socket_file = true}}), holdfast::system_error);
    CHECK(::access(path.c_str(), F_OK) == 0); // not a socket: it stays
    ::unlink(path.c_str());
}

TEST_CASE("closing removes the socket file when that is requested, unless another server has replaced it")
{
    const std::string path = socket_path("removed");
    const local::endpoint at(path);
    net::io_context io;
    {
        const local_acceptor accepting{io, at, {.remove_socket_file = true}};
        CHECK(::access(path.c_str(), F_OK) == 0);
    }
    CHECK(::access(path.c_str(), F_OK) != 0);
    {
        const local_acceptor accepting{io, at, {.remove_socket_file = true}};
        ::rename(path.c_str(), (path + ".old").c_str());
        const local_acceptor successor{io, at};
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
    ::unlink(path.c_str());
    ::unlink((path + ".old").c_str());
}

TEST_CASE("a drain serves the clients in the backlog first when that is requested, and frees the port then")
{
    net::io_context io;
    acceptor accepting{io, any_port, {.max_connections = 2}};
    error_code served = net::error::fault;
    accepting.async_serve(wait_for_end, [&](error_code ec) { served = ec; });
    auto clients = connect(io, accepting.local_endpoint(), 5); // three wait in the backlog
    tests::run_until(io, [&] { return accepting.census().live() == 2; });
    std::optional<std::size_t> aborted;
    accepting.async_drain({.serve_backlog = true}, [&](error_code ec, std::size_t n) {
        CHECK_FALSE(ec);
        aborted = n;
    });
    for (std::size_t ended = 0; ended != 5; ++ended) {
        tests::run_until(io, [&] { return clients[ended].available() == 4; });
        std::string said(4, ' ');
        net::read(clients[ended], net::buffer(said));
        CHECK(said == "bye\n");
        clients[ended].close();
        tests::run_until(io, [&] { return accepting.census().ended() > ended; });
    }
    tests::run(io);
    CHECK(aborted == 0U);
    CHECK_FALSE(served);
    CHECK(accepting.census().ended(close_reason::drained) == 5);
    tcp::acceptor again(io, accepting.local_endpoint());
}

TEST_CASE("a drain serves the backlog of a local socket alike, and closes the listener where it is empty")
{
    const std::string path = socket_path("drain");
    ::unlink(path.c_str());
    net::io_context io;
    local_acceptor accepting{io, local::endpoint(path), {.max_connections = 2, .remove_socket_file = true}};
    std::vector<local_acceptor::connection_type> kept;
    error_code served = net::error::fault;
    accepting.async_serve([&](local_acceptor::connection_type peer) { kept.push_back(std::move(peer)); },
                          [&](error_code ec) { served = ec; });
    std::vector<local::socket> clients;
    for (int i = 0; i != 5; ++i) // three wait in the backlog
        clients.emplace_back(io).connect(local::endpoint(path));
    tests::run_until(io, [&] { return kept.size() == 2; });
    std::optional<std::size_t> aborted;
    accepting.async_drain({.serve_backlog = true}, [&](error_code, std::size_t n) { aborted = n; });
    for (std::size_t i = 0; i != 5; ++i) {
        tests::run_until(io, [&] { return !kept.empty(); });
        CHECK(kept.front().draining());
        kept.erase(kept.begin());
    }
    tests::run(io);
    CHECK(aborted == 0U);
    CHECK_FALSE(served);
    CHECK(accepting.census().ended() == 5);
    CHECK(::access(path.c_str(), F_OK) != 0);

    local_acceptor empty{io, local::endpoint(path), {.remove_socket_file = true}};
    empty.async_serve([](auto) {}, net::detached);
    empty.async_drain({.serve_backlog = true}, net::detached);
    CHECK(::access(path.c_str(), F_OK) != 0); // at once
    tests::run(io);
}

TEST_CASE("a drain that serves the backlog still ends at its deadline")
{
    net::io_context io;
    acceptor accepting{io, any_port, {.max_connections = 1}};
    std::vector<connection> kept;
    accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    auto clients = connect(io, accepting.local_endpoint(), 3);
    tests::run_until(io, [&] { return kept.size() == 1; });
    std::optional<std::size_t> aborted;
    accepting.async_drain({.deadline = 20ms, .serve_backlog = true}, [&](error_code, std::size_t n) { aborted = n; });
    tests::run_until(io, [&] { return aborted.has_value(); });
    CHECK(aborted == 1U);
    kept.clear();
    tests::run(io);
    CHECK(tests::read_to_end(clients[2]).end == net::error::connection_reset);
}
