// holdfast: tests of the opening handshake of a WebSocket: what is accepted, what is rejected and how, and that no byte
// after the request is lost.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/websocket.hpp"

#include <array>
#include <string>
#include <string_view>

namespace net = holdfast::net;
using holdfast::accept_websocket;
using holdfast::websocket_accept_options;
using tests::client_frame;
using tests::request_head;
using tests::server_frame;
using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

/// RFC 6455, section 1.2.
request_head example()
{
    request_head head;
    for (const auto line :
         {"GET /chat HTTP/1.1", "Host: server.example.com", "upgrade: WebSocket", "Connection: keep-alive, Upgrade",
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://example.com",
          "Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Version: 13"})
        head.add(line);
    return head;
}

std::string response(const request_head& head, const websocket_accept_options& options = {})
{
    return std::string(accept_websocket(head.method, head, options).response.text());
}

/// The example with another line.
std::string response_with(std::string_view line, const websocket_accept_options& options = {})
{
    request_head head = example();
    head.add(line);
    return response(head, options);
}

} // namespace

TEST_CASE("the RFC's example is accepted with its key")
{
    CHECK(response(example()) == "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    CHECK(accept_websocket("GET", example()));
}

TEST_CASE("SHA-1 of texts of every length around a block")
{
    const auto digest = [](std::string_view text) {
        return holdfast::detail::base64_digest(holdfast::detail::sha1(text));
    };
    CHECK(digest("") == "2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
    CHECK(digest("abc") == "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
    CHECK(digest(std::string(55, 'a')) == "wci73CJ5bijA4VFj0giZtlYh1lo=");
    CHECK(digest(std::string(56, 'a')) == "wtszD2CDhUyZ1LW/tujynyAb5pk=");
    CHECK(digest(std::string(64, 'a')) == "AJi6gktcFkJ716ESKlpEKiXsZE0=");
    CHECK(digest(std::string(1000, 'a')) == "KR6abGaZSUm1e6XmUDYemPw2sbo=");
}

TEST_CASE("the server's first subprotocol that the client offers is chosen")
{
    constexpr std::array server{"v2"sv, "superchat"sv, "chat"sv};
    const auto handshake = accept_websocket("GET", example(), {.subprotocols = server});
    CHECK(handshake.subprotocol == "superchat");
    CHECK(handshake.response.text().find("\r\nSec-WebSocket-Protocol: superchat\r\n") != std::string_view::npos);
    constexpr std::array other{"v2"sv, "Chat"sv};
    CHECK(accept_websocket("GET", example(), {.subprotocols = other}).subprotocol.empty());
    CHECK(response(example(), {.subprotocols = other}).find("Sec-WebSocket-Protocol") == std::string::npos);
}

TEST_CASE("an empty subprotocol is none, in the request and in the options")
{
    constexpr std::array server{""sv, "chat"sv};
    for (const auto line :
         {"Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol: ,", "Sec-WebSocket-Protocol: , ,other"}) {
        request_head head = example();
        head.add(line);
        CHECK(accept_websocket("GET", head, {.subprotocols = server}).subprotocol.empty());
        CHECK(response(head, {.subprotocols = server}).find("Sec-WebSocket-Protocol") == std::string::npos);
    }
    request_head head = example();
    head.add("Sec-WebSocket-Protocol: ,, chat");
    CHECK(accept_websocket("GET", head, {.subprotocols = server}).subprotocol == "chat");
}

TEST_CASE("requests that are none of a WebSocket get a response that says why")
{
    const auto status = [](const std::string& text) { return text.substr(0, text.find("\r\n")); };
    request_head post = example();
    post.method = "POST";
    CHECK(status(response(post)) == "HTTP/1.1 405 Method Not Allowed");
    CHECK(response(post).find("\r\nAllow: GET\r\n") != std::string::npos);
    for (const auto line : {"Upgrade: h2c", "Upgrade:", "Connection: keep-alive", "Connection: close, upgraded"}) {
        CHECK(status(response_with(line)) == "HTTP/1.1 426 Upgrade Required");
        CHECK(response_with(line).find("\r\nUpgrade: websocket\r\n") != std::string::npos);
    }
    for (const auto line : {"Sec-WebSocket-Version: 8", "Sec-WebSocket-Version:", "Sec-WebSocket-Version: 13, 8"}) {
        CHECK(status(response_with(line)) == "HTTP/1.1 426 Upgrade Required");
        CHECK(response_with(line).find("\r\nSec-WebSocket-Version: 13\r\n") != std::string::npos);
    }
    for (const auto line :
         {"Sec-WebSocket-Key:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=",
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA", "Sec-WebSocket-Key: dGhlIHNhbXBs\rSBub25jZQ=="})
        CHECK(status(response_with(line)) == "HTTP/1.1 400 Bad Request");
    const std::string bad = response_with("Sec-WebSocket-Key: x");
    CHECK(bad.find("\r\nConnection: close\r\n") != std::string::npos);
    const auto body = bad.substr(bad.find("\r\n\r\n") + 4);
    CHECK(bad.find("\r\nContent-Length: " + std::to_string(body.size()) + "\r\n") != std::string::npos);
}

TEST_CASE("with a list of origins, pages of others are rejected, and clients that are no browser are not")
{
    constexpr std::array mine{"https://a.example"sv, "http://EXAMPLE.com"sv};
    constexpr std::array others{"https://a.example"sv};
    CHECK(accept_websocket("GET", example(), {.origins = mine}).status == 101);
    CHECK(accept_websocket("GET", example(), {.origins = others}).status == 403);
    request_head none = example();
    none.add("Origin:");
    CHECK(accept_websocket("GET", none, {.origins = others}).status == 101);
}

TEST_CASE("the request and the first frames in one packet, cut anywhere: every byte is read")
{
    const std::string bytes =
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" +
        client_frame(0x81, "Hello") + client_frame(0x89, "?") + client_frame(0x82, "") +
        client_frame(0x88, tests::close_payload(1001));
    const std::string frames = server_frame(0x8a, "?") + server_frame(0x81, "Hello") + server_frame(0x82, "") +
                               server_frame(0x88, tests::close_payload(1001));
    for (std::size_t cut = 1; cut <= bytes.size(); ++cut) {
        const auto session = tests::talk_to(
            [](auto& peer, auto& result) { return tests::accept_and_echo(peer, {}, {}, result); }, bytes, cut);
        INFO("cut at " << cut);
        CHECK(session.messages == std::vector<std::string>{"Hello", ""});
        CHECK(session.close_code == 1001);
        const auto head = session.answer.find("\r\n\r\n");
        REQUIRE(head != std::string::npos);
        CHECK(session.answer.size() - head - 4 == frames.size()); // the pong passes messages that are still queued
        CHECK(session.answer.ends_with(server_frame(0x88, tests::close_payload(1001))));
    }
}

TEST_CASE("many bytes after the request are taken over, beyond the buffer of the request")
{
    net::io_context io;
    auto both = tests::socket_pair(io);
    holdfast::connection_guard<tests::tcp::socket> peer(std::move(both.first));
    holdfast::outbox outbox{peer};
    holdfast::frame_reader lines{peer, {.max_frame_bytes = 100, .buffer_bytes = 512}};
    const std::string first(280, 'a');
    const std::string bytes = "GET\n" + client_frame(0x82, first) + client_frame(0x82, "b");
    net::write(both.second, net::buffer(bytes));
    std::string line;
    lines.async_next([&](holdfast::error_code, auto read) { line = read.value(); });
    tests::run(io);
    CHECK(line == "GET");
    holdfast::websocket_reader messages{std::move(lines), outbox};
    CHECK(lines.buffered().empty());
    for (const std::string& expected : {first, "b"s}) {
        std::string message;
        messages.async_next([&](holdfast::error_code, auto read) { message = read.value().data; });
        tests::run(io);
        CHECK(message == expected);
    }
}
