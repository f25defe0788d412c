// holdfast: bounded_acceptor, which never lets in more than N connections and can tell them all to go.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BOUNDED_ACCEPTOR_HPP
#define HOLDFAST_BOUNDED_ACCEPTOR_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/census.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/registry.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include <unistd.h>

namespace holdfast {

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
    };

    kind what;
    error_code error{};
    std::exception_ptr exception{};
};

/// Limits and settings of a `bounded_acceptor`.
struct acceptor_options {
    /// How many connections may be open at once: the others wait in the listener's backlog. At least 1.
    std::size_t max_connections = 10'000;
    /// How many newcomers the kernel keeps waiting; it may lower this (net.core.somaxconn).
    int backlog = net::socket_base::max_listen_connections;
    /// Whether the address may be bound again while old connections are still in TIME_WAIT.
    bool reuse_address = true;
    /// SO_SNDBUF of each connection in bytes, which the kernel doubles; 0 leaves it to the kernel, whose
    /// buffers then grow to megabytes per slow reader.
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
    std::chrono::steady_clock::duration spread = std::chrono::steady_clock::duration::zero();
};

namespace detail {

/// The finalizer of an admitted connection: around the user's own, it leaves the registry and returns the
/// permit.
template <connection_finalizer Finalizer>
class admission {
public:
    /// Of a connection that never was.
    explicit admission(Finalizer finalizer) noexcept : finalizer_(std::move(finalizer)) {}

    admission(Finalizer finalizer, std::shared_ptr<registry> members, registry::index place,
              permit admitted) noexcept
        : registry_(std::move(members)),
          permit_(std::move(admitted)),
          place_(place),
          finalizer_(std::move(finalizer))
    {
    }

    close_reason before_close(close_reason reason) noexcept { return registry_->disarm(place_, reason); }

    void operator()(const connection_end& end) noexcept
    {
        finalizer_(end);
        std::exchange(registry_, nullptr)->leave(place_);
        permit_.release();
    }

    [[nodiscard]] bool told() const noexcept { return registry_ && registry_->told(place_); }

private:
    std::shared_ptr<registry> registry_;
    permit permit_;
    registry::index place_ = 0;
    [[no_unique_address]] Finalizer finalizer_;
};

} // namespace detail

/// A connection that a `bounded_acceptor` let in: a `connection_guard` that carries its permit and its place
/// in the acceptor's census. Both are given back when it ends, whichever way, after the descriptor was closed
/// and the finalizer ran; it may outlive the acceptor.
template <class Protocol, connection_finalizer Finalizer = no_finalizer,
          class Executor = net::any_io_executor>
class admitted_connection
    : public connection_guard<net::basic_stream_socket<Protocol, Executor>, detail::admission<Finalizer>> {
    using guard =
        connection_guard<net::basic_stream_socket<Protocol, Executor>, detail::admission<Finalizer>>;

public:
    /// Whether a drain has told this connection to end: its next read finds the end of the stream, writing
    /// still works. Thread-safe; a short lock.
    [[nodiscard]] bool draining() const noexcept { return this->finalizer().told(); }

private:
    template <class, connection_finalizer, class>
    friend class bounded_acceptor;

    using guard::guard;
    admitted_connection(const Executor& executor, Finalizer finalizer)
        : guard(typename guard::ended_t{}, typename guard::stream_type(executor),
                detail::admission<Finalizer>(std::move(finalizer)))
    {
    }
};

/// Listens, and admits at most `max_connections` at once: a permit is taken before a newcomer is accepted,
/// and travels inside the connection until it has ended. Newcomers beyond the limit wait in the backlog; at
/// the limit, and when descriptors run out, nothing spins.
///
/// `Finalizer` is copied into each connection and called once at its end.
///
/// Lifetime: connections may outlive it. Destroying it closes the listener and ends pending operations.
/// Concurrency: all members may be called from any thread; its own state runs on a strand of `Executor`.
/// Accepted sockets get the plain executor.
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
    using connection_type = admitted_connection<Protocol, Finalizer, Executor>;

    /// Opens, binds and listens. Throws what the system refuses (an address in use, no right to bind) as
    /// `system_error`, and std::invalid_argument for a limit of zero.
    bounded_acceptor(const Executor& executor, const endpoint_type& endpoint, acceptor_options options = {},
                     Finalizer finalizer = {}, std::source_location where = std::source_location::current())
        : core_(std::make_shared<core>(executor, std::move(options), std::move(finalizer), where))
    {
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
        core_->adopt(protocol, listener);
    }

    bounded_acceptor(const bounded_acceptor&) = delete;
    bounded_acceptor& operator=(const bounded_acceptor&) = delete;

    ~bounded_acceptor()
    {
        close();
        core_->members->detach();
    }

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

    /// Waits for room, then for a newcomer, and admits it.
    ///
    /// Completion: void(error_code, connection_type), on the handler's executor, never inside this call.
    /// `errc::acceptor_closed` after `close()` or when draining; other errors only where the listener itself
    /// failed: a newcomer lost on the way, and a shortage of descriptors or memory, are waited out and
    /// reported as events.
    /// Cancellation: terminal, partial and total; nothing is lost, a newcomer stays in
    /// the backlog.
    /// Cost: the coroutine frames of one short operation, which Asio recycles.
    template <class CompletionToken = default_token_t<Executor>>
    auto async_accept(CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code, connection_type)>(
            [self = core_](auto handler) {
                auto finish = [self](auto& h, std::exception_ptr failure, accepted result) {
                    if (failure) result.error = net::error::no_memory;
                    h(result.error, result.peer ? std::move(*result.peer)
                                                : connection_type(self->executor, self->finalizer));
                };
                self->run_on_strand(core::accept(self), std::move(handler), std::move(finish));
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
                auto finish = [](auto& h, std::exception_ptr failure, error_code result) {
                    h(failure ? error_code(net::error::no_memory) : result);
                };
                self->run_on_strand(core::serve(self, std::move(session)), std::move(completion),
                                    std::move(finish));
            },
            token, std::move(handler));
    }

    /// Stops accepting for good: frees the port, ends pending accepts, also those that wait for room.
    /// Connections stay.
    void close() noexcept
    {
        try {
            net::dispatch(core_->strand, [self = core_] { self->close(); });
        } catch (const std::bad_alloc&) {
            core_->closed =
                true; // the next newcomer finds it closed; the listener goes with the last operation
        }
    }

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
                auto finish = [](auto& h, std::exception_ptr failure, drained result) {
                    h(failure ? error_code(net::error::no_memory) : result.error, result.aborted);
                };
                self->run_on_strand(core::drain(self, options), std::move(handler), std::move(finish));
            },
            token);
    }

private:
    struct accepted {
        error_code error{};
        std::optional<connection_type> peer{};
    };

    struct drained {
        error_code error{};
        std::size_t aborted = 0;
    };

    std::shared_ptr<core> core_;
};

/// What the acceptor and its operations share. All members but the first group are touched on the strand
/// only.
template <class Protocol, connection_finalizer Finalizer, class Executor>
struct bounded_acceptor<Protocol, Finalizer, Executor>::core {
    core(const Executor& ex, acceptor_options opts, Finalizer f, std::source_location where)
        : executor(ex),
          strand(ex),
          options(std::move(opts)),
          finalizer(std::move(f)),
          members(std::make_shared<detail::registry>(ex, checked(options.max_connections))),
          room(ex, options.max_connections),
          listener(strand),
          origin(where)
    {
    }

    void listen(const endpoint_type& where)
    {
        listener.open(where.protocol());
        if (options.reuse_address) listener.set_option(net::socket_base::reuse_address(true));
        listener.bind(where);
        listener.listen(options.backlog);
        begin();
    }

    void adopt(const Protocol& protocol,
               typename net::basic_socket_acceptor<Protocol>::native_handle_type descriptor)
    {
        listener.assign(protocol, descriptor);
        try {
            begin();
        } catch (...) {
            listener.release();
            throw;
        }
    }

    void begin()
    {
        endpoint = listener.local_endpoint();
        if (options.reserve_descriptors) reserve_descriptors();
    }

    /// Registers copies of the listener's descriptor, all at the same time, and closes them again.
    void reserve_descriptors()
    {
        std::vector<net::posix::basic_stream_descriptor<Executor>> copies;
        copies.reserve(options.max_connections);
        while (copies.size() != options.max_connections) {
            const int copy = ::dup(listener.native_handle());
            if (copy < 0) return; // there can't be more connections either
            copies.emplace_back(executor);
            error_code ec;
            copies.back().assign(copy, ec);
            if (ec) {
                ::close(copy);
                return;
            }
        }
    }

    static std::size_t checked(std::size_t max_connections)
    {
        if (max_connections == 0)
            throw std::invalid_argument("acceptor_options.max_connections must be at least 1");
        return max_connections;
    }

    /// Starts a coroutine on the strand on behalf of an operation. What the user's slot emits is carried over
    /// to the strand, since signals are not thread-safe.
    template <class Result, class Handler, class Finish>
    void run_on_strand(net::awaitable<Result> work, Handler handler, Finish finish)
    {
        auto signal = std::make_shared<net::cancellation_signal>();
        if (auto slot = net::get_associated_cancellation_slot(handler); slot.is_connected())
            slot.assign([signal, s = strand](net::cancellation_type type) {
                net::dispatch(s, [signal, type] { signal->emit(type); });
            });
        auto handler_executor = net::get_associated_executor(handler, executor);
        auto completion = [signal, handler = std::move(handler),
                           finish = std::move(finish)](std::exception_ptr failure, Result result) mutable {
            finish(handler, failure, std::move(result));
        };
        net::co_spawn(strand, std::move(work),
                      net::bind_cancellation_slot(
                          signal->slot(), net::bind_executor(handler_executor, std::move(completion))));
    }

    static net::awaitable<accepted> accept(std::shared_ptr<core> self)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        error_code ec;
        permit admitted = co_await self->room.async_acquire(1, net::redirect_error(net::use_awaitable, ec));
        if (ec) co_return accepted{ec};
        std::chrono::milliseconds rest = shortest_rest;
        while (!self->closed) {
            const auto seen = self->members->departures();
            auto socket = co_await self->listener.async_accept(self->executor,
                                                               net::redirect_error(net::use_awaitable, ec));
            if (!ec) {
                if (auto peer = self->admit(std::move(socket), admitted))
                    co_return accepted{{}, std::move(peer)};
                ec = net::error::no_memory;
            }
            if (self->closed) break;
            if (is_shortage(ec)) {
                self->tell({acceptor_event::kind::starved, ec});
                co_await self->members->async_departure(seen, std::chrono::steady_clock::now() + rest,
                                                        net::redirect_error(net::use_awaitable, ec));
                rest = std::min(2 * rest, longest_rest);
                const auto cancellation = co_await net::this_coro::cancellation_state;
                if (cancellation.cancelled() != net::cancellation_type::none)
                    co_return accepted{net::error::operation_aborted};
            } else if (is_loss(ec)) {
                self->tell({acceptor_event::kind::lost, ec});
            } else {
                co_return accepted{ec};
            }
        }
        co_return accepted{errc::acceptor_closed};
    }

    template <class Session>
    static net::awaitable<error_code> serve(std::shared_ptr<core> self, Session session)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        for (;;) {
            accepted next = co_await accept(self);
            if (next.error) co_return next.error == errc::acceptor_closed ? error_code() : next.error;
            start(self, session, std::move(*next.peer));
        }
    }

    static net::awaitable<drained> drain(std::shared_ptr<core> self, drain_options options)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        self->close();
        const auto start = std::chrono::steady_clock::now();
        const std::size_t batches =
            std::max<std::size_t>(1, (self->members->live() + batch_size - 1) / batch_size);
        net::steady_timer pause(self->strand);
        std::optional<std::size_t> cursor = 0;
        for (std::size_t batch = 1; (cursor = self->members->tell(*cursor, batch_size)); ++batch) {
            error_code ec;
            pause.expires_at(start + options.spread * static_cast<long>(std::min(batch, batches)) /
                                         static_cast<long>(batches));
            co_await pause.async_wait(net::redirect_error(net::use_awaitable, ec));
            if (ec) co_return drained{ec};
        }
        for (;;) {
            const auto seen = self->members->departures();
            if (self->members->live() == 0) co_return drained{};
            if (std::chrono::steady_clock::now() >= start + options.deadline)
                co_return drained{{}, self->members->abort_all()};
            error_code ec;
            co_await self->members->async_departure(seen, start + options.deadline,
                                                    net::redirect_error(net::use_awaitable, ec));
            const auto cancellation = co_await net::this_coro::cancellation_state;
            if (cancellation.cancelled() != net::cancellation_type::none)
                co_return drained{net::error::operation_aborted};
        }
    }

    void close() noexcept
    {
        closed = true;
        error_code ignored;
        listener.close(ignored);
        room.close(errc::acceptor_closed);
        members->wake();
    }

    /// Makes a connection of an accepted socket; empty, and the socket closed, where memory ran out.
    std::optional<connection_type> admit(typename connection_type::stream_type socket, permit& admitted)
    {
        try {
            const auto place = members->enter(socket.native_handle());
            configure(socket);
            return connection_type(
                std::move(socket),
                detail::admission<Finalizer>(finalizer, members, place, std::move(admitted)), origin);
        } catch (const std::bad_alloc&) {
            return {};
        }
    }

    void configure(typename connection_type::stream_type& socket) noexcept
    {
        error_code ignored; // a peer that is gone already shows at the first read
        if (options.send_buffer_bytes > 0)
            socket.set_option(net::socket_base::send_buffer_size(options.send_buffer_bytes), ignored);
        if (options.receive_buffer_bytes > 0)
            socket.set_option(net::socket_base::receive_buffer_size(options.receive_buffer_bytes), ignored);
        if constexpr (std::is_same_v<Protocol, net::ip::tcp>)
            socket.set_option(net::ip::tcp::no_delay(options.no_delay), ignored);
    }

    template <class Session>
    static void start(const std::shared_ptr<core>& self, Session& session, connection_type peer)
    {
        try {
            const auto ended = [self](const std::exception_ptr& failure, auto&&...) {
                if (failure) self->tell({acceptor_event::kind::session_failed, {}, failure});
            };
            if constexpr (!std::is_invocable_v<Session&, connection_type>)
                net::co_spawn(self->executor, own(std::move(peer), session), ended);
            else if constexpr (std::is_void_v<std::invoke_result_t<Session&, connection_type>>)
                session(std::move(peer));
            else
                net::co_spawn(self->executor, session(std::move(peer)), ended);
        } catch (...) {
            self->tell({acceptor_event::kind::session_failed, {}, std::current_exception()});
        }
    }

    /// Owns the connection of a session that has it by reference, and sees why it failed.
    template <class Session>
    static std::invoke_result_t<Session&, connection_type&> own(connection_type peer, Session session)
    {
        try {
            co_await session(peer);
            peer.close();
        } catch (...) {
            const connection_end end = end_by(std::current_exception());
            peer.close(end.reason, end.error);
            throw;
        }
    }

    void tell(const acceptor_event& event) const
    {
        if (options.on_event) options.on_event(event);
    }

    // By number: Asio's category of system errors does not map them to std::errc in every version.
    static bool is_shortage(const error_code& ec) noexcept
    {
        switch (ec.value()) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case ENOSPC: // of epoll(7): as many descriptors are watched as the user may have
            return ec.category() == net::error::get_system_category();
        default:
            return false;
        }
    }

    /// What accept(2) on Linux passes on from a newcomer's own connection.
    static bool is_loss(const error_code& ec) noexcept
    {
        switch (ec.value()) {
        case ECONNABORTED:
        case EPROTO:
        case EINTR:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENONET:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case ETIMEDOUT:
        case EPERM:
            return ec.category() == net::error::get_system_category();
        default:
            return false;
        }
    }

    static constexpr std::chrono::milliseconds shortest_rest{10};
    static constexpr std::chrono::milliseconds longest_rest{1000};
    static constexpr std::size_t batch_size = 64; // sessions told in one turn of the strand

    const Executor executor;
    net::strand<Executor> strand;
    const acceptor_options options;
    const Finalizer finalizer;
    const std::shared_ptr<detail::registry> members;
    endpoint_type endpoint;
    std::atomic<bool> closed = false;

    async_semaphore room;
    net::basic_socket_acceptor<Protocol, net::strand<Executor>> listener;
    const std::source_location origin; // what leak_check names for the connections
};

} // namespace holdfast

#endif
