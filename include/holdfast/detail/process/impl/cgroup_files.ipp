// holdfast: the bodies of cgroup_files.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_PROCESS_IMPL_CGROUP_FILES_IPP
#define HOLDFAST_DETAIL_PROCESS_IMPL_CGROUP_FILES_IPP

#include <holdfast/detail/process/cgroup_files.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <sys/types.h>

namespace holdfast::detail {

HOLDFAST_DECL std::optional<std::uint64_t> cgroup_limit_of(std::string_view text) noexcept
{
    text = text.substr(0, text.find('\n'));
    const auto number = parse_number(text);
    if (!number || *number >= std::uint64_t{1} << 62) return std::nullopt;
    return number;
}

HOLDFAST_DECL std::optional<cgroup_place> find_memory_cgroup(std::string_view cgroup, std::string_view mountinfo)
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
        // In a container only the part of the hierarchy below `root` may be mounted. A path outside of it is not
        // visible. The mount itself is then the nearest group that is.
        std::string_view below = *path;
        if (root != "/") {
            const bool inside = below.starts_with(root) && (below.size() == root.size() || below[root.size()] == '/');
            below = inside ? below.substr(root.size()) : std::string_view{};
        }
        if (below.size() > 1 && !below.starts_with("/..")) place.directory += below;
        result = std::move(place);
    });
    return result;
}

HOLDFAST_DECL std::optional<cgroup_limit> tightest_group(const cgroup_place& place)
{
    const char* const limit_file = place.version_2 ? "/memory.max" : "/memory.limit_in_bytes";
    std::optional<cgroup_limit> tightest;
    for (std::string directory = place.directory;;) {
        const auto text = read_text(directory + limit_file);
        const auto found = text ? cgroup_limit_of(*text) : std::nullopt;
        if (found && (!tightest || *found <= tightest->limit))
            tightest = cgroup_limit{directory, *found, place.version_2};
        if (directory.size() <= place.mount.size()) break;
        directory.resize(directory.find_last_of('/'));
    }
    return tightest;
}

HOLDFAST_DECL std::uint64_t cgroup_page_cache(std::string_view statistics, bool version_2) noexcept
{
    const std::string_view prefix = version_2 ? "" : "total_";
    std::uint64_t bytes = 0;
    for_each_line(statistics, [&](std::string_view line) {
        std::string_view name = take_word(line);
        if (!name.starts_with(prefix)) return;
        name.remove_prefix(prefix.size());
        if (name == "active_file" || name == "inactive_file") bytes += parse_number(take_word(line)).value_or(0);
    });
    return bytes;
}

HOLDFAST_DECL std::optional<cgroup_place> find_cgroup(pid_t pid, std::error_code& error)
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

} // namespace holdfast::detail

#endif
