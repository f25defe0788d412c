// holdfast: tests of lifetimes across parts: sessions and handles that outlive what they came from.
// Sanitizers watch.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/holdfast.hpp>

#include <csignal>
#include <memory>
#include <optional>
#include <ranges>
#include <vector>

using namespace std::chrono_literals;
using tests::tcp;
namespace net = holdfast::net;

namespace {

int finalized = 0;

struct count_end {
    void operator()(const holdfast::connection_end&) const noexcept { ++finalized; }
};
using acceptor_type = holdfast::bounded_acceptor<tcp, count_end>;
using connection = acceptor_type::connection_type;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

/// The README's session.
net::awaitable<void> serve(connection peer, holdfast::heartbeat_timer<>& heartbeats)
{
    auto heartbeat = heartbeats.watch(peer);
    holdfast::frame_reader lines{peer.stream(), {.max_frame_bytes = 4096}};
    while (auto line = co_await lines.async_next()) {
        heartbeat.touch();
        co_await holdfast::async_write_streamed<holdfast::ndjson>(peer.stream(), *line, {.progress = heartbeat});
    }
    co_await peer.async_close();
}

} // namespace

TEST_CASE("the README's server with 100 live sessions: stopped, and left by its declarations' order, "
          "finalizes all 100")
{
    finalized = 0;
    net::io_context clients_io;
    std::vector<tcp::socket> clients;
    {
        net::io_context io;
        holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.tick = 1s, .timeout = 30s}};
        acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 100}};
        acceptor.async_serve([&](connection peer) { return serve(std::move(peer), heartbeats); }, net::detached);
        for (int i = 0; i != 101; ++i) // one waits for room
            clients.emplace_back(clients_io).connect(acceptor.local_endpoint());
        for (int i = 0; i != 50; ++i) // some have an answer under way or pending
            clients[static_cast<std::size_t>(i)].write_some(net::buffer("hello\nwor", 9));
        tests::run_until(io, [&] { return acceptor.census().live() == 100 && heartbeats.watched() == 100; });
        net::post(io, [&] { io.stop(); });
        io.run();
        CHECK(finalized == 0);
    }
    CHECK(finalized == 100);
}

TEST_CASE("a session that is in the middle of a large message when its context is destroyed is finalized")
{
    finalized = 0;
    net::io_context clients_io;
    tcp::socket client(clients_io);
    {
        net::io_context io;
        acceptor_type acceptor{io.get_executor(), any_port};
        acceptor.async_serve(
            [](connection peer) {
                return [](connection p) -> net::awaitable<void> {
                    auto rows = std::views::iota(0, 100'000'000);
                    co_await holdfast::async_write_streamed(p.stream(), rows);
                }(std::move(peer));
            },
            net::detached);
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return acceptor.census().live() == 1; });
        for (int i = 0; i != 100; ++i) // until the client's buffers are full
            io.poll();
    }
    CHECK(finalized == 1);
}

TEST_CASE("a reject_message that waits for its peer when the context is destroyed is finalized")
{
    finalized = 0;
    net::io_context clients_io;
    tcp::socket client(clients_io);
    {
        net::io_context io;
        acceptor_type acceptor{io.get_executor(), any_port};
        acceptor.async_serve([](connection peer) { peer.async_close({}, net::detached); }, net::detached);
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return acceptor.census().peak() == 1; });
        io.poll();
        CHECK(finalized == 0);
    }
    CHECK(finalized == 1);
}

TEST_CASE("the context may be destroyed while a coroutine waits for a permit of a semaphore in its own frame")
{
    bool frame_destroyed = false;
    {
        net::io_context io;
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                struct mark {
                    bool& flag;
                    ~mark() { flag = true; }
                } destroyed{frame_destroyed};
                holdfast::async_semaphore semaphore(co_await net::this_coro::executor, 1);
                const holdfast::permit taken = semaphore.try_acquire();
                const auto never = co_await semaphore.async_acquire();
            },
            net::detached);
        io.poll();
        CHECK_FALSE(frame_destroyed);
    }
    CHECK(frame_destroyed);
}

TEST_CASE("heartbeats and permits that outlive timer, semaphore and context do no harm")
{
    struct peer {
        void abort(holdfast::close_reason) {}
    } watched;
    holdfast::heartbeat heartbeat;
    holdfast::permit permit;
    {
        net::io_context io;
        holdfast::heartbeat_timer<> heartbeats{io.get_executor()};
        holdfast::async_semaphore semaphore{io.get_executor(), 3};
        heartbeat = heartbeats.watch(watched);
        permit = semaphore.try_acquire(2);
        REQUIRE(permit.units() == 2);
    }
    heartbeat.touch();
    heartbeat.release();
    permit.release();
    CHECK_FALSE(heartbeat);
    CHECK_FALSE(permit);
}

TEST_CASE("connections that the user keeps may outlive acceptor and drain, and end where they will")
{
    finalized = 0;
    net::io_context io;
    std::vector<connection> kept;
    std::optional<acceptor_type> acceptor(std::in_place, io.get_executor(), any_port,
                                          holdfast::acceptor_options{.max_connections = 2});
    acceptor->async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    tcp::socket a(io);
    tcp::socket b(io);
    a.connect(acceptor->local_endpoint());
    b.connect(acceptor->local_endpoint());
    tests::run_until(io, [&] { return kept.size() == 2; });
    const auto census = acceptor->census();
    acceptor.reset();
    tests::run(io); // nothing is left that waits
    CHECK(census.live() == 2);
    kept.clear();
    CHECK(census.live() == 0);
    CHECK(finalized == 2);
}

TEST_CASE("a finalizer may destroy the session that owns an acceptor's connection: the permit is back all the same")
{
    struct destroys {
        std::shared_ptr<void>* session;
        int* times;
        void operator()(const holdfast::connection_end&) const noexcept
        {
            session->reset();
            ++*times;
        }
    };
    using destroying_acceptor = holdfast::bounded_acceptor<tcp, destroys>;
    using owned = destroying_acceptor::connection_type;
    net::io_context io;
    std::shared_ptr<void> session;
    int times = 0;
    destroying_acceptor acceptor{
        io.get_executor(), any_port, {.max_connections = 2, .max_per_address = 2}, {&session, &times}};
    std::optional<owned> accepted;
    const auto accept = [&] {
        accepted.reset();
        acceptor.async_accept([&](holdfast::error_code ec, owned peer) {
            REQUIRE_FALSE(ec);
            accepted.emplace(std::move(peer));
        });
        tests::run_until(io, [&] { return accepted.has_value(); });
        return std::make_shared<owned>(std::move(*accepted));
    };
    tcp::socket client(io), next_client(io);
    client.connect(acceptor.local_endpoint());
    auto peer = accept();
    session = peer;
    owned& connection = *peer;
    peer.reset();
    std::shared_ptr<void> next;
    SECTION("closed") { connection.close(); }
    SECTION("aborted") { connection.abort(); }
    SECTION("released")
    {
        const tcp::socket stream = connection.release_unbounded();
        CHECK(stream.is_open());
    }
    SECTION("replaced")
    {
        next_client.connect(acceptor.local_endpoint());
        auto other = accept();
        connection = std::move(*other);
        CHECK(times == 2); // the other one ended with the session
    }
    SECTION("closed gracefully")
    {
        connection.async_close(net::detached);
        client.close();
        tests::run_until(io, [&] { return times != 0; });
    }
    CHECK(session == nullptr);
    CHECK(times >= 1);
    CHECK(acceptor.census().live() == 0);
    CHECK(acceptor.addresses() == 0);
}

TEST_CASE("sessions that wait in a strand's queue, a signal set or a timer when the context ends are ended by that")
{
    std::vector<holdfast::close_reason> reasons;
    struct note_reason {
        std::vector<holdfast::close_reason>* reasons;
        void operator()(const holdfast::connection_end& end) const noexcept { reasons->push_back(end.reason); }
    };
    using guard = holdfast::connection_guard<tcp::socket, note_reason>;
    reasons.reserve(8);
    net::io_context clients;
    {
        net::io_context io;
        net::signal_set signals(io, SIGUSR2);
        const auto watched = [&] {
            auto [server, client] = tests::socket_pair(io, clients);
            return guard(std::move(server), {&reasons});
        };
        auto first = watched();
        const auto strand = net::make_strand(io);
        net::post(strand, [peer = std::move(first)] { FAIL("it ran"); });
        net::co_spawn(
            io,
            [](guard peer, net::signal_set& set) -> net::awaitable<void> {
                co_await set.async_wait(net::use_awaitable);
                (void)peer;
            }(watched(), signals),
            net::detached);
        net::co_spawn(
            strand,
            [](guard peer) -> net::awaitable<void> {
                net::basic_waitable_timer<std::chrono::system_clock> never(co_await net::this_coro::executor);
                never.expires_at(std::chrono::system_clock::time_point::max());
                co_await never.async_wait(net::use_awaitable);
                (void)peer;
            }(watched()),
            net::detached);
    }
    CHECK(reasons == std::vector<holdfast::close_reason>(3, holdfast::close_reason::context_destroyed));
}
