// holdfast: the head of an HTTP/1.1 request, parsed by Boost.Beast, which is given the bytes and does no I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_HTTP_REQUEST_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_HTTP_REQUEST_HPP

#include <holdfast/asio.hpp>
#include <holdfast/http/exchange.hpp>
#include <holdfast/http/request_head.hpp>
#include <holdfast/payload.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// The request line and the header fields of a request.
class http_request {
public:
    /// Parses a head with the empty line that ends it.
    explicit http_request(std::string_view head)
    {
        boost::system::error_code ec;
        parser_.header_limit(static_cast<std::uint32_t>(head.size() + 1));
        parser_.put(boost::asio::const_buffer(head.data(), head.size()), ec);
        if (ec && !parser_.is_header_done()) error_ = ec.message();
    }
    http_request(const http_request&) = delete;
    http_request& operator=(const http_request&) = delete;

    /// What is wrong with it; empty if it is a request.
    [[nodiscard]] const std::string& error() const noexcept { return error_; }

    [[nodiscard]] std::string_view method() const { return view(parser_.get().method_string()); }
    /// 10 or 11.
    [[nodiscard]] unsigned version() const { return parser_.get().version(); }
    /// The path of the target, without the query.
    [[nodiscard]] std::string_view path() const
    {
        const std::string_view target = view(parser_.get().target());
        return target.substr(0, target.find('?'));
    }

    /// The value of a field; of one that occurs several times, the values with commas between them.
    [[nodiscard]] std::string_view operator()(std::string_view name) const
    {
        const auto [first, last] = parser_.get().equal_range(boost::beast::string_view(name.data(), name.size()));
        if (first == last) return {};
        if (std::next(first) == last) return view(first->value());
        std::string& all = joined_.emplace_back();
        for (auto each = first; each != last; ++each)
            all.append(each == first ? "" : ",").append(view(each->value()));
        return all;
    }

    /// The value of `name` in the query, decoded; nothing where it is not there.
    [[nodiscard]] std::optional<std::string> parameter(std::string_view name) const
    {
        const std::string_view target = view(parser_.get().target());
        for (std::string_view rest = target.substr(std::min(target.find('?'), target.size() - 1) + 1); !rest.empty();) {
            const std::string_view pair = rest.substr(0, rest.find('&'));
            rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
            if (pair.substr(0, pair.find('=')) == name)
                return decoded(pair.substr(std::min(pair.size(), name.size() + 1)));
        }
        return {};
    }

    /// Whether a list in the field, such as `gzip;q=0.8, br`, has the word and does not refuse it.
    [[nodiscard]] bool accepts(std::string_view field, std::string_view word) const
    {
        for (std::string_view list = (*this)(field); !list.empty();) {
            std::string_view item = list.substr(0, list.find(','));
            list.remove_prefix(std::min(list.size(), item.size() + 1));
            item.remove_prefix(std::min(item.find_first_not_of(" \t"), item.size()));
            const std::string_view name = item.substr(0, item.find_first_of("; "));
            const std::string_view quality = item.substr(name.size());
            const bool refused = quality.find("q=0") != quality.npos &&
                                 quality.find_first_of("123456789", quality.find("q=0")) == quality.npos;
            if (boost::beast::iequals({name.data(), name.size()}, {word.data(), word.size()})) return !refused;
        }
        return false;
    }

private:
    static std::string_view view(boost::beast::string_view text) noexcept { return {text.data(), text.size()}; }

    static std::string decoded(std::string_view text)
    {
        std::string result;
        for (std::size_t i = 0; i != text.size(); ++i) {
            unsigned char byte = 0;
            if (text[i] == '%' && text.size() - i > 2 &&
                std::from_chars(&text[i + 1], &text[i + 1] + 2, byte, 16).ptr == &text[i + 1] + 2) {
                result += static_cast<char>(byte);
                i += 2;
            } else {
                result += text[i] == '+' ? ' ' : text[i];
            }
        }
        return result;
    }

    boost::beast::http::request_parser<boost::beast::http::empty_body> parser_;
    std::string error_;
    mutable std::deque<std::string> joined_; // a view of an element stays valid
};

/// Reads the next request from a frame_reader of heads. Returns the response to one that cannot be served, after which the
/// connection ends; `request` is then empty, as it is at the end of the stream.
template <class Heads>
holdfast::net::awaitable<holdfast::payload> read_request(Heads& heads, std::optional<http_request>& request,
                                                         holdfast::http_exchange& exchange,
                                                         holdfast::http_exchange_options options = {})
{
    request.reset();
    exchange = {};
    holdfast::error_code ec;
    const auto head = co_await heads.async_next(holdfast::net::redirect_error(holdfast::net::use_awaitable, ec));
    if (const unsigned status = holdfast::http_status_of(ec)) co_return exchange.text_response(status, ec.message());
    if (ec || !head) co_return holdfast::payload();
    request.emplace(*head);
    std::string error = request->error();
    if (error.empty()) {
        exchange = {request->method(), request->version(), *request, options};
        if (exchange) co_return holdfast::payload();
    }
    request.reset();
    co_return error.empty() ? exchange.refusal() : exchange.text_response(400, error);
}

} // namespace examples

#endif
