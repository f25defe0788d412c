// holdfast: the bodies of census.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_CENSUS_IPP
#define HOLDFAST_IMPL_CENSUS_IPP

#include <holdfast/census.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace holdfast {

HOLDFAST_DECL census operator+(census a, const census& b)
{
    a.registries_.insert(a.registries_.end(), b.registries_.begin(), b.registries_.end());
    return a;
}

HOLDFAST_DECL std::size_t census::live() const noexcept
{
    return sum<std::size_t>([](const detail::registry& r) { return r.live(); });
}

HOLDFAST_DECL std::size_t census::peak() const noexcept
{
    return sum<std::size_t>([](const detail::registry& r) { return r.peak(); });
}

HOLDFAST_DECL std::uint64_t census::ended(close_reason reason) const noexcept
{
    return sum<std::uint64_t>([reason](const detail::registry& r) { return r.ended(reason); });
}

HOLDFAST_DECL std::uint64_t census::ended() const noexcept
{
    return sum<std::uint64_t>([](const detail::registry& r) { return r.departures(); });
}

HOLDFAST_DECL handshake_totals census::handshakes() const noexcept
{
    handshake_totals all;
    for (const auto& each : registries_) {
        const auto counts = each->handshakes();
        all.pending += counts.pending;
        all.completed += counts.completed;
        all.failed += counts.failed;
    }
    return all;
}

HOLDFAST_DECL std::chrono::steady_clock::duration census::oldest() const noexcept
{
    const auto now = std::chrono::steady_clock::now();
    auto since = now;
    for (const auto& each : registries_)
        since = std::min(since, each->oldest().value_or(now));
    return now - since;
}

HOLDFAST_DECL void census::report(std::ostream& out, std::size_t longest_lived) const
{
    out << "live " << live() << ", peak " << peak() << ", ended " << ended();
    if (live() != 0) out << ", oldest " << seconds(oldest()) << " s";
    out << '\n';
    for (std::size_t i = 0; i != close_reason_count; ++i)
        if (const auto times = ended(static_cast<close_reason>(i)); times != 0)
            out << "  " << to_string(static_cast<close_reason>(i)) << ": " << times << '\n';
    report_oldest(out, longest_lived);
}

HOLDFAST_DECL void census::report_oldest(std::ostream& out, std::size_t n) const
{
    struct row {
        std::chrono::steady_clock::duration age;
        std::string text;
        bool operator<(const row& other) const noexcept { return age > other.age; }
    };
    std::vector<row> oldest; // a heap with the youngest of them in front
    for_each([&](const census_entry& entry) {
        if (oldest.size() == n && (n == 0 || entry.age <= oldest.front().age)) return;
        if (oldest.size() == n) {
            std::pop_heap(oldest.begin(), oldest.end());
            oldest.pop_back();
        }
        oldest.push_back({entry.age, describe(entry)});
        std::push_heap(oldest.begin(), oldest.end());
    });
    std::sort_heap(oldest.begin(), oldest.end());
    if (oldest.empty()) return;
    out << "       age s       bytes in      bytes out  peer\n";
    for (const row& each : oldest)
        out << each.text << '\n';
}

HOLDFAST_DECL std::string census::describe(const census_entry& entry)
{
    const auto number = [](const std::optional<std::uint64_t>& n) { return n ? std::to_string(*n) : std::string("-"); };
    std::array<char, 192> line{};
    std::snprintf(
        line.data(), line.size(), "%12lld %14s %14s  %.*s%s%s%.*s", static_cast<long long>(seconds(entry.age)),
        number(entry.bytes_in).c_str(), number(entry.bytes_out).c_str(), int(entry.remote.size()), entry.remote.data(),
        entry.draining ? " (draining)" : "", entry.name.empty() ? "" : "  ", int(entry.name.size()), entry.name.data());
    return line.data();
}

} // namespace holdfast

#endif
