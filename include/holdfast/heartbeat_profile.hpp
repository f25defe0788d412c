// holdfast: heartbeat_profile, connections of one type with times and callbacks of their own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HEARTBEAT_PROFILE_HPP
#define HOLDFAST_HEARTBEAT_PROFILE_HPP

#include <holdfast/detail/heartbeat/heartbeat_core.hpp>
#include <holdfast/error.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// The times of a `heartbeat_profile`, each rounded up to whole ticks of its timer.
struct heartbeat_profile_options {
    /// After how long without a `touch()` the peer is to be pinged: once in each silence, never earlier and
    /// at most one tick later. Less than the time-out; 0: never.
    std::chrono::nanoseconds ping_after{0};
    /// After how long without a `touch()` a connection is dead. 1 to 65,534 ticks.
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);
    /// How old a connection may get, however lively; 0: as old as it likes. Looked at more rarely than the
    /// ages: so it may come late by a 64th of itself, and by 16 ticks where that is less (by more only if it
    /// is longer than a million ticks).
    std::chrono::nanoseconds max_lifetime{0};
    /// By which part of `max_lifetime` it is shortened at most. Connections that came together leave, and
    /// reconnect, evenly spread over that part. 0.2 to 1.
    double lifetime_spread = 0.25;
    /// How many connections to make room for at once; more find room as they come, 1,024 at a time.
    std::size_t expected = 0;
};

namespace detail {

/// Does nothing for a ping.
struct ping_nobody {};

/// Ends a peer that has died.
struct abort_peer {
    template <abortable Peer>
    void operator()(Peer& peer, close_reason why) const
    {
        peer.abort(why);
    }
};

inline heartbeat_limits heartbeat_limits_of(const heartbeat_profile_options& options,
                                            std::chrono::nanoseconds tick)
{
    heartbeat_limits limits;
    // One more: the first tick may follow the touch at once.
    limits.dead_at = static_cast<std::uint16_t>(
        heartbeat_ticks(options.timeout, tick, "heartbeat_profile_options.timeout") + 1);
    if (options.ping_after != options.ping_after.zero()) {
        limits.ping_at = static_cast<std::uint16_t>(
            heartbeat_ticks(options.ping_after, tick, "heartbeat_profile_options.ping_after") + 1);
        if (limits.ping_at >= limits.dead_at)
            throw std::invalid_argument(
                "heartbeat_profile_options.ping_after must be less than the time-out");
    }
    if (options.max_lifetime == options.max_lifetime.zero()) return limits;
    if (options.max_lifetime < tick)
        throw std::invalid_argument("heartbeat_profile_options.max_lifetime must be at least one tick");
    if (!(options.lifetime_spread >= 0.2 && options.lifetime_spread <= 1))
        throw std::invalid_argument("heartbeat_profile_options.lifetime_spread must be 0.2 to 1");
    const auto ticks =
        static_cast<std::uint64_t>((options.max_lifetime - std::chrono::nanoseconds(1)) / tick + 1);
    constexpr std::uint64_t longest =
        65'534; // in strides: one more is added, and they are counted in two bytes
    const std::uint64_t stride =
        std::max(std::clamp<std::uint64_t>(ticks / 64, 1, 16), (ticks - 1) / longest + 1);
    if (stride > std::numeric_limits<std::uint32_t>::max())
        throw std::invalid_argument("heartbeat_profile_options.max_lifetime is out of reach of its tick");
    limits.stride = static_cast<std::uint32_t>(stride);
    limits.lifetime = static_cast<std::uint16_t>((ticks - 1) / stride + 1);
    limits.jitter = static_cast<std::uint16_t>(
        std::min(std::ceil(options.lifetime_spread * limits.lifetime), limits.lifetime - 1.0));
    return limits;
}

} // namespace detail

/// Connections of one type that a `heartbeat_timer` watches with times and callbacks of their own: a ping
/// after some silence, death after more, and a maximum lifetime. The callbacks are kept once, not with each
/// connection.
///
///  - `on_ping(Peer&)` is called once in each silence. Whatever it sends, only an answer is a sign of life:
///  it
///    need not touch.
///  - `on_death(Peer&, close_reason)` is called once in a life, with `close_reason::heartbeat_timeout` or
///    `close_reason::max_lifetime`. By default it calls `peer.abort(reason)`.
///
/// Both run on the timer's executor, and may do anything: destroy the peer, its neighbour, the profile, the
/// timer; watch others; throw (see `heartbeat_options::on_exception`). They keep no references to
/// temporaries: they are moved into the profile.
///
/// A server's own stall is forgiven to the silent (see `heartbeat_timer`), but no lifetime gets longer by it.
///
/// Lifetime: heartbeats may outlive it, and it may outlive the timer. Destroying it ends its watches: no
/// callback of its own runs any more.
/// Concurrency: as the timer's.
/// Cost: 12 bytes a connection, 14 with a maximum lifetime, in segments of 1,024.
///
///     holdfast::heartbeat_profile<session> phones{heart,
///         {.ping_after = 20s, .timeout = 60s, .max_lifetime = 1h}, [](session& s) { s.send_ping(); }};
///     auto beat = phones.watch(s);
template <class Peer>
class heartbeat_profile {
public:
    /// Throws std::invalid_argument for options out of their range. Without `on_ping` nobody is pinged, so
    /// then `ping_after` must be 0.
    template <class Executor, class Clock, class OnPing = detail::ping_nobody,
              class OnDeath = detail::abort_peer>
    explicit heartbeat_profile(heartbeat_timer<Executor, Clock>& heart,
                               const heartbeat_profile_options& options = {}, OnPing on_ping = {},
                               OnDeath on_death = {})
        : table_(heart.core_->table_for(detail::heartbeat_limits_of(options, heart.core_->tick_length),
                                        calls_of(std::move(on_ping), std::move(on_death)), options.expected)),
          core_(&table_.core)
    {
        if (std::is_same_v<OnPing, detail::ping_nobody> && options.ping_after != options.ping_after.zero()) {
            table_.close();
            throw std::invalid_argument("heartbeat_profile_options.ping_after needs an on_ping");
        }
    }

    heartbeat_profile(const heartbeat_profile&) = delete;
    heartbeat_profile& operator=(const heartbeat_profile&) = delete;

    ~heartbeat_profile() { table_.close(); }

    /// Watches `peer`, which must stay at its address until the heartbeat is gone. Amortized O(1); allocates
    /// one segment per 1,024 connections.
    [[nodiscard]] heartbeat watch(Peer& peer)
    {
        return heartbeat(core_->enlist(table_, std::addressof(peer)));
    }

private:
    template <class OnPing, class OnDeath>
    struct callbacks {
        [[no_unique_address]] OnPing on_ping;
        [[no_unique_address]] OnDeath on_death;
    };

    template <class OnPing, class OnDeath>
    static detail::heartbeat_calls calls_of(OnPing on_ping, OnDeath on_death)
    {
        static_assert(
            std::is_invocable_v<OnDeath&, Peer&, close_reason>,
            "heartbeat_profile needs on_death(Peer&, close_reason), or a Peer with abort(close_reason)");
        using both = callbacks<OnPing, OnDeath>;
        detail::heartbeat_calls calls;
        calls.state = std::make_shared<both>(both{std::move(on_ping), std::move(on_death)});
        calls.die = [](void* state, void* context, close_reason why) {
            static_cast<both*>(state)->on_death(*static_cast<Peer*>(context), why);
        };
        if constexpr (!std::is_same_v<OnPing, detail::ping_nobody>) {
            static_assert(std::is_invocable_v<OnPing&, Peer&>, "heartbeat_profile needs on_ping(Peer&)");
            calls.ping = [](void* state, void* context) {
                static_cast<both*>(state)->on_ping(*static_cast<Peer*>(context));
            };
        }
        return calls;
    }

    detail::heartbeat_table& table_;
    detail::heartbeat_core_ref<detail::heartbeat_core> core_;
};

} // namespace holdfast

#endif
