// holdfast: the options of push_gateway, its limits, and its plan.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_GATEWAY_OPTIONS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_GATEWAY_OPTIONS_HPP

#include "capacity.hpp"
#include "market.hpp"
#include "server_options.hpp"

#include <holdfast/acceptor_options.hpp>
#include <holdfast/adapters/websocket_deflate.hpp>
#include <holdfast/key_limits.hpp>
#include <holdfast/outbox_options.hpp>
#include <holdfast/read_rate_limit.hpp>
#include <holdfast/replay_ring.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace examples {

/// The options of push_gateway, with their defaults.
struct gateway_options : server_options {
    std::uint32_t instruments = 24;
    std::uint32_t rate = 6;
    std::chrono::milliseconds interval{250};
    byte_count ring{1024 * 1024};
    std::chrono::milliseconds stagger{2000};
    std::chrono::milliseconds notice{0};
    std::uint32_t shed = 30;
    std::chrono::milliseconds head_timeout{10'000};
    std::chrono::milliseconds write_delay{5};
    std::uint16_t compression = 6;
    std::uint32_t client_rate = 10;
    std::uint32_t per_device = 1;
    std::uint16_t threads = 1;
    std::string state;
    std::string admin;
    std::string redis;
    std::string nats;
    std::string topic = "quotes";
    bool publish = false;

    static constexpr std::size_t max_head_bytes = 8192;
    static constexpr std::size_t max_requests = 100; ///< of a connection
    /// What is read from the engine at once, in two forms: 256 messages of at most 8 KiB.
    static constexpr std::size_t engine_bytes = 2 * 256 * 8192;
    static constexpr int send_buffer_bytes = 32 * 1024;
    static constexpr int receive_buffer_bytes = 4096;

    bool parse(int argc, char** argv)
    {
        port = 8080;
        max_connections = 12'000;
        const auto add = [this](command_line& cli) {
            cli.add("threads", threads, "N", "threads, each with connections of its own");
            cli.add("instruments", instruments, "N", "instruments in the market");
            cli.add("rate", rate, "N", "instruments that change with each message");
            cli.add("interval", interval, "TIME", "time between two messages");
            cli.add("ring", ring, "BYTES", "the size of the messages that are kept for clients that reconnect");
            cli.add("stagger", stagger, "TIME",
                    "the time over which a drain asks clients to reconnect; less than --drain");
            cli.add("notice", notice, "TIME",
                    "the time before a drain in which /healthz says 503 and clients are still accepted: a balancer's "
                    "health checks have to see it");
            cli.add(
                "shed", shed, "PERCENT",
                "the share of the clients that is asked to reconnect at SIGUSR2, spread over --stagger: some of them "
                "then connect to a node that was added");
            cli.add("head-timeout", head_timeout, "TIME", "the maximum time until the head of a request is complete");
            cli.add("write-delay", write_delay, "TIME", "messages within this time go out in one write");
            cli.add("compression", compression, "LEVEL",
                    "the compression level of messages for WebSocket clients that offer permessage-deflate: 1 to 9; "
                    "0: none");
            cli.add("client-rate", client_rate, "N",
                    "messages that a WebSocket client may send each second; one that sends more is closed with 1008; "
                    "0: any");
            cli.add("per-device", per_device, "N",
                    "streams of one device, which names itself in the query, as in /ws?device=NAME: a newer one takes "
                    "the place of the oldest; 0: any");
            cli.add("state", state, "FILE", "hands the ring on over a graceful restart; empty: clients start anew");
            cli.add("admin", admin, "PATH", "a local socket that answers the open connections as JSON; empty: none");
            cli.add("redis", redis, "HOST:PORT",
                    "messages come from a stream of Redis, which many nodes share; empty: the node's own feed");
            cli.add("nats", nats, "HOST:PORT", "the same from a stream of NATS JetStream; or a URL, nats://...");
            cli.add("topic", topic, "NAME", "the key of Redis's stream; the name of that of NATS, and its subject");
            cli.add("publish", publish,
                    "with --redis or --nats: this node's feed publishes to the stream; for one of the nodes");
        };
        if (!server_options::parse(argc, argv, "push_gateway",
                                   "Pushes a feed to browsers by server-sent events and WebSocket.", add))
            return false;
        if (threads == 0 || threads > 256) command_line::fail("threads", "must be 1 to 256");
        if (instruments == 0 || instruments > market::max_instruments)
            command_line::fail("instruments", "must be 1 to " + std::to_string(market::max_instruments));
        if (rate == 0 || rate > 10'000) command_line::fail("rate", "must be 1 to 10000");
        if (interval.count() <= 0) command_line::fail("interval", "must be more than 0");
        if (ring.value == 0 || ring.value > (1u << 30)) command_line::fail("ring", "must be 1 to 1G");
        if (stagger >= drain) command_line::fail("stagger", "must be less than --drain");
        if (!redis.empty() && redis_port() == 0) command_line::fail("redis", "must be HOST:PORT");
        if (!redis.empty() && !nats.empty()) command_line::fail("nats", "must not be given with --redis");
        if (has_engine() && topic.empty()) command_line::fail("topic", "must not be empty");
        if (write_delay.count() < 0 || write_delay > std::chrono::seconds(1))
            command_line::fail("write-delay", "must be at most 1s");
        if (compression > 9) command_line::fail("compression", "must be 0 to 9");
        if (shed == 0 || shed > 100) command_line::fail("shed", "must be 1 to 100");
        if (head_timeout.count() <= 0) command_line::fail("head-timeout", "must be more than 0");
        if (timeout < std::chrono::seconds(1)) command_line::fail("timeout", "must be at least 1s");
        return true;
    }

    /// Whether messages come from an engine that other nodes share.
    [[nodiscard]] bool has_engine() const noexcept { return !redis.empty() || !nats.empty(); }
    /// Whether this node has a feed.
    [[nodiscard]] bool publishes() const noexcept { return publish || !has_engine(); }
    /// 0: none, or not a port.
    [[nodiscard]] std::uint16_t redis_port() const noexcept
    {
        const auto colon = redis.rfind(':');
        std::uint16_t number = 0;
        if (colon == redis.npos || colon == 0) return 0;
        const char* const end = redis.data() + redis.size();
        const auto [rest, error] = std::from_chars(redis.data() + colon + 1, end, number);
        return error == std::errc() && rest == end ? number : std::uint16_t{0};
    }

    /// Compression for all threads. Without `--compression` it is of no use, and small.
    [[nodiscard]] holdfast::websocket_deflate_options deflate() const
    {
        const std::size_t number = compression == 0 ? 1 : threads;
        return {.compressors = number, .decompressors = number, .level = compression == 0 ? 1 : compression};
    }
    /// A ring as `replay_ring::save` has written it.
    [[nodiscard]] holdfast::replay_ring load_ring(std::string_view kept) const
    {
        return holdfast::replay_ring::load(kept, ring_options()).value();
    }
    /// What the engine has sent at once and another thread has not taken yet, or the whole state.
    [[nodiscard]] std::size_t passed_on_bytes() const noexcept { return engine_bytes + std::size_t{256} * instruments; }
    /// What a WebSocket client may send.
    [[nodiscard]] holdfast::read_rate_options read_rate() const
    {
        return {.messages_per_second = static_cast<double>(client_rate),
                .bytes_per_second = 512.0 * client_rate, // its pings, too
                .on_exceeded = holdfast::rate_policy::disconnect};
    }
    [[nodiscard]] holdfast::key_limit_options devices() const
    {
        return {.max_per_key = per_device == 0 ? SIZE_MAX : per_device,
                .max_keys = max_connections,
                .max_key_bytes = 64,
                .on_limit = holdfast::key_policy::newest_wins};
    }
    /// The queue of a client: one whose queue is full continues from the ring.
    [[nodiscard]] holdfast::outbox_options queue() const
    {
        return {.high_watermark = 32 * 1024,
                .low_watermark = 8 * 1024,
                .reserve_bytes = 512,
                .on_overflow = holdfast::overflow_policy::wait,
                .chunk_bytes = 4096,
                .write_delay = write_delay};
    }

    [[nodiscard]] holdfast::replay_ring_options ring_options() const
    {
        return {.max_bytes = static_cast<std::size_t>(ring.value)};
    }

    [[nodiscard]] holdfast::acceptor_options limits() const
    {
        holdfast::acceptor_options limits;
        limits.max_connections = max_connections;
        limits.reject_message = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\r\n";
        limits.send_buffer_bytes = send_buffer_bytes;
        limits.receive_buffer_bytes = receive_buffer_bytes;
        limits.reserve_descriptors = true;
        limits.proxy = proxy();
        return limits;
    }

    /// The most memory of a connection, and the memory without any: the ring with each message in four forms, and what
    /// is reserved for each connection beforehand.
    [[nodiscard]] capacity plan() const
    {
        const holdfast::connection_cost cost{.session_bytes = 6656,
                                             .frame_bytes = max_head_bytes,
                                             .queue_bytes = holdfast::worst_case_bytes(queue(), 256),
                                             .send_buffer_bytes = send_buffer_bytes,
                                             .receive_buffer_bytes = receive_buffer_bytes};
        constexpr std::uint64_t thread_bytes = 1024 * 1024; // stack, malloc's arena
        const std::uint64_t of_thread = 5 * ring.value + market::bytes(instruments);
        const std::uint64_t of_others = of_thread + thread_bytes + passed_on_bytes();
        return plan_capacity(max_connections, tls.cost(cost),
                             tls.fixed_bytes() + 512 * max_connections + deflate().bytes() + of_thread +
                                 (threads - 1u) * of_others + market::bytes(instruments) +
                                 (has_engine() ? engine_bytes : 0));
    }
};

} // namespace examples

#endif
