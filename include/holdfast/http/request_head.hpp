// holdfast: the head of an HTTP/1.1 request as a frame, and the response where none can be read.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HTTP_REQUEST_HEAD_HPP
#define HOLDFAST_HTTP_REQUEST_HEAD_HPP

#include <holdfast/error.hpp>
#include <holdfast/framing.hpp>

#include <cstddef>
#include <string_view>
#include <system_error>

namespace holdfast {

namespace framing {

/// The head of an HTTP/1.1 request: the payload is the request line and the header fields, with the empty line that
/// ends them, as any HTTP parser takes them. Empty lines before the request line are skipped, as RFC 9112 recommends.
/// Lines may end with LF alone, so that such a request is refused by the parser and not waited for.
///
/// With `frame_reader` a head has a hard limit, a deadline (`frame_deadline`), and no buffer while the connection is
/// idle; bytes after it stay for the next head, for `async_read_exactly` (a body), or for the reader that takes over
/// (`websocket_reader`).
///
/// For reading only.
///
///     holdfast::frame_reader heads{peer, {.max_frame_bytes = 8192, .deadline = &deadline},
///                                  holdfast::framing::http_request_head{}};
struct http_request_head {
    [[nodiscard]] static bounds parse(std::string_view bytes, std::size_t seen) noexcept
    {
        std::size_t first = bytes.find_first_not_of("\r\n");
        if (first == bytes.npos) first = bytes.size();
        if (first > max_overhead) return {.error = errc::malformed_frame};
        for (std::size_t at = bytes.find('\n', seen > first + 2 ? seen - 2 : first); at != bytes.npos;
             at = bytes.find('\n', at + 1)) {
            std::string_view next = bytes.substr(at + 1, 2);
            if (next.starts_with('\r')) next.remove_prefix(1);
            if (next.starts_with('\n'))
                return {.header = first,
                        .payload = static_cast<std::size_t>(next.data() + 1 - bytes.data()) - first,
                        .known = true};
        }
        return {.header = first, .payload = bytes.size() - first};
    }
};

} // namespace framing

/// Returns the status code of the response to a head that could not be read: 400, 408 or 431; 429 where the client
/// exceeds its rate; 503 where there is no memory for it. 0 where there is no client left that could read a response:
/// for all other errors of `frame_reader::async_next`.
[[nodiscard]] inline unsigned http_status_of(const std::error_code& error) noexcept
{
    if (error == errc::malformed_frame) return 400;
    if (error == errc::frame_timeout) return 408;
    if (error == errc::frame_too_long) return 431;
    if (error == errc::rate_exceeded) return 429;
    if (error == errc::pool_exhausted || error == std::errc::not_enough_memory) return 503;
    return 0;
}

} // namespace holdfast

#endif
