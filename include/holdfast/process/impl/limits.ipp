// holdfast: the bodies of limits.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_IMPL_LIMITS_IPP
#define HOLDFAST_PROCESS_IMPL_LIMITS_IPP

#include <holdfast/process/limits.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace holdfast {

namespace detail {

HOLDFAST_DECL std::uint64_t list_open_descriptors(pid_t pid, std::error_code& error) noexcept
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

HOLDFAST_DECL descriptor_limits read_descriptor_limits(std::error_code& error) noexcept
{
    error.clear();
    ::rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        error.assign(errno, std::system_category());
        return {};
    }
    return {limit.rlim_cur, limit.rlim_max}; // RLIM_INFINITY is the largest value
}

HOLDFAST_DECL void raise_descriptor_limit(std::uint64_t needed, std::error_code& error) noexcept
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

HOLDFAST_DECL std::uint64_t read_open_descriptors(pid_t pid, std::error_code& error) noexcept
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

HOLDFAST_DECL std::uint64_t read_memory_limit(std::error_code& error)
{
    const auto group = read_cgroup_memory(0, error);
    const auto machine = error ? machine_memory{} : read_machine_memory(error);
    if (error) return 0;
    return group ? std::min(group->limit, machine.total) : machine.total;
}

} // namespace holdfast

#endif
