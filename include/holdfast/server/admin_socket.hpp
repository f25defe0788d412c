// holdfast: admin_socket, a local socket on which a server answers its census as JSON.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_ADMIN_SOCKET_HPP
#define HOLDFAST_SERVER_ADMIN_SOCKET_HPP

#include <holdfast/asio.hpp>
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/census.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/server/census_report.hpp>
#include <holdfast/write_streamed.hpp>

#include <concepts>
#include <functional>
#include <string>
#include <utility>

namespace holdfast {

/// Answers each client of a local socket with a census as one line of JSON (`census_report`), and closes. It serves one
/// client at a time, so there is one copy of the figures, however many clients connect.
///
/// The socket file replaces one that a process which has ended has left; any other file stays and is an error. It is
/// removed by the destructor. The umask says which users may connect, usually the owner alone.
///
/// Lifetime: `heartbeats`, which ends a client that does not read, must outlive the admin_socket and its last client.
/// Thread safety: distinct objects: safe. Shared objects: unsafe.
///
///     const holdfast::admin_socket admin{io.get_executor(), "/run/feed.socket", acceptor.census(), heartbeats};
///
///     $ socat - UNIX-CONNECT:/run/feed.socket
class admin_socket {
public:
    /// Listens at `path`.
    ///
    /// Exceptions: system_error, which names the path, where the socket cannot be opened; std::bad_alloc.
    admin_socket(const net::any_io_executor& executor, const std::string& path, census members,
                 heartbeat_timer<>& heartbeats)
        : acceptor_(executor, endpoint_of(path), options())
    {
        acceptor_.async_serve([members = std::move(members),
                               &heartbeats](connection peer) { return answer(std::move(peer), members, heartbeats); },
                              net::detached);
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    admin_socket(ExecutionContext& context, const std::string& path, census members, heartbeat_timer<>& heartbeats)
        : admin_socket(net::any_io_executor(context.get_executor()), path, std::move(members), heartbeats)
    {
    }

private:
    using protocol = net::local::stream_protocol;
    using acceptor = bounded_acceptor<protocol>;
    using connection = acceptor::connection_type;

    static protocol::endpoint endpoint_of(const std::string& path)
    {
        try {
            return protocol::endpoint(path);
        } catch (const system_error& error) {
            throw system_error(error.code(), "cannot listen on " + path);
        }
    }

    static acceptor_options options()
    {
        acceptor_options some;
        some.max_connections = 1;
        some.replace_stale_socket_file = true;
        some.remove_socket_file = true;
        return some;
    }

    static net::awaitable<void> answer(connection peer, census members, heartbeat_timer<>& heartbeats)
    {
        auto heartbeat = heartbeats.watch(peer);
        const census_report report = make_census_report(members);
        co_await async_write_streamed<ndjson>(peer, std::cref(report), {.progress = heartbeat});
        co_await peer.async_close();
    }

    acceptor acceptor_;
};

} // namespace holdfast

#endif
