// holdfast: PROXY headers of version 2, as a load balancer makes them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_PROXY_HEADERS_HPP
#define HOLDFAST_TESTS_SUPPORT_PROXY_HEADERS_HPP

#include <holdfast/asio.hpp>

#include <string>

namespace tests {

/// With the command and the family as they are given, and what follows the length.
inline std::string proxy_v2(char command, char family, const std::string& rest)
{
    std::string made("\r\n\r\n\0\r\nQUIT\n", 12);
    made += command;
    made += family;
    made += static_cast<char>(rest.size() / 256);
    made += static_cast<char>(rest.size() % 256);
    return made + rest;
}

template <class Address>
std::string proxy_v2_fields(char family, const Address& address, unsigned short port, const std::string& fields)
{
    const auto bytes = address.to_bytes();
    std::string rest(bytes.begin(), bytes.end());
    rest += rest; // the destination
    for (int i = 0; i != 2; ++i) {
        rest += static_cast<char>(port / 256);
        rest += static_cast<char>(port % 256);
    }
    return proxy_v2('\x21', family, rest + fields);
}

/// Of a client, with additional fields.
inline std::string proxy_v2_tcp4(const holdfast::net::ip::tcp::endpoint& client, const std::string& fields = {})
{
    return proxy_v2_fields('\x11', client.address().to_v4(), client.port(), fields);
}
inline std::string proxy_v2_tcp6(const holdfast::net::ip::tcp::endpoint& client, const std::string& fields = {})
{
    return proxy_v2_fields('\x21', client.address().to_v6(), client.port(), fields);
}

} // namespace tests

#endif
