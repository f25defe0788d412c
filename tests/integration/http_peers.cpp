// holdfast: do curl, Python and Node read what framed and deflated messages are, and wait for leave to send content?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/adapters/deflate.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/http/exchange.hpp>
#include <holdfast/http/request_head.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/write_streamed.hpp>

#include <array>
#include <functional>
#include <future>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

using holdfast::async_write_streamed;
using holdfast::framed;
using holdfast::json;
using holdfast::ndjson;
using tests::tcp;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

using rows = std::vector<std::string>;

constexpr std::size_t answers = tests::sanitized ? 20 : 60;

/// Text with all that has to be escaped, and UTF-8 of every length.
rows random_rows(std::mt19937& random)
{
    static constexpr std::array<std::string_view, 10> pieces = {
        "plain ", "\"", "\\", "\r\n", "\t", "\x01", "\u00e9", "\u20ac", "\U0001f30a", "0\r\n\r\n"};
    rows made(random() % 8 == 0 ? 0 : random() % 8 == 1 ? 2000 : random() % 50);
    for (std::string& row : made)
        for (auto n = random() % 30; n != 0; --n)
            row += pieces[random() % pieces.size()];
    return made;
}

/// Answers the request for "/i" by message i, in a way that is i's: chunked, chunked and compressed, or with
/// its length.
net::awaitable<void> answer(holdfast::connection_guard<tcp::socket>& peer, holdfast::deflate_pool& pool,
                            const rows& message, std::size_t i, std::size_t chunk)
{
    const std::size_t way = i % 3;
    constexpr std::string_view type = "application/x-ndjson";
    holdfast::http_exchange exchange("GET", 11, [](std::string_view field) { return field == "Host" ? "here" : ""; });
    const holdfast::compressor gzip = way == 1 ? pool.try_borrow() : holdfast::compressor();
    const auto size = holdfast::serialized_size<ndjson>(message);
    const holdfast::payload head = way == 2
                                       ? exchange.response_head(200, type, size)
                                       : exchange.response_head(200, type, gzip ? "Content-Encoding: gzip\r\n" : "");
    const std::string_view head_text = head.text();
    co_await net::async_write(peer.stream(), net::buffer(head_text.data(), head_text.size()), net::use_awaitable);
    const holdfast::write_streamed_options options{.chunk_bytes = size > 10'000 ? chunk + 200 : chunk,
                                                   .double_buffered = i % 2 == 0};
    if (way == 2) {
        const std::size_t sent = co_await async_write_streamed(
            peer, holdfast::formatted(std::cref(message), framed{framing::content_length{size}, ndjson{}}), options);
        CHECK(sent == size);
    } else {
        co_await async_write_streamed(
            peer,
            holdfast::formatted(std::cref(message),
                                framed{framing::http_chunked{}, holdfast::deflated{gzip, ndjson{}}}),
            options);
    }
}

/// What a program prints that asks for each message, and what it should have printed.
struct exchange {
    int status = -1;
    std::string printed, expected;
};

exchange serve(std::vector<std::string> command, std::uint32_t seed)
{
    std::mt19937 random(seed);
    net::io_context io;
    holdfast::deflate_pool pool(io.get_executor(), {.compressors = 1});
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    const std::string url = "http://127.0.0.1:" + std::to_string(listener.local_endpoint().port()) + "/";
    if (command.front() == "/usr/bin/curl")
        command.push_back(url + "[0-" + std::to_string(answers - 1) + "]");
    else
        command.insert(command.end(), {url, std::to_string(answers)});
    tests::process client(std::move(command));
    exchange result;
    auto reading = std::async(std::launch::async, [&] { result.status = client.wait(&result.printed); });
    std::size_t answered = 0;
    const auto session = [&](holdfast::connection_guard<tcp::socket> peer) -> net::awaitable<void> {
        peer.stream().set_option(tcp::no_delay(true));
        for (std::string request;;) {
            holdfast::error_code ec;
            const std::size_t n = co_await net::async_read_until(
                peer.stream(), net::dynamic_buffer(request), "\r\n\r\n", net::redirect_error(net::use_awaitable, ec));
            if (ec) break;
            const rows message = random_rows(random);
            result.expected += holdfast::serialize_to_string<ndjson>(message);
            const std::size_t i = answered++; // before the answer: the next request may come on another connection
            CHECK(request.starts_with("GET /" + std::to_string(i) + " "));
            request.erase(0, n);
            co_await answer(peer, pool, message, i, 1 + random() % 20'000);
            if (i + 1 == answers) listener.close();
        }
        co_await peer.async_close({}, net::use_awaitable);
    };
    tests::run(io, [&]() -> net::awaitable<void> {
        for (;;) { // one request after another, but on as many connections as the program likes
            holdfast::error_code ec;
            tcp::socket peer = co_await listener.async_accept(net::redirect_error(net::use_awaitable, ec));
            if (ec) break;
            net::co_spawn(io, session(holdfast::connection_guard(std::move(peer))), net::detached);
        }
    });
    reading.get();
    return result;
}

constexpr const char* python = R"(
import gzip, http.client, json, sys, urllib.parse
there = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc)
printed = []
for i in range(int(sys.argv[2])):
    there.request('GET', f'/{i}', headers={'Accept-Encoding': 'gzip'})
    answer = there.getresponse()
    body = answer.read()
    if answer.getheader('Content-Encoding') == 'gzip': body = gzip.decompress(body)
    for line in body.decode().split('\n')[:-1]:
        printed.append(json.dumps(json.loads(line), ensure_ascii=False) + '\n')
there.close()
sys.stdout.buffer.write(''.join(printed).encode())
)";

constexpr const char* node = R"(
(async () => {
    const [url, count] = process.argv.slice(-2);
    let printed = '';
    for (let i = 0; i != count; ++i) {
        const body = await (await fetch(url + i)).text();
        for (const line of body.split('\n').slice(0, -1)) printed += JSON.stringify(JSON.parse(line)) + '\n';
    }
    process.stdout.write(printed);
})();
)";

} // namespace

TEST_CASE("curl, Python and Node read random messages in chunks, compressed, and of an announced length")
{
    const std::string program = GENERATE("/usr/bin/curl", "/usr/bin/python3", "/usr/bin/node");
    if (::access(program.c_str(), X_OK) != 0) {
        WARN("left out: there is no " << program);
        return;
    }
    const auto seed = std::random_device{}();
    INFO(program << ", seed " << seed);
    std::vector<std::string> command{program};
    if (program == "/usr/bin/curl")
        command.insert(command.end(), {"--silent", "--show-error", "--noproxy", "*", "--compressed"});
    else if (program == "/usr/bin/node")
        command.insert(command.end(), {"--no-warnings", "-e", node}); // Node 18 warns that it has fetch
    else
        command.insert(command.end(), {"-c", python});
    const exchange done = serve(std::move(command), seed);
    CHECK(done.status == 0);
    if (done.printed != done.expected) {
        INFO(done.printed.substr(0, 300));
        FAIL_CHECK("it read " << done.printed.size() << " bytes and not the " << done.expected.size()
                              << " that were meant");
    }
}

TEST_CASE("curl sends its content once it may, and none to a server that refuses it")
{
    if (::access("/usr/bin/curl", X_OK) != 0) {
        WARN("left out: there is no /usr/bin/curl");
        return;
    }
    const auto [size, outcome] = GENERATE(std::pair{1000, "200"}, std::pair{1001, "413"});
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    const std::string sent(static_cast<std::size_t>(size), 'c');
    tests::process client({"/usr/bin/curl", "--silent", "--show-error", "--noproxy", "*", "--header",
                           "Expect: 100-continue", "--expect100-timeout", "100", "--data-binary", sent, "--output",
                           "/dev/null", "--write-out", "%{http_code} %{size_upload}",
                           "http://127.0.0.1:" + std::to_string(listener.local_endpoint().port()) + "/"});
    std::string content;
    tests::run(io, [&]() -> net::awaitable<void> {
        holdfast::connection_guard peer(co_await listener.async_accept(net::use_awaitable));
        holdfast::outbox outbox{peer};
        holdfast::frame_reader heads{peer, {.max_frame_bytes = 8192}, framing::http_request_head{}};
        while (const auto head = co_await heads.async_next(net::use_awaitable)) {
            const std::string text(*head);
            const auto field = [&](std::string_view name) {
                const auto at = text.find("\r\n" + std::string(name) + ": ");
                if (at == text.npos) return std::string_view();
                const auto value = at + 4 + name.size();
                return std::string_view(text).substr(value, text.find('\r', value) - value);
            };
            const holdfast::http_exchange exchange{"POST", 11, field, {.max_content_bytes = 1000}};
            CHECK(peer.stream().available() == 0); // it waits
            if (!exchange) {
                outbox.push(exchange.refusal());
                break;
            }
            CHECK(exchange.expects_continue());
            outbox.push(exchange.continue_response());
            const auto got = co_await heads.async_read_exactly(static_cast<std::size_t>(exchange.content_bytes()),
                                                               net::use_awaitable);
            content = std::string(got->data(), got->size());
            outbox.push(exchange.response(200, "text/plain", "thanks"));
        }
        co_await outbox.async_close(net::use_awaitable);
        co_await peer.async_close({}, net::use_awaitable);
    });
    std::string printed;
    CHECK(client.wait(&printed) == 0);
    CHECK(printed.starts_with(outcome));
    CHECK(content == (printed.starts_with("200") ? sent : ""));
    CHECK(printed.ends_with(printed.starts_with("200") ? " 1000" : " 0"));
}
