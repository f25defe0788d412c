// holdfast: tests of permessage-deflate (RFC 7692): negotiation, messages of every form wherever their bytes are cut,
// hostile ones, the memory of idle connections, and broadcasts.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/websocket.hpp"

#include <holdfast/adapters/websocket_deflate.hpp>
#include <holdfast/outbox_group.hpp>
#include <holdfast/websocket_group.hpp>

#include <malloc.h>
#include <zlib.h>

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using holdfast::websocket_deflate;
using holdfast::websocket_deflate_options;
using holdfast::websocket_errc;
using holdfast::websocket_kind;
using tests::client_frame;
using tests::close_payload;
using tests::server_frame;
using tests::tcp;
using namespace std::string_literals;
namespace net = holdfast::net;

namespace {

constexpr unsigned fin = 0x80, rsv1 = 0x40, text = 1, binary = 2, closing = 8;

/// A client's compressor.
class client_deflate {
public:
    explicit client_deflate(int window_bits = 15, int level = 6, int memory_level = 8)
    {
        REQUIRE(::deflateInit2(&z_, level, Z_DEFLATED, -window_bits, memory_level, Z_DEFAULT_STRATEGY) == Z_OK);
    }
    client_deflate(const client_deflate&) = delete;
    ~client_deflate() { ::deflateEnd(&z_); }

    /// The bytes with a flush, or the end of the stream.
    std::string operator()(std::string_view bytes, int flush = Z_SYNC_FLUSH)
    {
        std::string in(bytes);
        std::string out;
        z_.next_in = reinterpret_cast<Bytef*>(in.data());
        z_.avail_in = static_cast<uInt>(in.size());
        do {
            char piece[16384];
            z_.next_out = reinterpret_cast<Bytef*>(piece);
            z_.avail_out = sizeof piece;
            ::deflate(&z_, flush);
            out.append(piece, sizeof piece - z_.avail_out);
        } while (z_.avail_out == 0);
        return out;
    }

    /// A whole message by itself.
    std::string message(std::string_view bytes)
    {
        ::deflateReset(&z_);
        std::string out = (*this)(bytes);
        REQUIRE(out.ends_with("\0\0\xff\xff"s));
        out.resize(out.size() - 4);
        return out;
    }

private:
    ::z_stream z_{};
};

std::string deflated(std::string_view bytes) { return client_deflate().message(bytes); }

/// What a client makes of a compressed message.
std::string inflated(std::string_view bytes, int window_bits = 15)
{
    std::string in(bytes);
    in.append("\0\0\xff\xff", 4);
    ::z_stream z{};
    REQUIRE(::inflateInit2(&z, -window_bits) == Z_OK);
    z.next_in = reinterpret_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    std::string out;
    do {
        char piece[16384];
        z.next_out = reinterpret_cast<Bytef*>(piece);
        z.avail_out = sizeof piece;
        const int result = ::inflate(&z, Z_NO_FLUSH);
        REQUIRE((result == Z_OK || result == Z_BUF_ERROR));
        out.append(piece, sizeof piece - z.avail_out);
    } while (z.avail_out == 0);
    CHECK(z.avail_in == 0);
    ::inflateEnd(&z);
    return out;
}

/// The messages in a server's frames; what follows the last one is a Close frame.
std::vector<std::string> received(std::string_view bytes, std::size_t& compressed, int window_bits = 15)
{
    std::vector<std::string> messages;
    while (!bytes.empty()) {
        const auto h = holdfast::detail::websocket_header::parse(bytes);
        REQUIRE(h.complete);
        CHECK(h.final);
        const auto payload = bytes.substr(h.size, static_cast<std::size_t>(h.length));
        bytes.remove_prefix(h.size + payload.size());
        if (h.is_control()) continue;
        if (h.reserved == 4) ++compressed;
        messages.push_back(h.reserved == 4 ? inflated(payload, window_bits) : std::string(payload));
    }
    return messages;
}

const std::string bye = client_frame(fin | closing, close_payload(1000));
const std::string bye_answer = server_frame(fin | closing, close_payload(1000));

std::string closed(websocket_errc error)
{
    return server_frame(fin | closing, close_payload(static_cast<unsigned>(holdfast::close_code_of(error)),
                                                     make_error_code(error).message()));
}

/// The bytes are this message, or this violation, wherever they are cut.
void read_as(const std::string& bytes, const std::optional<std::string>& message,
             std::optional<websocket_errc> error = {}, holdfast::websocket_options options = {})
{
    websocket_deflate deflate{{.threshold = 1000}};
    options.compression = &deflate;
    const std::string all = error ? bytes : bytes + bye;
    const auto check = [&](std::size_t cut) {
        const auto session = tests::talk(all, options, cut);
        INFO("cut at " << cut);
        CHECK(session.error == (error ? holdfast::error_code(*error) : holdfast::error_code()));
        CHECK(session.messages == (message ? std::vector<std::string>{*message} : std::vector<std::string>{}));
        CHECK(session.answer.ends_with(error ? closed(*error) : bye_answer));
    };
    check(std::string::npos);
    if (all.size() <= 80)
        for (std::size_t cut = 1; cut < all.size(); ++cut)
            check(cut);
}

std::string hello(std::string_view compressed) { return client_frame(fin | rsv1 | text, compressed); }

/// The response's field for the offers; "" if there is none.
std::string answer_to(std::string_view offers, const websocket_deflate_options& options = {})
{
    websocket_deflate deflate{options};
    tests::request_head head;
    for (const std::string_view line : {"GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade",
                                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"})
        head.add(line);
    head.add("Sec-WebSocket-Extensions:" + std::string(offers));
    const auto handshake = holdfast::accept_websocket("GET", head, {.compression = &deflate});
    CHECK(handshake.status == 101);
    const std::string_view response = handshake.response.text();
    const auto at = response.find("Sec-WebSocket-Extensions: ");
    CHECK((at != response.npos) == (handshake.compression == &deflate));
    CHECK(response.ends_with("\r\n\r\n"));
    if (at == response.npos) return "";
    const auto field = response.substr(at + 26);
    return std::string(field.substr(0, field.find("\r\n")));
}

const std::string agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

} // namespace

TEST_CASE("13 negotiation: each valid offer gets its answer, without context takeover in both directions")
{
    for (const auto* offer :
         {"permessage-deflate", " permessage-deflate ", "Permessage-Deflate",
          "permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover",
          "permessage-deflate;client_no_context_takeover",
          "permessage-deflate; client_max_window_bits=8; server_no_context_takeover; client_no_context_takeover",
          "x-webkit-deflate-frame, permessage-deflate", "permessage-deflate; unknown, permessage-deflate",
          "other; a=\"x, permessage-deflate; y\", permessage-deflate"}) {
        INFO(offer);
        CHECK(answer_to(offer) == agreed);
    }
    CHECK(answer_to("permessage-deflate; server_max_window_bits=15") == agreed + "; server_max_window_bits=13");
    CHECK(answer_to("permessage-deflate; server_max_window_bits=\"13\"") == agreed + "; server_max_window_bits=13");
    CHECK(answer_to("permessage-deflate; server_max_window_bits=10, permessage-deflate") == agreed);
    CHECK(answer_to("permessage-deflate; server_max_window_bits=10", {.window_bits = 9}) ==
          agreed + "; server_max_window_bits=9");
    const websocket_deflate_options small{.client_window_bits = 10};
    CHECK(answer_to("permessage-deflate; client_max_window_bits", small) == agreed + "; client_max_window_bits=10");
    CHECK(answer_to("permessage-deflate; client_max_window_bits=9", small) == agreed + "; client_max_window_bits=9");
    CHECK(answer_to("permessage-deflate, permessage-deflate; client_max_window_bits=12", small) ==
          agreed + "; client_max_window_bits=10");
    CHECK(answer_to("permessage-deflate", small).empty());
}

TEST_CASE("13 negotiation: offers that are invalid, of others, or for a smaller window are declined")
{
    for (const auto* offer : {"",
                              ",",
                              "permessage-deflate2",
                              "permessage-bzip2",
                              "permessage-deflate=1",
                              "permessage-deflate; unknown",
                              "permessage-deflate;",
                              "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
                              "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
                              "permessage-deflate; server_no_context_takeover=1",
                              "permessage-deflate; client_no_context_takeover=",
                              "permessage-deflate; server_max_window_bits",
                              "permessage-deflate; server_max_window_bits=",
                              "permessage-deflate; server_max_window_bits=7",
                              "permessage-deflate; server_max_window_bits=16",
                              "permessage-deflate; server_max_window_bits=08",
                              "permessage-deflate; server_max_window_bits=015",
                              "permessage-deflate; server_max_window_bits=1e",
                              "permessage-deflate; server_max_window_bits=15 14",
                              "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
                              "permessage-deflate; client_max_window_bits=",
                              "permessage-deflate; client_max_window_bits=16",
                              "permessage-deflate; client_max_window_bits; client_max_window_bits",
                              "permessage-deflate; client_max_window_bits=\"10",
                              "permessage-deflate; server_max_window_bits=12",
                              "permessage-deflate; server_max_window_bits=8"}) {
        INFO(offer);
        CHECK(answer_to(offer).empty());
    }
}

TEST_CASE("12 the RFC's examples: one frame, fragments, stored, a last block, two blocks")
{
    read_as(hello("\xf2\x48\xcd\xc9\xc9\x07\x00"s), "Hello");
    read_as(client_frame(rsv1 | text, "\xf2\x48\xcd"s) + client_frame(fin, "\xc9\xc9\x07\x00"s), "Hello");
    read_as(client_frame(rsv1 | text, "") + client_frame(0, "\xf2\x48\xcd\xc9\xc9"s) + client_frame(fin | 9, "p") +
                client_frame(0, "\x07\x00"s) + client_frame(fin, ""),
            "Hello");
    read_as(hello("\x00\x05\x00\xfa\xffHello\x00"s), "Hello");
    read_as(hello("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"s), "Hello");
    read_as(hello("\xf3\x48\xcd\xc9\xc9\x07\x00"s), "Hello"); // as clients send that end their stream
    read_as(hello("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"s), "Hello");
    read_as(client_frame(fin | text, "Hello"), "Hello"); // uncompressed
    for (const auto& nothing : {"\x00"s, ""s, "\x02\x00"s, "\x03\x00"s})
        read_as(hello(nothing), "");
}

TEST_CASE("12 several streams in one message, and flushes of every kind")
{
    client_deflate by;
    std::string bytes = by("one ", Z_PARTIAL_FLUSH); // one after the other: the operands of + have no order
    bytes += by("two ", Z_SYNC_FLUSH);
    bytes += by("three ", Z_FULL_FLUSH);
    bytes += by("four ");
    bytes.resize(bytes.size() - 4);
    read_as(hello(bytes), "one two three four ");
    const std::string first = client_deflate()("one ", Z_FINISH);
    read_as(hello(first + client_deflate()("two ", Z_FINISH) + deflated("three")), "one two three");
    read_as(hello(first + first), "one one ");
}

TEST_CASE("compressed bytes that are invalid or end too soon close with 1007")
{
    read_as(hello("\xf2\x00\x11\x00\x00"s), {}, websocket_errc::invalid_compression); // refers to the message before
    read_as(hello("\x07"s), {}, websocket_errc::invalid_compression);
    read_as(hello("\xff\xff\xff"s), {}, websocket_errc::invalid_compression);
    read_as(hello("\x00\x05\x00\xfb\xffHello\x00"s), {}, websocket_errc::invalid_compression);
    read_as(hello(deflated("Hello") + "\x07"s), {}, websocket_errc::invalid_compression);
    std::mt19937 random(42);
    std::string message;
    for (int i = 0; i != 300; ++i)
        message += static_cast<char>('a' + random() % 20);
    const std::string whole = deflated(message);
    websocket_deflate deflate;
    for (std::size_t size = 1; size < whole.size() - 1; ++size) {
        const auto session =
            tests::talk(client_frame(fin | rsv1 | binary, whole.substr(0, size)), {.compression = &deflate});
        INFO(size);
        CHECK(session.error == websocket_errc::invalid_compression);
    }
}

TEST_CASE("RSV1 is for the first frame of a message only, and only where it was negotiated")
{
    const std::string some = deflated("Hello");
    read_as(client_frame(rsv1 | text, some.substr(0, 2)) + client_frame(fin | rsv1, some.substr(2)), {},
            websocket_errc::reserved_bit);
    for (const unsigned control : {8U, 9U, 10U})
        read_as(client_frame(fin | rsv1 | control, ""), {}, websocket_errc::reserved_bit);
    for (const unsigned bits : {0x20U, 0x10U, 0x30U, 0x70U})
        read_as(client_frame(fin | bits | text, some), {}, websocket_errc::reserved_bit);
    const auto plain = tests::talk(hello(some));
    CHECK(plain.error == websocket_errc::reserved_bit);
    CHECK(plain.answer == closed(websocket_errc::reserved_bit));
}

TEST_CASE("text is UTF-8 after decompression, in whatever pieces it comes")
{
    const std::string good = "\xf0\x9f\x8c\x8a \xe2\x82\xac"s;
    read_as(hello(deflated(good)), good);
    client_deflate by;
    std::string bytes;
    for (const char each : good)
        bytes += by(std::string(1, each));
    bytes.resize(bytes.size() - 4);
    read_as(hello(bytes), good);
    for (const auto& bad : {"\xed\xa0\x80"s, "abc\xff"s, "\xe2\x82"s}) {
        read_as(hello(deflated(bad)), {}, websocket_errc::invalid_text);
        read_as(client_frame(fin | rsv1 | binary, deflated(bad)), bad);
    }
}

TEST_CASE("a decompression bomb stops at the message limit, and its memory there")
{
    const std::string zeros(10U << 20U, '\0');
    const std::string bomb = deflated(zeros);
    REQUIRE(bomb.size() < 16'000);
    websocket_deflate deflate;
    for (const unsigned kind : {text, binary})
        for (const auto& bytes : {client_frame(fin | rsv1 | kind, bomb),
                                  client_frame(rsv1 | kind, bomb.substr(0, 9)) + client_frame(fin, bomb.substr(9))}) {
            net::io_context io;
            auto both = tests::socket_pair(io);
            holdfast::connection_guard<tcp::socket> peer(std::move(both.first));
            holdfast::outbox outbox{peer};
            holdfast::buffer_pool pool(io);
            holdfast::websocket_reader messages{
                peer, pool, outbox, {.max_message_bytes = 65536 - 64, .compression = &deflate}};
            holdfast::error_code error;
            messages.async_next([&](holdfast::error_code ec, auto) { error = ec; });
            net::write(both.second, net::buffer(bytes));
            io.run_for(std::chrono::seconds(10)); // ends when nothing is pending
            CHECK(error == websocket_errc::message_too_long);
            CHECK(pool.counters().peak_bytes <= 32768 + 65536 + 32768); // compressed; the result, and half of it
            CHECK(pool.counters().lent_bytes == 0);
        }
    const std::string most(1000, 'x');
    read_as(hello(deflated(most)), most, {}, {.max_message_bytes = 1000});
    read_as(hello(deflated(most)), {}, websocket_errc::message_too_long, {.max_message_bytes = 999});
    read_as(hello(deflated("ab")), {}, websocket_errc::message_too_long, {.max_message_bytes = 1});
    read_as(hello(deflated("\xff" + zeros)), {}, websocket_errc::invalid_text); // which comes first
    // What compresses badly is not refused; blocks without data do not go on for ever.
    std::string noise(4096, '\0');
    std::mt19937 random(1);
    for (char& each : noise)
        each = static_cast<char>(random());
    read_as(client_frame(fin | rsv1 | binary, client_deflate(9, 0, 1).message(noise)), noise, {},
            {.max_message_bytes = 4096});
    std::string empty_blocks;
    while (empty_blocks.size() < 2000)
        empty_blocks += "\x00\x00\x00\xff\xff"s;
    read_as(hello(empty_blocks), {}, websocket_errc::message_too_long, {.max_message_bytes = 1000});
}

TEST_CASE("12, 13 messages of every size and kind, in fragments, with windows of every size")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (const unsigned bits : {9U, 12U, 15U}) {
        websocket_deflate deflate{{.threshold = 0, .window_bits = bits, .client_window_bits = bits}};
        client_deflate by(static_cast<int>(bits));
        for (const std::size_t size : {0U, 1U, 16U, 64U, 256U, 1024U, 4096U, 16384U, 65536U, 131072U})
            for (const unsigned letters : {1U, 4U, 94U, 256U}) {
                std::string message(size, 0);
                for (char& each : message)
                    each = static_cast<char>(letters == 256 ? random() : ' ' + random() % letters);
                const unsigned kind = rsv1 | (letters == 256 ? binary : text);
                std::string left = by.message(message);
                std::string bytes = client_frame(fin | kind, left);
                const std::size_t fragment = 1 + left.size() / 7;
                for (unsigned first = kind; !left.empty(); first = 0) {
                    const std::string piece = left.substr(0, fragment);
                    left.erase(0, piece.size());
                    bytes += client_frame(first | (left.empty() ? fin : 0), piece);
                }
                const auto session =
                    tests::talk(bytes + bye, {.max_message_bytes = 131072, .compression = &deflate}, bytes.size() / 2);
                INFO("window of " << bits << " bits, " << size << " bytes of " << letters);
                CHECK_FALSE(session.error);
                const std::vector<std::string> sent{message, message};
                CHECK((session.messages == sent));
                std::size_t compressed = 0;
                CHECK((received(session.answer, compressed, static_cast<int>(bits)) == sent));
                if (size > 32 && letters < 94) CHECK(compressed == 2);
            }
    }
}

TEST_CASE("a connection holds no decompressor: one serves many that are within a message")
{
    net::io_context io;
    websocket_deflate deflate;
    holdfast::buffer_pool pool(io);
    struct client {
        client(net::io_context& io, holdfast::buffer_pool& pool, websocket_deflate& deflate)
            : both(tests::socket_pair(io)),
              outbox(both.first),
              reader(both.first, pool, outbox, {.compression = &deflate})
        {
        }
        std::pair<tcp::socket, tcp::socket> both;
        holdfast::outbox<tcp::socket> outbox;
        holdfast::websocket_reader<tcp::socket, holdfast::buffer_pool> reader;
    };
    std::vector<std::unique_ptr<client>> all;
    const std::string frame = hello(deflated("Hello"));
    std::size_t got = 0;
    const auto next = [&](client& c) {
        c.reader.async_next([&](holdfast::error_code ec, auto m) {
            CHECK_FALSE(ec);
            got += m && m->data == "Hello";
        });
    };
    const auto settle = [&] {
        io.restart();
        io.poll();
    };
    for (int i = 0; i != 200; ++i) {
        all.push_back(std::make_unique<client>(io, pool, deflate));
        next(*all.back());
        net::write(all.back()->both.second, net::buffer(frame.data(), frame.size() - 1));
    }
    settle();
    CHECK(pool.counters().lent_bytes == 200 * 1024);
    for (auto& each : all)
        net::write(each->both.second, net::buffer(frame.data() + frame.size() - 1, 1));
    settle();
    CHECK(got == 200);
    for (auto& each : all)
        next(*each);
    settle();
    CHECK(pool.counters().lent_bytes == 0);
    for (auto& each : all)
        each->both.second.close();
    settle();
}

TEST_CASE("a message for whose decompression the pool has no buffer is read later, by the next operation")
{
    net::io_context io;
    websocket_deflate deflate;
    holdfast::buffer_pool pool(io, {.max_bytes = 16384});
    auto both = tests::socket_pair(io);
    holdfast::outbox outbox{both.first};
    holdfast::websocket_reader messages{both.first, pool, outbox, {.compression = &deflate}};
    const std::string message(6000, 'x'); // takes 8 KiB
    net::write(both.second, net::buffer(hello(deflated(message)) + client_frame(fin | text, "next")));
    const auto next = [&](std::string& got) {
        holdfast::error_code error;
        messages.async_next([&](holdfast::error_code ec, auto m) {
            error = ec;
            if (m) got = m->data;
        });
        io.restart();
        io.poll();
        return error;
    };
    std::string got;
    {
        const holdfast::buffer_loan other = pool.try_borrow(8192);
        for (int again = 0; again != 2; ++again) {
            CHECK(next(got) == holdfast::errc::pool_exhausted);
            CHECK(pool.counters().lent_bytes == 8192 + 1024);
        }
    }
    CHECK_FALSE(next(got));
    CHECK(got == message);
    CHECK(pool.counters().lent_bytes == 8192 + 1024);
    CHECK_FALSE(next(got));
    CHECK(got == "next");
    CHECK(pool.counters().lent_bytes == 1024);
}

TEST_CASE("messages are compressed from the threshold on, and only where that makes them shorter")
{
    websocket_deflate deflate{{.threshold = 100}};
    const auto is_compressed = [](const holdfast::payload& p) {
        return (static_cast<unsigned char>(p.text()[0]) & rsv1) != 0;
    };
    CHECK_FALSE(is_compressed(deflate.frame(std::string(99, 'x'))));
    CHECK(is_compressed(deflate.frame(std::string(100, 'x'))));
    std::mt19937 random(1);
    std::string noise(1000, '\0');
    for (char& each : noise)
        each = static_cast<char>(random());
    CHECK_FALSE(is_compressed(deflate.frame(noise, websocket_kind::binary)));
    const auto both = deflate.frames(noise, websocket_kind::binary);
    CHECK(both.plain.text() == both.compressed.text());
    CHECK(both.plain.use_count() == 2);
    const auto message = std::string(500, 'y');
    const auto frames = deflate.frames(message, websocket_kind::binary);
    CHECK(frames[nullptr].text() == server_frame(fin | binary, message));
    const auto compressed = frames[&deflate].text();
    CHECK(static_cast<unsigned char>(compressed[0]) == (fin | rsv1 | binary));
    CHECK(inflated(compressed.substr(2)) == message);
    CHECK(holdfast::websocket_frame(static_cast<holdfast::websocket_compression*>(nullptr), "a").text() ==
          server_frame(fin | text, "a"));
    websocket_deflate eager{{.threshold = 0}};
    for (std::size_t size = 0; size != 40; ++size) {
        const std::string some(size, 'z');
        const auto frame = eager.frame(some).text();
        CHECK(frame.size() <= 2 + size);
        if (is_compressed(eager.frame(some))) CHECK(inflated(eager.frame(some).text().substr(2)) == some);
    }
}

TEST_CASE("a group sends each client its form, which all of them share")
{
    net::io_context io;
    websocket_deflate deflate;
    std::vector<std::pair<tcp::socket, tcp::socket>> pairs;
    pairs.reserve(6); // the outboxes refer to them
    std::vector<std::unique_ptr<holdfast::outbox<tcp::socket>>> outboxes;
    std::vector<holdfast::outbox_group::member> members;
    holdfast::websocket_group topic;
    const auto negotiated = [&](std::size_t i) { return i % 3 == 0 ? &deflate : nullptr; };
    for (std::size_t i = 0; i != 6; ++i) {
        pairs.push_back(tests::socket_pair(io));
        outboxes.push_back(std::make_unique<holdfast::outbox<tcp::socket>>(pairs.back().first));
        members.emplace_back(topic.list(negotiated(i)), *outboxes.back());
    }
    CHECK(topic.size() == 6);
    const std::string message(1000, 'm');
    holdfast::websocket_frames frames;
    CHECK(tests::allocations_in([&] { frames = deflate.frames(message); }) == 3); // of them one is temporary
    CHECK(topic.push(frames) == 6);
    CHECK(topic.push(frames, holdfast::conflate{1}) == 6);
    CHECK(frames.compressed.use_count() == 1 + 2 * 2);
    CHECK(frames.plain.use_count() == 1 + 4 * 2);
    io.poll();
    for (std::size_t i = 0; i != pairs.size(); ++i) {
        const std::string one(frames[negotiated(i)].text());
        std::string got(2 * one.size(), '\0');
        net::read(pairs[i].second, net::buffer(got));
        CHECK(got == one + one);
    }
    members.clear();
    CHECK(topic.size() == 0);
}

TEST_CASE("a group may be destroyed by the end of a connection that a push overflows")
{
    struct end_group {
        std::unique_ptr<holdfast::websocket_group>* group;
        void operator()(const holdfast::connection_end&) const noexcept { group->reset(); }
    };
    net::io_context io;
    websocket_deflate deflate;
    auto topic = std::make_unique<holdfast::websocket_group>();
    auto both = tests::socket_pair(io);
    auto others = tests::socket_pair(io);
    holdfast::connection_guard<tcp::socket, end_group> guard(std::move(both.first), end_group{&topic});
    holdfast::outbox full{guard, {.high_watermark = 1500}};
    CHECK_FALSE(full.push(holdfast::payload(std::string(900, 'x'))));
    holdfast::outbox other{others.first};
    const holdfast::outbox_group::member first{topic->list(nullptr), full};
    const holdfast::outbox_group::member second{topic->list(&deflate), other};
    CHECK(topic->push(deflate.frames(std::string(1000, 'm'))) == 0);
    CHECK_FALSE(topic);
    CHECK_FALSE(second);
    io.poll();
}

TEST_CASE("threads share one compressor and one decompressor")
{
    websocket_deflate deflate{{.threshold = 0}};
    std::array<int, 4> wrong{};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != 4; ++t)
        threads.emplace_back([&, t] {
            net::io_context io;
            for (int round = 0; round != 20; ++round) {
                const std::string message(1000 + 100 * t, static_cast<char>('a' + t));
                const auto frame = deflate.frame(message);
                auto both = tests::socket_pair(io);
                holdfast::outbox outbox{both.first};
                holdfast::websocket_reader messages{both.first, outbox, {.compression = &deflate}};
                std::string answer(frame.text());
                const bool compressed =
                    (static_cast<unsigned char>(answer[0]) & rsv1) != 0; // not while another thread compresses
                const auto h = holdfast::detail::websocket_header::parse(answer);
                const std::string bytes = client_frame(static_cast<unsigned char>(answer[0]), answer.substr(h.size));
                net::write(both.second, net::buffer(bytes));
                std::string got;
                messages.async_next([&](holdfast::error_code, auto m) { got = m ? std::string(m->data) : ""; });
                io.restart();
                io.run_one();
                wrong[t] += got != message || (!compressed && h.length != message.size());
            }
        });
    for (auto& each : threads)
        each.join();
    CHECK(wrong == std::array<int, 4>{});
}

TEST_CASE("the options state the memory, and are refused out of range")
{
    if (::mallinfo2().uordblks != 0) { // a sanitizer's malloc does not say
        for (const websocket_deflate_options& options :
             {websocket_deflate_options{}, websocket_deflate_options{.compressors = 9, .decompressors = 7},
              websocket_deflate_options{.window_bits = 15, .memory_level = 9},
              websocket_deflate_options{
                  .decompressors = 30, .window_bits = 9, .memory_level = 1, .client_window_bits = 9}}) {
            const auto talk = [&options](auto read) {
                websocket_deflate deflate(options);
                tests::talk(hello(deflated(std::string(100'000, 'x'))) + bye,
                            {.max_message_bytes = 100'000, .compression = &deflate});
                return read();
            };
            talk([] { return 0; }); // what a first conversation leaves in caches is not the compression's
            const auto before = ::mallinfo2();
            const auto after = talk([] { return ::mallinfo2(); });
            const std::size_t took = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
            CHECK(took <= options.bytes());
            CHECK(took >= options.bytes() / 2);
        }
    }
    for (const websocket_deflate_options& wrong :
         {websocket_deflate_options{.compressors = 0}, websocket_deflate_options{.decompressors = 0},
          websocket_deflate_options{.level = 0}, websocket_deflate_options{.level = 10},
          websocket_deflate_options{.window_bits = 8}, websocket_deflate_options{.window_bits = 16},
          websocket_deflate_options{.memory_level = 0}, websocket_deflate_options{.memory_level = 10},
          websocket_deflate_options{.client_window_bits = 8}, websocket_deflate_options{.client_window_bits = 16}})
        CHECK_THROWS_AS(websocket_deflate(wrong), std::invalid_argument);
}
