// holdfast: the texts of the error codes and conditions.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_ERROR_IPP
#define HOLDFAST_IMPL_ERROR_IPP

#include <holdfast/error.hpp>

#include <string>

namespace holdfast::detail {

HOLDFAST_DECL std::string errc_category::message(int value) const
{
    switch (static_cast<errc>(value)) {
    case errc::semaphore_closed:
        return "the semaphore was closed: it grants no more permits";
    case errc::exceeds_limit:
        return "more was requested than the limit of the semaphore, pool or queue: raise the limit or request less";
    case errc::acceptor_closed:
        return "the acceptor was closed: it accepts no more connections";
    case errc::frame_too_long:
        return "a frame is longer than max_frame_bytes: raise the limit or close the connection";
    case errc::truncated_frame:
        return "the stream ended within a frame: discard the frame and close the connection";
    case errc::close_incomplete:
        return "the peer did not end its stream within the limits of async_close: the connection was closed";
    case errc::not_finite:
        return "a number is NaN or infinite, which JSON cannot express: correct the source, or choose "
               "non_finite::null (a key can never be null)";
    case errc::invalid_utf8:
        return "a string is not valid UTF-8: correct the source, or choose another UTF-8 policy of the format";
    case errc::source_failed:
        return "the source threw while it produced an element, or has no such value: the output is "
               "incomplete";
    case errc::depth_exceeded:
        return "a value is nested more deeply than the limit: reject it, or raise the limit where it is an option";
    case errc::too_many_waiting:
        return "the maximum number of operations already waits for a permit: try again later";
    case errc::spawner_closed:
        return "the spawner was cancelled or a child failed: it starts no more children";
    case errc::invalid_json:
        return "a text is not one valid JSON value: correct its source";
    case errc::malformed_frame:
        return "a frame's header or trailer violates its framing: close the connection";
    case errc::frame_timeout:
        return "a frame was not complete within its time limit: close the connection";
    case errc::pool_exhausted:
        return "all bytes of the buffer pool are in use: raise max_bytes or lower the limit of each "
               "connection";
    case errc::outbox_closed:
        return "the outbox was closed: it accepts no more messages";
    case errc::outbox_full:
        return "a message would exceed the outbox's high watermark: the peer reads too slowly";
    case errc::exceeds_high_watermark:
        return "a message is larger than the outbox's high watermark or its reserve: raise that, or stream the message";
    case errc::message_too_large:
        return "a Protobuf message is longer than 2 GiB, which no reader accepts: send it in parts";
    case errc::source_changed:
        return "the source changed while it was written, after its size was read: keep it unchanged until the "
               "last byte";
    case errc::not_framable:
        return "the framing cannot express this frame: it is longer than the length field can state, or "
               "contains a line end";
    case errc::number_out_of_range:
        return "a number is valid JSON, but beyond what the parser can hold: 64-bit integers and finite doubles";
    case errc::handshake_timeout:
        return "a handshake was not complete within its time limit: the connection was closed";
    case errc::malformed_proxy_header:
        return "a connection does not begin with a PROXY header that is well-formed and short enough: correct the "
               "sender, or remove it from the trusted senders";
    case errc::proxy_header_timeout:
        return "a PROXY header was not complete within its time limit: the connection was closed";
    case errc::rate_exceeded:
        return "the peer has sent more messages or bytes a second than its rate limit allows: close the connection";
    case errc::bytes_before_layer:
        return "the peer sent bytes before the layer above the connection began: they did not come through that layer, "
               "and the connection was closed";
    }
    return "unknown holdfast error";
}

HOLDFAST_DECL std::string condition_category::message(int value) const
{
    switch (static_cast<condition>(value)) {
    case condition::overloaded:
        return "a limit of this process is reached: try again later";
    case condition::peer_gone:
        return "the peer ended, reset or truncated the connection";
    case condition::timed_out:
        return "a time limit expired";
    case condition::limit_exceeded:
        return "the peer has sent more than a limit allows: close the connection";
    }
    return "unknown holdfast condition";
}

HOLDFAST_DECL bool condition_category::equivalent(const std::error_code& code, int value) const noexcept
{
    if (code.category() == holdfast::error_category()) return of(static_cast<errc>(code.value())) == value;
    if (is_system_error(code)) return of_system(code.value()) == value;
    return (is_end_of_stream(code) || is_truncated_stream(code)) && value == static_cast<int>(condition::peer_gone);
}

} // namespace holdfast::detail

#endif
