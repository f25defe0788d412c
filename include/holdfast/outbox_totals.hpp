// holdfast: outbox_totals, what all outboxes of the program have sent. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_OUTBOX_TOTALS_HPP
#define HOLDFAST_OUTBOX_TOTALS_HPP

#include <holdfast/version.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace holdfast {

/// What all outboxes of the program have done since its start.
struct outbox_totals {
    std::uint64_t writes = 0;   ///< Writes that have ended: system calls, of a socket.
    std::uint64_t messages = 0; ///< Messages that were sent completely, control messages included.
    std::uint64_t bytes = 0;    ///< Bytes that were sent: those that the stream has taken.
    std::uint64_t dropped = 0;  ///< Messages that `overflow_policy::drop_oldest` has dropped.
    std::uint64_t replaced = 0; ///< Messages that newer ones of their key have replaced.
};

namespace detail {

/// The totals of some threads. With at most as many threads as there are tallies, each has one of its own, so that no
/// thread waits for the cache line of another.
class alignas(64) outbox_tally {
public:
    /// That of this thread.
    static outbox_tally& own() noexcept;

    void note_write(std::size_t messages, std::size_t bytes) noexcept
    {
        add(writes_, 1);
        add(messages_, messages);
        add(bytes_, bytes);
    }
    void note_dropped(std::size_t messages) noexcept { add(dropped_, messages); }
    void note_replaced(std::size_t messages) noexcept { add(replaced_, messages); }

    void add_to(outbox_totals& sums) const noexcept
    {
        sums.writes += writes_.load(std::memory_order_relaxed);
        sums.messages += messages_.load(std::memory_order_relaxed);
        sums.bytes += bytes_.load(std::memory_order_relaxed);
        sums.dropped += dropped_.load(std::memory_order_relaxed);
        sums.replaced += replaced_.load(std::memory_order_relaxed);
    }

private:
    static void add(std::atomic<std::uint64_t>& total, std::uint64_t n) noexcept
    {
        total.fetch_add(n, std::memory_order_relaxed);
    }

    std::atomic<std::uint64_t> writes_{0}, messages_{0}, bytes_{0}, dropped_{0}, replaced_{0};
};

inline constinit std::array<outbox_tally, 64> outbox_tallies{};
inline constinit std::atomic<std::size_t> next_outbox_tally{0};

inline outbox_tally& outbox_tally::own() noexcept
{
    thread_local outbox_tally* mine = nullptr;
    if (mine == nullptr)
        mine = &outbox_tallies[next_outbox_tally.fetch_add(1, std::memory_order_relaxed) % outbox_tallies.size()];
    return *mine;
}

} // namespace detail

/// Returns the totals. Thread safety: safe; what other threads send meanwhile may be counted or not.
/// Cost: five loads for each of 64 groups of threads. Counting costs three atomic additions for each write, none for
/// each message.
[[nodiscard]] inline outbox_totals read_outbox_totals() noexcept
{
    outbox_totals sums;
    for (const detail::outbox_tally& each : detail::outbox_tallies)
        each.add_to(sums);
    return sums;
}

} // namespace holdfast

#endif
