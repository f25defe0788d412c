// holdfast: tests of connections that the acceptor ends: what was sent in part never looks complete.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/note_end.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <string>
#include <vector>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::error_code;
using tests::note_end;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp, note_end>;
using connection = acceptor_type::connection_type;

struct one_session {
    template <class Session>
    explicit one_session(Session s)
    {
        ends.reserve(8);
        acceptor.async_serve(std::move(s), net::detached);
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return acceptor.census().peak() == 1; });
        io.poll();
    }

    void end_it(bool by_drain)
    {
        if (by_drain) {
            acceptor.async_drain({.deadline = 0s}, net::detached);
        } else {
            std::uint64_t id = 0;
            acceptor.census().for_each([&](const holdfast::census_entry& entry) { id = entry.id; });
            REQUIRE(acceptor.end(id, close_reason::drain_deadline));
        }
        tests::run_until(io, [&] { return ends.size() == 1; });
        CHECK(ends[0].reason == close_reason::drain_deadline);
        CHECK(ends[0].peer);
    }

    std::vector<connection_end> ends;
    net::io_context clients;
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}, {}, note_end{&ends}};
    tcp::socket client{clients};
};

} // namespace

TEST_CASE("a client that has got half a row when its connection is ended sees a reset, not the end of the stream")
{
    const bool by_drain = GENERATE(true, false);
    SECTION("while the session waits in a read")
    {
        one_session one{[](connection peer) -> net::awaitable<void> {
            co_await net::async_write(peer.stream(), net::buffer("half a r", 8), net::use_awaitable);
            char byte;
            error_code ec;
            while (!ec) // a read that the drain ends without an error is followed by the next
                co_await peer.stream().async_read_some(net::buffer(&byte, 1),
                                                       net::redirect_error(net::use_awaitable, ec));
        }};
        one.end_it(by_drain);
        const auto got = tests::read_to_end(one.client);
        CHECK(got.bytes == "half a r");
        CHECK(got.end == net::error::connection_reset);
    }
    SECTION("while the session waits in a write")
    {
        one_session one{[](connection peer) -> net::awaitable<void> {
            const std::string row(10'000'000, 'x');
            error_code ec;
            co_await net::async_write(peer.stream(), net::buffer(row), net::redirect_error(net::use_awaitable, ec));
            CHECK(ec);
        }};
        one.end_it(by_drain);
        CHECK(tests::read_to_end(one.client).end == net::error::connection_reset);
    }
    SECTION("while async_close waits for the client")
    {
        error_code result;
        one_session one{[&](connection peer) -> net::awaitable<void> {
            const std::string row(100'000, 'x');
            co_await net::async_write(peer.stream(), net::buffer(row), net::use_awaitable);
            co_await peer.async_close({.deadline = 1h}, net::redirect_error(net::use_awaitable, result));
        }};
        one.end_it(by_drain);
        one.io.poll();
        CHECK(result == error_code(holdfast::errc::close_incomplete));
    }
}
