// holdfast: the bodies of acceptor_settings.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPTOR_SETTINGS_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPTOR_SETTINGS_IPP

#include <holdfast/detail/acceptor/acceptor_settings.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL const acceptor_options& check(const acceptor_options& o, bool is_tcp, bool is_type_erased)
{
    const std::chrono::milliseconds zero{};
    require(o.max_connections != 0, "acceptor_options::max_connections must be at least 1");
    require(o.ipv4_prefix >= 1 && o.ipv4_prefix <= 32, "acceptor_options::ipv4_prefix must be 1 to 32");
    require(o.ipv6_prefix >= 1 && o.ipv6_prefix <= 128, "acceptor_options::ipv6_prefix must be 1 to 128");
    require(o.accepts_per_second >= 0 && o.accepts_per_second <= 1e9, // false for a NaN
            "acceptor_options::accepts_per_second must be 0 to 10^9");
    require(o.accept_burst != 0, "acceptor_options::accept_burst must be at least 1");
    require(o.on_address_limit != overload_policy::wait,
            "acceptor_options::on_address_limit must not be wait: the address is known only when the connection "
            "has been accepted");
    const auto timeout = o.backlog_timeout.value_or(zero);
    require(timeout >= zero, "acceptor_options::backlog_timeout must not be negative");
    require(timeout == zero || is_tcp,
            "acceptor_options::backlog_timeout requires TCP: the length of other backlogs is not known");
    require(o.reject_deadline >= zero, "acceptor_options::reject_deadline must not be negative");
    require(o.memory.probe_interval >= zero, "memory_limits::probe_interval must not be negative");
    require(o.memory.low_watermark <= o.memory.high_watermark || o.memory.high_watermark == 0,
            "memory_limits::low_watermark must not exceed high_watermark");
    require(o.send_buffer_bytes >= 0, "acceptor_options::send_buffer_bytes must not be negative");
    require(o.receive_buffer_bytes >= 0, "acceptor_options::receive_buffer_bytes must not be negative");
    require(o.backlog >= 0, "acceptor_options::backlog must not be negative");
    require(o.proxy.header_timeout > zero, "proxy_options::header_timeout must be positive");
    require(o.proxy.max_header_bytes >= 107 && o.proxy.max_header_bytes <= 65551,
            "proxy_options::max_header_bytes must be 107 to 65551");
    require(o.proxy.max_pending_headers != 0, "proxy_options::max_pending_headers must be at least 1");
    require(!o.next_executor || is_type_erased,
            "acceptor_options::next_executor requires an acceptor of any_io_executor");
    return o;
}

HOLDFAST_DECL const drain_options& check(const drain_options& o)
{
    const std::chrono::steady_clock::duration zero{};
    require(o.deadline >= zero, "drain_options::deadline must not be negative");
    require(o.stagger >= zero, "drain_options::stagger must not be negative");
    require(o.stagger == zero || o.stagger < o.deadline, "drain_options::stagger must be less than the deadline");
    return o;
}

HOLDFAST_DECL const handshake_options& check(const handshake_options& o)
{
    require(o.max_handshakes != 0, "handshake_options::max_handshakes must be at least 1");
    require(o.handshake_timeout > std::chrono::steady_clock::duration::zero(),
            "handshake_options::handshake_timeout must be positive");
    require(o.contended_timeout > std::chrono::steady_clock::duration::zero(),
            "handshake_options::contended_timeout must be positive");
    return o;
}

HOLDFAST_DECL accept_limits limits_of(const acceptor_options& o, bool own_tcp_listener)
{
    accept_limits limits;
    limits.on_connection_limit = o.on_connection_limit;
    limits.on_address_limit = o.on_address_limit;
    limits.on_rate_limit = o.on_rate_limit;
    limits.on_memory_limit = o.on_memory_limit;
    limits.on_descriptor_limit = o.on_descriptor_limit;
    limits.accepts_per_second = o.accept_burst == std::numeric_limits<std::size_t>::max() ? 0 : o.accepts_per_second;
    limits.accept_burst = o.accept_burst;
    limits.addresses = o.address_filter || address_limit(o) != 0 || !o.proxy.trusted_senders.empty();
    if (o.backlog_timeout) {
        limits.backlog_timeout = saturated(*o.backlog_timeout);
    } else if (own_tcp_listener && limits.accepts_per_second > 0) {
        limits.backlog_timeout = acceptor_options::default_rate_backlog_timeout;
        limits.backlog_timeout_at_rate_only = true;
    }
    limits.seed = static_cast<std::uint32_t>(random_seed());
    return limits;
}

HOLDFAST_DECL std::pair<std::uint64_t, std::uint64_t> open_memory_meter(const memory_limits& limits,
                                                                        std::optional<memory_meter>& meter)
{
    std::uint64_t high = limits.high_watermark;
    if (limits.of == memory_limits::memory_source::cgroup) {
        std::error_code ec;
        const auto place = find_cgroup(0, ec);
        if (ec) throw std::system_error(ec, "the memory limit of the cgroup cannot be read");
        if (const auto group = place ? tightest_group(*place) : std::nullopt) {
            meter.emplace(*group);
            if (high == 0) high = group->limit / 10 * 9;
        }
    } else if (limits.of == memory_limits::memory_source::process && high != 0) {
        meter.emplace();
    }
    const std::uint64_t low = limits.low_watermark != 0 ? limits.low_watermark : high - high / 16;
    require(low <= high || high == 0, "memory_limits::low_watermark must not exceed high_watermark");
    return {high, low};
}

} // namespace holdfast::detail

#endif
