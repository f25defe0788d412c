// holdfast: server-sent events as payloads, which any number of receivers share.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HTTP_EVENT_STREAM_HPP
#define HOLDFAST_HTTP_EVENT_STREAM_HPP

#include <holdfast/payload.hpp>
#include <holdfast/serialize/framed.hpp>

#include <charconv>
#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>

namespace holdfast {

/// How the content of an HTTP response is transferred.
enum class http_transfer : std::uint8_t {
    /// In chunks, to HTTP/1.1 (`http_exchange::chunked`): each payload is a chunk.
    chunked,
    /// As it is, up to the end of the connection.
    plain,
};

/// Makes a part of the content of an HTTP response. An empty text makes an empty payload, not the end of the content.
///
/// Exceptions: std::bad_alloc. Cost: one allocation, and a copy.
[[nodiscard]] inline payload http_part(std::string_view text, http_transfer transfer = http_transfer::chunked,
                                       payload_sharing sharing = payload_sharing::any_thread)
{
    if (transfer == http_transfer::plain || text.empty()) return payload(text, sharing);
    char size[20];
    char* end = std::to_chars(size, size + 16, text.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    std::string tail(text);
    tail.append("\r\n");
    return payload({size, static_cast<std::size_t>(end - size)}, tail, sharing);
}

/// Returns the end of the content: the last chunk, or nothing.
[[nodiscard]] inline payload http_end(http_transfer transfer = http_transfer::chunked)
{
    return transfer == http_transfer::chunked ? payload("0\r\n\r\n") : payload();
}

/// Makes a server-sent event (`Content-Type: text/event-stream`) that any number of outboxes can share. Each line of
/// `data` becomes a `data` field; CR, LF and CRLF are line ends, and the receiver gets LF for each. `data` must be
/// UTF-8; it is not checked. (`framing::sse` does the same for messages that are serialized while they are sent.)
///
/// Exceptions: std::invalid_argument if `fields.event` or `fields.id` has a line end, or `fields.id` a NUL, which makes
/// a receiver ignore it, or if `fields.retry` is negative; std::bad_alloc.
/// Cost: linear in the text.
///
///     const auto event = holdfast::sse_event(text, {.id = holdfast::to_string(position)});
///     readers.push(event);
[[nodiscard]] inline payload sse_event(std::string_view data, const framing::sse& fields = {},
                                       http_transfer transfer = http_transfer::chunked,
                                       payload_sharing sharing = payload_sharing::any_thread)
{
    using namespace std::string_view_literals;
    if (fields.event.find_first_of("\r\n") != std::string_view::npos)
        throw std::invalid_argument("sse_event: the event's type must not have a line end");
    if (fields.id.find_first_of("\r\n\0"sv) != std::string_view::npos)
        throw std::invalid_argument("sse_event: the id must have neither a line end nor a NUL");
    if (fields.retry && fields.retry->count() < 0)
        throw std::invalid_argument("sse_event: the time to retry must not be negative");
    std::string text;
    text.reserve(fields.event.size() + fields.id.size() + data.size() + 64);
    if (!fields.event.empty()) text.append("event: ").append(fields.event).append("\n");
    if (!fields.id.empty()) text.append("id: ").append(fields.id).append("\n");
    if (fields.retry) text.append("retry: ").append(std::to_string(fields.retry->count())).append("\n");
    for (;;) {
        const std::size_t end = data.find_first_of("\r\n");
        text.append("data: ").append(data.substr(0, end)).append("\n");
        if (end == data.npos) break;
        data.remove_prefix(end + (data.substr(end, 2) == "\r\n" ? 2 : 1));
    }
    text.append("\n");
    return http_part(text, transfer, sharing);
}

/// Makes a comment, which receivers ignore: sent by a heartbeat, it keeps proxies from closing a silent stream.
///
///     outbox.push_control(holdfast::sse_comment());
[[nodiscard]] inline payload sse_comment(http_transfer transfer = http_transfer::chunked)
{
    return http_part(":\n\n", transfer);
}

/// Makes the instruction to wait for that time before the next attempt to connect, without an event.
///
/// Exceptions: std::invalid_argument if the time is negative; std::bad_alloc.
[[nodiscard]] inline payload sse_retry(std::chrono::milliseconds wait, http_transfer transfer = http_transfer::chunked)
{
    if (wait.count() < 0) throw std::invalid_argument("sse_retry: the time must not be negative");
    return http_part("retry: " + std::to_string(wait.count()) + "\n\n", transfer);
}

} // namespace holdfast

#endif
