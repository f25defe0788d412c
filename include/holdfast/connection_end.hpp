// holdfast: how a connection ended, the reason that an error stands for, and what a finalizer is.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CONNECTION_END_HPP
#define HOLDFAST_CONNECTION_END_HPP

#include <holdfast/asio.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <exception>
#include <new>
#include <ostream>
#include <type_traits>

namespace holdfast {

/// How a connection ended: what the finalize callback is told.
struct connection_end {
    /// The first cause.
    close_reason reason = close_reason::none;
    /// The error that whoever ended the connection handed on; none where it ended by plan.
    error_code error{};
    /// From the guard's birth to this end.
    std::chrono::steady_clock::duration age{};
};

/// Prints an end as one line without a newline: reason, age in seconds, error if there is one.
inline std::ostream& operator<<(std::ostream& out, const connection_end& end)
{
    out << to_string(end.reason) << " after "
        << static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(end.age).count()) / 1e3
        << " s";
    if (end.error) out << " (" << end.error.message() << ')';
    return out;
}

/// The reason that an error of a read or a write stands for.
inline close_reason reason_of(const error_code& error) noexcept
{
    if (!error) return close_reason::local;
    if (error == net::error::eof) return close_reason::peer_closed;
    if (error == net::error::connection_reset || error == net::error::broken_pipe ||
        error == net::error::connection_aborted)
        return close_reason::peer_reset;
    if (error == net::error::operation_aborted) return close_reason::cancelled;
    if (error == net::error::no_memory) return close_reason::out_of_memory;
    if (error == errc::frame_too_long || error == errc::malformed_frame || error == errc::frame_timeout)
        return close_reason::frame_limit;
    if (error == errc::truncated_frame) return close_reason::peer_closed;
    return close_reason::io_error;
}

/// The end that an exception stands for: that of its error code where it carries one, as what Asio throws
/// does. Its age is not known here.
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
        return {reason_of(error.code()), error.code()};
    } catch (const std::bad_alloc&) {
        return {close_reason::out_of_memory, net::error::no_memory};
    } catch (...) {
        return {close_reason::exception};
    }
}

/// The finalizer that does nothing.
struct no_finalizer {
    void operator()(const connection_end&) const noexcept {}
};

/// A finalize callback: called exactly once for each connection, after its descriptor was closed, on the
/// thread that ends it. It must be noexcept: there is nobody left to catch.
///
/// It may also have a member `close_reason before_close(close_reason) noexcept`, called just before the
/// descriptor is closed (its number is still this connection's own); what it returns is recorded as the
/// reason. `bounded_acceptor` uses it to leave its registry in time.
template <class F>
concept connection_finalizer =
    std::is_nothrow_move_constructible_v<F> && requires(F& f, const connection_end& end) {
        { f(end) } noexcept;
    };

} // namespace holdfast

#endif
