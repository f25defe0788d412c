// holdfast: how a connection ended, the reason that an error stands for, and what a finalizer is.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CONNECTION_END_HPP
#define HOLDFAST_CONNECTION_END_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_name.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>
#include <holdfast/peer_address.hpp>

#include <chrono>
#include <exception>
#include <ostream>
#include <type_traits>

namespace holdfast {

/// How a connection ended: the argument of its finalizer.
struct connection_end {
    /// The first cause.
    close_reason reason = close_reason::none;
    /// The error of the operation that failed. After a planned end none, except where the peer has reset the connection
    /// during `async_close()`, or that has reached a limit (`errc::close_incomplete`).
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
HOLDFAST_DECL std::ostream& operator<<(std::ostream& out, const connection_end& end);

/// Returns the reason for which an operation's error ends the connection. Knows the errors of holdfast, of the
/// system, of Asio and of `net::ssl`; every other error of a layer is `close_reason::layer_failed` where its
/// category's name begins with "asio.ssl" or is "holdfast.certificate", else `close_reason::io_error`.
HOLDFAST_DECL close_reason reason_of(const error_code& error) noexcept;

/// Returns the end that an exception stands for: that of its error code, where it has one as Asio's exceptions do. Age
/// and peer are not known.
///
///     catch (...) {
///         const auto end = holdfast::end_by(std::current_exception());
///         peer.close(end.reason, end.error);
///     }
HOLDFAST_DECL connection_end end_by(const std::exception_ptr& exception) noexcept;

/// The finalizer that does nothing.
struct no_finalizer {
    void operator()(const connection_end&) const noexcept {}
};

/// A callback that is called exactly once for each connection, after its descriptor was closed, on the thread that
/// ends the connection. It must be `noexcept`, and may destroy the guard and all that owns it, except an object that
/// must outlive a pending operation, such as a `frame_reader` that reads. Where handlers share the ownership of a
/// session, it lives until the last of them has been called.
template <class F>
concept connection_finalizer = std::is_nothrow_move_constructible_v<F> && requires(F& f, const connection_end& end) {
    { f(end) } noexcept;
};

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/connection_end.ipp>
#endif

#endif
