// holdfast: the server under the ladder: its process, its port, its limits, its figures.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_SERVER_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_SERVER_HPP

#include "command_line.hpp"
#include "ladder_clients.hpp"
#include "ladder_plan.hpp"
#include "ladder_verdict.hpp"

#include <holdfast/process/limits.hpp>
#include <holdfast/process/memory.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

namespace ladder {

/// Connects once and resets the connection, so that the server keeps no state of it. Throws `usage_error` where the
/// port is not open.
inline void probe(const settings& wanted, const socket_address& server)
{
    const std::string place = wanted.host + " port " + std::to_string(wanted.port);
    const descriptor socket{::socket(server.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!socket) throw std::system_error(errno, std::system_category(), "socket");
    int error = ::connect(socket.get(), server.get(), server.size) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        pollfd writable{socket.get(), POLLOUT, 0};
        if (::poll(&writable, 1, 5000) == 0)
            throw examples::usage_error(place + " does not answer: check --host and --port");
        socklen_t size = sizeof error;
        ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == ECONNREFUSED) throw examples::usage_error("nothing listens on " + place + ": start the server first");
    if (error != 0) throw std::system_error(error, std::system_category(), "cannot connect to " + place);
    const linger at_once{1, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/// Finds the inode of the socket that listens on a port in the text of /proc/net/tcp or tcp6. Returns 0 where there is
/// none.
inline std::uint64_t find_listening_inode(std::string_view table, std::uint16_t port)
{
    std::istringstream lines{std::string{table}};
    std::string line;
    std::getline(lines, line); // the headings
    while (std::getline(lines, line)) {
        // "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 ..."
        std::istringstream words{line};
        std::string slot, local, remote, state, queues, timer, retransmits, user, timeout;
        std::uint64_t inode = 0;
        words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >> inode;
        const std::size_t colon = local.find(':');
        if (!words || colon == local.npos || state != "0A") continue;
        unsigned found = 0;
        std::from_chars(local.data() + colon + 1, local.data() + local.size(), found, 16);
        if (found == port) return inode;
    }
    return 0;
}

/// Finds the process that listens on a local port, among those that this user may inspect. Returns 0 where there is
/// none.
inline std::int32_t find_listener(std::uint16_t port)
{
    std::uint64_t inode = 0;
    for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        std::ostringstream text;
        text << std::ifstream{path}.rdbuf();
        if (inode == 0) inode = find_listening_inode(text.str(), port);
    }
    if (inode == 0) return 0;
    const std::string link = "socket:[" + std::to_string(inode) + "]";
    namespace fs = std::filesystem;
    std::error_code error;
    for (const fs::directory_entry& process : fs::directory_iterator{"/proc", error}) {
        const std::string name = process.path().filename().string();
        std::int32_t pid = 0;
        if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc{}) continue;
        for (fs::directory_iterator fd{process.path() / "fd", error}, end; !error && fd != end; fd.increment(error))
            if (fs::read_symlink(fd->path(), error) == link) return pid;
    }
    return 0;
}

/// Reads the process id in a file. Returns 0 where there is none.
inline std::int32_t read_pid_file(const std::string& path)
{
    std::int32_t pid = 0;
    std::ifstream{path} >> pid;
    return pid;
}

/// Parses the soft limit of open files in the text of /proc/PID/limits. Returns nothing where it is unlimited or
/// missing.
inline std::optional<std::uint64_t> parse_open_files_limit(std::string_view text)
{
    constexpr std::string_view label = "Max open files";
    const std::size_t at = text.find(label);
    if (at == text.npos) return std::nullopt;
    text.remove_prefix(at + label.size());
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == text.npos) return std::nullopt;
    text.remove_prefix(begin);
    std::uint64_t limit = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), limit).ec != std::errc{}) return std::nullopt;
    return limit;
}

/// Returns how many more descriptors a process can open.
inline std::uint64_t descriptors_left(std::int32_t pid)
{
    std::ostringstream text;
    text << std::ifstream{"/proc/" + std::to_string(pid) + "/limits"}.rdbuf();
    const auto limit = parse_open_files_limit(text.str());
    std::error_code error;
    const std::uint64_t open = holdfast::read_open_descriptors(pid, error);
    if (!limit) return UINT64_MAX;
    return *limit - std::min(*limit, open);
}

/// Reads the figures of the server into a point. Returns false where it has ended. A figure that this user may not
/// read is 0.
inline bool read_figures(std::int32_t pid, measured_point& point)
{
    std::error_code error;
    const auto memory = holdfast::read_process_memory(pid, error);
    if (error) return false;
    point.rss_anon = memory.rss_anon;
    point.vm_rss = memory.vm_rss;
    point.threads = memory.threads;
    point.descriptors = holdfast::read_open_descriptors(pid, error);
    const auto mappings = holdfast::read_anonymous_mappings(pid, error);
    point.mappings = mappings.count;
    point.arenas = mappings.arenas;
    point.kernel_bytes = holdfast::read_socket_memory(error).tcp_bytes;
    return true;
}

} // namespace ladder

#endif
