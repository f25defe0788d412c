// holdfast: census, a view on an acceptor's connections: how many live, how the others ended.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CENSUS_HPP
#define HOLDFAST_CENSUS_HPP

#include <holdfast/detail/registry.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <utility>

namespace holdfast {

/// A view on the connections that one acceptor admitted. A copy costs a reference count; it may outlive the
/// acceptor.
///
/// Concurrency: every member may be called from any thread; each reads its figures at one moment, under a
/// short lock.
class census {
public:
    explicit census(std::shared_ptr<const detail::registry> registry) noexcept
        : registry_(std::move(registry))
    {
    }

    /// Connections that are open now.
    [[nodiscard]] std::size_t live() const noexcept { return registry_->live(); }

    /// The most that were ever open at once.
    [[nodiscard]] std::size_t peak() const noexcept { return registry_->read().peak; }

    /// How many have ended for `reason`.
    [[nodiscard]] std::uint64_t ended(close_reason reason) const noexcept
    {
        return registry_->read().ended[static_cast<std::size_t>(reason)];
    }

    /// How many have ended in all.
    [[nodiscard]] std::uint64_t ended() const noexcept { return registry_->departures(); }

    /// The age of the oldest open connection, zero when there is none. O(peak).
    [[nodiscard]] std::chrono::steady_clock::duration oldest() const noexcept
    {
        const auto born = registry_->read().oldest;
        return born ? std::chrono::steady_clock::now() - *born : std::chrono::steady_clock::duration::zero();
    }

    /// Prints a table of it all for humans, one figure a line.
    void report(std::ostream& out) const
    {
        const auto sums = registry_->read();
        out << "live " << sums.live << ", peak " << sums.peak << ", ended " << registry_->departures();
        if (sums.oldest)
            out << ", oldest "
                << std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                                    *sums.oldest)
                       .count()
                << " s";
        out << '\n';
        for (std::size_t i = 0; i != sums.ended.size(); ++i)
            if (sums.ended[i] != 0)
                out << "  " << to_string(static_cast<close_reason>(i)) << ": " << sums.ended[i] << '\n';
    }

private:
    std::shared_ptr<const detail::registry> registry_;
};

} // namespace holdfast

#endif
