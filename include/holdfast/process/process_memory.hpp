// holdfast: what a process, its cgroup, the kernel's sockets and the machine hold in memory. Linux.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_PROCESS_MEMORY_HPP
#define HOLDFAST_PROCESS_PROCESS_MEMORY_HPP

#if !defined(__linux__)
#error "holdfast/process/process_memory.hpp reads Linux's /proc: leave it out of the build on other systems"
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace holdfast {

// Each function reads one file (or directory) of /proc or of the cgroup file system when it is called, and
// keeps nothing. All sizes are in bytes. Each needs a free descriptor for the time of the call. A `pid` of 0
// is the calling process; other processes can be read as far as the system permits: `/proc/PID/status` by
// everybody, descriptors and mappings by the same user or a privileged one. Errors are the system's; beside
// them ESRCH says that the process has ended (or is a zombie, or a kernel thread, which has no memory of its
// own), and EBADMSG that a file did not hold what it should. After an error the result is empty. All
// functions may be called from any thread. The parsers are public for those who have the text already: from a
// core dump, a container's agent, or a test.

/// The memory of a process, from `/proc/PID/status`.
struct process_memory {
    /// VmRSS: everything of the process that is in memory now.
    std::uint64_t vm_rss = 0;
    /// VmHWM: the highest `vm_rss` since the process began.
    std::uint64_t vm_rss_peak = 0;
    /// RssAnon: heap, stacks and other anonymous memory: what grows when a server leaks.
    std::uint64_t rss_anon = 0;
    /// RssFile: the pages of executables, libraries and mapped files that are in memory.
    std::uint64_t rss_file = 0;
    /// RssShmem: shared memory.
    std::uint64_t rss_shmem = 0;
    /// VmSwap: anonymous memory that has been swapped out, and so is missing in `rss_anon`.
    std::uint64_t vm_swap = 0;
    /// The number of threads.
    std::uint64_t threads = 0;
};

/// The mappings of a process that belong to no file.
struct anonymous_mappings {
    /// How many there are. glibc's malloc makes one for each large block and two for each arena, a thread one
    /// or two for its stack.
    std::uint64_t count = 0;
    /// How large they are together, touched or not; those without any access (guards, reserved address space)
    /// are not added.
    std::uint64_t bytes = 0;
};

/// The tightest memory limit of the cgroups that a process is in.
struct cgroup_memory {
    /// The limit; the kernel ends a process of the group rather than pass it.
    std::uint64_t limit = 0;
    /// What the group with this limit uses of it, without the page cache, which the kernel gives up before it
    /// ends anybody. Kernel memory of the group, its socket buffers above all, is included.
    std::uint64_t used = 0;
};

/// What TCP holds in the kernel, from `/proc/net/sockstat`.
struct socket_memory {
    /// The memory of all TCP buffers of the whole machine, in whole pages, apart from any process's own.
    std::uint64_t tcp_bytes = 0;
    /// TCP sockets in use in this network namespace, those of others and of both ends of a local connection
    /// included.
    std::uint64_t tcp_sockets = 0;
};

/// The memory of the machine, from `/proc/meminfo`.
struct machine_memory {
    /// MemTotal: what the kernel has to give out.
    std::uint64_t total = 0;
    /// MemAvailable: the kernel's estimate of what new programs can take without swapping.
    std::uint64_t available = 0;
};

namespace detail {

inline std::optional<std::uint64_t> parse_number(std::string_view text, int base = 10) noexcept
{
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number, base);
    if (error != std::errc{} || rest != end) return std::nullopt;
    return number;
}

/// Takes the next word off `text`; empty at the end.
inline std::string_view take_word(std::string_view& text) noexcept
{
    const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
    text.remove_prefix(begin);
    const std::size_t size = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, size);
    text.remove_prefix(size);
    return word;
}

/// Calls `f` with each line of `text`, without its end.
template <class F>
void for_each_line(std::string_view text, F&& f)
{
    while (!text.empty()) {
        const std::size_t size = std::min(text.find('\n'), text.size());
        f(text.substr(0, size));
        text.remove_prefix(std::min(size + 1, text.size()));
    }
}

/// Calls `f` with each line of a file. Of a line beyond 4 KiB only the beginning is seen: nothing that is
/// looked for here stands further back. Allocates nothing.
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

/// A file of /proc/PID that is not there means that the process is not there.
inline void missing_file_is_missing_process(std::error_code& error) noexcept
{
    if (error == std::errc::no_such_file_or_directory)
        error = std::make_error_code(std::errc::no_such_process);
}

/// "Name:  123 kB" or "Name:  123": sets `value`, in bytes, where the name fits; says whether it did so.
inline bool take_field(std::string_view line, std::string_view name, std::uint64_t& value) noexcept
{
    if (!line.starts_with(name) || line.substr(name.size(), 1) != ":") return false;
    line.remove_prefix(name.size() + 1);
    const auto number = parse_number(take_word(line));
    const std::string_view unit = take_word(line);
    if (!number || (!unit.empty() && unit != "kB")) return false;
    value = unit.empty() ? *number : *number * 1024;
    return true;
}

struct status_reader {
    process_memory result;
    bool rss = false, anon = false, threads = false;

    void operator()(std::string_view line) noexcept
    {
        rss = take_field(line, "VmRSS", result.vm_rss) || rss;
        anon = take_field(line, "RssAnon", result.rss_anon) || anon;
        threads = take_field(line, "Threads", result.threads) || threads;
        take_field(line, "VmHWM", result.vm_rss_peak);
        take_field(line, "RssFile", result.rss_file);
        take_field(line, "RssShmem", result.rss_shmem);
        take_field(line, "VmSwap", result.vm_swap);
    }
    bool has_no_memory() const noexcept { return threads && !rss && !anon; }
    bool complete() const noexcept { return rss && anon && threads; }
};

/// Lines such as "7f12a0000000-7f12a4000000 rw-p 00000000 00:00 0      [heap]".
struct maps_reader {
    anonymous_mappings result;
    bool broken = false;

    void operator()(std::string_view line) noexcept
    {
        const std::string_view range = take_word(line);
        const std::string_view access = take_word(line);
        take_word(line); // the offset
        take_word(line); // the device
        const auto inode = parse_number(take_word(line));
        const std::string_view name = take_word(line);
        const std::size_t dash = range.find('-');
        const auto begin = parse_number(range.substr(0, dash), 16);
        const auto end = parse_number(dash == range.npos ? "" : range.substr(dash + 1), 16);
        if (!inode || !begin || !end || *end < *begin || access.size() < 4) {
            broken = true;
            return;
        }
        // The kernel's own pages in every process.
        const bool of_kernel = name.starts_with("[v");
        if (*inode != 0 || of_kernel) return;
        ++result.count;
        if (!access.starts_with("---")) result.bytes += *end - *begin;
    }
};

struct sockstat_reader {
    socket_memory result;
    bool found = false;

    void operator()(std::string_view line) noexcept
    {
        if (take_word(line) != "TCP:") return;
        bool sockets = false, pages = false;
        for (std::string_view name = take_word(line); !name.empty(); name = take_word(line)) {
            const auto value = parse_number(take_word(line));
            if (!value) return;
            if (name == "inuse") {
                result.tcp_sockets = *value;
                sockets = true;
            } else if (name == "mem") {
                result.tcp_bytes = *value * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
                pages = true;
            }
        }
        found = sockets && pages;
    }
};

struct meminfo_reader {
    machine_memory result;
    bool total = false, available = false;

    void operator()(std::string_view line) noexcept
    {
        total = take_field(line, "MemTotal", result.total) || total;
        available = take_field(line, "MemAvailable", result.available) || available;
    }
};

} // namespace detail

/// Reads the text of `/proc/PID/status`; nothing where VmRSS, RssAnon or Threads is missing or no number.
inline std::optional<process_memory> parse_process_status(std::string_view text) noexcept
{
    detail::status_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.complete()) return std::nullopt;
    return reader.result;
}

/// Reads the text of `/proc/PID/maps`; nothing where a line is not one of it.
inline std::optional<anonymous_mappings> parse_maps(std::string_view text) noexcept
{
    detail::maps_reader reader;
    detail::for_each_line(text, reader);
    if (reader.broken) return std::nullopt;
    return reader.result;
}

/// Reads the text of `/proc/net/sockstat`; nothing where its line on TCP is missing or incomplete.
inline std::optional<socket_memory> parse_sockstat(std::string_view text) noexcept
{
    detail::sockstat_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.found) return std::nullopt;
    return reader.result;
}

/// Reads the text of `/proc/meminfo`; nothing where MemTotal or MemAvailable is missing.
inline std::optional<machine_memory> parse_meminfo(std::string_view text) noexcept
{
    detail::meminfo_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.total || !reader.available) return std::nullopt;
    return reader.result;
}

/// Reads the content of a cgroup's `memory.max` or `memory.limit_in_bytes`: a limit in bytes, or nothing
/// where there is none ("max", or version 1's sentinel near 2^63) or the text is no number.
inline std::optional<std::uint64_t> parse_cgroup_limit(std::string_view text) noexcept
{
    text = text.substr(0, text.find('\n'));
    const auto number = detail::parse_number(text);
    if (!number || *number >= std::uint64_t{1} << 62) return std::nullopt;
    return number;
}

/// What a process holds in memory.
///
/// Cost: one small file, about 15 microseconds; no allocation. The kernel keeps these counters in batches:
/// a figure may be off by some hundred KiB on a machine with many processors.
///
///     std::error_code error;
///     const auto memory = holdfast::read_process_memory(0, error);
///     if (!error) std::clog << memory.rss_anon / 1024 << " KiB\n";
inline process_memory read_process_memory(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    detail::status_reader reader;
    detail::for_each_line_of_file(detail::proc_path{pid, "status"}.c_str(), error, reader);
    detail::missing_file_is_missing_process(error);
    if (!error && reader.has_no_memory()) error = std::make_error_code(std::errc::no_such_process);
    if (!error && !reader.complete()) error = std::make_error_code(std::errc::bad_message);
    return error ? process_memory{} : reader.result;
}

namespace detail {

/// Counts the entries of /proc/PID/fd one by one: the only way before Linux 6.2.
inline std::uint64_t list_open_descriptors(pid_t pid, std::error_code& error) noexcept
{
    DIR* const directory = ::opendir(proc_path{pid, "fd"}.c_str());
    if (directory == nullptr) {
        error.assign(errno, std::system_category());
        return 0;
    }
    std::uint64_t count = 0;
    errno = 0;
    while (const dirent* entry = ::readdir(directory))
        if (entry->d_name[0] != '.') ++count;
    if (errno != 0) error.assign(errno, std::system_category());
    ::closedir(directory);
    const bool own = pid == 0 || pid == ::getpid();
    return error ? 0 : count - (own ? 1 : 0); // the directory itself was open
}

} // namespace detail

/// How many descriptors a process has open.
///
/// Cost: constant from Linux 6.2 on; before, the directory is listed: about a microsecond a descriptor, and
/// opendir's allocation.
inline std::uint64_t read_open_descriptors(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    const detail::proc_path path{pid, "fd"};
    struct stat directory{};
    std::uint64_t count = 0;
    if (::stat(path.c_str(), &directory) != 0) {
        error.assign(errno, std::system_category());
    } else {
        // From 6.2 on the size of the directory is the count, for those who may list it.
        count = static_cast<std::uint64_t>(directory.st_size);
        if (count == 0) count = detail::list_open_descriptors(pid, error);
    }
    detail::missing_file_is_missing_process(error);
    return count;
}

/// How many anonymous mappings a process has, and how large they are.
///
/// Cost: linear in the number of mappings, about half a microsecond each, during which the process cannot map
/// memory: not for a hot loop. No allocation.
inline anonymous_mappings read_anonymous_mappings(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    detail::maps_reader reader;
    detail::for_each_line_of_file(detail::proc_path{pid, "maps"}.c_str(), error, reader);
    detail::missing_file_is_missing_process(error);
    if (!error && reader.broken) error = std::make_error_code(std::errc::bad_message);
    return error ? anonymous_mappings{} : reader.result;
}

/// What TCP holds in the kernel's socket buffers, on the whole machine: take the difference of two readings.
///
/// Cost: one small file; no allocation.
inline socket_memory read_socket_memory(std::error_code& error) noexcept
{
    error.clear();
    detail::sockstat_reader reader;
    detail::for_each_line_of_file("/proc/net/sockstat", error, reader);
    if (!error && !reader.found) error = std::make_error_code(std::errc::bad_message);
    return error ? socket_memory{} : reader.result;
}

/// The machine's memory: all, and what is available.
///
/// Cost: one small file; no allocation.
inline machine_memory read_machine_memory(std::error_code& error) noexcept
{
    error.clear();
    detail::meminfo_reader reader;
    detail::for_each_line_of_file("/proc/meminfo", error, reader);
    if (!error && !(reader.total && reader.available)) error = std::make_error_code(std::errc::bad_message);
    return error ? machine_memory{} : reader.result;
}

namespace detail {

/// Where the memory controller of a process has its files, and how they are called.
struct cgroup_place {
    std::string mount;     ///< where the hierarchy is mounted: "/sys/fs/cgroup"
    std::string directory; ///< the group's directory: the mount or below it
    bool version_2 = true;
};

/// Finds the memory controller's directory in the texts of `/proc/PID/cgroup` and `/proc/self/mountinfo`;
/// nothing where no hierarchy with that controller is mounted. On a machine with both versions the controller
/// belongs to one of them; where version 1 has it, version 2 does not.
inline std::optional<cgroup_place> find_memory_cgroup(std::string_view cgroup, std::string_view mountinfo)
{
    const auto has_word = [](std::string_view list, std::string_view word) {
        while (!list.empty()) {
            const std::size_t size = std::min(list.find(','), list.size());
            if (list.substr(0, size) == word) return true;
            list.remove_prefix(std::min(size + 1, list.size()));
        }
        return false;
    };
    std::optional<std::string_view> path_1, path_2; // "4:memory:/path" and "0::/path"
    for_each_line(cgroup, [&](std::string_view line) {
        const std::size_t first = line.find(':');
        const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos) return;
        const std::string_view controllers = line.substr(first + 1, second - first - 1);
        if (controllers.empty()) path_2 = line.substr(second + 1);
        if (has_word(controllers, "memory")) path_1 = line.substr(second + 1);
    });
    std::optional<cgroup_place> result;
    for_each_line(mountinfo, [&](std::string_view line) {
        // "36 25 0:32 /root /mount/point rw,relatime shared:9 - cgroup source rw,memory"
        const std::size_t separator = line.find(" - ");
        if (separator == line.npos || result) return;
        std::string_view type = line.substr(separator + 3);
        const std::string_view kind = take_word(type);
        take_word(type); // the source
        const std::string_view options = take_word(type);
        const bool version_1 = kind == "cgroup" && has_word(options, "memory");
        const bool version_2 = kind == "cgroup2";
        const std::optional<std::string_view> path = path_1 ? path_1 : path_2;
        if (!path || (path_1 ? !version_1 : !version_2)) return;
        for (int field = 0; field < 3; ++field)
            take_word(line);
        const std::string_view root = take_word(line);
        const std::string_view mount = take_word(line);
        cgroup_place place{std::string{mount}, std::string{mount}, !version_1};
        // In a container only a part of the hierarchy may be mounted: from `root` on. A path outside of it
        // cannot be seen; the mount itself is then the nearest group that can.
        std::string_view below = *path;
        if (root != "/") {
            const bool inside =
                below.starts_with(root) && (below.size() == root.size() || below[root.size()] == '/');
            below = inside ? below.substr(root.size()) : std::string_view{};
        }
        if (below.size() > 1 && !below.starts_with("/..")) place.directory += below;
        result = std::move(place);
    });
    return result;
}

/// The whole of a small file, or nothing.
inline std::optional<std::string> read_text(const std::string& path)
{
    std::string text;
    std::error_code error;
    for_each_line_of_file(path.c_str(), error, [&](std::string_view line) { text.append(line) += '\n'; });
    if (error) return std::nullopt;
    return text;
}

/// A group that limits memory, and where its files are.
struct cgroup_limit {
    std::string directory;
    std::uint64_t limit = 0;
    bool version_2 = true;
};

/// The smallest limit from the group's directory up to the mount. Where groups have the same limit, the
/// highest counts: its use includes theirs.
inline std::optional<cgroup_limit> tightest_group(const cgroup_place& place)
{
    const char* const limit_file = place.version_2 ? "/memory.max" : "/memory.limit_in_bytes";
    std::optional<cgroup_limit> tightest;
    for (std::string directory = place.directory;;) {
        const auto text = read_text(directory + limit_file);
        const auto found = text ? parse_cgroup_limit(*text) : std::nullopt;
        if (found && (!tightest || *found <= tightest->limit))
            tightest = cgroup_limit{directory, *found, place.version_2};
        if (directory.size() <= place.mount.size()) break;
        directory.resize(directory.find_last_of('/'));
    }
    return tightest;
}

/// The page cache in the text of a group's memory.stat: the lists of file pages. tmpfs and shared memory,
/// which cannot be dropped, are not on them.
inline std::uint64_t cgroup_page_cache(std::string_view statistics, bool version_2) noexcept
{
    const std::string_view prefix = version_2 ? "" : "total_";
    std::uint64_t bytes = 0;
    for_each_line(statistics, [&](std::string_view line) {
        std::string_view name = take_word(line);
        if (!name.starts_with(prefix)) return;
        name.remove_prefix(prefix.size());
        if (name == "active_file" || name == "inactive_file")
            bytes += parse_number(take_word(line)).value_or(0);
    });
    return bytes;
}

/// The smallest limit up the chain, and what is used of it.
inline std::optional<cgroup_memory> smallest_limit(const cgroup_place& place)
{
    const auto group = tightest_group(place);
    if (!group) return std::nullopt;
    const char* const use_file = group->version_2 ? "/memory.current" : "/memory.usage_in_bytes";
    const std::string text = read_text(group->directory + use_file).value_or("");
    const std::uint64_t use = parse_number(std::string_view{text}.substr(0, text.find('\n'))).value_or(0);
    const std::uint64_t page_cache =
        cgroup_page_cache(read_text(group->directory + "/memory.stat").value_or(""), group->version_2);
    return cgroup_memory{group->limit, use - std::min(use, page_cache)};
}

/// The memory controller's group of a process.
inline std::optional<cgroup_place> find_cgroup(pid_t pid, std::error_code& error)
{
    error.clear();
    std::string cgroup, mountinfo;
    for_each_line_of_file(proc_path{pid, "cgroup"}.c_str(), error,
                          [&](std::string_view line) { cgroup.append(line) += '\n'; });
    missing_file_is_missing_process(error);
    if (error) return std::nullopt;
    for_each_line_of_file("/proc/self/mountinfo", error,
                          [&](std::string_view line) { mountinfo.append(line) += '\n'; });
    if (error) return std::nullopt;
    return find_memory_cgroup(cgroup, mountinfo);
}

} // namespace detail

/// The smallest memory limit up the chain of cgroups that a process is in, and what is used of it; nothing
/// where no group limits its memory, or no group's files can be seen. Versions 1 and 2.
///
/// Cost: `/proc/PID/cgroup`, the table of mounts and up to three files a level: about 50 microseconds;
/// allocates. Throws only `std::bad_alloc`.
inline std::optional<cgroup_memory> read_cgroup_memory(pid_t pid, std::error_code& error)
{
    const auto place = detail::find_cgroup(pid, error);
    return place ? detail::smallest_limit(*place) : std::nullopt;
}

} // namespace holdfast

#endif
