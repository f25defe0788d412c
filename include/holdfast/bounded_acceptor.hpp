// holdfast: bounded_acceptor, which admits at most N connections at a time and can drain them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BOUNDED_ACCEPTOR_HPP
#define HOLDFAST_BOUNDED_ACCEPTOR_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/admitted_connection.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/census.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/acceptor/acceptor_settings.hpp>
#include <holdfast/detail/acceptor/drain_operation.hpp>
#include <holdfast/detail/acceptor/handshakes.hpp>
#include <holdfast/detail/acceptor/proxied_starter.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>
#include <holdfast/error.hpp>
#include <holdfast/layer_factory.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Listens, and admits at most `max_connections` connections at a time. A permit is taken before a connection is
/// accepted and belongs to the connection until its end. Further clients wait in the backlog. Other limits (per
/// address, of the rate, of memory), and what happens to clients at a limit, are options.
///
/// At a limit, and when no descriptor is free, accepting pauses without polling. Without descriptors it resumes when
/// one of its own connections ends; for descriptors that others hold it retries after 10 ms, then less and less often,
/// up to a second, and less than 20 times a second in all. Without memory for a connection (its entry, its finalizer,
/// Asio's state) that connection is closed and accepting pauses likewise; without memory for a session's coroutine,
/// that connection alone is closed. Accepting itself needs no memory to resume. (Where no allocation succeeds, Asio may
/// lack an entry of its timer queue for the pause: while clients wait, it is then tried in each turn of the event loop.)
///
/// `Finalizer` is copied into each connection and called once at its end.
///
/// Lifetime: connections may outlive the acceptor, and the acceptor its execution context, also where its executor is a
/// strand, of which it then keeps no copy; only `get_executor()` and new operations need the context. Destroying the
/// acceptor closes the listener and fails pending operations with `errc::acceptor_closed`.
///
/// Thread safety: all members may be called from any thread, also from a session handler or another callback of the
/// acceptor. Session handlers are called on the acceptor's executor, or on the connection's where `async_serve` is
/// given a layer or with `acceptor_options::proxy`; in either case never two at a time. Each callback of the options
/// says where it is called. A connection has the acceptor's executor, or that of `next_executor`.
///
///     holdfast::bounded_acceptor<tcp> acceptor{io, {tcp::v4(), 7777}, {.max_connections = 100}};
///     acceptor.async_serve([](auto peer) { return session(std::move(peer)); }, net::detached);
template <class Protocol, connection_finalizer Finalizer = no_finalizer, class Executor = net::any_io_executor>
class bounded_acceptor {
    class core;

public:
    using protocol_type = Protocol;
    using endpoint_type = typename Protocol::endpoint;
    using executor_type = Executor;
    using connection_type = admitted_connection<net::basic_stream_socket<Protocol, Executor>, Finalizer>;
    using native_handle_type = int;

    /// The acceptor of another executor type.
    template <class Executor1>
    struct rebind_executor {
        using other = bounded_acceptor<Protocol, Finalizer, Executor1>;
    };

    /// Opens a socket, binds it to `endpoint` and listens. Its descriptor is close-on-exec.
    ///
    /// Exceptions: system_error when the system refuses it (the address is in use, no right to bind);
    /// std::invalid_argument for an option out of range.
    bounded_acceptor(const Executor& executor, const endpoint_type& endpoint, acceptor_options options = {},
                     Finalizer finalizer = {}, std::source_location where = std::source_location::current())
        : core_(std::make_shared<core>(executor, std::move(options), std::move(finalizer), where))
    {
        core_->listen(endpoint);
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    bounded_acceptor(ExecutionContext& context, const endpoint_type& endpoint, acceptor_options options = {},
                     Finalizer finalizer = {}, std::source_location where = std::source_location::current())
        : bounded_acceptor(Executor(context.get_executor()), endpoint, std::move(options), std::move(finalizer), where)
    {
    }

    /// Adopts a socket that listens already, such as one that a service manager keeps open while this program is
    /// replaced: clients wait in its backlog meanwhile. Its descriptor becomes close-on-exec and non-blocking. The
    /// options that take effect before listening (`backlog`, `reuse_address`, `reuse_port`, those of socket files) are
    /// not used.
    ///
    /// Exceptions: system_error when the descriptor is not a socket; std::invalid_argument for an option out of range.
    /// The descriptor then still belongs to the caller.
    bounded_acceptor(const Executor& executor, const Protocol& protocol, native_handle_type listener,
                     acceptor_options options = {}, Finalizer finalizer = {},
                     std::source_location where = std::source_location::current())
        : core_(std::make_shared<core>(executor, std::move(options), std::move(finalizer), where))
    {
        core_->adopt(protocol, listener);
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    bounded_acceptor(ExecutionContext& context, const Protocol& protocol, native_handle_type listener,
                     acceptor_options options = {}, Finalizer finalizer = {},
                     std::source_location where = std::source_location::current())
        : bounded_acceptor(Executor(context.get_executor()), protocol, listener, std::move(options),
                           std::move(finalizer), where)
    {
    }

    bounded_acceptor(const bounded_acceptor&) = delete;
    bounded_acceptor& operator=(const bounded_acceptor&) = delete;

    ~bounded_acceptor() { close(); }

    /// Only before the end of the execution context.
    [[nodiscard]] executor_type get_executor() const noexcept { return core_->executor(); }

    /// The address that it listens on, with the port that the kernel chose for port 0.
    [[nodiscard]] endpoint_type local_endpoint() const { return core_->endpoint; }

    /// A view of the admitted connections. It may outlive the acceptor.
    [[nodiscard]] holdfast::census census() const { return holdfast::census(core_->members); }

    /// Ends the connection that the census lists as `id`, for `reason`: its pending or next operation fails, as when
    /// the network does. Returns false when it has ended already.
    bool end(std::uint64_t id, close_reason reason = close_reason::local) noexcept
    {
        return core_->members->end(id, reason);
    }

    /// The number of connections that were rejected or reset at a limit.
    [[nodiscard]] std::uint64_t rejected() const noexcept
    {
        return core_->rejected + (core_->proxy ? core_->proxy->rejected.load() : 0);
    }

    /// The number of remote addresses that have a connection; 0 without a limit per address.
    [[nodiscard]] std::size_t addresses() const noexcept { return core_->members->addresses.size(); }

    /// Admits the next connection.
    ///
    /// Completion: void(error_code, connection_type), never inside this call. Fails with `errc::acceptor_closed` after
    /// `close()` and when draining, with `errc::semaphore_closed` when the shared semaphore was closed or destroyed,
    /// with `net::error::no_memory` when accepting cannot begin, and with another error only when the listener itself
    /// has failed. Once it has begun, a client that has left and a shortage of descriptors or memory are handled, and
    /// reported as events.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`. No connection is lost: it stays in
    /// the backlog, or, when it was just being admitted, the next operation gets it.
    ///
    /// Exceptions: std::bad_alloc when there is no memory for the operation; later there always is enough to complete.
    /// std::logic_error where `acceptor_options::proxy` has trusted senders: only `async_serve` reads their headers.
    ///
    /// Cost: one allocation by the handler's allocator, one for Asio's wait.
    template <class CompletionToken = default_token_t<Executor>>
        requires net::completion_token_for<CompletionToken, void(error_code, connection_type)>
    auto async_accept(CompletionToken&& token = CompletionToken())
    {
        if (core_->proxy)
            throw std::logic_error("acceptor_options::proxy requires async_serve: async_accept reads no PROXY header");
        return net::async_initiate<CompletionToken, void(error_code, connection_type)>(initiate_accept(core_), token);
    }

    /// Admits connections until it is closed, and calls `handler` with each.
    ///
    /// `handler` is called with the connection, by value, and with the index of its shard (`next_executor`) if it takes
    /// two arguments. It returns an `awaitable`, which is spawned on the connection's executor, or void if it starts
    /// the session itself. An exception that it or its coroutine throws ends that connection alone and is reported as
    /// an event.
    ///
    /// Completion: void(error_code), never inside this call. Success after `close()` and when draining; otherwise the
    /// errors of `async_accept`. Sessions may still be running then: `async_drain` waits for them.
    ///
    /// Cancellation: terminal, partial and total stop accepting and fail with `operation_aborted`; sessions go on.
    ///
    /// An exception that leaves a coroutine destroys its connection, which then ends for the reason that the destructor
    /// of `connection_guard` documents.
    ///
    /// Lifetime: `handler` is kept until the operation has completed and the last coroutine that it has returned has
    /// ended: a lambda may be a coroutine and use its captures.
    ///
    /// Thread safety: `handler` is called on a thread of the acceptor's executor, never concurrently; with
    /// `acceptor_options::proxy` on the connection's executor (`next_executor`).
    ///
    /// Exceptions: std::bad_alloc when there is no memory to begin.
    template <class Handler, class CompletionToken = default_token_t<Executor>>
        requires(!layer_factory<Handler, typename connection_type::stream_type>) &&
                net::completion_token_for<CompletionToken, void(error_code)>
    auto async_serve(Handler handler, CompletionToken&& token = CompletionToken())
    {
        static_assert(session_handler<Handler, connection_type>,
                      "async_serve: the handler must take the connection by value (and the shard, a std::size_t, as an "
                      "optional second argument), and return an awaitable or void");
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_serve(core_), token, std::move(handler));
    }

    /// Admits connections until it is closed, puts a layer made by `factory` on top of each, performs the layer's
    /// handshake, and calls `handler` with the layered connection: `admitted_connection<Layer, Finalizer>`. The
    /// connection has its permit, its entry in the census and its finalizer from its admission on.
    ///
    /// Handshakes are limited in number and in time, by the options of the factory. A connection whose handshake fails
    /// ends for `close_reason::handshake_failed` or `handshake_timeout`, with the error, is reported as
    /// `acceptor_event::kind::handshake_failed`, and does not reach the handler. A drain ends handshakes as it ends
    /// sessions.
    ///
    /// Completion and cancellation: as the overload without a factory. Handshakes that are under way at the completion
    /// continue, as sessions do; `handler` is called for those that succeed.
    ///
    /// Lifetime: `factory` and `handler` are kept until the operation has completed, and the last handshake and the
    /// last coroutine that `handler` has returned have ended. Connections whose execution context is destroyed
    /// meanwhile end for `close_reason::context_destroyed`; those of other contexts go on.
    ///
    /// Thread safety: `handler` is called on the connection's executor (`next_executor`), never concurrently.
    ///
    /// Exceptions: std::bad_alloc; std::invalid_argument for an option out of range.
    ///
    /// Cost: in addition to the layer's own, one block of less than 1 KB for each connection until its session begins.
    ///
    ///     acceptor.async_serve(holdfast::tls(context), [](auto peer) { return session(std::move(peer)); }, net::detached);
    template <class Factory, class Handler, class CompletionToken = default_token_t<Executor>>
        requires layer_factory<Factory, typename connection_type::stream_type> &&
                 net::completion_token_for<CompletionToken, void(error_code)>
    auto async_serve(Factory factory, Handler handler, CompletionToken&& token = CompletionToken())
    {
        using layered = detail::layered_connection<Factory, connection_type>;
        static_assert(session_handler<Handler, layered>,
                      "async_serve: the handler must take the connection over the factory's layer by value (and the "
                      "shard, a std::size_t, as an optional second argument), and return an awaitable or void");
        const handshake_options options = factory.options();
        detail::check(options);
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_serve(core_), token, options,
                                                                      std::move(factory), std::move(handler));
    }

    /// Stops accepting: the port is free when this returns, and pending operations fail with `errc::acceptor_closed`.
    /// Connections stay open. No handler is called inside this call.
    void close() noexcept { core_->close(); }

    /// Notifies up to `count` sessions, as a drain does; the others and the listener are not affected. It moves load to
    /// other servers: the clients of these sessions reconnect, for example to a server that was added behind the same
    /// load balancer. Returns the number of notified sessions, which is less than `count` if there are not as many.
    /// Call it with a few at a time, so that the clients do not all reconnect at once.
    ///
    /// Thread safety: safe. Cost: O(count), and O(connections) where few are left to be notified.
    std::size_t shed(std::size_t count) noexcept { return core_->members->shed(count); }

    /// Stops accepting, notifies every session, waits until the last connection has ended, and resets the remaining
    /// ones at the deadline.
    ///
    /// A session is notified by shutting down its receiving side: its pending or next read finds the end of the stream,
    /// as if the peer had ended it; `draining()` is true then. It can still write. With `finish_frames` a frame that
    /// has begun is read to its end first.
    ///
    /// Completion: void(error_code, std::size_t), never inside this call, with the number of connections that were
    /// reset. It does not wait for these to end: a session that neither reads nor writes ends when it next does.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`. Sessions that were notified stay
    /// notified.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc when there is no memory to begin.
    template <class CompletionToken = default_token_t<Executor>>
        requires net::completion_token_for<CompletionToken, void(error_code, std::size_t)>
    auto async_drain(drain_options options, CompletionToken&& token = CompletionToken())
    {
        detail::check(options);
        return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(initiate_drain(core_), token,
                                                                                   options);
    }

    /// The same with default options.
    template <class CompletionToken = default_token_t<Executor>>
        requires net::completion_token_for<CompletionToken, void(error_code, std::size_t)>
    auto async_drain(CompletionToken&& token = CompletionToken())
    {
        return async_drain(drain_options(), std::forward<CompletionToken>(token));
    }

private:
    class initiation {
    public:
        using executor_type = Executor;

        explicit initiation(std::shared_ptr<core> c) noexcept : core_(std::move(c)) {}

        /// Only before the end of the execution context.
        [[nodiscard]] executor_type get_executor() const noexcept { return core_->executor(); }

    protected:
        std::shared_ptr<core> core_;
    };

    class initiate_accept : public initiation {
    public:
        using initiation::initiation;

        template <class CompletionHandler>
        void operator()(CompletionHandler&& completion) const
        {
            using operation = typename core::accept_operation;
            const auto begun = detail::begin_wait<operation>(
                net::any_io_executor(this->core_->executor()),
                std::decay_t<CompletionHandler>(std::forward<CompletionHandler>(completion)), this->core_);
            this->core_->enqueue(*begun);
        }
    };

    class initiate_serve : public initiation {
    public:
        using initiation::initiation;

        template <class CompletionHandler, class Handler>
        void operator()(CompletionHandler&& completion, Handler handler) const
        {
            using starter = detail::handler_starter<connection_type, Handler>;
            start(std::forward<CompletionHandler>(completion),
                  std::make_shared<starter>(this->core_->reporter, std::move(handler)));
        }

        template <class CompletionHandler, class Factory, class Handler>
        void operator()(CompletionHandler&& completion, const handshake_options& options, Factory factory,
                        Handler handler) const
        {
            using starter = detail::handshakes<connection_type, Factory, Handler>;
            start(std::forward<CompletionHandler>(completion),
                  std::make_shared<starter>(this->core_->reporter, this->core_->members, options, std::move(factory),
                                            std::move(handler)));
        }

    private:
        template <class CompletionHandler>
        void start(CompletionHandler&& completion,
                   std::shared_ptr<detail::session_starter<connection_type>> starter) const
        {
            using operation = typename core::serve_operation;
            if (this->core_->proxy)
                starter = std::make_shared<detail::proxied_starter<connection_type>>(
                    this->core_->reporter, this->core_->proxy, std::move(starter));
            const auto begun = detail::begin_wait<operation>(
                net::any_io_executor(this->core_->executor()),
                std::decay_t<CompletionHandler>(std::forward<CompletionHandler>(completion)), this->core_,
                std::move(starter));
            this->core_->enqueue(*begun);
        }
    };

    class initiate_drain : public initiation {
    public:
        using initiation::initiation;

        template <class CompletionHandler>
        void operator()(CompletionHandler&& completion, const drain_options& options) const
        {
            detail::start_drain(this->core_,
                                std::decay_t<CompletionHandler>(std::forward<CompletionHandler>(completion)), options);
        }
    };

    std::shared_ptr<core> core_;
};

} // namespace holdfast

#include <holdfast/detail/acceptor/acceptor_core.hpp>

#endif
