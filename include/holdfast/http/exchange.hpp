// holdfast: http_exchange, what an HTTP/1.1 request means for its response, and the responses as payloads. No I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HTTP_EXCHANGE_HPP
#define HOLDFAST_HTTP_EXCHANGE_HPP

#include <holdfast/detail/linkage.hpp>
#include <holdfast/detail/text_list.hpp>
#include <holdfast/payload.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace holdfast {

/// Returns the reason phrase of a status code, such as "Not Found"; "Unknown" for a code that is not in RFC 9110.
[[nodiscard]] constexpr std::string_view http_reason(unsigned status) noexcept
{
    switch (status) {
    case 100:
        return "Continue";
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 417:
        return "Expectation Failed";
    case 426:
        return "Upgrade Required";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

/// Options of an `http_exchange`.
struct http_exchange_options {
    /// Maximum size of the request's content in bytes. 0: a request with content is refused with 413.
    std::uint64_t max_content_bytes = 0;
    /// Whether the connection ends after this response: it has had as many requests as it may have, or is draining.
    bool last = false;
};

/// What a request means for its response, from what any HTTP parser has read of its head: whether it is to be refused
/// (RFC 9110, 9112), how long its content is, whether the response has content, how its end is marked, and whether the
/// connection stays. It makes the responses as payloads, for an `outbox` or for a write of `net::buffer(made.text())`. It
/// performs no I/O and refers to nothing.
///
/// **Header fields are not checked.** The content type and the `fields` of a response are copied as they are: the
/// caller must not pass what a client has sent, before it has removed CR, LF and NUL. Each field ends with CRLF.
///
/// Thread safety: distinct objects: safe. Shared objects: unsafe.
/// Exceptions: std::bad_alloc where a response is made.
///
///     const holdfast::http_exchange exchange{request.method, request.version, header, {.last = served == 100}};
///     if (!exchange)
///         outbox.push(exchange.refusal());
///     else if (request.target == "/")
///         outbox.push(exchange.response(200, "text/html", page));
///     else
///         outbox.push(exchange.text_response(404, "There is only / here."));
class http_exchange {
public:
    /// Examines a request. `version` is 10 or 11; any other is refused with 505. `header(name)` returns the value of a
    /// field, empty if there is none; of a field that occurs several times the values, separated by commas. Names are
    /// compared without regard to case.
    ///
    /// Exceptions: what `header` throws.
    template <class Header>
        requires std::is_invocable_r_v<std::string_view, Header&, std::string_view>
    http_exchange(std::string_view method, unsigned version, Header&& header, const http_exchange_options& options = {})
        : why_(), status_(0), head_(method == "HEAD"), connect_(method == "CONNECT"), old_(version < 11)
    {
        const auto value = [&](std::string_view name) { return detail::trimmed(std::string_view(header(name))); };
        const auto has = [&](std::string_view name, std::string_view token) {
            return detail::any_list_item(
                value(name), [&](std::string_view item) { return detail::equal_ignoring_case(item, token); });
        };
        keeps_alive_ =
            !options.last && !has("Connection", "close") && (!old_ || has("Connection", "keep-alive")); // RFC 9112 9.3
        const std::string_view coding = value("Transfer-Encoding");
        const std::string_view length = value("Content-Length");
        if (version != 10 && version != 11)
            refuse(505, "HTTP/1.1 is spoken here.");
        else if (const std::string_view host = value("Host");
                 !old_ && (host.empty() || host.find_first_of(", \t/") != host.npos))
            refuse(400, "HTTP/1.1 requires one Host field.");
        else if (!coding.empty() && (old_ || !length.empty()))
            refuse(400, "The length of the content is ambiguous: send Content-Length alone.");
        else if (detail::equal_ignoring_case(coding, "chunked"))
            refuse(411, "Send Content-Length: chunked requests are not read here.");
        else if (!coding.empty())
            refuse(501, "This Transfer-Encoding is not known here.");
        else if (!length.empty() && !parse(length))
            refuse(400, "Content-Length is not a number.");
        else if (content_bytes_ > options.max_content_bytes)
            refuse(413, options.max_content_bytes == 0 ? "Requests have no content here."
                                                       : "The content exceeds the limit of this resource.");
        else if (const std::string_view expected = value("Expect"); !old_ && !expected.empty()) {
            if (!detail::equal_ignoring_case(expected, "100-continue"))
                refuse(417, "Only 100-continue can be expected here.");
            else
                expects_continue_ = content_bytes_ != 0;
        }
    }

    /// Makes the exchange of a request that could not be read: it cannot be served, `refusal()` is a 400, and each
    /// response is the last one of the connection.
    http_exchange() noexcept = default;

    /// Returns whether the request can be served. If not, send `refusal()`.
    explicit operator bool() const noexcept { return status_ == 0; }
    /// Returns the status code of the refusal; 0 if there is none.
    [[nodiscard]] unsigned refusal_status() const noexcept { return status_; }
    /// Returns the response to a request that cannot be served. It ends the connection: the content is not read.
    [[nodiscard]] payload refusal() const { return text_response(status_, why_); }

    /// Returns whether the connection is used for another request.
    [[nodiscard]] bool keeps_alive() const noexcept { return keeps_alive_; }
    /// Makes this response the last one of the connection. Call it before the response is made.
    void close_after() noexcept { keeps_alive_ = false; }
    /// Returns whether the response has no content, whatever its header fields say: the method is HEAD.
    [[nodiscard]] bool head_only() const noexcept { return head_; }
    /// Returns whether the head of a response with that status is followed by content, which may be empty. Not for
    /// HEAD, for 1xx, 204 and 304, and for 2xx to CONNECT.
    [[nodiscard]] bool has_content(unsigned status) const noexcept
    {
        return !head_ && !is_bare(status) && status != 304;
    }
    /// Returns the size of the request's content, which follows its head.
    [[nodiscard]] std::uint64_t content_bytes() const noexcept { return content_bytes_; }
    /// Returns whether the client waits for `continue_response()` before it sends the content.
    [[nodiscard]] bool expects_continue() const noexcept { return expects_continue_; }
    /// Makes the response "100 Continue", which precedes the actual one.
    [[nodiscard]] static payload continue_response() { return payload("HTTP/1.1 100 Continue\r\n\r\n"); }

    /// Makes a whole response. `fields` are further header fields, each with CRLF at its end, which are not checked.
    ///
    /// The content is left out where the response has none (`has_content`) or must be empty (205). `Content-Length` is
    /// left out for 1xx and 204, where HTTP forbids it, and for 304, where it is the length of another response: pass
    /// it to `response_head`.
    [[nodiscard]] HOLDFAST_DECL payload response(unsigned status, std::string_view content_type,
                                                 std::string_view content, std::string_view fields = {}) const;

    /// Makes a response of one line of plain text, such as what is wrong and what to do. `status` and `fields` are as
    /// for `response`.
    [[nodiscard]] HOLDFAST_DECL payload text_response(unsigned status, std::string_view line,
                                                      std::string_view fields = {}) const;

    /// Makes the head of a response whose content is streamed without its size: to be followed by the parts of
    /// `framing::http_chunked` (`framed`, `http_chunk`) if `chunked()`, and by the content alone otherwise, whose end
    /// is then that of the connection. Where `has_content(status)` is false, nothing follows, and the head of 1xx, 204
    /// and 304 has no `Transfer-Encoding`. For 205 the content must be empty.
    [[nodiscard]] HOLDFAST_DECL payload response_head(unsigned status, std::string_view content_type,
                                                      std::string_view fields = {});
    /// Makes the head of a response whose content is streamed and has that size (`serialized_size`): to be followed by
    /// the content alone, such as by `framing::content_length`, and the connection stays for HTTP/1.0, too. Content of
    /// another size breaks the connection: `framing::content_length` ends it with an error then. Where
    /// `has_content(status)` is false, nothing follows; for 304 the size is that of the content of a 200, and the head
    /// of 1xx and 204 has no size. For 205 it must be 0.
    [[nodiscard]] HOLDFAST_DECL payload response_head(unsigned status, std::string_view content_type,
                                                      std::uint64_t content_bytes, std::string_view fields = {}) const;
    /// Returns whether streamed content without a size is sent in chunks: not to an HTTP/1.0 client.
    [[nodiscard]] bool chunked() const noexcept { return !old_; }

private:
    void refuse(unsigned status, std::string_view why) noexcept
    {
        status_ = status;
        why_ = why;
        keeps_alive_ = false;
        content_bytes_ = 0;
    }

    [[nodiscard]] HOLDFAST_DECL bool parse(std::string_view length) noexcept;

    /// Whether a response has neither content nor a field that says how long it is (RFC 9110 8.6, RFC 9112 6.1).
    [[nodiscard]] bool is_bare(unsigned status) const noexcept
    {
        return status < 200 || status == 204 || (connect_ && status < 300);
    }

    HOLDFAST_DECL void add_length(std::string& text, unsigned status, std::uint64_t content_bytes) const;

    [[nodiscard]] HOLDFAST_DECL std::string start(unsigned status, std::string_view content_type,
                                                  std::string_view fields) const;

    std::uint64_t content_bytes_ = 0;
    std::string_view why_ = "The request cannot be read."; // static storage
    unsigned status_ = 400;
    bool head_ = false;
    bool connect_ = false;
    bool old_ = false; // HTTP/1.0
    bool keeps_alive_ = false;
    bool expects_continue_ = false;
};

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/http/impl/exchange.ipp>
#endif

#endif
