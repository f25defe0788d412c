// holdfast: starts a session with an admitted connection, as the handler of async_serve wants it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_SESSION_STARTER_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_SESSION_STARTER_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
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

/// Starts a session with each connection. Shared by the loop, since the operation may be cancelled meanwhile, and by
/// the sessions: a coroutine refers to the lambda that it came from.
template <class Connection>
class session_starter {
public:
    explicit session_starter(std::shared_ptr<event_reporter> reporter) : reporter_(std::move(reporter)) {}

    session_starter(const session_starter&) = delete;
    virtual ~session_starter() = default;

    /// `reporter` is what `reporter_of` returns.
    virtual void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
                       const net::ip::tcp::endpoint& remote) = 0;

    /// The reporter, in a pointer that owns the starter.
    static std::shared_ptr<event_reporter> reporter_of(std::shared_ptr<session_starter> starter) noexcept
    {
        event_reporter* const reporter = starter->reporter_.get();
        return {std::move(starter), reporter};
    }

private:
    const std::shared_ptr<event_reporter> reporter_;
};

/// The handler of a session's coroutine.
struct report_failed_session {
    std::shared_ptr<event_reporter> reporter;
    net::ip::tcp::endpoint remote;

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
            reporter->report({acceptor_event::kind::session_failed, {}, failure, {}, 1, remote});
    }
};

/// A session handler, and how it is called.
template <class Connection, class Handler>
class session_caller {
public:
    explicit session_caller(Handler handler) : handler_(std::move(handler)) {}

    void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
               const net::ip::tcp::endpoint& remote)
    {
        const auto where = peer.get_executor();
        if constexpr (std::is_void_v<decltype(call(std::move(peer), shard))>)
            call(std::move(peer), shard);
        else
            net::co_spawn(where, call(std::move(peer), shard), report_failed_session{reporter, remote});
    }

private:
    decltype(auto) call(Connection&& peer, std::size_t shard)
    {
        if constexpr (std::is_invocable_v<Handler&, Connection, std::size_t>)
            return handler_(std::move(peer), shard);
        else
            return handler_(std::move(peer));
    }

    Handler handler_;
};

template <class Connection, class Handler>
class handler_starter final : public session_starter<Connection> {
public:
    handler_starter(std::shared_ptr<event_reporter> reporter, Handler handler)
        : session_starter<Connection>(std::move(reporter)), sessions_(std::move(handler))
    {
    }

    void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
               const net::ip::tcp::endpoint& remote) override
    {
        sessions_.start(reporter, std::move(peer), shard, remote);
    }

private:
    session_caller<Connection, Handler> sessions_;
};

} // namespace detail
} // namespace holdfast

#endif
