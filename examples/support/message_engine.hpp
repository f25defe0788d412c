// holdfast: the seam between a node and the engine that carries messages between nodes and keeps the last of them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_MESSAGE_ENGINE_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_MESSAGE_ENGINE_HPP

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace examples {

/// Events of a subscription, on the node's event loop. A function may be empty.
struct engine_events {
    /// A message. Ids are the engine's, the same on every node, and come in order; none comes twice.
    std::function<void(std::string_view id, std::string_view text)> on_message{};
    /// Messages after `last`, the id that was delivered last, may be missing: the engine does not have that one any more.
    /// What it still has follows.
    std::function<void(std::string_view last)> on_gap{};
    /// The engine can be reached, or not any more: `engine.problem()` says why.
    std::function<void(bool connected)> on_connected{};
    /// All that the engine had has been delivered: after `subscribe`, and each time that the engine was away.
    std::function<void()> on_caught_up{};
};

/// The numbers of an id: one, or two with a hyphen between them; with none where it is no id.
[[nodiscard]] inline std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_id(std::string_view id) noexcept
{
    std::pair<std::uint64_t, std::uint64_t> numbers{};
    const char* const end = id.data() + id.size();
    auto parsed = std::from_chars(id.data(), end, numbers.first);
    if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-')
        parsed = std::from_chars(parsed.ptr + 1, end, numbers.second);
    return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(numbers) : std::nullopt;
}

/// Whether `a` comes after `b`. False where either is no id.
[[nodiscard]] inline bool is_later_id(std::string_view a, std::string_view b) noexcept
{
    const auto first = parse_id(a), second = parse_id(b);
    return first && second && *first > *second;
}

/// Publishes messages, and subscribes to them from an id. After the engine was away it continues from the last id.
/// Belongs to the thread that runs its event loop.
class message_engine {
public:
    message_engine(const message_engine&) = delete;
    virtual ~message_engine() = default;

    /// Receives what is published after the message `from`; where that is empty, what is published from now on; "0":
    /// all that the engine has. Once.
    virtual void subscribe(std::string from, engine_events events) = 0;

    /// Publishes a message, and calls `done` with its id, or with an empty id and `problem()`: it then may have been
    /// published or not. At most `max_pending` publications are under way; a further one fails at once.
    virtual void publish(std::string_view text, std::function<void(std::string_view id)> done) = 0;

    /// Whether the engine can be reached: for /healthz. A node without it serves what it has.
    [[nodiscard]] bool connected() const noexcept { return connected_; }
    /// Why it cannot be reached; empty where it can.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

    /// Whether a message with this id is still to come, as far as one can know: it is after the one that was delivered last.
    /// A client from another node may have had it already.
    [[nodiscard]] bool expects(std::string_view id) const noexcept { return is_later_id(id, last_); }

    static constexpr std::size_t max_pending = 1024;

protected:
    message_engine(bool connected, std::string problem) : connected_(connected), problem_(std::move(problem)) {}

    void set_connected(bool connected, std::string problem)
    {
        problem_ = std::move(problem);
        if (std::exchange(connected_, connected) != connected && events_.on_connected) events_.on_connected(connected);
    }
    void deliver(std::string_view id, std::string_view text)
    {
        last_ = id;
        if (events_.on_message) events_.on_message(id, text);
    }
    void report_gap() const
    {
        if (events_.on_gap) events_.on_gap(last_);
    }
    void report_caught_up() const
    {
        if (events_.on_caught_up) events_.on_caught_up();
    }

    engine_events events_{};
    std::string last_{}; ///< what `subscribe` has begun after, then the id that was delivered last

private:
    bool connected_;
    std::string problem_;
};

} // namespace examples

#endif
