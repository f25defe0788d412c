// holdfast: bounded_acceptor, which never lets in more than N connections and can tell them all to go.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BOUNDED_ACCEPTOR_HPP
#define HOLDFAST_BOUNDED_ACCEPTOR_HPP

#include <holdfast/admitted_connection.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/census.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/acceptor/drain_operation.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/async/strand_operation.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace holdfast {

/// What can keep a newcomer out.
enum class admission_limit : std::uint8_t {
    /// `max_connections`, or the semaphore shared with others.
    connections,
    /// `max_per_address`.
    per_address,
    /// `accepts_per_second`.
    rate,
    /// The memory mark.
    memory,
    /// The system's descriptors have run out.
    descriptors,
};

/// What becomes of newcomers at a limit.
enum class overload_policy : std::uint8_t {
    /// They wait in the listener's backlog, connected as far as they can see, until there is room or their
    /// `backlog_timeout` ends.
    wait,
    /// They are accepted, sent the reject_message, and closed in good order; where too many farewells are under
    /// way,
    /// reset.
    reject,
    /// They are accepted and reset (RST), which costs the server nothing and tells the client at once.
    reset,
};

/// Something that a `bounded_acceptor` dealt with by itself and that its user may want to count.
struct acceptor_event {
    enum class kind {
        /// Descriptors or memory ran out (`error` says which): accepting rests until a connection ends or for
        /// a while.
        starved,
        /// A newcomer was gone before it could be accepted (`error`): accepting goes on.
        lost,
        /// A session ended with `exception`: its connection was closed, the others go on.
        session_failed,
        /// At the limit `limit`, accepting rests; newcomers wait in the backlog.
        paused,
        /// At the limit `limit`, a newcomer was turned away or reset.
        rejected,
    };

    kind what;
    error_code error{};
    std::exception_ptr exception{};
    admission_limit limit{};
    /// How many of the kind there were since the last one told, this one included: of each kind sixteen are
    /// told at once, and one a second from then on.
    std::uint64_t count = 1;
};

/// When memory is too high to let anybody in.
struct memory_limits {
    /// What is measured.
    enum class memory_source : std::uint8_t {
        /// Nothing: there is no mark.
        none,
        /// VmRSS of this process.
        process,
        /// What the cgroup uses, socket buffers included and page cache not: the one with the smallest limit
        /// up the chain. Where no group has a limit, there is no mark.
        cgroup,
    };

    memory_source of = memory_source::none;
    /// Above this newcomers are kept out. 0: nine tenths of the cgroup's limit.
    std::uint64_t high_watermark = 0;
    /// Below this they are let in again. 0: fifteen sixteenths of the high mark.
    std::uint64_t low_watermark = 0;
    /// As freed memory may never go back to the system, newcomers are also let in again when an eighth of the
    /// connections has left, up to as many as there were; and, so that it cannot lock shut, one in each such
    /// time. Zero: no probe_interval.
    std::chrono::milliseconds probe_interval{1000};
    /// Called once when the high mark is passed, before anybody is kept out: to give memory back, as with
    /// malloc_trim(0). On the acceptor's strand; must not throw.
    std::function<void()> on_memory_pressure{};
};

/// Limits and settings of a `bounded_acceptor`.
struct acceptor_options {
    /// How many connections may be open at once: the others wait in the listener's backlog. At least 1.
    std::size_t max_connections = 10'000;
    /// Taken from for each connection instead of `max_connections`: several acceptors may share one
    /// semaphore, which must outlive them. `max_connections` then only says how many to expect.
    /// As a permit is taken before accepting, each acceptor that waits for a newcomer holds one of its units.
    async_semaphore* room = nullptr;
    /// How many connections one remote address may have at once; 0: no limit. The table of addresses never
    /// holds more than there are connections. IP only.
    std::size_t max_per_address = 0;
    /// How many bits make an address: clients of one IPv6 network may have as many addresses as they like.
    /// An IPv4 address mapped to IPv6 is the IPv4 address. 1 to 32, and 1 to 128.
    unsigned ipv4_prefix = 32;
    unsigned ipv6_prefix = 64;
    /// How many newcomers are let in each second; 0: no limit.
    double accepts_per_second = 0;
    /// How many of them may come at once after a quiet time. At least 1.
    std::size_t accept_burst = 100;
    /// Marks of memory.
    memory_limits memory{};
    /// What becomes of newcomers at each limit. Who has too many connections already cannot wait: it is not
    /// known before it is accepted. Without descriptors, one at a time is reset by means of a descriptor kept
    /// in reserve; a reject_message is not possible there.
    overload_policy on_connection_limit = overload_policy::wait;
    overload_policy on_address_limit = overload_policy::reset;
    overload_policy on_rate_limit = overload_policy::wait;
    overload_policy on_memory_limit = overload_policy::wait;
    overload_policy on_descriptor_limit = overload_policy::wait;
    /// How long newcomers wait in the backlog at a limit before they are turned away all the same, those
    /// first who came first; zero: for as long as the limit lasts. Late by a quarter at most. While newcomers
    /// are kept waiting the backlog is looked at eight times in that time. TCP only; not where another
    /// process accepts from the same listener.
    std::chrono::milliseconds backlog_timeout{0};
    /// What is sent to those who are turned away; as much of it as the socket takes at once.
    std::string reject_message{};
    /// How long and how many of them may take to close; beyond, they are reset.
    std::chrono::milliseconds reject_deadline{1000};
    std::size_t max_pending_rejects = 16;
    /// The executor of the next connection: a strand for each, or the next of several io_contexts. Empty: the
    /// acceptor's own. Only where that is `any_io_executor`. Called on the acceptor's strand; must not throw.
    std::function<net::any_io_executor()> next_executor{};
    /// How many newcomers the kernel keeps waiting; it may lower this (net.core.somaxconn).
    int backlog = net::socket_base::max_listen_connections;
    /// Whether the address may be bound again while old connections are still in TIME_WAIT.
    bool reuse_address = true;
    /// Whether others may listen at the same address (SO_REUSEPORT): an acceptor for each io_context, between
    /// which the kernel spreads the newcomers.
    bool reuse_port = false;
    /// SO_SNDBUF of each connection in bytes, which the kernel doubles; 0 leaves it to the kernel, whose
    /// buffers then grow to megabytes per slow reader. The listener is given it too, so that it holds for
    /// newcomers from their first byte; one that is adopted should have been given it before.
    int send_buffer_bytes = 0;
    /// SO_RCVBUF of each connection in bytes, likewise.
    int receive_buffer_bytes = 0;
    /// Whether small writes go out at once (TCP_NODELAY); TCP only.
    bool no_delay = true;
    /// Whether to make beforehand what Asio keeps for each descriptor, some 170 bytes, for all connections of
    /// the limit. Asio never frees these states; made one by one between the blocks of the sessions, they
    /// keep most of a burst's memory from going back to the system: after 10,000 connections 18 of 44 MiB
    /// stayed, with this 2.4 MiB. For a moment the constructor opens as many descriptors as connections are
    /// allowed, or as the system has left.
    bool reserve_descriptors = false;
    /// Told what the acceptor deals with by itself; may be empty. Called on the acceptor's strand or, for a
    /// failed session, on that session's executor. It must stay valid until the last session has ended, and
    /// must not throw.
    std::function<void(const acceptor_event&)> on_event{};
};

/// Bounds of `bounded_acceptor::async_drain`.
struct drain_options {
    /// After how long those still there are aborted.
    std::chrono::steady_clock::duration deadline = std::chrono::seconds(30);
    /// Over how long to spread the news, so that clients do not all come back to the next server at once.
    /// Less than the deadline.
    std::chrono::steady_clock::duration stagger = std::chrono::steady_clock::duration::zero();
};

/// Listens, and admits at most `max_connections` at once: a permit is taken before a newcomer is accepted,
/// and travels inside the connection until it has ended. Newcomers beyond the limit wait in the backlog; at
/// the limit, and when descriptors run out, nothing spins. More limits (for each address, of the rate, of
/// memory) and what becomes of newcomers there are options.
///
/// Without descriptors it rests, and wakes at once when one of its own connections ends; for descriptors that
/// others hold it looks again after 10 ms, then less and less often, up to a second. It tries fewer than 20
/// times a second.
///
/// `Finalizer` is copied into each connection and called once at its end.
///
/// Without memory for a newcomer (its place, its finalizer, what Asio keeps for its descriptor) it is closed,
/// and accepting rests as without descriptors; without memory for its session's coroutine, that connection
/// alone ends. What accepting waits with lies inside the acceptor, so that it goes on when memory is back.
///
/// Lifetime: connections may outlive it. Destroying it closes the listener and ends pending operations.
/// Concurrency: all members may be called from any thread. Its own work is done on a strand of its own, one
/// thing at a time in one of the executor's threads, which needs no memory; accepted sockets get the plain
/// executor.
///
///     holdfast::bounded_acceptor<tcp> doors{io.get_executor(), {tcp::v4(), 7777}, {.max_connections = 100}};
///     doors.async_serve([](auto peer) { return session(std::move(peer)); }, net::detached);
template <class Protocol, connection_finalizer Finalizer = no_finalizer,
          class Executor = net::any_io_executor>
class bounded_acceptor {
    struct core;

public:
    using protocol_type = Protocol;
    using endpoint_type = typename Protocol::endpoint;
    using executor_type = Executor;
    using connection_type = admitted_connection<net::basic_stream_socket<Protocol, Executor>, Finalizer>;

    /// Opens, binds and listens. Throws what the system refuses (an address in use, no right to bind) as
    /// `system_error`, and std::invalid_argument for a limit of zero.
    bounded_acceptor(const Executor& executor, const endpoint_type& endpoint, acceptor_options options = {},
                     Finalizer finalizer = {}, std::source_location where = std::source_location::current())
        : core_(std::make_shared<core>(executor, std::move(options), std::move(finalizer), where))
    {
        core_->self = core_;
        core_->listen(endpoint);
    }

    /// Adopts a socket that listens already, such as one that a service manager has opened and keeps open
    /// while this program is replaced: newcomers wait in its backlog meanwhile. The options' `backlog` and
    /// `reuse_address` are left as they are. Throws what the system refuses (a descriptor that is no socket)
    /// as `system_error`, and then has not taken it over.
    bounded_acceptor(const Executor& executor, const Protocol& protocol,
                     typename net::basic_socket_acceptor<Protocol>::native_handle_type listener,
                     acceptor_options options = {}, Finalizer finalizer = {},
                     std::source_location where = std::source_location::current())
        : core_(std::make_shared<core>(executor, std::move(options), std::move(finalizer), where))
    {
        core_->self = core_;
        core_->adopt(protocol, listener);
    }

    bounded_acceptor(const bounded_acceptor&) = delete;
    bounded_acceptor& operator=(const bounded_acceptor&) = delete;

    ~bounded_acceptor() { close(); }

    executor_type get_executor() const { return core_->executor; }

    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    [[nodiscard]] endpoint_type local_endpoint() const { return core_->endpoint; }

    /// A view on the connections that were admitted.
    [[nodiscard]] holdfast::census census() const { return holdfast::census(core_->members); }

    /// Ends the connection that the census knows as `id`: its pending or next operation fails, as when the
    /// network does, and the close that follows is for `reason`. False when it is not there any more.
    bool end(std::uint64_t id, close_reason reason = close_reason::local) noexcept
    {
        return core_->members->end(id, reason);
    }

    /// How many newcomers were turned away or reset so far.
    [[nodiscard]] std::uint64_t rejected() const noexcept { return core_->rejected; }

    /// How many addresses have a connection; 0 without a limit for them.
    [[nodiscard]] std::size_t addresses() const noexcept { return core_->members->addresses.size(); }

    /// Waits for room, then for a newcomer, and admits it.
    ///
    /// Completion: void(error_code, connection_type), on the handler's executor, never inside this call.
    /// `errc::acceptor_closed` after `close()` or when draining; other errors only where the listener itself
    /// failed: a newcomer lost on the way, and a shortage of descriptors or memory, are waited out and
    /// reported as events.
    /// Cancellation: terminal, partial and total; nothing is lost, a newcomer stays in
    /// the backlog.
    /// Cost: one small block, and one from the handler's allocator. Throws std::bad_alloc where there is no
    /// memory to begin; later there is always enough to complete.
    template <class CompletionToken = default_token_t<Executor>>
    auto async_accept(CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, connection_type)>(
            [self = core_](auto handler) {
                detail::start_operation(std::make_shared<typename core::accept_wish>(self),
                                        std::move(handler));
            },
            token);
    }

    /// Accepts until it is closed, and starts `handler` for each connection.
    ///
    /// `handler` takes the connection by value or by reference. It returns an `awaitable`, which is spawned
    /// on the connection's executor, or (by value only) void, and then has made its own arrangements. What it
    /// or its coroutine throws ends that connection alone and is reported as an event.
    ///
    /// A handler that takes `connection_type&` leaves the owning to the acceptor, in a small coroutine of its
    /// own around a copy of it: the connection is closed when the session returns, and for an exception that
    /// leaves it the finalizer is told what it stands for (`end_by`): the peer's end of stream or reset, a
    /// cancellation, a frame beyond the limit. A handler that takes the connection by value, which costs one
    /// coroutine frame less, is called on the acceptor's strand.
    ///
    /// Completion: void(error_code), on the token's executor; success after `close()` or when draining, else
    /// why the listener failed. Sessions may still be running then: `async_drain` waits for them.
    /// Cancellation: terminal, partial and total stop accepting; sessions go on.
    template <class Handler, class CompletionToken = default_token_t<Executor>>
    auto async_serve(Handler handler, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(
            [self = core_](auto completion, Handler session) {
                using wish = typename core::template serve_wish<Handler>;
                detail::start_operation(std::make_shared<wish>(self, std::move(session)),
                                        std::move(completion));
            },
            token, std::move(handler));
    }

    /// Stops accepting for good: frees the port, ends pending accepts, also those that wait for room.
    /// Connections stay.
    void close() noexcept { core_->strand.run(core_->close_task, core_); }

    /// Stops accepting, tells every session to end, waits for the last, and aborts those left at the
    /// deadline.
    ///
    /// A session is told by shutting down its receiving side: its pending or next read finds the end of the
    /// stream, as if the peer had gone; `draining()` says why. It can still write.
    ///
    /// Completion: void(error_code, std::size_t), on the handler's executor: how many were aborted. At the
    /// deadline it does not wait for those. A session that waits for neither reads nor writes ends when it
    /// next does.
    /// Cancellation: terminal, partial and total end the wait with `operation_aborted`; sessions
    /// that were told stay told.
    template <class CompletionToken = default_token_t<Executor>>
    auto async_drain(drain_options options = {}, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(
            [self = core_, options](auto handler) {
                using drain = detail::drain_operation<core>;
                detail::start_operation(std::make_shared<drain>(self, options.deadline, options.stagger),
                                        std::move(handler));
            },
            token);
    }

private:
    std::shared_ptr<core> core_;
};

} // namespace holdfast

#include <holdfast/detail/acceptor/acceptor_core.hpp>

#endif
