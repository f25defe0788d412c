// holdfast: capacity_plan, how many connections fit, and the line that a server's memory stays below.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_CAPACITY_PLAN_HPP
#define HOLDFAST_PROCESS_CAPACITY_PLAN_HPP

#include <holdfast/process/process_memory.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <system_error>

namespace holdfast {

/// What one connection may take at most, in bytes. The kernel's part is only bounded where the acceptor sets
/// both buffers: left to itself it grows to megabytes for each peer that does not read.
struct connection_cost {
    /// Sessions, guard, registry, Asio's own: what the ladder measures for an idle connection, rounded up.
    std::size_t session_bytes = 2048;
    /// The largest frame that a `frame_reader` may hold (`max_frame_bytes`); 0 where there is none.
    std::size_t frame_bytes = 0;
    /// The chunk of an `async_write_streamed` (`chunk_bytes`; twice that where it makes one `ahead`).
    std::size_t chunk_bytes = 0;
    /// What may be queued to be sent.
    std::size_t queue_bytes = 0;
    /// Its place in a `heartbeat_timer`.
    std::size_t heartbeat_bytes = 12;
    /// `acceptor_options::send_buffer_bytes` and `receive_buffer_bytes`; the kernel doubles both.
    std::size_t send_buffer_bytes = 0;
    std::size_t receive_buffer_bytes = 0;

    /// In the process.
    [[nodiscard]] constexpr std::uint64_t user_bytes() const noexcept
    {
        return std::uint64_t{session_bytes} + frame_bytes + chunk_bytes + queue_bytes + heartbeat_bytes;
    }

    /// In the kernel: both buffers as it doubles them, but not below its smallest ones; the segment by which
    /// it overfills a send buffer that has room for a byte; and the socket's own structures, of which idle
    /// connections were measured to take 4,100 to 4,900 bytes.
    [[nodiscard]] constexpr std::uint64_t kernel_bytes() const noexcept
    {
        constexpr std::uint64_t socket = 5 * 1024;
        constexpr std::uint64_t segment = 66 * 1024; // of 64 KiB, where the peer's window is large enough
        constexpr std::uint64_t least_sent = 4608;
        constexpr std::uint64_t least_received = 2304;
        return socket + segment + std::max<std::uint64_t>(2 * std::uint64_t{send_buffer_bytes}, least_sent) +
               std::max<std::uint64_t>(2 * std::uint64_t{receive_buffer_bytes}, least_received);
    }

    [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return user_bytes() + kernel_bytes(); }
};

/// What there is for all of them.
struct capacity_budget {
    /// The memory that the server may take in all, the kernel's part for it included.
    std::uint64_t memory_bytes = 0;
    /// What it takes without connections: program, libraries, data of its own.
    std::uint64_t fixed_bytes = 16 * 1024 * 1024;
    /// How many descriptors it may open, and how many it needs for itself.
    std::uint64_t descriptors = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t spare_descriptors = 16;
};

/// The smallest memory limit of the process's cgroups, or else all of the machine's memory.
inline std::uint64_t memory_to_plan_with(std::error_code& error)
{
    const auto group = read_cgroup_memory(0, error);
    const auto machine = error ? machine_memory{} : read_machine_memory(error);
    if (error) return 0;
    return group ? std::min(group->limit, machine.total) : machine.total;
}

/// The greatest number of connections that fits into a budget, and the line of the memory bound. Pure
/// arithmetic that saturates, `constexpr`: a server may `static_assert` its plan.
///
///     constexpr holdfast::capacity_plan plan{
///         {.frame_bytes = 4096, .chunk_bytes = 16384, .send_buffer_bytes = 65536, .receive_buffer_bytes =
///         4096},
///         {.memory_bytes = 2'000'000'000}};
///     static_assert(plan.max_connections() >= 8'000);
///     std::clog << plan;
class capacity_plan {
public:
    constexpr capacity_plan(const connection_cost& cost, const capacity_budget& budget) noexcept
        : cost_(cost), budget_(budget)
    {
    }

    /// How many fit into memory and descriptors; 0 where not even one does.
    [[nodiscard]] constexpr std::uint64_t max_connections() const noexcept
    {
        const std::uint64_t for_all =
            budget_.memory_bytes - std::min(budget_.memory_bytes, budget_.fixed_bytes);
        const std::uint64_t slots =
            budget_.descriptors - std::min(budget_.descriptors, budget_.spare_descriptors);
        return std::min(for_all / cost_.bytes(), slots);
    }

    /// The line: what `connections` take at most, in the process alone or with the kernel's part.
    [[nodiscard]] constexpr std::uint64_t user_bytes_at(std::uint64_t connections) const noexcept
    {
        return line(connections, cost_.user_bytes());
    }
    [[nodiscard]] constexpr std::uint64_t bytes_at(std::uint64_t connections) const noexcept
    {
        return line(connections, cost_.bytes());
    }

    /// The descriptors that so many connections need.
    [[nodiscard]] constexpr std::uint64_t descriptors_at(std::uint64_t connections) const noexcept
    {
        return saturated_sum(connections, budget_.spare_descriptors);
    }

    [[nodiscard]] constexpr const connection_cost& cost() const noexcept { return cost_; }
    [[nodiscard]] constexpr const capacity_budget& budget() const noexcept { return budget_; }

private:
    static constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

    static constexpr std::uint64_t saturated_sum(std::uint64_t a, std::uint64_t b) noexcept
    {
        return a > most - b ? most : a + b;
    }

    constexpr std::uint64_t line(std::uint64_t connections, std::uint64_t each) const noexcept
    {
        if (connections != 0 && each > most / connections) return most;
        return saturated_sum(budget_.fixed_bytes, connections * each);
    }

    connection_cost cost_;
    capacity_budget budget_;
};

/// Prints the plan in one line: the greatest number, and what it takes.
inline std::ostream& operator<<(std::ostream& out, const capacity_plan& plan)
{
    constexpr std::uint64_t mebibyte = 1024 * 1024;
    const std::uint64_t n = plan.max_connections();
    return out << "at most " << n << " connections fit: " << plan.budget().fixed_bytes / mebibyte << " MiB + "
               << n << " x (" << plan.cost().user_bytes() << " B + " << plan.cost().kernel_bytes()
               << " B in the kernel) = " << plan.bytes_at(n) / mebibyte << " of "
               << plan.budget().memory_bytes / mebibyte << " MiB; " << plan.descriptors_at(n)
               << " descriptors\n";
}

} // namespace holdfast

#endif
