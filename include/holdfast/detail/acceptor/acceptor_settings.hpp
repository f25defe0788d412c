// holdfast: what acceptor_options mean: their ranges, and the limits that follow from them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_SETTINGS_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_SETTINGS_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/accept_machine.hpp>
#include <holdfast/detail/acceptor/memory_meter.hpp>
#include <holdfast/detail/connection/random_seed.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/layer_factory.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

namespace holdfast::detail {

inline void require(bool holds, const char* what)
{
    if (!holds) throw std::invalid_argument(what);
}

/// Throws std::invalid_argument for an option out of range.
HOLDFAST_DECL const acceptor_options& check(const acceptor_options& o, bool is_tcp, bool is_type_erased);

/// Throws std::invalid_argument for an option out of range.
HOLDFAST_DECL const drain_options& check(const drain_options& o);

/// Throws std::invalid_argument for an option out of range.
HOLDFAST_DECL const handshake_options& check(const handshake_options& o);

/// 0: unlimited.
inline std::size_t address_limit(const acceptor_options& o) noexcept
{
    return o.max_per_address == std::numeric_limits<std::size_t>::max() ? 0 : o.max_per_address;
}

inline std::chrono::steady_clock::duration saturated(std::chrono::milliseconds time) noexcept
{
    using duration = std::chrono::steady_clock::duration;
    if (time >= std::chrono::duration_cast<std::chrono::milliseconds>(duration::max())) return duration::max();
    return time;
}

HOLDFAST_DECL accept_limits limits_of(const acceptor_options& o, bool own_tcp_listener);

/// Opens the files of a source of measurements into `meter`, where there is a limit; returns the high and the low
/// watermark.
HOLDFAST_DECL std::pair<std::uint64_t, std::uint64_t> open_memory_meter(const memory_limits& limits,
                                                                        std::optional<memory_meter>& meter);

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/acceptor_settings.ipp>
#endif

#endif
