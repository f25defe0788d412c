// holdfast: the bodies of cgroup.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_IMPL_CGROUP_IPP
#define HOLDFAST_PROCESS_IMPL_CGROUP_IPP

#include <holdfast/process/cgroup.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <sys/types.h>

namespace holdfast {

namespace detail {

HOLDFAST_DECL std::optional<cgroup_memory> smallest_limit(const cgroup_place& place)
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

} // namespace detail

HOLDFAST_DECL std::optional<cgroup_memory> read_cgroup_memory(pid_t pid, std::error_code& error)
{
    const auto place = detail::find_cgroup(pid, error);
    return place ? detail::smallest_limit(*place) : std::nullopt;
}

HOLDFAST_DECL std::optional<std::uint64_t> parse_cgroup_limit(std::string_view text) noexcept
{
    return detail::cgroup_limit_of(text);
}

} // namespace holdfast

#endif
