// holdfast: the bodies of exchange.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HTTP_IMPL_EXCHANGE_IPP
#define HOLDFAST_HTTP_IMPL_EXCHANGE_IPP

#include <holdfast/http/exchange.hpp>

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace holdfast {

HOLDFAST_DECL payload http_exchange::response(unsigned status, std::string_view content_type, std::string_view content,
                                              std::string_view fields) const
{
    if (status == 205) content = {};
    std::string text = start(status, content_type, fields);
    if (status != 304) add_length(text, status, content.size());
    return payload(text.append("\r\n"), has_content(status) ? content : std::string_view());
}

HOLDFAST_DECL payload http_exchange::text_response(unsigned status, std::string_view line,
                                                   std::string_view fields) const
{
    std::string text(line);
    text.append("\n");
    return response(status, "text/plain; charset=utf-8", text, fields);
}

HOLDFAST_DECL payload http_exchange::response_head(unsigned status, std::string_view content_type,
                                                   std::string_view fields)
{
    const bool streams = !is_bare(status) && status != 304;
    if (old_ && streams) keeps_alive_ = false;
    std::string text = start(status, content_type, fields);
    if (!old_ && streams) text.append("Transfer-Encoding: chunked\r\n");
    return payload(text.append("\r\n"));
}

HOLDFAST_DECL payload http_exchange::response_head(unsigned status, std::string_view content_type,
                                                   std::uint64_t content_bytes, std::string_view fields) const
{
    std::string text = start(status, content_type, fields);
    add_length(text, status, content_bytes);
    return payload(text.append("\r\n"));
}

HOLDFAST_DECL bool http_exchange::parse(std::string_view length) noexcept
{
    const char* const end = length.data() + length.size();
    const auto parsed = std::from_chars(length.data(), end, content_bytes_);
    return parsed.ec == std::errc() && parsed.ptr == end;
}

HOLDFAST_DECL void http_exchange::add_length(std::string& text, unsigned status, std::uint64_t content_bytes) const
{
    if (!is_bare(status)) text.append("Content-Length: ").append(std::to_string(content_bytes)).append("\r\n");
}

HOLDFAST_DECL std::string http_exchange::start(unsigned status, std::string_view content_type,
                                               std::string_view fields) const
{
    std::string text("HTTP/1.1 ");
    text.append(std::to_string(status)).append(" ").append(http_reason(status)).append("\r\n");
    if (!content_type.empty()) text.append("Content-Type: ").append(content_type).append("\r\n");
    text.append(fields);
    if (!keeps_alive_)
        text.append("Connection: close\r\n");
    else if (old_)
        text.append("Connection: keep-alive\r\n");
    return text;
}

} // namespace holdfast

#endif
