// holdfast: tests of async_write_streamed, and of outbox, into what is no plain socket: guards, TLS, pipes,
// files; and of how half a message looks to the peer there.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"
#include "support/write_outcome.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/write_streamed.hpp>

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <utility>

#include <csignal>
#include <fcntl.h>
#include <unistd.h>

using holdfast::async_write_streamed;
using holdfast::errc;
using holdfast::error_code;
using holdfast::ndjson;
using tests::tcp;
namespace net = holdfast::net;
namespace ssl = net::ssl;

namespace {

/// Lines of ten bytes; making that of row `fails_at` throws.
auto rows(int count, int fails_at = -1)
{
    return std::views::iota(0, count) | std::views::transform([fails_at](int i) {
               if (i == fails_at) throw std::runtime_error("no such row");
               return 100'000'000 + i;
           });
}

const std::string& expected()
{
    static const std::string text = holdfast::serialize_to_string<ndjson>(rows(30'000));
    return text;
}

/// A server's end in a guard and a client, their handshake done.
struct tls_pair {
    tls_pair()
    {
        auto [a, b] = tests::socket_pair(io);
        server.emplace(tests::tls_stream(std::move(a), context));
        client.emplace(std::move(b), context);
        int done = 0;
        const auto count = [&](error_code ec) { done += ec ? 0 : 1; };
        server->stream().async_handshake(ssl::stream_base::server, count);
        client->async_handshake(ssl::stream_base::client, count);
        tests::run(io);
        if (done != 2) throw std::runtime_error("the handshake failed");
    }

    /// Reads all that the client gets, from now on.
    void read()
    {
        net::async_read(*client, net::dynamic_buffer(got), [this](error_code ec, std::size_t) {
            end = ec;
            client->async_shutdown([this](error_code) { client->next_layer().close(); });
        });
    }

    net::io_context io;
    tests::anonymous_context context;
    std::optional<holdfast::connection_guard<tests::tls_stream>> server;
    std::optional<tests::tls_stream> client;
    std::string got;
    error_code end;
};

} // namespace

TEST_CASE("a guard is written to as its stream is, in a coroutine by default")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    holdfast::connection_guard peer(std::move(server));
    std::size_t written = 0;
    tests::run(io, [&]() -> net::awaitable<void> {
        written = co_await async_write_streamed<ndjson>(peer, rows(10));
        written += co_await async_write_streamed<ndjson>(peer.stream(), rows(10));
        peer.close();
    });
    CHECK(written == 200);
    const auto ten = holdfast::serialize_to_string<ndjson>(rows(10));
    CHECK(tests::read_to_end(client).bytes == ten + ten);
}

TEST_CASE("an outbox writes through TLS: many messages as one record, streamed ones, and a proper end")
{
    tls_pair tls;
    tls.read();
    holdfast::outbox box{*tls.server, {.chunk_bytes = 1000}};
    std::string all;
    for (int i = 0; i != 300; ++i) {
        const std::string text = std::to_string(i) + std::string(static_cast<std::size_t>(i), '.');
        CHECK_FALSE(box.push(holdfast::payload(text)));
        all += text;
    }
    CHECK_FALSE(box.push_streamed<ndjson>(rows(30'000)));
    box.async_close([&](error_code ec) {
        CHECK_FALSE(ec);
        tls.server->async_close({}, net::detached);
    });
    tests::run(tls.io);
    CHECK(tls.end == net::error::eof);
    CHECK(tls.got == all + expected());
}

TEST_CASE("an exception may destroy an outbox and its TLS stream while a write is pending")
{
    tls_pair tls;
    const holdfast::payload message(std::string(10'000'000, 'x'));
    using guard = holdfast::connection_guard<tests::tls_stream>;
    if constexpr (requires(guard& peer) { peer.keep_stream(); }) {
        CHECK_THROWS_AS(tests::run(tls.io,
                                   [&]() -> net::awaitable<void> {
                                       guard peer(std::move(*tls.server));
                                       holdfast::outbox outbox{peer, {.high_watermark = 64u << 20}};
                                       outbox.push(message);
                                       for (int i = 0; i != 100; ++i)
                                           co_await net::post(tls.io, net::use_awaitable);
                                       CHECK(outbox.queued() == 1);
                                       peer.abort(); // as a heartbeat does
                                       throw std::runtime_error("the session has failed");
                                   }),
                        std::runtime_error);
        tests::run(tls.io);
        CHECK(message.use_count() == 1);
    }
}

TEST_CASE("TLS carries the whole message and a proper end, in chunks of any size, made ahead or not")
{
    for (const std::size_t chunk : {1000U, 16384U, 100'000U})
        for (const bool ahead : {false, true}) {
            tls_pair tls;
            tests::write_outcome o;
            tls.read();
            async_write_streamed<ndjson>(*tls.server, rows(30'000), {.chunk_bytes = chunk, .double_buffered = ahead},
                                         [&](error_code ec, std::size_t n) {
                                             o.handler()(ec, n);
                                             tls.server->async_close({}, net::detached);
                                         });
            CHECK(o.completed == 0);
            tests::run(tls.io);
            INFO("chunks of " << chunk << (ahead ? ", ahead" : ""));
            REQUIRE(o.completed == 1);
            REQUIRE_FALSE(o.error);
            CHECK(o.written == expected().size());
            CHECK(tls.got == expected());
            CHECK(tls.end == net::error::eof); // close_notify: whole
        }
}

TEST_CASE("over TLS half a message ends without close_notify, although it was closed gracefully")
{
    for (const bool ahead : {false, true}) {
        tls_pair tls;
        tests::write_outcome o;
        tls.read();
        async_write_streamed<ndjson>(*tls.server, rows(30'000, 20'000), {.chunk_bytes = 1000, .double_buffered = ahead},
                                     [&](error_code ec, std::size_t n) {
                                         o.handler()(ec, n);
                                         tls.server->async_close({}, net::detached);
                                     });
        tests::run(tls.io);
        CHECK(o.error == error_code(errc::source_failed));
        CHECK((o.written == 199'000 || o.written == 200'000)); // whole chunks; the source is read a row ahead
        CHECK(tls.end);
        CHECK(tls.end != net::error::eof);
        CHECK(expected().starts_with(tls.got)); // what came over is a beginning, as long as the reset lets it be
    }
}

TEST_CASE("a cancelled message over TLS ends without close_notify, too")
{
    tls_pair tls;
    tests::write_outcome o;
    net::cancellation_signal stop;
    async_write_streamed<ndjson>(*tls.server, rows(10'000'000), {.double_buffered = true},
                                 net::bind_cancellation_slot(stop.slot(), o.handler()));
    for (int i = 0; i != 1000; ++i)
        tls.io.poll();
    REQUIRE(o.completed == 0); // nobody reads
    stop.emit(net::cancellation_type::terminal);
    tests::run(tls.io);
    CHECK(o.completed == 1);
    CHECK(o.error == net::error::operation_aborted);
    tls.server->async_close({}, net::detached);
    tls.read();
    tests::run(tls.io);
    CHECK(tls.end);
    CHECK(tls.end != net::error::eof);
}

TEST_CASE("a peer that resets after any number of bytes ends it once, through a guard and small buffers")
{
    for (const bool ahead : {false, true})
        for (const std::size_t bytes : {0U, 1U, 63U, 64U, 65U, 999U, 4096U, 50'000U, 150'001U}) {
            INFO("after " << bytes << " bytes" << (ahead ? ", ahead" : ""));
            net::io_context io;
            auto [server, client] = tests::socket_pair(io);
            server.set_option(net::socket_base::send_buffer_size(4096));
            client.set_option(net::socket_base::receive_buffer_size(4096));
            holdfast::connection_guard peer(std::move(server));
            const auto life = std::make_shared<int>(0);
            auto made = rows(1'000'000) | std::views::transform([alive = life](int i) { return i + *alive; });
            tests::write_outcome o;
            async_write_streamed<ndjson>(peer, std::move(made), {.chunk_bytes = 1000, .double_buffered = ahead},
                                         o.handler());
            std::string got(bytes, '\0');
            net::async_read(client, net::buffer(got), [&](error_code, std::size_t) { tests::reset(client); });
            tests::run(io);
            REQUIRE(o.completed == 1);
            CHECK((o.error == net::error::connection_reset || o.error == net::error::broken_pipe));
            CHECK(o.written >= bytes);
            CHECK(expected().starts_with(got));
            CHECK(life.use_count() == 1);
        }
}

TEST_CASE("a reader that takes a little at a time gets the whole message")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    server.set_option(net::socket_base::send_buffer_size(4096));
    client.set_option(net::socket_base::receive_buffer_size(4096));
    tests::write_outcome o;
    async_write_streamed<ndjson>(server, rows(2000), {.chunk_bytes = 300, .double_buffered = true},
                                 [&](error_code ec, std::size_t n) {
                                     o.handler()(ec, n);
                                     server.close();
                                 });
    std::string got;
    tests::run(io, [&]() -> net::awaitable<void> {
        std::array<char, 37> some;
        error_code ec;
        while (!ec) {
            const std::size_t n =
                co_await client.async_read_some(net::buffer(some), net::redirect_error(net::use_awaitable, ec));
            got.append(some.data(), n);
        }
    });
    CHECK(o.completed == 1);
    CHECK_FALSE(o.error);
    CHECK(got == expected().substr(0, 20'000));
}

TEST_CASE("it writes through a pipe, whose reader may be slow, and fails when there is none any more")
{
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    net::io_context io;
    net::posix::stream_descriptor in(io, ends[1]), out(io, ends[0]);
    tests::write_outcome o;
    std::string got;
    SECTION("read to the end")
    {
        async_write_streamed<ndjson>(in, rows(30'000), {.double_buffered = true}, [&](error_code ec, std::size_t n) {
            o.handler()(ec, n);
            in.close();
        });
        net::async_read(out, net::dynamic_buffer(got), [](error_code, std::size_t) {});
        tests::run(io);
        CHECK_FALSE(o.error);
        CHECK(got == expected());
    }
    SECTION("given up")
    {
        async_write_streamed<ndjson>(in, rows(30'000), {}, o.handler());
        io.poll();
        CHECK(o.completed == 0);
        out.close();
        tests::run(io); // SIGPIPE would end the process
        CHECK(o.completed == 1);
        CHECK(o.error == net::error::broken_pipe);
    }
    SECTION("given up before")
    {
        out.close();
        async_write_streamed<ndjson>(in, rows(30'000), {}, o.handler());
        CHECK(o.completed == 0);
        tests::run(io);
        CHECK(o.completed == 1);
        CHECK(o.error == net::error::broken_pipe);
    }
    SECTION("cancelled")
    {
        net::cancellation_signal stop;
        async_write_streamed<ndjson>(in, rows(30'000), net::bind_cancellation_slot(stop.slot(), o.handler()));
        io.poll();
        stop.emit(net::cancellation_type::terminal);
        tests::run(io);
        CHECK(o.completed == 1);
        CHECK(o.error == net::error::operation_aborted);
    }
    ::sigset_t pending, blocked;
    ::sigpending(&pending);
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    CHECK(::sigismember(&pending, SIGPIPE) == 0);
    CHECK(::sigismember(&blocked, SIGPIPE) == 0);
}

TEST_CASE("a SIGPIPE of the user's own that is pending stays pending")
{
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    ::close(ends[0]);
    net::io_context io;
    net::posix::stream_descriptor in(io, ends[1]);
    ::sigset_t pipe, before, pending;
    ::sigemptyset(&pipe);
    ::sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, &before);
    ::raise(SIGPIPE);
    tests::write_outcome o;
    async_write_streamed(in, 12345, o.handler());
    tests::run(io);
    ::sigpending(&pending);
    const ::timespec at_once{};
    CHECK(::sigtimedwait(&pipe, nullptr, &at_once) == SIGPIPE);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    CHECK(::sigismember(&pending, SIGPIPE) == 1);
    CHECK(o.error == net::error::broken_pipe);
}

TEST_CASE("an outbox on a pipe whose reader has left ends with broken_pipe")
{
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    net::io_context io;
    net::posix::stream_descriptor in(io, ends[1]), out(io, ends[0]);
    holdfast::outbox outbox{in};
    const bool pending = GENERATE(false, true);
    if (pending) {
        CHECK_FALSE(outbox.push(holdfast::payload(std::string(50'000, 'x'))));
        CHECK_FALSE(outbox.push_streamed<ndjson>(rows(30'000)));
        io.poll();
        CHECK(outbox.queued() != 0);
    } else {
        CHECK_FALSE(outbox.push(holdfast::payload("message")));
    }
    out.close();
    tests::run(io);
    CHECK(outbox.error() == net::error::broken_pipe);
    CHECK_FALSE(in.is_open());
}

TEST_CASE("it writes a regular file, as a stream_descriptor, and as a stream_file where Asio has it")
{
    net::io_context io;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
    REQUIRE(file);
    tests::write_outcome o;
    const int descriptor = ::dup(::fileno(file.get()));
    SECTION("stream_descriptor")
    {
        net::posix::stream_descriptor out(io, descriptor);
        async_write_streamed<ndjson>(out, rows(30'000), {.double_buffered = true}, o.handler());
        CHECK(o.completed == 0);
        tests::run(io);
    }
#if defined(ASIO_HAS_FILE) || defined(BOOST_ASIO_HAS_FILE)
    SECTION("stream_file")
    {
        net::stream_file out(io, descriptor);
        async_write_streamed<ndjson>(out, rows(30'000), {.double_buffered = true}, o.handler());
        CHECK(o.completed == 0);
        tests::run(io);
    }
#endif
    CHECK(o.completed == 1);
    CHECK_FALSE(o.error);
    CHECK(o.written == expected().size());
    std::string got(expected().size() + 1, '\0');
    const ::ssize_t n = ::pread(::fileno(file.get()), got.data(), got.size(), 0);
    REQUIRE(n >= 0);
    got.resize(static_cast<std::size_t>(n));
    CHECK(got == expected());
}
