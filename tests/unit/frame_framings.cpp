// holdfast: tests of frame_reader with every framing, pools that run out, and streams that hold bytes back.
// SPDX-License-Identifier: BSL-1.0
#include "../examples/support/netstring.hpp"
#include "support/catch.hpp"
#include "support/next_outcome.hpp"
#include "support/sockets.hpp"

#include <holdfast/frame_reader.hpp>

#include <array>
#include <bit>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

using examples::netstring;
using holdfast::errc;
using holdfast::error_code;
using holdfast::frame_reader;
using outcome = tests::next_outcome;
using tests::tcp;
using namespace std::string_literals;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

std::string u32(std::size_t length)
{
    std::string header(4, '\0');
    for (unsigned i = 0; i != 4; ++i)
        header[i] = static_cast<char>(length >> (24 - 8 * i));
    return header;
}

std::string of(framing::u32_length<>, const std::string& payload) { return u32(payload.size()) + payload; }
std::string of(framing::u32_length<std::endian::little>, const std::string& payload)
{
    const std::string header = u32(payload.size());
    return std::string(header.rbegin(), header.rend()) + payload;
}
std::string of(framing::varint_length, const std::string& payload)
{
    std::string header;
    std::size_t n = payload.size();
    for (; n >= 0x80; n >>= 7U)
        header += static_cast<char>(n | 0x80U);
    return header + static_cast<char>(n) + payload;
}
std::string of(netstring, const std::string& payload) { return std::to_string(payload.size()) + ':' + payload + ','; }
std::string of(framing::line, const std::string& payload) { return payload + "\r\n"; }

template <class Framing>
struct peers {
    explicit peers(std::size_t limit) : reader(both.first, {.max_frame_bytes = limit}) {}

    void send(std::string_view bytes)
    {
        net::write(both.second, net::buffer(bytes.data(), bytes.size()));
        tests::await_readable(both.first);
    }

    outcome next()
    {
        outcome o;
        reader.async_next(o.handler());
        CHECK(o.completed == 0);
        io.restart();
        tests::run(io);
        CHECK(o.completed == 1);
        return o;
    }

    void expect(const std::string& payload)
    {
        const auto o = next();
        INFO(o.error.message());
        CHECK(o.frame == payload);
    }

    void expect(error_code ec)
    {
        const auto o = next();
        INFO(o.error.message());
        CHECK(o.error == ec);
        CHECK_FALSE(o.frame);
    }

    net::io_context io;
    std::pair<tcp::socket, tcp::socket> both = tests::socket_pair(io);
    frame_reader<tcp::socket, Framing> reader;
};

/// The checklist, for one framing.
template <class Framing>
void check(const char* name)
{
    INFO(name);
    const Framing how;
    const std::size_t limit = 300;
    const std::string empty, most(limit, 'm'), less(limit - 1, 'l'), more(limit + 1, 'x');
    { // in one segment: empty, below the limit, at it; and above it an error that stays
        peers<Framing> p(limit);
        p.send(of(how, empty) + of(how, less) + of(how, most) + of(how, "last") + of(how, more));
        p.expect(empty);
        p.expect(less);
        p.expect(most);
        p.expect("last");
        p.expect(errc::frame_too_long);
        p.expect(errc::frame_too_long);
    }
    { // a byte at a time
        peers<Framing> p(limit);
        outcome o;
        p.reader.async_next(o.handler());
        const std::string text = of(how, "hello");
        for (const char byte : text) {
            CHECK(o.completed == 0);
            p.send({&byte, 1});
            p.io.restart();
            p.io.poll();
        }
        CHECK(o.frame == "hello");
    }
    const std::string text = of(how, "truncated");
    for (std::size_t n = 1; n != text.size(); ++n) { // the end at every byte
        peers<Framing> p(limit);
        p.send(text.substr(0, n));
        p.both.second.close();
        p.expect(errc::truncated_frame);
    }
    for (std::size_t n = 0; n != text.size(); ++n) { // a reset there is an error, not an end
        peers<Framing> p(limit);
        if (n != 0) p.send(text.substr(0, n));
        outcome o;
        p.reader.async_next(o.handler());
        p.io.poll();
        tests::reset(p.both.second);
        tests::run(p.io);
        CHECK(o.error == net::error::connection_reset);
    }
    peers<Framing> p(2000); // what stands around a payload lies across the end of the first buffer, of 1024
    for (std::size_t size = 1010; size != 1025; ++size) {
        const std::string almost(size, 'x');
        p.send(of(how, almost) + of(how, "next"));
        p.expect(almost);
        p.expect("next");
    }
}

} // namespace

TEST_CASE("every framing: empty, at the limit, above it, a byte at a time, truncated or reset at each byte")
{
    check<framing::line>("line");
    check<framing::u32_length<>>("u32, big-endian");
    check<framing::u32_length<std::endian::little>>("u32, little-endian");
    check<framing::varint_length>("varint");
    check<netstring>("a user's own");
}

TEST_CASE("a length above the limit is refused by its number, and costs no more than the first buffer")
{
    peers<framing::u32_length<>> p(1'000'000);
    p.send("\xFF\xFF\xFF\xFF"s);
    p.expect(errc::frame_too_long);
    peers<framing::u32_length<std::endian::little>> minus_two(1'000'000);
    minus_two.send("\xFE\xFF\xFF\xFF"s);
    minus_two.expect(errc::frame_too_long);
    for (const auto& header : {"\xFF\xFF\xFF\xFF\x0F"s, std::string(9, '\xFF') + '\x01'}) { // of 32 and 64 bits
        peers<framing::varint_length> most(1'000'000);
        most.send(header);
        most.expect(errc::frame_too_long);
    }
    peers<netstring> digits(1'000'000);
    digits.send("999999999:");
    digits.expect(errc::frame_too_long);
    peers<framing::u32_length<>> patient(1'000'000);
    patient.send(u32(1'000'000) + "only this");
    outcome o;
    patient.reader.async_next(o.handler());
    patient.io.poll();
    CHECK(o.completed == 0);
    for (auto* io : {&p.io, &patient.io})
        CHECK(holdfast::shared_buffer_pool::of(io->get_executor()).counters().peak_bytes == 1024);
    patient.send(std::string(1'000'000 - 9, '.'));
    tests::run(patient.io);
    CHECK(o.frame->size() == 1'000'000);
}

TEST_CASE("a header that its framing does not allow is malformed, and stays so")
{
    peers<framing::varint_length> endless(100);
    endless.send(std::string(11, '\xFF'));
    endless.expect(errc::malformed_frame);
    endless.expect(errc::malformed_frame);
    peers<netstring> letters(100);
    letters.send("3:abc,x");
    letters.expect("abc");
    letters.expect(errc::malformed_frame);
}

namespace {

/// Searches for a blank line, without a word about the size before it has come.
struct until_blank_line {
    [[nodiscard]] static framing::bounds parse(std::string_view bytes, std::size_t) noexcept
    {
        const auto end = bytes.find("\n\n");
        if (end == bytes.npos) return {};
        return {.payload = end, .trailer = 2, .known = true};
    }
};

/// Finds frames of no bytes.
struct takes_nothing {
    [[nodiscard]] static framing::bounds parse(std::string_view, std::size_t) noexcept { return {.known = true}; }
};

} // namespace

TEST_CASE("a framing that reports no size before the frame is complete is limited all the same")
{
    constexpr std::size_t limit = 1024;
    for (const std::size_t sent : {limit + 2 * framing::max_overhead, std::size_t{1} << 20U}) {
        peers<until_blank_line> p(limit);
        const std::string text(sent, 'x');
        net::async_write(p.both.second, net::buffer(text), [](error_code, std::size_t) {});
        outcome o;
        p.reader.async_next(o.handler());
        tests::run_until(p.io, [&] { return o.completed == 1; });
        CHECK(o.error == errc::frame_too_long);
        CHECK(holdfast::shared_buffer_pool::of(p.io.get_executor()).counters().lent_bytes <= 2048);
        p.both.second.close();
        p.io.poll(); // the write ends before its text
    }
    peers<until_blank_line> p(limit);
    p.send(std::string(limit, 'x') + "\n");
    outcome o;
    p.reader.async_next(o.handler());
    p.io.poll();
    CHECK(o.completed == 0);
    p.send("\nnext");
    tests::run(p.io);
    CHECK(o.frame == std::string(limit, 'x'));
}

TEST_CASE("a frame of no bytes is malformed: it would be found without end")
{
    peers<takes_nothing> p(100);
    p.send("x");
    p.expect(errc::malformed_frame);
}

TEST_CASE("10,000 pipelined frames are read one by one, however they are cut into segments")
{
    peers<framing::varint_length> p(100);
    std::string text;
    for (int i = 0; i != 10'000; ++i)
        text += of(framing::varint_length(), std::to_string(i));
    int count = 0;
    bool right = true;
    net::co_spawn(
        p.io,
        [&]() -> net::awaitable<void> {
            while (const auto f = co_await p.reader.async_next())
                right = right && *f == std::to_string(count++);
        },
        net::detached);
    net::async_write(p.both.second, net::buffer(text), [&](error_code, std::size_t) { p.both.second.close(); });
    tests::run(p.io);
    CHECK(right);
    CHECK(count == 10'000);
}

TEST_CASE("at least 64 bytes after a frame may be read")
{
    for (const std::size_t size : {0U, 1U, 800U, 888U, 1900U}) {
        peers<framing::line> p(2000);
        p.send(std::string(size, 'x') + '\n');
        p.reader.async_next([&](error_code, std::optional<std::string_view> f) {
            REQUIRE(f);
            const volatile char* behind = f->data() + f->size();
            unsigned sum = 0;
            for (int i = 0; i != 64; ++i)
                sum += static_cast<unsigned char>(behind[i]);
            CHECK(sum < 64 * 256);
        });
        tests::run(p.io);
    }
}

TEST_CASE("readers without a buffer wait for the pool in order, and one that has a buffer fails at once")
{
    net::io_context io;
    holdfast::buffer_pool pool{io.get_executor(), {.max_bytes = 2048}};
    std::vector<std::pair<tcp::socket, tcp::socket>> sockets;
    sockets.reserve(4); // the readers refer to them
    std::vector<std::unique_ptr<frame_reader<tcp::socket, framing::line, holdfast::buffer_pool>>> readers;
    std::array<outcome, 4> outcomes;
    for (auto& o : outcomes) {
        auto& [server, client] = sockets.emplace_back(tests::socket_pair(io));
        net::write(client, net::buffer("half", 4));
        tests::await_readable(server);
        readers.push_back(
            std::make_unique<frame_reader<tcp::socket, framing::line, holdfast::buffer_pool>>(server, pool));
        readers.back()->async_next(o.handler());
        io.restart();
        io.poll();
    }
    CHECK(pool.counters().lent_bytes == 2048); // two hold a buffer
    CHECK(pool.waiting() == 2);
    net::write(sockets[0].second, net::buffer(std::string(2000, 'x') + '\n'));
    tests::await_readable(sockets[0].first);
    io.restart();
    io.poll();
    CHECK(outcomes[0].error == errc::pool_exhausted);
    readers[0].reset();
    io.restart();
    io.poll();
    CHECK(pool.waiting() == 1);
    for (const std::size_t i : {1U, 2U, 3U}) { // each that ends lets the next in
        net::write(sockets[i].second, net::buffer(" a line\n", 8));
        tests::await_readable(sockets[i].first);
        io.restart();
        io.poll();
        CHECK(outcomes[i].frame == "half a line");
        readers[i].reset();
        io.poll();
    }
    CHECK(pool.counters().lent_bytes == 0);
}

TEST_CASE("a wait for the pool can be cancelled, and loses no byte")
{
    net::io_context io;
    holdfast::buffer_pool pool{io.get_executor(), {.max_bytes = 1024}};
    auto all = pool.try_borrow(1024);
    auto [server, client] = tests::socket_pair(io);
    frame_reader lines{server, pool, {.max_frame_bytes = 100}};
    net::write(client, net::buffer("line\n", 5));
    tests::await_readable(server);
    net::cancellation_signal stop;
    outcome o;
    lines.async_next(net::bind_cancellation_slot(stop.slot(), o.handler()));
    io.poll();
    CHECK(pool.waiting() == 1);
    stop.emit(net::cancellation_type::total);
    tests::run(io);
    CHECK(o.error == net::error::operation_aborted);
    all.release();
    lines.async_next(o.handler());
    tests::run(io);
    CHECK(o.frame == "line");
}

namespace {

/// A layer that takes all that its socket has and hands it on a few bytes at a time, as a TLS engine does
/// with the records of one segment.
class hoarding_stream {
public:
    using executor_type = tcp::socket::executor_type;

    explicit hoarding_stream(tcp::socket below) : below_(std::move(below)) {}

    executor_type get_executor() { return below_.get_executor(); }
    tcp::socket& next_layer() { return below_; }
    tcp::socket& lowest_layer() { return below_; }
    [[nodiscard]] std::size_t pending() const { return hoard_.size(); }

    template <class Token>
    auto async_read_some(const net::mutable_buffer& into, Token&& token)
    {
        ++reads;
        return net::async_compose<Token, void(error_code, std::size_t)>(
            [this, into, begun = false](auto& self) mutable {
                if (!std::exchange(begun, true)) return net::post(below_.get_executor(), std::move(self));
                if (hoard_.empty()) {
                    hoard_.resize(below_.available());
                    net::read(below_, net::buffer(hoard_));
                }
                const std::size_t n = std::min<std::size_t>({into.size(), hoard_.size(), 5});
                std::memcpy(into.data(), hoard_.data(), n);
                hoard_.erase(0, n);
                self.complete(error_code(), n);
            },
            token, below_);
    }

    int reads = 0;

private:
    tcp::socket below_;
    std::string hoard_;
};

/// A layer that reports its end together with its last bytes.
class ending_stream {
public:
    using executor_type = tcp::socket::executor_type;

    explicit ending_stream(tcp::socket below) : below_(std::move(below)) {}

    executor_type get_executor() { return below_.get_executor(); }
    tcp::socket& next_layer() { return below_; }
    tcp::socket& lowest_layer() { return below_; }

    template <class Token>
    auto async_read_some(const net::mutable_buffer& into, Token&& token)
    {
        return net::async_compose<Token, void(error_code, std::size_t)>(
            [this, into, begun = false](auto& self) mutable {
                if (!std::exchange(begun, true)) return net::post(below_.get_executor(), std::move(self));
                const std::string last = std::exchange(last_, {});
                std::memcpy(into.data(), last.data(), last.size());
                self.complete(net::error::eof, last.size());
            },
            token, below_);
    }

private:
    tcp::socket below_;
    std::string last_ = "one\ntwo\nthree\n";
};

} // namespace

TEST_CASE("frames that arrive together with the end are delivered before it")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    ending_stream stream(std::move(server));
    frame_reader lines(stream);
    net::write(client, net::buffer("?", 1)); // the socket is readable
    for (const char* const expected : {"one", "two", "three"}) {
        outcome o;
        lines.async_next(o.handler());
        io.restart();
        tests::run(io);
        CHECK(o.frame == expected);
        CHECK_FALSE(o.error);
    }
    outcome o;
    lines.async_next(o.handler());
    io.restart();
    tests::run(io);
    CHECK_FALSE(o.frame);
    CHECK_FALSE(o.error);
}

TEST_CASE("what a layer holds back is read before the socket is waited for, and a quiet one holds no buffer")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    hoarding_stream stream(std::move(server));
    frame_reader lines(stream);
    const auto& pool = holdfast::shared_buffer_pool::of(io.get_executor());
    outcome o;
    lines.async_next(o.handler());
    io.poll();
    CHECK(stream.reads == 0); // nothing is held back, and nothing has come
    CHECK(pool.counters().lent_bytes == 0);
    net::write(client, net::buffer("one\ntwo\nthree\n", 14));
    for (const char* const expected : {"one", "two", "three"}) {
        tests::run(io);
        CHECK(o.frame == expected);
        o = {};
        lines.async_next(o.handler());
        io.restart();
        io.poll();
    }
    CHECK(o.completed == 0);
    CHECK(pool.counters().lent_bytes == 0);
}
