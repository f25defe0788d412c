// holdfast: where a gateway's messages come from: this process, or an engine that many nodes share.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_MESSAGE_SOURCE_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_MESSAGE_SOURCE_HPP

#include <holdfast/replay_ring.hpp>

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

namespace examples {

/// The messages of one topic, in one order for all that subscribe. Their ids are consecutive within an epoch, so that a
/// client may continue at any node. On the thread of the gateway's context.
class message_source {
public:
    using receive = std::function<void(const holdfast::replay_position&, std::string_view)>;

    message_source() = default;
    message_source(const message_source&) = delete;
    message_source& operator=(const message_source&) = delete;
    virtual ~message_source() = default;

    /// Adds a message. It comes back by `receive`, as those of other nodes do.
    virtual void publish(std::string_view message) = 0;

    /// Calls `on_message` with each message after `from`, in order, until the source is destroyed. Where messages are not
    /// there any more, it continues with the oldest that is: the receiver sees that the id, or the epoch, is not the next.
    virtual void subscribe(const holdfast::replay_position& from, receive on_message) = 0;

    /// Whether the engine can be reached. While it cannot, the gateway serves what it has.
    [[nodiscard]] virtual bool available() const noexcept = 0;
};

/// The source of a gateway that is alone: what it publishes.
class local_source final : public message_source {
public:
    void publish(std::string_view message) override
    {
        ++last_.id;
        if (on_message_) on_message_(last_, message);
    }

    void subscribe(const holdfast::replay_position& from, receive on_message) override
    {
        last_ = from;
        on_message_ = std::move(on_message);
    }

    [[nodiscard]] bool available() const noexcept override { return true; }

private:
    holdfast::replay_position last_{};
    receive on_message_;
};

} // namespace examples

#endif
