// holdfast: the server's side of the WebSocket opening handshake. No I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_WEBSOCKET_HANDSHAKE_HPP
#define HOLDFAST_WEBSOCKET_HANDSHAKE_HPP

#include <holdfast/detail/linkage.hpp>
#include <holdfast/detail/text_list.hpp>
#include <holdfast/detail/websocket/deflate_offer.hpp>
#include <holdfast/detail/websocket/sha1.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/websocket_compression.hpp>

#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace holdfast {

/// Options of `accept_websocket`. Lifetime: the texts must exist during the call; those of `subprotocols` as long as
/// `websocket_handshake::subprotocol` is used.
struct websocket_accept_options {
    /// The subprotocols that the server speaks, the preferred one first. The first one that the client offers is
    /// chosen; none if it offers none of these, or the list is empty.
    std::span<const std::string_view> subprotocols{};
    /// The values of `Origin` that are accepted, such as `https://example.org`. A page of another origin is rejected
    /// with 403: browsers send cookies with it. A client without `Origin` is no browser, and is accepted. Empty: all.
    std::span<const std::string_view> origins{};
    /// Compression to negotiate, such as a `websocket_deflate`; must outlive the connection. Null: none.
    websocket_compression* compression = nullptr;
};

/// The result of `accept_websocket`: what to send, and what was agreed.
struct websocket_handshake {
    /// The status code of the response: 101 if the connection is a WebSocket from now on; else 400, 403, 405 or 426.
    unsigned status = 101;
    /// The whole response. After one with another status than 101 the connection is to be closed.
    payload response{};
    /// The subprotocol that was chosen; empty if none.
    std::string_view subprotocol{};
    /// The compression that was negotiated, for the options of the `websocket_reader` and for `websocket_frame`; null
    /// if none.
    websocket_compression* compression = nullptr;

    /// Returns whether the connection is a WebSocket.
    explicit operator bool() const noexcept { return status == 101; }
};

namespace detail {

/// Whether it is base64 of 16 bytes.
HOLDFAST_DECL bool is_websocket_key(std::string_view key) noexcept;

HOLDFAST_DECL websocket_handshake reject_websocket(unsigned status, std::string_view phrase, std::string_view headers,
                                                   std::string_view why);

HOLDFAST_DECL std::string websocket_accept_key(std::string_view key);

} // namespace detail

/// Checks the request for a WebSocket that any HTTP parser has read, and makes the response: 101, or one that says why
/// not. `header(name)` returns the value of a header field, empty if there is none; names are compared without regard
/// to case. For a field that occurs several times it should return the values separated by commas.
///
/// It performs no I/O. Push the response first of all into the connection's outbox:
///
///     const auto handshake = holdfast::accept_websocket(request.method, header);
///     outbox.push(handshake.response);
///     if (!handshake) co_return co_await holdfast::async_close_websocket(peer, outbox);
///
/// Exceptions: std::bad_alloc, and what `header` throws.
template <class Header>
    requires std::is_invocable_r_v<std::string_view, Header&, std::string_view>
[[nodiscard]] websocket_handshake accept_websocket(std::string_view method, Header&& header,
                                                   const websocket_accept_options& options = {})
{
    using result = std::invoke_result_t<Header&, std::string_view>;
    static_assert(std::is_reference_v<result> || std::is_trivially_copyable_v<result>,
                  "header(name) must return a view of the value, or a reference: a string by value would be gone");
    const auto value = [&](std::string_view name) { return detail::trimmed(std::string_view(header(name))); };
    const auto has = [&](std::string_view name, std::string_view token) {
        return detail::any_list_item(value(name),
                                     [&](std::string_view item) { return detail::equal_ignoring_case(item, token); });
    };
    if (method != "GET")
        return detail::reject_websocket(405, "Method Not Allowed", "Allow: GET\r\n", "A WebSocket begins with GET.");
    if (!has("Connection", "upgrade") || !has("Upgrade", "websocket"))
        return detail::reject_websocket(
            426, "Upgrade Required", "Upgrade: websocket\r\n",
            "This resource is a WebSocket: send Connection: Upgrade and Upgrade: websocket.");
    if (value("Sec-WebSocket-Version") != "13")
        return detail::reject_websocket(426, "Upgrade Required", "Sec-WebSocket-Version: 13\r\n",
                                        "Only version 13 of the WebSocket protocol is spoken here.");
    const std::string key(value("Sec-WebSocket-Key"));
    if (!detail::is_websocket_key(key))
        return detail::reject_websocket(400, "Bad Request", {}, "Sec-WebSocket-Key must be 16 bytes in base64.");
    if (const std::string_view origin = value("Origin"); !options.origins.empty() && !origin.empty()) {
        bool known = false;
        for (const std::string_view each : options.origins)
            known = known || detail::equal_ignoring_case(each, origin);
        if (!known) return detail::reject_websocket(403, "Forbidden", {}, "Pages of this origin are not accepted.");
    }

    websocket_handshake accepted;
    std::string text("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: ");
    text.append(detail::websocket_accept_key(key)).append("\r\n");
    const std::string offers(value("Sec-WebSocket-Protocol"));
    for (const std::string_view each : options.subprotocols) {
        if (each.empty() || !detail::any_list_item(offers, [&](std::string_view offer) { return offer == each; }))
            continue;
        accepted.subprotocol = each;
        text.append("Sec-WebSocket-Protocol: ").append(each).append("\r\n");
        break;
    }
    if (options.compression != nullptr) {
        const std::string field =
            detail::accept_deflate(value("Sec-WebSocket-Extensions"), options.compression->server_window_bits(),
                                   options.compression->client_window_bits());
        if (!field.empty()) accepted.compression = options.compression;
        text.append(field);
    }
    text.append("\r\n");
    accepted.response = payload(text);
    return accepted;
}

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/websocket_handshake.ipp>
#endif

#endif
