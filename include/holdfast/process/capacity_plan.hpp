// holdfast: capacity_plan, which computes how many connections fit into a memory budget, and the bound of a server's
// memory.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROCESS_CAPACITY_PLAN_HPP
#define HOLDFAST_PROCESS_CAPACITY_PLAN_HPP

#include <holdfast/detail/saturated.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>

namespace holdfast {

/// The most memory that one connection takes. Every field takes any value; a sum that does not fit saturates.
struct connection_cost {
    /// Session, guard, registry entry and Asio's own state, in bytes. `examples/ladder` measures this for an idle
    /// connection; round it up.
    std::size_t session_bytes = 2048;
    /// Largest frame of a `frame_reader` in bytes (`max_frame_bytes`). 0: no reader.
    std::size_t frame_bytes = 0;
    /// Chunk size of `async_write_streamed` in bytes (`chunk_bytes`; twice that with two buffers).
    std::size_t chunk_bytes = 0;
    /// Most bytes that are queued for sending (`worst_case_bytes` of an outbox's options).
    std::size_t queue_bytes = 0;
    /// One entry of a `heartbeat_timer` in bytes.
    std::size_t heartbeat_bytes = 12;
    /// `acceptor_options::send_buffer_bytes` and `receive_buffer_bytes`. The kernel doubles both. With 0 the kernel
    /// chooses, and its buffers of a client that does not read grow to megabytes: the plan is then no bound.
    std::size_t send_buffer_bytes = 0;
    std::size_t receive_buffer_bytes = 0;
    /// The TLS engine of an idle connection in bytes, and that of a connection in its handshake: what
    /// `measure_tls_memory` returns. 0: no TLS.
    std::size_t tls_bytes = 0;
    std::size_t handshake_bytes = 0;

    /// The connection's bytes in the process.
    [[nodiscard]] constexpr std::uint64_t user_bytes() const noexcept;
    /// The connection's bytes in the kernel: both buffers as the kernel doubles them, at least its minimum; one
    /// segment of 64 KiB by which the kernel overfills a send buffer; and the socket's structures.
    [[nodiscard]] constexpr std::uint64_t kernel_bytes() const noexcept;
    /// The sum of both.
    [[nodiscard]] constexpr std::uint64_t bytes() const noexcept;
};

/// The memory and descriptors of a server. Every field takes any value.
struct capacity_budget {
    /// The memory in bytes that the server may take in all, its sockets' kernel memory included. See
    /// `read_memory_limit` for that of this machine.
    std::uint64_t memory_bytes = 0;
    /// The memory in bytes that the server takes without connections: program, libraries, its own data; with
    /// `tls_context_options::compact_records` also 0.3 MB for each cipher suite.
    std::uint64_t fixed_bytes = 16 * 1024 * 1024;
    /// How many descriptors the server may open. The largest value means unlimited.
    std::uint64_t descriptors = std::numeric_limits<std::uint64_t>::max();
    /// How many of these are not for connections: listener, epoll, timer, files.
    std::uint64_t spare_descriptors = 16;
    /// How many ended connections may still have bytes in the kernel at the same time, beyond the connections of the
    /// plan. An acceptor's ended connections count within its `max_connections`, or within the limit of the semaphore
    /// that it shares: state 0 for them, and `max_pending_rejects` of each acceptor for rejected ones. For each
    /// `connection_guard` without an acceptor, count the connections that end within 10 seconds by `close()` or
    /// destruction.
    std::uint64_t ended_connections = 0;
    /// How many connections may be in their handshake at the same time (`handshake_options::max_handshakes`).
    std::uint64_t handshakes = 0;
};

/// Computes how many connections fit into a budget, and how much memory a number of connections takes at most. All sums
/// and products saturate at the largest value, so a plan is never too small. All of it is `constexpr`: a server may
/// `static_assert` its plan.
///
///     constexpr holdfast::capacity_plan plan{
///         {.frame_bytes = 4096, .chunk_bytes = 16384, .send_buffer_bytes = 65536, .receive_buffer_bytes = 4096},
///         {.memory_bytes = 2'000'000'000}};
///     static_assert(plan.max_connections() >= 7'000);
///     std::clog << plan;
class capacity_plan {
public:
    constexpr capacity_plan(const connection_cost& cost, const capacity_budget& budget) noexcept
        : cost_(cost), budget_(budget)
    {
    }

    /// The largest number of connections that memory and descriptors allow. 0 where not even one fits.
    [[nodiscard]] constexpr std::uint64_t max_connections() const noexcept;

    /// The most memory in bytes that `connections` take in the process.
    [[nodiscard]] constexpr std::uint64_t user_bytes_at(std::uint64_t connections) const noexcept;
    /// The most memory in bytes that `connections` take in the process and in the kernel.
    [[nodiscard]] constexpr std::uint64_t bytes_at(std::uint64_t connections) const noexcept;
    /// How many descriptors the server needs for `connections`.
    [[nodiscard]] constexpr std::uint64_t descriptors_at(std::uint64_t connections) const noexcept;

    [[nodiscard]] constexpr const connection_cost& cost() const noexcept { return cost_; }
    [[nodiscard]] constexpr const capacity_budget& budget() const noexcept { return budget_; }

private:
    [[nodiscard]] constexpr std::uint64_t fixed_user_bytes() const noexcept;
    [[nodiscard]] constexpr std::uint64_t base_bytes() const noexcept;

    connection_cost cost_;
    capacity_budget budget_;
};

constexpr std::uint64_t connection_cost::user_bytes() const noexcept
{
    std::uint64_t sum = 0;
    for (const std::uint64_t part : {session_bytes, frame_bytes, chunk_bytes, queue_bytes, heartbeat_bytes, tls_bytes})
        sum = detail::saturated_sum(sum, part);
    return sum;
}

constexpr std::uint64_t connection_cost::kernel_bytes() const noexcept
{
    constexpr std::uint64_t socket = 5 * 1024;   // measured: 4,100 to 4,900 bytes for an idle connection
    constexpr std::uint64_t segment = 66 * 1024; // 64 KiB of payload where the peer's window is large enough
    constexpr std::uint64_t least_sent = 4608;
    constexpr std::uint64_t least_received = 2304;
    const std::uint64_t sent = std::max(detail::saturated_product(2, send_buffer_bytes), least_sent);
    const std::uint64_t received = std::max(detail::saturated_product(2, receive_buffer_bytes), least_received);
    return detail::saturated_sum(detail::saturated_sum(socket + segment, sent), received);
}

constexpr std::uint64_t connection_cost::bytes() const noexcept
{
    return detail::saturated_sum(user_bytes(), kernel_bytes());
}

constexpr std::uint64_t capacity_plan::fixed_user_bytes() const noexcept
{
    return detail::saturated_sum(budget_.fixed_bytes,
                                 detail::saturated_product(budget_.handshakes, cost_.handshake_bytes));
}

constexpr std::uint64_t capacity_plan::base_bytes() const noexcept
{
    return detail::saturated_sum(fixed_user_bytes(),
                                 detail::saturated_product(budget_.ended_connections, cost_.kernel_bytes()));
}

constexpr std::uint64_t capacity_plan::max_connections() const noexcept
{
    const std::uint64_t for_all = budget_.memory_bytes - std::min(budget_.memory_bytes, base_bytes());
    const std::uint64_t slots = budget_.descriptors - std::min(budget_.descriptors, budget_.spare_descriptors);
    return std::min(for_all / cost_.bytes(), slots);
}

constexpr std::uint64_t capacity_plan::user_bytes_at(std::uint64_t connections) const noexcept
{
    return detail::saturated_sum(fixed_user_bytes(), detail::saturated_product(connections, cost_.user_bytes()));
}

constexpr std::uint64_t capacity_plan::bytes_at(std::uint64_t connections) const noexcept
{
    return detail::saturated_sum(base_bytes(), detail::saturated_product(connections, cost_.bytes()));
}

constexpr std::uint64_t capacity_plan::descriptors_at(std::uint64_t connections) const noexcept
{
    return detail::saturated_sum(connections, budget_.spare_descriptors);
}

/// Writes the plan in one line.
inline std::ostream& operator<<(std::ostream& out, const capacity_plan& plan)
{
    constexpr std::uint64_t mebibyte = 1024 * 1024;
    const std::uint64_t n = plan.max_connections();
    out << "at most " << n << " connections fit: " << plan.budget().fixed_bytes / mebibyte << " MiB + ";
    if (const auto handshakes = plan.budget().handshakes; handshakes != 0 && plan.cost().handshake_bytes != 0)
        out << handshakes << " handshakes x " << plan.cost().handshake_bytes << " B + ";
    if (const auto ended = plan.budget().ended_connections; ended != 0)
        out << ended << " ended x " << plan.cost().kernel_bytes() << " B in the kernel + ";
    return out << n << " x (" << plan.cost().user_bytes() << " B + " << plan.cost().kernel_bytes()
               << " B in the kernel) = " << plan.bytes_at(n) / mebibyte << " of "
               << plan.budget().memory_bytes / mebibyte << " MiB; " << plan.descriptors_at(n) << " descriptors\n";
}

} // namespace holdfast

#endif
