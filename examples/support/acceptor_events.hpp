// holdfast: what an acceptor deals with by itself, in a line each: the hook of the examples.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_ACCEPTOR_EVENTS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_ACCEPTOR_EVENTS_HPP

#include <holdfast/bounded_acceptor.hpp>

#include <exception>
#include <iostream>
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
        return "newcomers a second";
    case holdfast::admission_limit::memory:
        return "memory";
    case holdfast::admission_limit::descriptors:
        break;
    }
    return "descriptors";
}

/// Why a session failed; empty where it is only the network's doing, which the census counts.
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

/// Writes an event to the standard error output. They come a few a second at most.
///
///     .on_event = [](const holdfast::acceptor_event& event) { examples::print_event("echo_server", event); }
inline void print_event(std::string_view program, const holdfast::acceptor_event& event) noexcept
try {
    using kind = holdfast::acceptor_event::kind;
    const bool failed = event.what == kind::session_failed;
    const std::string failure = failed ? failure_text(event.exception) : std::string();
    if (failed && failure.empty()) return;
    std::cerr << program << ": ";
    switch (event.what) {
    case kind::starved:
        std::cerr << "accepting rests: " << event.error.message();
        break;
    case kind::lost:
        std::cerr << "a newcomer was gone before it was accepted: " << event.error.message();
        break;
    case kind::session_failed:
        std::cerr << "a session failed: " << failure;
        break;
    case kind::paused:
        std::cerr << "newcomers wait, at the limit of " << to_string(event.limit);
        break;
    case kind::rejected:
        std::cerr << "a newcomer was turned away, at the limit of " << to_string(event.limit);
        break;
    }
    if (event.count != 1) std::cerr << " (" << event.count << " times)";
    std::cerr << std::endl;
} catch (...) { // there is nobody left to tell
}

} // namespace examples

#endif
