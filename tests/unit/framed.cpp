// holdfast: tests of framed messages: right at every size of chunk, and no failed one ever looks complete.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/serialized.hpp"
#include "support/sockets.hpp"

#include <holdfast/serialize/framed.hpp>
#include <holdfast/websocket_frame.hpp>
#include <holdfast/write_streamed.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using holdfast::errc;
using holdfast::framed;
using holdfast::json;
using holdfast::ndjson;
using holdfast::raw_json;
using tests::failure_in_chunks;
using tests::tcp;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

using rows = std::vector<std::string>;

/// A message in chunks of n bytes, each of which is kept.
template <class Format, class Source>
std::vector<std::string> chunks_of(const Source& source, std::size_t n, Format format = {})
{
    holdfast::streaming_serializer<Format, std::reference_wrapper<const Source>> text(source, format);
    std::string chunk(n, '\0');
    std::vector<std::string> all;
    for (const std::span<const char> part : holdfast::chunks(text, chunk))
        all.emplace_back(part.begin(), part.end());
    REQUIRE(text.done());
    return all;
}

std::string joined(const std::vector<std::string>& chunks)
{
    std::string all;
    for (const std::string& chunk : chunks)
        all += chunk;
    return all;
}

template <class Format, class Source>
std::string whole(const Source& source, std::size_t n, Format format = {})
{
    return joined(chunks_of(source, n, format));
}

std::uint64_t big_endian(std::string_view bytes)
{
    std::uint64_t value = 0;
    for (const char c : bytes)
        value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

std::string_view take(std::string_view& from, std::uint64_t n)
{
    if (from.size() < n) throw std::runtime_error("a frame is cut short");
    const auto taken = from.substr(0, n);
    from.remove_prefix(n);
    return taken;
}

/// What a receiver of chunked transfer coding makes of it; throws where it is not complete.
std::string unchunked(std::string_view body)
{
    for (std::string payload;;) {
        std::uint64_t size = 0;
        const auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), size, 16);
        if (error != std::errc{}) throw std::runtime_error("no size of a chunk");
        body.remove_prefix(static_cast<std::size_t>(end - body.data()));
        if (take(body, 2) != "\r\n") throw std::runtime_error("no line end behind the size");
        payload += take(body, size);
        if (take(body, 2) != "\r\n") throw std::runtime_error("no line end behind the chunk");
        if (size != 0) continue;
        if (!body.empty()) throw std::runtime_error("something behind the last chunk");
        return payload;
    }
}

/// A frame of u32_parts.
struct part {
    explicit part(std::string_view& from)
    {
        const auto head = static_cast<std::uint32_t>(big_endian(take(from, 4)));
        of_many = (head & framing::u32_parts<>::is_part) != 0;
        last = (head & framing::u32_parts<>::more_follow) == 0;
        payload = take(from, head & framing::u32_parts<>::max_size);
    }

    bool of_many, last;
    std::string_view payload;
};

/// The same for a message in parts, and nothing else.
std::string unparted(std::string_view bytes)
{
    std::string payload;
    for (bool first = true;; first = false) {
        const part next(bytes);
        CHECK(next.of_many == !(first && next.last));
        payload += next.payload;
        if (!next.last) continue;
        CHECK(bytes.empty());
        return payload;
    }
}

/// The payload of a WebSocket message, of however many frames.
std::string unframed(std::string_view bytes)
{
    std::string payload;
    for (bool first = true;; first = false) {
        const auto begin = big_endian(take(bytes, 1));
        CHECK((begin & 0x7f) == (first ? 1 : 0));
        std::uint64_t size = big_endian(take(bytes, 1));
        if (size == 126) {
            size = big_endian(take(bytes, 2));
            CHECK(size > 125);
        } else if (size == 127) {
            size = big_endian(take(bytes, 8));
            CHECK(size > 0xffff);
        }
        payload += take(bytes, size);
        if ((begin & 0x80) == 0) continue;
        CHECK(bytes.empty());
        return payload;
    }
}

/// What an EventSource makes of one event.
struct event {
    explicit event(const std::string& text)
    {
        REQUIRE(text.ends_with("\n\n"));
        CHECK(text.find("\n\n") == text.size() - 2); // it is one
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line) && !line.empty();) {
            const auto colon = line.find(": ");
            REQUIRE(colon != std::string::npos);
            const std::string value = line.substr(colon + 2);
            line.resize(colon);
            if (line == "data") {
                data += (has_data ? "\n" : "") + value;
                has_data = true;
            } else {
                fields += line + '=' + value + ';';
            }
        }
    }

    bool has_data = false;
    std::string data, fields;
};

rows random_rows(std::mt19937& random)
{
    rows made(random() % 40);
    for (std::string& row : made)
        row.assign(random() % (random() % 8 == 0 ? 2000 : 60), static_cast<char>('a' + random() % 26));
    return made;
}

const std::array<std::size_t, 12> sizes{1, 2, 3, 5, 17, 26, 27, 64, 127, 1000, 16'384, 70'000};

} // namespace

TEST_CASE("a message has a line end after it, or its length before it, at every size of chunk")
{
    const rows some{"one", "two", std::string(200, 'x')};
    const std::string payload = holdfast::serialize_to_string<json>(some);
    REQUIRE(payload.size() == 216);
    for (std::size_t n = 1; n <= 300; n += n < 64 ? 1 : 59) {
        CHECK(whole<framed<framing::line>>(some, n) == payload + '\n');
        CHECK(whole<framed<framing::u32_length<>>>(some, n) == std::string("\0\0\0\xd8", 4) + payload);
        CHECK(whole<framed<framing::u32_length<std::endian::little>>>(some, n) ==
              std::string("\xd8\0\0\0", 4) + payload);
        CHECK(whole<framed<framing::varint_length>>(some, n) == "\xd8\x01" + payload);
        CHECK(whole(some, n, framed{framing::content_length{payload.size()}, json{}}) == payload);
    }
    CHECK(holdfast::serialized_size<framed<framing::varint_length>>(some) == 218);
    CHECK(whole<framed<framing::u32_length<>, ndjson>>(rows{}, 16) == std::string(4, '\0')); // an empty one
}

TEST_CASE("random messages in parts are assembled again, at any size of chunk")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round != 60; ++round) {
        const rows some = random_rows(random);
        const std::size_t n = round % 3 == 0 ? 1 + random() % 20'000 : sizes[random() % sizes.size()];
        INFO("chunks of " << n);
        const std::string payload = holdfast::serialize_to_string<ndjson>(some);
        CHECK(unchunked(whole<framed<framing::http_chunked, ndjson>>(some, n)) == payload);
        CHECK(unparted(whole<framed<framing::u32_parts<>, ndjson>>(some, n)) == payload);
        CHECK(unframed(whole<framed<holdfast::framing::websocket_fragments, ndjson>>(some, n)) == payload);
    }
}

TEST_CASE("a chunk that is large enough is one whole frame, and nearly full")
{
    const rows some(3000, "a row of a message that is large enough");
    for (const std::size_t n : {32u, 127u, 128u, 129u, 4096u, 65'535u, 70'000u}) {
        INFO("chunks of " << n);
        const auto chunked = chunks_of<framed<framing::http_chunked, ndjson>>(some, n);
        for (std::size_t i = 0; i + 1 != chunked.size(); ++i) {
            CHECK(chunked[i].size() + 6 >= n);
            CHECK_NOTHROW(unchunked(chunked[i] + "0\r\n\r\n"));
        }
        CHECK_NOTHROW(unchunked(chunked.back()));
        const auto parts = chunks_of<framed<framing::u32_parts<>, ndjson>>(some, n);
        for (const std::string& frame : parts) {
            std::string_view rest = frame;
            CHECK(part(rest).last == (&frame == &parts.back()));
            CHECK(rest.empty());
            CHECK((frame.size() == n || &frame == &parts.back()));
        }
        const auto fragments = chunks_of<framed<holdfast::framing::websocket_fragments, ndjson>>(some, n);
        for (std::size_t i = 0; i + 1 != fragments.size(); ++i)
            CHECK(fragments[i].size() + 6 >= n);
    }
    STATIC_REQUIRE(framed<framing::http_chunked>::whole_frames <= 32);
}

TEST_CASE("a message in parts that fits into a chunk is one frame: the one that its length in front makes")
{
    const rows some{"short"};
    CHECK(whole<framed<framing::u32_parts<>>>(some, 64) == whole<framed<framing::u32_length<>>>(some, 64));
    CHECK(whole<framed<framing::http_chunked, ndjson>>(rows{}, 64) == "0\r\n\r\n");
    CHECK(whole<framed<framing::u32_parts<>, ndjson>>(rows{}, 64) == std::string(4, '\0'));
    // A body of several messages.
    const framed more{framing::http_chunked{.ends = false}, ndjson{}};
    CHECK(whole(some, 64, more) + whole(some, 64, more) + whole(rows{}, 64, more) ==
          "8\r\n\"short\"\n\r\n8\r\n\"short\"\n\r\n");
}

TEST_CASE("an event has its fields and a data line for each line of the message, whatever ends a line")
{
    const auto [payload, data] = GENERATE(table<std::string_view, std::string_view>({
        {"", ""},
        {"{\"a\":1}", "{\"a\":1}"},
        {"one\ntwo", "one\ntwo"},
        {"one\rtwo", "one\ntwo"},
        {"one\r\ntwo", "one\ntwo"},
        {"one\r\n\r\ntwo\n\rthree\r\r\nfour", "one\n\ntwo\n\nthree\n\nfour"},
        {"\nbegun", "\nbegun"},
        {"ended\n", "ended\n"},
        {"ended\r\n", "ended\n"},
        {"\r", "\n"},
    }));
    const framing::sse all{.event = "tick", .id = "17", .retry = std::chrono::seconds(3)};
    for (std::size_t n = 1; n <= 64; ++n) {
        INFO("chunks of " << n);
        const event sent(whole(raw_json(payload), n, framed{all, json{}}));
        CHECK(sent.data == data);
        CHECK(sent.fields == "event=tick;id=17;retry=3000;");
        CHECK(event(whole<framed<framing::sse>>(raw_json(payload), n)).fields.empty());
    }
    const rows some(200, "rows that are more than it takes at a time");
    const std::string lines = holdfast::serialize_to_string<ndjson>(some);
    for (const std::size_t n : sizes)
        CHECK(event(whole<framed<framing::sse, ndjson>>(some, n)).data == lines);
    CHECK(holdfast::serialized_size<framed<framing::sse, ndjson>>(some) ==
          whole<framed<framing::sse, ndjson>>(some, 100).size());
}

TEST_CASE("layers lie around layers")
{
    const rows some(100, "a row");
    const std::string payload = holdfast::serialize_to_string<ndjson>(some);
    for (const std::size_t n : sizes) {
        using events_in_chunks = framed<framing::http_chunked, framed<framing::sse, ndjson>>;
        CHECK(event(unchunked(whole<events_in_chunks>(some, n))).data == payload);
        using lengths_in_parts = framed<framing::u32_parts<>, framed<framing::u32_length<>, ndjson>>;
        CHECK(unparted(whole<lengths_in_parts>(some, n)).substr(4) == payload);
        using lines_with_length = framed<framing::varint_length, framed<framing::line>>;
        CHECK(whole<lines_with_length>(5, n) == "\x02"
                                                "5\n");
    }
}

TEST_CASE("what fails never has its end: no last chunk, no last part, no end of an event, no length of what is "
          "not there")
{
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    for (const std::size_t good : {0u, 1u, 300u}) {
        std::vector<double> numbers(good, 0.5);
        numbers.push_back(nan);
        numbers.push_back(1);
        const std::string path = "/" + std::to_string(good);
        for (const std::size_t n : sizes) {
            INFO("NaN behind " << good << ", chunks of " << n);
            const auto chunked = failure_in_chunks<framed<framing::http_chunked>>(std::cref(numbers), n);
            CHECK(chunked.error == errc::not_finite);
            CHECK(chunked.path == path);
            CHECK(chunked.before.find("0\r\n\r\n") == std::string::npos);
            const auto parts = failure_in_chunks<framed<framing::u32_parts<>>>(std::cref(numbers), n);
            CHECK(parts.error == errc::not_finite);
            CHECK_THROWS(unparted(parts.before));
            const auto in_event = failure_in_chunks<framed<framing::sse>>(std::cref(numbers), n);
            CHECK(in_event.error == errc::not_finite);
            CHECK(in_event.path == path);
            CHECK(in_event.before.find("\n\n") == std::string::npos);
            const auto counted = failure_in_chunks<framed<framing::u32_length<>>>(std::cref(numbers), n);
            CHECK(counted.error == errc::not_finite);
            CHECK(counted.path == path);
            CHECK(counted.before.empty()); // known before the first byte
        }
    }
}

TEST_CASE("a source that throws fails a framed message for good")
{
    auto throwing = std::views::iota(0, 100) | std::views::transform([](int i) {
                        if (i == 70) throw std::runtime_error("no such row");
                        return i;
                    });
    for (const std::size_t n : sizes) {
        const auto chunked = failure_in_chunks<framed<framing::http_chunked>>(throwing, n);
        CHECK(chunked.error == errc::source_failed);
        CHECK(chunked.before.find("0\r\n\r\n") == std::string::npos);
        const auto counted = failure_in_chunks<framed<framing::varint_length>>(throwing, n);
        CHECK(counted.error == errc::source_failed);
        CHECK(counted.before.empty());
    }
}

TEST_CASE("a source that changes after its size was counted is an error, not another length")
{
    for (const std::size_t n : {1u, 3u, 16u, 64u}) {
        for (const int change : {-1, +1}) {
            INFO("chunks of " << n << ", change by " << change);
            rows some(100, "as long as was told");
            const std::string told = whole<framed<framing::u32_length<>>>(some, 16);
            holdfast::streaming_serializer<framed<framing::u32_length<>>, std::reference_wrapper<rows>> text(some);
            std::string chunk(n, '\0'), sent;
            std::error_code ec;
            while (!text.done() && !ec) {
                const auto part = text.next(chunk, ec);
                sent.append(part.data(), part.size());
                if (sent.size() >= 20) some[90].resize(static_cast<std::size_t>(19 + change), '!');
            }
            CHECK(ec == errc::source_changed);
            CHECK(sent.size() < told.size());
            CHECK(sent.substr(0, 4) == told.substr(0, 4));
        }
    }
    const rows some{"one", "two"};
    for (const std::uint64_t size : {0u, 12u, 14u}) { // it is 13
        const framed wrong{framing::content_length{size}, json{}};
        for (const std::size_t n : {1u, 5u, 64u}) {
            const auto failed = failure_in_chunks(std::cref(some), n, wrong);
            CHECK(failed.error == errc::source_changed);
            CHECK(failed.before.size() < 13);
        }
    }
}

namespace {

/// An exchange's framing: two digits of length.
struct two_digits {
    static constexpr std::size_t max_header_size = 2;
    static constexpr std::size_t max_trailer_size = 0;
    static constexpr std::uint64_t max_size = 99;

    char* write_header(char* p, std::uint64_t size) const noexcept
    {
        *p++ = static_cast<char>('0' + size / 10);
        *p++ = static_cast<char>('0' + size % 10);
        return p;
    }
    char* write_trailer(char* p) const noexcept { return p; }
};

} // namespace

TEST_CASE("what a framing cannot express is refused before the first byte")
{
    for (const std::size_t n : sizes) {
        CHECK(whole<framed<two_digits>>(std::string(97, 'x'), n).substr(0, 2) == "99");
        const auto longer = failure_in_chunks<framed<two_digits>>(std::string(98, 'x'), n);
        CHECK(longer.error == errc::not_framable);
        CHECK(longer.before.empty());
        for (const framing::sse& wrong : {framing::sse{.event = "a\nb"}, framing::sse{.id = "a\rb"},
                                          framing::sse{.id = std::string_view("a\0b", 3)}}) {
            const auto failed = failure_in_chunks(1, n, framed{wrong, json{}});
            CHECK(failed.error == errc::not_framable);
            CHECK(failed.before.empty());
        }
    }
}

TEST_CASE("a size that depends on the chunks, or on reading twice what can be read once, is not counted")
{
    using once = std::ranges::istream_view<int>;
    STATIC_REQUIRE(holdfast::multi_pass_source<rows, framed<framing::line>>);
    STATIC_REQUIRE(holdfast::multi_pass_source<rows, framed<framing::u32_length<>>>);
    STATIC_REQUIRE(holdfast::multi_pass_source<rows, framed<framing::sse>>);
    STATIC_REQUIRE_FALSE(holdfast::multi_pass_source<rows, framed<framing::http_chunked>>);
    STATIC_REQUIRE_FALSE(holdfast::multi_pass_source<rows, framed<framing::u32_parts<>>>);
    STATIC_REQUIRE_FALSE(holdfast::multi_pass_source<once, framed<framing::line>>);
    std::istringstream numbers("1 2 3");
    CHECK(unchunked(tests::in_chunks<framed<framing::http_chunked>>(once(numbers), 10'000)) == "[1,2,3]");
}

TEST_CASE("framing allocates nothing")
{
    const rows some(1000, "a row without which there would be less");
    std::array<char, 1000> chunk;
    const auto allocations = [&]<class Framing>(Framing around) {
        return tests::allocations_in([&] {
            holdfast::streaming_serializer<framed<Framing>, std::reference_wrapper<const rows>> text(some,
                                                                                                     {around, {}});
            std::error_code ec;
            while (!text.done() && !ec)
                static_cast<void>(text.next(chunk, ec));
        });
    };
    CHECK(allocations(framing::varint_length{}) == 0);
    CHECK(allocations(framing::http_chunked{}) == 0);
    CHECK(allocations(framing::sse{}) == 0);
}

TEST_CASE("serializes_beyond says whether a message is larger, and does not count on")
{
    std::size_t made = 0;
    auto counted = std::views::iota(0, 1'000'000) | std::views::transform([&](int i) {
                       ++made;
                       return i;
                   });
    CHECK(holdfast::serialized_size_exceeds<json>(1000, counted));
    CHECK(made < 5000);
    const std::string four = "four"; // six with its quotes
    CHECK(holdfast::serialized_size_exceeds<json>(5, four));
    CHECK_FALSE(holdfast::serialized_size_exceeds<json>(6, four));
    CHECK_FALSE(holdfast::serialized_size_exceeds<json>(0, std::numeric_limits<double>::infinity()));
}

TEST_CASE("a framed message is written by async_write_streamed, without a last chunk where its source fails")
{
    const int fails_at = GENERATE(-1, 4000);
    auto numbers = std::views::iota(0, 5000) | std::views::transform([=](int i) {
                       if (i == fails_at) throw std::runtime_error("no such row");
                       return i;
                   });
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    holdfast::error_code result;
    holdfast::async_write_streamed(server, holdfast::formatted(numbers, framed{framing::http_chunked{}, ndjson{}}),
                                   {.chunk_bytes = 1000}, [&, &socket = server](holdfast::error_code ec, std::size_t) {
                                       result = ec;
                                       socket.close();
                                   });
    tests::run(io);
    if (fails_at < 0) {
        CHECK_FALSE(result);
        CHECK(unchunked(tests::read_to_end(client).bytes) == holdfast::serialize_to_string<ndjson>(numbers));
    } else {
        CHECK(result == holdfast::error_code(errc::source_failed));
        const auto received = tests::read_to_end(client);
        CHECK(received.end == net::error::connection_reset);
        CHECK(received.bytes.find("\r\n0\r\n") == std::string::npos);
    }
}
