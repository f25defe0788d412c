// holdfast: ip_network, a range of IP addresses such as 10.0.0.0/8.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IP_NETWORK_HPP
#define HOLDFAST_IP_NETWORK_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/connection/address_table.hpp>

#include <charconv>
#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace holdfast {

/// The addresses that begin with the same bits: 10.0.0.0/8, 2001:db8::/32, or one address. 24 bytes; holds no memory.
///
///     const holdfast::ip_network office{"192.0.2.0/24"};
///     if (office.contains(address)) return holdfast::address_rule::exempt;
class ip_network {
public:
    /// Parses an address, which may be followed by a slash and the number of its leading bits that count: 0 to 32 of an
    /// IPv4 address, 0 to 128 of an IPv6 address.
    ///
    /// Exceptions: std::invalid_argument for another text, and where a bit is set that does not count; std::bad_alloc.
    template <std::convertible_to<std::string_view> Text>
    ip_network(const Text& text) : ip_network(parse(std::string_view(text)))
    {
    }

    /// Returns whether the address belongs to it. An IPv4 address that is mapped to IPv6 is an IPv4 address.
    [[nodiscard]] bool contains(const net::ip::address& address) const
    {
        const net::ip::address plain = detail::unmapped(address);
        return plain.is_v4() == v4_ && key_of(plain, prefix_) == key_;
    }

    bool operator==(const ip_network&) const = default;

private:
    ip_network() = default;

    static detail::address_key key_of(const net::ip::address& address, unsigned prefix)
    {
        return detail::address_key::of(address, prefix, prefix);
    }

    static ip_network parse(std::string_view text)
    {
        const auto slash = text.find('/');
        error_code ec;
        const auto address = detail::unmapped(net::ip::make_address(std::string(text.substr(0, slash)), ec));
        ip_network made;
        made.v4_ = address.is_v4();
        const unsigned longest = made.v4_ ? 32 : 128;
        made.prefix_ = longest;
        bool valid = !ec;
        if (slash != text.npos) {
            const char* const end = text.data() + text.size();
            const auto [stop, wrong] = std::from_chars(text.data() + slash + 1, end, made.prefix_);
            valid = valid && wrong == std::errc() && stop == end && made.prefix_ <= longest;
        }
        if (!valid)
            throw std::invalid_argument("an IP network is an address with a prefix, such as 10.0.0.0/8, not '" +
                                        std::string(text) + "'");
        made.key_ = key_of(address, made.prefix_);
        if (made.key_ != key_of(address, longest))
            throw std::invalid_argument("the IP network '" + std::string(text) + "' has bits set beyond its prefix");
        return made;
    }

    detail::address_key key_;
    unsigned prefix_ = 0;
    bool v4_ = false;
};

} // namespace holdfast

#endif
