// holdfast: where the memory cgroup of a process has its files, and what they say.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_PROCESS_CGROUP_FILES_HPP
#define HOLDFAST_DETAIL_PROCESS_CGROUP_FILES_HPP

#include <holdfast/detail/linkage.hpp>
#include <holdfast/detail/process/proc_file.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <sys/types.h>

namespace holdfast::detail {

/// Parses the text of `memory.max` or `memory.limit_in_bytes`.
HOLDFAST_DECL std::optional<std::uint64_t> cgroup_limit_of(std::string_view text) noexcept;

/// The directory of a memory cgroup and the version of its file names.
struct cgroup_place {
    std::string mount;     ///< where the hierarchy is mounted: "/sys/fs/cgroup"
    std::string directory; ///< the group's directory: the mount or below it
    bool version_2 = true;
};

/// Finds the directory of the memory controller in the texts of `/proc/PID/cgroup` and `/proc/self/mountinfo`.
/// Returns nothing where no hierarchy with that controller is mounted. On a machine with both versions the
/// controller belongs to one of them: where version 1 has it, version 2 does not.
HOLDFAST_DECL std::optional<cgroup_place> find_memory_cgroup(std::string_view cgroup, std::string_view mountinfo);

/// A cgroup that limits memory, and the directory of its files.
struct cgroup_limit {
    std::string directory;
    std::uint64_t limit = 0;
    bool version_2 = true;
};

/// Finds the smallest limit from the group's directory up to the mount. Of several groups with the same limit it
/// returns the highest, whose usage includes that of the others.
HOLDFAST_DECL std::optional<cgroup_limit> tightest_group(const cgroup_place& place);

/// Sums up the page cache in the text of a group's memory.stat: the two lists of file pages. tmpfs and shared
/// memory, which the kernel cannot drop, are on other lists.
HOLDFAST_DECL std::uint64_t cgroup_page_cache(std::string_view statistics, bool version_2) noexcept;

/// Finds the memory cgroup of a process.
HOLDFAST_DECL std::optional<cgroup_place> find_cgroup(pid_t pid, std::error_code& error);

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/process/impl/cgroup_files.ipp>
#endif

#endif
