// holdfast: tests of census: its figures agree with what happened.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/census.hpp>

#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <vector>

using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

std::map<close_reason, std::uint64_t>* told = nullptr;

struct tell {
    void operator()(const holdfast::connection_end& end) const noexcept { ++(*told)[end.reason]; }
};

using acceptor = holdfast::bounded_acceptor<tcp, tell>;

} // namespace

TEST_CASE("live, peak and the ends by reason agree with a plain record of random lives and deaths")
{
    std::map<close_reason, std::uint64_t> expected;
    std::map<close_reason, std::uint64_t> finalized;
    told = &finalized;
    net::io_context io;
    acceptor doors{io.get_executor(), {net::ip::address_v4::loopback(), 0}, {.max_connections = 64}};
    const auto census = doors.census();
    std::vector<acceptor::connection_type> open;
    std::size_t peak = 0;
    std::mt19937 random(20261123);
    for (int step = 0; step != 600; ++step) {
        if (open.size() < 64 && (open.empty() || random() % 2 == 0)) {
            tcp::socket client(io);
            client.connect(doors.local_endpoint());
            doors.async_accept([&](error_code ec, acceptor::connection_type peer) {
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
    std::optional<acceptor> doors(std::in_place, io.get_executor(),
                                  tcp::endpoint(net::ip::address_v4::loopback(), 0));
    const auto census = doors->census();
    for (int i = 0; i != 3; ++i) {
        tcp::socket client(io);
        client.connect(doors->local_endpoint());
        doors->async_accept([](error_code, acceptor::connection_type peer) { peer.close(); });
        tests::run(io);
    }
    doors.reset();
    std::ostringstream text;
    census.report(text);
    CHECK(text.str() == "live 0, peak 1, ended 3\n  closed here: 3\n");
}
