// holdfast: the climb: moves the load up and down the rungs, and measures the server at each.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_CLIMB_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_CLIMB_HPP

#include "ladder_load.hpp"
#include "ladder_plan.hpp"
#include "ladder_server.hpp"
#include "ladder_sockets.hpp"
#include "ladder_verdict.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

namespace ladder {

/// Progress on the standard error output: one line that is rewritten in a terminal, else a new line every two
/// seconds.
class progress_line {
public:
    void show(std::string_view text)
    {
        const auto now = steady::now();
        if (now < next_) return;
        next_ = now + (terminal_ ? std::chrono::milliseconds{200} : std::chrono::milliseconds{2000});
        if (terminal_) {
            std::cerr << '\r' << text << "\x1b[K" << std::flush;
        } else {
            std::cerr << text << std::endl;
        }
    }

    ~progress_line()
    {
        if (terminal_) std::cerr << "\r\x1b[K" << std::flush;
    }

private:
    bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    steady::time_point next_ = steady::now() + std::chrono::milliseconds{200};
};

/// Climbs and descends until the tops of two climbs in a row agree, `settings::climbs` times at most, and returns the
/// measured points. The first one is the baseline. Where the server ends or connections cannot be made, the points end
/// there: that is a result.
class climb {
public:
    climb(const settings& wanted, const climb_plan& plan, const socket_address& server)
        : wanted_{wanted},
          plan_{plan},
          load_{wanted, plan, server},
          settle_{wanted.settle},
          settle_slow_{wanted.settle, 30},
          pid_{wanted.pid}
    {
    }

    std::vector<measured_point> run()
    {
        if (!baseline()) return std::move(points_);
        const std::vector top{plan_.rungs.back()};
        for (std::uint32_t number = 1; number <= wanted_.climbs; ++number) {
            const bool all = number == 1 || wanted_.later_climbs == later_rungs::all;
            if (!up_and_down(static_cast<int>(number), all ? plan_.rungs : top)) break;
            if (climbs_agree(climb_tops(points_), {})) break;
        }
        return std::move(points_);
    }

    /// Where the server may be restarted: how often it was, and how many connections were refused or broken.
    std::optional<finding> restarts() const
    {
        if (wanted_.pid_file.empty()) return std::nullopt;
        return finding{seen_.refused == 0 && seen_.broken == 0,
                       "over " + format_count(restarts_) + " restarts " + format_count(seen_.refused) +
                           " connections were refused, " + format_count(seen_.broken) + " broken, and " +
                           format_count(seen_.returned) + " came back"};
    }

private:
    static constexpr std::chrono::milliseconds sample_period{100};

    /// Measures without connections, once the probe's connection is gone: the number of descriptors is constant for a
    /// while.
    bool baseline()
    {
        measured_point point;
        point.phase = "baseline";
        begin(point);
        std::uint64_t descriptors = UINT64_MAX;
        auto since = steady::now();
        const auto deadline = since + std::chrono::seconds{3};
        while (steady::now() < deadline && steady::now() - since < std::chrono::milliseconds{500}) {
            if (!sample(point)) return server_ended(point);
            std::error_code error;
            const auto now_open = holdfast::read_open_descriptors(pid_, error);
            if (std::exchange(descriptors, now_open) != now_open) since = steady::now();
        }
        return figures(point) ? measured(point) : server_ended(point);
    }

    /// Returns false where another climb makes no sense.
    bool up_and_down(int number, const std::vector<std::uint32_t>& rungs)
    {
        for (const std::uint32_t rung : rungs) {
            measured_point point;
            point.phase = "climb " + std::to_string(number);
            point.rung = rung;
            if (!climb_to(point)) return false;
            if (!points_.back().shortage.empty()) break;
        }
        const bool reached = points_.back().shortage.empty();
        return descend(number) && reached;
    }

    bool climb_to(measured_point& point)
    {
        const auto rung = static_cast<std::uint32_t>(point.rung);
        const std::uint32_t before = target_;
        begin(point);
        move_to(rung);
        settle_.begin_rung();
        settle_slow_.begin_rung();
        const bool top = rung == plan_.rungs.back();
        const std::chrono::milliseconds connect_time{std::uint64_t{1000} * (rung - before) / wanted_.connect_rate};
        const auto deadline = steady::now() + wanted_.rung_deadline + connect_time;
        std::uint64_t restarts = restarts_;
        for (;;) {
            if (!sample(point)) return server_ended(point);
            if (std::exchange(restarts, restarts_) != restarts_) settle_.begin_rung(); // all connect again
            const std::uint64_t events = seen_.connects + seen_.with_first_byte + seen_.closed_by_server;
            const bool pending = !load_.up_to_date() || seen_.pending > 0 || away_;
            const auto now = steady::now();
            const bool settled = settle_.settled(now, seen_.bytes, events, pending);
            // At the top the slow readers may finish too, so that all climbs are measured in the same state. Those
            // that read an endless or huge message never do.
            const bool slow_settled = settle_slow_.settled(now, seen_.slow_bytes, 0, false) || !top;
            if (settled && slow_settled) break;
            // Slow readers that are still within their first message hold a buffer of the server each. They get twice
            // the time: a climb that is measured before they are done does not compare with one that is measured after.
            if (now >= deadline + (settled && top ? wanted_.rung_deadline : std::chrono::milliseconds{})) {
                point.settled = settled && slow_settled;
                break;
            }
        }
        if (!figures(point)) return server_ended(point);
        point.rss_anon_settled = point.rss_anon_held = point.rss_anon;
        const auto hold_until = steady::now() + wanted_.hold;
        while (steady::now() < hold_until)
            if (!sample(point)) return server_ended(point);
        if (wanted_.hold.count() > 0) {
            if (!figures(point)) return server_ended(point);
            point.rss_anon_held = point.rss_anon;
            point.rss_anon = std::max(point.rss_anon_settled, point.rss_anon_held);
        }
        point.connected = seen_.up + seen_.closed_by_server;
        point.up = seen_.up;
        if (point.connected < point.rung) point.shortage = why_short();
        return measured(point);
    }

    bool descend(int number)
    {
        measured_point point;
        point.phase = "descent " + std::to_string(number);
        begin(point);
        move_to(0);
        const auto deadline = steady::now() + wanted_.rung_deadline;
        // Until the descriptors are those of the baseline, and then as long as a rung takes to settle.
        auto quiet_since = steady::now();
        while (steady::now() - quiet_since < wanted_.settle) {
            if (!sample(point)) return server_ended(point);
            std::error_code error;
            const bool back = load_.up_to_date() && !away_ &&
                              holdfast::read_open_descriptors(pid_, error) <= points_.front().descriptors;
            if (!back) quiet_since = steady::now();
            if (steady::now() >= deadline) {
                point.settled = false;
                break;
            }
        }
        return figures(point) ? measured(point) : server_ended(point);
    }

    void move_to(std::uint32_t target)
    {
        target_ = target;
        load_.set_target(target);
    }

    void begin(measured_point& point)
    {
        most_up_ = 0;
        std::error_code error;
        point.rss_anon_peak = holdfast::read_process_memory(pid_, error).rss_anon;
    }

    /// Waits for one sample period and samples the server's memory. Returns false where the server has ended.
    bool sample(measured_point& point)
    {
        seen_ = load_.wait(sample_period);
        most_up_ = std::max(most_up_, seen_.up);
        std::error_code error;
        const auto memory = holdfast::read_process_memory(pid_, error);
        away_ = bool(error);
        if (away_) return follow();
        gone_since_.reset();
        point.rss_anon_peak = std::max(point.rss_anon_peak, memory.rss_anon);
        const std::string way = target_ == 0 ? "" : " of " + format_count(target_);
        progress_.show(wanted_.title + ": " + point.phase + ", " + format_count(seen_.up) + way + " up, " +
                       format_bytes(seen_.bytes) + " received, RssAnon " + format_bytes(memory.rss_anon) + ", " +
                       std::to_string(static_cast<int>(seconds())) + " s");
        return true;
    }

    /// Looks for the process that replaces the server. Returns false where the deadline for it has passed.
    bool follow()
    {
        if (wanted_.pid_file.empty()) return false;
        if (const auto next = read_pid_file(wanted_.pid_file); next != 0 && next != pid_) {
            pid_ = next;
            ++restarts_;
        }
        if (!gone_since_) gone_since_ = steady::now();
        return steady::now() - *gone_since_ < wanted_.rung_deadline;
    }

    /// Reads the server's figures, from the next process where this one has just ended.
    bool figures(measured_point& point)
    {
        while (!read_figures(pid_, point))
            if (!sample(point)) return false;
        return true;
    }

    /// Adds the point of a server that has ended. Returns false.
    bool server_ended(measured_point& point)
    {
        point.server_ended = true;
        point.up = point.connected = most_up_;
        point.rss_anon = point.rss_anon_peak;
        measured(point);
        return false;
    }

    /// Adds the point. Returns true.
    bool measured(measured_point& point)
    {
        point.rss_anon_peak = std::max(point.rss_anon_peak, point.rss_anon);
        point.server_kernel_bytes = read_port_buffers(wanted_.port).value_or(0);
        point.closed_by_server = seen_.closed_by_server;
        point.seconds = seconds();
        points_.push_back(point);
        return true;
    }

    std::string why_short() const
    {
        if (seen_.not_opened != 0)
            return format_count(seen_.not_opened) + " answers opened nothing: " + seen_.refusal.data();
        if (seen_.gave_up == 0) {
            return format_count(seen_.pending) +
                   " were still waiting at the deadline: the server is slow to accept, or at its limit";
        }
        switch (seen_.last_error) {
        case ECONNREFUSED:
            return "the server refused them";
        case EADDRNOTAVAIL:
            return "this machine ran out of local ports (give it more with --source-addresses)";
        case EMFILE:
        case ENFILE:
            return "the ladder ran out of descriptors (raise ulimit -n)";
        default:
            return std::strerror(seen_.last_error);
        }
    }

    double seconds() const { return std::chrono::duration<double>{steady::now() - start_}.count(); }

    const settings& wanted_;
    const climb_plan& plan_;
    load load_;
    settle_detector settle_, settle_slow_;
    progress_line progress_;
    const steady::time_point start_ = steady::now();
    std::vector<measured_point> points_;
    load_statistics seen_;
    std::uint32_t target_ = 0, most_up_ = 0;
    std::int32_t pid_;
    std::uint64_t restarts_ = 0;
    bool away_ = false; // between two processes of the server
    std::optional<steady::time_point> gone_since_;
};

} // namespace ladder

#endif
