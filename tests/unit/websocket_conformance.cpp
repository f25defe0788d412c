// holdfast: tests of a WebSocket server's conformance to RFC 6455, in the groups of the well-known list of cases: each
// on a real connection, with the client's bytes cut at every place.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/websocket.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

using holdfast::websocket_errc;
using tests::client_frame;
using tests::close_payload;
using tests::server_frame;
using namespace std::string_literals;

namespace {

constexpr unsigned fin = 0x80, rsv1 = 0x40, rsv2 = 0x20, rsv3 = 0x10;
constexpr unsigned continuation = 0, text = 1, binary = 2, closing = 8, ping = 9, pong = 10;

std::string closed(unsigned code, std::string_view reason = {})
{
    return server_frame(fin | closing, close_payload(code, reason));
}

/// Of a violation: the frame that closes the connection.
std::string closed(websocket_errc error)
{
    return closed(static_cast<unsigned>(holdfast::close_code_of(error)), make_error_code(error).message());
}

/// The bytes get this answer, and the reader this error, wherever they are cut.
void answered(const std::string& bytes, const std::string& answer, std::optional<websocket_errc> error = {},
              const holdfast::websocket_options& options = {})
{
    const auto check = [&](std::size_t cut) {
        const auto session = tests::talk(bytes, options, cut);
        INFO("cut at " << cut);
        CHECK(session.answer == answer);
        CHECK(session.error == (error ? holdfast::error_code(*error) : holdfast::error_code()));
    };
    check(std::string::npos);
    if (bytes.size() <= 64)
        for (std::size_t cut = 1; cut < bytes.size(); ++cut)
            check(cut);
}

/// A violation, after a message that is answered before it.
void refused(const std::string& bytes, websocket_errc error, const holdfast::websocket_options& options = {})
{
    answered(bytes, closed(error), error, options);
    answered(client_frame(fin | text, "Hi") + bytes, server_frame(fin | text, "Hi") + closed(error), error, options);
}

const std::string bye = client_frame(fin | closing, close_payload(1000));
const std::string bye_answer = closed(1000);

} // namespace

TEST_CASE("1 framing: messages of every form of length are echoed as one frame")
{
    for (const unsigned kind : {text, binary})
        for (const std::size_t size : {0U, 1U, 125U, 126U, 127U, 128U, 65535U, 65536U}) {
            INFO(size);
            const std::string message(size, '*');
            answered(client_frame(fin | kind, message) + bye, server_frame(fin | kind, message) + bye_answer, {},
                     {.max_message_bytes = 65536});
        }
    const auto session = tests::talk(client_frame(fin | text, "a") + client_frame(fin | binary, "\x80\0"s) + bye);
    CHECK(session.messages == std::vector<std::string>{"a", "\x80\0"s});
    CHECK(session.binary == std::vector<bool>{false, true});
    CHECK(session.close_code == 1000);
}

TEST_CASE("1 framing: lengths must be in their shortest form, and frames masked")
{
    const std::string mask = "\1\2\3\4";
    refused("\x81\xfe\x00\x7d"s + mask, websocket_errc::invalid_length);
    refused("\x81\xff\0\0\0\0\0\0\xff\xff"s + mask, websocket_errc::invalid_length);
    refused("\x81\xff\x80\0\0\0\0\0\0\0"s + mask, websocket_errc::invalid_length);
    refused("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"s + mask, websocket_errc::invalid_length);
    refused("\x81\x05Hello"s, websocket_errc::unmasked_frame);
    refused("\x89\x00"s, websocket_errc::unmasked_frame);
}

TEST_CASE("2 pings: each is answered in order, a pong by nothing")
{
    for (const auto& payload : {""s, "Hello"s, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"s, std::string(125, '\xfe')})
        answered(client_frame(fin | ping, payload) + bye, server_frame(fin | pong, payload) + bye_answer);
    refused(client_frame(fin | ping, std::string(126, '*')), websocket_errc::control_too_long);
    answered(client_frame(fin | pong, "") + bye, bye_answer);
    answered(client_frame(fin | pong, "unsolicited") + client_frame(fin | ping, "p") + bye,
             server_frame(fin | pong, "p") + bye_answer);
    std::string pings;
    std::string pongs;
    for (int i = 0; i != 10; ++i) {
        pings += client_frame(fin | ping, "payload-" + std::to_string(i));
        pongs += server_frame(fin | pong, "payload-" + std::to_string(i));
    }
    answered(pings + bye, pongs + bye_answer);
}

TEST_CASE("3 reserved bits: without an extension none may be set, on any frame")
{
    for (const unsigned bits : {rsv1, rsv2, rsv3, rsv1 | rsv2, rsv1 | rsv3, rsv2 | rsv3, rsv1 | rsv2 | rsv3})
        for (const unsigned opcode : {text, binary, closing, ping, pong}) {
            INFO(bits << " on " << opcode);
            refused(client_frame(fin | bits | opcode, "x"), websocket_errc::reserved_bit);
        }
    answered(client_frame(text, "a") + client_frame(fin | rsv1 | continuation, "b"),
             closed(websocket_errc::reserved_bit), websocket_errc::reserved_bit);
}

TEST_CASE("4 opcodes: those that are reserved are refused")
{
    for (const unsigned opcode : {3U, 4U, 5U, 6U, 7U, 11U, 12U, 13U, 14U, 15U}) {
        INFO(opcode);
        refused(client_frame(fin | opcode, ""), websocket_errc::reserved_opcode);
        refused(client_frame(fin | opcode, "Hello"), websocket_errc::reserved_opcode);
    }
}

TEST_CASE("5 fragmentation: fragments become one message, control frames between them are answered at once")
{
    const std::string whole = server_frame(fin | text, "fragment1fragment2");
    const std::string first = client_frame(text, "fragment1");
    const std::string last = client_frame(fin | continuation, "fragment2", "\xff\x80\x01\x7f");
    answered(first + last + bye, whole + bye_answer);
    answered(first + client_frame(fin | ping, "p") + last + bye, server_frame(fin | pong, "p") + whole + bye_answer);
    answered(first + client_frame(fin | pong, "p") + last + bye, whole + bye_answer);
    answered(client_frame(binary, "") + client_frame(continuation, "") + client_frame(fin | continuation, "") + bye,
             server_frame(fin | binary, "") + bye_answer);
    answered(client_frame(text, "") + client_frame(continuation, "a") + client_frame(fin | continuation, "") + bye,
             server_frame(fin | text, "a") + bye_answer);

    refused(client_frame(ping, "f"), websocket_errc::fragmented_control);
    refused(client_frame(pong, "f"), websocket_errc::fragmented_control);
    refused(client_frame(closing, close_payload(1000)), websocket_errc::fragmented_control);
    refused(client_frame(continuation, "x"), websocket_errc::unexpected_continuation);
    refused(client_frame(fin | continuation, "x"), websocket_errc::unexpected_continuation);
    refused(first + client_frame(fin | text, "x"), websocket_errc::message_interrupted);
    refused(first + client_frame(binary, "x"), websocket_errc::message_interrupted);
}

TEST_CASE("5 fragmentation: a fragment for each byte, with pings between, beyond the first buffer")
{
    std::string bytes;
    std::string expected;
    std::string pongs;
    for (int i = 0; i != 5000; ++i) {
        const std::string one(1, static_cast<char>('a' + i % 26));
        bytes += client_frame((i == 0 ? text : continuation) | (i == 4999 ? fin : 0), one);
        expected += one;
    }
    answered(bytes + bye, server_frame(fin | text, expected) + bye_answer, {}, {.max_message_bytes = 5000});
    answered(bytes + bye, closed(websocket_errc::message_too_long), websocket_errc::message_too_long,
             {.max_message_bytes = 4999});
}

TEST_CASE("6 UTF-8: what is valid comes back, whole and in fragments of a byte")
{
    for (const auto& message :
         {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"s, "\x7f"s, "\xc2\x80"s, "\xdf\xbf"s, "\xe0\xa0\x80"s,
          "\xed\x9f\xbf"s, "\xee\x80\x80"s, "\xef\xbf\xbd"s, "\xef\xbf\xbf"s, "\xf0\x90\x80\x80"s, "\xf4\x8f\xbf\xbf"s,
          "\0"s, "plain ASCII, \xf0\x9f\x8c\x8a and more of it"s}) {
        answered(client_frame(fin | text, message) + bye, server_frame(fin | text, message) + bye_answer);
        std::string fragments = client_frame(text, "");
        for (const char byte : message)
            fragments += client_frame(continuation, std::string(1, byte));
        fragments += client_frame(fin | continuation, "");
        answered(fragments + bye, server_frame(fin | text, message) + bye_answer);
    }
}

TEST_CASE("6 UTF-8: what is invalid closes with 1007")
{
    for (const auto& message : {"\xce\xba\xe1\xbd\xb9\xed\xa0\x80 edited"s,
                                "\x80"s,
                                "\xbf"s,
                                "\xc0\xaf"s,
                                "\xc1\xbf"s,
                                "\xc2"s,
                                "\xc2 "s,
                                "\xe0\x80\xaf"s,
                                "\xe0\x9f\xbf"s,
                                "\xe1\x80"s,
                                "\xed\xa0\x80"s,
                                "\xed\xbf\xbf"s,
                                "\xf0\x80\x80\xaf"s,
                                "\xf0\x8f\xbf\xbf"s,
                                "\xf0\x90\x80"s,
                                "\xf4\x90\x80\x80"s,
                                "\xf5\x80\x80\x80"s,
                                "\xf8\x88\x80\x80\x80"s,
                                "\xfe"s,
                                "\xff"s,
                                "eight by\x80"s,
                                "\xe2\x82\xac\x82"s}) {
        refused(client_frame(fin | text, message), websocket_errc::invalid_text);
        answered(client_frame(text, message) + client_frame(fin | continuation, ""),
                 closed(websocket_errc::invalid_text), websocket_errc::invalid_text);
        answered(client_frame(fin | binary, message) + bye, server_frame(fin | binary, message) + bye_answer);
    }
}

TEST_CASE("6 UTF-8: an invalid byte is refused when it comes, not at the message's end")
{
    const std::string beginning = client_frame(fin | text, "\xce\xba\xf4\x90"s + std::string(1000, ' ')).substr(0, 12);
    answered(beginning, closed(websocket_errc::invalid_text), websocket_errc::invalid_text);
}

TEST_CASE("7 close: the code is answered, and what comes after a Close frame is ignored")
{
    answered(bye, bye_answer);
    answered(client_frame(fin | text, "Hello") + bye, server_frame(fin | text, "Hello") + bye_answer);
    for (const auto& later : {bye, client_frame(fin | text, "later"), client_frame(fin | ping, "later"), "\xff\xff"s}) {
        const auto session = tests::talk(bye + later);
        CHECK(session.answer == bye_answer);
        CHECK(session.messages.empty());
        CHECK_FALSE(session.error);
    }
    answered(client_frame(text, "unfinished") + bye, bye_answer);
    answered(client_frame(fin | closing, ""), server_frame(fin | closing, ""));
    for (const unsigned code : {1000U, 1001U, 1002U, 1003U, 1007U, 1008U, 1009U, 1010U, 1011U, 1012U, 1013U, 1014U,
                                3000U, 3999U, 4000U, 4999U}) {
        const auto session = tests::talk(client_frame(fin | closing, close_payload(code, "\u20ac reason")));
        CHECK(session.answer == closed(code));
        CHECK(session.close_code == code);
        CHECK(session.close_reason == "\u20ac reason");
        CHECK_FALSE(session.error);
    }
    answered(client_frame(fin | closing, close_payload(1000, std::string(123, '*'))), bye_answer);
    CHECK(tests::talk(client_frame(fin | closing, "")).close_code == 1005);
}

TEST_CASE("7 close: invalid payloads are refused")
{
    refused(client_frame(fin | closing, "x"), websocket_errc::invalid_close);
    refused(client_frame(fin | closing, close_payload(1000, std::string(124, '*'))), websocket_errc::control_too_long);
    refused(client_frame(fin | closing, close_payload(1000, "\xce\xba\xed\xa0\x80")), websocket_errc::invalid_text);
    for (const unsigned code : {0U, 999U, 1004U, 1005U, 1006U, 1015U, 1016U, 1100U, 2000U, 2999U, 5000U, 65535U}) {
        INFO(code);
        refused(client_frame(fin | closing, close_payload(code)), websocket_errc::invalid_close);
    }
}

TEST_CASE("9 limits: a message above the limit closes with 1009, by its announced length")
{
    const holdfast::websocket_options ten{.max_message_bytes = 10};
    answered(client_frame(fin | text, "0123456789") + bye, server_frame(fin | text, "0123456789") + bye_answer, {},
             ten);
    refused(client_frame(fin | text, "0123456789a").substr(0, 2), websocket_errc::message_too_long, ten);
    refused(client_frame(text, "01234") + client_frame(continuation, "56789") + client_frame(fin | continuation, "a"),
            websocket_errc::message_too_long, ten);
    refused("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"s, websocket_errc::message_too_long, ten);
    refused("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"s, websocket_errc::message_too_long,
            {.max_message_bytes = static_cast<std::size_t>(-1)});
}

TEST_CASE("9 limits: a message with more empty fragments than its limit in bytes closes with 1009")
{
    const holdfast::websocket_options three{.max_message_bytes = 3};
    const std::string begun = client_frame(text, ""), empty = client_frame(continuation, "");
    const std::string last = client_frame(fin | continuation, "end");
    const std::string one = begun + empty + empty + last, echo = server_frame(fin | text, "end");
    answered(one + bye, echo + bye_answer, {}, three);
    answered(one + one + one + bye, echo + echo + echo + bye_answer, {}, three); // each has its own
    answered(client_frame(text, "") + client_frame(continuation, "e") + empty + empty +
                 client_frame(continuation, "nd") + client_frame(fin | continuation, "") + bye,
             echo + bye_answer, {}, three);
    refused(begun + empty + empty + empty, websocket_errc::too_many_fragments, three);
    refused(begun + empty + client_frame(fin | pong, "") + empty + client_frame(continuation, "e") + empty,
            websocket_errc::too_many_fragments, three);
}

TEST_CASE("9 limits: messages of 1, 4 and 16 MiB are echoed, whole and in fragments, however the bytes are cut")
{
    constexpr std::size_t mebi = 1024 * 1024;
    struct row {
        std::size_t size, fragment; // fragment 0: one frame
    };
    for (const auto& [size, fragment] : {row{mebi, 0}, row{mebi, 64}, row{mebi, 4096}, row{4 * mebi, 0},
                                         row{4 * mebi, 4096}, row{4 * mebi, mebi}, row{16 * mebi, mebi}}) {
        const unsigned kind = size == mebi || fragment == 4096 ? text : binary;
        CAPTURE(size, fragment, kind);
        std::string message("0123456789 \u00e9\u20ac\U0001f30a"); // 20 bytes: fragments end inside characters
        while (message.size() < size)
            message.append(message, 0, std::min(message.size(), size - message.size()));
        std::string bytes;
        bytes.reserve(size + (fragment == 0 ? 0 : size / fragment * 8) + 64);
        for (std::size_t at = 0; at != size;) {
            const std::string_view part = std::string_view(message).substr(at, fragment == 0 ? size : fragment);
            const unsigned opcode = at == 0 ? kind : continuation;
            at += part.size();
            bytes += client_frame(opcode | (at == size ? fin : 0), part);
        }
        const auto session = tests::talk_in_pieces(bytes + bye, {.max_message_bytes = size}, 9973);
        CHECK_FALSE(session.error);
        CHECK((session.answer == server_frame(fin | kind, message) + bye_answer)); // not printed
        if (size != mebi) continue;
        const auto above = tests::talk_in_pieces(bytes + bye, {.max_message_bytes = size - 1}, 9973);
        CHECK(above.error == websocket_errc::message_too_long);
        CHECK(above.messages.empty());
    }
}

TEST_CASE("9 limits: kinds that are not accepted close with 1003")
{
    refused(client_frame(fin | binary, "x"), websocket_errc::unaccepted_kind, {.binary = false});
    answered(client_frame(fin | text, "x"), closed(websocket_errc::unaccepted_kind), websocket_errc::unaccepted_kind,
             {.text = false});
}

TEST_CASE("an end without a Close frame is no error between messages, and truncated_frame within one")
{
    const auto clean = tests::talk(client_frame(fin | text, "a"));
    CHECK(clean.messages == std::vector<std::string>{"a"});
    CHECK_FALSE(clean.error);
    CHECK(clean.close_code == 1006);
    const std::string whole = client_frame(text, "ab") + client_frame(fin | continuation, "c");
    for (std::size_t size = 1; size != whole.size(); ++size) {
        INFO(size);
        CHECK(tests::talk(whole.substr(0, size)).error == holdfast::errc::truncated_frame);
    }
}
