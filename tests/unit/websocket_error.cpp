// holdfast: tests of the violations of the WebSocket protocol: each has a message, and a code that closes.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/websocket_error.hpp>
#include <holdfast/websocket_frame.hpp>

#include <set>
#include <string>

using holdfast::websocket_close_code;
using holdfast::websocket_close_frame;
using holdfast::websocket_errc;

TEST_CASE("every violation has a message of its own, which fits into a Close frame, and a code")
{
    std::set<std::string> messages{holdfast::websocket_error_category().message(0)};
    for (int i = 1; i <= static_cast<int>(websocket_errc::too_many_fragments); ++i) {
        const holdfast::error_code code = static_cast<websocket_errc>(i);
        CHECK(code);
        CHECK(code == static_cast<websocket_errc>(i));
        CHECK(code.message().size() <= 123);
        CHECK(messages.insert(code.message()).second);
    }
    // the last one above is the last one
    CHECK(messages.contains(
        holdfast::websocket_error_category().message(static_cast<int>(websocket_errc::too_many_fragments) + 1)));
    CHECK(close_code_of(websocket_errc::invalid_text) == websocket_close_code::invalid_data);
    CHECK(close_code_of(websocket_errc::too_many_fragments) == websocket_close_code::message_too_big);
    CHECK(close_code_of(websocket_errc::unmasked_frame) == websocket_close_code::protocol_error);
}

TEST_CASE("a message that is too long, or has too many fragments, is an exceeded limit, as a frame is")
{
    for (int i = 1; i <= static_cast<int>(websocket_errc::too_many_fragments); ++i) {
        const holdfast::error_code code = static_cast<websocket_errc>(i);
        CHECK((code == holdfast::condition::limit_exceeded) ==
              (code == websocket_errc::message_too_long || code == websocket_errc::too_many_fragments));
        CHECK(code != holdfast::condition::overloaded);
        CHECK(code != holdfast::condition::peer_gone);
        CHECK(code != holdfast::condition::timed_out);
    }
}

TEST_CASE("a Close frame has its code, and as much of the reason as fits, without a part of a character")
{
    using namespace std::string_literals;
    CHECK(websocket_close_frame(websocket_close_code::going_away, "bye").text() == "\x88\x05\x03\xe9"
                                                                                   "bye");
    CHECK(websocket_close_frame(websocket_close_code::no_code).text() == "\x88\0"s);
    CHECK(websocket_close_frame(websocket_close_code::no_close_frame, "x").text() == "\x88\0"s);
    CHECK(websocket_close_frame(websocket_close_code::normal, std::string(123, 'x')).size() == 127);
    CHECK(websocket_close_frame(websocket_close_code::normal, std::string(500, 'x')).size() == 127);
    CHECK(websocket_close_frame(websocket_close_code::normal, std::string(122, 'x') + "\u20ac").size() == 126);
    CHECK(websocket_close_frame(websocket_close_code::normal, std::string(120, 'x') + "\u20ac!").size() == 127);
    CHECK(holdfast::websocket_ping(std::string(200, 'x')).size() == 127);
    CHECK(holdfast::websocket_ping().text() == "\x89\0"s);
}
