// holdfast: a census as plain structs, for metrics: what the admin socket of market_feed answers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_CENSUS_REPORT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_CENSUS_REPORT_HPP

#include <holdfast/census.hpp>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

/// One live connection.
struct census_member {
    std::uint64_t id;
    std::string remote;
    std::int64_t age_ms;
    std::optional<std::uint64_t> bytes_in, bytes_out;
    bool draining;
};

/// The totals, how connections ended, and the open ones.
struct census_report {
    std::size_t live, peak;
    std::uint64_t ended;
    std::map<std::string_view, std::uint64_t> ended_by;
    std::vector<census_member> members;
};

/// Copies the figures: some 100 bytes for each live connection.
inline census_report report_of(const holdfast::census& all)
{
    census_report report{all.live(), all.peak(), all.ended(), {}, {}};
    for (std::size_t i = 0; i != holdfast::close_reason_count; ++i) {
        const auto reason = static_cast<holdfast::close_reason>(i);
        if (const auto times = all.ended(reason); times != 0)
            report.ended_by.emplace(holdfast::to_string(reason), times);
    }
    report.members.reserve(report.live);
    all.for_each([&](const holdfast::census_entry& each) {
        const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(each.age);
        report.members.push_back(
            {each.id, std::string{each.remote}, age.count(), each.bytes_in, each.bytes_out, each.draining});
    });
    return report;
}

} // namespace examples

#endif
