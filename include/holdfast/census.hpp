// holdfast: census, a view of the connections of one acceptor or of several: which are live, how the others ended.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CENSUS_HPP
#define HOLDFAST_CENSUS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>
#include <holdfast/peer_address.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast {

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor;

/// One live connection, as `census::for_each` shows it.
struct census_entry {
    /// Its number, for `bounded_acceptor::end`. No other connection of the same acceptor ever has it.
    std::uint64_t id = 0;
    /// Its peer's address as text; valid during the call.
    std::string_view remote;
    /// Its peer's address.
    peer_address peer{};
    /// Time since it was admitted.
    std::chrono::steady_clock::duration age{};
    /// Bytes that the kernel received for it, whether read or not; nothing for local sockets.
    std::optional<std::uint64_t> bytes_in;
    /// Bytes that the peer's kernel has acknowledged; nothing for local sockets.
    std::optional<std::uint64_t> bytes_out;
    /// Whether a drain or `bounded_acceptor::shed` has notified it.
    bool draining = false;
    /// Its peer's name, where it has been given one; valid during the call.
    std::string_view name{};
};

/// The handshakes of `bounded_acceptor::async_serve` with a layer factory such as `tls`.
struct handshake_totals {
    /// Under way, or waiting because of `handshake_options::max_handshakes`.
    std::uint64_t pending = 0;
    /// Finished: the session begins.
    std::uint64_t completed = 0;
    /// Ended otherwise: refused, too late, or the connection has ended first.
    std::uint64_t failed = 0;
};

/// A view of the connections that one acceptor has admitted (`bounded_acceptor::census`), or, added with `+`, of those
/// of several acceptors.
///
/// Lifetime: it may outlive the acceptors.
///
/// Thread safety: distinct objects are safe, whatever the acceptors' threads do meanwhile. Const members of one object
/// may be called concurrently. Each member function reads an acceptor's figures at one moment.
///
/// Cost: a short lock for each acceptor, which connections take only when they begin and end.
///
///     holdfast::census all = first.census() + second.census();
///     all.report(std::cout);
class census {
public:
    /// The connections of both. Allocates.
    HOLDFAST_DECL friend census operator+(census a, const census& b);

    /// Returns the number of connections that are open now.
    [[nodiscard]] HOLDFAST_DECL std::size_t live() const noexcept;

    /// Returns the highest number of connections that were open at once. For several acceptors it is the sum of their
    /// peaks, which may have been at different times.
    [[nodiscard]] HOLDFAST_DECL std::size_t peak() const noexcept;

    /// Returns how many have ended for `reason`. Cost: O(1).
    [[nodiscard]] HOLDFAST_DECL std::uint64_t ended(close_reason reason) const noexcept;

    /// Returns how many have ended in all.
    [[nodiscard]] HOLDFAST_DECL std::uint64_t ended() const noexcept;

    /// Returns the numbers of handshakes that `async_serve` has performed with a layer factory.
    [[nodiscard]] HOLDFAST_DECL handshake_totals handshakes() const noexcept;

    /// Returns the age of the oldest open connection; zero when there is none. Cost: O(peak).
    [[nodiscard]] HOLDFAST_DECL std::chrono::steady_clock::duration oldest() const noexcept;

    /// Calls `f(const census_entry&)` for each open connection, in no particular order. No lock is held during the
    /// call. A connection that begins or ends meanwhile may be shown or not.
    ///
    /// Exceptions: those of `f`. Cost: allocates nothing; up to three system calls for each connection.
    template <class F>
    void for_each(F f) const
    {
        using duration = std::chrono::steady_clock::duration;
        const auto now = std::chrono::steady_clock::now(); // one for all: ages can be compared
        std::array<detail::registry::member, 32> page;
        for (const auto& each : registries_) {
            std::size_t cursor = 0;
            while (const std::size_t listed = each->list(cursor, page)) {
                for (std::size_t i = 0; i != listed; ++i) {
                    const detail::registry::member& m = page[i];
                    const auto remote = m.peer.text();
                    const auto age = std::max(duration::zero(), now - m.since); // it may have begun meanwhile
                    census_entry entry{m.id, remote.view(), m.peer, age, {}, {}, m.notified, m.name.view()};
                    if (m.bytes) {
                        entry.bytes_in = m.bytes->received;
                        entry.bytes_out = m.bytes->sent;
                    }
                    f(std::as_const(entry));
                }
            }
        }
    }

    /// Prints a table: the totals, how many connections ended for which reason, and the `longest_lived` oldest ones
    /// that are open.
    ///
    /// Exceptions: std::bad_alloc; those of `out`.
    HOLDFAST_DECL void report(std::ostream& out, std::size_t longest_lived = 10) const;

private:
    template <class, connection_finalizer, class>
    friend class bounded_acceptor;

    explicit census(std::shared_ptr<const detail::registry> registry) : registries_{std::move(registry)} {}

    template <class Number, class F>
    Number sum(F f) const noexcept
    {
        Number total = 0;
        for (const auto& each : registries_)
            total += f(*each);
        return total;
    }

    static std::int64_t seconds(std::chrono::steady_clock::duration age) noexcept
    {
        return std::chrono::duration_cast<std::chrono::seconds>(age).count();
    }

    HOLDFAST_DECL void report_oldest(std::ostream& out, std::size_t n) const;

    HOLDFAST_DECL static std::string describe(const census_entry& entry);

    std::vector<std::shared_ptr<const detail::registry>> registries_;
};

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/census.ipp>
#endif

#endif
