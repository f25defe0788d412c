// holdfast: what the threads of a push_gateway share, what each of them has, and the figures of all.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_GATEWAY_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_GATEWAY_HPP

#include "capacity.hpp"
#include "gateway_options.hpp"
#include "quote_feed.hpp"

#include <holdfast/adapters/websocket_deflate.hpp>
#include <holdfast/holdfast.hpp>
#include <holdfast/server/server_metrics.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>

namespace examples {

/// A client, as its heartbeat sees it.
struct gateway_client {
    std::function<void(holdfast::close_reason)> abort; // its connection
    holdfast::outbox_base* outbox = nullptr;
    holdfast::payload ping{};
    bool answers = true;       // pings
    std::string snapshot_id{}; // of the last one, while it is sent
    holdfast::heartbeat heartbeat{};

    void touch() noexcept { heartbeat.touch(); }
    void send_ping()
    {
        if (!answers && outbox->queued() == 0)
            touch(); // it has all that there is; keepalive finds out when it has gone
        if (outbox->control_bytes() == 0) outbox->push_control(ping);
    }
};

struct gateway;

/// What all threads share. Each part may be used by any of them.
struct gateway_node {
    explicit gateway_node(const gateway_options& given)
        : options(given), deflate(given.deflate()), devices(given.devices())
    {
    }

    const gateway_options& options;
    holdfast::websocket_deflate deflate;
    holdfast::key_limits devices;
    holdfast::acceptor_event_counters events;
    holdfast::metric_set metrics;
    std::atomic<bool> draining = false;
    holdfast::shards<gateway>* shards = nullptr;

    /// No client waits for a message that is to come: it goes to another node.
    void begin_drain();
};

/// What one thread has: its clients, and the messages for them.
struct gateway {
    gateway(holdfast::net::io_context& io, gateway_node& shared, holdfast::replay_ring ring)
        : node(shared),
          options(shared.options),
          feed(options, std::move(ring), &shared.deflate),
          heartbeats(io, {.tick = std::chrono::milliseconds(250), .timeout = options.timeout}),
          clients(heartbeats, {.ping_after = options.timeout / 3, .timeout = options.timeout},
                  [](gateway_client& silent) { silent.send_ping(); }),
          head_deadline(heartbeats, options.head_timeout),
          client_rate(heartbeats, options.read_rate())
    {
        holdfast::add_heartbeats(metrics, heartbeats);
        holdfast::add_pool(metrics, holdfast::shared_buffer_pool::of(io.get_executor()));
        holdfast::add_topic(metrics, feed.topic());
        metrics.add({.name = "push_gateway_sessions_total",
                     .help = "Sessions that have begun.",
                     .type = holdfast::metric_type::counter},
                    [this] { return sessions; });
    }

    /// Where WebSocket messages may be compressed.
    [[nodiscard]] holdfast::websocket_compression* compression() noexcept
    {
        return options.compression != 0 ? &node.deflate : nullptr;
    }

    gateway_node& node;
    const gateway_options& options;
    quote_feed feed;
    holdfast::heartbeat_timer<> heartbeats;
    holdfast::heartbeat_profile<gateway_client> clients;
    holdfast::frame_deadline head_deadline;
    holdfast::read_rate_limit client_rate; // of what WebSocket clients send
    holdfast::metric_set metrics;          // the same of each thread
    std::uint64_t sessions = 0;            // that have begun
    std::minstd_rand random{std::random_device{}()};
};

inline void gateway_node::begin_drain()
{
    draining = true;
    shards->post_to_all([](gateway& g) { g.feed.end_waits(); });
}

/// Hands the events of the first thread to the others.
using feed_topic = holdfast::shard_topic<gateway>;

/// Begins the feed: the first thread reads the engine. Lifetime: `topic` must outlive the shards.
inline void start_feed(holdfast::shards<gateway>& shards, std::optional<feed_topic>& topic)
{
    gateway& first = shards[0];
    std::function<void(holdfast::payload)> others;
    if (shards.size() > 1) {
        const auto ask = [&shards] { shards.post_to(0, [](gateway& g) { g.feed.pass_state_on(); }); };
        const auto receive = [&first, ask](gateway& g, const holdfast::payload& event) {
            if (&g != &first) g.feed.receive(event.text(), ask);
        };
        topic.emplace(shards.context(0), shards, receive,
                      holdfast::shard_topic_options{.max_queued_bytes = first.options.passed_on_bytes()});
        others = [&topic](holdfast::payload event) { (void)topic->publish(std::move(event)); }; // lost: it is numbered
    }
    first.feed.subscribe(shards.context(0).get_executor(), std::move(others));
}

/// Ends the reading of the engine in its destructor, before the shards' contexts go.
struct ends_feed {
    holdfast::shards<gateway>& shards;
    ~ends_feed() { shards[0].feed.end(); }
};

/// Adds what the whole process has.
inline void add_metrics(gateway_node& node, const holdfast::census& census, const capacity& capacity)
{
    holdfast::add_census(node.metrics, census);
    holdfast::add_acceptor_events(node.metrics, node.events);
    holdfast::add_outboxes(node.metrics);
    holdfast::add_process(node.metrics, capacity.plan, capacity.max_connections);
    for (std::size_t i = 0; i != node.shards->size(); ++i)
        node.metrics.add({.name = "push_gateway_thread_connections",
                          .help = "Connections of each thread.",
                          .label = "thread",
                          .label_value = std::to_string(i)},
                         [shards = node.shards, i] { return shards->connections(i); });
}

/// Completes with the figures of all threads, each of which reads its own.
inline holdfast::net::awaitable<holdfast::metric_values> read_metrics(gateway_node& node)
{
    std::optional<holdfast::metric_values> all;
    const auto read = [](gateway& g, std::optional<holdfast::metric_values>& sums) -> holdfast::net::awaitable<void> {
        if (sums)
            sums->join(g.metrics);
        else
            sums.emplace(g.metrics);
        co_return;
    };
    for (std::size_t i = 0; i != node.shards->size(); ++i)
        co_await holdfast::net::co_spawn(node.shards->context(i), read((*node.shards)[i], all),
                                         holdfast::net::use_awaitable);
    co_return std::move(*all);
}

/// Responds with the figures of the process and of all threads.
holdfast::net::awaitable<void> send_metrics(gateway_node& node, holdfast::http_exchange& exchange, auto& outbox)
{
    using holdfast::formatted, holdfast::framed, holdfast::framing::http_chunked;
    outbox.push(exchange.response_head(200, holdfast::prometheus_text::content_type));
    if (exchange.head_only()) co_return;
    const auto process = std::cref(node.metrics);
    const auto threads = co_await read_metrics(node);
    const holdfast::prometheus_text text;
    if (exchange.chunked()) {
        outbox.push_streamed(formatted(process, framed{http_chunked{.ends = false}, text}));
        outbox.push_streamed(formatted(threads, framed{http_chunked{}, text}));
    } else {
        outbox.push_streamed(formatted(process, text));
        outbox.push_streamed(formatted(threads, text));
    }
}

} // namespace examples

#endif
