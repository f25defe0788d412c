// holdfast: tests of readers whose protocol changes: no byte that was received is lost, however the bytes are cut.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/next_outcome.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_reader.hpp>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

using holdfast::errc;
using holdfast::error_code;
using holdfast::frame_reader;
using outcome = tests::next_outcome;
using tests::tcp;
using namespace std::string_literals;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

/// Sends the text in two parts, and settles in between.
void send_cut(net::io_context& io, std::pair<tcp::socket, tcp::socket>& both, std::string_view text, std::size_t cut)
{
    for (const auto part : {text.substr(0, cut), text.substr(cut)}) {
        if (part.empty()) continue;
        net::write(both.second, net::buffer(part.data(), part.size()));
        tests::await_readable(both.first);
        io.restart();
        io.poll();
    }
    both.second.close();
    tests::run(io);
}

} // namespace

TEST_CASE("an upgrade request and the first frames in one packet, cut anywhere: the next framing gets every byte")
{
    const std::string text = "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\0\0\0\5hello\0\0\0\0\0\0\0\3abc"s;
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        net::io_context io;
        auto both = tests::socket_pair(io);
        std::vector<std::string> lines;
        std::vector<std::string> frames;
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                frame_reader request{both.first, {.max_frame_bytes = 100}};
                for (;;) {
                    const auto line = co_await request.async_next();
                    if (!line || line->empty()) break;
                    lines.emplace_back(*line);
                }
                frame_reader messages{std::move(request), framing::u32_length<>{}};
                CHECK(request.buffered().empty());
                while (const auto message = co_await messages.async_next())
                    frames.emplace_back(*message);
            },
            net::detached);
        send_cut(io, both, text, cut);
        INFO("cut at " << cut);
        CHECK(lines == std::vector<std::string>{"GET / HTTP/1.1", "Upgrade: x"});
        CHECK(frames == std::vector<std::string>{"hello", "", "abc"});
    }
}

TEST_CASE("bodies of known length between lines, cut anywhere: exactly, and in pieces")
{
    const std::string text = "first\n0123456789second\nabcdefthird\n";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        net::io_context io;
        auto both = tests::socket_pair(io);
        std::vector<std::string> got;
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                frame_reader reader{both.first, {.max_frame_bytes = 10}};
                got.emplace_back((co_await reader.async_next()).value());
                got.emplace_back((co_await reader.async_read_exactly(10)).value());
                got.emplace_back((co_await reader.async_read_exactly(0)).value());
                got.emplace_back((co_await reader.async_next()).value());
                std::string body;
                while (body.size() != 6) {
                    const auto piece = (co_await reader.async_read_some(6 - body.size())).value();
                    CHECK_FALSE(piece.empty());
                    body += piece;
                }
                got.push_back(body);
                got.emplace_back((co_await reader.async_next()).value());
                CHECK_FALSE(co_await reader.async_read_some(1)); // the end
                CHECK_FALSE(co_await reader.async_read_exactly(1));
            },
            net::detached);
        send_cut(io, both, text, cut);
        INFO("cut at " << cut);
        CHECK(got == std::vector<std::string>{"first", "0123456789", "", "second", "abcdef", "third"});
    }
}

TEST_CASE("the bytes stay where they are when another reader takes them over, and with other options as well")
{
    net::io_context io;
    auto both = tests::socket_pair(io);
    net::write(both.second, net::buffer("line\n\0\0\0\6binary", 15));
    frame_reader lines{both.first};
    outcome o;
    lines.async_next(o.handler());
    tests::run(io);
    const char* const where = lines.buffered().data();
    CHECK(lines.buffered() == "\0\0\0\6binary"s);
    frame_reader messages{std::move(lines), {.max_frame_bytes = 5}, framing::u32_length<>{}};
    CHECK(messages.buffered().data() == where);
    messages.async_next(o.handler());
    io.restart();
    tests::run(io);
    CHECK(o.error == errc::frame_too_long);
    CHECK(messages.buffered() == "\0\0\0\6binary"s);
    messages.consume(4);
    CHECK(messages.buffered() == "binary");
    messages.consume(100);
    CHECK(messages.buffered().empty());
}

TEST_CASE("raw bytes above the limit are refused, an end within them is truncated_frame")
{
    net::io_context io;
    auto both = tests::socket_pair(io);
    frame_reader reader{both.first, {.max_frame_bytes = 4}};
    net::write(both.second, net::buffer("123456", 6));
    outcome o;
    const auto run = [&] {
        io.restart();
        tests::run(io);
    };
    reader.async_read_exactly(5, o.handler());
    run();
    CHECK(o.error == errc::frame_too_long);
    reader.async_read_some(std::numeric_limits<std::size_t>::max(), o.handler());
    run();
    CHECK(o.frame == "1234");
    both.second.close();
    reader.async_read_exactly(4, o.handler());
    run();
    CHECK(o.error == errc::truncated_frame);
    CHECK(reader.buffered() == "56");
}

TEST_CASE("received bytes are reported as progress, also those of a frame that is still incomplete")
{
    net::io_context io;
    auto both = tests::socket_pair(io);
    std::size_t received = 0;
    auto count = [&](std::size_t n) noexcept { received += n; };
    frame_reader lines{both.first, {.progress = count}};
    outcome o;
    lines.async_next(o.handler());
    io.poll();
    for (std::size_t n = 1; n != 5; ++n) {
        net::write(both.second, net::buffer(std::string(700, 'x')));
        tests::await_readable(both.first);
        io.restart();
        io.poll();
        CHECK(o.completed == 0);
        CHECK(received == n * 700);
    }
    auto others = tests::socket_pair(io);
    tests::layered_stream stream(std::move(others.first));
    frame_reader through{stream, {.progress = count}};
    received = 0;
    net::write(others.second, net::buffer("line\nrest", 9));
    through.async_next(o.handler());
    io.restart();
    tests::run_until(io, [&] { return o.frame == "line"; });
    CHECK(received == 9);
}

TEST_CASE("a reader of a guard notes the error, so that the connection ends with its reason")
{
    for (const bool long_line : {false, true}) {
        net::io_context io;
        auto both = tests::socket_pair(io);
        holdfast::connection_end end;
        auto finalizer = [&end](const holdfast::connection_end& e) noexcept { end = e; };
        {
            holdfast::connection_guard peer{std::move(both.first), finalizer};
            frame_reader lines{peer, {.max_frame_bytes = 4}};
            outcome o;
            lines.async_next(o.handler());
            if (long_line)
                net::write(both.second, net::buffer("too long\n", 9));
            else
                tests::reset(both.second);
            tests::run(io);
            CHECK(o.completed == 1);
            CHECK(end.reason == holdfast::close_reason::none);
        }
        CHECK(end.reason == (long_line ? holdfast::close_reason::frame_limit : holdfast::close_reason::peer_reset));
        CHECK(end.error == (long_line ? error_code(errc::frame_too_long) : error_code(net::error::connection_reset)));
    }
}

TEST_CASE("every option at its extremes is refused by name, or means the limit")
{
    constexpr auto most = std::numeric_limits<std::size_t>::max();
    net::io_context io;
    auto both = tests::socket_pair(io);
    CHECK_THROWS_WITH((frame_reader{both.first, {.max_frame_bytes = 0}}),
                      "frame_options::max_frame_bytes must be at least 1");
    net::write(both.second, net::buffer("a\nb\nc\nd\ne\n", 10));
    outcome o;
    for (const std::size_t frame : {std::size_t{1}, most - 1, most})
        for (const std::size_t buffer : {std::size_t{0}, std::size_t{1}, std::size_t{4096}}) {
            const frame_reader<tcp::socket> reader{both.first, {.max_frame_bytes = frame, .buffer_bytes = buffer}};
            CHECK(reader.buffered().empty());
        }
    holdfast::buffer_pool pool{io, {.max_bytes = 4096}};
    for (const std::size_t buffer : {most - 1, most}) { // larger than the pool may lend
        frame_reader reader{both.first, pool, {.buffer_bytes = buffer}};
        reader.async_next(o.handler());
        io.restart();
        tests::run(io);
        CHECK(o.error);
    }
    frame_reader reader{both.first, {.max_frame_bytes = most, .buffer_bytes = 0}};
    reader.async_next(o.handler());
    io.restart();
    tests::run(io);
    CHECK(o.frame == "a");
}
