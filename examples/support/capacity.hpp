// holdfast: the statement of a server before it starts: how many connections fit, and the bound of its memory.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_CAPACITY_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_CAPACITY_HPP

#include "command_line.hpp"
#include "listening.hpp"

#include <holdfast/process/capacity_plan.hpp>
#include <holdfast/process/limits.hpp>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>

namespace examples {

/// A server's plan and the number of connections that it is to serve.
struct capacity {
    holdfast::capacity_plan plan;
    std::size_t max_connections;

    [[nodiscard]] bool fits() const noexcept { return max_connections <= plan.max_connections(); }

    /// Says what is missing, and what to do.
    [[nodiscard]] std::string shortage() const
    {
        constexpr std::uint64_t mebibyte = 1024 * 1024;
        const std::uint64_t possible = plan.max_connections();
        return std::to_string(max_connections) + " connections may take " +
               std::to_string(plan.bytes_at(max_connections) / mebibyte) + " MiB, but the memory is " +
               std::to_string(plan.budget().memory_bytes / mebibyte) + " MiB: " +
               (possible != 0 ? "give --max-connections " + std::to_string(possible) : "not even one connection fits");
    }

    /// Prints two lines: how many connections would fit, and the bound for those that the server accepts, whose last
    /// word is for `ladder --plan`. Prints a warning on the standard error output where they do not fit.
    void print(std::string_view program) const
    {
        const auto& cost = plan.cost();
        std::cout << program << ": " << plan << program << ": the line: " << plan.budget().fixed_bytes << " B + "
                  << max_connections << " x " << cost.user_bytes() << " B, and " << max_connections << " x "
                  << cost.kernel_bytes() << " B in the kernel; " << plan.descriptors_at(max_connections)
                  << " descriptors; to check it: ladder --plan " << plan.budget().fixed_bytes << '+'
                  << cost.user_bytes() << '+' << cost.kernel_bytes() << std::endl;
        if (!fits()) std::cerr << program << ": warning: " << shortage() << std::endl;
    }
};

/// Plans for `max_connections` with `memory` bytes. Where they do not fit, throws a `usage_error` that says how many
/// would. With 0 the memory is the cgroup's limit or that of the machine, and the server only warns: connections rarely
/// all need their most at the same time. Raises the limit of descriptors as needed, or throws a `usage_error`.
///
/// `fixed_bytes` is the memory of the server without connections.
inline capacity plan_capacity(std::size_t max_connections, const holdfast::connection_cost& cost,
                              std::uint64_t fixed_bytes = holdfast::capacity_budget{}.fixed_bytes,
                              std::uint64_t memory = 0)
{
    require_descriptors(max_connections + spare_descriptors);
    std::error_code error;
    const bool promised = memory != 0;
    if (!promised) memory = holdfast::read_memory_limit(error);
    if (error) throw std::system_error(error, "the memory to plan with");
    const capacity result{{cost,
                           {.memory_bytes = memory,
                            .fixed_bytes = fixed_bytes,
                            .descriptors = descriptor_limit(),
                            .spare_descriptors = spare_descriptors}},
                          max_connections};
    if (promised && !result.fits()) throw usage_error(result.shortage());
    return result;
}

} // namespace examples

#endif
