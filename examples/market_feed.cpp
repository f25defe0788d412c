// holdfast: market_feed, a push server whose memory has a bound: snapshot on connect, then what
// changes, for hours.
// SPDX-License-Identifier: BSL-1.0
//
// The protocol stands in support/feed_options.hpp; naive_feed.cpp does the same job the usual way. What keeps
// the memory bounded here:
//   - bounded_acceptor: at most --max-connections are let in, the others wait in the backlog;
//   - connection: closed on every path, and counted;
//   - async_write_streamed: a snapshot is made while it is sent, one chunk at a time;
//   - one number a session, the version it knows, instead of a queue: a slow client skips what is outdated;
//   - heartbeat_timer: one timer for all; who is silent is dropped.
#include "support/admin_socket.hpp"
#include "support/feed_options.hpp"

#include <holdfast/holdfast.hpp>
#include <holdfast/serialize/simdjson.hpp>

#include <array>
#include <csignal>
#include <iostream>
#include <optional>

#include <malloc.h>
#include <unistd.h>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;
using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;
using holdfast::async_write_streamed, holdfast::ndjson;

namespace {

struct ping {
    std::uint64_t number;
};
constexpr auto describe(holdfast::type<ping>)
{
    return holdfast::fields(holdfast::field("ping", &ping::number));
}

/// What all sessions share. Everything runs on one thread.
struct feed {
    feed(net::io_context& io, const examples::feed_options& opts)
        : options(opts),
          market(opts.instruments),
          heart(io.get_executor(), {.tick = heart_tick, .timeout = opts.timeout}),
          pulse(io, net::steady_timer::time_point::max()),
          clock(io)
    {
        if (!opts.document.empty()) document = examples::load_document(opts.document);
    }

    static constexpr std::chrono::milliseconds heart_tick{250};

    const examples::feed_options options;
    examples::market market;
    std::optional<examples::json_document> document;
    holdfast::heartbeat_timer<> heart;
    net::steady_timer pulse; // never expires: cancelling it wakes all sessions at once
    net::steady_timer clock;
    std::uint64_t snapshots = 0; // sent in full
    bool draining = false;
};

/// Reads and drops what the client sent: its content does not matter, but it is a sign of life. False at the
/// end.
bool still_there(tcp::socket& socket, holdfast::heartbeat& beat)
{
    for (;;) {
        std::array<char, 256> waste;
        holdfast::error_code ec;
        if (socket.read_some(net::buffer(waste), ec) != 0)
            beat.touch();
        else if (ec == net::error::would_block)
            return true;
        else
            return false;
    }
}

/// One client: its only reader and writer, so nothing is queued and nothing interleaves.
net::awaitable<void> serve(connection peer, feed& f)
{
    peer.stream().non_blocking(true);
    auto beat = f.heart.watch(peer);
    const auto chunk = static_cast<std::size_t>(f.options.chunk.value);
    std::uint64_t version = f.market.version();

    // A slow download is alive as long as the socket takes bytes: progress touches the heartbeat.
    if (f.document)
        co_await async_write_streamed<ndjson>(peer.stream(), f.document->root,
                                              {.chunk_bytes = chunk, .progress = beat});
    else
        co_await async_write_streamed<ndjson>(peer.stream(), f.market.snapshot(),
                                              {.chunk_bytes = chunk, .progress = beat});

    ++f.snapshots;
    const auto ping_after = static_cast<std::uint16_t>(f.options.ping_after / feed::heart_tick);
    for (std::uint64_t pings = 0; still_there(peer.stream(), beat);) {
        if (const auto changes = f.market.changed_since(version); !changes.empty()) {
            version = changes.version();
            co_await async_write_streamed<ndjson>(peer.stream(), changes, {.chunk_bytes = chunk});
        }
        if (beat.age() >= ping_after)
            co_await async_write_streamed<ndjson>(peer.stream(), ping{++pings}, {.chunk_bytes = 64});
        holdfast::error_code woken;
        co_await f.pulse.async_wait(net::redirect_error(net::use_awaitable, woken));
    }
    co_await peer.async_close();
}

/// Moves the market and wakes the sessions. After a burst of snapshots or departures it gives the freed
/// memory back to the system: malloc would keep the burst's peak for ever.
net::awaitable<void> run_clock(feed& f, holdfast::census members)
{
    for (std::uint64_t trimmed_at = 0;;) {
        f.clock.expires_after(f.draining ? 50ms : std::chrono::milliseconds(examples::tick_period));
        holdfast::error_code hurried;
        co_await f.clock.async_wait(net::redirect_error(net::use_awaitable, hurried));
        f.market.tick(f.options.rate);
        f.pulse.cancel();
        if (const std::uint64_t freed = f.snapshots + members.ended(); freed != trimmed_at) {
            ::malloc_trim(0);
            trimmed_at = freed;
        }
    }
}

void print_state(const holdfast::census& members)
{
    members.report(std::cout);
    std::error_code ec;
    std::cout << "RssAnon " << holdfast::read_process_memory(::getpid(), ec).rss_anon / 1024 << " KiB"
              << std::endl;
}

/// SIGUSR1 prints who is there; SIGINT and SIGTERM drain, a second one ends at once.
net::awaitable<void> handle_signals(net::io_context& io, feed& f, acceptor& doors,
                                    std::chrono::milliseconds drain_deadline)
{
    net::signal_set signals(io, SIGINT, SIGTERM, SIGUSR1);
    for (;;) {
        const int signal = co_await signals.async_wait(net::use_awaitable);
        if (signal == SIGUSR1) {
            print_state(doors.census());
            continue;
        }
        if (f.draining) break;
        f.draining = true;
        std::cout << "market_feed: draining " << doors.census().live() << " connections" << std::endl;
        doors.async_drain({.deadline = drain_deadline}, [&io](holdfast::error_code, std::size_t aborted) {
            std::cout << "market_feed: drained, " << aborted << " aborted" << std::endl;
            io.stop();
        });
        f.clock.cancel();
    }
    io.stop();
}

int run(int argc, char** argv)
{
    examples::feed_options options;
    std::chrono::milliseconds drain_deadline{10'000};
    std::string admin_path;
    examples::command_line cli{"market_feed", "A push server of market data whose memory is bounded."};
    examples::add_options(cli, options);
    cli.add("drain", drain_deadline, "TIME",
            "after SIGTERM, wait so long for clients before they are aborted");
    cli.add("admin", admin_path, "PATH", "a local socket that answers who is there, as JSON; empty: none");
    if (!cli.parse(argc, argv)) return 0;
    examples::check(options);
    const auto endpoint = examples::listen_endpoint(options.address, options.port);
    examples::require_descriptors(options.max_connections + examples::spare_descriptors);

    net::io_context io(1);
    feed f(io, options);
    std::optional<acceptor> doors;
    try {
        doors.emplace(
            io.get_executor(), endpoint,
            holdfast::acceptor_options{.max_connections = options.max_connections,
                                       .send_buffer_bytes = static_cast<int>(options.send_buffer.value),
                                       .receive_buffer_bytes = 4096,
                                       .reserve_descriptors = true});
    } catch (const holdfast::system_error& error) {
        throw examples::usage_error(examples::listen_error(error.code(), endpoint));
    }
    std::optional<examples::admin_socket> admin;
    if (!admin_path.empty()) admin.emplace(io, admin_path, doors->census(), f.heart);
    doors->async_serve([&](connection peer) { return serve(std::move(peer), f); }, net::detached);
    net::co_spawn(io, run_clock(f, doors->census()), net::detached);
    net::co_spawn(io, handle_signals(io, f, *doors, drain_deadline), net::detached);
    std::cout << "market_feed: listening on " << doors->local_endpoint() << ", pid " << ::getpid()
              << std::endl;
    io.run();
    print_state(doors->census());
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
