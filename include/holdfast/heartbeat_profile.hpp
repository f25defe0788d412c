// holdfast: heartbeat_profile, connections of one type with times and callbacks of their own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HEARTBEAT_PROFILE_HPP
#define HOLDFAST_HEARTBEAT_PROFILE_HPP

#include <holdfast/detail/heartbeat/heartbeat_core.hpp>
#include <holdfast/error.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of a `heartbeat_profile`. Times are rounded up to whole ticks of the timer.
struct heartbeat_profile_options {
    /// Time without a `touch()` after which `on_ping` is called, once in each silence: never earlier and at most one
    /// tick later. At least one tick and less than `timeout`; 0 or the largest duration for never.
    std::chrono::nanoseconds ping_after{0};
    /// Time without a `touch()` after which a connection times out. 1 to 65,534 ticks, or the largest duration for
    /// never.
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);
    /// Age at which a connection ends, whatever its peer sends. At least one tick and less than 2^47 ticks; 0 or the
    /// largest duration for no limit. The end may be late by 1/64 of this time, but by no more than 16 ticks unless
    /// the time is longer than a million ticks.
    std::chrono::nanoseconds max_lifetime{0};
    /// The fraction of `max_lifetime` by which the lifetime of each connection is shortened at random, at most.
    /// Connections that were made together end, and reconnect, evenly spread over that time. 0.2 to 1.
    double lifetime_spread = 0.25;
    /// Number of connections for which memory is allocated at construction. 0 to 16,777,216.
    std::size_t expected = 0;
};

namespace detail {

struct no_ping {};

struct abort_peer {
    template <abortable Peer>
    void operator()(Peer& peer, close_reason why) const
    {
        peer.abort(why);
    }
};

heartbeat_limits heartbeat_limits_of(const heartbeat_profile_options& options, std::chrono::nanoseconds tick);

} // namespace detail

/// Watches connections of one type with times and callbacks of their own on a `heartbeat_timer`: a ping after some
/// silence, a time-out after more, and a maximum lifetime. The callbacks are stored once, not for each connection.
///
///  - `on_ping(Peer&)` is called once in each silence. It should not touch the heartbeat: only the answer shows that
///    the peer is alive.
///  - `on_end(Peer&, close_reason)` is called at most once for each connection, with
///    `close_reason::heartbeat_timeout` or `close_reason::max_lifetime`. The default calls `peer.abort(reason)`.
///
/// Both run on the timer's executor. They may destroy any object (the peer, another peer, the profile, the timer),
/// watch others, and throw (see `heartbeat_options::on_exception`).
///
/// A late tick is forgiven to silent connections (see `heartbeat_timer`), but it extends no lifetime.
///
/// Lifetime: heartbeats may outlive the profile, and the profile may outlive the timer. Its destructor ends its
/// watches; no callback of its own runs after it.
/// Thread safety: as the timer.
/// Cost: 12 bytes for each connection, 14 with a maximum lifetime, allocated for 1,024 at a time.
///
///     holdfast::heartbeat_profile<session> phones{heartbeats,
///         {.ping_after = 20s, .timeout = 60s, .max_lifetime = 1h}, [](session& s) { s.send_ping(); }};
///     auto heartbeat = phones.watch(s);
template <class Peer>
class heartbeat_profile {
public:
    /// Constructs a profile. Without `on_ping`, `ping_after` must be 0.
    ///
    /// Exceptions: `std::invalid_argument` for an option out of its range, `std::bad_alloc`.
    template <class Executor, class Clock, class OnPing = detail::no_ping, class OnEnd = detail::abort_peer>
    explicit heartbeat_profile(heartbeat_timer<Executor, Clock>& heartbeats,
                               const heartbeat_profile_options& options = {}, OnPing on_ping = {}, OnEnd on_end = {})
        : core_(heartbeats.core_.get()),
          table_(core_->table_for(limits_of<OnPing>(options, core_->tick_length),
                                  calls_of(std::move(on_ping), std::move(on_end)), options.expected))
    {
    }

    heartbeat_profile(const heartbeat_profile&) = delete;
    heartbeat_profile& operator=(const heartbeat_profile&) = delete;

    ~heartbeat_profile() { core_->close(table_); }

    /// Watches `peer`.
    ///
    /// Lifetime: `peer` must stay at its address until the heartbeat is released.
    /// Exceptions: `std::bad_alloc`.
    /// Cost: amortized O(1). Allocates once for each 1,024 connections.
    [[nodiscard]] heartbeat watch(Peer& peer) { return heartbeat(core_->watch(table_, std::addressof(peer))); }

private:
    template <class OnPing, class OnEnd>
    struct callbacks {
        [[no_unique_address]] OnPing on_ping;
        [[no_unique_address]] OnEnd on_end;
    };

    template <class OnPing>
    static detail::heartbeat_limits limits_of(const heartbeat_profile_options& options, std::chrono::nanoseconds tick)
    {
        const detail::heartbeat_limits limits = detail::heartbeat_limits_of(options, tick);
        if (std::is_same_v<OnPing, detail::no_ping> && limits.ping_at != 0)
            throw std::invalid_argument("heartbeat_profile_options::ping_after must be 0 without an on_ping");
        return limits;
    }

    template <class OnPing, class OnEnd>
    static detail::heartbeat_calls calls_of(OnPing on_ping, OnEnd on_end)
    {
        static_assert(std::is_invocable_v<OnEnd&, Peer&, close_reason>,
                      "heartbeat_profile needs on_end(Peer&, close_reason), or a Peer with abort(close_reason)");
        using both = callbacks<OnPing, OnEnd>;
        detail::heartbeat_calls calls;
        calls.state = std::make_shared<both>(both{std::move(on_ping), std::move(on_end)});
        calls.on_end = [](void* state, void* context, close_reason why) {
            static_cast<both*>(state)->on_end(*static_cast<Peer*>(context), why);
        };
        if constexpr (!std::is_same_v<OnPing, detail::no_ping>) {
            static_assert(std::is_invocable_v<OnPing&, Peer&>, "heartbeat_profile needs on_ping(Peer&)");
            calls.ping = [](void* state, void* context) {
                static_cast<both*>(state)->on_ping(*static_cast<Peer*>(context));
            };
        }
        return calls;
    }

    detail::heartbeat_core_ref<detail::heartbeat_core> core_;
    detail::heartbeat_table& table_;
};

namespace detail {

/// Converts options to ticks and strides. Throws std::invalid_argument.
inline heartbeat_limits heartbeat_limits_of(const heartbeat_profile_options& options, std::chrono::nanoseconds tick)
{
    check_expected_heartbeats(options.expected, "heartbeat_profile_options::expected");
    heartbeat_limits limits;
    limits.dead_at = age_limit(options.timeout, tick, "heartbeat_profile_options::timeout");
    if (options.ping_after != options.ping_after.zero())
        limits.ping_at = age_limit(options.ping_after, tick, "heartbeat_profile_options::ping_after");
    if (limits.ping_at != 0 && limits.dead_at != 0 && limits.ping_at >= limits.dead_at)
        throw std::invalid_argument("heartbeat_profile_options::ping_after must be less than the time-out");
    if (!(options.lifetime_spread >= 0.2 && options.lifetime_spread <= 1))
        throw std::invalid_argument("heartbeat_profile_options::lifetime_spread must be 0.2 to 1");
    const auto lifetime = options.max_lifetime;
    if (lifetime == lifetime.zero() || lifetime == lifetime.max()) return limits;
    const char* const range =
        "heartbeat_profile_options::max_lifetime must be at least 1 tick and less than 2^47 ticks, or 0 for no limit";
    if (lifetime < tick) throw std::invalid_argument(range);
    const auto ticks = static_cast<std::uint64_t>((lifetime - std::chrono::nanoseconds(1)) / tick + 1);
    constexpr std::uint64_t longest = 65'534; // in strides: one is added, and they are counted in two bytes
    const std::uint64_t stride = std::max(std::clamp<std::uint64_t>(ticks / 64, 1, 16), (ticks - 1) / longest + 1);
    if (ticks >= std::uint64_t{1} << 47U) throw std::invalid_argument(range);
    limits.stride = static_cast<std::uint32_t>(stride);
    limits.lifetime = static_cast<std::uint16_t>((ticks - 1) / stride + 1);
    limits.jitter = static_cast<std::uint16_t>(
        std::min(__builtin_ceil(options.lifetime_spread * limits.lifetime), limits.lifetime - 1.0));
    return limits;
}

} // namespace detail

} // namespace holdfast

#endif
