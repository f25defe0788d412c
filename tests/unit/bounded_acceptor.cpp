// holdfast: tests of bounded_acceptor: never more than the limit, no spinning, and an orderly end.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/process/limits.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::errc;
using holdfast::error_code;
using tests::connect, tests::descriptor_limit, tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp>;
using connection = acceptor_type::connection_type;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

/// Some clients of these tests never end their stream: an async_close of their connection takes all of its time.
constexpr holdfast::close_options short_close{.deadline = 200ms};

/// A session that waits for the end of its peer's stream.
net::awaitable<void> listen_to(connection peer)
{
    holdfast::frame_reader lines{peer.stream()};
    while (co_await lines.async_next()) {
    }
    co_await peer.async_close(short_close);
}

/// Whether the server has closed this client's connection, by an end of stream or a reset.
bool closed_by_server(tcp::socket& client)
{
    client.non_blocking(true);
    std::array<char, 64> waste;
    error_code ec;
    client.read_some(net::buffer(waste), ec);
    return ec && ec != net::error::would_block;
}

} // namespace

TEST_CASE("the client beyond the limit waits in the backlog and gets in when one leaves")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 3}};
    acceptor.async_serve(listen_to, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 4);
    tests::run_until(io, [&] { return acceptor.census().live() == 3; });
    io.poll();
    CHECK(acceptor.census().live() == 3);
    clients[0].close();
    tests::run_until(io, [&] { return acceptor.census().ended() == 1 && acceptor.census().live() == 3; });
    CHECK(acceptor.census().peak() == 3);
    clients.clear();
    tests::run_until(io, [&] { return acceptor.census().ended() == 4; });
    acceptor.close();
    tests::run(io);
}

TEST_CASE("never more than the limit are admitted, however many connect and leave")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 7}};
    acceptor.async_serve(listen_to, net::detached);
    std::size_t most = 0;
    for (int round = 0; round != 20; ++round) {
        auto clients = connect(io, acceptor.local_endpoint(), 25);
        for (auto& client : clients)
            client.close();
        tests::run_until(io, [&] {
            most = std::max(most, acceptor.census().live());
            return acceptor.census().ended() == 25U * static_cast<unsigned>(round + 1);
        });
    }
    CHECK(most <= 7);
    CHECK(acceptor.census().peak() <= 7);
}

TEST_CASE("a connection carries its permit wherever it is moved, and gives it back at its end")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 1}};
    auto clients = connect(io, acceptor.local_endpoint(), 2);
    std::optional<connection> kept;
    acceptor.async_accept([&](error_code ec, connection peer) {
        REQUIRE(!ec);
        kept.emplace(std::move(peer));
    });
    tests::run(io);
    REQUIRE(kept);
    bool second = false;
    acceptor.async_accept([&](error_code ec, connection) { second = !ec; });
    io.poll();
    CHECK_FALSE(second);
    connection moved = std::move(*kept);
    kept.reset();
    io.restart();
    io.poll();
    CHECK_FALSE(second); // the moved-from one held nothing
    moved.close();
    tests::run(io);
    CHECK(second);
}

TEST_CASE("async_accept never completes inside the call, and takes callbacks, awaitables and futures")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 3}};
    auto clients = connect(io, acceptor.local_endpoint(), 3);
    bool inside = true;
    acceptor.async_accept([&](error_code ec, const connection& peer) {
        CHECK(!ec);
        CHECK(peer.is_open());
        CHECK_FALSE(inside);
    });
    inside = false;
    auto later = acceptor.async_accept(net::use_future);
    tests::run(io, [&]() -> net::awaitable<void> {
        const connection peer = co_await acceptor.async_accept();
        CHECK(peer.is_open());
        CHECK(acceptor.census().live() >= 1);
    });
    CHECK(later.get().is_open());
    CHECK(acceptor.census().live() == 0);
}

TEST_CASE("close() ends a pending accept, one that waits for a permit, and serving, and the port is free then")
{
    net::io_context io;
    std::optional<acceptor_type> acceptor(std::in_place, io.get_executor(), any_port,
                                          holdfast::acceptor_options{.max_connections = 1});
    const auto where = acceptor->local_endpoint();
    std::vector<error_code> ends;
    std::optional<connection> first;
    acceptor->async_accept([&](error_code ec, connection peer) {
        REQUIRE(!ec);
        first.emplace(std::move(peer));
    });
    auto clients = connect(io, where, 1);
    tests::run(io);
    acceptor->async_accept([&](error_code ec, const connection& peer) { // waits for room
        CHECK_FALSE(peer.is_open());
        ends.push_back(ec);
    });
    error_code served = net::error::fault;
    acceptor->async_serve(listen_to, [&](error_code ec) { served = ec; });
    io.restart();
    io.poll();
    CHECK(ends.empty());
    acceptor->close();
    tests::run(io);
    REQUIRE(ends.size() == 1);
    CHECK(ends[0] == errc::acceptor_closed);
    CHECK_FALSE(served); // stopping was what the user asked for
    CHECK(first->is_open());
    acceptor.reset(); // the connection outlives it
    const tcp::acceptor again(io, where);
    first->close();
    CHECK(first->reason() == close_reason::local);
}

TEST_CASE("clients in the backlog when the acceptor closes are reset by the kernel")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 1}};
    acceptor.async_serve(listen_to, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return acceptor.census().live() == 1; });
    acceptor.close();
    io.poll();
    for (const std::size_t waiting : {std::size_t{1}, std::size_t{2}})
        CHECK(tests::read_to_end(clients[waiting]).end == net::error::connection_reset);
    CHECK(acceptor.census().live() == 1);
    clients.clear();
    tests::run(io);
}

TEST_CASE("an accept is cancelled by its slot, at the limit and before, and no connection is lost")
{
    for (const auto type :
         {net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total}) {
        net::io_context io;
        acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 1}};
        net::cancellation_signal signal;
        error_code result;
        const auto accept = [&] {
            acceptor.async_accept(
                net::bind_cancellation_slot(signal.slot(), [&](error_code ec, const connection&) { result = ec; }));
        };
        accept();
        io.poll();
        signal.emit(type);
        tests::run(io);
        CHECK(result == net::error::operation_aborted);

        auto clients = connect(io, acceptor.local_endpoint(), 1);
        std::optional<connection> first;
        acceptor.async_accept([&](error_code, connection peer) { first.emplace(std::move(peer)); });
        tests::run(io);
        REQUIRE(first->is_open()); // the cancelled accept gave its permit back
        result = {};
        accept();
        io.restart();
        io.poll();
        signal.emit(type);
        tests::run(io);
        CHECK(result == net::error::operation_aborted);
    }
}

TEST_CASE("an accept that another thread cancels while new clients come loses none of them")
{
    constexpr std::size_t count = 300;
    const std::uint32_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::minstd_rand random(seed);
    net::io_context io, own;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = count}};
    auto keep = net::make_work_guard(io);
    std::vector<std::thread> threads;
    for (int i = 0; i != 2; ++i)
        threads.emplace_back([&] { io.run(); });
    net::io_context of_clients;
    std::vector<tcp::socket> clients;
    std::thread load([&] { clients = connect(of_clients, acceptor.local_endpoint(), count); });
    std::vector<connection> kept;
    std::size_t wrong = 0;
    while (kept.size() != count) {
        net::cancellation_signal stop;
        bool done = false;
        acceptor.async_accept(net::bind_cancellation_slot(
            stop.slot(), net::bind_executor(own, [&](error_code ec, connection peer) {
                done = true;
                wrong += peer.is_open() == !ec && (!ec || ec == net::error::operation_aborted) ? 0 : 1;
                if (!ec) kept.push_back(std::move(peer));
            })));
        for (auto delay = random() % 1000; delay != 0 && !done; --delay) {
            own.restart();
            own.poll_one();
        }
        stop.emit(net::cancellation_type::terminal);
        tests::run_until(own, [&] { return done; });
    }
    load.join();
    keep.reset();
    acceptor.close();
    for (auto& thread : threads)
        thread.join();
    CHECK(wrong == 0);
    CHECK(acceptor.census().live() == count);
    kept.clear();
    CHECK(acceptor.census().live() == 0);
}

TEST_CASE("an exception in a handler or in its coroutine ends that connection alone and reaches the hook")
{
    net::io_context io;
    std::vector<tcp::endpoint> failed;
    acceptor_type acceptor{
        io.get_executor(), any_port, {.max_connections = 5, .on_event = [&](const holdfast::acceptor_event& event) {
                                          CHECK(event.what == holdfast::acceptor_event::kind::session_failed);
                                          CHECK_THROWS_AS(std::rethrow_exception(event.exception), std::logic_error);
                                          failed.push_back(event.remote);
                                      }}};
    int sessions = 0;
    acceptor.async_serve(
        [&](connection peer) -> net::awaitable<void> {
            if (++sessions == 1) throw std::logic_error("before the first suspension");
            return [](connection p) -> net::awaitable<void> {
                co_await net::post(net::use_awaitable);
                if (p.is_open()) throw std::logic_error("in the coroutine");
            }(std::move(peer));
        },
        net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 5);
    tests::run_until(io, [&] { return acceptor.census().ended() == 5; });
    std::vector<tcp::endpoint> expected;
    for (const auto& client : clients)
        expected.push_back(client.local_endpoint());
    std::ranges::sort(failed);
    std::ranges::sort(expected);
    CHECK(failed == expected);
    CHECK(acceptor.census().ended(close_reason::exception) == 5);
    acceptor.close();
    tests::run(io);
}

TEST_CASE("a handler may be a plain callable that keeps the connection")
{
    net::io_context io;
    std::vector<connection> kept;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 2}};
    acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return kept.size() == 2; });
    CHECK(acceptor.census().live() == 2);
    kept.erase(kept.begin());
    tests::run_until(io, [&] { return kept.size() == 2; });
    acceptor.close();
    tests::run(io);
}

TEST_CASE("100 idle sessions drain long before a deadline of 30 seconds, and none is aborted")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 200}};
    int notified = 0;
    acceptor.async_serve(
        [&](connection peer) -> net::awaitable<void> {
            return [](connection p, int& count) -> net::awaitable<void> {
                holdfast::frame_reader lines{p.stream()};
                while (co_await lines.async_next()) {
                }
                count += p.draining() ? 1 : 0;
                error_code ec;
                co_await net::async_write(p.stream(), net::buffer("bye\n", 4),
                                          net::redirect_error(net::use_awaitable, ec));
                CHECK_FALSE(ec); // writing still works
                co_await p.async_close(short_close);
            }(std::move(peer), notified);
        },
        net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 100);
    tests::run_until(io, [&] { return acceptor.census().live() == 100; });
    const auto start = std::chrono::steady_clock::now();
    std::optional<std::size_t> aborted;
    acceptor.async_drain({.deadline = 30s}, [&](error_code ec, std::size_t n) {
        CHECK_FALSE(ec);
        aborted = n;
    });
    tests::run(io);
    CHECK(aborted == 0U);
    CHECK(notified == 100);
    CHECK(acceptor.census().ended(close_reason::drained) == 100);
    CHECK(std::chrono::steady_clock::now() - start < 15s); // not the deadline's doing
    for (auto& client : clients) {
        std::string last;
        error_code ec;
        net::read(client, net::dynamic_buffer(last), ec);
        CHECK(last == "bye\n");
        CHECK(ec == net::error::eof);
    }
}

TEST_CASE("a drain aborts the remaining sessions at the deadline, and counts them")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 10}};
    std::vector<connection> stubborn;
    acceptor.async_serve([&](connection peer) { stubborn.push_back(std::move(peer)); }, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return stubborn.size() == 3; });
    std::optional<std::size_t> aborted;
    acceptor.async_drain({.deadline = 20ms}, [&](error_code, std::size_t n) { aborted = n; });
    tests::run_until(io, [&] { return aborted.has_value(); });
    CHECK(aborted == 3U);
    stubborn.clear();
    CHECK(acceptor.census().ended(close_reason::drain_deadline) == 3);
    for (auto& client : clients)
        CHECK(closed_by_server(client));
    tests::run(io);
}

TEST_CASE("a connection accepted just as a drain begins is served and notified, the others stay in the backlog")
{
    // On several threads a new client can be accepted while the drain already runs on the acceptor's strand.
    std::size_t aborted = 0;
    std::size_t lost = 0;
    for (int round = 0; round != 300; ++round) {
        net::io_context io(2);
        tcp::acceptor kept(io, any_port); // its backlog outlives the drain
        acceptor_type acceptor{io.get_executor(), tcp::v4(), ::dup(kept.native_handle()), {.max_connections = 100}};
        acceptor.async_serve(
            [](connection peer) -> net::awaitable<void> {
                holdfast::frame_reader lines{peer.stream()};
                co_await lines.async_next();
                co_await net::async_write(peer.stream(), net::buffer("bye\n", 4), net::use_awaitable);
            },
            net::detached);
        const auto one = std::async(std::launch::async, [&] { io.run(); });
        const auto other = std::async(std::launch::async, [&] { io.run(); });
        std::vector<tcp::socket> clients;
        for (int i = 0; i != 20; ++i) {
            if (i == 10) acceptor.async_drain({.deadline = 30s}, [&](error_code, std::size_t n) { aborted += n; });
            clients.emplace_back(io).connect(acceptor.local_endpoint());
        }
        const auto ended = other.wait_for(60s);
        io.stop();
        one.wait();
        other.wait();
        REQUIRE(ended == std::future_status::ready); // nobody stayed for ever
        for (tcp::socket& client : clients) {
            char first = 0;
            const auto n = ::recv(client.native_handle(), &first, 1, MSG_DONTWAIT);
            lost += n == 1 || (n < 0 && errno == EAGAIN) ? 0 : 1;
        }
    }
    CHECK(aborted == 0);
    CHECK(lost == 0);
}

TEST_CASE("a drain's deadline ends also a session that waits for its peer in async_close")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 10}};
    error_code result;
    acceptor.async_serve(
        [&](connection peer) -> net::awaitable<void> {
            holdfast::frame_reader lines{peer.stream()};
            co_await lines.async_next();
            co_await peer.async_close({.deadline = 1h}, net::redirect_error(net::use_awaitable, result));
        },
        net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 1); // and it never ends its own side
    tests::run_until(io, [&] { return acceptor.census().live() == 1; });
    std::optional<std::size_t> aborted;
    acceptor.async_drain({.deadline = 50ms}, [&](error_code, std::size_t n) { aborted = n; });
    tests::run(io);
    CHECK(aborted == 1U);
    CHECK(result == holdfast::errc::close_incomplete);
    CHECK(acceptor.census().ended(close_reason::drain_deadline) == 1);
}

TEST_CASE("a drain that finds a session in async_close leaves it no reason to spin")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 10}};
    bool closing = false;
    acceptor.async_serve(
        [&](connection peer) -> net::awaitable<void> {
            closing = true;
            co_await peer.async_close({.deadline = 1h});
        },
        net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return closing; });
    std::optional<std::size_t> aborted;
    acceptor.async_drain({.deadline = 20s}, [&](error_code, std::size_t n) { aborted = n; });
    CHECK(io.run_for(200ms) < 200); // it looks again every 10 ms; a spinning one runs thousands
    clients.clear();
    tests::run(io);
    CHECK(aborted == 0U);
}

TEST_CASE("a drain can be spread over a part of its deadline, and be cancelled")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 200}};
    acceptor.async_serve(listen_to, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 150);
    tests::run_until(io, [&] { return acceptor.census().live() == 150; });
    net::cancellation_signal signal;
    error_code result;
    acceptor.async_drain({.deadline = 30s, .stagger = 29s},
                         net::bind_cancellation_slot(signal.slot(), [&](error_code ec, std::size_t) { result = ec; }));
    tests::run_until(io, [&] { return acceptor.census().ended() != 0; });
    CHECK(acceptor.census().live() != 0); // the first batch only
    signal.emit(net::cancellation_type::terminal);
    tests::run_until(io, [&] { return result == net::error::operation_aborted; });
    clients.clear();
    tests::run_until(io, [&] { return acceptor.census().live() == 0; });
}

TEST_CASE("shedding ends as many sessions as it says, others with the next call, and new clients are served")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 200}};
    acceptor.async_serve(listen_to, net::detached);
    CHECK(acceptor.shed(10) == 0);
    auto clients = connect(io, acceptor.local_endpoint(), 20);
    tests::run_until(io, [&] { return acceptor.census().live() == 20; });
    CHECK(acceptor.shed(5) == 5);
    CHECK(acceptor.shed(5) == 5); // of those that are left
    tests::run_until(io, [&] { return acceptor.census().ended() == 10; });
    CHECK(acceptor.census().live() == 10);
    auto more = connect(io, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return acceptor.census().live() == 13; });
    CHECK(acceptor.shed(0) == 0);
    CHECK(acceptor.shed(100) == 13);
    CHECK(acceptor.shed(100) == 0); // each once
    tests::run_until(io, [&] { return acceptor.census().live() == 0; });
    CHECK_FALSE(acceptor.shed(1));
}

TEST_CASE("without descriptors accepting pauses, the new client waits, and is admitted when a connection ends")
{
    net::io_context io;
    int starved = 0;
    acceptor_type acceptor{
        io.get_executor(), any_port, {.max_connections = 100, .on_event = [&](const holdfast::acceptor_event& event) {
                                          CHECK(event.what == holdfast::acceptor_event::kind::starved);
                                          CHECK(event.error.value() == EMFILE);
                                          ++starved;
                                      }}};
    acceptor.async_serve(listen_to, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 2);
    tests::run_until(io, [&] { return acceptor.census().live() == 2; });
    tcp::socket new_client(io);
    new_client.open(tcp::v4());
    const descriptor_limit none(0);
    new_client.connect(acceptor.local_endpoint());
    tests::run_until(io, [&] { return starved == 4; }); // rests of 10, 20 and 40 ms lie between: no busy loop
    CHECK(acceptor.census().live() == 2);
    clients[0].close();
    tests::run_until(io, [&] { return acceptor.census().ended() == 1 && acceptor.census().live() == 2; });
    CHECK_FALSE(closed_by_server(new_client));
    clients.clear();
    new_client.close();
    tests::run_until(io, [&] { return acceptor.census().live() == 0; });
    acceptor.close();
    tests::run(io);
}

TEST_CASE("an acceptor that rests for want of descriptors wakes at once when a connection ends")
{
    net::io_context io;
    int starved = 0;
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.max_connections = 100, .on_event = [&](const holdfast::acceptor_event&) { ++starved; }}};
    std::vector<connection> sessions;
    acceptor.async_serve([&](connection peer) { sessions.push_back(std::move(peer)); }, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 2);
    tests::run_until(io, [&] { return sessions.size() == 2; });
    tcp::socket new_client(io);
    new_client.open(tcp::v4());
    const descriptor_limit none(0);
    new_client.connect(acceptor.local_endpoint());
    tests::run_until(io, [&] { return starved == 5; });
    sessions.pop_back();
    // Ready handlers only: nothing here lets a timer of the rest, 160 ms by now, expire.
    for (int turn = 0; turn != 50 && sessions.size() != 2; ++turn) {
        io.restart();
        io.poll();
    }
    CHECK(sessions.size() == 2);
}

TEST_CASE("sessions on several threads: the limit holds, and the figures add up")
{
    constexpr std::size_t limit = 20;
    constexpr std::size_t clients_each = 150;
    net::io_context io;
    std::atomic<int> inside = 0;
    std::atomic<int> most = 0;
    acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = limit}};
    acceptor.async_serve(
        [&](connection peer) {
            return [](connection p, std::atomic<int>& now, std::atomic<int>& peak) -> net::awaitable<void> {
                const int n = ++now;
                for (int seen = peak; seen < n && !peak.compare_exchange_weak(seen, n);) {
                }
                std::array<char, 16> bytes;
                error_code ec;
                co_await p.stream().async_read_some(net::buffer(bytes), net::redirect_error(net::use_awaitable, ec));
                --now; // before the end of the connection lets the next one in
            }(std::move(peer), inside, most);
        },
        net::detached);
    std::vector<std::thread> threads;
    for (int i = 0; i != 3; ++i)
        threads.emplace_back([&] { io.run(); });
    std::vector<std::thread> loads;
    for (int i = 0; i != 2; ++i)
        loads.emplace_back([where = acceptor.local_endpoint()] {
            net::io_context own;
            for (std::size_t n = 0; n != clients_each; ++n) {
                tcp::socket client(own);
                client.connect(where);
                error_code ec;
                client.write_some(net::buffer("x", 1), ec);
                std::array<char, 16> bytes;
                client.read_some(net::buffer(bytes), ec); // until the server closes
            }
        });
    for (auto& load : loads)
        load.join();
    acceptor.async_drain({.deadline = 20s}, [&](error_code, std::size_t) { acceptor.close(); });
    for (auto& thread : threads)
        thread.join();
    CHECK(most <= static_cast<int>(limit));
    CHECK(acceptor.census().live() == 0);
    CHECK(acceptor.census().ended() == 2 * clients_each);
}

TEST_CASE("what cannot be listened on, and a limit of zero, are reported at construction")
{
    net::io_context io;
    const acceptor_type acceptor{io.get_executor(), any_port};
    holdfast::acceptor_options no_sharing{.reuse_address = false};
    CHECK_THROWS_AS(acceptor_type(io.get_executor(), acceptor.local_endpoint(), no_sharing), holdfast::system_error);
    CHECK_THROWS_AS(acceptor_type(io.get_executor(), any_port, {.max_connections = 0}), std::invalid_argument);
}

TEST_CASE("the options of accepted sockets are set, and hold for what was sent before they were accepted")
{
    net::io_context io;
    acceptor_type acceptor{
        io.get_executor(), any_port, {.send_buffer_bytes = 32 * 1024, .receive_buffer_bytes = 8 * 1024}};
    auto clients = connect(io, acceptor.local_endpoint(), 1);
    clients[0].non_blocking(true);
    clients[0].write_some(net::buffer(std::string(1024 * 1024, 'x')));
    auto accepted = acceptor.async_accept(net::use_future);
    tests::run(io);
    connection peer = accepted.get();
    CHECK(peer.stream().available() > 0);
    CHECK(peer.stream().available() <= 2 * 8 * 1024);
    net::socket_base::send_buffer_size out;
    net::socket_base::receive_buffer_size in;
    tcp::no_delay no_delay;
    peer.stream().get_option(out);
    peer.stream().get_option(in);
    peer.stream().get_option(no_delay);
    CHECK(out.value() == 32 * 1024); // Asio halves what the kernel has doubled
    CHECK(in.value() == 8 * 1024);
    CHECK(no_delay.value());
}

TEST_CASE("connections in the backlog of an adopted listener get the options, as do later ones")
{
    net::io_context io;
    tcp::acceptor inherited(io, any_port);
    const auto where = inherited.local_endpoint();
    const auto early = connect(io, where, 2);
    acceptor_type acceptor{io.get_executor(), tcp::v4(), inherited.release(), {.send_buffer_bytes = 32 * 1024}};
    const auto late = connect(io, where, 1);
    const auto next_has_them = [&] {
        auto accepted = acceptor.async_accept(net::use_future);
        tests::run(io);
        connection peer = accepted.get();
        net::socket_base::send_buffer_size out;
        tcp::no_delay no_delay;
        peer.stream().get_option(out);
        peer.stream().get_option(no_delay);
        return no_delay.value() && out.value() == 32 * 1024;
    };
    CHECK(next_has_them());
    CHECK(next_has_them());
    CHECK(next_has_them());
    auto waiting = acceptor.async_accept(net::use_future); // finds the backlog empty
    io.poll();
    const auto last = connect(io, where, 1);
    tests::run(io);
    connection peer = waiting.get();
    tcp::no_delay no_delay;
    peer.stream().get_option(no_delay);
    CHECK(no_delay.value());
}

TEST_CASE("descriptors can be reserved, all of them or what the system has, and afterwards none is held")
{
    const auto open_descriptors = [] {
        std::error_code ec;
        return holdfast::read_open_descriptors(0, ec);
    };
    net::io_context io;
    const acceptor_type first{io.get_executor(),
                              any_port}; // by now the context has the descriptors that it needs itself
    const auto before = open_descriptors();
    {
        acceptor_type acceptor{io.get_executor(), any_port, {.max_connections = 500, .reserve_descriptors = true}};
        CHECK(open_descriptors() == before + 1); // the listener
        auto clients = connect(io, acceptor.local_endpoint(), 1);
        auto accepted = acceptor.async_accept(net::use_future);
        tests::run(io);
        CHECK(accepted.get().is_open());
    }
    io.poll();
    const auto left = open_descriptors();
    {
        const descriptor_limit few(20);
        const acceptor_type acceptor{
            io.get_executor(), any_port, {.max_connections = 500, .reserve_descriptors = true}};
        CHECK(open_descriptors() == left + 1);
    }
}

TEST_CASE("local sockets are admitted as TCP ones are, and have no address to be limited by")
{
    using local = net::local::stream_protocol;
    net::io_context io;
    const std::string path = "/tmp/holdfast-test-" + std::to_string(::getpid());
    holdfast::bounded_acceptor<local> acceptor{
        io.get_executor(),
        local::endpoint(path),
        {.max_connections = 2, .max_per_address = 1, .send_buffer_bytes = 20'000, .receive_buffer_bytes = 30'000}};
    std::vector<holdfast::bounded_acceptor<local>::connection_type> kept;
    acceptor.async_serve([&](auto peer) { kept.push_back(std::move(peer)); }, net::detached);
    local::socket client(io), another(io);
    client.connect(local::endpoint(path));
    another.connect(local::endpoint(path));
    tests::run_until(io, [&] { return kept.size() == 2; });
    CHECK(acceptor.addresses() == 0);
    net::socket_base::send_buffer_size out;
    net::socket_base::receive_buffer_size in;
    kept.back().stream().get_option(out);
    kept.back().stream().get_option(in);
    CHECK(out.value() == 20'000);
    CHECK(in.value() == 30'000);
    ::unlink(path.c_str());
    acceptor.close();
    tests::run(io);
}

TEST_CASE("a socket that listens already is adopted, with the new clients that wait in its backlog")
{
    net::io_context io;
    tcp::acceptor inherited(io, any_port);
    const auto where = inherited.local_endpoint();
    tcp::socket early(io);
    early.connect(where); // before there is any server
    const int copy = ::dup(inherited.native_handle());
    {
        acceptor_type acceptor{io.get_executor(), tcp::v4(), copy, {.max_connections = 2}};
        CHECK(acceptor.local_endpoint() == where);
        acceptor.async_serve(listen_to, net::detached);
        tests::run_until(io, [&] { return acceptor.census().live() == 1; });
        acceptor.close();
        early.close();
        tests::run(io);
    }
    CHECK_FALSE(tests::is_open_descriptor(copy));
    CHECK(tests::is_open_descriptor(inherited.native_handle()));
    tcp::socket late(io);
    late.connect(where); // the service manager's own descriptor keeps the backlog open
}

TEST_CASE("what is no listening socket is refused at construction, and left to the caller")
{
    net::io_context io;
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    CHECK_THROWS_AS((acceptor_type{io.get_executor(), tcp::v4(), ends[0]}), holdfast::system_error);
    CHECK(tests::is_open_descriptor(ends[0]));
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("two drains at once wait side by side, each for its own deadline, without waking one another")
{
    net::io_context io;
    acceptor_type acceptor{io.get_executor(), any_port};
    std::vector<connection> kept; // nobody ends it
    acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    auto clients = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return kept.size() == 1; });
    std::vector<std::size_t> aborted;
    const auto note = [&](error_code ec, std::size_t n) {
        CHECK_FALSE(ec);
        aborted.push_back(n);
    };
    acceptor.async_drain({.deadline = 40ms}, note);
    acceptor.async_drain({.deadline = 20ms}, note);
    std::size_t turns = 0;
    const auto limit = std::chrono::steady_clock::now() + 30s;
    while (aborted.size() != 2 && std::chrono::steady_clock::now() < limit)
        turns += io.run_one_for(1s);
    CHECK(aborted == std::vector<std::size_t>{1, 1});
    CHECK(turns < 200); // it takes some 20
}

TEST_CASE("an acceptor may go while nothing but its own interrupted wait is left of it")
{
    net::io_context io;
    error_code ended;
    net::cancellation_signal stop; // must outlive the operation, as with all of Asio's
    {
        acceptor_type acceptor{io.get_executor(), any_port};
        acceptor.async_accept(net::bind_cancellation_slot(stop.slot(), [&](error_code ec, connection) { ended = ec; }));
        io.poll();
        stop.emit(net::cancellation_type::terminal);
    }
    tests::run(io);
    CHECK(ended == net::error::operation_aborted);
}

namespace {

/// A finalizer that can't be copied while `refuses`: memory has run out.
struct costly {
    bool* refuses;

    explicit costly(bool* r) : refuses(r) {}
    costly(const costly& other) : refuses(other.refuses)
    {
        if (*refuses) {
            *refuses = false;
            throw std::bad_alloc();
        }
    }
    costly(costly&&) noexcept = default;
    costly& operator=(costly&&) noexcept = default;
    void operator()(const holdfast::connection_end&) const noexcept {}
};

} // namespace

TEST_CASE("a new client without memory for its finalizer leaves no trace, and the next one is admitted")
{
    net::io_context io;
    bool refuses = false;
    using costly_acceptor = holdfast::bounded_acceptor<tcp, costly>;
    costly_acceptor acceptor{
        io.get_executor(), any_port, {.max_connections = 1, .max_per_address = 1}, costly(&refuses)};
    std::optional<costly_acceptor::connection_type> kept;
    acceptor.async_accept([&](error_code ec, costly_acceptor::connection_type peer) {
        CHECK_FALSE(ec);
        kept.emplace(std::move(peer));
    });
    refuses = true;
    auto first = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return closed_by_server(first[0]); });
    CHECK_FALSE(refuses);
    CHECK(acceptor.addresses() == 0);
    auto second = connect(io, acceptor.local_endpoint(), 1);
    tests::run_until(io, [&] { return kept.has_value(); });
    CHECK(acceptor.census().live() == 1);
    CHECK(acceptor.census().ended() == 0);
    kept.reset();
    CHECK(acceptor.census().live() == 0);
}
