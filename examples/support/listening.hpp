// holdfast: what every example that listens needs: its address, errors of one line, enough descriptors.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LISTENING_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LISTENING_HPP

#include "command_line.hpp"

#include <holdfast/asio.hpp>

#include <sys/resource.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <system_error>

namespace examples {

/// Descriptors that a server needs beside its connections: standard streams, listener, epoll, timer, signals,
/// and some to spare.
inline constexpr std::size_t spare_descriptors = 32;

/// Where to listen. Throws a `usage_error` when `--address` is not an IP address.
inline holdfast::net::ip::tcp::endpoint listen_endpoint(const std::string& address, std::uint16_t port)
{
    holdfast::error_code error;
    const auto parsed = holdfast::net::ip::make_address(address, error);
    if (error) command_line::fail("address", "takes an IP address such as 127.0.0.1 or ::, not '" + address + "'");
    return {parsed, port};
}

/// Turns the error with which listening failed into one line that says what to do; the text is for a
/// `usage_error`.
///
///     catch (const holdfast::system_error& error) {
///         throw usage_error(listen_error(error.code(), endpoint));
///     }
inline std::string listen_error(const std::error_code& error, const holdfast::net::ip::tcp::endpoint& endpoint)
{
    std::ostringstream text;
    text << "cannot listen on " << endpoint << ": ";
    // By number: Asio's category does not map its values to std::errc in every version.
    switch (error.value()) {
    case EADDRINUSE:
        text << "the port is in use; end the program that listens there, or choose another --port (0: any "
                "free one)";
        break;
    case EACCES:
        text << "no permission; choose a --port of 1024 or above, or run it with CAP_NET_BIND_SERVICE";
        break;
    case EADDRNOTAVAIL:
        text << "this machine has no such address; choose another --address (0.0.0.0: all of them)";
        break;
    default:
        text << error.message() << "; choose another --address or --port";
    }
    return text.str();
}

/// How many descriptors this process may open at most: the hard limit.
inline std::size_t descriptor_limit()
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        throw std::system_error(errno, std::system_category(), "getrlimit(RLIMIT_NOFILE)");
    return static_cast<std::size_t>(limit.rlim_max);
}

/// Raises the process's soft limit of open descriptors to `needed`, if it is lower. Throws a `usage_error`
/// when the hard limit does not allow it.
inline void require_descriptors(std::size_t needed)
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        throw std::system_error(errno, std::system_category(), "getrlimit(RLIMIT_NOFILE)");
    if (limit.rlim_cur >= needed) return;
    if (limit.rlim_max < needed) {
        const std::size_t possible =
            limit.rlim_max > spare_descriptors ? static_cast<std::size_t>(limit.rlim_max) - spare_descriptors : 1;
        throw usage_error("needs " + std::to_string(needed) + " descriptors, but the limit is " +
                          std::to_string(limit.rlim_max) + ": raise it (as root: ulimit -n " + std::to_string(needed) +
                          "; a service: LimitNOFILE=" + std::to_string(needed) + "), or give --max-connections " +
                          std::to_string(possible));
    }
    limit.rlim_cur = static_cast<rlim_t>(needed);
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
        throw std::system_error(errno, std::system_category(), "setrlimit(RLIMIT_NOFILE)");
}

} // namespace examples

#endif
