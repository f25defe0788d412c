// holdfast: how a connection ended, the reason that an error stands for, and what a finalizer is.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CONNECTION_END_HPP
#define HOLDFAST_CONNECTION_END_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_name.hpp>
#include <holdfast/error.hpp>
#include <holdfast/peer_address.hpp>

#include <chrono>
#include <exception>
#include <new>
#include <ostream>
#include <string_view>
#include <type_traits>

namespace holdfast {

/// How a connection ended: the argument of its finalizer.
struct connection_end {
    /// The first cause.
    close_reason reason = close_reason::none;
    /// The error of the operation that failed; none after an end by plan.
    error_code error{};
    /// Time from the construction of the guard to the end.
    std::chrono::steady_clock::duration age{};
    /// The peer's address. An acceptor records it when it accepts the connection; otherwise it is read just before
    /// the close, and is unknown where the peer had reset the connection.
    peer_address peer{};
    /// The peer's name, where the session has given the connection one (`admitted_connection::set_name`).
    connection_name name{};
};

/// Prints an end in one line without a newline: reason, age in seconds, peer and error where they are known.
inline std::ostream& operator<<(std::ostream& out, const connection_end& end)
{
    out << to_string(end.reason) << " after "
        << static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(end.age).count()) / 1e3 << " s";
    if (end.peer) out << ", peer " << end.peer;
    if (end.name) out << ", name " << end.name.view();
    if (end.error) out << " (" << end.error.message() << ')';
    return out;
}

/// Returns the reason for which an operation's error ends the connection. Knows the errors of holdfast, of the
/// system, of Asio and of `net::ssl`; every other error of a layer is `close_reason::layer_failed` where its
/// category's name begins with "asio.ssl" or is "holdfast.certificate", else `close_reason::io_error`.
inline close_reason reason_of(const error_code& error) noexcept
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

/// Returns the end that an exception stands for: that of its error code, where it has one as Asio's exceptions do. Age
/// and peer are not known.
///
///     catch (...) {
///         const auto end = holdfast::end_by(std::current_exception());
///         peer.close(end.reason, end.error);
///     }
inline connection_end end_by(const std::exception_ptr& exception) noexcept
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

/// The finalizer that does nothing.
struct no_finalizer {
    void operator()(const connection_end&) const noexcept {}
};

/// A callback that is called exactly once for each connection, after its descriptor was closed, on the thread that
/// ends the connection. It must be `noexcept`, and may destroy the guard and all that owns it.
template <class F>
concept connection_finalizer = std::is_nothrow_move_constructible_v<F> && requires(F& f, const connection_end& end) {
    { f(end) } noexcept;
};

} // namespace holdfast

#endif
