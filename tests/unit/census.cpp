// holdfast: tests of census: its figures agree with what happened.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/census.hpp>

#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <unistd.h>

using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

std::map<close_reason, std::uint64_t>* told = nullptr;
std::chrono::steady_clock::duration last_age{};

struct tell {
    void operator()(const holdfast::connection_end& end) const noexcept
    {
        ++(*told)[end.reason];
        last_age = end.age;
    }
};

using acceptor_type = holdfast::bounded_acceptor<tcp, tell>;

} // namespace

TEST_CASE("live, peak and the ends by reason agree with a plain record of random lives and deaths")
{
    std::map<close_reason, std::uint64_t> expected;
    std::map<close_reason, std::uint64_t> finalized;
    told = &finalized;
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}, {.max_connections = 64}};
    const auto census = acceptor.census();
    std::vector<acceptor_type::connection_type> open;
    std::size_t peak = 0;
    std::mt19937 random(20261123);
    for (int step = 0; step != 600; ++step) {
        if (open.size() < 64 && (open.empty() || random() % 2 == 0)) {
            tcp::socket client(io);
            client.connect(acceptor.local_endpoint());
            acceptor.async_accept([&](error_code ec, acceptor_type::connection_type peer) {
                REQUIRE_FALSE(ec);
                open.push_back(std::move(peer));
            });
            tests::run(io);
            peak = std::max(peak, open.size());
        } else {
            const auto victim = open.begin() + static_cast<std::ptrdiff_t>(random() % open.size());
            switch (random() % 4) {
            case 0:
                victim->close();
                ++expected[close_reason::local];
                break;
            case 1:
                victim->abort(close_reason::heartbeat_timeout);
                ++expected[close_reason::heartbeat_timeout];
                break;
            case 2:
                victim->close(close_reason::io_error, net::error::connection_reset);
                ++expected[close_reason::io_error];
                break;
            default:
                ++expected[close_reason::abandoned];
                break;
            }
            std::swap(*victim, open.back());
            open.pop_back();
        }
        REQUIRE(census.live() == open.size());
    }
    CHECK(census.peak() == peak);
    std::uint64_t ended = 0;
    for (const auto& [reason, count] : expected) {
        CHECK(census.ended(reason) == count);
        ended += count;
    }
    CHECK(census.ended() == ended);
    CHECK(finalized == expected);
    CHECK(census.oldest() > std::chrono::steady_clock::duration::zero());
    open.clear();
    CHECK(census.live() == 0);
    CHECK(census.oldest() == std::chrono::steady_clock::duration::zero());
}

TEST_CASE("the report names what lives and why the others ended, and a view outlives its acceptor")
{
    std::map<close_reason, std::uint64_t> finalized;
    told = &finalized;
    net::io_context io;
    std::optional<acceptor_type> acceptor(std::in_place, io.get_executor(),
                                          tcp::endpoint(net::ip::address_v4::loopback(), 0));
    const auto census = acceptor->census();
    for (int i = 0; i != 3; ++i) {
        tcp::socket client(io);
        client.connect(acceptor->local_endpoint());
        acceptor->async_accept([](error_code, acceptor_type::connection_type peer) { peer.close(); });
        tests::run(io);
    }
    acceptor.reset();
    std::ostringstream text;
    census.report(text);
    CHECK(text.str() == "live 0, peak 1, ended 3\n  closed here: 3\n");
}

TEST_CASE("a connection's age is that of its entry until it ends, moved or not, and then zero")
{
    std::map<close_reason, std::uint64_t> finalized;
    told = &finalized;
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    const auto census = acceptor.census();
    tcp::socket client(io);
    client.connect(acceptor.local_endpoint());
    std::optional<acceptor_type::connection_type> peer;
    acceptor.async_accept(
        [&](error_code, acceptor_type::connection_type accepted) { peer.emplace(std::move(accepted)); });
    tests::run(io);
    const auto wait = [&](auto until) {
        while (census.oldest() <= until) {
        }
    };
    wait(std::chrono::microseconds(1));
    const auto first = census.oldest();
    const auto second = peer->age();
    CHECK(second >= first);
    CHECK(census.oldest() >= second);
    auto moved = std::move(*peer);
    CHECK(moved.age() >= second);
    CHECK(peer->age() == peer->age().zero());
    wait(moved.age());
    const auto before = moved.age();
    moved.close();
    CHECK(last_age >= before);
    CHECK(moved.age() == moved.age().zero());
}

TEST_CASE("each member is shown with its peer, its age, and the bytes that the kernel has counted")
{
    std::map<close_reason, std::uint64_t> finalized;
    told = &finalized;
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    std::vector<acceptor_type::connection_type> open;
    std::vector<tcp::socket> clients;
    for (int i = 0; i != 70; ++i) { // more than a page of the listing
        clients.emplace_back(io).connect(acceptor.local_endpoint());
        acceptor.async_accept(
            [&](error_code, acceptor_type::connection_type peer) { open.push_back(std::move(peer)); });
        tests::run(io);
    }
    net::write(clients[69], net::buffer("12345", 5));
    tests::await_readable(open[69].stream());
    net::write(open[69].stream(), net::buffer("abc", 3));
    tests::await_readable(clients[69]);
    tests::run_until(io, [&] { // until its kernel has said so
        std::uint64_t acknowledged = 0;
        acceptor.census().for_each(
            [&](const holdfast::census_entry& entry) { acknowledged += entry.bytes_out.value_or(0); });
        return acknowledged == 3;
    });
    std::map<std::string, holdfast::census_entry> members;
    acceptor.census().for_each(
        [&](const holdfast::census_entry& entry) { members.emplace(std::string(entry.remote), entry); });
    CHECK(members.size() == 70);
    std::size_t i = 0;
    for (auto& client : clients) {
        std::ostringstream name;
        name << client.local_endpoint();
        REQUIRE(members.contains(name.str()));
        const auto& entry = members[name.str()];
        CHECK(entry.bytes_in == (i == 69 ? 5u : 0u));
        CHECK(entry.bytes_out == (i == 69 ? 3u : 0u));
        CHECK(entry.age >= std::chrono::steady_clock::duration::zero());
        CHECK(entry.age <= acceptor.census().oldest());
        CHECK_FALSE(entry.draining);
        ++i;
    }
    open.erase(open.begin(), open.begin() + 69);
    tests::reset(clients[69]);
    tests::await_readable(open[0].stream());
    std::ostringstream known;
    known << open[0].stream().local_endpoint(); // the peer is gone, its address is known since it was accepted
    acceptor.census().for_each([&](const holdfast::census_entry& entry) {
        CHECK(members.contains(std::string(entry.remote)));
        CHECK(entry.remote == entry.peer.text().view());
        CHECK(entry.remote != known.str());
    });
}

TEST_CASE("IPv6 and local peers have names too")
{
    net::io_context io;
    const auto name_of_member = [&](auto& acceptor, auto& client) {
        std::string name;
        client.connect(acceptor.local_endpoint());
        auto accepted = acceptor.async_accept(net::use_future);
        tests::run(io);
        const auto peer = accepted.get();
        acceptor.census().for_each([&](const holdfast::census_entry& entry) { name = entry.remote; });
        return name;
    };
    SECTION("local")
    {
        using local = net::local::stream_protocol;
        const std::string abstract("\0holdfast.tests.census", 22);
        holdfast::bounded_acceptor<local> acceptor{io.get_executor(),
                                                   local::endpoint(abstract + std::to_string(::getpid()))};
        local::socket client(io);
        CHECK(name_of_member(acceptor, client) == "pid " + std::to_string(::getpid()));
    }
    SECTION("IPv6, where this machine has it")
    {
        std::optional<holdfast::bounded_acceptor<tcp>> acceptor;
        try {
            acceptor.emplace(io.get_executor(), tcp::endpoint(net::ip::address_v6::loopback(), 0));
        } catch (const holdfast::system_error& error) {
            WARN("left out: " << error.code().message());
            return;
        }
        tcp::socket client(io);
        const std::string name = name_of_member(*acceptor, client);
        CHECK(name == "[::1]:" + std::to_string(client.local_endpoint().port()));
    }
}

TEST_CASE("a census of several shards adds their figures up, and its report lists the oldest")
{
    std::map<close_reason, std::uint64_t> finalized;
    told = &finalized;
    net::io_context io;
    acceptor_type one{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    acceptor_type two{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    const holdfast::census both = one.census() + two.census();
    std::vector<acceptor_type::connection_type> open;
    std::vector<tcp::socket> clients;
    for (auto* acceptor : {&one, &two, &two}) {
        clients.emplace_back(io).connect(acceptor->local_endpoint());
        acceptor->async_accept(
            [&](error_code, acceptor_type::connection_type peer) { open.push_back(std::move(peer)); });
        tests::run(io);
    }
    CHECK(both.live() == 3);
    CHECK(both.peak() == 3);
    CHECK(both.oldest() >= two.census().oldest());
    open.pop_back();
    CHECK(both.live() == 2);
    CHECK(both.ended() == 1);
    CHECK(both.ended(close_reason::abandoned) == 1);
    std::size_t shown = 0;
    both.for_each([&](const holdfast::census_entry&) { ++shown; });
    CHECK(shown == 2);
    std::ostringstream text;
    both.report(text, 1);
    std::ostringstream eldest;
    eldest << clients[0].local_endpoint();
    CHECK(text.str().starts_with("live 2, peak 3, ended 1, oldest "));
    CHECK(text.str().find(" s\n  abandoned by owner: 1\n") != std::string::npos);
    CHECK(text.str().find(eldest.str()) != std::string::npos);
    std::ostringstream youngest;
    youngest << clients[1].local_endpoint();
    CHECK(text.str().find(youngest.str()) == std::string::npos);
}
