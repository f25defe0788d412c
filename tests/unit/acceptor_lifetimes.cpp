// holdfast: on which threads does an acceptor work, and what may be destroyed before what? Sanitizers watch.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using holdfast::acceptor_options;
using holdfast::close_reason;
using holdfast::errc;
using holdfast::error_code;
using holdfast::overload_policy;
using tests::connect, tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

net::awaitable<void> read_to_end(connection peer)
{
    std::array<char, 64> bytes;
    error_code ec;
    while (!ec)
        co_await peer.stream().async_read_some(net::buffer(bytes), net::redirect_error(net::use_awaitable, ec));
}

bool can_listen(const tcp::endpoint& at)
{
    net::io_context io;
    tcp::acceptor other(io, tcp::v4());
    error_code ec;
    other.set_option(net::socket_base::reuse_address(true));
    other.bind(at, ec);
    if (!ec) other.listen(1, ec);
    return !ec;
}

/// Destroys an acceptor's context while a session, a client in the backlog and a drain wait; then the acceptor.
template <class Executor, class Make>
void destroy_context_first(Make make_executor)
{
    for (const bool drains : {false, true}) {
        using acceptor_type = holdfast::bounded_acceptor<tcp, holdfast::no_finalizer, Executor>;
        net::io_context own;
        auto io = std::make_unique<net::io_context>();
        std::optional<acceptor_type> accepting(std::in_place, Executor(make_executor(*io)), any_port,
                                               acceptor_options{.max_connections = 1});
        accepting->async_serve(
            [](typename acceptor_type::connection_type peer) -> net::awaitable<void> {
                char byte = 0;
                co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
            },
            net::detached);
        auto clients = connect(own, accepting->local_endpoint(), 2);
        const auto census = accepting->census();
        tests::run_until(*io, [&] { return census.live() == 1; });
        if (drains) accepting->async_drain(net::detached);
        io.reset();
        CHECK(census.live() == 0);
        CHECK(census.ended(close_reason::context_destroyed) == 1);
        accepting->close();
    }
}

struct call_at_end {
    std::function<void()>* function;
    void operator()(const holdfast::connection_end&) const noexcept { (*function)(); }
};

} // namespace

TEST_CASE("the port is free when close() returns, also inside a session handler, an event hook or a completion")
{
    for (const bool destroyed : {false, true}) {
        net::io_context io;
        std::optional<acceptor> accepting(std::in_place, io, any_port);
        const auto at = accepting->local_endpoint();
        const auto stop = [&] {
            if (destroyed)
                accepting.reset();
            else
                accepting->close();
        };
        error_code served = net::error::fault;
        bool was_free = false;
        accepting->async_serve(
            [&](connection) {
                stop();
                was_free = can_listen(at);
            },
            [&](error_code ec) { served = ec; });
        auto clients = connect(io, at, 3);
        tests::run(io);
        CHECK(was_free);
        CHECK_FALSE(served);

        accepting.emplace(io, any_port, acceptor_options{.max_connections = 1, .on_event = [&](const auto&) {
                                                             const auto here = accepting->local_endpoint();
                                                             stop();
                                                             was_free = can_listen(here);
                                                         }});
        was_free = false;
        std::vector<connection> kept;
        accepting->async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
        clients = connect(io, accepting->local_endpoint(), 1);
        io.restart();
        tests::run(io);
        CHECK(was_free);

        accepting.emplace(io, any_port);
        was_free = false;
        accepting->async_accept([&](error_code, const connection&) {
            const auto here = accepting->local_endpoint();
            stop();
            was_free = can_listen(here);
        });
        clients = connect(io, accepting->local_endpoint(), 1);
        io.restart();
        tests::run(io);
        CHECK(was_free);
    }
}

TEST_CASE("handlers and hooks run on threads of the executor only, wherever it is closed or cancelled")
{
    net::io_context io, own;
    std::atomic<std::thread::id> executor_thread;
    std::atomic<int> calls = 0, elsewhere = 0;
    const auto called = [&] {
        ++calls;
        if (std::this_thread::get_id() != executor_thread.load()) ++elsewhere;
    };
    auto keep = net::make_work_guard(io);
    std::thread runner([&] {
        executor_thread = std::this_thread::get_id();
        io.run();
    });
    while (executor_thread.load() == std::thread::id())
        std::this_thread::yield();
    for (int round = 0; round != 100; ++round) {
        acceptor accepting{io, any_port, {.max_connections = 2, .on_event = [&](const auto&) { called(); }}};
        std::atomic<int> done = 0;
        net::cancellation_signal stop;
        accepting.async_serve([&](connection) { called(); },
                              [&](error_code) {
                                  called();
                                  ++done;
                              });
        accepting.async_accept(net::bind_cancellation_slot(
            stop.slot(), net::bind_executor(own, [&](error_code, const connection&) { ++done; })));
        auto clients = connect(own, accepting.local_endpoint(), 3);
        if (round % 2 == 0) stop.emit(net::cancellation_type::terminal);
        if (round % 3 == 0) accepting.async_drain([&](error_code, std::size_t) { called(); });
        accepting.close();
        while (done != 2) {
            own.restart();
            own.poll();
        }
    }
    keep.reset();
    runner.join();
    CHECK(calls >= 100);
    CHECK(elsewhere == 0);
}

TEST_CASE("sessions on other contexts may outlive the acceptor's context, and end after it")
{
    for (const bool acceptor_first : {true, false}) {
        net::io_context clients_io;
        std::vector<tcp::socket> clients;
        std::atomic<int> failures = 0;
        auto first = std::make_unique<net::io_context>();
        auto second = std::make_unique<net::io_context>();
        auto accepting = std::make_unique<acceptor>(
            *first, any_port,
            acceptor_options{.next_executor = [&] { return holdfast::connection_placement(second->get_executor(), 1); },
                             .on_event = [&](const holdfast::acceptor_event&) { ++failures; }});
        const auto census = accepting->census();
        std::vector<std::size_t> shards;
        accepting->async_serve(
            [&](connection peer, std::size_t shard) -> net::awaitable<void> {
                shards.push_back(shard);
                std::array<char, 64> bytes;
                try {
                    co_await peer.stream().async_read_some(net::buffer(bytes), net::use_awaitable);
                } catch (const holdfast::system_error&) { // the client has left, which is no failure of a session
                }
                throw std::runtime_error("a session fails");
            },
            net::detached);
        std::optional<std::size_t> aborted;
        clients = connect(clients_io, accepting->local_endpoint(), 3);
        for (int i = 0; i != 1000 && census.live() != 3; ++i)
            first->run_one_for(10ms);
        second->poll();
        CHECK(shards == std::vector<std::size_t>{1, 1, 1});
        accepting->async_drain([&](error_code, std::size_t n) { aborted = n; });
        if (acceptor_first) accepting.reset();
        first.reset();
        second->restart();
        for (auto& client : clients)
            client.close();
        tests::run_until(*second, [&] { return census.live() == 0; });
        CHECK(failures == 3);
        CHECK_FALSE(aborted); // its context has ended
        accepting.reset();
    }
}

TEST_CASE("a vector of contexts is destroyed in any order under an acceptor with pending operations")
{
    for (const std::size_t home : {0U, 1U, 2U}) {
        net::io_context clients_io;
        std::vector<std::unique_ptr<net::io_context>> contexts;
        for (int i = 0; i != 3; ++i)
            contexts.push_back(std::make_unique<net::io_context>());
        std::size_t next = 0;
        std::optional<acceptor> accepting(std::in_place, *contexts[home], any_port,
                                          acceptor_options{.max_connections = 6, .next_executor = [&] {
                                                               const std::size_t shard = next++ % contexts.size();
                                                               return holdfast::connection_placement(
                                                                   contexts[shard]->get_executor(), shard);
                                                           }});
        accepting->async_serve(read_to_end, net::detached);
        auto clients = connect(clients_io, accepting->local_endpoint(), 7); // one waits for a permit
        for (int i = 0; i != 1000 && accepting->census().live() != 6; ++i)
            contexts[home]->run_one_for(10ms);
        for (auto& each : contexts) {
            each->restart();
            each->poll();
        }
        accepting->async_drain({.stagger = 1s}, net::detached);
        const auto census = accepting->census();
        contexts.clear();
        CHECK(census.live() == 0);
        accepting->close();
    }
}

TEST_CASE("an acceptor may outlive its context, also where its executor is a strand")
{
    using executor = net::io_context::executor_type;
    using any = net::any_io_executor;
    destroy_context_first<any>([](net::io_context& io) { return io.get_executor(); });
    destroy_context_first<any>([](net::io_context& io) { return net::make_strand(io); });
    destroy_context_first<any>([](net::io_context& io) { return net::make_strand(any(io.get_executor())); });
    destroy_context_first<net::strand<executor>>([](net::io_context& io) { return net::make_strand(io); });
    destroy_context_first<net::strand<any>>([](net::io_context& io) { return net::strand<any>(io.get_executor()); });
}

TEST_CASE("a connection that waits for an operation ends with its context, and its finalizer may destroy the acceptor")
{
    using acceptor_type = holdfast::bounded_acceptor<tcp, call_at_end>;
    std::optional<acceptor_type> accepting;
    net::io_context own;
    auto io = std::make_unique<net::io_context>();
    net::cancellation_signal stop;
    int completed = 0;
    const auto cancel = [&](const net::ip::address&) { // when it is accepted, but not yet admitted
        stop.emit(net::cancellation_type::terminal);
        io->poll();
        own.poll();
        return holdfast::address_rule::limit;
    };
    int ended = 0;
    std::function<void()> at_end = [&] {
        ++ended;
        accepting.reset();
    };
    accepting.emplace(*io, any_port, acceptor_options{.address_filter = cancel}, call_at_end{&at_end});
    accepting->async_accept(net::bind_cancellation_slot(
        stop.slot(), net::bind_executor(own, [&](error_code ec, const acceptor_type::connection_type&) {
            CHECK(ec == net::error::operation_aborted);
            ++completed;
        })));
    auto clients = connect(own, accepting->local_endpoint(), 1);
    const auto census = accepting->census();
    tests::run_until(*io, [&] { return census.live() == 1; });
    CHECK(completed == 1);
    io.reset();
    CHECK(census.live() == 0);
    CHECK(ended == 1);
    CHECK_FALSE(accepting);
}

TEST_CASE("each callback of an acceptor may destroy, close, drain or cancel it, or start another operation")
{
    enum class from { address_filter, limit_event, failure_event, next_executor, finalizer, session };
    enum class act { destroy, close, drain, cancel, accept };
    using acceptor_type = holdfast::bounded_acceptor<tcp, call_at_end>;
    for (const from where : {from::address_filter, from::limit_event, from::failure_event, from::next_executor,
                             from::finalizer, from::session})
        for (const act what : {act::destroy, act::close, act::drain, act::cancel, act::accept}) {
            INFO("callback " << static_cast<int>(where) << ", action " << static_cast<int>(what));
            net::io_context io;
            std::vector<tcp::socket> clients;
            std::vector<acceptor_type::connection_type> kept;
            net::cancellation_signal stop;
            int acted = 0, served = 0, drained = 0, accepted = 0;
            std::optional<acceptor_type> accepting;
            const auto called = [&](from here) {
                if (here != where || acted++ != 0) return;
                switch (what) {
                case act::destroy:
                    accepting.reset();
                    break;
                case act::close:
                    accepting->close();
                    break;
                case act::drain:
                    accepting->async_drain({.deadline = 1s}, [&](error_code, std::size_t) { ++drained; });
                    break;
                case act::cancel:
                    stop.emit(net::cancellation_type::terminal);
                    break;
                case act::accept:
                    accepting->async_accept([&](error_code, const acceptor_type::connection_type&) { ++accepted; });
                    break;
                }
            };
            std::function<void()> at_end = [&] { called(from::finalizer); };
            acceptor_options options;
            options.max_connections = 1;
            options.address_filter = [&](const net::ip::address&) {
                called(from::address_filter);
                return holdfast::address_rule::limit;
            };
            options.next_executor = [&]() -> holdfast::connection_placement {
                called(from::next_executor);
                return {io.get_executor()};
            };
            options.on_event = [&](const holdfast::acceptor_event& event) {
                called(event.what == holdfast::acceptor_event::kind::session_failed ? from::failure_event
                                                                                    : from::limit_event);
            };
            accepting.emplace(io, any_port, std::move(options), call_at_end{&at_end});
            accepting->async_serve(
                [&](acceptor_type::connection_type peer) -> net::awaitable<void> {
                    called(from::session);
                    if (where == from::failure_event) throw std::runtime_error("a session's failure");
                    if (where == from::limit_event) kept.push_back(std::move(peer));
                    co_return;
                },
                net::bind_cancellation_slot(stop.slot(), [&](error_code) { ++served; }));
            clients = connect(io, accepting->local_endpoint(), 2);
            tests::run_until(io, [&] { return acted != 0; });
            kept.clear();
            io.restart();
            for (int i = 0; i != 20; ++i)
                io.poll();
            if (accepting) accepting->close();
            kept.clear();
            io.restart();
            tests::run(io);
            kept.clear();
            CHECK(served == 1);
            CHECK(drained == (what == act::drain ? 1 : 0));
            CHECK(accepted == (what == act::accept ? 1 : 0));
        }
}

TEST_CASE("a shared semaphore may be destroyed while the acceptor waits in it, and before the sessions end")
{
    net::io_context io;
    std::vector<connection> kept;
    std::optional<acceptor> accepting;
    error_code served = net::error::fault;
    {
        holdfast::async_semaphore semaphore(io.get_executor(), 1);
        accepting.emplace(io, any_port, acceptor_options{.connection_semaphore = &semaphore});
        accepting->async_serve([&](connection peer) { kept.push_back(std::move(peer)); },
                               [&](error_code ec) { served = ec; });
        auto clients = connect(io, accepting->local_endpoint(), 2);
        tests::run_until(io, [&] { return kept.size() == 1 && semaphore.waiting() == 1; });
    }
    tests::run_until(io, [&] { return served != net::error::fault; });
    CHECK(served == errc::semaphore_closed);
    accepting.reset();
    kept.clear();
    tests::run(io);
}

TEST_CASE("a shared semaphore may be destroyed after the acceptor object and before its sessions")
{
    net::io_context io;
    std::vector<connection> kept;
    auto semaphore = std::make_unique<holdfast::async_semaphore>(io.get_executor(), 2);
    auto accepting =
        std::make_unique<acceptor>(io, any_port, acceptor_options{.connection_semaphore = semaphore.get()});
    error_code served = net::error::fault;
    accepting->async_serve([&](connection peer) { kept.push_back(std::move(peer)); },
                           [&](error_code ec) { served = ec; });
    auto clients = connect(io, accepting->local_endpoint(), 3);
    tests::run_until(io, [&] { return kept.size() == 2 && semaphore->waiting() == 1; });
    const bool runs_between = GENERATE(false, true);
    accepting.reset();
    if (runs_between) io.poll();
    semaphore.reset();
    if (runs_between) io.poll();
    CHECK(kept[0].is_open());
    clients[0].close();
    kept.clear();
    tests::run(io);
    CHECK_FALSE(served); // the acceptor was closed by its end
}

TEST_CASE("close and drains race with permits that other threads return")
{
    for (int round = 0; round != 200; ++round) {
        net::io_context io;
        holdfast::async_semaphore semaphore(io.get_executor(), 1);
        acceptor accepting{io, any_port, {.connection_semaphore = &semaphore}};
        auto taken = semaphore.try_acquire();
        accepting.async_serve(read_to_end, net::detached);
        net::io_context clients_io;
        auto clients = connect(clients_io, accepting.local_endpoint(), 1);
        std::vector<std::thread> threads;
        for (int i = 0; i != 2; ++i)
            threads.emplace_back([&] { io.run(); });
        std::thread closing([&] {
            if (round % 2 == 0)
                accepting.close();
            else
                accepting.async_drain({.deadline = 0s}, net::detached);
        });
        taken.release();
        closing.join();
        clients.clear();
        for (auto& each : threads)
            each.join();
        CHECK(semaphore.in_use() == 0);
    }
}

TEST_CASE("connections are rejected on several threads at once without a race")
{
    net::io_context io;
    acceptor accepting{io,
                       any_port,
                       {.max_connections = 1,
                        .on_connection_limit = overload_policy::reject,
                        .reject_message = "full\n",
                        .reject_deadline = 5ms}};
    std::vector<connection> kept;
    accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    std::vector<std::thread> threads;
    for (int i = 0; i != 3; ++i)
        threads.emplace_back([&] { io.run(); });
    net::io_context own;
    for (int round = 0; round != 30; ++round) {
        auto clients = connect(own, accepting.local_endpoint(), 10);
        for (auto& client : clients) {
            error_code ec;
            client.write_some(net::buffer("hello", 5), ec);
        }
    }
    while (accepting.rejected() != 299)
        std::this_thread::yield();
    accepting.close();
    for (auto& each : threads)
        each.join();
    CHECK(kept.size() == 1);
}

TEST_CASE("a connection that is admitted just as its operation is cancelled is for the next one, or is closed")
{
    for (int round = 0; round != 300; ++round) {
        net::io_context io, own;
        acceptor accepting{io, any_port};
        auto keep = net::make_work_guard(io);
        std::thread runner([&] { io.run(); });
        net::cancellation_signal stop;
        int completed = 0;
        std::size_t got = 0;
        const auto accept = [&] {
            accepting.async_accept(
                net::bind_cancellation_slot(stop.slot(), net::bind_executor(own, [&](error_code ec, connection) {
                                                ++completed;
                                                got += ec ? 0 : 1;
                                            })));
        };
        accept();
        auto clients = connect(own, accepting.local_endpoint(), 1);
        stop.emit(net::cancellation_type::terminal);
        tests::run_until(own, [&] { return completed == 1; });
        if (got == 0 && round % 2 == 0) {
            accept();
            tests::run_until(own, [&] { return completed == 2; });
            CHECK(got == 1);
        }
        accepting.close();
        keep.reset();
        runner.join();
        CHECK(accepting.census().live() == 0);
    }
}
