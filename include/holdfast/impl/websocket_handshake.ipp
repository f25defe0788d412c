// holdfast: the bodies of websocket_handshake.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_WEBSOCKET_HANDSHAKE_IPP
#define HOLDFAST_IMPL_WEBSOCKET_HANDSHAKE_IPP

#include <holdfast/websocket_handshake.hpp>

#include <string>
#include <string_view>

namespace holdfast::detail {

HOLDFAST_DECL bool is_websocket_key(std::string_view key) noexcept
{
    return key.size() == 24 && key.ends_with("==") && key.substr(0, 22).find_first_not_of(digest_alphabet) == key.npos;
}

HOLDFAST_DECL websocket_handshake reject_websocket(unsigned status, std::string_view phrase, std::string_view headers,
                                                   std::string_view why)
{
    std::string text("HTTP/1.1 ");
    text.append(std::to_string(status)).append(" ").append(phrase).append("\r\n").append(headers);
    text.append("Content-Type: text/plain\r\nConnection: close\r\nContent-Length: ");
    text.append(std::to_string(why.size() + 1)).append("\r\n\r\n").append(why).append("\n");
    return {.status = status, .response = payload(text)};
}

HOLDFAST_DECL std::string websocket_accept_key(std::string_view key)
{
    std::string text(key);
    text.append("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    return detail::base64_digest(detail::sha1(text));
}

} // namespace holdfast::detail

#endif
