// holdfast: tests of what surrounds HTTP: heads as frames, what a request means for its response, events.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/http/event_stream.hpp>
#include <holdfast/http/exchange.hpp>
#include <holdfast/http/request_head.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using holdfast::errc;
using holdfast::http_exchange;
using holdfast::http_exchange_options;
using holdfast::sse_event;
using namespace std::string_literals;
using namespace std::string_view_literals;
namespace framing = holdfast::framing;

namespace {

using fields = std::map<std::string_view, std::string_view>;

http_exchange exchange(std::string_view method, unsigned version, const fields& given,
                       const http_exchange_options& options = {})
{
    const auto header = [&](std::string_view name) {
        const auto found = given.find(name);
        return found == given.end() ? std::string_view() : found->second;
    };
    return {method, version, header, options};
}

std::string text_of(const holdfast::payload& of) { return std::string(of.text()); }

} // namespace

TEST_CASE("a request's head is one frame, at whichever bytes it is cut, and the bytes after it are not part of it")
{
    const framing::http_request_head heads;
    for (const auto& [before, head] :
         std::vector<std::pair<std::string, std::string>>{{"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
                                                          {"\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"},
                                                          {"", "GET / HTTP/1.1\n\n"},
                                                          {"\n", "GET / HTTP/1.1\nHost: a\r\n\n"},
                                                          {"", "x\r\n\r\n"},
                                                          {"", "GET / HTTP/1.1\n\r\n"}}) {
        const std::string all = before + head + "\r\n\r\nGET";
        const std::size_t size = before.size() + head.size();
        for (std::size_t seen = 0; seen <= size; ++seen)
            for (std::size_t have = seen + 1; have <= all.size(); ++have) {
                if (seen == size) continue; // it was known already
                const auto found = heads.parse(std::string_view(all).substr(0, have), seen);
                CAPTURE(head, seen, have);
                CHECK_FALSE(found.error);
                CHECK(found.known == (have >= size));
                if (found.known) {
                    CHECK(found.header == before.size());
                    CHECK(found.payload == head.size());
                } else {
                    CHECK(found.header + found.payload <= have);
                }
            }
    }
    CHECK(heads.parse(std::string(framing::max_overhead + 1, '\n'), 0).error == errc::malformed_frame);
}

TEST_CASE("an error of reading has a status code where a client is left to get it")
{
    using holdfast::http_status_of;
    CHECK(http_status_of(errc::malformed_frame) == 400);
    CHECK(http_status_of(errc::frame_timeout) == 408);
    CHECK(http_status_of(errc::frame_too_long) == 431);
    CHECK(http_status_of(errc::rate_exceeded) == 429);
    CHECK(http_status_of(errc::pool_exhausted) == 503);
    CHECK(http_status_of(std::make_error_code(std::errc::not_enough_memory)) == 503);
    CHECK(http_status_of({}) == 0);
    CHECK(http_status_of(errc::truncated_frame) == 0);
    CHECK(http_status_of(std::make_error_code(std::errc::connection_reset)) == 0);
}

TEST_CASE("a request that cannot be served is refused with what is wrong, and the connection ends")
{
    struct refused {
        unsigned status;
        unsigned version;
        fields given;
        std::uint64_t limit = 0;
    };
    const std::string_view host = "here";
    for (const refused& each : std::vector<refused>{
             {505, 20, {{"Host", host}}},
             {505, 9, {}},
             {400, 11, {}},
             {400, 11, {{"Host", "a,b"}}},
             {400, 11, {{"Host", host}, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}, 10},
             {400, 10, {{"Transfer-Encoding", "chunked"}}, 10},
             {400, 11, {{"Host", host}, {"Content-Length", "5, 5"}}, 10},
             {400, 11, {{"Host", host}, {"Content-Length", "-1"}}, 10},
             {400, 11, {{"Host", host}, {"Content-Length", "+1"}}, 10},
             {400, 11, {{"Host", host}, {"Content-Length", "18446744073709551616"}}, 10},
             {411, 11, {{"Host", host}, {"Transfer-Encoding", "Chunked"}}, 10},
             {501, 11, {{"Host", host}, {"Transfer-Encoding", "gzip, chunked"}}, 10},
             {413, 11, {{"Host", host}, {"Content-Length", "11"}}, 10},
             {413, 11, {{"Host", host}, {"Content-Length", "1"}, {"Expect", "100-continue"}}},
             {417, 11, {{"Host", host}, {"Expect", "the unexpected"}}}}) {
        const auto result = exchange("GET", each.version, each.given, {.max_content_bytes = each.limit});
        CAPTURE(each.status, each.version);
        CHECK_FALSE(result);
        CHECK(result.refusal_status() == each.status);
        CHECK_FALSE(result.keeps_alive());
        CHECK_FALSE(result.expects_continue());
        const std::string response = text_of(result.refusal());
        CHECK(response.starts_with("HTTP/1.1 " + std::to_string(each.status) + " "));
        CHECK(response.find("Unknown") == response.npos);
        CHECK(response.find("\r\nConnection: close\r\n") != response.npos);
        CHECK(response.ends_with(".\n")); // a sentence
    }
}

TEST_CASE("the connection stays as the request and the limits allow, and the response says so")
{
    const auto stays = [](unsigned version, const fields& given, bool last = false) {
        const auto result = exchange("GET", version, given, {.last = last});
        CHECK(result);
        const std::string response = text_of(result.response(200, "text/plain", "hello"));
        CHECK(response.ends_with("Content-Length: 5\r\n\r\nhello"));
        CHECK((response.find("Connection: close") == response.npos) == result.keeps_alive());
        CHECK((response.find("Connection: keep-alive") != response.npos) == (result.keeps_alive() && version == 10));
        return result.keeps_alive();
    };
    CHECK(stays(11, {{"Host", "a"}}));
    CHECK_FALSE(stays(11, {{"Host", "a"}, {"Connection", "foo, Close"}}));
    CHECK_FALSE(stays(11, {{"Host", "a"}}, true));
    CHECK_FALSE(stays(10, {}));
    CHECK(stays(10, {{"Connection", "Keep-Alive"}}));
    for (const unsigned version : {10U, 11U})
        for (const char* both : {"close, keep-alive", "keep-alive, close"})
            CHECK_FALSE(stays(version, {{"Host", "a"}, {"Connection", both}}));
    auto result = exchange("GET", 11, {{"Host", "a"}});
    result.close_after();
    CHECK_FALSE(result.keeps_alive());
}

TEST_CASE("a request that could not be read cannot be served")
{
    http_exchange unread;
    CHECK_FALSE(unread);
    CHECK_FALSE(unread.keeps_alive());
    CHECK(unread.refusal_status() == 400);
    CHECK(text_of(unread.refusal()).starts_with("HTTP/1.1 400 Bad Request\r\n"));
    unread = exchange("GET", 11, {{"Host", "a"}});
    CHECK(unread);
    CHECK(unread.refusal_status() == 0);
}

TEST_CASE("a response whose status has no content has none, and no field that says how long it is")
{
    for (const unsigned version : {10U, 11U})
        for (const char* method : {"GET", "HEAD", "CONNECT"})
            for (const unsigned status : {100U, 103U, 200U, 204U, 205U, 304U, 404U}) {
                CAPTURE(version, method, status);
                auto now = exchange(method, version, {{"Host", "a"}, {"Connection", "keep-alive"}});
                const bool bare =
                    status < 200 || status == 204 || (method == "CONNECT"sv && (status == 200 || status == 205));
                const bool sent = !bare && status != 304 && method != "HEAD"sv;
                CHECK(now.has_content(status) == sent);
                const std::string start = "HTTP/1.1 " + std::to_string(status) + " ";
                for (const std::string& whole :
                     {text_of(now.response(status, "text/plain", "page", "ETag: \"1\"\r\n")),
                      text_of(now.text_response(status, "pag")), text_of(now.response(status, "", ""))}) {
                    CAPTURE(whole);
                    CHECK(whole.starts_with(start));
                    const auto end = whole.find("\r\n\r\n") + 4;
                    CHECK((whole.size() == end || (sent && status != 205)));
                    CHECK((whole.find("\r\nContent-Length: ") != whole.npos) == (!bare && status != 304));
                    if (sent)
                        CHECK(whole.find("\r\nContent-Length: " + std::to_string(whole.size() - end) + "\r\n") !=
                              whole.npos);
                }
                const std::string sized = text_of(now.response_head(status, "", 4));
                CHECK(sized.ends_with("\r\n\r\n"));
                CHECK((sized.find("\r\nContent-Length: 4\r\n") != sized.npos) == !bare); // of 304: that of a 200
                CHECK(now.keeps_alive());
                const std::string streamed = text_of(now.response_head(status, ""));
                CHECK(streamed.ends_with("\r\n\r\n"));
                CHECK(streamed.find("Content-Length") == streamed.npos);
                const bool streams = !bare && status != 304;
                CHECK((streamed.find("\r\nTransfer-Encoding: chunked\r\n") != streamed.npos) ==
                      (streams && version == 11));
                CHECK(now.keeps_alive() == !(streams && version == 10));
                CHECK((streamed.find("\r\nConnection: close\r\n") != streamed.npos) == !now.keeps_alive());
            }
}

TEST_CASE("HEAD gets the head alone, content, and whether the client waits for 100 Continue, are reported")
{
    const auto head = exchange("HEAD", 11, {{"Host", "a"}});
    CHECK(head.head_only());
    CHECK(text_of(head.response(200, "text/html", "four", "Allow: GET\r\n")) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAllow: GET\r\nContent-Length: 4\r\n\r\n");
    CHECK(text_of(head.text_response(404, "no")).ends_with("Content-Length: 3\r\n\r\n"));
    const auto post = exchange("POST", 11, {{"Host", "a"}, {"Content-Length", "10"}, {"Expect", "100-Continue"}},
                               {.max_content_bytes = 10});
    CHECK(post);
    CHECK(post.content_bytes() == 10);
    CHECK(post.expects_continue());
    CHECK(text_of(http_exchange::continue_response()) == "HTTP/1.1 100 Continue\r\n\r\n");
    const auto old =
        exchange("POST", 10, {{"Content-Length", "10"}, {"Expect", "100-continue"}}, {.max_content_bytes = 10});
    CHECK(old);
    CHECK_FALSE(old.expects_continue()); // HTTP/1.0 has no 100
    CHECK_FALSE(exchange("GET", 11, {{"Host", "a"}, {"Expect", "100-continue"}}).expects_continue()); // nothing to send
}

TEST_CASE("streamed content is chunked for HTTP/1.1, and ends with the connection for HTTP/1.0")
{
    auto now = exchange("GET", 11, {{"Host", "a"}});
    CHECK(now.chunked());
    CHECK(text_of(now.response_head(200, "text/plain")) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(now.keeps_alive());
    auto old = exchange("GET", 10, {{"Connection", "keep-alive"}});
    CHECK_FALSE(old.chunked());
    CHECK(text_of(old.response_head(200, "text/plain")) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");
    CHECK_FALSE(old.keeps_alive());
}

TEST_CASE("the head of streamed content whose size is known is that of the whole response, and the connection stays")
{
    const std::string content(20, 'x');
    for (const char* method : {"GET", "HEAD"})
        for (const unsigned version : {10U, 11U})
            for (const char* connection : {"", "keep-alive", "close"}) {
                CAPTURE(method, version, connection);
                const auto now = exchange(method, version, {{"Host", "a"}, {"Connection", connection}});
                const std::string head = text_of(now.response_head(200, "text/plain", content.size(), "X: y\r\n"));
                CHECK(head + (now.head_only() ? "" : content) ==
                      text_of(now.response(200, "text/plain", content, "X: y\r\n")));
                CHECK(head.ends_with("Content-Length: 20\r\n\r\n"));
                CHECK(now.keeps_alive() ==
                      (connection == (version == 11 ? ""sv : "keep-alive"sv) || connection == "keep-alive"sv));
            }
    CHECK(text_of(exchange("GET", 11, {{"Host", "a"}}).response_head(200, "text/plain", UINT64_MAX)) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 18446744073709551615\r\n\r\n");
}

TEST_CASE("an event has a data field for each line, and is what framing::sse writes")
{
    const auto plain = [](std::string_view data, const framing::sse& with = {}) {
        return text_of(sse_event(data, with, holdfast::http_transfer::plain));
    };
    CHECK(plain("one") == "data: one\n\n");
    CHECK(plain("") == "data: \n\n");
    CHECK(plain("a\nb\r\nc\rd\n", {.event = "e", .id = "i", .retry = std::chrono::seconds(2)}) ==
          "event: e\nid: i\nretry: 2000\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    const framing::sse with{.event = "quotes", .id = "7-1"};
    const std::vector<int> some{1, 2, 3};
    const holdfast::framed as_framed{with, holdfast::json{}};
    CHECK(plain("[1,2,3]", with) == holdfast::serialize_to_string(some, as_framed));
    CHECK(text_of(sse_event("one")) == "b\r\ndata: one\n\n\r\n");
    CHECK(text_of(sse_event(std::string(300, 'x'))).starts_with("134\r\n"));
    CHECK(text_of(holdfast::sse_comment()) == "3\r\n:\n\n\r\n");
    CHECK(text_of(holdfast::sse_retry(std::chrono::milliseconds(1500), holdfast::http_transfer::plain)) ==
          "retry: 1500\n\n");
    CHECK(holdfast::http_part("").empty()); // else the content would end
    CHECK(text_of(holdfast::http_end()) == "0\r\n\r\n");
    CHECK(holdfast::http_end(holdfast::http_transfer::plain).empty());
    CHECK_THROWS_AS(plain("x", {.event = "a\nb"}), std::invalid_argument);
    CHECK_THROWS_AS(plain("x", {.id = "a\rb"}), std::invalid_argument);
    CHECK_THROWS_AS(plain("x", {.id = "a\0b"sv}), std::invalid_argument);
    const framing::sse negative{.retry = std::chrono::milliseconds(-1)};
    CHECK_THROWS_AS(plain("x", negative), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::sse_retry(std::chrono::milliseconds(-1)), std::invalid_argument);
    CHECK_THROWS(holdfast::serialize_to_string(some, holdfast::framed{negative, holdfast::json{}}));
    CHECK(plain("x", {.retry = std::chrono::milliseconds(0)}) == "retry: 0\ndata: x\n\n");
}
