// holdfast: tests of connection_end: how it is printed, and what errors and exceptions stand for.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/connection_end.hpp>

#include <chrono>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::errc;
using holdfast::error_code;
namespace net = holdfast::net;

namespace {

std::string printed(const connection_end& end)
{
    std::ostringstream out;
    out << end;
    return out.str();
}

template <class Exception>
connection_end end_by(const Exception& exception)
{
    return holdfast::end_by(std::make_exception_ptr(exception));
}

} // namespace

TEST_CASE("an end is one line with what is known of it")
{
    connection_end end{.reason = close_reason::local, .age = std::chrono::milliseconds(1500)};
    std::ostringstream expected;
    expected << to_string(close_reason::local) << " after 1.5 s";
    CHECK(printed(end) == expected.str());
    end.peer = holdfast::peer_address(net::ip::tcp::endpoint(net::ip::make_address("192.0.2.1"), 80));
    end.error = net::error::make_error_code(net::error::connection_reset);
    expected << ", peer 192.0.2.1:80 (" << end.error.message() << ')';
    CHECK(printed(end) == expected.str());
}

TEST_CASE("each error has the reason that it stands for")
{
    CHECK(holdfast::reason_of({}) == close_reason::local);
    CHECK(holdfast::reason_of(net::error::eof) == close_reason::peer_closed);
    CHECK(holdfast::reason_of(errc::truncated_frame) == close_reason::peer_closed);
    for (const error_code reset : {error_code(net::error::connection_reset), error_code(net::error::broken_pipe),
                                   error_code(net::error::connection_aborted), error_code(net::error::not_connected)})
        CHECK(holdfast::reason_of(reset) == close_reason::peer_reset);
    CHECK(holdfast::reason_of(net::error::operation_aborted) == close_reason::cancelled);
    CHECK(holdfast::reason_of(net::error::no_memory) == close_reason::out_of_memory);
    CHECK(holdfast::reason_of(holdfast::websocket_errc::message_too_long) == close_reason::frame_limit);
    for (const errc frame : {errc::frame_too_long, errc::malformed_frame, errc::frame_timeout})
        CHECK(holdfast::reason_of(frame) == close_reason::frame_limit);
    CHECK(holdfast::reason_of(errc::outbox_full) == close_reason::send_queue_overflow);
    CHECK(holdfast::reason_of(net::error::host_unreachable) == close_reason::io_error);
}

TEST_CASE("an exception ends a connection as its error code does, or as an exception")
{
    const auto reset = end_by(holdfast::system_error(net::error::connection_reset));
    CHECK(reset.reason == close_reason::peer_reset);
    CHECK(reset.error == net::error::connection_reset);
    const auto memory = end_by(std::bad_alloc());
    CHECK(memory.reason == close_reason::out_of_memory);
    CHECK(memory.error == net::error::no_memory);
    const auto other = end_by(std::runtime_error("other"));
    CHECK(other.reason == close_reason::exception);
    CHECK_FALSE(other.error);
    CHECK(end_by(42).reason == close_reason::exception);
}
