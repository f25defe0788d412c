// holdfast: the library's own figures for a metric_set. Each function is called once for a set, with one object: a second
// call throws std::invalid_argument, as the names are fixed. Figures of further objects are added by `metric_set::add`.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_SERVER_METRICS_HPP
#define HOLDFAST_SERVER_SERVER_METRICS_HPP

#include <holdfast/acceptor_event.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/census.hpp>
#include <holdfast/error.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox_totals.hpp>
#include <holdfast/process/capacity_plan.hpp>
#include <holdfast/process/memory.hpp>
#include <holdfast/replay_topic.hpp>
#include <holdfast/server/metric_set.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

namespace holdfast {

/// Counts the events of an acceptor, for `add_acceptor_events`. Call it in `acceptor_options::on_event`.
///
/// Thread safety: all members may be called from any thread.
class acceptor_event_counters {
public:
    void operator()(const acceptor_event& event) noexcept
    {
        using kind = acceptor_event::kind;
        const auto limit = static_cast<std::size_t>(event.limit);
        auto& counter = event.what == kind::rejected ? rejected_[limit]
                        : event.what == kind::paused ? paused_[limit]
                                                     : others_[static_cast<std::size_t>(event.what)];
        counter.fetch_add(event.count, std::memory_order_relaxed);
    }

    [[nodiscard]] std::uint64_t rejected(admission_limit limit) const noexcept
    {
        return rejected_[static_cast<std::size_t>(limit)].load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t paused(admission_limit limit) const noexcept
    {
        return paused_[static_cast<std::size_t>(limit)].load(std::memory_order_relaxed);
    }
    /// Returns the number of events of another kind than `rejected` and `paused`.
    [[nodiscard]] std::uint64_t of(acceptor_event::kind what) const noexcept
    {
        return others_[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
    }

private:
    std::array<std::atomic<std::uint64_t>, admission_limit_count> rejected_{}, paused_{};
    std::array<std::atomic<std::uint64_t>, acceptor_event::kind_count> others_{};
};

/// Adds the connections of a census: open, peak, ended by reason; and the handshakes of their layers.
///
/// Exceptions: std::invalid_argument if the set has those of a census; std::bad_alloc.
inline void add_census(metric_set& metrics, const census& all)
{
    metrics.add({.name = "holdfast_connections", .help = "Connections that are open."}, [all] { return all.live(); });
    metrics.add({.name = "holdfast_connections_peak", .help = "The most connections that were open at once."},
                [all] { return all.peak(); });
    for (std::size_t i = 0; i != close_reason_count; ++i) {
        const auto reason = static_cast<close_reason>(i);
        if (reason == close_reason::none) continue;
        metrics.add({.name = "holdfast_connections_ended_total",
                     .help = "Connections that have ended, by reason.",
                     .type = metric_type::counter,
                     .label = "reason",
                     .label_value = std::string(to_string(reason))},
                    [all, reason] { return all.ended(reason); });
    }
    metrics.add({.name = "holdfast_handshakes_pending",
                 .help = "Handshakes, as of TLS, that are under way or wait for their turn."},
                [all] { return all.handshakes().pending; });
    const auto counter = [&](const char* result, std::uint64_t handshake_totals::* which) {
        metrics.add({.name = "holdfast_handshakes_total",
                     .help = "Handshakes that have ended, by result.",
                     .type = metric_type::counter,
                     .label = "result",
                     .label_value = result},
                    [all, which] { return all.handshakes().*which; });
    };
    counter("completed", &handshake_totals::completed);
    counter("failed", &handshake_totals::failed);
}

/// Adds the events of an acceptor, or of several that have the same counters. Lifetime: `events` must outlive the set.
///
/// Exceptions: std::invalid_argument if the set has those of an acceptor; std::bad_alloc.
inline void add_acceptor_events(metric_set& metrics, const acceptor_event_counters& events)
{
    for (std::size_t i = 0; i != admission_limit_count; ++i) {
        const auto limit = static_cast<admission_limit>(i);
        metrics.add({.name = "holdfast_accept_rejected_total",
                     .help = "Connections that were rejected or reset, by limit.",
                     .type = metric_type::counter,
                     .label = "limit",
                     .label_value = std::string(to_string(limit))},
                    [&events, limit] { return events.rejected(limit); });
    }
    for (std::size_t i = 0; i != admission_limit_count; ++i) {
        const auto limit = static_cast<admission_limit>(i);
        metrics.add({.name = "holdfast_accept_paused_total",
                     .help = "How often accepting has paused, by limit.",
                     .type = metric_type::counter,
                     .label = "limit",
                     .label_value = std::string(to_string(limit))},
                    [&events, limit] { return events.paused(limit); });
    }
    using kind = acceptor_event::kind;
    const std::array<std::pair<kind, const char*>, 5> others{{{kind::starved, "starved"},
                                                              {kind::lost, "lost"},
                                                              {kind::session_failed, "session failed"},
                                                              {kind::handshake_failed, "handshake failed"},
                                                              {kind::proxy_header_failed, "PROXY header failed"}}};
    for (const auto& each : others)
        metrics.add({.name = "holdfast_accept_events_total",
                     .help = "Other events of the acceptor; of TLS the handshakes that failed.",
                     .type = metric_type::counter,
                     .label = "event",
                     .label_value = each.second},
                    [&events, what = each.first] { return events.of(what); });
}

/// Adds the totals of a heartbeat timer, and the lag of the event loop. Lifetime: `heartbeats` must outlive the set.
///
/// Exceptions: std::invalid_argument if the set has those of a timer; std::bad_alloc.
template <class Executor, class Clock>
void add_heartbeats(metric_set& metrics, const heartbeat_timer<Executor, Clock>& heartbeats)
{
    const auto seconds = [](std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); };
    metrics.add({.name = "holdfast_heartbeat_watched", .help = "Connections that the timer watches."},
                [&] { return heartbeats.watched(); });
    metrics.add({.name = "holdfast_heartbeat_pings_total",
                 .help = "Pings that silent connections were sent.",
                 .type = metric_type::counter},
                [&] { return heartbeats.counters().pings; });
    metrics.add({.name = "holdfast_heartbeat_timeouts_total",
                 .help = "Connections that timed out.",
                 .type = metric_type::counter},
                [&] { return heartbeats.counters().timeouts; });
    metrics.add({.name = "holdfast_loop_missed_ticks_total",
                 .help = "Ticks that came so late that they were joined with the next one.",
                 .type = metric_type::counter},
                [&] { return heartbeats.counters().missed; });
    constexpr auto highest = metric_join::highest;
    metrics.add({.name = "holdfast_loop_lag_seconds", .help = "How late the last tick was.", .join = highest},
                [&, seconds] { return seconds(heartbeats.counters().last_lateness); });
    metrics.add({.name = "holdfast_loop_lag_max_seconds", .help = "How late a tick was at most.", .join = highest},
                [&, seconds] { return seconds(heartbeats.counters().longest_lateness); });
    metrics.add(
        {.name = "holdfast_loop_turn_max_seconds", .help = "The longest turn of the timer itself.", .join = highest},
        [&, seconds] { return seconds(heartbeats.counters().longest_turn); });
}

/// Adds the totals of all outboxes of the program. `metric_values::join` does not add them up: the sets of all threads
/// have the same totals.
///
/// Exceptions: std::invalid_argument if the set has them; std::bad_alloc.
inline void add_outboxes(metric_set& metrics)
{
    const auto counter = [&](const char* name, const char* help, std::uint64_t outbox_totals::* which) {
        metrics.add({.name = name, .help = help, .type = metric_type::counter, .join = metric_join::highest},
                    [which] { return read_outbox_totals().*which; });
    };
    counter("holdfast_outbox_writes_total", "Writes to the streams.", &outbox_totals::writes);
    counter("holdfast_outbox_messages_total", "Messages sent completely.", &outbox_totals::messages);
    counter("holdfast_outbox_bytes_total", "Bytes sent.", &outbox_totals::bytes);
    counter("holdfast_outbox_dropped_total", "Messages dropped from full queues.", &outbox_totals::dropped);
    counter("holdfast_outbox_replaced_total", "Messages replaced by newer ones of their key.",
            &outbox_totals::replaced);
}

/// Adds the bytes of a buffer pool. Lifetime: `pool` must outlive the set.
///
/// Exceptions: std::invalid_argument if the set has those of a pool: add those of a second one by `metric_set::add`,
/// under names of your own; std::bad_alloc.
template <class Sharing>
void add_pool(metric_set& metrics, const basic_buffer_pool<Sharing>& pool)
{
    metrics.add({.name = "holdfast_pool_lent_bytes", .help = "Bytes of the buffer pool that are lent."},
                [&] { return pool.counters().lent_bytes; });
    metrics.add({.name = "holdfast_pool_lent_bytes_peak", .help = "The most bytes that were lent at once."},
                [&] { return pool.counters().peak_bytes; });
    metrics.add({.name = "holdfast_pool_kept_bytes", .help = "Bytes of free buffers that keep their memory."},
                [&] { return pool.counters().kept_bytes; });
}

/// Adds the totals of a topic and its ring. `metric_values::join` joins the topics of shards into one. Lifetime:
/// `topic` must outlive the set.
///
/// Exceptions: std::invalid_argument if the set has those of a topic; std::bad_alloc.
template <std::size_t Forms, class Clock>
void add_topic(metric_set& metrics, replay_topic<Forms, Clock>& topic)
{
    const auto counter = [&](const char* name, const char* help, std::uint64_t replay_counters::* which,
                             metric_join join = metric_join::sum) {
        metrics.add({.name = name, .help = help, .type = metric_type::counter, .join = join},
                    [&topic, which] { return topic.counters().*which; });
    };
    counter("holdfast_topic_published_total", "Messages published.", &replay_counters::published, metric_join::highest);
    counter("holdfast_topic_sent_total", "Messages queued to receivers.", &replay_counters::sent);
    counter("holdfast_topic_fell_behind_total", "How often a receiver's queue was full.",
            &replay_counters::fell_behind);
    counter("holdfast_topic_gaps_total", "How often a receiver was sent the state instead of the messages.",
            &replay_counters::gaps);
    metrics.add({.name = "holdfast_topic_receivers", .help = "Receivers of the topic."},
                [&topic] { return topic.receivers(); });
    metrics.add({.name = "holdfast_topic_behind", .help = "Receivers whose queue is full."},
                [&topic] { return topic.behind(); });
    metrics.add({.name = "holdfast_ring_bytes", .help = "Bytes of the messages that are kept for replay."},
                [&topic] { return topic.ring().bytes(); });
    metrics.add(
        {.name = "holdfast_ring_messages", .help = "Messages that are kept for replay.", .join = metric_join::highest},
        [&topic] { return topic.ring().size(); });
}

/// Adds the memory of this process, and the bound that was computed before the start. `metric_values::join` does not
/// add them up: the sets of all threads belong to one process.
///
/// Exceptions: std::invalid_argument if the set has them; std::bad_alloc.
inline void add_process(metric_set& metrics, const capacity_plan& plan, std::uint64_t max_connections)
{
    const auto memory = [&](const char* name, const char* help, std::uint64_t process_memory::* which) {
        metrics.add({.name = name, .help = help, .join = metric_join::highest}, [which] {
            std::error_code ec;
            return read_process_memory(0, ec).*which;
        });
    };
    memory("holdfast_process_rss_anon_bytes", "Heap and stacks (RssAnon).", &process_memory::rss_anon);
    memory("holdfast_process_rss_bytes", "All resident memory (VmRSS).", &process_memory::vm_rss);
    memory("holdfast_process_rss_peak_bytes", "The most that was resident (VmHWM).", &process_memory::vm_rss_peak);
    metrics.add({.name = "holdfast_plan_process_bytes",
                 .help = "The bound of the process's memory, computed at start.",
                 .join = metric_join::highest},
                [bytes = plan.user_bytes_at(max_connections)] { return bytes; });
    metrics.add({.name = "holdfast_plan_bytes",
                 .help = "The bound with the kernel's memory of the sockets.",
                 .join = metric_join::highest},
                [bytes = plan.bytes_at(max_connections)] { return bytes; });
    metrics.add({.name = "holdfast_plan_connections",
                 .help = "Connections that are accepted at most.",
                 .join = metric_join::highest},
                [max_connections] { return max_connections; });
}

} // namespace holdfast

#endif
