// holdfast: tests of the reason that connections are given when their execution context is destroyed, wherever their
// sessions wait.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/experimental/channel.hpp>
#else
#include <asio/experimental/channel.hpp>
#endif

#include <csignal>
#include <memory>
#include <optional>
#include <utility>

using holdfast::close_reason;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct keep_reason {
    close_reason* reason;
    void operator()(const holdfast::connection_end& end) const noexcept { *reason = end.reason; }
};

using guard = holdfast::connection_guard<tcp::socket, keep_reason>;

net::awaitable<void> wait_for_a_signal(guard)
{
    net::signal_set signals(co_await net::this_coro::executor, SIGUSR2);
    co_await signals.async_wait(net::use_awaitable);
}

using channel = net::experimental::channel<void(holdfast::error_code, int)>;

net::awaitable<void> wait_in_a_channel(guard)
{
    channel messages(co_await net::this_coro::executor);
    co_await messages.async_receive(net::use_awaitable);
}

net::awaitable<void> wait_on_a_strand(guard)
{
    const auto strand = net::make_strand(co_await net::this_coro::executor);
    co_await net::post(strand, net::use_awaitable);
}

/// Runs a session until it waits, then destroys its context.
template <class Session, class Before>
close_reason reason_at_the_end(Session session, Before before)
{
    close_reason reason = close_reason::none;
    net::io_context clients;
    std::optional<net::io_context> io(std::in_place);
    before(*io);
    auto [server, client] = tests::socket_pair(*io, clients);
    net::co_spawn(*io, session(guard(std::move(server), keep_reason{&reason})), net::detached);
    io->run_one();
    CHECK(reason == close_reason::none);
    io.reset();
    return reason;
}

} // namespace

TEST_CASE("a session that waits for a signal ends for its context's end")
{
    CHECK(reason_at_the_end(wait_for_a_signal, [](net::io_context&) {}) == close_reason::context_destroyed);
}

TEST_CASE("a session that waits in a channel ends for its context's end")
{
    CHECK(reason_at_the_end(wait_in_a_channel, [](net::io_context&) {}) == close_reason::context_destroyed);
}

namespace {

/// A handler that owns a connection waits in a channel when its context is destroyed.
close_reason reason_of_handler(bool has_channel_before)
{
    close_reason reason = close_reason::none;
    net::io_context clients;
    std::optional<net::io_context> io(std::in_place);
    if (has_channel_before) const channel first(*io);
    auto [server, client] = tests::socket_pair(*io, clients);
    guard owned(std::move(server), keep_reason{&reason});
    auto owner = std::make_shared<channel>(*io); // the handler: a channel does not outlive its context
    channel& messages = *owner;
    messages.async_receive([peer = std::move(owned), owner = std::move(owner)](holdfast::error_code, int) {});
    io->poll();
    CHECK(reason == close_reason::none);
    io.reset();
    return reason;
}

} // namespace

TEST_CASE("a handler that waits in a channel and owns a connection: its reason is the context's end, if that had one")
{
    CHECK(reason_of_handler(true) == close_reason::context_destroyed);
    // Not what one would want: Asio destroys the wait before any service of ours is told of the end.
    CHECK(reason_of_handler(false) == close_reason::abandoned);
}

TEST_CASE("a session in a strand's queue ends for its context's end, though the strand is younger than the connection")
{
    CHECK(reason_at_the_end(wait_on_a_strand, [](net::io_context&) {}) == close_reason::context_destroyed);
}
