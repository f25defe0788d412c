// holdfast: the messages of push_gateway: quotes as server-sent events and as WebSocket frames.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_QUOTE_MESSAGES_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_QUOTE_MESSAGES_HPP

#include "market.hpp"

#include <holdfast/http/event_stream.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/replay_ring.hpp>
#include <holdfast/websocket_compression.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// A message as the ring keeps it: the engine's id, which a client names when it comes again, and quotes as JSON.
struct quote_message {
    explicit quote_message(std::string_view kept) noexcept
        : id(kept.substr(0, kept.find('\n'))), quotes(kept.substr(id.size() < kept.size() ? id.size() + 1 : id.size()))
    {
    }
    static std::string text(std::string_view id, std::string_view quotes)
    {
        return std::string(id).append("\n").append(quotes);
    }

    std::string_view id, quotes;
};

/// The forms of a message in a `replay_topic`.
enum form : std::size_t { event, frame, compressed_frame };

inline holdfast::payload as_event(const holdfast::replay_position&, std::string_view kept)
{
    const quote_message message{kept};
    return holdfast::sse_event(message.quotes, {.id = message.id});
}

/// Makes WebSocket frames, for clients that negotiated this compression; null: for the others. A WebSocket message has its
/// id in it.
inline auto as_frame(holdfast::websocket_compression* compression)
{
    return [compression](const holdfast::replay_position&, std::string_view kept) {
        const quote_message message{kept};
        std::string text("{\"id\":\"");
        text.append(message.id).append("\",\"event\":\"change\",\"data\":").append(message.quotes).append("}");
        return holdfast::websocket_frame(compression, text);
    };
}

/// The state of the market as a WebSocket message. Lifetime: `id` must exist until it is sent.
struct snapshot_message {
    std::string_view id, event;
    decltype(std::declval<const market&>().snapshot()) data;
};

} // namespace examples

#endif
