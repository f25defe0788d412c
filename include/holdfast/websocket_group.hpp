// holdfast: websocket_group, the WebSocket clients that receive the same messages, some of them compressed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WEBSOCKET_GROUP_HPP
#define HOLDFAST_WEBSOCKET_GROUP_HPP

#include <holdfast/outbox.hpp>
#include <holdfast/outbox_group.hpp>
#include <holdfast/websocket_compression.hpp>

#include <cstddef>

namespace holdfast {

/// Two lists of outboxes that receive the same messages: those of clients that negotiated compression, and the others.
/// A message is compressed once, for all receivers. Members, thread safety and cost are those of `outbox_group`; the
/// group itself may be destroyed during a push.
///
///     holdfast::outbox_group::member subscription{topic.list(handshake.compression), outbox};
///     topic.push(deflate.frames(message->data));
class websocket_group {
public:
    websocket_group() noexcept = default;
    websocket_group(const websocket_group&) = delete;
    websocket_group& operator=(const websocket_group&) = delete;
    ~websocket_group()
    {
        for (push_state* each = pushes_; each != nullptr; each = each->outer)
            each->gone = true;
    }

    /// Returns the list for a client; `negotiated` is its `websocket_handshake::compression`.
    [[nodiscard]] outbox_group& list(const websocket_compression* negotiated) noexcept
    {
        return negotiated != nullptr ? compressed_ : plain_;
    }

    /// Returns the number of members.
    [[nodiscard]] std::size_t size() const noexcept { return plain_.size() + compressed_.size(); }

    /// Pushes to each member the form that it has negotiated, and removes those that refuse it. Returns the number of
    /// those that queue it.
    std::size_t push(const websocket_frames& message) noexcept
    {
        return push_both([&](outbox_group& list, const payload& frame) noexcept { return list.push(frame); }, message);
    }

    /// The same for the newest value of a key.
    std::size_t push(const websocket_frames& message, conflate key) noexcept
    {
        return push_both([&](outbox_group& list, const payload& frame) noexcept { return list.push(frame, key); },
                         message);
    }

private:
    struct push_state {
        push_state* outer;
        bool gone = false;
    };

    template <class Push>
    std::size_t push_both(Push push, const websocket_frames& message) noexcept
    {
        push_state here{pushes_};
        pushes_ = &here;
        std::size_t taken = push(plain_, message.plain);
        if (!here.gone) taken += push(compressed_, message.compressed);
        if (!here.gone) pushes_ = here.outer;
        return taken;
    }

    outbox_group plain_;
    outbox_group compressed_;
    push_state* pushes_ = nullptr;
};

} // namespace holdfast

#endif
