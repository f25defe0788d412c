// holdfast: a WebSocket client of Boost.Beast's, a program of its own: messages of every form, fragments, a ping, a code.
// SPDX-License-Identifier: BSL-1.0
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>

#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

namespace beast = boost::beast;
namespace websocket = beast::websocket;
using boost::asio::ip::tcp;

namespace {

void check(bool holds, const char* what)
{
    if (!holds) throw std::runtime_error(what);
}

std::string echo(websocket::stream<tcp::socket>& ws, const std::string& message, bool text)
{
    ws.text(text);
    ws.write(boost::asio::buffer(message));
    beast::flat_buffer answer;
    ws.read(answer);
    check(ws.got_text() == text, "the kind has changed");
    return beast::buffers_to_string(answer.data());
}

} // namespace

int main(int argc, char** argv)
{
    if (argc < 2) return 2;
    boost::asio::io_context io;
    websocket::stream<tcp::socket> ws(io);
    ws.next_layer().connect(
        {boost::asio::ip::address_v4::loopback(), static_cast<unsigned short>(std::atoi(argv[argc - 1]))});
    ws.set_option(websocket::stream_base::decorator(
        [](websocket::request_type& request) { request.set("Sec-WebSocket-Protocol", "chat"); }));
    const bool deflate = argc == 3; // "deflate" comes before the port
    websocket::permessage_deflate offer;
    offer.client_enable = deflate;
    offer.server_max_window_bits = 14;
    offer.client_max_window_bits = 12;
    offer.msg_size_threshold = 0;
    ws.set_option(offer);
    websocket::response_type response;
    ws.handshake(response, "localhost", "/chat");
    std::cout << response["Sec-WebSocket-Protocol"] << std::endl;
    check((response["Sec-WebSocket-Extensions"].find("permessage-deflate") != beast::string_view::npos) == deflate,
          "the extension is not as expected");
    for (const std::size_t size : {0, 1, 125, 126, 127, 65535, 65536, 1 << 20})
        for (const bool text : {true, false}) {
            const std::string message(size, text ? 'x' : '\xff');
            check(echo(ws, message, text) == message, "a message has changed");
        }
    ws.auto_fragment(true);
    ws.write_buffer_bytes(16);
    const std::string message(1000, '*');
    check(echo(ws, message, true) == message, "fragments have changed");
    std::string pong;
    ws.control_callback([&](websocket::frame_type kind, beast::string_view text) {
        if (kind == websocket::frame_type::pong) pong = std::string(text);
    });
    ws.ping("?");
    check(echo(ws, "after the ping", true) == "after the ping", "the message after the ping has changed");
    check(pong == "?", "there is no pong");
    ws.close({websocket::close_code::going_away, "bye"});
    std::cout << static_cast<unsigned>(ws.reason().code) << std::endl;
}
