// holdfast: the memory of a process, of the kernel's sockets and of the machine. Linux.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_MEMORY_HPP
#define HOLDFAST_PROCESS_MEMORY_HPP

#if !defined(__linux__)
#error "holdfast/process/memory.hpp reads Linux's /proc: leave it out of the build on other systems"
#endif

#include <holdfast/detail/linkage.hpp>
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

/// Parses the text of `/proc/PID/status`. Returns nothing where VmRSS, RssAnon or Threads is missing or not a
/// number.
HOLDFAST_DECL std::optional<process_memory> parse_process_status(std::string_view text) noexcept;

/// Parses the text of `/proc/PID/maps`. Returns nothing where a line has another form.
HOLDFAST_DECL std::optional<anonymous_mappings> parse_maps(std::string_view text) noexcept;

/// Parses the text of `/proc/net/sockstat`. Returns nothing where its TCP line is missing or incomplete.
HOLDFAST_DECL std::optional<socket_memory> parse_sockstat(std::string_view text) noexcept;

/// Parses the text of `/proc/meminfo`. Returns nothing where MemTotal or MemAvailable is missing.
HOLDFAST_DECL std::optional<machine_memory> parse_meminfo(std::string_view text) noexcept;

/// Reads the memory of a process. The kernel updates these counters in batches: on a machine with many
/// CPUs a figure may be off by some hundred KiB.
///
/// Cost: reads one small file, about 15 microseconds. Allocates nothing.
///
///     std::error_code error;
///     const auto memory = holdfast::read_process_memory(0, error);
///     if (!error) std::clog << memory.rss_anon / 1024 << " KiB\n";
HOLDFAST_DECL process_memory read_process_memory(pid_t pid, std::error_code& error) noexcept;

/// Reads the number and size of a process's anonymous mappings.
///
/// Cost: about half a microsecond for each mapping. The process cannot map memory during that time, so do not call
/// it in a hot loop. Allocates nothing.
HOLDFAST_DECL anonymous_mappings read_anonymous_mappings(pid_t pid, std::error_code& error) noexcept;

/// Reads the memory of the TCP buffers of the whole machine. The difference of two readings is what a test or a
/// load has added.
///
/// Cost: reads one small file. Allocates nothing.
HOLDFAST_DECL socket_memory read_socket_memory(std::error_code& error) noexcept;

/// Reads the memory of the machine.
///
/// Cost: reads one small file. Allocates nothing.
HOLDFAST_DECL machine_memory read_machine_memory(std::error_code& error) noexcept;

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/process/impl/memory.ipp>
#endif

#endif
