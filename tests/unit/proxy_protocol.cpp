// holdfast: does an acceptor believe the PROXY headers of trusted senders, and theirs alone, whatever cut they come in?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/note_end.hpp"
#include "support/proxy_headers.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/proxy_protocol.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

using namespace std::chrono_literals;
using namespace std::string_literals;
using holdfast::acceptor_event;
using holdfast::acceptor_options;
using holdfast::address_rule;
using holdfast::admission_limit;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::errc;
using holdfast::error_code;
using holdfast::proxy_header_parser;
using tests::note_end;
using tests::proxy_v2, tests::proxy_v2_tcp4, tests::proxy_v2_tcp6;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using kind = acceptor_event::kind;

tcp::endpoint endpoint(const char* address, unsigned short port) { return {net::ip::make_address(address), port}; }

struct valid_header {
    std::string bytes;
    bool local;
    std::optional<tcp::endpoint> source;
};

const std::vector<valid_header>& valid_headers()
{
    static const std::vector<valid_header> all{
        {"PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n", false, endpoint("192.0.2.1", 4711)},
        {"PROXY TCP6 2001:db8::1 2001:db8::9 0 65535\r\n", false, endpoint("2001:db8::1", 0)},
        {"PROXY UNKNOWN\r\n", false, std::nullopt},
        {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", false, std::nullopt},
        {"PROXY UNKNOWN " + std::string(107 - 16, 'x') + "\r\n", false, std::nullopt},
        {proxy_v2_tcp4(endpoint("192.0.2.1", 4711)), false, endpoint("192.0.2.1", 4711)},
        {proxy_v2_tcp6(endpoint("2001:db8::1", 4712)), false, endpoint("2001:db8::1", 4712)},
        {proxy_v2_tcp4(endpoint("192.0.2.1", 4711), "\x05\0\x02id"s), false, endpoint("192.0.2.1", 4711)},
        {proxy_v2_tcp6(endpoint("2001:db8::1", 4712), std::string(900, 'v')), false, endpoint("2001:db8::1", 4712)},
        {proxy_v2('\x20', '\0', {}), true, std::nullopt},
        {proxy_v2('\x20', '\x11', std::string(12, '\1')), true, std::nullopt},
        {proxy_v2('\x20', '\x21', "short"), true, std::nullopt},
        {proxy_v2('\x21', '\0', "fields"), false, std::nullopt},
        {proxy_v2('\x21', '\x31', std::string(216, 'u')), false, std::nullopt},
        {proxy_v2('\x21', '\x12', std::string(12, '\1')), false, std::nullopt}, // UDP
    };
    return all;
}

} // namespace

TEST_CASE("a header is found in every split of its bytes, and nothing after it is taken")
{
    for (const valid_header& each : valid_headers()) {
        const std::string all = each.bytes + "PROXY and more";
        INFO(each.bytes);
        for (std::size_t cut = 0; cut <= all.size(); ++cut) {
            proxy_header_parser parser;
            CHECK(parser.begun() == false);
            const std::string_view bytes = all;
            std::size_t used = parser.parse(bytes.substr(0, cut));
            if (cut < each.bytes.size()) {
                REQUIRE(used == cut);
                REQUIRE_FALSE(parser.done());
            }
            used += parser.parse(bytes.substr(used));
            REQUIRE(parser.done());
            REQUIRE_FALSE(parser.failed());
            REQUIRE(used == each.bytes.size());
            REQUIRE(parser.header().local == each.local);
            REQUIRE(parser.header().source == each.source);
            REQUIRE(parser.header().destination.has_value() == each.source.has_value());
            REQUIRE(parser.parse("again") == 0);
        }
        proxy_header_parser parser;
        for (std::size_t i = 0; i != each.bytes.size(); ++i) {
            REQUIRE_FALSE(parser.done());
            REQUIRE(parser.parse({&each.bytes[i], 1}) == 1);
        }
        CHECK(parser.done());
    }
}

TEST_CASE("what is no header fails, at its first wrong byte")
{
    const std::string v2 = proxy_v2_tcp4(endpoint("192.0.2.1", 4711));
    const auto with = [&](std::size_t i, char byte) {
        std::string changed = v2;
        changed[i] = byte;
        return changed;
    };
    const std::vector<std::string> wrong{
        "GET / HTTP/1.1\r\n",
        "PROXX TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1"s + '\0' + " 192.0.2.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::9 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::9 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY  UNKNOWN\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWN " + std::string(107 - 15, 'x') + "\r\n",
        with(11, 'x'),
        with(12, '\x11'), // version 1
        with(12, '\x22'), // another command
        with(13, '\x41'), // another family
        with(13, '\x13'), // another protocol
        with(15, '\x0b'), // too short for its addresses
        with(14, '\x04'), // too long
        proxy_v2('\x21', '\x21', std::string(35, '\0')),
        proxy_v2('\x21', '\x31', std::string(215, '\0')),
    };
    for (const std::string& bytes : wrong) {
        INFO(bytes);
        proxy_header_parser whole;
        whole.parse(bytes);
        CHECK(whole.failed());
        proxy_header_parser slow;
        for (const char& byte : bytes)
            slow.parse({&byte, 1});
        CHECK(slow.failed());
        CHECK_FALSE(slow.done());
    }
    proxy_header_parser first;
    first.parse("G");
    CHECK(first.failed());
    proxy_header_parser exact(v2.size() + 10);
    exact.parse(proxy_v2_tcp4(endpoint("192.0.2.1", 1), std::string(10, 'v')));
    CHECK(exact.done());
    proxy_header_parser short_by_one(v2.size() + 9);
    short_by_one.parse(proxy_v2_tcp4(endpoint("192.0.2.1", 1), std::string(10, 'v')));
    CHECK(short_by_one.failed());
}

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp, note_end>;
using connection = acceptor_type::connection_type;

/// A server that trusts the headers of 127.0.0.1 alone, and keeps the first line of each session.
struct fixture {
    explicit fixture(acceptor_options options = {})
        : acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0}, with_senders(std::move(options)),
                   note_end{&ends})
    {
        acceptor.async_serve(
            [this](connection peer) -> net::awaitable<void> {
                ++sessions;
                holdfast::frame_reader reader(peer);
                while (auto line = co_await reader.async_next(net::use_awaitable))
                    lines.emplace_back(*line);
                co_await peer.async_close(net::use_awaitable);
            },
            net::detached);
    }

    acceptor_options with_senders(acceptor_options options)
    {
        options.proxy.trusted_senders = {"127.0.0.1", "2001:db8::/32"};
        options.on_event = [this](const acceptor_event& event) { events.push_back(event); };
        return options;
    }

    tcp::socket& connect(const char* from = "127.0.0.1")
    {
        tcp::socket& client = clients.emplace_back(io);
        client.open(tcp::v4());
        client.bind({net::ip::make_address(from), 0});
        client.connect(acceptor.local_endpoint());
        return client;
    }

    tcp::socket& send(std::string_view bytes)
    {
        tcp::socket& client = connect();
        net::write(client, net::buffer(bytes));
        return client;
    }

    template <class Done>
    void run_until(Done done)
    {
        tests::run_until(io, done);
    }

    [[nodiscard]] std::string census()
    {
        std::string shown;
        acceptor.census().for_each([&](const auto& each) { (shown += each.remote) += ' '; });
        return shown;
    }

    std::vector<connection_end> ends;
    std::vector<acceptor_event> events;
    std::vector<std::string> lines;
    int sessions = 0;
    net::io_context io;
    std::deque<tcp::socket> clients;
    acceptor_type acceptor;
};

} // namespace

TEST_CASE("the client's address is that of census and connection_end, and bytes after the header are the session's")
{
    fixture f;
    for (const std::string& header : {"PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n"s,
                                      proxy_v2_tcp4(endpoint("192.0.2.1", 4711), std::string(700, 'v'))}) {
        f.lines.clear();
        f.ends.clear();
        auto& client = f.send(header + "first\nsecond\n");
        f.run_until([&] { return f.lines.size() == 2; });
        CHECK(f.lines == std::vector<std::string>{"first", "second"});
        CHECK(f.census() == "192.0.2.1:4711 ");
        client.close();
        f.run_until([&] { return f.ends.size() == 1; });
        CHECK(f.ends[0].peer.text().view() == "192.0.2.1:4711");
        CHECK(f.ends[0].reason == close_reason::peer_closed);
    }
    CHECK(f.events.empty());
}

TEST_CASE("a header that comes in two packets, cut anywhere, is read, and leaves the line after it whole")
{
    fixture f;
    for (const std::string& header :
         {"PROXY TCP6 2001:db8::1 2001:db8::9 4711 443\r\n"s, proxy_v2_tcp6(endpoint("2001:db8::1", 4711), "tlv")}) {
        const std::string all = header + "line\n";
        for (std::size_t cut = 1; cut < all.size(); ++cut) {
            const std::size_t before = f.lines.size();
            auto& client = f.send(all.substr(0, cut));
            f.run_until([&] { return f.acceptor.census().live() == 1; });
            for (int i = 0; i != 5; ++i) {
                f.io.poll();
                f.io.restart();
            }
            net::write(client, net::buffer(all.substr(cut)));
            f.run_until([&] { return f.lines.size() == before + 1; });
            REQUIRE(f.lines.back() == "line");
            REQUIRE(f.census() == "[2001:db8::1]:4711 ");
            client.close();
            f.run_until([&] { return f.ends.size() == before + 1; });
        }
    }
    CHECK(f.events.empty());
}

TEST_CASE("the limit per address counts clients, not their sender, also where both have one address")
{
    fixture f({.max_per_address = 2, .address_filter = [](const net::ip::address& address) {
                   return address == net::ip::make_address("192.0.2.66") ? address_rule::refuse : address_rule::limit;
               }});
    const auto from = [](const char* address, int port) {
        return "PROXY TCP4 "s + address + " 203.0.113.9 " + std::to_string(port) + " 443\r\n";
    };
    for (const char* address : {"192.0.2.1", "127.0.0.1", "192.0.2.2"})
        for (const int port : {1, 2})
            f.send(from(address, port));
    f.run_until([&] { return f.sessions == 6; });
    CHECK(f.acceptor.addresses() == 3);
    f.send(from("192.0.2.1", 3));
    f.send(from("127.0.0.1", 3));
    f.send(from("192.0.2.66", 4));
    f.run_until([&] { return f.ends.size() == 3; });
    CHECK(f.acceptor.rejected() == 3);
    CHECK(f.sessions == 6);
    REQUIRE(f.events.size() == 3);
    for (std::size_t i = 0; i != 3; ++i) {
        CHECK(f.ends[i].reason == close_reason::refused);
        CHECK(f.events[i].what == kind::rejected);
    }
    CHECK(f.events[0].limit == admission_limit::per_address);
    CHECK(f.events[0].remote == endpoint("192.0.2.1", 3));
    CHECK(f.events[1].limit == admission_limit::per_address);
    CHECK(f.events[2].limit == admission_limit::address_filter);
    CHECK(f.events[2].remote == endpoint("192.0.2.66", 4));
    CHECK(tests::read_to_end(f.clients.back()).end == net::error::connection_reset);
    f.clients.clear();
    f.run_until([&] { return f.ends.size() == 9; });
    CHECK(f.acceptor.addresses() == 0);
}

TEST_CASE("a sender that is not trusted is reset, whatever it says, and is no connection")
{
    fixture f;
    auto& client = f.connect("127.0.0.2");
    net::write(client, net::buffer("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n"s));
    f.run_until([&] { return !f.events.empty(); });
    CHECK(f.events[0].what == kind::rejected);
    CHECK(f.events[0].limit == admission_limit::proxy_senders);
    CHECK(f.events[0].remote == client.local_endpoint());
    CHECK(f.acceptor.rejected() == 1);
    CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    CHECK(f.ends.empty());
    CHECK(f.sessions == 0);
}

TEST_CASE("what is no header ends the connection with its error, and no session begins")
{
    fixture f;
    const std::string oversized = proxy_v2('\x21', '\x11', std::string(2000, '\0'));
    for (const std::string& bytes : {"GET / HTTP/1.1\r\n\r\n"s, "PROXY TCP4 x y 1 2\r\n"s, std::string(200, 'P'),
                                     "PROXY " + std::string(200, 'x'), oversized}) {
        f.ends.clear();
        f.events.clear();
        auto& client = f.send(bytes);
        f.run_until([&] { return f.events.size() == 1; });
        REQUIRE(f.ends.size() == 1);
        CHECK(f.events[0].what == kind::proxy_header_failed);
        CHECK(f.events[0].error == errc::malformed_proxy_header);
        CHECK(f.events[0].remote == client.local_endpoint());
        CHECK(f.ends[0].reason == close_reason::handshake_failed);
        CHECK(f.ends[0].error == errc::malformed_proxy_header);
    }
    auto& cut_short = f.send("PROXY TCP4 192.0.2.1 203");
    cut_short.shutdown(tcp::socket::shutdown_send);
    f.run_until([&] { return f.events.size() == 2; });
    CHECK(f.events[1].error == net::error::eof);
    CHECK(f.ends.back().reason == close_reason::handshake_failed);
    CHECK(f.sessions == 0);
}

TEST_CASE("a header that does not arrive in time ends the connection: of a silent sender, and of one that sends a byte "
          "now and then")
{
    fixture f({.proxy = {.header_timeout = 300ms}});
    f.connect();
    auto& dripping = f.connect();
    const std::string header = "PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n";
    net::steady_timer drip(f.io);
    std::size_t sent = 0;
    std::function<void()> next = [&] {
        drip.expires_after(50ms);
        drip.async_wait([&](error_code ec) {
            if (ec || f.ends.size() == 2 || sent == header.size()) return;
            error_code ignored;
            dripping.send(net::buffer(&header[sent++], 1), 0, ignored);
            next();
        });
    };
    next();
    f.run_until([&] { return f.events.size() == 2; });
    drip.cancel();
    for (std::size_t i = 0; i != 2; ++i) {
        CHECK(f.events[i].what == kind::proxy_header_failed);
        CHECK(f.events[i].error == errc::proxy_header_timeout);
        CHECK(f.events[i].error == holdfast::condition::timed_out);
        CHECK(f.ends[i].reason == close_reason::handshake_timeout);
    }
    CHECK(f.sessions == 0);
    CHECK(f.acceptor.census().live() == 0);
}

TEST_CASE("health checks are no failures: a connection without a byte, however it ends, and a LOCAL one")
{
    fixture f({.max_per_address = 1});
    f.connect().close();
    f.run_until([&] { return f.ends.size() == 1; });
    tests::reset(f.connect());
    f.run_until([&] { return f.ends.size() + f.events.size() == 2; }); // it may have left before it was accepted
    f.events.clear();
    for (int i = 0; i != 3; ++i)
        f.send(proxy_v2('\x20', '\0', {}));
    f.run_until([&] { return f.sessions == 3; });
    for (int i = 0; i != 2; ++i) {
        auto& own = f.connect();
        net::write(own, net::buffer("PROXY TCP4 127.0.0.1 127.0.0.1 " + std::to_string(own.local_endpoint().port()) +
                                    " 443\r\n"));
    }
    f.run_until([&] { return f.sessions == 5; });
    CHECK(f.census().find("127.0.0.1") == 0); // the sender's own
    CHECK(f.acceptor.addresses() == 0);
    f.clients.clear();
    f.run_until([&] { return f.acceptor.census().live() == 0; });
    for (const connection_end& end : f.ends)
        CHECK((end.reason == close_reason::peer_closed || end.reason == close_reason::peer_reset));
    CHECK(f.events.empty());
    CHECK(f.acceptor.rejected() == 0);
}

TEST_CASE("a connection beyond the awaited headers is reset, and those before it are served once theirs arrive")
{
    fixture f({.proxy = {.max_pending_headers = 2}});
    auto& first = f.connect();
    auto& second = f.send("PROXY ");
    f.run_until([&] { return f.acceptor.census().live() == 2; });
    auto& third = f.send("PROXY UNKNOWN\r\n");
    f.run_until([&] { return f.events.size() == 1; });
    CHECK(f.events[0].what == kind::rejected);
    CHECK(f.events[0].limit == admission_limit::proxy_headers);
    CHECK(tests::read_to_end(third).end == net::error::connection_reset);
    net::write(first, net::buffer("PROXY UNKNOWN\r\n"s));
    net::write(second, net::buffer("UNKNOWN\r\n"s));
    f.run_until([&] { return f.sessions == 2; });
    f.send("PROXY UNKNOWN\r\n");
    f.run_until([&] { return f.sessions == 3; });
    CHECK(f.acceptor.rejected() == 1);
}

TEST_CASE("while a header is awaited a drain, the acceptor's end() and the end of the context each end the connection")
{
    {
        fixture f;
        f.connect();
        f.run_until([&] { return f.acceptor.census().live() == 1; });
        std::size_t aborted = 7;
        f.acceptor.async_drain({.deadline = 20s}, [&](error_code, std::size_t n) { aborted = n; });
        f.run_until([&] { return aborted != 7; });
        CHECK(aborted == 0);
        CHECK(f.ends.at(0).reason == close_reason::drained);
        CHECK(f.events.empty());
    }
    {
        fixture f;
        f.send("PROXY ");
        f.run_until([&] { return f.acceptor.census().live() == 1; });
        std::uint64_t id = 0;
        f.acceptor.census().for_each([&](const auto& each) { id = each.id; });
        CHECK(f.acceptor.end(id, close_reason::max_lifetime));
        f.run_until([&] { return f.ends.size() == 1; });
        CHECK(f.ends[0].reason == close_reason::max_lifetime);
    }
    std::vector<connection_end> ends;
    {
        auto io = std::make_unique<net::io_context>();
        acceptor_type acceptor(io->get_executor(), {net::ip::address_v4::loopback(), 0},
                               {.proxy = {.trusted_senders = {"127.0.0.1"}}}, note_end{&ends});
        acceptor.async_serve([](connection) {}, net::detached);
        net::io_context clients;
        const auto client = tests::connect(clients, acceptor.local_endpoint(), 1);
        tests::run_until(*io, [&] { return acceptor.census().live() == 1; });
        io.reset();
        REQUIRE(ends.size() == 1);
        CHECK(ends[0].reason == close_reason::context_destroyed);
    }
}

TEST_CASE("an acceptor that is destroyed while a header is awaited leaves the connection to its session")
{
    std::vector<connection_end> ends;
    int sessions = 0;
    net::io_context io;
    tcp::socket client(io);
    {
        acceptor_type acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0},
                               {.proxy = {.trusted_senders = {"127.0.0.1"}}}, note_end{&ends});
        acceptor.async_serve([&](connection) { ++sessions; }, net::detached);
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return acceptor.census().live() == 1; });
    }
    net::write(client, net::buffer("PROXY UNKNOWN\r\n"s));
    tests::run_until(io, [&] { return ends.size() == 1; });
    CHECK(sessions == 1);
    CHECK(ends[0].reason == close_reason::abandoned);
}

TEST_CASE("async_accept is refused where headers are to be read, and local peers are trusted")
{
    net::io_context io;
    acceptor_type tcp_acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0},
                               {.proxy = {.trusted_senders = {"127.0.0.1"}}}, note_end{nullptr});
    CHECK_THROWS_AS(tcp_acceptor.async_accept([](error_code, connection) {}), std::logic_error);

    using local = net::local::stream_protocol;
    const std::string path = '\0' + ("holdfast-proxy-" + std::to_string(::getpid())); // in no file system
    holdfast::bounded_acceptor<local> acceptor(io.get_executor(), local::endpoint(path),
                                               {.proxy = {.trusted_senders = {"127.0.0.1"}}});
    std::string shown;
    acceptor.async_serve([&](auto) { acceptor.census().for_each([&](const auto& each) { shown = each.remote; }); },
                         net::detached);
    local::socket client(io);
    client.connect(local::endpoint(path));
    net::write(client, net::buffer("PROXY TCP4 192.0.2.1 "s));
    tests::run_until(io, [&] { return acceptor.census().live() == 1; });
    net::write(client, net::buffer("203.0.113.9 4711 443\r\n"s));
    tests::run_until(io, [&] { return !shown.empty(); });
    CHECK(shown == "192.0.2.1:4711");
}

TEST_CASE("options of the PROXY protocol out of range are refused by name")
{
    net::io_context io;
    const auto check = [&](const char* name, bool valid, holdfast::proxy_options options) {
        INFO(name);
        try {
            const acceptor_type made(io.get_executor(), {net::ip::address_v4::loopback(), 0}, {.proxy = options},
                                     note_end{nullptr});
            CHECK(valid);
        } catch (const std::invalid_argument& error) {
            CHECK_FALSE(valid);
            CHECK(std::string(error.what()).find(name) != std::string::npos);
        }
    };
    using time = std::chrono::milliseconds;
    for (const time t : {time::min(), time(-1), time(0), time(1), time::max() - time(1), time::max()})
        check("header_timeout", t > time(0), {.trusted_senders = {"::1"}, .header_timeout = t});
    for (const std::size_t n :
         {std::size_t(0), std::size_t(106), std::size_t(107), std::size_t(65551), std::size_t(65552), SIZE_MAX})
        check("max_header_bytes", n >= 107 && n <= 65551, {.trusted_senders = {"::1"}, .max_header_bytes = n});
    for (const std::size_t n : {std::size_t(0), std::size_t(1), SIZE_MAX})
        check("max_pending_headers", n != 0, {.trusted_senders = {"::1"}, .max_pending_headers = n});
}

TEST_CASE("on several threads and contexts headers are read beside each other, and the handler is not called twice "
          "at a time")
{
    constexpr int count = 300;
    net::thread_pool pool(3);
    net::io_context io;
    std::atomic<int> within = 0;
    std::atomic<int> most = 0;
    std::atomic<int> sessions = 0;
    holdfast::bounded_acceptor<tcp> acceptor(
        io.get_executor(), {net::ip::address_v4::loopback(), 0},
        {.max_connections = count,
         .proxy = {.trusted_senders = {"127.0.0.0/8"}, .header_timeout = 20s},
         .next_executor = [&] { return net::any_io_executor(pool.get_executor()); }});
    acceptor.async_serve(
        [&](auto peer) -> net::awaitable<void> {
            most = std::max<int>(most, ++within);
            ++sessions;
            --within;
            holdfast::frame_reader reader(peer);
            while (co_await reader.async_next(net::use_awaitable)) {
            }
        },
        net::detached);
    std::thread clients([&] {
        net::io_context own;
        std::vector<tcp::socket> sockets = tests::connect(own, acceptor.local_endpoint(), count);
        for (auto& each : sockets)
            net::write(each, net::buffer("PROXY TCP4 192.0.2.1 "s));
        for (auto& each : sockets)
            net::write(each, net::buffer("203.0.113.9 4711 443\r\nline\n"s));
        for (auto& each : sockets)
            each.shutdown(tcp::socket::shutdown_send);
        for (auto& each : sockets)
            tests::read_to_end(each);
    });
    tests::run_until(io, [&] { return sessions == count && acceptor.census().live() == 0; });
    clients.join();
    CHECK(most == 1);
    acceptor.close();
    pool.join();
}
