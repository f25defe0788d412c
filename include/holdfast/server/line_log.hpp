// holdfast: line_log, a log for event loops that never waits for its reader.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_LINE_LOG_HPP
#define HOLDFAST_SERVER_LINE_LOG_HPP

#include <holdfast/version.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <sstream>
#include <string_view>

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace holdfast {

/// Writes lines to a descriptor, standard error unless another is given. Where a pipe or a socket has no room, since
/// its reader does not read, the line is dropped: `std::clog` would block the event loop, and with it every connection.
/// The next line that is written says how many were dropped. It has neither a queue nor a thread.
///
/// The descriptor's flags stay as they are, since other processes may share it. A pipe that another process fills at
/// the same moment, a terminal that is stopped and a slow disk can still block: log through a queue and a thread there.
///
/// Lifetime: the descriptor must stay open.
/// Thread safety: any thread may log at any time; each line takes one short lock.
/// Exceptions: none; without memory the line is dropped.
/// Cost: two system calls for each line, and what the parts' `operator<<` allocate.
///
///     inline holdfast::line_log server_log;
///     server_log("listening on ", clients.local_endpoint());
class line_log {
public:
    explicit line_log(int descriptor = STDERR_FILENO) noexcept : descriptor_(descriptor) {}
    line_log(const line_log&) = delete;
    line_log& operator=(const line_log&) = delete;

    /// Writes the parts, as `<<` prints them, and a line end. A line of more than 4,000 bytes is cut. Line ends within
    /// the text make several lines.
    template <class... Parts>
    void operator()(const Parts&... parts) noexcept
    {
        try {
            std::ostringstream text;
            text.exceptions(std::ios::badbit); // else it would go on without what its buffer had no memory for
            (text << ... << parts);
            write(text.view());
        } catch (...) {
            const std::lock_guard lock(mutex_);
            ++dropped_;
        }
    }

    /// The number of lines that were dropped since the beginning.
    [[nodiscard]] std::uint64_t dropped() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return dropped_;
    }

private:
    static constexpr std::size_t max_line = 4000; // with the report of dropped ones at most PIPE_BUF, which is atomic
    static_assert(max_line + 64 <= PIPE_BUF);

    void write(std::string_view text) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (text.ends_with('\n')) text.remove_suffix(1);
        for (;;) {
            const std::size_t end = std::min(text.find('\n'), text.size());
            if (!put(text.substr(0, std::min(end, max_line)))) ++dropped_;
            if (end == text.size()) return;
            text.remove_prefix(end + 1);
        }
    }

    bool put(std::string_view line) noexcept
    {
        ::pollfd writable{descriptor_, POLLOUT, 0};
        // POLLERR: the pipe's reader has gone, and a write would raise SIGPIPE.
        if (::poll(&writable, 1, 0) != 1 || writable.revents != POLLOUT) return false;
        std::array<char, PIPE_BUF> bytes;
        char* p = bytes.data();
        const auto append = [&p](std::string_view part) { p = std::copy(part.begin(), part.end(), p); };
        if (cut_) append("\n");
        if (dropped_ != reported_) {
            append("log: ");
            p = std::to_chars(p, bytes.data() + bytes.size(), dropped_ - reported_).ptr;
            append(" lines were dropped\n");
        }
        append(line);
        append("\n");
        const auto size = static_cast<std::size_t>(p - bytes.data());
        ::ssize_t n = ::send(descriptor_, bytes.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == ENOTSOCK)
            n = ::write(descriptor_, bytes.data(), size); // it is writable: it takes PIPE_BUF
        if (n <= 0) return false;
        cut_ = static_cast<std::size_t>(n) != size; // a socket's last room
        if (cut_) return false;
        reported_ = dropped_;
        return true;
    }

    const int descriptor_;
    mutable std::mutex mutex_;
    std::uint64_t dropped_ = 0;
    std::uint64_t reported_ = 0; // of the dropped ones
    bool cut_ = false;
};

} // namespace holdfast

#endif
