// holdfast: a test that half a message never looks whole to programs that know nothing of holdfast: curl, and
// Python's urllib, which take a response without a length for whole when the connection ends, and one in
// chunks when the last chunk has come.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/write_streamed.hpp>

#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

using holdfast::async_write_streamed;
using holdfast::error_code;
using holdfast::ndjson;
using tests::tcp;
namespace net = holdfast::net;

namespace {

constexpr int count = 5000;

/// Lines of ten bytes, so that chunks of 500 end where a line does: nothing in the text tells that it was
/// cut.
/// `stop` is emitted when row `cancelled_at` is made.
auto rows(int fails_at, int cancelled_at, net::cancellation_signal& stop)
{
    return std::views::iota(0, count) | std::views::transform([fails_at, cancelled_at, &stop](int i) {
               if (i == fails_at) throw std::runtime_error("no such row");
               if (i == cancelled_at) stop.emit(net::cancellation_type::terminal);
               return 100'000'000 + i;
           });
}

/// How an exchange went: the client's exit status, and what it printed.
struct exchange {
    int status = -1;
    std::string printed;
};

/// Answers one request of a client by rows, and ends the connection.
template <class Format>
exchange serve(const std::string& program, bool ahead, int fails_at, int cancelled_at, Format format)
{
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    const std::string url = "http://127.0.0.1:" + std::to_string(listener.local_endpoint().port()) + "/";
    tests::process client = program == "curl"
                                ? tests::process({"/usr/bin/curl", "--silent", "--show-error", "--noproxy", "*", url})
                                : tests::process({"/usr/bin/python3", "-c",
                                                  "import sys, urllib.request as u\n"
                                                  "opener = u.build_opener(u.ProxyHandler({}))\n"
                                                  "sys.stdout.write(opener.open(sys.argv[1]).read().decode())",
                                                  url});
    tests::run(io, [&]() -> net::awaitable<void> {
        holdfast::connection_guard peer(co_await listener.async_accept(net::use_awaitable));
        std::string request;
        co_await net::async_read_until(peer.stream(), net::dynamic_buffer(request), "\r\n\r\n", net::use_awaitable);
        const std::string_view head =
            std::is_same_v<Format, ndjson>
                ? "HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
                : "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        co_await net::async_write(peer.stream(), net::buffer(head), net::use_awaitable);
        net::cancellation_signal stop;
        holdfast::write_streamed_options options{.chunk_bytes = 500, .double_buffered = ahead};
        error_code ec;
        co_await async_write_streamed(
            peer, holdfast::formatted(rows(fails_at, cancelled_at, stop), format), options,
            net::bind_cancellation_slot(stop.slot(), net::redirect_error(net::use_awaitable, ec)));
        co_await peer.async_close({}, net::redirect_error(net::use_awaitable, ec)); // graceful, where it may be
    });
    exchange result;
    result.status = client.wait(&result.printed);
    return result;
}

} // namespace

TEST_CASE("curl and Python take a whole message, and report one whose source failed or that was cancelled, "
          "wherever it was cut")
{
    const auto [program, ahead, chunked] = GENERATE(table<std::string, bool, bool>({{"curl", false, false},
                                                                                    {"curl", true, false},
                                                                                    {"python", true, false},
                                                                                    {"curl", true, true},
                                                                                    {"python", false, true}}));
    INFO(program << (ahead ? ", ahead" : "") << (chunked ? ", chunked" : ""));
    const auto get = [&](int fails_at, int cancelled_at) {
        return chunked ? serve(program, ahead, fails_at, cancelled_at,
                               holdfast::framed{holdfast::framing::http_chunked{}, ndjson{}})
                       : serve(program, ahead, fails_at, cancelled_at, ndjson{});
    };
    constexpr int never = 2 * count; // also of bytes, with those of the chunks' sizes
    const auto whole = get(never, never);
    CHECK(whole.status == 0);
    CHECK(whole.printed.size() == count * 10);
    const std::string complaint = program == "curl" ? "curl: (56)" : "ConnectionResetError";
    for (const int cut : {0, 50, 4900}) {
        INFO("cut at row " << cut);
        const auto failed = get(cut, never);
        CHECK(failed.status != 0);
        CHECK(failed.printed.find(complaint) != std::string::npos);
        if (cut == 0) continue; // cancelled before its first byte it is no message
        const auto cancelled = get(never, cut);
        CHECK(cancelled.status != 0);
        CHECK(cancelled.printed.find(complaint) != std::string::npos);
    }
}
