// holdfast: what must not compile with accept_websocket; the build compiles it by REFUSED, and reads why.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/websocket_handshake.hpp>

#include <string>
#include <string_view>

#if REFUSED == 1
unsigned status()
{
    return holdfast::accept_websocket("GET", [](std::string_view) { return std::string("x"); }).status;
}
#else
unsigned status()
{
    const std::string value("x");
    return holdfast::accept_websocket("GET", [&](std::string_view) -> const std::string& { return value; }).status +
           holdfast::accept_websocket("GET", [](std::string_view) { return std::string_view("x"); }).status +
           holdfast::accept_websocket("GET", [](std::string_view) { return "x"; }).status;
}
#endif
