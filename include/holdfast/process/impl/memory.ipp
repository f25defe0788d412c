// holdfast: the bodies of memory.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_IMPL_MEMORY_IPP
#define HOLDFAST_PROCESS_IMPL_MEMORY_IPP

#include <holdfast/process/memory.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

#include <sys/types.h>
#include <unistd.h>

namespace holdfast {

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

HOLDFAST_DECL std::optional<process_memory> parse_process_status(std::string_view text) noexcept
{
    detail::status_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.complete()) return std::nullopt;
    return reader.result;
}

HOLDFAST_DECL std::optional<anonymous_mappings> parse_maps(std::string_view text) noexcept
{
    detail::maps_reader reader;
    detail::for_each_line(text, reader);
    if (reader.broken) return std::nullopt;
    return reader.result;
}

HOLDFAST_DECL std::optional<socket_memory> parse_sockstat(std::string_view text) noexcept
{
    detail::sockstat_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.found) return std::nullopt;
    return reader.result;
}

HOLDFAST_DECL std::optional<machine_memory> parse_meminfo(std::string_view text) noexcept
{
    detail::meminfo_reader reader;
    detail::for_each_line(text, reader);
    if (!reader.total || !reader.available) return std::nullopt;
    return reader.result;
}

HOLDFAST_DECL process_memory read_process_memory(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    detail::status_reader reader;
    detail::for_each_line_of_file(detail::proc_path{pid, "status"}.c_str(), error, reader);
    detail::missing_file_is_missing_process(error);
    if (!error && reader.has_no_memory()) error = std::make_error_code(std::errc::no_such_process);
    if (!error && !reader.complete()) error = std::make_error_code(std::errc::bad_message);
    return error ? process_memory{} : reader.result;
}

HOLDFAST_DECL anonymous_mappings read_anonymous_mappings(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    detail::maps_reader reader;
    detail::for_each_line_of_file(detail::proc_path{pid, "maps"}.c_str(), error, reader);
    detail::missing_file_is_missing_process(error);
    if (!error && reader.broken) error = std::make_error_code(std::errc::bad_message);
    return error ? anonymous_mappings{} : reader.result;
}

HOLDFAST_DECL socket_memory read_socket_memory(std::error_code& error) noexcept
{
    error.clear();
    detail::sockstat_reader reader;
    detail::for_each_line_of_file("/proc/net/sockstat", error, reader);
    if (!error && !reader.found) error = std::make_error_code(std::errc::bad_message);
    return error ? socket_memory{} : reader.result;
}

HOLDFAST_DECL machine_memory read_machine_memory(std::error_code& error) noexcept
{
    error.clear();
    detail::meminfo_reader reader;
    detail::for_each_line_of_file("/proc/meminfo", error, reader);
    if (!error && !(reader.total && reader.available)) error = std::make_error_code(std::errc::bad_message);
    return error ? machine_memory{} : reader.result;
}

} // namespace holdfast

#endif
