// holdfast: acceptor_event, what a bounded_acceptor reports to its on_event hook, and its text.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ACCEPTOR_EVENT_HPP
#define HOLDFAST_ACCEPTOR_EVENT_HPP

#include <holdfast/asio.hpp>
#include <holdfast/error.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <ostream>
#include <string_view>

namespace holdfast {

/// A limit that delays or rejects connections.
enum class admission_limit : std::uint8_t {
    /// `max_connections`, or `connection_semaphore`.
    connections,
    /// `max_per_address`.
    per_address,
    /// `accepts_per_second`.
    rate,
    /// `memory_limits::high_watermark`.
    memory,
    /// The process or the system has no free descriptor.
    descriptors,
    /// `address_filter` returned `address_rule::refuse`.
    address_filter,
    /// The connection came from none of `proxy_options::trusted_senders`.
    proxy_senders,
    /// `proxy_options::max_pending_headers`.
    proxy_headers,
};

/// The number of values of `admission_limit`, to size tables by.
inline constexpr std::size_t admission_limit_count = 8;

/// Returns the name of a limit, such as "connections".
constexpr std::string_view to_string(admission_limit limit) noexcept
{
    switch (limit) {
    case admission_limit::connections:
        return "connections";
    case admission_limit::per_address:
        return "connections of one address";
    case admission_limit::rate:
        return "new connections a second";
    case admission_limit::memory:
        return "memory";
    case admission_limit::descriptors:
        return "descriptors";
    case admission_limit::proxy_senders:
        return "trusted PROXY senders";
    case admission_limit::proxy_headers:
        return "pending PROXY headers";
    case admission_limit::address_filter:
        break;
    }
    return "admitted addresses";
}

/// An event that a `bounded_acceptor` has handled itself: for logs and metrics.
struct acceptor_event {
    enum class kind : std::uint8_t {
        /// No descriptor or no memory is free (`error`): accepting pauses until a connection ends, or for up to a
        /// second.
        starved,
        /// A client left before it was accepted (`error`): accepting goes on.
        lost,
        /// A session ended with `exception`: its connection was closed. Not reported where the exception says that the
        /// peer has left (`close_reason::peer_closed`, `peer_reset`, `peer_truncated`), or that this side has ended the
        /// connection, such as by a heartbeat (`operation_aborted`, `bad_descriptor`, `errc::outbox_full`,
        /// `outbox_closed`, `close_incomplete`): `connection_end` has the reason. Only the code is looked at: where
        /// another object of the session's throws one of these, the end's reason is `close_reason::exception`.
        session_failed,
        /// Accepting pauses at `limit`: new connections wait in the backlog.
        paused,
        /// A connection was rejected or reset at `limit`.
        rejected,
        /// The handshake of a connection's layer failed or reached its time limit (`error`): the connection was closed,
        /// and no session began.
        handshake_failed,
        /// The PROXY header of a connection was malformed, incomplete or too late (`error`): the connection was closed,
        /// and no session began.
        proxy_header_failed,
    };

    /// The number of kinds, to size tables by.
    static constexpr std::size_t kind_count = 7;

    kind what;
    error_code error{};
    std::exception_ptr exception{};
    admission_limit limit{};
    /// The number of events of this kind since the last one that was reported, this one included. Of each kind a burst
    /// of up to 16 events is reported, then at most one event a second; the others are only counted.
    std::uint64_t count = 1;
    /// The client's address and port, of IP connections only: for `rejected`, `session_failed`, `handshake_failed`, and
    /// for `lost` where they are known. For `proxy_header_failed`, and for a sender that is rejected, they are those of
    /// the sender. Unspecified in all other cases.
    net::ip::tcp::endpoint remote{};
};

/// Prints an event in one line without a newline: what has happened, at which limit or by which error, and how often.
inline std::ostream& operator<<(std::ostream& out, const acceptor_event& event)
{
    using kind = acceptor_event::kind;
    switch (event.what) {
    case kind::starved:
        out << "accepting is suspended: " << event.error.message();
        break;
    case kind::lost:
        out << "a client left before it was accepted: " << event.error.message();
        break;
    case kind::session_failed:
        out << "a session failed: ";
        try {
            if (event.exception) std::rethrow_exception(event.exception);
        } catch (const std::exception& error) {
            out << error.what();
        } catch (...) {
            out << "an exception of another type";
        }
        break;
    case kind::paused:
        out << "pending connections wait at the limit of " << to_string(event.limit);
        break;
    case kind::rejected:
        out << "a connection was rejected at the limit of " << to_string(event.limit);
        break;
    case kind::handshake_failed:
        out << "a handshake failed: " << event.error.message();
        break;
    case kind::proxy_header_failed:
        out << "a PROXY header failed: " << event.error.message();
        break;
    }
    if (event.count != 1) out << " (" << event.count << " times)";
    return out;
}

} // namespace holdfast

#endif
