// holdfast: replay_ring, the last messages of a topic, for receivers that reconnect.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_REPLAY_RING_HPP
#define HOLDFAST_REPLAY_RING_HPP

#include <holdfast/detail/connection/random_seed.hpp>
#include <holdfast/payload.hpp>

#include <charconv>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace holdfast {

/// Options of a `replay_ring`.
struct replay_ring_options {
    /// Maximum number of bytes: those of the messages, and 32 for each. At least 1.
    std::size_t max_bytes = 1024 * 1024;
    /// Age at which a message is dropped. Must be more than 0. The maximum: never.
    std::chrono::nanoseconds max_age = std::chrono::nanoseconds::max();
};

/// The last message that a receiver has got: its id, and the epoch of the ring that gave it.
struct replay_position {
    std::uint64_t epoch = 0;
    std::uint64_t id = 0; ///< 0: before the first message.

    friend bool operator==(const replay_position&, const replay_position&) = default;
};

/// Returns the position as text, for the `id` of a server-sent event or the first message of a WebSocket: the epoch in
/// hexadecimal, a hyphen and the id. At most 37 bytes.
[[nodiscard]] inline std::string to_string(const replay_position& position)
{
    char text[40];
    char* end = std::to_chars(text, text + sizeof text, position.epoch, 16).ptr;
    *end++ = '-';
    end = std::to_chars(end, text + sizeof text, position.id).ptr;
    return {text, end};
}

/// Parses the text of `to_string(replay_position)`. Returns nothing for any other text.
[[nodiscard]] inline std::optional<replay_position> parse_replay_position(std::string_view text) noexcept
{
    const auto padded = [](const char* from, const char* to) { return to - from > 1 && *from == '0'; };
    replay_position position;
    if (text.find_first_of("ABCDEF") != text.npos) return std::nullopt;
    const char* const end = text.data() + text.size();
    const auto epoch = std::from_chars(text.data(), end, position.epoch, 16);
    if (epoch.ec != std::errc() || epoch.ptr == end || *epoch.ptr != '-' || padded(text.data(), epoch.ptr))
        return std::nullopt;
    const auto id = std::from_chars(epoch.ptr + 1, end, position.id);
    if (id.ec != std::errc() || id.ptr != end || padded(epoch.ptr + 1, end)) return std::nullopt;
    return position;
}

/// The result of `replay_ring::resume`.
struct replay_result {
    /// Whether messages that the receiver has missed are not in the ring any more. It then needs the current state, and
    /// continues from `position`.
    bool gap = false;
    /// Where the receiver is now.
    replay_position position{};
};

/// Keeps the last messages of a topic, bounded in bytes and age, as shared payloads: a queue that holds a message too
/// shares its memory. Messages have consecutive ids, beginning with 1. The ring has an epoch, so that a position of
/// another ring, such as that of a process before a crash, is not taken for one of this ring.
///
/// A receiver that reconnects with its last position gets what it has missed, or is notified of the gap. In the same
/// way, a receiver whose outbox was full continues where it stopped: it needs no queue of its own.
///
/// A graceful restart hands the ring on: `save()` after the last push, at the end of the drain, and `load()` in the
/// next process. The epoch and the ids continue.
///
/// `Clock` has `now()`; with `manual_clock` a test needs no real time.
/// Thread safety: distinct objects: safe. Shared objects: unsafe.
/// Cost: an operation is O(1) for each message that is added, dropped or replayed.
///
///     const auto at = news.push(holdfast::websocket_frame(text));
///     // a client has reconnected, with its last position:
///     const auto resumed = news.resume(last, [&](const holdfast::replay_position&, const holdfast::payload& message) {
///         return !outbox.push(message);
///     });
///     if (resumed.gap) outbox.push(snapshot);
template <class Clock = std::chrono::steady_clock>
class basic_replay_ring {
public:
    using clock_type = Clock;

    /// Constructs an empty ring with a random epoch.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::system_error where the system has no
    /// random numbers.
    explicit basic_replay_ring(const replay_ring_options& options = {})
        : basic_replay_ring(options, detail::random_seed())
    {
    }

    /// Constructs an empty ring with that epoch.
    basic_replay_ring(const replay_ring_options& options, std::uint64_t epoch) : options_(options), epoch_(epoch)
    {
        if (options.max_bytes == 0) throw std::invalid_argument("replay_ring_options::max_bytes must be at least 1");
        if (options.max_age <= options.max_age.zero())
            throw std::invalid_argument("replay_ring_options::max_age must be more than 0");
    }

    /// Adds a message, and drops the oldest ones that exceed the limits. A message that exceeds `max_bytes` alone has
    /// an id, but is not kept: a receiver that has missed it has a gap. Returns its position.
    ///
    /// Exceptions: std::bad_alloc; nothing is added then.
    replay_position push(payload message)
    {
        const std::size_t size = cost(message);
        if (size <= options_.max_bytes) {
            kept_.push_back({std::move(message), Clock::now()});
            bytes_ += size;
            ++last_;
            while (bytes_ > options_.max_bytes)
                drop_first();
        } else {
            ++last_;
            kept_.clear();
            bytes_ = 0;
        }
        expire();
        return last();
    }

    /// Drops all messages and continues after `last`, whose id must be less than 2^64 - 1. For messages that come with
    /// ids of another server, some of which were lost: receivers then have a gap.
    void restart(const replay_position& last) noexcept
    {
        kept_.clear();
        bytes_ = 0;
        epoch_ = last.epoch;
        last_ = last.id;
    }

    /// Returns the position of the last message.
    [[nodiscard]] replay_position last() const noexcept { return {epoch_, last_}; }
    /// Returns the number that distinguishes this ring's positions from those of other rings.
    [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }
    /// Returns the number of messages that are kept.
    [[nodiscard]] std::size_t size() const noexcept { return kept_.size(); }
    /// Returns the bytes that count against `max_bytes`.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    /// Calls `f(position, payload)` for each message after `from`, in order, while it returns true. A message for which
    /// it returns false counts as not received. If the receiver has a gap, `f` is not called, and the position of the
    /// result is that of the last message. `f` must not change the ring.
    ///
    /// Exceptions: those of `f`.
    template <class F>
        requires std::predicate<F&, const replay_position&, const payload&>
    replay_result resume(const replay_position& from, F f)
    {
        expire();
        if (from.epoch != epoch_ || from.id > last_ || last_ - from.id > kept_.size())
            return {.gap = true, .position = last()};
        replay_result result{.position = from};
        while (result.position.id != last_) {
            const replay_position next{epoch_, result.position.id + 1};
            if (!f(next, std::as_const(kept_[kept_.size() - 1 - (last_ - next.id)].message))) break;
            result.position = next;
        }
        return result;
    }

    /// Returns the message at that position; null where it is not kept. Drops no message, so that several calls see the
    /// same messages.
    [[nodiscard]] const payload* message(const replay_position& at) const noexcept
    {
        if (at.epoch != epoch_ || at.id > last_ || last_ - at.id >= kept_.size()) return nullptr;
        return &kept_[kept_.size() - 1 - static_cast<std::size_t>(last_ - at.id)].message;
    }

    /// Returns the position of the newest message for which `f(payload)` returns true; nothing if there is none. For
    /// messages that have ids of their own. Exceptions: those of `f`. Cost: O(messages).
    template <class F>
        requires std::predicate<F&, const payload&>
    [[nodiscard]] std::optional<replay_position> find(F f)
    {
        expire();
        for (std::size_t i = kept_.size(); i-- != 0;)
            if (f(std::as_const(kept_[i].message))) return replay_position{epoch_, last_ - (kept_.size() - 1 - i)};
        return std::nullopt;
    }

    /// Drops the messages that have reached the maximum age. `push` and `resume` do it too. Call it at each tick of a
    /// `heartbeat_timer`, for example, to free the memory of a topic without either.
    void expire() noexcept
    {
        if (options_.max_age == options_.max_age.max()) return;
        const auto now = Clock::now();
        while (!kept_.empty() && now - kept_.front().since >= options_.max_age)
            drop_first();
    }

    /// Returns the ring as bytes, for `load()`: at most `bytes()` and 55 more. Exceptions: std::bad_alloc.
    [[nodiscard]] std::string save()
    {
        expire();
        std::string text(signature);
        for (const std::uint64_t each : {epoch_, last_, std::uint64_t{kept_.size()}})
            put(text, each);
        const auto now = Clock::now();
        for (const entry& each : kept_) {
            const auto age = std::chrono::duration_cast<std::chrono::nanoseconds>(now - each.since).count();
            put(text, age < 0 ? 0 : static_cast<std::uint64_t>(age)); // a clock may be set back
            put(text, each.message.size());
            text.append(each.message.text());
        }
        put(text, checksum(text));
        return text;
    }

    /// Makes a ring of what `save()` has returned, with limits of its own: messages that exceed them are dropped, the
    /// oldest first. The time between the two counts for no message's age. Returns nothing if the bytes are of another
    /// version, incomplete or changed; start with an empty ring then, whose epoch is another.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc. Memory is allocated for bytes that
    /// are there, not for announced ones.
    [[nodiscard]] static std::optional<basic_replay_ring> load(std::string_view text,
                                                               const replay_ring_options& options = {})
    {
        basic_replay_ring ring(options, 0);
        if (text.size() < signature.size() + 8 || !text.starts_with(signature)) return std::nullopt;
        std::string_view sum = text.substr(text.size() - 8);
        text.remove_suffix(8);
        std::uint64_t value = 0;
        if (!take(sum, value) || value != checksum(text)) return std::nullopt;
        text.remove_prefix(signature.size());
        std::uint64_t last = 0;
        std::uint64_t count = 0;
        if (!take(text, ring.epoch_) || !take(text, last) || !take(text, count) || count > last ||
            last == std::numeric_limits<std::uint64_t>::max())
            return std::nullopt;
        const auto now = Clock::now();
        ring.last_ = last - count;
        for (; count != 0; --count) {
            std::uint64_t age = 0;
            std::uint64_t size = 0;
            if (!take(text, age) || !take(text, size) || size > text.size()) return std::nullopt;
            ring.push(payload(text.substr(0, static_cast<std::size_t>(size))));
            text.remove_prefix(static_cast<std::size_t>(size));
            constexpr std::uint64_t longest = std::uint64_t{1} << 62U;
            if (!ring.kept_.empty())
                ring.kept_.back().since = now - std::chrono::duration_cast<typename Clock::duration>(
                                                    std::chrono::nanoseconds(age < longest ? age : longest));
        }
        if (!text.empty()) return std::nullopt;
        ring.expire();
        return ring;
    }

private:
    struct entry {
        payload message;
        typename Clock::time_point since;
    };

    static constexpr std::string_view signature = "holdfast replay_ring 1\n"; // the version

    static std::size_t cost(const payload& message) noexcept { return message.size() + 32; }

    void drop_first() noexcept
    {
        bytes_ -= cost(kept_.front().message);
        kept_.pop_front();
    }

    static void put(std::string& text, std::uint64_t value)
    {
        for (unsigned i = 0; i != 8; ++i)
            text += static_cast<char>(value >> 8 * i);
    }

    static bool take(std::string_view& text, std::uint64_t& value) noexcept
    {
        if (text.size() < 8) return false;
        value = 0;
        for (unsigned i = 8; i-- != 0;)
            value = value << 8U | static_cast<unsigned char>(text[i]);
        text.remove_prefix(8);
        return true;
    }

    /// FNV-1a: against a file that was cut or overwritten, not against an attacker.
    static std::uint64_t checksum(std::string_view text) noexcept
    {
        std::uint64_t sum = 0xcbf29ce484222325;
        for (const char each : text)
            sum = (sum ^ static_cast<unsigned char>(each)) * 0x100000001b3;
        return sum;
    }

    replay_ring_options options_;
    std::deque<entry> kept_;
    std::size_t bytes_ = 0;
    std::uint64_t epoch_;
    std::uint64_t last_ = 0;
};

/// A `basic_replay_ring` of the steady clock.
using replay_ring = basic_replay_ring<>;

} // namespace holdfast

#endif
