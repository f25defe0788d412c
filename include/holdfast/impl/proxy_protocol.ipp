// holdfast: the bodies of proxy_protocol.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_PROXY_PROTOCOL_IPP
#define HOLDFAST_IMPL_PROXY_PROTOCOL_IPP

#include <holdfast/proxy_protocol.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>

#include <arpa/inet.h>

namespace holdfast {

HOLDFAST_DECL std::size_t proxy_header_parser::parse(std::string_view bytes) noexcept
{
    std::size_t used = 0;
    while (used != bytes.size() && state_ == state::incomplete) {
        if (total_ != 0) { // only the fields of version 2 are left
            const std::size_t n = std::min(total_ - size_, bytes.size() - used);
            if (size_ < bytes_.size()) // beyond them: skipped
                std::memcpy(bytes_.data() + size_, bytes.data() + used, std::min(n, bytes_.size() - size_));
            size_ += n;
            used += n;
            if (size_ == total_) end_binary();
        } else {
            bytes_[size_++] = bytes[used++];
            state_ = bytes_[0] == 'P' ? take_text() : take_binary();
        }
    }
    return used;
}

HOLDFAST_DECL proxy_header_parser::state proxy_header_parser::take_text() noexcept
{
    if (size_ <= text_begin.size())
        return bytes_[size_ - 1] == text_begin[size_ - 1] ? state::incomplete : state::failed;
    if (bytes_[size_ - 1] == '\n') {
        if (bytes_[size_ - 2] != '\r') return state::failed;
        return end_text({bytes_.data() + text_begin.size(), size_ - text_begin.size() - 2}) ? state::done
                                                                                            : state::failed;
    }
    return size_ == max_text_bytes ? state::failed : state::incomplete;
}

HOLDFAST_DECL bool proxy_header_parser::end_text(std::string_view line) noexcept
{
    const std::string_view protocol = next_word(line);
    if (protocol == "UNKNOWN") return true; // whatever follows
    if (protocol != "TCP4" && protocol != "TCP6") return false;
    const int family = protocol == "TCP4" ? AF_INET : AF_INET6;
    const auto source = address_of(family, next_word(line));
    const auto destination = address_of(family, next_word(line));
    const auto source_port = port_of(next_word(line));
    const auto destination_port = port_of(line);
    if (!source || !destination || !source_port || !destination_port) return false;
    header_.source.emplace(*source, *source_port);
    header_.destination.emplace(*destination, *destination_port);
    return true;
}

HOLDFAST_DECL std::string_view proxy_header_parser::next_word(std::string_view& line) noexcept
{
    const auto end = line.find(' ');
    const std::string_view word = line.substr(0, end);
    line = end == line.npos ? std::string_view() : line.substr(end + 1);
    return word;
}

HOLDFAST_DECL std::optional<net::ip::address> proxy_header_parser::address_of(int family,
                                                                              std::string_view text) noexcept
{
    std::array<char, INET6_ADDRSTRLEN> copy{};
    if (text.size() >= copy.size() || text.find('\0') != text.npos) return std::nullopt;
    std::copy(text.begin(), text.end(), copy.begin());
    net::ip::address_v4::bytes_type v4;
    net::ip::address_v6::bytes_type v6;
    if (::inet_pton(family, copy.data(), family == AF_INET ? static_cast<void*>(v4.data()) : v6.data()) != 1)
        return std::nullopt;
    if (family == AF_INET) return net::ip::address(net::ip::address_v4(v4));
    return net::ip::address(net::ip::address_v6(v6));
}

HOLDFAST_DECL std::optional<std::uint16_t> proxy_header_parser::port_of(std::string_view text) noexcept
{
    std::uint16_t port = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
    if (text.size() > 1 && text[0] == '0') return std::nullopt;
    return port;
}

HOLDFAST_DECL proxy_header_parser::state proxy_header_parser::take_binary() noexcept
{
    if (size_ <= signature.size()) return bytes_[size_ - 1] == signature[size_ - 1] ? state::incomplete : state::failed;
    if (size_ != fixed_size) return state::incomplete;
    const unsigned command = byte(12);
    if (command != 0x20 && command != 0x21) return state::failed;
    header_.local = command == 0x20;
    if ((byte(13) >> 4U) > 3 || (byte(13) & 0xfU) > 2) return state::failed;
    const std::size_t length = byte(14) * std::size_t{256} + byte(15);
    if (!header_.local && length < least_length()) return state::failed;
    if (fixed_size + length > limit_) return state::failed;
    total_ = fixed_size + length;
    if (length == 0) end_binary();
    return length == 0 ? state::done : state::incomplete;
}

HOLDFAST_DECL std::size_t proxy_header_parser::least_length() const noexcept
{
    switch (byte(13) >> 4U) {
    case 1:
        return 2 * 4 + 2 * 2;
    case 2:
        return 2 * 16 + 2 * 2;
    case 3:
        return addresses_size;
    default:
        return 0;
    }
}

HOLDFAST_DECL void proxy_header_parser::end_binary() noexcept
{
    state_ = state::done;
    if (header_.local) return; // its addresses mean nothing
    if (byte(13) == 0x11) take_addresses<net::ip::address_v4>();
    if (byte(13) == 0x21) take_addresses<net::ip::address_v6>();
}

} // namespace holdfast

#endif
