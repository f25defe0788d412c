// holdfast: market_feed, a push server whose memory has a bound: snapshot on connect, then what
// changes, for hours.
// SPDX-License-Identifier: BSL-1.0
//
// The protocol is described in support/feed_options.hpp; naive_feed.cpp does the same job the usual way. What keeps the
// memory bounded here:
//   - bounded_acceptor: accepts at most --max-connections; the others wait in the backlog. There are limits for one
//     address, a second and the process's memory too, and for the sockets' buffers in the kernel;
//   - capacity_plan: computes the maximum memory before the start, and the ladder checks it;
//   - connection: is closed on every path, and counted;
//   - outbox: serializes a snapshot while it sends it, one chunk at a time. A change is serialized once for all clients,
//     and the queue is bounded;
//   - one number for each session, the version that it knows: a client too slow for its queue skips what is outdated;
//   - heartbeat_profile: one timer for all. A silent client gets a ping, and is then disconnected.
//
// With --threads N there are N shards: each has its own io_context, market, heartbeats and subscribers, and nothing is
// shared but a message for each change, in a queue with a bound. One acceptor hands each connection to the shard with the
// fewest, so that the limits hold for all of them together.
#include "support/capacity.hpp"
#include "support/feed_options.hpp"
#include "support/log.hpp"
#include "support/tls_option.hpp"

#include <holdfast/adapters/simdjson.hpp>
#include <holdfast/holdfast.hpp>
#include <holdfast/server/admin_socket.hpp>
#include <holdfast/server/drain_at_signal.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <optional>
#include <thread>
#include <vector>

#include <malloc.h>
#include <unistd.h>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;
using acceptor = holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>>;
using holdfast::ndjson;

namespace {

struct ping {
    std::uint64_t number;
};
constexpr auto describe(holdfast::type_tag<ping>) { return holdfast::fields(holdfast::field("ping", &ping::number)); }

/// The most bytes in a client's queue, apart from one chunk of its snapshot.
constexpr std::size_t queue_bytes = 8192;

/// A client, as its heartbeat sees it.
struct subscriber {
    std::function<void(holdfast::close_reason)> abort; // its connection
    holdfast::outbox_base* outbox = nullptr;
    bool downloading = true; // the snapshot is not sent yet
    std::uint64_t pings = 0;
    holdfast::heartbeat heartbeat{};

    /// Reports bytes that were sent. A slow download is alive; later only what the client sends counts.
    void touch() noexcept
    {
        if (downloading) heartbeat.touch();
    }
    void send_ping()
    {
        if (outbox->control_bytes() == 0) outbox->push_control(holdfast::serialize_to_payload<ndjson>(ping{++pings}));
    }
};

/// The state that the sessions of a shard share. Everything of it runs on one thread.
struct feed {
    feed(net::io_context& io, const examples::feed_options& opts, const examples::json_document* doc)
        : options(opts),
          document(doc),
          market(opts.instruments),
          heartbeats(io, {.tick = 250ms, .timeout = opts.timeout}),
          subscribers(heartbeats, {.ping_after = opts.ping_after, .timeout = opts.timeout},
                      [](subscriber& silent) { silent.send_ping(); }),
          tick(io),
          buffers(holdfast::shared_buffer_pool::of(io.get_executor()))
    {
    }

    /// Whether the changes of a tick fit into a queue. Otherwise each session streams them.
    [[nodiscard]] bool few_changes() const noexcept { return options.rate <= queue_bytes / 256; }

    const examples::feed_options& options;
    const examples::json_document* const document; // or nullptr; of all shards, and never changed
    examples::market market;                       // of each shard the same: its changes are computed, not copied
    holdfast::heartbeat_timer<> heartbeats;
    holdfast::heartbeat_profile<subscriber> subscribers;
    holdfast::outbox_group up_to_date;   // the clients that get each change at once
    holdfast::unsynchronized_event tick; // of the market: wakes all sessions
    holdfast::shared_buffer_pool& buffers;
    std::uint64_t snapshots = 0; // sent in full
    std::uint64_t trimmed_at = 0;
};

/// What makes the market move.
struct market_clock {
    net::steady_timer timer;
    bool draining = false;
};

/// Reads and drops what the client has sent: its content does not matter, but it is a sign of life. Returns false at
/// the end of the stream.
template <class Stream>
bool still_connected(Stream& stream, holdfast::heartbeat& heartbeat)
{
    for (;;) {
        std::array<char, 256> waste;
        holdfast::error_code ec;
        if (examples::try_read_some(stream, net::buffer(waste), ec) != 0)
            heartbeat.touch();
        else if (ec == net::error::would_block)
            return true;
        else
            return false;
    }
}

/// Serves one client.
template <class Connection>
net::awaitable<void> serve(Connection peer, feed& f)
{
    peer.stream().lowest_layer().non_blocking(true);
    subscriber self{[&peer](holdfast::close_reason why) { peer.abort(why); }};
    holdfast::outbox outbox{peer,
                            {.high_watermark = queue_bytes,
                             .on_overflow = holdfast::overflow_policy::wait,
                             .chunk_bytes = static_cast<std::uint32_t>(f.options.chunk.value),
                             .progress = self}};
    self.outbox = &outbox;
    self.heartbeat = f.subscribers.watch(self);
    holdfast::outbox_group::member here;
    std::uint64_t version = f.market.version();
    if (f.document)
        outbox.template push_streamed<ndjson>(f.document->root);
    else
        outbox.template push_streamed<ndjson>(f.market.snapshot());

    while (still_connected(peer.stream(), self.heartbeat)) {
        if (here) {
            version = f.market.version();
        } else if (outbox.queued() == 0) { // new, or it was too slow, and skips what is outdated
            if (std::exchange(self.downloading, false)) ++f.snapshots;
            const auto changes = f.market.changed_since(version);
            version = changes.version();
            if (!changes.empty()) outbox.template push_streamed<ndjson>(changes);
            if (f.few_changes()) here = {f.up_to_date, outbox};
        }
        co_await f.tick.async_wait();
    }
    holdfast::error_code unsent; // then the outbox has ended the connection
    co_await outbox.async_close(net::redirect_error(net::use_awaitable, unsent));
    co_await peer.async_close();
}

/// Gives malloc's free memory back to the system: malloc alone keeps the peak of a burst. glibc keeps seven freed
/// blocks of each small size for the thread, wherever they are, and each of them keeps a page: up to 2 MiB, measured.
/// So they are exchanged for blocks that are next to each other first: 236 KiB, from the first call on.
void release_free_memory()
{
    constexpr std::size_t kept = 7, largest = 1032, sizes = largest / 16;
    thread_local void* volatile scattered[sizes * kept]; // volatile: the compiler must not omit the allocations
    thread_local void* volatile adjacent[sizes * kept];
    for (auto* blocks : {scattered, adjacent})
        for (std::size_t i = 0; i != sizes * kept; ++i)
            blocks[i] = std::malloc(24 + i / kept * 16);
    for (auto* blocks : {adjacent, scattered}) // the thread keeps those that come first
        for (std::size_t i = 0; i != sizes * kept; ++i)
            std::free(blocks[i]);
    ::malloc_trim(0);
}

/// After the market has changed: sends the changes, and wakes the sessions. Releases buffers that were unused for a second,
/// and after a burst of snapshots or ended connections what else is free.
void send_changes(feed& f, const holdfast::payload& changes, const holdfast::census& members)
{
    if (f.few_changes()) f.up_to_date.push(changes);
    f.tick.notify_all();
    f.buffers.trim();
    if (const std::uint64_t freed = f.snapshots + members.ended(); freed != f.trimmed_at) {
        release_free_memory();
        f.trimmed_at = freed;
    }
}

/// The changes that follow upon `version`, where a queue has space for them: each shard sends others by itself.
holdfast::payload changes_since(const examples::market& market, std::uint64_t version, const feed& f)
{
    return f.few_changes() ? holdfast::serialize_to_payload<ndjson>(market.changed_since(version))
                           : holdfast::payload();
}

/// The next time that the market is to change.
net::awaitable<void> next_tick(market_clock& clock)
{
    clock.timer.expires_after(clock.draining ? 50ms : std::chrono::milliseconds(examples::tick_period));
    holdfast::error_code woken;
    co_await clock.timer.async_wait(net::redirect_error(net::use_awaitable, woken));
}

/// Changes the market of a single shard.
net::awaitable<void> run_clock(market_clock& clock, feed& f, holdfast::census members)
{
    for (;;) {
        co_await next_tick(clock);
        const std::uint64_t before = f.market.version();
        f.market.tick(f.options.rate);
        send_changes(f, changes_since(f.market, before, f), members);
    }
}

/// Changes one more market, and has the shards follow: a shard that is slow makes this wait.
net::awaitable<void> run_clock_of_all(market_clock& clock, holdfast::shard_topic<feed>& topic, const feed& f)
{
    examples::market market(f.options.instruments);
    for (;;) {
        co_await next_tick(clock);
        const std::uint64_t before = market.version();
        market.tick(f.options.rate);
        co_await topic.async_publish(changes_since(market, before, f));
    }
}

void print_state(const holdfast::census& members)
{
    examples::log_text([&](std::ostream& out) { members.report(out); });
    std::error_code ec;
    examples::log_line("RssAnon ", holdfast::read_process_memory(::getpid(), ec).rss_anon / 1024, " KiB");
}

/// The limits of the acceptor, beside `feed_options::max_connections`.
struct admission_options {
    std::uint32_t per_address = 12'000;
    std::uint32_t accepts_per_second = 10'000;
    std::uint32_t accept_burst = 2000;
    examples::byte_count memory;      ///< to plan with; 0: the cgroup's limit, or the machine's memory
    examples::byte_count memory_high; ///< 0: nine tenths of the cgroup's limit, if it has one
    examples::byte_count memory_low;  ///< 0: fifteen sixteenths of the high watermark
    examples::byte_count receive_buffer{4096};
    std::uint16_t backlog = 4096;
    std::chrono::milliseconds backlog_timeout{0};
    bool reject = false;
    std::uint16_t threads = 1;
};

void add_options(examples::command_line& cli, admission_options& admission)
{
    cli.add("threads", admission.threads, "N", "threads, each with connections of its own");
    cli.add("per-address", admission.per_address, "N", "connections of one address (an IPv6 /64); 0: any");
    cli.add("accepts-per-second", admission.accepts_per_second, "N", "new connections accepted each second; 0: any");
    cli.add("accept-burst", admission.accept_burst, "N", "new connections accepted at once after a quiet time");
    cli.add("memory", admission.memory, "BYTES",
            "the most memory for all connections; 0: the cgroup's limit, or the machine's memory");
    cli.add("memory-high", admission.memory_high, "BYTES",
            "VmRSS above which nothing is accepted; 0: nine tenths of the cgroup's limit");
    cli.add("memory-low", admission.memory_low, "BYTES",
            "VmRSS below which accepting resumes; 0: 15/16 of --memory-high");
    cli.add("receive-buffer", admission.receive_buffer, "BYTES",
            "the kernel's receive buffer of each socket (SO_RCVBUF)");
    cli.add("backlog", admission.backlog, "N", "pending connections that the kernel keeps");
    cli.add("backlog-timeout", admission.backlog_timeout, "TIME",
            "reject pending connections that wait longer at a limit; 0: they wait");
    cli.add("reject", admission.reject, "reject connections at a limit, instead of letting them wait");
}

void check(const admission_options& admission)
{
    using examples::command_line;
    if (admission.threads == 0 || admission.threads > holdfast::shards<feed>::max_shards)
        command_line::fail("threads", "must be 1 to " + std::to_string(holdfast::shards<feed>::max_shards));
    if (admission.accept_burst == 0) command_line::fail("accept-burst", "must be at least 1");
    if (admission.memory_low.value > admission.memory_high.value)
        command_line::fail("memory-low", "must not be above --memory-high");
    if (admission.receive_buffer.value < 1024 || admission.receive_buffer.value > (1u << 30))
        command_line::fail("receive-buffer", "must be 1k to 1G");
    if (admission.backlog == 0) command_line::fail("backlog", "must be at least 1");
    if (admission.backlog_timeout > 12h) command_line::fail("backlog-timeout", "must be at most 720m");
}

/// Every limit of the server, in one place.
holdfast::acceptor_options limits(const examples::feed_options& feed, const admission_options& admission,
                                  holdfast::shards<::feed>& shards)
{
    using memory_source = holdfast::memory_limits::memory_source;
    const auto overload_policy = admission.reject ? holdfast::overload_policy::reject : holdfast::overload_policy::wait;
    return {.max_connections = feed.max_connections,
            .max_per_address = admission.per_address,
            .accepts_per_second = static_cast<double>(admission.accepts_per_second),
            .accept_burst = admission.accept_burst,
            .memory = {.of = admission.memory_high.value != 0 ? memory_source::process : memory_source::cgroup,
                       .high_watermark = admission.memory_high.value,
                       .low_watermark = admission.memory_low.value,
                       .on_memory_pressure = [] { ::malloc_trim(0); }},
            .on_connection_limit = overload_policy,
            .on_address_limit = holdfast::overload_policy::reject,
            .on_rate_limit = overload_policy,
            .on_memory_limit = overload_policy,
            .backlog_timeout = admission.backlog_timeout,
            .reject_message = "{\"error\":\"too many connections: try again later\"}\n",
            .next_executor = shards.least_connections(),
            .backlog = admission.backlog,
            .send_buffer_bytes = static_cast<int>(feed.send_buffer.value),
            .receive_buffer_bytes = static_cast<int>(admission.receive_buffer.value),
            .reserve_descriptors = true,
            .on_event = [](const auto& event) { examples::log_line("market_feed: ", event); }};
}

/// The most memory of a connection, and the memory without any.
examples::capacity plan(const examples::feed_options& feed, const admission_options& admission,
                        const examples::tls_option& tls)
{
    constexpr std::uint64_t reserved = 512;             // for each connection beforehand: descriptor, registry
    constexpr std::uint64_t thread_bytes = 1024 * 1024; // stack, malloc's arena, queue of messages
    return examples::plan_capacity(
        feed.max_connections,
        tls.cost({.session_bytes = 4096,
                  .chunk_bytes = static_cast<std::size_t>(feed.chunk.value),
                  .queue_bytes = holdfast::worst_case_bytes({.high_watermark = queue_bytes}, 64, true),
                  .send_buffer_bytes = static_cast<std::size_t>(feed.send_buffer.value),
                  .receive_buffer_bytes = static_cast<std::size_t>(admission.receive_buffer.value)}),
        tls.fixed_bytes() + reserved * feed.max_connections + examples::market::bytes(feed.instruments) +
            (admission.threads - 1u) * (examples::market::bytes(feed.instruments) + thread_bytes) +
            (admission.threads > 1 ? examples::market::bytes(feed.instruments) : 0) +
            examples::document_bytes(feed.document),
        admission.memory.value);
}

int run(int argc, char** argv)
{
    examples::feed_options options;
    admission_options admission;
    std::chrono::milliseconds drain_deadline{10'000};
    std::string admin_path;
    examples::command_line cli{"market_feed", "A push server of market data whose memory is bounded."};
    examples::add_options(cli, options);
    add_options(cli, admission);
    cli.add("drain", drain_deadline, "TIME",
            "time that connections have to end after SIGTERM, before they are aborted");
    cli.add("admin", admin_path, "PATH", "a local socket that answers the open connections as JSON; empty: none");
    examples::tls_option tls;
    tls.add_to(cli);
    if (!cli.parse(argc, argv)) return 0;
    tls.load();
    examples::check(options);
    check(admission);
    const auto endpoint = examples::listen_endpoint(options.address, options.port);
    const examples::capacity capacity = plan(options, admission, tls);

    const examples::log_queue log;
    std::optional<examples::json_document> document;
    if (!options.document.empty()) document = examples::load_document(options.document);
    std::vector<std::jthread> threads; // joined after the shards have ended
    holdfast::shards<feed> shards{admission.threads, [&](net::io_context& io, std::size_t) {
                                      return feed(io, options, document ? &*document : nullptr);
                                  }};
    net::io_context& io = shards.context(0);
    acceptor clients{io.get_executor(), endpoint, limits(options, admission, shards), shards.finalizer()};
    holdfast::shard_topic<feed> topic{io.get_executor(),
                                      shards,
                                      [members = clients.census()](feed& f, const holdfast::payload& changes) {
                                          f.market.tick(f.options.rate);
                                          send_changes(f, changes, members);
                                      },
                                      {.max_queued_bytes = 64 * 1024, .on_overflow = holdfast::overflow_policy::wait}};
    std::optional<holdfast::admin_socket> admin;
    if (!admin_path.empty()) admin.emplace(io.get_executor(), admin_path, clients.census(), shards[0].heartbeats);
    market_clock clock{net::steady_timer(io)};
    const auto begin_drain = [&] {
        examples::log_line("market_feed: draining ", clients.census().live(), " connections");
        clock.draining = true;
        clock.timer.cancel();
    };
    const auto end_drain = [&shards](std::size_t reset) {
        examples::log_line("market_feed: drained, ", reset, " reset");
        shards.stop();
    };
    const holdfast::drain_at_signal stop{// before the first client, which may be served in the loop's first turn
                                         clients,
                                         {.drain = {.deadline = drain_deadline},
                                          .on_signal = begin_drain,
                                          .on_drained = end_drain,
                                          .on_report = [&] { print_state(clients.census()); },
                                          .on_reload = tls.reloader("market_feed")}};
    tls.serve(clients, [&](auto peer, std::size_t shard) { return serve(std::move(peer), shards[shard]); });
    net::co_spawn(io,
                  admission.threads == 1 ? run_clock(clock, shards[0], clients.census())
                                         : run_clock_of_all(clock, topic, shards[0]),
                  net::detached);
    std::cout << "market_feed: listening on " << clients.local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("market_feed");
    release_free_memory(); // what it keeps is part of the memory without connections
    for (std::size_t i = 1; i != shards.size(); ++i)
        threads.emplace_back(shards.runner(i));
    shards.run(0);
    print_state(clients.census());
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
