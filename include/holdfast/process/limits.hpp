// holdfast: how much memory and how many descriptors this process may use, and how many descriptors it does. Linux.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_LIMITS_HPP
#define HOLDFAST_PROCESS_LIMITS_HPP

#if !defined(__linux__)
#error "holdfast/process/limits.hpp reads Linux's /proc: leave it out of the build on other systems"
#endif

#include <holdfast/detail/process/proc_file.hpp>
#include <holdfast/process/cgroup.hpp>
#include <holdfast/process/memory.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
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
inline descriptor_limits read_descriptor_limits(std::error_code& error) noexcept
{
    error.clear();
    ::rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        error.assign(errno, std::system_category());
        return {};
    }
    return {limit.rlim_cur, limit.rlim_max}; // RLIM_INFINITY is the largest value
}

/// Raises the soft limit on open descriptors to at least `needed`. Never lowers it.
///
/// Errors: EPERM if the hard limit is lower than `needed`, and those of the system. The limit is then unchanged.
/// Thread safety: may be called from any thread; the limit is the whole process's.
inline void raise_descriptor_limit(std::uint64_t needed, std::error_code& error) noexcept
{
    const descriptor_limits limits = read_descriptor_limits(error);
    if (error || limits.soft >= needed) return;
    if (limits.hard < needed) {
        error = std::make_error_code(std::errc::operation_not_permitted);
        return;
    }
    const ::rlimit raised{static_cast<rlim_t>(needed), static_cast<rlim_t>(limits.hard)};
    if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) error.assign(errno, std::system_category());
}

namespace detail {

/// Counts the entries of /proc/PID/fd. Before Linux 6.2 there is no other way.
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

/// Counts the descriptors that a process has open. A `pid` of 0 is the calling process.
///
/// Errors: those of the system; ESRCH: the process has ended. After an error the result is 0.
/// Thread safety: may be called from any thread.
/// Cost: constant from Linux 6.2 on. Before, it lists the directory: about a microsecond for each descriptor, and
/// the allocation of opendir. It then needs a free descriptor.
inline std::uint64_t read_open_descriptors(pid_t pid, std::error_code& error) noexcept
{
    error.clear();
    const detail::proc_path path{pid, "fd"};
    struct ::stat directory{};
    std::uint64_t count = 0;
    if (::stat(path.c_str(), &directory) != 0) {
        error.assign(errno, std::system_category());
    } else {
        // From 6.2 on the size of the directory is the count, where the caller may list it.
        count = static_cast<std::uint64_t>(directory.st_size);
        if (count == 0) count = detail::list_open_descriptors(pid, error);
    }
    detail::missing_file_is_missing_process(error);
    return count;
}

/// Reads how much memory this process may use, in bytes: the smallest limit of its cgroups, or the memory of the
/// machine where that is less or no group has a limit. After an error the result is 0.
///
/// Thread safety: may be called from any thread.
/// Exceptions: `std::bad_alloc`.
/// Cost: as `read_cgroup_memory`.
inline std::uint64_t read_memory_limit(std::error_code& error)
{
    const auto group = read_cgroup_memory(0, error);
    const auto machine = error ? machine_memory{} : read_machine_memory(error);
    if (error) return 0;
    return group ? std::min(group->limit, machine.total) : machine.total;
}

} // namespace holdfast

#endif
