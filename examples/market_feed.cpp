// holdfast: market_feed, a push server whose memory has a bound: snapshot on connect, then what
// changes, for hours.
// SPDX-License-Identifier: BSL-1.0
//
// The protocol stands in support/feed_options.hpp; naive_feed.cpp does the same job the usual way. What keeps
// the memory bounded here:
//   - bounded_acceptor: at most --max-connections are let in, the others wait in the backlog; one address, a
//     second and the process's memory have limits too, and the sockets' buffers in the kernel;
//   - capacity_plan: what all of that may take is worked out before the start, and the ladder checks it;
//   - connection: closed on every path, and counted;
//   - outbox: a snapshot is made while it is sent, one chunk at a time; a change is serialized once for all,
//     and the queue has a mark;
//   - one number a session, the version it knows: a client too slow for its queue skips what is outdated;
//   - heartbeat_timer: one timer for all; who is silent is dropped.
#include "support/acceptor_events.hpp"
#include "support/admin_socket.hpp"
#include "support/capacity.hpp"
#include "support/feed_options.hpp"

#include <holdfast/adapters/simdjson.hpp>
#include <holdfast/holdfast.hpp>

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
using holdfast::ndjson;

namespace {

struct ping {
    std::uint64_t number;
};
constexpr auto describe(holdfast::type_tag<ping>)
{
    return holdfast::fields(holdfast::field("ping", &ping::number));
}

/// What a client's queue may hold, beside a chunk of its snapshot.
constexpr std::size_t queue_bytes = 8192;

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

    /// Whether those of a tick fit into a queue; else each session streams them.
    [[nodiscard]] bool few_changes() const noexcept { return options.rate <= queue_bytes / 256; }

    const examples::feed_options options;
    examples::market market;
    std::optional<examples::json_document> document;
    holdfast::heartbeat_timer<> heart;
    holdfast::outbox_group up_to_date; // the topic, if you like: those who get each change as it comes
    net::steady_timer pulse;           // never expires: cancelling it wakes all sessions at once
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

/// One client.
net::awaitable<void> serve(connection peer, feed& f)
{
    peer.stream().non_blocking(true);
    auto beat = f.heart.watch(peer);
    const auto chunk = static_cast<std::uint32_t>(f.options.chunk.value);
    // A slow download is alive as long as the socket takes bytes. Later only what the client says counts.
    bool whole = false; // the snapshot is sent
    auto progress = [&](std::size_t) noexcept {
        if (!whole) beat.touch();
    };
    holdfast::outbox box{peer,
                         {.high_watermark = queue_bytes,
                          .on_overflow = holdfast::overflow_policy::wait,
                          .chunk_bytes = chunk,
                          .progress = progress}};
    holdfast::outbox_group::member here;
    std::uint64_t version = f.market.version();
    if (f.document)
        box.push_streamed<ndjson>(f.document->root);
    else
        box.push_streamed<ndjson>(f.market.snapshot());

    const auto ping_after = static_cast<std::uint16_t>(f.options.ping_after / feed::heart_tick);
    for (std::uint64_t pings = 0; still_there(peer.stream(), beat);) {
        if (here) {
            version = f.market.version();
        } else if (box.queued() == 0) { // new, or it was too slow, and skips what is outdated
            if (!std::exchange(whole, true)) ++f.snapshots;
            const auto changes = f.market.changed_since(version);
            version = changes.version();
            if (!changes.empty()) box.push_streamed<ndjson>(changes);
            if (f.few_changes()) here = {f.up_to_date, box};
        }
        if (beat.age() >= ping_after && box.control_bytes() == 0)
            box.push_control(holdfast::serialize_to_payload<ndjson>(ping{++pings}));
        holdfast::error_code woken;
        co_await f.pulse.async_wait(net::redirect_error(net::use_awaitable, woken));
    }
    holdfast::error_code unsent; // then the outbox has ended the connection
    co_await box.async_close(net::redirect_error(net::use_awaitable, unsent));
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
        const std::uint64_t before = f.market.version();
        f.market.tick(f.options.rate);
        if (f.up_to_date.size() != 0)
            f.up_to_date.push(holdfast::serialize_to_payload<ndjson>(f.market.changed_since(before)));
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

/// Whom the server lets in, beside `feed_options::max_connections`.
struct door_options {
    std::uint32_t per_address = 12'000;
    std::uint32_t accepts_per_second = 10'000;
    std::uint32_t accept_burst = 2000;
    examples::byte_count memory;      ///< to plan with; 0: the cgroup's limit, or the machine's memory
    examples::byte_count memory_high; ///< 0: nine tenths of the cgroup's limit, if it has one
    examples::byte_count memory_low;  ///< 0: fifteen sixteenths of the high mark
    examples::byte_count receive_buffer{4096};
    std::uint16_t backlog = 4096;
    std::chrono::milliseconds backlog_timeout{0};
    bool reject = false;
};

void add_options(examples::command_line& cli, door_options& doors)
{
    cli.add("per-address", doors.per_address, "N", "connections of one address (an IPv6 /64); 0: any");
    cli.add("accepts-per-second", doors.accepts_per_second, "N", "newcomers let in each second; 0: any");
    cli.add("accept-burst", doors.accept_burst, "N", "newcomers let in at once after a quiet time");
    cli.add("memory", doors.memory, "BYTES",
            "what all may take at most; 0: plan with the cgroup's limit, or the machine's memory");
    cli.add("memory-high", doors.memory_high, "BYTES",
            "above this VmRSS nobody is let in; 0: above nine tenths of the cgroup's limit");
    cli.add("memory-low", doors.memory_low, "BYTES", "below this they are again; 0: 15/16 of the high mark");
    cli.add("receive-buffer", doors.receive_buffer, "BYTES",
            "the kernel's receive buffer of each socket (SO_RCVBUF)");
    cli.add("backlog", doors.backlog, "N", "newcomers that the kernel keeps waiting");
    cli.add("patience", doors.backlog_timeout, "TIME",
            "newcomers that wait for so long at a limit are told to come again; 0: they wait on");
    cli.add("turn-away", doors.reject,
            "tell newcomers at a limit to come again, instead of letting them wait");
}

void check(const door_options& doors)
{
    using examples::command_line;
    if (doors.accept_burst == 0) command_line::fail("accept-burst", "must be at least 1");
    if (doors.memory_low.value > doors.memory_high.value)
        command_line::fail("memory-low", "must not be above --memory-high");
    if (doors.receive_buffer.value < 1024 || doors.receive_buffer.value > (1u << 30))
        command_line::fail("receive-buffer", "must be 1k to 1G");
    if (doors.backlog == 0) command_line::fail("backlog", "must be at least 1");
    if (doors.backlog_timeout > 12h) command_line::fail("patience", "must be at most 720m");
}

/// Every limit of the server, in one place.
holdfast::acceptor_options limits(const examples::feed_options& feed, const door_options& doors)
{
    using memory_source = holdfast::memory_limits::memory_source;
    const auto overload_policy =
        doors.reject ? holdfast::overload_policy::reject : holdfast::overload_policy::wait;
    return {.max_connections = feed.max_connections,
            .max_per_address = doors.per_address,
            .accepts_per_second = static_cast<double>(doors.accepts_per_second),
            .accept_burst = doors.accept_burst,
            .memory = {.of = doors.memory_high.value != 0 ? memory_source::process : memory_source::cgroup,
                       .high_watermark = doors.memory_high.value,
                       .low_watermark = doors.memory_low.value,
                       .on_memory_pressure = [] { ::malloc_trim(0); }},
            .on_connection_limit = overload_policy,
            .on_address_limit = holdfast::overload_policy::reject,
            .on_rate_limit = overload_policy,
            .on_memory_limit = overload_policy,
            .backlog_timeout = doors.backlog_timeout,
            .reject_message = "{\"sorry\":\"too many are here: come again later\"}\n",
            .backlog = doors.backlog,
            .send_buffer_bytes = static_cast<int>(feed.send_buffer.value),
            .receive_buffer_bytes = static_cast<int>(doors.receive_buffer.value),
            .reserve_descriptors = true,
            .on_event = [](const auto& event) { examples::print_event("market_feed", event); }};
}

/// What a connection may take, and what there is without any.
examples::capacity plan(const examples::feed_options& feed, const door_options& doors)
{
    constexpr std::uint64_t program = 16 * 1024 * 1024;
    constexpr std::uint64_t reserved = 512; // for each connection beforehand: descriptor, registry
    return examples::plan_capacity(
        feed.max_connections,
        {.session_bytes = 4096,
         .chunk_bytes = static_cast<std::size_t>(feed.chunk.value),
         .queue_bytes = holdfast::worst_case_bytes({.high_watermark = queue_bytes, .chunk_bytes = 0}, 64),
         .send_buffer_bytes = static_cast<std::size_t>(feed.send_buffer.value),
         .receive_buffer_bytes = static_cast<std::size_t>(doors.receive_buffer.value)},
        program + reserved * feed.max_connections + examples::market::bytes(feed.instruments) +
            examples::document_bytes(feed.document),
        doors.memory.value);
}

int run(int argc, char** argv)
{
    examples::feed_options options;
    door_options door;
    std::chrono::milliseconds drain_deadline{10'000};
    std::string admin_path;
    examples::command_line cli{"market_feed", "A push server of market data whose memory is bounded."};
    examples::add_options(cli, options);
    add_options(cli, door);
    cli.add("drain", drain_deadline, "TIME",
            "after SIGTERM, wait so long for clients before they are aborted");
    cli.add("admin", admin_path, "PATH", "a local socket that answers who is there, as JSON; empty: none");
    if (!cli.parse(argc, argv)) return 0;
    examples::check(options);
    check(door);
    const auto endpoint = examples::listen_endpoint(options.address, options.port);
    const examples::capacity capacity = plan(options, door);

    net::io_context io(1);
    feed f(io, options);
    std::optional<acceptor> doors;
    try {
        doors.emplace(io.get_executor(), endpoint, limits(options, door));
    } catch (const holdfast::system_error& error) {
        throw examples::usage_error(examples::listen_error(error.code(), endpoint));
    }
    std::optional<examples::admin_socket> admin;
    if (!admin_path.empty()) admin.emplace(io, admin_path, doors->census(), f.heart);
    // Before the first client, who may be served in the loop's first turn.
    net::co_spawn(io, handle_signals(io, f, *doors, drain_deadline), net::detached);
    doors->async_serve([&](connection peer) { return serve(std::move(peer), f); }, net::detached);
    net::co_spawn(io, run_clock(f, doors->census()), net::detached);
    std::cout << "market_feed: listening on " << doors->local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("market_feed");
    io.run();
    print_state(doors->census());
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
