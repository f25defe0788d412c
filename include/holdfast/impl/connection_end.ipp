// holdfast: which end an error or an exception stands for.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_CONNECTION_END_IPP
#define HOLDFAST_IMPL_CONNECTION_END_IPP

#include <holdfast/connection_end.hpp>

#include <chrono>
#include <exception>
#include <new>
#include <ostream>
#include <string_view>

namespace holdfast {

HOLDFAST_DECL std::ostream& operator<<(std::ostream& out, const connection_end& end)
{
    out << to_string(end.reason) << " after "
        << static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(end.age).count()) / 1e3 << " s";
    if (end.peer) out << ", peer " << end.peer;
    if (end.name) out << ", name " << end.name.view();
    if (end.error) out << " (" << end.error.message() << ')';
    return out;
}

HOLDFAST_DECL close_reason reason_of(const error_code& error) noexcept
{
    if (!error) return close_reason::local;
    if (error == net::error::eof) return close_reason::peer_closed;
    if (error == net::error::connection_reset || error == net::error::broken_pipe ||
        error == net::error::connection_aborted || error == net::error::not_connected)
        return close_reason::peer_reset;
    if (error == net::error::operation_aborted) return close_reason::cancelled;
    if (error == net::error::no_memory) return close_reason::out_of_memory;
    if (error == errc::frame_too_long || error == errc::malformed_frame || error == errc::frame_timeout)
        return close_reason::frame_limit;
    if (error == errc::handshake_timeout || error == errc::proxy_header_timeout) return close_reason::handshake_timeout;
    if (error == errc::malformed_proxy_header) return close_reason::handshake_failed;
    if (error == errc::bytes_before_layer) return close_reason::layer_failed;
    if (error == errc::truncated_frame) return close_reason::peer_closed;
    if (error == errc::rate_exceeded) return close_reason::rate_limit;
    if (error == errc::outbox_full) return close_reason::send_queue_overflow;
    if (detail::is_truncated_stream(error)) return close_reason::peer_truncated;
    const std::string_view category = error.category().name();
    if (category == "holdfast.websocket") return close_reason::frame_limit;
    if (category.starts_with("asio.ssl") || category == "holdfast.certificate") return close_reason::layer_failed;
    return close_reason::io_error;
}

HOLDFAST_DECL connection_end end_by(const std::exception_ptr& exception) noexcept
{
    try {
        std::rethrow_exception(exception);
    } catch (const system_error& error) {
        return {reason_of(error.code()), error.code(), {}, {}};
    } catch (const std::bad_alloc&) {
        return {close_reason::out_of_memory, net::error::no_memory, {}, {}};
    } catch (...) {
        return {close_reason::exception, {}, {}, {}};
    }
}

} // namespace holdfast

#endif
