// holdfast: a local socket on which a server answers its census as JSON.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_ADMIN_SOCKET_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_ADMIN_SOCKET_HPP

#include "census_report.hpp"
#include "command_line.hpp"

#include <holdfast/holdfast.hpp>

#include <cerrno>
#include <functional>
#include <string>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

namespace examples {

/// Answers each client of a local socket with a census as a line of JSON, one client at a time: there is one copy of
/// the figures, however many clients connect. Replaces a stale socket that a crashed server has left. Removes its own.
/// The umask says which users may connect, usually the owner alone.
///
///     $ socat - UNIX-CONNECT:/run/feed.socket
///     {"live":1,"peak":2,"ended":1,"ended_by":{"closed by peer":1},"members":[{"id":...}]}
class admin_socket {
public:
    using protocol = holdfast::net::local::stream_protocol;

    /// Throws a `usage_error` that says what to do where the socket cannot be opened. `heartbeats` ends clients that do
    /// not read.
    admin_socket(holdfast::net::io_context& io, const std::string& path, const holdfast::census& members,
                 holdfast::heartbeat_timer<>& heartbeats)
        : acceptor_(open(io, path)), path_(path)
    {
        acceptor_.async_serve(
            [members, &heartbeats](connection peer) { return answer(std::move(peer), members, heartbeats); },
            holdfast::net::detached);
    }

    admin_socket(const admin_socket&) = delete;

    ~admin_socket() { ::unlink(path_.c_str()); }

private:
    using acceptor = holdfast::bounded_acceptor<protocol>;
    using connection = acceptor::connection_type;

    static holdfast::net::awaitable<void> answer(connection peer, holdfast::census members,
                                                 holdfast::heartbeat_timer<>& heartbeats)
    {
        auto heartbeat = heartbeats.watch(peer);
        const census_report report = report_of(members);
        co_await holdfast::async_write_streamed<holdfast::ndjson>(peer, std::cref(report), {.progress = heartbeat});
        co_await peer.async_close();
    }

    static acceptor open(holdfast::net::io_context& io, const std::string& path)
    {
        try {
            const protocol::endpoint endpoint(path);
            remove_stale(io, endpoint);
            return acceptor(io.get_executor(), endpoint, {.max_connections = 1});
        } catch (const holdfast::system_error& error) {
            throw usage_error("cannot open the socket '" + path + "': " + reason(error.code()) +
                              "; choose another --admin");
        }
    }

    /// Removes a socket that no server listens on.
    static void remove_stale(holdfast::net::io_context& io, const protocol::endpoint& endpoint)
    {
        struct ::stat found{};
        if (::lstat(endpoint.path().c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) return;
        protocol::socket visitor(io);
        holdfast::error_code ec;
        visitor.connect(endpoint, ec);
        if (ec == holdfast::net::error::connection_refused) ::unlink(endpoint.path().c_str());
    }

    static std::string reason(const std::error_code& error)
    {
        return error.value() == EADDRINUSE ? "a server listens there, or a file is in the way" : error.message();
    }

    acceptor acceptor_;
    std::string path_;
};

} // namespace examples

#endif
