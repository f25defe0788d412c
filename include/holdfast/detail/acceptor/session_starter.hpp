// holdfast: starts a session with an admitted connection, as the handler of async_serve wants it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_SESSION_STARTER_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_SESSION_STARTER_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/stored_endpoint.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/error.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace holdfast {

namespace detail {

template <class T>
inline constexpr bool is_session_result = std::is_void_v<T>;
template <class T, class Executor>
inline constexpr bool is_session_result<net::awaitable<T, Executor>> = true;

template <class Handler, class... Arguments>
concept starts_session =
    std::invocable<Handler&, Arguments...> && is_session_result<std::invoke_result_t<Handler&, Arguments...>>;

} // namespace detail

/// A session handler of `async_serve`: takes the connection by value, and the index of its shard if it likes;
/// returns an `awaitable` or void.
template <class Handler, class Connection>
concept session_handler =
    detail::starts_session<Handler, Connection, std::size_t> || detail::starts_session<Handler, Connection>;

namespace detail {

/// Starts a session with each connection. Shared by the loop, since the operation may be cancelled meanwhile.
template <class Connection>
class session_starter {
public:
    session_starter() = default;
    session_starter(const session_starter&) = delete;
    virtual ~session_starter() = default;

    /// `reporter` is notified of what fails before the session has begun.
    virtual void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
                       const net::ip::tcp::endpoint& remote) = 0;
};

/// What the sessions of one `async_serve` own together, in one word of each: what derives from this has their handler,
/// since a coroutine refers to the lambda that it came from.
class session_source {
public:
    explicit session_source(std::shared_ptr<event_reporter> to) noexcept : reporter(std::move(to)) {}

    session_source(const session_source&) = delete;
    virtual ~session_source() = default;

    void destroy() noexcept { delete this; } // for counted_ptr

    synchronized::count owners;
    const std::shared_ptr<event_reporter> reporter;
};

/// The handler of a session's coroutine. It is in the coroutine's memory for as long as the session lives.
struct report_failed_session {
    counted_ptr<session_source> source;
    stored_endpoint remote;

    /// That a peer leaves while the session reads or writes is no failure.
    static bool is_departure(close_reason reason) noexcept
    {
        return reason == close_reason::peer_closed || reason == close_reason::peer_reset ||
               reason == close_reason::peer_truncated;
    }

    /// Nor is it one that this side ends the connection, such as by a heartbeat or an outbox that overflows: what was
    /// pending then is aborted, what comes later finds no socket, and an outbox no messages.
    static bool is_own_end(const error_code& error) noexcept
    {
        return error == net::error::operation_aborted || error == net::error::bad_descriptor ||
               error == errc::outbox_full || error == errc::outbox_closed || error == errc::close_incomplete;
    }

    template <class... Result>
    void operator()(const std::exception_ptr& failure, Result&&...) const
    {
        if (!failure) return;
        const connection_end end = end_by(failure);
        if (!is_departure(end.reason) && !is_own_end(end.error))
            source->reporter->report({acceptor_event::kind::session_failed, {}, failure, {}, 1, remote.get()});
    }
};

/// Starts a session's coroutine. A function of its own, which depends neither on the connection nor on its handler.
template <class Executor, class Session>
void spawn_session(const Executor& where, Session session, report_failed_session on_end)
{
    net::co_spawn(where, std::move(session), std::move(on_end));
}

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template void spawn_session(const net::any_io_executor&, net::awaitable<void>, report_failed_session);
#endif

/// A session handler, and how it is called.
template <class Connection, class Handler>
class session_caller {
public:
    session_caller(std::shared_ptr<event_reporter> reporter, Handler handler)
        : source_(new source(std::move(reporter), std::move(handler)))
    {
    }

    void start(Connection&& peer, std::size_t shard, const net::ip::tcp::endpoint& remote)
    {
        const auto where = peer.get_executor();
        if constexpr (std::is_void_v<decltype(call(std::move(peer), shard))>)
            call(std::move(peer), shard);
        else
            detail::spawn_session(where, call(std::move(peer), shard),
                                  report_failed_session{source_, stored_endpoint(remote)});
    }

private:
    struct source final : session_source {
        source(std::shared_ptr<event_reporter> to, Handler of) : session_source(std::move(to)), handler(std::move(of))
        {
        }

        Handler handler;
    };

    decltype(auto) call(Connection&& peer, std::size_t shard)
    {
        Handler& handler = static_cast<source&>(*source_).handler;
        if constexpr (std::is_invocable_v<Handler&, Connection, std::size_t>)
            return handler(std::move(peer), shard);
        else
            return handler(std::move(peer));
    }

    const counted_ptr<session_source> source_;
};

template <class Connection, class Handler>
class handler_starter final : public session_starter<Connection> {
public:
    handler_starter(std::shared_ptr<event_reporter> reporter, Handler handler)
        : sessions_(std::move(reporter), std::move(handler))
    {
    }

    void start(const std::shared_ptr<event_reporter>&, Connection&& peer, std::size_t shard,
               const net::ip::tcp::endpoint& remote) override
    {
        sessions_.start(std::move(peer), shard, remote);
    }

private:
    session_caller<Connection, Handler> sessions_;
};

} // namespace detail
} // namespace holdfast

#endif
