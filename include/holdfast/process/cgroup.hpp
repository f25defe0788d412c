// holdfast: the memory limit of a process's cgroups, and how much of it is used. Linux.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_CGROUP_HPP
#define HOLDFAST_PROCESS_CGROUP_HPP

#if !defined(__linux__)
#error "holdfast/process/cgroup.hpp reads Linux's /proc: leave it out of the build on other systems"
#endif

#include <holdfast/detail/linkage.hpp>
#include <holdfast/detail/process/cgroup_files.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

#include <sys/types.h>

namespace holdfast {

/// The tightest memory limit of the cgroups that a process is in, in bytes.
struct cgroup_memory {
    /// The limit. The kernel ends a process of the group rather than exceed it.
    std::uint64_t limit = 0;
    /// The memory that the group with this limit uses. The page cache is not included, since the kernel drops it
    /// before it ends a process. The group's kernel memory is included, above all its socket buffers.
    std::uint64_t used = 0;
};

/// Parses the text of a cgroup's `memory.max` or `memory.limit_in_bytes`: a limit in bytes. For programs that have the
/// text from elsewhere; `read_cgroup_memory` reads the limit of a process. Returns nothing where there is no limit
/// ("max", or the value near 2^63 of version 1) or the text is not a number.
HOLDFAST_DECL std::optional<std::uint64_t> parse_cgroup_limit(std::string_view text) noexcept;

namespace detail {

/// The same for a group whose files are known.
HOLDFAST_DECL std::optional<cgroup_memory> smallest_limit(const cgroup_place& place);

} // namespace detail

/// Reads the smallest memory limit of the cgroups that a process is in, from its own up to the root, and the
/// memory that counts against it. Returns nothing where no group limits its memory or no group's files are
/// visible. Supports versions 1 and 2 of cgroups. A `pid` of 0 is the calling process.
///
/// Errors: those of the system; ESRCH: the process has ended.
/// Thread safety: may be called from any thread.
/// Exceptions: `std::bad_alloc`.
/// Cost: reads `/proc/PID/cgroup`, the table of mounts and up to three files for each level: about 50
/// microseconds. Allocates.
HOLDFAST_DECL std::optional<cgroup_memory> read_cgroup_memory(pid_t pid, std::error_code& error);

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/process/impl/cgroup.ipp>
#endif

#endif
