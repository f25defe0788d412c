// holdfast: values of HTTP header fields: lists, without regard to case. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_TEXT_LIST_HPP
#define HOLDFAST_DETAIL_TEXT_LIST_HPP

#include <cstddef>
#include <string_view>

namespace holdfast::detail {

inline bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept
{
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i != a.size(); ++i)
        if (lower(a[i]) != lower(b[i])) return false;
    return true;
}

inline std::string_view trimmed(std::string_view text) noexcept
{
    const auto first = text.find_first_not_of(" \t");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Calls `f(item)` for each item of a list that commas separate, until it returns true; returns whether it did.
template <class F>
bool any_list_item(std::string_view list, F f)
{
    for (;;) {
        const auto comma = list.find(',');
        if (f(detail::trimmed(list.substr(0, comma)))) return true;
        if (comma == list.npos) return false;
        list.remove_prefix(comma + 1);
    }
}

} // namespace holdfast::detail

#endif
