// holdfast: reads the text files of /proc and of the cgroup file system line by line.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_PROCESS_PROC_FILE_HPP
#define HOLDFAST_DETAIL_PROCESS_PROC_FILE_HPP

#include <holdfast/detail/linkage.hpp>
#include <holdfast/detail/saturated.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

namespace holdfast::detail {

/// Parses an unsigned number that fills `text`.
HOLDFAST_DECL std::optional<std::uint64_t> parse_number(std::string_view text, int base = 10) noexcept;

/// Removes the next word from `text` and returns it. Returns an empty word at the end.
HOLDFAST_DECL std::string_view take_word(std::string_view& text) noexcept;

/// Calls `f` with each line of `text`, without the newline.
template <class F>
void for_each_line(std::string_view text, F&& f)
{
    while (!text.empty()) {
        const std::size_t size = std::min(text.find('\n'), text.size());
        f(text.substr(0, size));
        text.remove_prefix(std::min(size + 1, text.size()));
    }
}

/// Calls `f` with each line of a file, without the newline. A line longer than 4 KiB is cut there: no field
/// that this library reads comes later in a line. Allocates nothing.
template <class F>
void for_each_line_of_file(const char* path, std::error_code& error, F&& f)
{
    struct descriptor {
        int fd;
        ~descriptor()
        {
            if (fd >= 0) ::close(fd);
        }
    };
    const descriptor file{::open(path, O_RDONLY | O_CLOEXEC)};
    if (file.fd < 0) {
        error.assign(errno, std::system_category());
        return;
    }
    std::array<char, 4096> buffer;
    std::size_t filled = 0;
    bool in_long_line = false;
    for (;;) {
        const ssize_t got = ::read(file.fd, buffer.data() + filled, buffer.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            error.assign(errno, std::system_category());
            return;
        }
        filled += static_cast<std::size_t>(got);
        std::size_t begin = 0;
        const std::string_view seen{buffer.data(), filled};
        for (std::size_t end; (end = seen.find('\n', begin)) != seen.npos; begin = end + 1) {
            if (!in_long_line) f(seen.substr(begin, end - begin));
            in_long_line = false;
        }
        if (got == 0) {
            if (!in_long_line && begin < filled) f(seen.substr(begin));
            return;
        }
        filled -= begin;
        std::memmove(buffer.data(), buffer.data() + begin, filled);
        if (filled == buffer.size()) {
            if (!in_long_line) f(seen);
            in_long_line = true;
            filled = 0;
        }
    }
}

/// The path of a file of /proc/PID.
class proc_path {
public:
    proc_path(pid_t pid, const char* file) noexcept
    {
        if (pid == 0) {
            std::snprintf(text_.data(), text_.size(), "/proc/self/%s", file);
        } else {
            std::snprintf(text_.data(), text_.size(), "/proc/%ld/%s", static_cast<long>(pid), file);
        }
    }
    const char* c_str() const noexcept { return text_.data(); }

private:
    std::array<char, 64> text_;
};

/// Turns ENOENT into ESRCH: a file of /proc/PID is missing when the process has ended.
HOLDFAST_DECL void missing_file_is_missing_process(std::error_code& error) noexcept;

/// Reads a line such as "Name:  123 kB" or "Name:  123" into `value`, in bytes. Returns false and leaves `value`
/// alone where the line has another name or no number.
HOLDFAST_DECL bool take_field(std::string_view line, std::string_view name, std::uint64_t& value) noexcept;

/// Reads a whole small file. Returns nothing where it cannot be read.
HOLDFAST_DECL std::optional<std::string> read_text(const std::string& path);

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/process/impl/proc_file.ipp>
#endif

#endif
