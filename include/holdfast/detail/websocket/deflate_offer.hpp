// holdfast: the negotiation of permessage-deflate (RFC 7692, section 7.1), server side. No I/O; standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_DEFLATE_OFFER_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_DEFLATE_OFFER_HPP

#include <holdfast/detail/text_list.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace holdfast::detail {

/// As `any_list_item`, of a list whose separators do not count within quoted strings.
template <class F>
bool any_quoted_item(std::string_view list, char separator, F f)
{
    std::size_t begin = 0;
    bool quoted = false;
    for (std::size_t i = 0; i <= list.size(); ++i) {
        if (i == list.size() || (list[i] == separator && !quoted)) {
            if (f(detail::trimmed(list.substr(begin, i - begin)))) return true;
            begin = i + 1;
        } else if (list[i] == '"') {
            quoted = !quoted;
        } else if (list[i] == '\\' && quoted && i + 1 != list.size()) {
            ++i;
        }
    }
    return false;
}

/// One offer of a client, as far as it is valid.
struct deflate_offer {
    bool valid = false;
    unsigned server_bits = 0; // 0: no limit
    unsigned client_bits = 0; // 0: the client cannot limit its window

    /// Reads an item of Sec-WebSocket-Extensions. One of another extension, or with parameters that are unknown, twice
    /// there or invalid, is not valid.
    static deflate_offer parse(std::string_view item) noexcept
    {
        deflate_offer offer;
        bool server_takeover = false;
        bool client_takeover = false;
        const auto once = [](bool& seen) { return !std::exchange(seen, true); };
        bool first = true;
        bool good = true;
        detail::any_quoted_item(item, ';', [&](std::string_view part) {
            const auto equals = part.find('=');
            const std::string_view name = detail::trimmed(part.substr(0, equals));
            const bool has_value = equals != part.npos;
            const std::string_view value = has_value ? detail::trimmed(part.substr(equals + 1)) : std::string_view();
            const auto is = [&](std::string_view known) { return detail::equal_ignoring_case(name, known); };
            if (std::exchange(first, false))
                good = is("permessage-deflate") && !has_value;
            else if (is("server_no_context_takeover"))
                good = once(server_takeover) && !has_value;
            else if (is("client_no_context_takeover"))
                good = once(client_takeover) && !has_value;
            else if (is("server_max_window_bits"))
                good = offer.server_bits == 0 && (offer.server_bits = bits(value)) != 0;
            else if (is("client_max_window_bits"))
                good = offer.client_bits == 0 && (offer.client_bits = has_value ? bits(value) : 15) != 0;
            else
                good = false;
            return !good;
        });
        offer.valid = good;
        return offer;
    }

private:
    /// 8 to 15 without a leading zero, also in quotes; else 0.
    static unsigned bits(std::string_view value) noexcept
    {
        if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
        if (value == "8" || value == "9") return static_cast<unsigned>(value[0] - '0');
        if (value.size() == 2 && value[0] == '1' && value[1] >= '0' && value[1] <= '5')
            return 10 + static_cast<unsigned>(value[1] - '0');
        return 0;
    }
};

/// Accepts the first offer that fits the windows of the server's; returns the header field of the response, empty if
/// there is none.
inline std::string accept_deflate(std::string_view offers, unsigned server_bits, unsigned client_bits)
{
    std::string field;
    detail::any_quoted_item(offers, ',', [&](std::string_view item) {
        const deflate_offer offer = deflate_offer::parse(item);
        if (!offer.valid || (offer.server_bits != 0 && offer.server_bits < server_bits) ||
            (client_bits < 15 && offer.client_bits == 0))
            return false;
        field.append("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                     "client_no_context_takeover");
        if (offer.server_bits != 0) field.append("; server_max_window_bits=").append(std::to_string(server_bits));
        if (client_bits < 15)
            field.append("; client_max_window_bits=").append(std::to_string(std::min(client_bits, offer.client_bits)));
        field.append("\r\n");
        return true;
    });
    return field;
}

} // namespace holdfast::detail

#endif
