// holdfast: tests of async_write_streamed step by step: what is made when, and every end at every byte.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/held_stream.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/write_outcome.hpp"

#include <holdfast/write_streamed.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using holdfast::async_write_streamed;
using holdfast::errc;
using holdfast::error_code;
using holdfast::ndjson;
using tests::held_stream;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// What the tests ask of a source: ten bytes a row with its line feed; how many were made, when one throws,
/// and whether the source is alive.
struct watched {
    int made = 0;
    int throws_at = -1;
    std::shared_ptr<int> life = std::make_shared<int>(0);

    auto rows(int count)
    {
        return std::views::iota(0, count) | std::views::transform([this, alive = life](int i) {
                   if (i == throws_at) throw std::runtime_error("no such row");
                   ++made;
                   return 100'000'000 + i + *alive;
               });
    }

    [[nodiscard]] bool alive() const { return life.use_count() > 1; }
};

std::string text(int count)
{
    std::string all;
    for (int i = 0; i != count; ++i)
        all += std::to_string(100'000'000 + i) + '\n';
    return all;
}

/// Lets all that is ready run.
void settle(net::io_context& io)
{
    io.restart();
    io.poll();
}

/// The two chunks that an operation has just returned to the pool, filled with a pattern that nobody may
/// touch.
class returned_chunks {
public:
    explicit returned_chunks(net::io_context& io)
    {
        for (auto& chunk : chunks_) {
            chunk = holdfast::shared_buffer_pool::of(io.get_executor()).try_borrow(4096);
            std::fill_n(chunk.data(), chunk.size(), '#');
        }
    }

    [[nodiscard]] bool untouched() const
    {
        return std::ranges::all_of(chunks_, [](const auto& chunk) {
            return std::count(chunk.data(), chunk.data() + chunk.size(), '#') ==
                   static_cast<std::ptrdiff_t>(chunk.size());
        });
    }

private:
    std::array<holdfast::shared_buffer_loan, 2> chunks_{};
};

} // namespace

TEST_CASE("while a chunk is sent the next one is made, with double_buffered, and never the one after it")
{
    std::array<int, 2> made_at_first{};
    for (const bool ahead : {false, true}) {
        net::io_context io;
        held_stream stream(io);
        watched source;
        tests::write_outcome o;
        async_write_streamed<ndjson>(stream, source.rows(100), {.chunk_bytes = 100, .double_buffered = ahead},
                                     o.handler());
        made_at_first[ahead ? 1 : 0] = source.made;
        for (std::size_t chunk = 0; chunk != 10; ++chunk) {
            const int made = source.made;
            settle(io);
            REQUIRE(stream.in_flight());
            REQUIRE(source.made == made); // nothing more while it is held
            stream.take(37);              // in three parts, which make nothing new
            settle(io);
            REQUIRE(source.made == made);
            stream.take(1);
            settle(io);
            REQUIRE(source.made == made);
            REQUIRE(stream.taken.size() == chunk * 100 + 38);
            stream.take();
            settle(io);
        }
        CHECK(o.completed == 1);
        CHECK_FALSE(o.error);
        CHECK(o.written == 1000);
        CHECK(source.made == 100);
        CHECK_FALSE(source.alive());
        CHECK(stream.taken == text(100));
    }
    CHECK(made_at_first[1] - made_at_first[0] == 10);
}

TEST_CASE("an error of the source waits for the write in flight, and for all that was made before it")
{
    for (const bool ahead : {false, true})
        for (int k = 0; k != 40; ++k) {
            INFO("row " << k << (ahead ? ", ahead" : ""));
            net::io_context io;
            held_stream stream(io);
            watched source;
            source.throws_at = k;
            std::string path;
            tests::write_outcome o;
            async_write_streamed<ndjson>(stream, source.rows(1000),
                                         {.chunk_bytes = 50, .double_buffered = ahead, .error_path = &path},
                                         o.handler());
            for (settle(io); stream.in_flight(); settle(io)) {
                REQUIRE(o.completed == 0);
                stream.take(7);
            }
            REQUIRE(o.completed == 1);
            CHECK(o.error == error_code(errc::source_failed));
            CHECK(path == "/" + std::to_string(k));
            CHECK(o.written == stream.taken.size());
            CHECK(text(k).starts_with(stream.taken));
            CHECK(stream.taken.size() + 50 + 20 > text(k).size()); // whole chunks; it reads a row ahead
            CHECK(source.made == k);
            CHECK_FALSE(source.alive());
        }
}

TEST_CASE("a stream that fails at any byte ends it once, with that error and the bytes that were taken")
{
    constexpr int count = 60;
    for (const bool ahead : {false, true})
        for (std::size_t fault = 0; fault < count * 10; fault += tests::sanitized ? 7 : 1) {
            INFO("byte " << fault << (ahead ? ", ahead" : ""));
            net::io_context io;
            held_stream stream(io);
            watched source;
            tests::write_outcome o;
            async_write_streamed<ndjson>(stream, source.rows(count), {.chunk_bytes = 64, .double_buffered = ahead},
                                         o.handler());
            while (stream.taken.size() != fault) {
                stream.take(fault - stream.taken.size());
                settle(io);
            }
            stream.fail(net::error::connection_reset);
            settle(io);
            REQUIRE(o.completed == 1);
            REQUIRE(o.error == net::error::connection_reset);
            REQUIRE(o.written == fault);
            REQUIRE(text(count).starts_with(stream.taken));
            REQUIRE_FALSE(stream.in_flight());
            REQUIRE_FALSE(source.alive());
        }
}

TEST_CASE("when the write fails after the source did, the write's error is reported, and the stream may be destroyed")
{
    net::io_context io;
    auto stream = std::make_unique<held_stream>(io);
    watched source;
    source.throws_at = 12;
    tests::write_outcome o;
    async_write_streamed<ndjson>(*stream, source.rows(100), {.chunk_bytes = 100, .double_buffered = true}, o.handler());
    stream->fail(net::error::broken_pipe);
    settle(io);
    stream.reset();
    CHECK(o.completed == 1);
    CHECK(o.error == net::error::broken_pipe);
    CHECK(o.written == 0);
}

TEST_CASE("a cancellation at each chunk leaves nothing in flight, and its memory is not touched afterwards")
{
    constexpr int count = 40;
    for (const bool ahead : {false, true})
        for (std::size_t k = 0; k <= count * 10 / 64; ++k) {
            INFO("chunk " << k << (ahead ? ", ahead" : ""));
            net::io_context io;
            held_stream stream(io);
            watched source;
            tests::write_outcome o;
            net::cancellation_signal stop;
            async_write_streamed<ndjson>(stream, source.rows(count), {.chunk_bytes = 64, .double_buffered = ahead},
                                         net::bind_cancellation_slot(stop.slot(), o.handler()));
            for (std::size_t i = 0; i != k; ++i) {
                stream.take();
                settle(io);
            }
            const int made = source.made;
            stop.emit(net::cancellation_type::terminal);
            REQUIRE(o.completed == 0);
            settle(io);
            REQUIRE(o.completed == 1);
            REQUIRE(o.error == net::error::operation_aborted);
            REQUIRE(o.written == k * 64);
            REQUIRE_FALSE(stream.in_flight());
            REQUIRE(source.made == made);
            REQUIRE_FALSE(source.alive());
            const returned_chunks memory(io);
            settle(io);
            REQUIRE(memory.untouched());
        }
}

TEST_CASE("the same on a socket, where the cancellation finds a chunk already taken")
{
    constexpr int count = 40;
    for (const bool ahead : {false, true})
        for (std::size_t k = 1; k != count * 10 / 64; ++k) {
            INFO("chunk " << k << (ahead ? ", ahead" : ""));
            net::io_context io, steps; // `steps` runs the operation's, one by one
            auto [server, client] = tests::socket_pair(io);
            watched source;
            tests::write_outcome o;
            net::cancellation_signal stop;
            async_write_streamed<ndjson>(
                server, source.rows(count), {.chunk_bytes = 64, .double_buffered = ahead},
                net::bind_cancellation_slot(stop.slot(), net::bind_executor(steps, o.handler())));
            const auto step = [&] {
                settle(io);
                steps.restart();
                steps.poll_one();
            };
            for (std::size_t i = 1; i != k; ++i)
                step();
            settle(io);
            stop.emit(net::cancellation_type::terminal);
            step();
            REQUIRE(o.completed == 1);
            REQUIRE(o.error == net::error::operation_aborted);
            REQUIRE(o.written == k * 64);
            REQUIRE_FALSE(source.alive());
            const returned_chunks memory(io);
            step();
            REQUIRE(memory.untouched());
            REQUIRE(o.completed == 1);
            server.close(); // half a message: a reset
            REQUIRE(tests::read_to_end(client).end == net::error::connection_reset);
        }
}

TEST_CASE("a cancellation before the first byte spares the connection, one after the last comes too late")
{
    net::io_context io;
    net::cancellation_signal stop;
    tests::write_outcome o;
    SECTION("before the first")
    {
        auto [server, client] = tests::socket_pair(io);
        const std::string full(65536, 'f');
        server.non_blocking(true);
        for (error_code ec; !ec;)
            server.write_some(net::buffer(full), ec);
        watched source;
        async_write_streamed<ndjson>(server, source.rows(10), {},
                                     net::bind_cancellation_slot(stop.slot(), o.handler()));
        settle(io);
        stop.emit(net::cancellation_type::terminal);
        settle(io);
        CHECK(o.completed == 1);
        CHECK(o.error == net::error::operation_aborted);
        CHECK(o.written == 0);
        net::socket_base::linger reset;
        server.get_option(reset);
        CHECK_FALSE(reset.enabled()); // what was sent before still arrives
    }
    SECTION("after the last")
    {
        held_stream stream(io);
        watched source;
        async_write_streamed<ndjson>(stream, source.rows(10), {},
                                     net::bind_cancellation_slot(stop.slot(), o.handler()));
        settle(io);
        stream.take();
        stop.emit(net::cancellation_type::terminal);
        settle(io);
        CHECK(o.completed == 1);
        CHECK_FALSE(o.error);
        CHECK(o.written == 100);
    }
}

TEST_CASE("a source is destroyed once when the context is destroyed with a write in flight, made ahead or not")
{
    for (const bool ahead : {false, true}) {
        watched source;
        tests::write_outcome o;
        {
            net::io_context io;
            held_stream stream(io);
            async_write_streamed<ndjson>(stream, source.rows(100), {.chunk_bytes = 64, .double_buffered = ahead},
                                         o.handler());
            settle(io);
            stream.take();
            settle(io);
            CHECK(source.alive());
        }
        CHECK_FALSE(source.alive());
        CHECK(o.completed == 0);
    }
}

TEST_CASE("on a context with several threads and no strand, the write and the making of the next chunk meet")
{
    const int messages = tests::sanitized ? 20 : 100;
    for (int i = 0; i != messages; ++i) {
        net::io_context io;
        auto work = net::make_work_guard(io);
        std::vector<std::thread> threads;
        for (int t = 0; t != 2; ++t)
            threads.emplace_back([&] { io.run(); });
        auto [server, client] = tests::socket_pair(io);
        watched source;
        tests::write_outcome o;
        // Begun on a third thread, which makes the second chunk while one of the two may have sent the first.
        async_write_streamed<ndjson>(server, source.rows(500), {.chunk_bytes = 64, .double_buffered = true},
                                     [&](error_code ec, std::size_t n) {
                                         o.handler()(ec, n);
                                         server.close();
                                     });
        const auto got = tests::read_to_end(client);
        work.reset();
        for (auto& thread : threads)
            thread.join();
        REQUIRE(o.completed == 1);
        REQUIRE_FALSE(o.error);
        REQUIRE(got.bytes == text(500));
        REQUIRE_FALSE(source.alive());
    }
}
