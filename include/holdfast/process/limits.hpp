// holdfast: how much memory and how many descriptors this process may use, and how many descriptors it does. Linux.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_LIMITS_HPP
#define HOLDFAST_PROCESS_LIMITS_HPP

#if !defined(__linux__)
#error "holdfast/process/limits.hpp reads Linux's /proc: leave it out of the build on other systems"
#endif

#include <holdfast/detail/linkage.hpp>
#include <holdfast/detail/process/proc_file.hpp>
#include <holdfast/process/cgroup.hpp>
#include <holdfast/process/memory.hpp>

#include <cstdint>
#include <system_error>

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace holdfast {

/// The limits of this process on open descriptors (RLIMIT_NOFILE). The largest value means unlimited.
struct descriptor_limits {
    /// The limit that holds now. The process may raise it up to `hard`.
    std::uint64_t soft = 0;
    /// The limit that only a privileged process may raise.
    std::uint64_t hard = 0;
};

/// Reads the limits of this process on open descriptors.
///
/// Errors: those of the system. After an error both limits are 0.
///
/// Thread safety: may be called from any thread.
HOLDFAST_DECL descriptor_limits read_descriptor_limits(std::error_code& error) noexcept;

/// Raises the soft limit on open descriptors to at least `needed`. Never lowers it.
///
/// Errors: EPERM if the hard limit is lower than `needed`, and those of the system. The limit is then unchanged.
/// Thread safety: may be called from any thread; the limit is the whole process's.
HOLDFAST_DECL void raise_descriptor_limit(std::uint64_t needed, std::error_code& error) noexcept;

namespace detail {

/// Counts the entries of /proc/PID/fd. Before Linux 6.2 there is no other way.
HOLDFAST_DECL std::uint64_t list_open_descriptors(pid_t pid, std::error_code& error) noexcept;

} // namespace detail

/// Counts the descriptors that a process has open. A `pid` of 0 is the calling process.
///
/// Errors: those of the system; ESRCH: the process has ended. After an error the result is 0.
/// Thread safety: may be called from any thread.
/// Cost: constant from Linux 6.2 on. Before, it lists the directory: about a microsecond for each descriptor, and
/// the allocation of opendir. It then needs a free descriptor.
HOLDFAST_DECL std::uint64_t read_open_descriptors(pid_t pid, std::error_code& error) noexcept;

/// Reads how much memory this process may use, in bytes: the smallest limit of its cgroups, or the memory of the
/// machine where that is less or no group has a limit. After an error the result is 0.
///
/// Thread safety: may be called from any thread.
/// Exceptions: `std::bad_alloc`.
/// Cost: as `read_cgroup_memory`.
HOLDFAST_DECL std::uint64_t read_memory_limit(std::error_code& error);

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/process/impl/limits.ipp>
#endif

#endif
