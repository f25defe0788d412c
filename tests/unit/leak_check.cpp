// holdfast: tests of leak_check: it is silent where nothing is left, and names what is.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/testing/leak_check.hpp>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include <unistd.h>

#include <unistd.h>

using tests::tcp;
namespace net = holdfast::net;

TEST_CASE("nothing is reported where everything that was opened is closed again")
{
    std::string told;
    {
        const holdfast::leak_check check{[&](std::string_view left) { told = left; }};
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        holdfast::connection_guard peer{std::move(server)};
        CHECK_FALSE(check.leaks().empty()); // as long as they are open
        holdfast::connection_guard owner{std::move(peer)};
        owner.close();
    }
    CHECK(told.empty());
}

TEST_CASE("a guard that is left is reported with the line that made it, and its descriptor with what it is")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    std::string told;
    std::optional<holdfast::connection_guard<tcp::socket>> kept;
    std::optional<tcp::socket> forgotten;
    {
        const holdfast::leak_check check{[&](std::string_view left) { told = left; }};
        const unsigned line = __LINE__ + 1;
        holdfast::connection_guard peer{std::move(server)};
        kept.emplace(std::move(peer));
        forgotten.emplace(io, tcp::v4());
        CHECK(check.leaks().find("leak_check.cpp:" + std::to_string(line)) != std::string::npos);
    }
    INFO(told);
    CHECK(told.find("connection_guard, live for ") != std::string::npos);
    CHECK(told.find("descriptor " + std::to_string(forgotten->native_handle()) + ": socket:") != std::string::npos);
    CHECK(told.find("descriptor " + std::to_string(kept->stream().native_handle())) ==
          std::string::npos); // it was open before
}

TEST_CASE("of an acceptor's connection it names the line that made the acceptor")
{
    net::io_context io;
    std::string told;
    tcp::socket client(io);
    std::optional<holdfast::bounded_acceptor<tcp>::connection_type> kept;
    const unsigned line = __LINE__ + 1;
    holdfast::bounded_acceptor<tcp> acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    {
        const holdfast::leak_check check{[&](std::string_view left) { told = left; }};
        client.connect(acceptor.local_endpoint());
        acceptor.async_accept([&](holdfast::error_code, auto peer) { kept.emplace(std::move(peer)); });
        tests::run(io);
    }
    CHECK(told.find("leak_check.cpp:" + std::to_string(line)) != std::string::npos);
}

TEST_CASE("a file that was open before is not reported when it is renamed or removed")
{
    char name[] = "/tmp/leak_check_XXXXXX";
    const int file = ::mkstemp(name);
    REQUIRE(file >= 0);
    const holdfast::leak_check check;
    const std::string renamed = std::string(name) + ".1";
    REQUIRE(::rename(name, renamed.c_str()) == 0);
    CHECK(check.leaks().empty());
    REQUIRE(::unlink(renamed.c_str()) == 0);
    CHECK(check.leaks().empty());
    const int other = ::dup(file);
    CHECK(check.leaks().starts_with("descriptor " + std::to_string(other) + ": "));
    ::close(other);
    CHECK(check.leaks().empty());
    ::close(file); // the listener of all tests looks, too
}

TEST_CASE("guards that were ended, moved from or assigned over are not live")
{
    std::string told;
    {
        const holdfast::leak_check check{[&](std::string_view left) { told = left; }};
        net::io_context io;
        auto [a, a_peer] = tests::socket_pair(io);
        auto [b, b_peer] = tests::socket_pair(io);
        auto [c, c_peer] = tests::socket_pair(io);
        auto* first = new holdfast::connection_guard{std::move(a)}; // leaked below, but ended
        holdfast::connection_guard second{std::move(b)};
        *first = std::move(second);
        first->close();
        auto released = holdfast::connection_guard{std::move(c)}.release_unbounded();
        released.close();
        a_peer.close();
        CHECK(check.leaks().find("connection_guard") == std::string::npos);
        delete first;
    }
    CHECK(told.empty());
}
