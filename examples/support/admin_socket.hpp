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

/// Answers whoever connects to a local socket with a census, a line of JSON, one at a time: so however many
/// ask, it takes one copy of the figures. A stale socket, which a server that ended in a hurry has left, is
/// replaced; its own is removed with it. Who may ask is the umask's matter: usually its owner alone.
///
///     $ socat - UNIX-CONNECT:/run/feed.socket
///     {"live":1,"peak":2,"ended":1,"ended_by":{"closed by peer":1},"members":[{"id":...}]}
class admin_socket {
public:
    using protocol = holdfast::net::local::stream_protocol;

    /// Throws a `usage_error` that says what to do where the socket cannot be opened. `heart` drops who does
    /// not read its answer.
    admin_socket(holdfast::net::io_context& io, const std::string& path, const holdfast::census& members,
                 holdfast::heartbeat_timer<>& heart)
        : doors_(open(io, path)), path_(path)
    {
        doors_.async_serve([members, &heart](connection& peer) { return answer(peer, members, heart); },
                           holdfast::net::detached);
    }

    admin_socket(const admin_socket&) = delete;

    ~admin_socket() { ::unlink(path_.c_str()); }

private:
    using acceptor = holdfast::bounded_acceptor<protocol>;
    using connection = acceptor::connection_type;

    static holdfast::net::awaitable<void> answer(connection& peer, holdfast::census members,
                                                 holdfast::heartbeat_timer<>& heart)
    {
        auto beat = heart.watch(peer);
        const census_report report = report_of(members);
        co_await holdfast::async_write_streamed<holdfast::ndjson>(peer.stream(), std::cref(report),
                                                                  {.progress = beat});
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

    /// Removes a socket on which nobody listens.
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
        return error.value() == EADDRINUSE ? "a server listens there, or a file is in the way"
                                           : error.message();
    }

    acceptor doors_;
    std::string path_;
};

} // namespace examples

#endif
