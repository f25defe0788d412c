// holdfast: the bodies of proc_file.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_PROCESS_IMPL_PROC_FILE_IPP
#define HOLDFAST_DETAIL_PROCESS_IMPL_PROC_FILE_IPP

#include <holdfast/detail/process/proc_file.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace holdfast::detail {

HOLDFAST_DECL std::optional<std::uint64_t> parse_number(std::string_view text, int base) noexcept
{
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number, base);
    if (error != std::errc{} || rest != end) return std::nullopt;
    return number;
}

HOLDFAST_DECL std::string_view take_word(std::string_view& text) noexcept
{
    const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
    text.remove_prefix(begin);
    const std::size_t size = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, size);
    text.remove_prefix(size);
    return word;
}

HOLDFAST_DECL void missing_file_is_missing_process(std::error_code& error) noexcept
{
    if (error == std::errc::no_such_file_or_directory) error = std::make_error_code(std::errc::no_such_process);
}

HOLDFAST_DECL bool take_field(std::string_view line, std::string_view name, std::uint64_t& value) noexcept
{
    if (!line.starts_with(name) || line.substr(name.size(), 1) != ":") return false;
    line.remove_prefix(name.size() + 1);
    const auto number = parse_number(take_word(line));
    const std::string_view unit = take_word(line);
    if (!number || (!unit.empty() && unit != "kB")) return false;
    value = unit.empty() ? *number : saturated_product(*number, 1024);
    return true;
}

HOLDFAST_DECL std::optional<std::string> read_text(const std::string& path)
{
    std::string text;
    std::error_code error;
    for_each_line_of_file(path.c_str(), error, [&](std::string_view line) { text.append(line) += '\n'; });
    if (error) return std::nullopt;
    return text;
}

} // namespace holdfast::detail

#endif
