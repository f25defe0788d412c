// holdfast: tests of async_next_json: frames become documents, and one that is none does not end the stream.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/adapters/next_json.hpp>

#include <cstdint>
#include <string>
#include <vector>

using holdfast::errc;
using holdfast::error_code;
namespace net = holdfast::net;

TEST_CASE("each line is parsed in place, whatever its length, and what is no JSON is passed over")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    holdfast::frame_reader lines(server, {.max_frame_bytes = 100'000});
    std::string text;
    for (std::size_t i = 0; i != 1000; ++i)
        text += R"({"n":)" + std::to_string(i) + R"(,"text":")" + std::string(i, 'x') + "\"}\n";
    text += "{\"n\":1\n\n{\"n\":1000,\"text\":\"\"}\r\n";
    net::async_write(client, net::buffer(text), [&](error_code, std::size_t) { client.close(); });
    simdjson::dom::parser parser;
    std::vector<std::uint64_t> numbers;
    bool right = true;
    int invalid = 0;
    tests::run(io, [&]() -> net::awaitable<void> {
        for (;;) {
            error_code ec;
            const auto message =
                co_await holdfast::async_next_json(lines, parser, net::redirect_error(net::use_awaitable, ec));
            if (ec == errc::invalid_json && ++invalid != 0) continue;
            if (!message) co_return;
            numbers.push_back((*message)["n"].get_uint64().value());
            right = right && (*message)["text"].get_string().value().size() == numbers.back() % 1000;
        }
    });
    CHECK(numbers.size() == 1001);
    CHECK(numbers.back() == 1000);
    CHECK(right);
    CHECK(invalid == 2);
}

TEST_CASE("what simdjson cannot hold is distinguished from what is no JSON")
{
    using holdfast::detail::simdjson_parse_error;
    simdjson::dom::parser parser;
    const auto error_of = [&parser](const std::string& text) {
        return simdjson_parse_error(parser.parse(text).error(), text);
    };
    for (const char* valid : {"123456789012345678901234567890", "[1e400]", R"({"a":"1.","b":-99999999999999999999})"})
        CHECK(error_of(valid) == errc::number_out_of_range);
    for (const char* invalid : {"1.", "[01]", "[1e]", "-", "[1e400,1.]", R"(["\"1e400",.5])", "{", "", "\"\x01\""})
        CHECK(error_of(invalid) == errc::invalid_json);
    CHECK(error_of(std::string(2000, '[') + std::string(2000, ']')) == errc::depth_exceeded);
}

TEST_CASE("waiting for JSON can be cancelled, and loses no byte")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    holdfast::frame_reader lines(server);
    simdjson::dom::parser parser;
    net::write(client, net::buffer("[1,", 3));
    net::cancellation_signal stop;
    error_code error;
    std::size_t size = 0;
    const auto note = [&](error_code ec, std::optional<simdjson::dom::element> value) {
        error = ec;
        if (value) size = value->get_array().value().size();
    };
    holdfast::async_next_json(lines, parser, net::bind_cancellation_slot(stop.slot(), note));
    io.poll();
    stop.emit(net::cancellation_type::total);
    tests::run(io);
    CHECK(error == net::error::operation_aborted);
    net::write(client, net::buffer("2]\n", 3));
    holdfast::async_next_json(lines, parser, note);
    tests::run(io);
    CHECK_FALSE(error);
    CHECK(size == 2);
}
