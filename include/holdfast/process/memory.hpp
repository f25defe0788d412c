// holdfast: the memory of a process, of the kernel's sockets and of the machine. Linux.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_MEMORY_HPP
#define HOLDFAST_PROCESS_MEMORY_HPP

#if !defined(__linux__)
#error "holdfast/process/memory.hpp reads Linux's /proc: leave it out of the build on other systems"
#endif

#include <holdfast/detail/process/proc_file.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

#include <sys/types.h>
#include <unistd.h>

namespace holdfast {

// The functions read a file when they are called and keep nothing. A `pid` of 0 is the calling process. Another
// process can be read as far as the system permits: any user may read `/proc/PID/status`; descriptors and
// mappings need the same user or a privileged one. Each call needs a free descriptor.
//
// Errors are those of the system, and: ESRCH, the process has ended, is a zombie or is a kernel thread (which has
// no memory of its own); EBADMSG, a file has an unknown form. After an error the result is empty.
//
// Thread safety: all functions may be called from any thread.
// The parsers are public for programs that have the text from elsewhere: an agent, a core dump, a test.

/// The memory of a process, from `/proc/PID/status`. All figures except `threads` are in bytes.
struct process_memory {
    /// VmRSS: the memory of the process that is resident now.
    std::uint64_t vm_rss = 0;
    /// VmHWM: the highest `vm_rss` since the process began.
    std::uint64_t vm_rss_peak = 0;
    /// RssAnon: resident anonymous memory: heap and stacks. This figure grows when a server leaks.
    std::uint64_t rss_anon = 0;
    /// RssFile: resident pages of executables, libraries and mapped files.
    std::uint64_t rss_file = 0;
    /// RssShmem: resident shared memory.
    std::uint64_t rss_shmem = 0;
    /// VmSwap: anonymous memory that is swapped out. `rss_anon` does not include it.
    std::uint64_t vm_swap = 0;
    /// The number of threads.
    std::uint64_t threads = 0;
};

/// The anonymous mappings of a process, from `/proc/PID/maps`.
struct anonymous_mappings {
    /// The number of mappings. glibc's malloc makes one for each large block and one or two for each arena. A
    /// thread's stack is one or two.
    std::uint64_t count = 0;
    /// Their size in bytes, whether the pages have been touched or not. Mappings without any access (guard
    /// pages, reserved address space) add nothing.
    std::uint64_t bytes = 0;
    /// How many of them look like arenas of glibc's malloc. Each thread that allocates may get an arena of its
    /// own: 64 MiB of address space, of which the used part stays resident when the thread's peak is over.
    std::uint64_t arenas = 0;
};

/// The memory of the kernel's TCP sockets, from `/proc/net/sockstat`.
struct socket_memory {
    /// The memory in bytes of all TCP buffers of the machine, in whole pages. It belongs to no process.
    std::uint64_t tcp_bytes = 0;
    /// The number of TCP sockets in use in this network namespace. It includes the sockets of other processes.
    std::uint64_t tcp_sockets = 0;
};

/// The memory of the machine in bytes, from `/proc/meminfo`.
struct machine_memory {
    /// MemTotal: all memory that the kernel manages.
    std::uint64_t total = 0;
    /// MemAvailable: the kernel's estimate of what new programs can take without swapping.
    std::uint64_t available = 0;
};

namespace detail {

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

/// Reads lines such as "7f12a0000000-7f12a4000000 rw-p 00000000 00:00 0      [heap]".
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
        const bool of_kernel = name.starts_with("[v"); // [vdso] and others, which every process has
        if (*inode != 0 || of_kernel) return;
        ++result.count;
        if (!access.starts_with("---")) result.bytes += *end - *begin;
        // glibc reserves 64 MiB at a multiple of 64 MiB for a heap of an arena. The used part at its beginning is
        // accessible; the rest is a mapping of its own. Neighbours with the same access are one mapping.
        constexpr std::uint64_t heap = std::uint64_t{64} << 20U;
        if (!name.empty()) return;
        if (access.starts_with("---p") && *begin == used_end && *end % heap == 0)
            result.arenas += (*end - used_begin) / heap;
        const bool heap_begins = access.starts_with("rw-p") && *begin % heap == 0;
        used_begin = heap_begins ? *begin : 0;
        used_end = heap_begins ? *end : 0;
    }

    std::uint64_t used_begin = 0, used_end = 0; // the line before, where a heap may begin there
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
                result.tcp_bytes = saturated_product(*value, static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
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

/// Parses the text of `/proc/PID/status`. Returns nothing where VmRSS, RssAnon or Threads is missing or not a
/// number.
inline std::optional<process_memory> parse_process_status(std::string_view text) noexcept
{
    detail::status_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.complete()) return std::nullopt;
    return reader.result;
}

/// Parses the text of `/proc/PID/maps`. Returns nothing where a line has another form.
inline std::optional<anonymous_mappings> parse_maps(std::string_view text) noexcept
{
    detail::maps_reader reader;
    detail::for_each_line(text, reader);
    if (reader.broken) return std::nullopt;
    return reader.result;
}

/// Parses the text of `/proc/net/sockstat`. Returns nothing where its TCP line is missing or incomplete.
inline std::optional<socket_memory> parse_sockstat(std::string_view text) noexcept
{
    detail::sockstat_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.found) return std::nullopt;
    return reader.result;
}

/// Parses the text of `/proc/meminfo`. Returns nothing where MemTotal or MemAvailable is missing.
inline std::optional<machine_memory> parse_meminfo(std::string_view text) noexcept
{
    detail::meminfo_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.total || !reader.available) return std::nullopt;
    return reader.result;
}

/// Reads the memory of a process. The kernel updates these counters in batches: on a machine with many
/// CPUs a figure may be off by some hundred KiB.
///
/// Cost: reads one small file, about 15 microseconds. Allocates nothing.
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

/// Reads the number and size of a process's anonymous mappings.
///
/// Cost: about half a microsecond for each mapping. The process cannot map memory during that time, so do not call
/// it in a hot loop. Allocates nothing.
inline anonymous_mappings read_anonymous_mappings(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    detail::maps_reader reader;
    detail::for_each_line_of_file(detail::proc_path{pid, "maps"}.c_str(), error, reader);
    detail::missing_file_is_missing_process(error);
    if (!error && reader.broken) error = std::make_error_code(std::errc::bad_message);
    return error ? anonymous_mappings{} : reader.result;
}

/// Reads the memory of the TCP buffers of the whole machine. The difference of two readings is what a test or a
/// load has added.
///
/// Cost: reads one small file. Allocates nothing.
inline socket_memory read_socket_memory(std::error_code& error) noexcept
{
    error.clear();
    detail::sockstat_reader reader;
    detail::for_each_line_of_file("/proc/net/sockstat", error, reader);
    if (!error && !reader.found) error = std::make_error_code(std::errc::bad_message);
    return error ? socket_memory{} : reader.result;
}

/// Reads the memory of the machine.
///
/// Cost: reads one small file. Allocates nothing.
inline machine_memory read_machine_memory(std::error_code& error) noexcept
{
    error.clear();
    detail::meminfo_reader reader;
    detail::for_each_line_of_file("/proc/meminfo", error, reader);
    if (!error && !(reader.total && reader.available)) error = std::make_error_code(std::errc::bad_message);
    return error ? machine_memory{} : reader.result;
}

} // namespace holdfast

#endif
