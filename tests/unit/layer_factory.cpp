// holdfast: tests of async_serve with a layer: handshakes at a time, each within its time, and only connections that
// have finished theirs reach the handler.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/note_end.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_layer.hpp>
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/process/limits.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/write_streamed.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::errc;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using tests::note_end;
using acceptor_type = holdfast::bounded_acceptor<tcp, note_end>;

const tests::certificate& files()
{
    static const tests::certificate made;
    return made;
}

holdfast::tls_context server_context(bool compact = false)
{
    return holdfast::tls_context::server({.certificate_chain_file = files().chain_file(),
                                          .private_key_file = files().key_file(),
                                          .compact_records = compact});
}

/// Asio's own TLS stream, as a user would write its factory.
struct asio_tls {
    net::ssl::context* context;
    holdfast::handshake_options limits{};

    auto make(tcp::socket socket) { return net::ssl::stream<tcp::socket>(std::move(socket), *context); }
    template <class Token>
    auto async_handshake(net::ssl::stream<tcp::socket>& stream, Token&& token)
    {
        return stream.async_handshake(net::ssl::stream_base::server, std::forward<Token>(token));
    }
    holdfast::handshake_options options() const { return limits; }
};

/// Counts the layers that it makes.
struct counting : asio_tls {
    int* made;
    auto make(tcp::socket socket)
    {
        ++*made;
        return asio_tls::make(std::move(socket));
    }
};

struct client_first : counting {
    static constexpr bool client_begins = true;
};

net::ssl::context asio_context()
{
    net::ssl::context context(net::ssl::context::tls_server);
    context.use_certificate_chain_file(files().chain_file());
    context.use_private_key_file(files().key_file(), net::ssl::context::pem);
    return context;
}

/// An acceptor, what has ended, what was reported, and which connections have reached the handler.
struct fixture {
    explicit fixture(std::size_t max_connections = 100, holdfast::proxy_options proxy = {})
        : acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0},
                   {.max_connections = max_connections,
                    .proxy = std::move(proxy),
                    .on_event =
                        [this](const acceptor_event& event) {
                            if (event.what != acceptor_event::kind::paused) events.push_back(event);
                        }},
                   note_end{&ends})
    {
        ends.reserve(100);
    }

    /// Serves: each connection is sent a greeting, and stays until it is read to its end.
    template <class Factory>
    void serve(Factory factory)
    {
        acceptor.async_serve(
            std::move(factory),
            [this](auto peer) -> net::awaitable<void> {
                ++sessions;
                co_await net::async_write(peer.stream(), net::buffer("hello\n", 6), net::use_awaitable);
                holdfast::frame_reader lines(peer);
                while (auto line = co_await lines.async_next(net::use_awaitable)) {
                }
                co_await peer.async_close(net::use_awaitable);
            },
            [this](error_code ec) { served = ec; });
    }

    tcp::socket connect()
    {
        tcp::socket client(io);
        client.connect(acceptor.local_endpoint());
        return client;
    }

    /// Runs what is ready, several times over.
    void settle()
    {
        for (int i = 0; i != 20; ++i) {
            io.restart();
            io.poll();
        }
    }

    template <class Done>
    void run_until(Done done)
    {
        tests::run_until(io, done);
    }

    /// The client's handshake, until its session has greeted it.
    void enter(tests::tls_peer& client)
    {
        bool shaken = false;
        std::string got;
        run_until([&] {
            shaken = client.handshake() || shaken;
            if (shaken) got += client.read();
            return got == "hello\n";
        });
    }

    std::vector<connection_end> ends;
    std::vector<acceptor_event> events;
    int sessions = 0;
    std::optional<error_code> served;
    net::io_context io;
    acceptor_type acceptor;
};

/// The first bytes of a handshake, and the rest of them.
std::pair<std::string, std::string> first_message(tests::tls_peer& client)
{
    ::SSL_do_handshake(client.ssl());
    ::ERR_clear_error();
    const std::string all = client.take_output();
    return {all.substr(0, all.size() / 2), all.substr(all.size() / 2)};
}

} // namespace

TEST_CASE("a connection reaches the handler with its handshake done, and keeps permit, census and finalizer", "[tls]")
{
    fixture f(1);
    std::optional<net::ssl::context> context;
    SECTION("tls_stream") { f.serve(holdfast::tls(server_context())); }
    SECTION("tls_stream, compact records") { f.serve(holdfast::tls(server_context(true))); }
    SECTION("ssl::stream, by a factory of the user's")
    {
        context.emplace(asio_context());
        f.serve(asio_tls{&*context});
    }
    tests::tls_peer client(f.connect());
    const auto address = client.socket().local_endpoint();
    f.enter(client);
    CHECK(f.sessions == 1);
    CHECK(f.acceptor.census().live() == 1);
    tests::tls_peer second(f.connect()); // waits for the permit
    second.handshake();
    f.settle();
    CHECK(f.sessions == 1);
    ::SSL_shutdown(client.ssl());
    client.send(client.take_output());
    client.socket().shutdown(tcp::socket::shutdown_send);
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::peer_closed);
    CHECK(f.ends[0].peer.port() == address.port());
    f.enter(second);
    CHECK(f.sessions == 2);
    f.acceptor.async_drain(net::detached); // the second reads the end of its stream
    f.run_until([&] { return f.served.has_value(); });
    CHECK_FALSE(*f.served);
    second.socket().close();
    f.run_until([&] { return f.ends.size() == 2; });
    CHECK(f.ends[1].reason == close_reason::drained);
    for (const acceptor_event& event : f.events) // the second session may fail as its client leaves
        CHECK(event.what == acceptor_event::kind::session_failed);
}

TEST_CASE("heartbeats, an outbox, a streamed message and async_close work on a connection over TLS", "[tls]")
{
    fixture f;
    holdfast::heartbeat_timer heartbeats(f.io.get_executor(), {.tick = 100ms, .timeout = 30s});
    f.acceptor.async_serve(
        holdfast::tls(server_context()),
        [&](auto peer) -> net::awaitable<void> {
            auto heartbeat = heartbeats.watch(peer);
            holdfast::outbox out(peer, {.high_watermark = 4096, .progress = heartbeat});
            for (int i = 0; i != 100; ++i)
                co_await out.async_push(holdfast::payload("line\n"), net::use_awaitable);
            co_await out.async_close(net::use_awaitable);
            co_await holdfast::async_write_streamed<holdfast::ndjson>(peer, std::vector<int>(1000, 1),
                                                                      net::use_awaitable);
            co_await peer.async_close(net::use_awaitable);
        },
        net::detached);
    tests::tls_peer client(f.connect());
    std::string got;
    bool shaken = false;
    f.run_until([&] {
        shaken = client.handshake() || shaken;
        if (shaken) got += client.read();
        return client.ended();
    });
    CHECK(got.size() == 500 + 2000);
    client.socket().close();
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::local);
}

TEST_CASE("a PROXY header comes before the handshake, in one packet with its first message or cut anywhere", "[tls]")
{
    fixture f(100, {.trusted_senders = {"127.0.0.0/8"}});
    f.serve(holdfast::tls(server_context()));
    const std::string header = "PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n";
    for (std::size_t cut = 0; cut <= header.size(); cut += 7) {
        tests::tls_peer client(f.connect());
        const auto [first, rest] = first_message(client);
        client.send(header.substr(0, cut));
        f.settle();
        client.send(header.substr(cut) + first + rest);
        f.enter(client);
        std::string shown;
        f.acceptor.census().for_each([&](const auto& each) { shown = each.remote; });
        CHECK(shown == "192.0.2.1:4711");
        const std::size_t ended = f.ends.size();
        client.socket().close();
        f.run_until([&] { return f.ends.size() == ended + 1; });
    }
    tests::tls_peer failing(f.connect());
    failing.send(header + std::string("GET / HTTP/1.1\r\n\r\n"));
    f.run_until([&] { return !f.events.empty(); });
    CHECK(f.events.back().what == acceptor_event::kind::handshake_failed);
    CHECK(f.events.back().remote == tcp::endpoint(net::ip::make_address("192.0.2.1"), 4711));
}

TEST_CASE("a silent client ends by the time limit, takes no slot, and never reaches the handler", "[tls]")
{
    fixture f;
    f.serve(holdfast::tls(server_context(), {.max_handshakes = 1, .handshake_timeout = 200ms}));
    tcp::socket silent = f.connect();
    f.settle();
    tests::tls_peer client(f.connect());
    f.enter(client);
    CHECK(f.ends.empty()); // served while the silent one held nothing
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::handshake_timeout);
    CHECK(f.ends[0].error == errc::handshake_timeout);
    REQUIRE(f.events.size() == 1);
    CHECK(f.events[0].what == acceptor_event::kind::handshake_failed);
    CHECK((f.events[0].error == holdfast::condition::timed_out));
    CHECK(f.events[0].remote.port() == silent.local_endpoint().port());
    CHECK(f.sessions == 1);
    CHECK(f.acceptor.census().live() == 1);
}

TEST_CASE("handshakes beyond the limit wait in order with their permit, until one ends or reaches its time limit",
          "[tls]")
{
    fixture f;
    std::optional<net::ssl::context> context;
    const holdfast::handshake_options limits{.max_handshakes = 1, .handshake_timeout = 300ms};
    SECTION("tls_stream") { f.serve(holdfast::tls(server_context(), limits)); }
    SECTION("ssl::stream")
    {
        context.emplace(asio_context());
        f.serve(asio_tls{&*context, limits});
    }
    tests::tls_peer slow(f.connect()), next(f.connect()), last(f.connect());
    slow.handshake(); // and does not answer
    f.settle();
    const auto [next_first, next_rest] = first_message(next);
    next.send(next_first + next_rest);
    f.settle();
    const auto [last_first, last_rest] = first_message(last);
    last.send(last_first + last_rest);
    f.settle();
    CHECK(next.socket().available() == 0);
    CHECK(last.socket().available() == 0);
    CHECK(f.acceptor.census().live() == 3);
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::handshake_timeout);
    f.run_until([&] { return next.socket().available() != 0; });
    CHECK(last.socket().available() == 0);
    f.enter(next);
    f.enter(last);
    CHECK(f.sessions == 2);
}

TEST_CASE("a client that does not answer keeps its slot only while no other waits for it", "[tls]")
{
    fixture f;
    f.serve(holdfast::tls(server_context(), {.max_handshakes = 1, .handshake_timeout = 1h, .contended_timeout = 20ms}));
    tests::tls_peer silent(f.connect()), next(f.connect());
    silent.handshake(); // and does not answer
    f.io.restart();
    f.io.run_for(100ms);
    CHECK(f.ends.empty());
    f.enter(next);
    REQUIRE(f.ends.size() == 1);
    CHECK(f.ends[0].reason == close_reason::handshake_timeout);
    CHECK(f.ends[0].error == errc::handshake_timeout);
    CHECK(f.sessions == 1);
}

TEST_CASE("a client that has sent only a part of its first message takes no slot", "[tls]")
{
    fixture f;
    f.serve(holdfast::tls(server_context(), {.max_handshakes = 1, .handshake_timeout = 1h}));
    const char* const parts[] = {"\x16",
                                 "\x16\x03\x01\x02",
                                 "\x16\x03\x01\x02\x01\x01",
                                 "\x17\x03\x03\x01\x01", // data
                                 "\x80\xff\x01\x03\x01", // SSL 2
                                 "G"};
    std::vector<tcp::socket> others;
    for (const char* part : parts) {
        others.push_back(f.connect());
        net::write(others.back(), net::buffer(std::string(part)));
        f.settle();
    }
    others.push_back(f.connect()); // a record of one byte of the message
    net::write(others.back(), net::buffer("\x16\x03\x01\0\x01\x01", 6));
    f.settle();
    tests::tls_peer half(f.connect());
    const auto [first, rest] = first_message(half);
    half.send(first);
    f.settle();
    tests::tls_peer client(f.connect());
    f.enter(client);
    for (const char byte : rest) { // one by one
        half.send({&byte, 1});
        f.settle();
    }
    f.enter(half);
    CHECK(f.sessions == 2);
    CHECK(f.ends.empty());
    for (tcp::socket& each : others)
        each.close();
    f.run_until([&] { return f.ends.size() == others.size(); });
    for (const connection_end& end : f.ends) {
        CHECK(end.reason == close_reason::handshake_failed);
        CHECK(end.error == net::error::eof);
    }
}

TEST_CASE("a first message may be spread over records, up to a limit", "[tls]")
{
    fixture f;
    f.serve(holdfast::tls(server_context(), {.max_handshakes = 1, .handshake_timeout = 1h}));
    tests::tls_peer client(f.connect());
    SECTION("within the limit")
    {
        const auto [first, rest] = first_message(client);
        const std::string message = (first + rest).substr(5);
        for (std::size_t at = 0; at < message.size(); at += 100) {
            const std::string part = message.substr(at, 100);
            client.send(std::string("\x16\x03\x01\0", 4) + static_cast<char>(part.size()) + part);
            f.settle();
        }
        f.enter(client);
        CHECK(f.ends.empty());
    }
    SECTION("beyond it")
    {
        const std::string header("\x16\x03\x01\x40\x00\x01\x00\x50\x00", 9);
        client.send(header + std::string(16384 - 4, 'x') + "\x16\x03\x01");
        f.run_until([&] { return !f.ends.empty(); });
        CHECK(f.ends[0].reason == close_reason::handshake_failed);
        CHECK(f.ends[0].error == net::error::message_size);
    }
}

TEST_CASE("a client that leaves while it waits for a slot gives its permit back at once", "[tls]")
{
    fixture f(2);
    std::optional<net::ssl::context> context;
    const holdfast::handshake_options limits{.max_handshakes = 1, .handshake_timeout = 1h};
    SECTION("tls_stream") { f.serve(holdfast::tls(server_context(), limits)); }
    SECTION("ssl::stream")
    {
        context.emplace(asio_context());
        f.serve(asio_tls{&*context, limits});
    }
    tests::tls_peer slow(f.connect());
    slow.handshake(); // and does not answer
    f.settle();
    for (const bool resets : {false, true}) {
        f.ends.clear();
        tests::tls_peer waiting(f.connect());
        waiting.handshake();
        f.settle();
        CHECK(waiting.socket().available() == 0);
        CHECK(f.ends.empty());
        if (resets)
            tests::reset(waiting.socket());
        else
            waiting.socket().close();
        f.run_until([&] { return !f.ends.empty(); });
        CHECK(f.ends[0].reason == close_reason::handshake_failed);
        CHECK(f.ends[0].error == (resets ? error_code(net::error::connection_reset) : error_code(net::error::eof)));
        CHECK(f.acceptor.census().live() == 1);
    }
    tests::tls_peer next(f.connect()); // may wait, and has the slot when it is free
    next.handshake();
    f.settle();
    slow.socket().close();
    f.enter(next);
    CHECK(f.sessions == 1);
}

TEST_CASE("a handshake that fails has its own reason and error, is reported, and its permit comes back", "[tls]")
{
    fixture f(1);
    f.serve(holdfast::tls(server_context()));
    tcp::socket client = f.connect();
    SECTION("plain text") { net::write(client, net::buffer("GET / HTTP/1.1\r\n\r\n", 18)); }
    SECTION("garbage") { net::write(client, net::buffer(std::string(1000, '\xa5'))); }
    SECTION("the client leaves before it has sent anything") { client.close(); }
    SECTION("the client leaves in the middle")
    {
        tests::tls_peer peer(std::move(client));
        peer.send(first_message(peer).first);
        f.settle();
        client = std::move(peer.socket());
        client.close();
    }
    SECTION("a reset") { tests::reset(client); }
    SECTION("an alert")
    {
        tests::tls_peer peer(std::move(client), TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256");
        peer.handshake();
        f.settle();
        ::SSL_set_verify(peer.ssl(), SSL_VERIFY_PEER, nullptr); // an authority that it does not know
        peer.handshake();
        client = std::move(peer.socket());
    }
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::handshake_failed);
    CHECK(f.ends[0].error);
    REQUIRE(f.events.size() == 1);
    CHECK(f.events[0].what == acceptor_event::kind::handshake_failed);
    CHECK(f.events[0].error == f.ends[0].error);
    CHECK(f.sessions == 0);
    tests::tls_peer healthy(f.connect());
    f.enter(healthy);
    CHECK(f.sessions == 1);
}

TEST_CASE("a drain ends handshakes at every stage, and waits for none of their time limits", "[tls]")
{
    fixture f;
    f.serve(holdfast::tls(server_context(), {.max_handshakes = 1, .handshake_timeout = 1h}));
    tcp::socket silent = f.connect();
    tests::tls_peer under_way(f.connect()), waiting(f.connect());
    tests::tls_peer begun(f.connect());
    begun.send(first_message(begun).first);
    under_way.handshake();
    f.settle();
    waiting.handshake();
    f.settle();
    CHECK(f.acceptor.census().live() == 4);
    std::optional<error_code> drained;
    f.acceptor.async_drain({.deadline = 1h}, [&](error_code ec, std::size_t) { drained = ec; });
    f.run_until([&] { return drained.has_value(); });
    CHECK_FALSE(*drained);
    REQUIRE(f.ends.size() == 4);
    for (const connection_end& end : f.ends)
        CHECK(end.reason == close_reason::drained);
    CHECK(f.sessions == 0);
}

TEST_CASE("the acceptor ends a connection in its handshake by name, for the reason given", "[tls]")
{
    fixture f;
    f.serve(holdfast::tls(server_context(), {.handshake_timeout = 1h}));
    tests::tls_peer client(f.connect());
    const bool silent = GENERATE(true, false);
    if (!silent) client.handshake();
    f.settle();
    std::uint64_t id = 0;
    f.acceptor.census().for_each([&](const holdfast::census_entry& entry) { id = entry.id; });
    CHECK(f.acceptor.end(id, close_reason::refused));
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::refused);
    CHECK(f.sessions == 0);
}

TEST_CASE("handshakes under way go on when accepting has stopped, and end with their context", "[tls]")
{
    std::vector<connection_end> ends;
    int sessions = 0;
    {
        fixture f;
        f.serve(holdfast::tls(server_context(), {.max_handshakes = 2, .handshake_timeout = 1h}));
        tests::tls_peer client(f.connect()), under_way(f.connect()), stalled(f.connect()), waiting(f.connect());
        tcp::socket silent = f.connect();
        under_way.handshake();
        f.settle();
        stalled.handshake();
        f.settle();
        waiting.handshake();
        f.settle();
        f.acceptor.close();
        f.run_until([&] { return f.served.has_value(); });
        CHECK_FALSE(*f.served);
        f.enter(under_way);
        CHECK(f.sessions == 1);
        CHECK(f.ends.empty());
        sessions = f.sessions;
        // They are destroyed with the context, and report their ends to the vector, which is destroyed after it.
    }
    CHECK(sessions == 1);
}

TEST_CASE("handshakes end with their own context, in whatever order the acceptor and the contexts are destroyed",
          "[tls]")
{
    std::vector<connection_end> ends;
    ends.reserve(10);
    auto accepting = std::make_unique<net::io_context>(1);
    auto connections = std::make_unique<net::io_context>(1);
    auto acceptor = std::make_unique<acceptor_type>(
        accepting->get_executor(), tcp::endpoint(net::ip::address_v4::loopback(), 0),
        holdfast::acceptor_options{
            .next_executor = [&] { return holdfast::connection_placement(connections->get_executor()); }},
        note_end{&ends});
    acceptor->async_serve(
        holdfast::tls(server_context(), {.max_handshakes = 1, .handshake_timeout = 1h}), [](auto) {}, net::detached);
    net::io_context clients;
    std::vector<tests::tls_peer> peers;
    for (int i = 0; i != 4; ++i) { // one is silent, one in its handshake, and two wait for the slot
        tcp::socket client(clients);
        client.connect(acceptor->local_endpoint());
        peers.emplace_back(std::move(client));
        if (i != 0) peers.back().handshake();
        for (int turn = 0; turn != 10; ++turn) {
            accepting->restart();
            accepting->poll();
            connections->restart();
            connections->poll();
        }
    }
    REQUIRE(acceptor->census().live() == 4);
    SECTION("acceptor, its context, that of the connections")
    {
        acceptor.reset();
        accepting.reset();
        CHECK(ends.empty());
        connections.reset();
    }
    SECTION("acceptor, the context of the connections, its own")
    {
        acceptor.reset();
        connections.reset();
        accepting->restart();
        accepting->run();
        accepting.reset();
    }
    SECTION("its context, acceptor, that of the connections")
    {
        accepting.reset();
        acceptor.reset();
        CHECK(ends.empty());
        connections.reset();
    }
    SECTION("the context of the connections, acceptor, its own")
    {
        connections.reset();
        CHECK(ends.size() == 4);
        accepting->restart();
        accepting->poll();
        acceptor.reset();
        accepting->restart();
        accepting->run();
    }
    REQUIRE(ends.size() == 4);
    for (const connection_end& end : ends)
        CHECK(end.reason == close_reason::context_destroyed);
}

TEST_CASE("a factory that throws ends that connection alone", "[tls]")
{
    struct failing : holdfast::tls_layer {
        using tls_layer::tls_layer;
        std::shared_ptr<int> times = std::make_shared<int>(0);
        auto make(tcp::socket socket) const
        {
            if (++*times == 1) throw std::runtime_error("no layer");
            return tls_layer::make(std::move(socket));
        }
    };
    fixture f(1);
    f.serve(failing(server_context(), {}));
    tests::tls_peer first(f.connect());
    first.handshake();
    f.run_until([&] { return !f.ends.empty(); });
    CHECK(f.ends[0].reason == close_reason::exception);
    tests::tls_peer second(f.connect());
    f.enter(second);
    CHECK(f.sessions == 1);
}

TEST_CASE("a layer whose client begins is made at its first byte, another one at once", "[tls]")
{
    int made = 0;
    fixture f;
    auto context = asio_context();
    SECTION("the client begins")
    {
        f.serve(client_first{{{&context}, &made}});
        tests::tls_peer client(f.connect());
        f.run_until([&] { return f.acceptor.census().live() == 1; });
        f.settle();
        CHECK(made == 0);
        const auto [begin, rest] = first_message(client);
        client.send(begin.substr(0, 1));
        f.run_until([&] { return made == 1; });
        client.send(begin.substr(1) + rest);
        f.enter(client);
    }
    SECTION("either may begin")
    {
        f.serve(counting{{&context}, &made});
        tests::tls_peer client(f.connect());
        f.run_until([&] { return made == 1; });
        f.enter(client);
    }
    CHECK(made == 1);
}

TEST_CASE("a handler may be a coroutine, or return nothing, and have the shard", "[tls]")
{
    fixture f;
    int seen = 0;
    SECTION("a coroutine")
    {
        f.acceptor.async_serve(
            holdfast::tls(server_context()),
            [&](holdfast::admitted_connection<holdfast::tls_stream<>, note_end> peer) -> net::awaitable<void> {
                ++seen;
                co_await peer.stream().async_shutdown(net::use_awaitable);
            },
            net::detached);
    }
    SECTION("returns nothing, with the shard")
    {
        f.acceptor.async_serve(
            holdfast::tls(server_context()),
            [&](auto peer, std::size_t shard) {
                CHECK(shard == 0);
                ++seen;
                peer.async_close(net::detached);
            },
            net::detached);
    }
    tests::tls_peer client(f.connect());
    f.run_until([&] {
        client.handshake();
        return seen == 1;
    });
    client.socket().close();
    f.run_until([&] { return !f.ends.empty(); });
}

TEST_CASE("options of handshakes at their extremes: refused, or a client is served", "[tls]")
{
    using duration = std::chrono::steady_clock::duration;
    const auto check = [](const holdfast::handshake_options& options, bool valid) {
        fixture f;
        const auto start = [&] { f.serve(holdfast::tls(server_context(), options)); };
        if (!valid) {
            CHECK_THROWS_AS(start(), std::invalid_argument);
            return;
        }
        start();
        tests::tls_peer client(f.connect());
        f.enter(client);
        CHECK(f.sessions == 1);
    };
    for (const std::size_t n : {std::size_t(0), std::size_t(1), SIZE_MAX - 1, SIZE_MAX})
        check({.max_handshakes = n}, n != 0);
    for (const duration time :
         {duration::min(), duration(-1), duration(0), duration::max() - duration(1), duration::max()})
        check({.handshake_timeout = time}, time > duration(0));
}

TEST_CASE("the sockets of ended TLS connections count within max_connections until their last bytes are acknowledged",
          "[tls]")
{
    fixture f(2);
    f.acceptor.async_serve(
        holdfast::tls(server_context(GENERATE(false, true))),
        [](auto peer) -> net::awaitable<void> {
            holdfast::frame_reader lines(peer);
            co_await lines.async_next(net::use_awaitable);
            co_await net::async_write(peer.stream(), net::buffer("bye\n", 4), net::use_awaitable);
        },
        net::detached);
    std::deque<tests::tls_peer> clients;
    const auto end_unheard = [&] {
        tests::tls_peer& client = clients.emplace_back(f.connect());
        f.run_until([&] { return client.handshake(); });
        tests::drop_incoming(client.socket());
        client.send(client.seal("?\n"));
        f.run_until([&] { return f.ends.size() == clients.size(); });
    };
    const auto open_descriptors = [] {
        std::error_code ec;
        return holdfast::read_open_descriptors(0, ec);
    };
    const auto before = open_descriptors();
    for (std::size_t i = 0; i != 6; ++i) {
        end_unheard();
        CHECK(open_descriptors() == before + clients.size() + std::min<std::size_t>(i + 1, 2));
    }
}

namespace {

/// The client has got half a message when the acceptor ends the connection.
template <class Factory>
void end_within_message(Factory factory, bool by_outbox, bool by_drain)
{
    fixture f;
    f.acceptor.async_serve(
        std::move(factory),
        [by_outbox](auto peer) -> net::awaitable<void> {
            const std::vector<int> rows(3'000'000, 1234567); // more than the buffers of both sockets take
            error_code ec;
            if (by_outbox) {
                holdfast::outbox outbox{peer};
                CHECK_FALSE(outbox.template push_streamed<holdfast::ndjson>(rows));
                holdfast::frame_reader lines(peer);
                while (!ec)
                    co_await lines.async_next(net::redirect_error(net::use_awaitable, ec));
            } else {
                co_await holdfast::async_write_streamed(peer, holdfast::formatted(std::cref(rows), holdfast::ndjson{}),
                                                        net::redirect_error(net::use_awaitable, ec));
                CHECK(ec);
            }
        },
        net::detached);
    tests::tls_peer client(f.connect());
    f.run_until([&] { return client.handshake(); });
    f.run_until([&] { return client.socket().available() > 20'000; }); // all that the server has sent is not taken
    f.settle();
    if (by_drain) {
        f.acceptor.async_drain({.deadline = 0s}, net::detached);
    } else {
        std::uint64_t id = 0;
        f.acceptor.census().for_each([&](const holdfast::census_entry& entry) { id = entry.id; });
        REQUIRE(f.acceptor.end(id, close_reason::drain_deadline));
    }
    f.run_until([&] { return f.ends.size() == 1; });
    CHECK(f.ends[0].reason == close_reason::drain_deadline);
    client.socket().non_blocking(false);
    CHECK(tests::read_to_end(client.socket()).end == net::error::connection_reset);
}

} // namespace

TEST_CASE("over TLS a client that has got half a message when its connection is ended sees a reset, not an end",
          "[tls]")
{
    const bool by_outbox = GENERATE(true, false);
    const bool by_drain = GENERATE(true, false);
    SECTION("ssl::stream")
    {
        auto context = asio_context();
        end_within_message(asio_tls{&context}, by_outbox, by_drain);
    }
    SECTION("tls_stream")
    {
        const auto context = server_context(GENERATE(false, true));
        end_within_message(holdfast::tls(context), by_outbox, by_drain);
    }
}

TEST_CASE("options of handshakes out of range are refused", "[tls]")
{
    fixture f;
    const auto handler = [](auto) {};
    CHECK_THROWS_AS(
        f.acceptor.async_serve(holdfast::tls(server_context(), {.max_handshakes = 0}), handler, net::detached),
        std::invalid_argument);
    CHECK_THROWS_AS(
        f.acceptor.async_serve(holdfast::tls(server_context(), {.handshake_timeout = 0s}), handler, net::detached),
        std::invalid_argument);
    CHECK_THROWS_AS(
        f.acceptor.async_serve(holdfast::tls(server_context(), {.contended_timeout = 0s}), handler, net::detached),
        std::invalid_argument);
    // By the call itself, also where the token starts the operation later: a coroutine could not catch it then.
    CHECK_THROWS_AS((void)f.acceptor.async_serve(holdfast::tls(server_context(), {.max_handshakes = 0}), handler,
                                                 net::use_awaitable),
                    std::invalid_argument);
    f.serve(holdfast::tls(server_context(), {.max_handshakes = SIZE_MAX,
                                             .handshake_timeout = std::chrono::steady_clock::duration::max(),
                                             .contended_timeout = std::chrono::steady_clock::duration::max()}));
    tests::tls_peer client(f.connect());
    f.enter(client);
}

TEST_CASE("on several threads the handler is called for one connection at a time", "[tls]")
{
    enum class placing { on_the_acceptors, on_strands, on_contexts_of_their_own };
    const placing placed = GENERATE(placing::on_the_acceptors, placing::on_strands, placing::on_contexts_of_their_own);
    net::io_context io, one(1), other(1);
    const auto work_one = net::make_work_guard(one), work_other = net::make_work_guard(other);
    std::atomic<int> inside = 0, together = 0, ended = 0;
    struct count_end {
        std::atomic<int>* ended;
        void operator()(const connection_end&) const noexcept
        {
            ++*ended;
            ended->notify_one();
        }
    };
    holdfast::acceptor_options options;
    if (placed == placing::on_strands)
        options.next_executor = [&io] { return holdfast::connection_placement(net::make_strand(io)); };
    if (placed == placing::on_contexts_of_their_own)
        options.next_executor = [&, turn = 0]() mutable {
            return holdfast::connection_placement((++turn % 2 == 0 ? one : other).get_executor());
        };
    holdfast::bounded_acceptor<tcp, count_end> acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0},
                                                        options, count_end{&ended});
    acceptor.async_serve(
        holdfast::tls(server_context(), {.max_handshakes = 3, .handshake_timeout = 10s}),
        [&](auto peer) {
            if (++inside != 1) ++together;
            std::this_thread::yield();
            peer.close();
            --inside;
        },
        net::detached);
    std::vector<std::thread> threads;
    for (int i = 0; i != 3; ++i)
        threads.emplace_back([&] { io.run(); });
    threads.emplace_back([&] { one.run(); });
    threads.emplace_back([&] { other.run(); });
    net::io_context clients;
    std::vector<tests::tls_peer> peers;
    for (int i = 0; i != 30; ++i) {
        tcp::socket client(clients);
        client.connect(acceptor.local_endpoint());
        if (i % 5 == 0)
            tests::reset(client);
        else
            peers.emplace_back(std::move(client)).handshake();
    }
    for (tests::tls_peer& each : peers)
        while (!each.ended() && each.receive()) {
            try {
                each.handshake();
            } catch (const std::runtime_error&) {
                break; // the server has closed
            }
            tests::await_readable(each.socket());
        }
    for (int seen = ended; seen != 30; seen = ended)
        ended.wait(seen);
    CHECK(ended == 30);
    CHECK(together == 0);
    acceptor.close();
    io.stop();
    one.stop();
    other.stop();
    for (std::thread& each : threads)
        each.join();
}
