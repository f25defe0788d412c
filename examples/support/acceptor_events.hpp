// holdfast: the examples' hook for an acceptor's events: one line of the log for each.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_ACCEPTOR_EVENTS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_ACCEPTOR_EVENTS_HPP

#include "log.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <exception>
#include <ostream>
#include <string>
#include <string_view>

namespace examples {

inline std::string_view to_string(holdfast::admission_limit limit) noexcept
{
    switch (limit) {
    case holdfast::admission_limit::connections:
        return "connections";
    case holdfast::admission_limit::per_address:
        return "connections of one address";
    case holdfast::admission_limit::rate:
        return "new connections a second";
    case holdfast::admission_limit::memory:
        return "memory";
    case holdfast::admission_limit::address_filter:
        return "addresses that are admitted";
    case holdfast::admission_limit::descriptors:
        break;
    }
    return "descriptors";
}

/// Returns why a session failed, or an empty text for an error of the network, which the census counts.
inline std::string failure_text(const std::exception_ptr& failure)
{
    try {
        std::rethrow_exception(failure);
    } catch (const holdfast::system_error&) {
        return {};
    } catch (const std::exception& error) {
        return error.what();
    }
}

/// Logs an event, unless it is a session that ended by an error of the network. The acceptor reports a few a second at
/// most.
///
///     .on_event = [](const holdfast::acceptor_event& event) { examples::log_event("echo_server", event); }
inline void log_event(std::string_view program, const holdfast::acceptor_event& event) noexcept
{
    const bool failed = event.what == holdfast::acceptor_event::kind::session_failed;
    const std::string failure = failed ? failure_text(event.exception) : std::string();
    if (failed && failure.empty()) return;
    log_text([&](std::ostream& out) {
        using kind = holdfast::acceptor_event::kind;
        out << program << ": ";
        switch (event.what) {
        case kind::starved:
            out << "accepting is suspended: " << event.error.message();
            break;
        case kind::lost:
            out << "a connection was gone before it was accepted: " << event.error.message();
            break;
        case kind::session_failed:
            out << "a session failed: " << failure;
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
        }
        if (event.count != 1) out << " (" << event.count << " times)";
    });
}

} // namespace examples

#endif
