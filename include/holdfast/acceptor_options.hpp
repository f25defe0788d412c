// holdfast: the limits and settings of a bounded_acceptor.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ACCEPTOR_OPTIONS_HPP
#define HOLDFAST_ACCEPTOR_OPTIONS_HPP

#include <holdfast/acceptor_event.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/error.hpp>
#include <holdfast/proxy_protocol.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace holdfast {

/// What happens to a pending connection at a limit.
enum class overload_policy : std::uint8_t {
    /// It waits in the listener's backlog until the limit allows it, or until `backlog_timeout`.
    wait,
    /// It is accepted, sent `reject_message`, and closed gracefully. When `max_pending_rejects` connections are
    /// being closed already, it is reset.
    reject,
    /// It is accepted and reset (RST).
    reset,
};

/// What `acceptor_options::address_filter` decides about an address.
enum class address_rule : std::uint8_t {
    /// The limit per address applies.
    limit,
    /// The limit per address does not apply.
    exempt,
    /// The connection is rejected by `on_address_limit`.
    refuse,
};

/// The executor of a connection, and the index that the session handler gets as its shard.
struct connection_placement {
    net::any_io_executor executor;
    std::size_t shard = 0;

    connection_placement(net::any_io_executor ex, std::size_t index) : executor(std::move(ex)), shard(index) {}

    /// Converts from any executor. The shard is 0.
    template <class Executor>
        requires std::convertible_to<Executor, net::any_io_executor> &&
                 (!std::same_as<std::remove_cvref_t<Executor>, connection_placement>)
    connection_placement(Executor&& ex) : executor(std::forward<Executor>(ex))
    {
    }
};

/// Limits of memory use: accepting pauses above the high watermark, and resumes below the low one.
///
/// The memory is measured before a connection is accepted: if a tenth of a second has passed since the last
/// measurement, and more often near the watermark. While it cannot be measured, the last figure holds.
///
/// Cost: up to two system calls for each measurement, and up to two open descriptors.
struct memory_limits {
    /// What is measured.
    enum class memory_source : std::uint8_t {
        /// Nothing: there is no limit.
        none,
        /// VmRSS of this process.
        process,
        /// The memory use of the cgroup with the smallest limit among this process's group and its parents:
        /// socket buffers included, page cache excluded. Without a limit in any of them, there is no limit here.
        cgroup,
    };

    /// What is measured. The acceptor's constructor throws std::system_error if it cannot be read.
    memory_source of = memory_source::none;
    /// Above this many bytes no connection is accepted. 0 means nine tenths of the cgroup's limit, and with
    /// `memory_source::process` no limit.
    std::uint64_t high_watermark = 0;
    /// Below this many bytes connections are accepted again. 0 means fifteen sixteenths of `high_watermark`. Must not
    /// exceed `high_watermark`.
    std::uint64_t low_watermark = 0;
    /// The interval at which one connection is accepted although the memory is above the watermarks, so that accepting
    /// cannot stop for good. Must not be negative. Zero and the maximum mean that none is accepted in this way.
    ///
    /// An allocator may keep freed memory, so that the measured use never falls. Accepting therefore also resumes when
    /// an eighth of the connections has ended, and pauses again at the number of connections at which it had paused.
    std::chrono::milliseconds probe_interval{1000};
    /// Called each time that `high_watermark` is exceeded, before accepting pauses: to return memory to the system, as
    /// by `malloc_trim(0)`. The memory is measured again afterwards. Called on the acceptor's executor. Must not throw.
    std::function<void()> on_memory_pressure{};
};

/// How an IPv6 listener treats IPv4.
enum class ip_versions : std::uint8_t {
    /// As the system is configured (net.ipv6.bindv6only).
    system_default,
    /// IPv6 only: another listener may have the same port for IPv4.
    v6_only,
    /// Both: IPv4 clients appear with mapped addresses.
    dual_stack,
};

/// Limits and settings of a `bounded_acceptor`. The constructor throws std::invalid_argument for a value out of
/// range.
struct acceptor_options {
    /// Maximum number of open connections. At least 1. SIZE_MAX: unlimited. Ended connections whose last bytes the peer
    /// has not acknowledged count as well, and give way to live ones (see `connection_guard`).
    std::size_t max_connections = 10'000;
    /// The semaphore that each connection takes a permit of, instead of `max_connections`: several acceptors may share
    /// it. `max_connections` is then only the expected number. The semaphore may be destroyed before the acceptor,
    /// whose operations then fail with `errc::semaphore_closed`. Ended connections whose last bytes are not
    /// acknowledged count within the semaphore's limit, for all acceptors that share it together; they give way when a
    /// connection begins, also after the limit was lowered.
    ///
    /// A permit is taken before a connection is accepted: an acceptor that waits for a client holds one.
    async_semaphore* connection_semaphore = nullptr;
    /// Maximum number of connections of one remote address. 0 or SIZE_MAX: unlimited. IP only. The table of
    /// addresses has at most as many entries as there are connections.
    std::size_t max_per_address = 0;
    /// The number of leading bits that make an address: 1 to 32 of an IPv4 address, 1 to 128 of an IPv6 address.
    /// A mapped IPv4 address counts as IPv4.
    unsigned ipv4_prefix = 32;
    unsigned ipv6_prefix = 64;
    /// Decides about an address before its connection is admitted. Empty: `address_rule::limit` for all. IP only;
    /// mapped IPv4 addresses are passed as IPv4. Called on the acceptor's executor, and by
    /// `admitted_connection::set_peer`; with `proxy` on the executor of the connection, and then for several
    /// connections at the same time where their executors have several threads. Must not throw.
    std::function<address_rule(const net::ip::address&)> address_filter{};
    /// The PROXY protocol: which senders forward connections that begin with a header, which names the client. Off by
    /// default. Requires `async_serve`.
    proxy_options proxy{};
    /// Maximum rate of admitted connections, per second. 0 to 10^9; 0: unlimited. A client that has left before it is
    /// accepted does not count. A connection that may have waited at a limit, and whose client has ended its sending
    /// side, is taken for one that has left, and is reset; otherwise clients that give up would use up the rate.
    double accepts_per_second = 0;
    /// The number of connections that may exceed the rate after a quiet time. At least 1. SIZE_MAX: unlimited.
    std::size_t accept_burst = 100;
    /// Limits of memory use.
    memory_limits memory{};
    /// What happens to connections at each limit. `on_address_limit` cannot be `wait`: the address is known only
    /// when the connection has been accepted. `on_descriptor_limit`, when it is not `wait`, resets one connection
    /// at a time by means of a reserved descriptor, without a message.
    overload_policy on_connection_limit = overload_policy::wait;
    overload_policy on_address_limit = overload_policy::reset;
    overload_policy on_rate_limit = overload_policy::wait;
    overload_policy on_memory_limit = overload_policy::wait;
    overload_policy on_descriptor_limit = overload_policy::wait;
    /// The time that a connection waits in the backlog at a limit before it is rejected. The oldest one is rejected
    /// first, at most a quarter of this time late. Must not be negative. Zero or the maximum: unlimited. TCP only. Not
    /// for a listener that another process also accepts from.
    ///
    /// Without a value it is unlimited, with one exception: at the rate limit of a TCP listener that this object has
    /// opened, it is `default_rate_backlog_timeout`. Otherwise clients that give up and connect again would fill the
    /// backlog with connections that have ended, which use up the rate, and the server would never recover.
    std::optional<std::chrono::milliseconds> backlog_timeout{};
    static constexpr std::chrono::milliseconds default_rate_backlog_timeout{500};
    /// The bytes that a rejected connection is sent: as many as the socket takes at once.
    std::string reject_message{};
    /// The deadline of a rejected connection's graceful close. Must not be negative.
    std::chrono::milliseconds reject_deadline{1000};
    /// Maximum number of rejected connections that are being closed at a time. Further ones are reset. 0: all are
    /// reset.
    std::size_t max_pending_rejects = 16;
    /// Returns the executor of the next connection: a strand of its own, or that of one of several contexts, with
    /// the index of the shard. Empty: the acceptor's executor. Only for acceptors of `any_io_executor`. Called on
    /// the acceptor's executor for each admitted connection. Must not throw.
    std::function<connection_placement()> next_executor{};
    /// Maximum number of pending connections in the kernel, which may lower it (net.core.somaxconn). Must not be
    /// negative.
    int backlog = net::socket_base::max_listen_connections;
    /// Whether the address may be bound while old connections are in TIME_WAIT.
    bool reuse_address = true;
    /// Whether several listeners may share the address (SO_REUSEPORT): one for each io_context. The kernel
    /// distributes the clients.
    bool reuse_port = false;
    /// How an IPv6 listener treats IPv4. An adopted listener must already be as this option says.
    ip_versions versions = ip_versions::system_default;
    /// Whether a socket file that no process listens on, left by a process that has ended, is replaced. Local
    /// sockets only.
    bool replace_stale_socket_file = false;
    /// Whether closing the acceptor removes its socket file. Local sockets only.
    bool remove_socket_file = false;
    /// SO_SNDBUF of each connection in bytes, which the kernel doubles. Must not be negative. 0: left to the
    /// kernel, whose buffers grow to megabytes per slow reader. An adopted listener should have it already: a
    /// connection in its backlog has the buffers that the listener had.
    int send_buffer_bytes = 0;
    /// SO_RCVBUF of each connection in bytes; as `send_buffer_bytes`.
    int receive_buffer_bytes = 0;
    /// Whether small writes are sent at once (TCP_NODELAY). TCP only.
    bool no_delay = true;
    /// Whether the constructor makes Asio allocate its state for `max_connections` descriptors, about 170 bytes
    /// each. Asio never frees these states. Allocated one by one between the blocks of the sessions, they keep
    /// most of a burst's memory from returning to the system: after 10,000 connections 18 of 44 MiB stayed, with
    /// this option 2.4 MiB. For a moment as many descriptors are open, or as many as the system allows.
    bool reserve_descriptors = false;
    /// Called with each event; may be empty. Called on the acceptor's executor; for a failed session, handshake or
    /// PROXY header on the connection's. Where executors of connections run on other threads (`next_executor`), several
    /// calls may run at the same time. What it refers to must exist until the last session has ended. Must not throw.
    std::function<void(const acceptor_event&)> on_event{};
};

/// Options of `bounded_acceptor::async_drain`.
struct drain_options {
    /// The time after which remaining connections are reset. Must not be negative. The maximum: they never are.
    std::chrono::steady_clock::duration deadline = std::chrono::seconds(30);
    /// The time over which sessions are notified, so that their clients do not all reconnect at once. Must not be
    /// negative, and must be less than the deadline unless it is zero.
    std::chrono::steady_clock::duration stagger = std::chrono::steady_clock::duration::zero();
    /// Whether connections that are in the backlog when the drain begins are served before the listener is
    /// closed, within the deadline. Else the kernel resets them, unless another process shares the listener. An
    /// accept or serve operation must be pending. The listener of a local socket is closed when its backlog is found
    /// empty, or 4096 connections later: clients that connect before that are served as well.
    bool serve_backlog = false;
    /// Whether a frame of which a part has been read may be read to its end. It requires a `frame_reader` that was
    /// given the connection itself (`frame_reader{peer}`). The next operation between two frames then finds the end of
    /// the stream. Where a part of the next frame has been read too, that frame is also read to its end: a client
    /// without a pause between frames is reset at the deadline, unless its session checks `draining()`. False: a frame
    /// that has begun fails with `errc::truncated_frame`.
    bool finish_frames = false;
};

} // namespace holdfast

#endif
