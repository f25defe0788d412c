// holdfast: a census as a described struct, for metrics: what the admin socket of market_feed answers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_CENSUS_REPORT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_CENSUS_REPORT_HPP

#include <holdfast/census.hpp>
#include <holdfast/serialize/describe.hpp>

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
constexpr auto describe(holdfast::type<census_member>)
{
    using holdfast::field;
    return holdfast::fields(
        field("id", &census_member::id), field("remote", &census_member::remote),
        field("age_ms", &census_member::age_ms), field("bytes_in", &census_member::bytes_in),
        field("bytes_out", &census_member::bytes_out), field("draining", &census_member::draining));
}

/// The totals, how the others ended, and who is here.
struct census_report {
    std::size_t live, peak;
    std::uint64_t ended;
    std::map<std::string_view, std::uint64_t> ended_by;
    std::vector<census_member> members;
};
constexpr auto describe(holdfast::type<census_report>)
{
    using holdfast::field;
    return holdfast::fields(field("live", &census_report::live), field("peak", &census_report::peak),
                            field("ended", &census_report::ended),
                            field("ended_by", &census_report::ended_by),
                            field("members", &census_report::members));
}

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
