// holdfast: how long a TLS client's first message is.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_CLIENT_HELLO_HPP
#define HOLDFAST_ADAPTERS_DETAIL_CLIENT_HELLO_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace holdfast::detail {

/// How many bytes of a TLS client must have arrived before OpenSSL can answer its ClientHello, or refuse it without
/// waiting for more: as far as the first bytes say, and more than these while they do not suffice. The ClientHello may
/// be spread over several records.
inline std::size_t client_hello_size(std::span<const std::byte> begun) noexcept
{
    constexpr std::size_t record_header = 5;
    constexpr std::size_t message_header = 4;
    constexpr auto handshake = std::byte(22);
    constexpr auto client_hello = std::byte(1);
    const auto at = [](std::span<const std::byte> bytes, std::size_t i) {
        return std::to_integer<std::size_t>(bytes[i]);
    };

    if (begun.size() < record_header) return record_header;
    if ((begun[0] & std::byte(0x80)) != std::byte(0) && begun[2] == client_hello) // of SSL 2, which OpenSSL still reads
        return 2 + ((at(begun, 0) & 0x7FU) << 8U | at(begun, 1));
    if (begun[1] != std::byte(3)) return record_header; // no TLS: refused by these bytes

    std::array<std::byte, message_header> header{};
    std::size_t received = 0; // of the message
    for (std::size_t record = 0;;) {
        if (begun.size() < record + record_header) return record + record_header;
        const std::size_t length = at(begun, record + 3) << 8U | at(begun, record + 4);
        const std::size_t end = record + record_header + length;
        if (begun.size() < end || begun[record] != handshake) return end;
        for (std::size_t i = received; i < std::min(received + length, message_header); ++i)
            header[i] = begun[record + record_header + i - received];
        received += length;
        if (received != 0 && header[0] != client_hello) return end;
        if (received >= message_header &&
            received - message_header >= (at(header, 1) << 16U | at(header, 2) << 8U | at(header, 3)))
            return end;
        record = end;
    }
}

} // namespace holdfast::detail

#endif
