// holdfast: census_report, a census as plain structs that every serializer takes: for status pages and logs.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_CENSUS_REPORT_HPP
#define HOLDFAST_SERVER_CENSUS_REPORT_HPP

#include <holdfast/census.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

/// One live connection, with copies of what `census_entry` refers to.
struct census_report_member {
    std::uint64_t id = 0;
    std::string remote;
    std::int64_t age_ms = 0;
    std::optional<std::uint64_t> bytes_in, bytes_out;
    bool draining = false;
};

/// The totals, how connections ended, and the live ones.
///
///     co_await holdfast::async_write_streamed<holdfast::ndjson>(peer, holdfast::make_census_report(acceptor.census()));
///     // {"live":1,"peak":2,"ended":1,"ended_by":{"closed by peer":1},"members":[{"id":4294967297,"remote":...}]}
struct census_report {
    std::size_t live = 0, peak = 0;
    std::uint64_t ended = 0;
    /// How many ended for each reason, by its text; reasons that have not occurred are left out.
    std::map<std::string_view, std::uint64_t> ended_by;
    std::vector<census_report_member> members;
};

/// Copies the figures of a census. They are not of one moment: connections may begin and end meanwhile.
///
/// Exceptions: std::bad_alloc.
/// Cost: as `census::for_each`, and about 100 bytes for each live connection.
[[nodiscard]] inline census_report make_census_report(const census& all)
{
    census_report report{all.live(), all.peak(), all.ended(), {}, {}};
    for (std::size_t i = 0; i != close_reason_count; ++i) {
        const auto reason = static_cast<close_reason>(i);
        if (const auto times = all.ended(reason); times != 0) report.ended_by.emplace(to_string(reason), times);
    }
    report.members.reserve(report.live);
    all.for_each([&](const census_entry& each) {
        const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(each.age);
        report.members.push_back(
            {each.id, std::string(each.remote), age.count(), each.bytes_in, each.bytes_out, each.draining});
    });
    return report;
}

} // namespace holdfast

#endif
