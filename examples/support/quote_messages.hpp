// holdfast: the messages of push_gateway: quotes as server-sent events and as WebSocket frames.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_QUOTE_MESSAGES_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_QUOTE_MESSAGES_HPP

#include "market.hpp"

#include <holdfast/http/event_stream.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/replay_ring.hpp>
#include <holdfast/websocket_frame.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// The forms of a message in a `replay_topic`.
enum form : std::size_t { event, frame };

/// Quotes, as JSON, with the id that a browser names when it comes again.
inline holdfast::payload as_event(const holdfast::replay_position& at, std::string_view quotes)
{
    return holdfast::sse_event(quotes, {.id = to_string(at)});
}

/// The same as a WebSocket message, which has the id in it.
inline holdfast::payload as_frame(const holdfast::replay_position& at, std::string_view quotes)
{
    std::string text = "{\"id\":\"" + to_string(at) + "\",\"event\":\"change\",\"data\":";
    return holdfast::websocket_frame(text.append(quotes).append("}"));
}

/// The state of the market as a WebSocket message. Lifetime: `id` must exist until it is sent.
struct snapshot_message {
    std::string_view id, event;
    decltype(std::declval<const market&>().snapshot()) data;
};

} // namespace examples

#endif
