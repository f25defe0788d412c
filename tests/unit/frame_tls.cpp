// holdfast: tests of frame_reader over TLS: bytes in the engine are read, an idle connection has no buffer, and each
// end of the stream has its own result.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/next_outcome.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_stream.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_deadline.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <poll.h>

using namespace std::chrono_literals;
using holdfast::errc;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

TEST_CASE("over TLS all lines come, of one record and of many in one segment, and a quiet peer costs no buffer")
{
    net::io_context io;
    tests::anonymous_context context;
    auto [a, b] = tests::socket_pair(io);
    tests::tls_stream server(std::move(a), context);
    tests::tls_stream client(std::move(b), context);
    int ready = 0;
    const auto count = [&](error_code ec) { ready += ec ? 0 : 1; };
    server.async_handshake(net::ssl::stream_base::server, count);
    client.async_handshake(net::ssl::stream_base::client, count);
    tests::run(io);
    REQUIRE(ready == 2);
    io.restart();

    holdfast::frame_reader lines(server);
    const auto& pool = holdfast::shared_buffer_pool::of(io.get_executor());
    int completed = 0;
    std::optional<std::string> line;
    const auto next = [&] {
        completed = 0;
        lines.async_next([&](error_code, std::optional<std::string_view> f) {
            ++completed;
            line = f ? std::optional<std::string>(*f) : std::nullopt;
        });
        io.restart();
        io.poll();
    };
    next();
    CHECK(completed == 0);
    CHECK(pool.counters().lent_bytes == 0);

    // One record, more than the first buffer holds; then a hundred of them that the engine gets together.
    std::string text;
    for (int i = 0; i != 100; ++i)
        text += std::to_string(i) + std::string(100, '.') + "\r\n";
    net::write(client, net::buffer(text));
    for (int i = 0; i != 100; ++i)
        net::write(client, net::buffer("small\n", 6));
    tests::await_readable(server.next_layer());
    for (int i = 0; i != 200; ++i) {
        tests::run_until(io, [&] { return completed == 1; });
        REQUIRE(line == (i < 100 ? std::to_string(i) + std::string(100, '.') : "small"));
        next();
    }
    CHECK(completed == 0);
    CHECK(pool.counters().lent_bytes == 0);
    client.next_layer().close();
    tests::run_until(io, [&] { return completed == 1; });
    CHECK_FALSE(line);
}

namespace {

/// TLS by Asio's stream.
struct asio_tls {
    using stream = tests::tls_stream;

    template <class Handler>
    static void handshake(stream& server, Handler handler)
    {
        server.async_handshake(net::ssl::stream_base::server, handler);
    }

    tests::anonymous_context context;
    tests::anonymous_context& clients = context;
};

/// TLS by holdfast's stream.
template <bool Compact>
struct own_tls {
    using stream = holdfast::tls_stream<>;

    template <class Handler>
    static void handshake(stream& server, Handler handler)
    {
        server.async_handshake(holdfast::tls_role::server, handler);
    }

    tests::certificate files;
    holdfast::tls_context context =
        holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                       .private_key_file = files.key_file(),
                                       .tickets = 0, // so that the client has read everything
                                       .compact_records = Compact});
    net::ssl::context clients{net::ssl::context::tls_client};
};

/// A reader over TLS that waits for a frame, with its peer.
template <class Layer>
struct tls_pair {
    tls_pair()
    {
        int ready = 0;
        const auto count = [&](error_code ec) { ready += ec ? 0 : 1; };
        Layer::handshake(server, count);
        client.async_handshake(net::ssl::stream_base::client, count);
        tests::run(io);
        REQUIRE(ready == 2);
        settle();
    }

    void settle()
    {
        io.restart();
        io.poll();
    }

    /// Sends, and lets the reader wait for the rest.
    void begin(std::string_view bytes)
    {
        lines.async_next(result.handler());
        if (!bytes.empty()) {
            net::write(client, net::buffer(bytes.data(), bytes.size()));
            tests::await_readable(server.next_layer());
        }
        settle();
        settle();
        CHECK(result.completed == 0);
    }

    void begin_next()
    {
        result = {};
        lines.async_next(result.handler());
    }

    void finish()
    {
        io.restart();
        tests::run_until(io, [&] { return result.completed == 1; });
        CHECK_FALSE(result.frame);
    }

    net::io_context io;
    Layer layer;
    std::pair<tests::tcp::socket, tests::tcp::socket> both = tests::socket_pair(io);
    typename Layer::stream server{std::move(both.first), layer.context};
    tests::tls_stream client{std::move(both.second), layer.clients};
    struct counter {
        std::size_t bytes = 0;
        void operator()(std::size_t n) noexcept { bytes += n; }
    } received;
    holdfast::heartbeat_timer<net::any_io_executor, holdfast::manual_clock> heartbeats{io.get_executor(), {.tick = 1s}};
    holdfast::frame_deadline deadline{heartbeats, 2s};
    holdfast::frame_reader<typename Layer::stream> lines{server, {.progress = received, .deadline = &deadline}};
    tests::next_outcome result;
};

} // namespace

TEMPLATE_TEST_CASE("over TLS a drain between two frames is the end, and within a frame truncated_frame", "[tls]",
                   asio_tls, own_tls<false>, own_tls<true>)
{
    tls_pair<TestType> t;
    SECTION("between")
    {
        t.begin("");
        ::shutdown(t.server.next_layer().native_handle(), SHUT_RD);
        t.finish();
        CHECK_FALSE(t.result.error);
    }
    SECTION("within")
    {
        t.begin("half");
        ::shutdown(t.server.next_layer().native_handle(), SHUT_RD);
        t.finish();
        CHECK(t.result.error == errc::truncated_frame);
    }
}

TEMPLATE_TEST_CASE(
    "over TLS a peer that leaves without close_notify is distinguished from one that sends it, and from a failure",
    "[tls]", asio_tls, own_tls<false>, own_tls<true>)
{
    tls_pair<TestType> t;
    SECTION("without, between two frames")
    {
        t.begin("");
        t.client.next_layer().close();
        t.finish();
        CHECK(t.result.error == net::ssl::error::stream_truncated);
    }
    SECTION("without, within a frame")
    {
        t.begin("half");
        t.client.next_layer().close();
        t.finish();
        CHECK(t.result.error == errc::truncated_frame);
    }
    SECTION("with, between two frames")
    {
        t.begin("");
        t.client.async_shutdown(net::detached);
        t.finish();
        CHECK_FALSE(t.result.error);
    }
    SECTION("a reset")
    {
        t.begin("");
        tests::reset(t.client.next_layer());
        t.finish();
        CHECK(t.result.error == net::error::connection_reset);
    }
}

TEST_CASE("over ssl::stream a close_notify that comes together with the last frame is the end, before any FIN")
{
    tls_pair<asio_tls> t;
    t.lines.async_next(t.result.handler());
    net::write(t.client, net::buffer("last\n", 5));
    t.client.async_shutdown(net::detached); // waits for the server's
    tests::await_readable(t.server.next_layer());
    t.io.restart();
    tests::run_until(t.io, [&] { return t.result.completed == 1; });
    CHECK(t.result.frame == "last");
    t.begin_next();
    t.finish();
    CHECK_FALSE(t.result.error);
}

TEST_CASE("over ssl::stream a read within a frame ends for each type of cancellation, and loses no byte")
{
    const auto type =
        GENERATE(net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total);
    tls_pair<asio_tls> t;
    net::write(t.client, net::buffer("ha", 2));
    net::cancellation_signal stop;
    t.lines.async_next(net::bind_cancellation_slot(stop.slot(), t.result.handler()));
    t.io.restart();
    tests::run_until(t.io, [&] { return t.received.bytes == 2; });
    t.settle(); // it waits for the rest
    CHECK(t.result.completed == 0);
    stop.emit(type);
    t.finish();
    CHECK(t.result.error == net::error::operation_aborted);

    t.begin_next();
    net::write(t.client, net::buffer("lf\n", 3));
    t.io.restart();
    tests::run_until(t.io, [&] { return t.result.completed == 1; });
    CHECK(t.result.frame == "half");
}

TEMPLATE_TEST_CASE("over TLS a late frame is frame_timeout", "[tls]", asio_tls, own_tls<false>, own_tls<true>)
{
    tls_pair<TestType> t;
    t.begin("half");
    for (int tick = 0; tick != 3; ++tick) {
        holdfast::manual_clock::advance(1s);
        for (int turn = 0; turn != 8; ++turn)
            t.settle();
    }
    t.finish();
    CHECK(t.result.error == errc::frame_timeout);
}

TEMPLATE_TEST_CASE("over TLS the bytes received are progress, also of a frame that is incomplete", "[tls]", asio_tls,
                   own_tls<false>, own_tls<true>)
{
    tls_pair<TestType> t;
    t.begin("");
    const std::string text(700, 'x');
    for (std::size_t n = 1; n != 5; ++n) {
        net::write(t.client, net::buffer(text));
        t.io.restart();
        tests::run_until(t.io, [&] { return t.received.bytes == n * 700; });
        CHECK(t.result.completed == 0);
    }
}

namespace {

/// A reader over a tls_stream, with OpenSSL's client.
struct stream_pair {
    explicit stream_pair(bool compact)
        : context(holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                                 .private_key_file = files.key_file(),
                                                 .tickets = 0,
                                                 .compact_records = compact}))
    {
        auto [a, b] = tests::socket_pair(io);
        server.emplace(std::move(a), context);
        client.emplace(std::move(b));
        std::optional<error_code> done;
        server->async_handshake(holdfast::tls_role::server, [&](error_code ec) { done = ec; });
        bool client_done = false;
        tests::run_until(io, [&] {
            client_done = client->handshake() || client_done;
            return done.has_value() && client_done;
        });
        REQUIRE_FALSE(*done);
        CHECK(server->compact() == compact);
        lines.emplace(*server, pool, holdfast::frame_options{.max_frame_bytes = 100'000});
    }

    void begin()
    {
        result = {};
        lines->async_next(result.handler());
    }

    /// How many handlers have run by the time when the frame is there.
    std::size_t handlers_until_done()
    {
        std::size_t handlers = 0;
        while (result.completed == 0) {
            io.restart();
            REQUIRE(io.run_one_for(30s) == 1);
            ++handlers;
        }
        return handlers;
    }

    net::io_context io;
    tests::certificate files;
    holdfast::tls_context context;
    holdfast::buffer_pool pool{io.get_executor(), {.max_bytes = 1 << 20}};
    std::optional<holdfast::tls_stream<>> server;
    std::optional<tests::tls_peer> client;
    std::optional<holdfast::frame_reader<holdfast::tls_stream<>, holdfast::framing::line, holdfast::buffer_pool>> lines;
    tests::next_outcome result;
};

} // namespace

TEST_CASE("over tls_stream a frame that arrives takes one handler, and those that came with it one each", "[tls]")
{
    stream_pair t(GENERATE(false, true));
    for (int i = 0; i != 3; ++i) {
        t.begin();
        std::string records; // in this order, in which the operands of + need not be evaluated
        for (const char* part : {"one\n", "two\nthr", "ee\n"})
            records += t.client->seal(part);
        t.client->send(records);
        CHECK(t.handlers_until_done() == 1);
        CHECK(t.result.frame == "one");
        for (const char* expected : {"two", "three"}) {
            t.begin();
            CHECK(t.handlers_until_done() == 1);
            CHECK(t.result.frame == expected);
        }
    }
}

TEST_CASE("over tls_stream a record that is cut at any byte is waited for without a buffer", "[tls]")
{
    stream_pair t(GENERATE(false, true));
    std::string sealed = t.client->seal("a line\n");
    t.begin();
    for (const char byte : sealed) {
        CHECK(t.result.completed == 0);
        t.client->send({&byte, 1});
        tests::await_readable(t.server->next_layer());
        for (int i = 0; i != 3; ++i) {
            t.io.restart();
            t.io.poll();
        }
        if (t.result.completed == 0) CHECK(t.pool.counters().lent_bytes == 0);
    }
    t.handlers_until_done();
    CHECK(t.result.frame == "a line");
}

TEST_CASE("over tls_stream frames larger than the buffer, and more of them than it holds, are read whole", "[tls]")
{
    stream_pair t(GENERATE(false, true));
    std::string sealed;
    for (int i = 0; i != 30; ++i)
        sealed += t.client->seal(std::string(static_cast<std::size_t>(i) * 1000, 'x') + "\n");
    t.begin();
    t.client->send(sealed);
    for (std::size_t i = 0; i != 30; ++i) {
        t.handlers_until_done();
        REQUIRE_FALSE(t.result.error);
        REQUIRE(t.result.frame == std::string(i * 1000, 'x'));
        t.begin();
    }
    CHECK(t.server->pending() == 0);
}

TEST_CASE("over tls_stream an end or a failure that comes together with the last frame is found, before any FIN",
          "[tls]")
{
    stream_pair t(GENERATE(false, true));
    std::string sealed = t.client->seal("last\n");
    const bool orderly = GENERATE(true, false);
    if (orderly) {
        ::SSL_shutdown(t.client->ssl());
        sealed += t.client->take_output();
    } else {
        sealed += t.client->seal("altered\n");
        sealed.back() = static_cast<char>(sealed.back() ^ 1);
    }
    t.begin();
    t.client->send(sealed);
    t.handlers_until_done();
    CHECK(t.result.frame == "last");
    t.begin();
    t.handlers_until_done();
    CHECK_FALSE(t.result.frame);
    CHECK(bool(t.result.error) != orderly);
}

TEST_CASE("over tls_stream decrypted bytes wait for a buffer of a pool that is exhausted", "[tls]")
{
    stream_pair t(GENERATE(false, true));
    t.client->send(t.client->seal("first line\n"));
    char two[2];
    std::size_t got = 0;
    t.server->async_read_some(net::buffer(two), [&](error_code, std::size_t n) { got = n; });
    tests::run_until(t.io, [&] { return got != 0; });
    CHECK(t.server->pending() == 9);
    auto all = t.pool.try_borrow(1 << 20);
    CHECK(all);
    t.begin();
    t.io.restart();
    t.io.poll();
    CHECK(t.result.completed == 0);
    all = {};
    t.handlers_until_done();
    CHECK(t.result.frame == "rst line");
}

TEST_CASE("over tls_stream a frame that has arrived is found however it lies in the records, without another byte",
          "[tls]")
{
    stream_pair t(GENERATE(false, true));
    const std::size_t size =
        GENERATE(100U, 1023U, 16000U, 16383U, 16384U, 16385U, 17000U, 32767U, 32768U, 33000U, 40000U, 60000U);
    const std::string text(size, 'x');
    const auto send = [&] {
        const std::string sealed = t.client->seal(text + "\n");
        t.client->send(sealed);
        tests::run_until(t.io, [&] { return t.server->next_layer().available() >= sealed.size(); });
    };
    SECTION("that arrives before it is asked for")
    {
        send();
        t.begin();
        t.handlers_until_done();
        CHECK(t.result.frame == text);
    }
    SECTION("that arrives while it is awaited")
    {
        t.begin();
        t.client->send(t.client->seal(text + "\n"));
        t.handlers_until_done();
        CHECK(t.result.frame == text);
    }
    SECTION("bytes of a known number")
    {
        send();
        t.result = {};
        t.lines->async_read_exactly(size + 1, t.result.handler());
        t.handlers_until_done();
        CHECK(t.result.frame == text + "\n");
    }
    SECTION("bytes as they come")
    {
        send();
        std::string all;
        while (all.size() != size + 1) {
            t.result = {};
            t.lines->async_read_some(20'000, t.result.handler());
            t.handlers_until_done();
            REQUIRE(t.result.frame);
            all += *t.result.frame;
        }
        CHECK(all == text + "\n");
    }
    CHECK(t.server->pending() == 0);
}

TEST_CASE("over tls_stream an end that comes together with a part of a frame is found, before any FIN", "[tls]")
{
    stream_pair t(GENERATE(false, true));
    std::string sealed = t.client->seal(std::string(GENERATE(4U, 1000U, 20'000U), 'x'));
    ::SSL_shutdown(t.client->ssl());
    sealed += t.client->take_output();
    t.begin();
    t.client->send(sealed);
    t.handlers_until_done();
    CHECK(t.result.error == errc::truncated_frame);
}

namespace {

/// A server that reads a line, upgrades to TLS, and reads another line.
struct upgrading_server {
    enum class before_upgrade { reads_on, hands_over, destroys_reader, takes_bytes };

    struct note_end {
        holdfast::connection_end* to;
        void operator()(const holdfast::connection_end& e) const noexcept { *to = e; }
    };
    using guard = holdfast::connection_guard<tcp::socket, note_end>;

    void start(tcp::socket socket, before_upgrade what)
    {
        net::co_spawn(io, session(guard(std::move(socket), note_end{&end}), what), net::detached);
    }

    net::awaitable<void> session(guard peer, before_upgrade what)
    {
        try {
            std::optional<holdfast::frame_reader<guard>> lines(std::in_place, peer);
            request = (co_await lines->async_next()).value();
            if (what == before_upgrade::destroys_reader) lines.reset();
            if (what == before_upgrade::takes_bytes) lines->consume(lines->buffered().size());
            if (what == before_upgrade::hands_over) {
                const holdfast::frame_reader other{std::move(*lines), holdfast::framing::u32_length<>{}};
                lines.reset();
            }
            auto secure = holdfast::upgrade<tests::tls_stream>(std::move(peer), context);
            upgraded = true;
            co_await secure.stream().async_handshake(net::ssl::stream_base::server,
                                                     net::redirect_error(net::use_awaitable, error));
            secure.note(error);
            if (error) co_return;
            holdfast::frame_reader next{secure};
            line = (co_await next.async_next()).value();
        } catch (const holdfast::system_error& e) {
            error = e.code();
        }
    }

    void settle()
    {
        io.restart();
        io.poll();
    }

    tests::anonymous_context context;
    std::string request, line;
    bool upgraded = false;
    error_code error;
    holdfast::connection_end end;
    net::io_context io;
};

using before_upgrade = upgrading_server::before_upgrade;

} // namespace

TEST_CASE("plain text that was sent together with STARTTLS never counts as received over TLS, wherever it is cut")
{
    const std::string request = "STARTTLS\n";
    const std::string text = request + "rcpt to:<mallory@example.org>\n";
    const auto what = GENERATE(before_upgrade::reads_on, before_upgrade::hands_over, before_upgrade::destroys_reader);
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        upgrading_server server;
        auto [a, b] = tests::socket_pair(server.io);
        const int descriptor = a.native_handle();
        server.start(std::move(a), what);
        for (const auto part : {std::string_view(text).substr(0, cut), std::string_view(text).substr(cut)}) {
            if (part.empty()) continue;
            net::write(b, net::buffer(part.data(), part.size()));
            ::pollfd readable{descriptor, POLLIN, 0};
            REQUIRE(::poll(&readable, 1, 30'000) == 1);
            server.settle();
        }
        tests::run(server.io);
        INFO("cut at " << cut);
        CHECK(server.request == "STARTTLS");
        CHECK(server.line.empty());
        CHECK(server.upgraded == (cut == request.size())); // the rest came later: TLS refuses it
        if (server.upgraded)
            CHECK(server.error.category() == net::error::get_ssl_category());
        else
            CHECK(server.error == errc::bytes_before_layer);
        CHECK(server.end.reason == holdfast::close_reason::layer_failed);
        CHECK(server.end.error == server.error);
    }
}

TEST_CASE("a client that waits for the answer to STARTTLS is served over TLS, wherever its request was cut")
{
    const std::string_view request = "STARTTLS\n";
    const auto what = GENERATE(before_upgrade::reads_on, before_upgrade::takes_bytes);
    const bool takes_bytes = what == before_upgrade::takes_bytes; // they come with the end of the request
    const std::string_view more = takes_bytes ? "for the session itself" : "";
    for (std::size_t cut = 0; cut <= request.size() - (takes_bytes ? 1 : 0); ++cut) {
        upgrading_server server;
        auto [a, b] = tests::socket_pair(server.io);
        server.start(std::move(a), what);
        net::write(b, net::buffer(request.data(), cut));
        server.settle();
        net::write(b, net::buffer(std::string(request.substr(cut)).append(more)));
        tests::run_until(server.io, [&] { return server.upgraded; });
        tests::tls_stream client(std::move(b), server.context);
        bool ready = false;
        client.async_handshake(net::ssl::stream_base::client, [&](error_code ec) { ready = !ec; });
        tests::run_until(server.io, [&] { return ready; });
        net::write(client, net::buffer("over TLS\n", 9));
        INFO("cut at " << cut);
        tests::run_until(server.io, [&] { return !server.line.empty(); });
        CHECK(server.line == "over TLS");
    }
}
