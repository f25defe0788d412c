// holdfast: what the clients of a benchmark do with their sockets, and the memory of the server that they load.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_SOCKETS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_SOCKETS_HPP

#include "server_process.hpp"

#include <holdfast/process/limits.hpp>
#include <holdfast/process/memory.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <system_error>

namespace benchmarks {

/// Connects client number `number` from an address that two thousand others share: one address is slow to find a free
/// port when it has few left. `receive_buffer` is its SO_RCVBUF in bytes; 0: the system's.
inline int connect_client(const ::sockaddr_in& server, std::uint32_t number, int receive_buffer = 0)
{
    const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    if (receive_buffer != 0) ::setsockopt(client, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int port_at_connect = 1; // else a port is taken for all destinations
    ::setsockopt(client, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &port_at_connect, sizeof port_at_connect);
    ::sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / 2000);
    checked(::bind(client, reinterpret_cast<const ::sockaddr*>(&from), sizeof from), "bind");
    checked(::connect(client, reinterpret_cast<const ::sockaddr*>(&server), sizeof server), "connect");
    return client;
}

/// Closes by a reset: no port stays in TIME_WAIT.
inline void reset_client(int client)
{
    const ::linger at_once{1, 0};
    ::setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    ::close(client);
}

/// The anonymous resident memory of a process, in bytes.
inline double rss_anon(::pid_t process)
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(process, ec);
    if (ec) throw std::system_error(ec, "the server's memory");
    return static_cast<double>(memory.rss_anon);
}

/// Raises the limit on open descriptors to the hard limit: thousands of clients run in one process.
inline void raise_descriptors()
{
    std::error_code ec;
    holdfast::raise_descriptor_limit(holdfast::read_descriptor_limits(ec).hard, ec);
    if (ec) throw std::system_error(ec, "the limit on open descriptors");
}

} // namespace benchmarks

#endif
