// holdfast: what every example that listens needs: its address, and enough descriptors.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LISTENING_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LISTENING_HPP

#include "command_line.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/process/limits.hpp>

#include <cstddef>
#include <cstdint>
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

/// How many descriptors this process may open at most: the hard limit.
inline std::uint64_t descriptor_limit()
{
    std::error_code error;
    const auto limits = holdfast::read_descriptor_limits(error);
    if (error) throw std::system_error(error, "the limit of descriptors cannot be read");
    return limits.hard;
}

/// Raises the limit of open descriptors to `needed`, if it is lower. Throws a `usage_error` when the hard limit does not
/// allow it.
inline void require_descriptors(std::uint64_t needed)
{
    std::error_code error;
    holdfast::raise_descriptor_limit(needed, error);
    if (!error) return;
    const std::uint64_t limit = descriptor_limit();
    const std::uint64_t possible = limit > spare_descriptors ? limit - spare_descriptors : 1;
    throw usage_error("needs " + std::to_string(needed) + " descriptors, but the limit is " + std::to_string(limit) +
                      ": raise it (as root: ulimit -n " + std::to_string(needed) + "; a service: LimitNOFILE=" +
                      std::to_string(needed) + "), or give --max-connections " + std::to_string(possible));
}

} // namespace examples

#endif
