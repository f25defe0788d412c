// holdfast: read_rate, the messages and bytes that one peer may still send: a token bucket for each of the two.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_READ_RATE_HPP
#define HOLDFAST_READ_RATE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/event_core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace holdfast {

namespace detail {

/// One token bucket of each connection.
struct rate_bucket {
    double per_tick;
    double burst;
};

/// What the connections of one `read_rate_limit` share.
class rate_source {
public:
    rate_source(const rate_source&) = delete;
    rate_source& operator=(const rate_source&) = delete;

    /// In ticks.
    [[nodiscard]] virtual std::uint64_t now() const noexcept = 0;

    /// Has `ticked` be notified soon, within two ticks. Throws std::bad_alloc.
    virtual void await_tick() = 0;

    const rate_bucket messages;
    const rate_bucket bytes;
    const bool disconnects;
    const counted_ptr<event_core<synchronized>> ticked{new event_core<synchronized>(false, false)};

protected:
    rate_source(const rate_bucket& m, const rate_bucket& b, bool disconnecting)
        : messages(m), bytes(b), disconnects(disconnecting)
    {
    }
    ~rate_source() { ticked->close(); }
};

struct rate_access;

} // namespace detail

class read_rate_limit;

/// Counts what one peer sends, for a `read_rate_limit`. It belongs to one connection. Give it to each of the
/// connection's readers in turn, so that a change of the protocol makes no new allowance. A session that reads by
/// itself may call `received()`, `message()` and `exceeded()`.
///
/// Size: 40 bytes; holds no memory.
/// Lifetime: refers to the limit. Must outlive the readers that refer to it.
/// Thread safety: belongs to the thread or strand of the limit's timer.
///
///     holdfast::read_rate rate{limit};
///     holdfast::frame_reader lines{peer, {.max_frame_bytes = 4096, .rate = &rate}};
class read_rate {
public:
    /// Makes the rate of a peer that has sent nothing yet: it may send a burst. Defined in `read_rate_limit.hpp`.
    explicit read_rate(read_rate_limit& limit) noexcept;

    read_rate(const read_rate&) = delete;
    read_rate& operator=(const read_rate&) = delete;

    /// Counts bytes that have arrived. A frame_reader calls it.
    void received(std::size_t bytes) noexcept { spend(bytes_, static_cast<double>(bytes)); }

    /// Counts a message. A frame_reader calls it for each frame, and a websocket_reader for each message.
    void message() noexcept { spend(messages_, 1); }

    /// Returns whether reading must pause now. With `rate_policy::disconnect`, returns whether the peer has ever sent
    /// more than is allowed.
    [[nodiscard]] bool exceeded() noexcept
    {
        if (source_.disconnects) return overdrawn_;
        refill();
        return messages_ < 1 || bytes_ < 1;
    }

    /// Returns whether the policy of the limit is `rate_policy::disconnect`.
    [[nodiscard]] bool disconnects() const noexcept { return source_.disconnects; }

    /// Calls `handler`, void(error_code), when a tick has passed; `operation_aborted` where it is cancelled or the
    /// limit is destroyed. For readers. Throws std::bad_alloc.
    template <class Handler>
    void wait_for_tick(const net::any_io_executor& executor, Handler&& handler)
    {
        source_.await_tick();
        detail::queue_wait(source_.ticked, executor, std::forward<Handler>(handler));
    }

private:
    friend detail::rate_access;

    explicit read_rate(detail::rate_source& source) noexcept
        : source_(source), at_(source.now()), messages_(source.messages.burst), bytes_(source.bytes.burst)
    {
    }

    void spend(double& credit, double amount) noexcept
    {
        refill();
        credit -= amount;
        if (credit < 0) overdrawn_ = true;
    }

    void refill() noexcept
    {
        const std::uint64_t now = source_.now();
        if (now == at_) return;
        const auto ticks = static_cast<double>(now - std::exchange(at_, now));
        messages_ = std::min(source_.messages.burst, messages_ + ticks * source_.messages.per_tick);
        bytes_ = std::min(source_.bytes.burst, bytes_ + ticks * source_.bytes.per_tick);
    }

    detail::rate_source& source_;
    std::uint64_t at_; // the tick of the credits
    double messages_;
    double bytes_;
    bool overdrawn_ = false; // once
};

namespace detail {

/// Makes the rate of any source: for tests.
struct rate_access {
    static read_rate rate_of(rate_source& source) noexcept { return read_rate(source); }
};

} // namespace detail

} // namespace holdfast

#endif
