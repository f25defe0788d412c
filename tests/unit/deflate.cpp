// holdfast: tests of deflated messages and the pool that lends the compressors.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/serialized.hpp"
#include "support/sockets.hpp"

#include <holdfast/adapters/deflate.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/write_streamed.hpp>

#include <malloc.h>
#include <zlib.h>

#include <array>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using holdfast::compressor;
using holdfast::deflate_container;
using holdfast::deflate_end;
using holdfast::deflate_options;
using holdfast::deflate_pool;
using holdfast::deflated;
using holdfast::errc;
using holdfast::error_code;
using holdfast::ndjson;
using tests::in_chunks;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using rows = std::vector<std::string>;

/// What zlib makes of compressed bytes, and whether the stream had its end there.
struct inflated {
    inflated(std::string_view bytes, deflate_container container)
    {
        ::z_stream z{};
        const int bits = container == deflate_container::raw ? -15 : container == deflate_container::zlib ? 15 : 31;
        REQUIRE(::inflateInit2(&z, bits) == Z_OK);
        std::string input(bytes);
        z.next_in = reinterpret_cast<Bytef*>(input.data());
        z.avail_in = static_cast<uInt>(input.size());
        int result = Z_OK;
        while (result == Z_OK) {
            std::array<char, 4096> out;
            z.next_out = reinterpret_cast<Bytef*>(out.data());
            z.avail_out = out.size();
            result = ::inflate(&z, Z_SYNC_FLUSH);
            text.append(out.data(), out.size() - z.avail_out);
        }
        ended = result == Z_STREAM_END && z.avail_in == 0;
        broken = result == Z_DATA_ERROR;
        ::inflateEnd(&z);
    }

    std::string text;
    bool ended = false;
    bool broken = false;
};

rows random_rows(std::mt19937& random)
{
    rows made(random() % 200);
    for (std::string& row : made) {
        row.resize(random() % (random() % 8 == 0 ? 3000 : 60));
        const unsigned letters = random() % 2 == 0 ? 2 : 90; // compresses well, or not
        for (char& c : row)
            c = static_cast<char>(' ' + random() % letters);
    }
    return made;
}

const std::array<std::size_t, 9> sizes{1, 2, 7, 15, 16, 17, 500, 4096, 100'000};

} // namespace

TEST_CASE("zlib restores random messages, in each container, at any size of chunk")
{
    const auto container = GENERATE(deflate_container::raw, deflate_container::zlib, deflate_container::gzip);
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    net::io_context io;
    for (const int level : {0, 1, 6}) {
        deflate_pool pool(io.get_executor(), {.compressors = 1, .container = container, .level = level});
        for (int round = 0; round != 20; ++round) {
            const rows some = random_rows(random);
            const std::size_t n = round % 3 == 0 ? 1 + random() % 20'000 : sizes[random() % sizes.size()];
            INFO("level " << level << ", chunks of " << n);
            const compressor lent = pool.try_borrow();
            REQUIRE(lent);
            for (int again = 0; again != 2; ++again) { // a loan is good for several messages
                const inflated got(in_chunks(std::cref(some), n, deflated{lent, ndjson{}}), container);
                CHECK(got.text == holdfast::serialize_to_string<ndjson>(some));
                CHECK(got.ended);
            }
        }
    }
}

TEST_CASE("an empty message is an empty stream, and a loan of nothing compresses nothing")
{
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 1});
    const compressor lent = pool.try_borrow();
    const compressor none = pool.try_borrow();
    CHECK(lent);
    CHECK_FALSE(none);
    const rows some{"one", "two"};
    for (const std::size_t n : sizes) {
        const inflated empty(in_chunks(rows{}, n, deflated{lent, ndjson{}}), deflate_container::gzip);
        CHECK(empty.text.empty());
        CHECK(empty.ended);
        CHECK(in_chunks(some, n, deflated{none, ndjson{}}) == "\"one\"\n\"two\"\n");
        CHECK(in_chunks(rows{}, n, deflated{compressor(), ndjson{}}).empty());
    }
}

TEST_CASE("a message of up to default_compression_threshold bytes goes out as it is, a longer one is compressed")
{
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 1});
    for (const std::size_t beyond : {0U, 1U}) {
        const rows message{
            std::string(holdfast::default_compression_threshold - std::string_view("\"\"\n").size() + beyond, 'x')};
        compressor gzip;
        if (holdfast::serialized_size_exceeds<ndjson>(holdfast::default_compression_threshold, message))
            gzip = pool.try_borrow();
        const std::string sent = in_chunks(std::cref(message), 16'384, deflated{gzip, ndjson{}});
        CHECK((sent.size() == holdfast::default_compression_threshold) == (beyond == 0));
        if (beyond != 0)
            CHECK(inflated(sent, deflate_container::gzip).text.size() == holdfast::default_compression_threshold + 1);
    }
}

TEST_CASE("messages that end with a flush are one stream, each of which can be read at once")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 1});
    for (const std::size_t n : sizes) {
        INFO("chunks of " << n);
        const compressor lent = pool.try_borrow();
        std::string stream, text;
        for (int i = 0; i != 10; ++i) {
            const rows some = i % 4 == 3 ? rows{} : random_rows(random);
            text += holdfast::serialize_to_string<ndjson>(some);
            stream += in_chunks(std::cref(some), n, deflated{lent, ndjson{}, deflate_end::flush});
            const inflated now(stream, deflate_container::gzip);
            CHECK(now.text == text);
            CHECK_FALSE(now.ended);
        }
        stream += in_chunks(rows{}, n, deflated{lent, ndjson{}, deflate_end::finish});
        const inflated all(stream, deflate_container::gzip);
        CHECK(all.text == text);
        CHECK(all.ended);
    }
}

TEST_CASE("what fails has no end, and the loan's next message is a whole one")
{
    std::vector<double> numbers(1000, 0.5);
    numbers.push_back(std::numeric_limits<double>::quiet_NaN());
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 1});
    const compressor lent = pool.try_borrow();
    for (const std::size_t n : sizes)
        for (const auto end : {deflate_end::finish, deflate_end::flush}) {
            const auto failed = tests::failure_in_chunks(std::cref(numbers), n, deflated{lent, ndjson{}, end});
            CHECK(failed.error == errc::not_finite);
            CHECK(failed.path == "/1000");
            CHECK_FALSE(inflated(failed.before, deflate_container::gzip).ended);
            const inflated next(in_chunks(rows{"after"}, n, deflated{lent, ndjson{}}), deflate_container::gzip);
            CHECK(next.text == "\"after\"\n");
            CHECK(next.ended);
        }
}

TEST_CASE("a gzip body in chunks and a frame around a compressed message")
{
    net::io_context io;
    deflate_pool pool(io.get_executor());
    const compressor lent = pool.try_borrow();
    const rows some(5000, "a row that is like the others");
    const auto sent = in_chunks(std::cref(some), 16'384,
                                holdfast::framed{holdfast::framing::u32_parts<>{}, deflated{lent, ndjson{}}});
    REQUIRE(sent.size() < 16'384); // one frame
    const inflated got(std::string_view(sent).substr(4), deflate_container::gzip);
    CHECK(got.text == holdfast::serialize_to_string<ndjson>(some));
    CHECK(got.ended);
    STATIC_REQUIRE_FALSE(holdfast::multi_pass_source<rows, deflated<ndjson>>);
}

TEST_CASE("compressing allocates nothing")
{
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 2});
    const rows some(10'000, "a row that is like the others");
    std::array<char, 4096> chunk;
    CHECK(tests::allocations_in([&] {
              const compressor lent = pool.try_borrow();
              holdfast::streaming_serializer<deflated<ndjson>, std::reference_wrapper<const rows>> text(
                  some, deflated{lent, ndjson{}});
              std::error_code ec;
              while (!text.done() && !ec)
                  static_cast<void>(text.next(chunk, ec));
          }) == 0);
}

TEST_CASE("a pool takes what it says, and refuses options that zlib does not take")
{
    net::io_context io;
    if (::mallinfo2().uordblks != 0) { // a sanitizer's malloc does not say
        for (const deflate_options& options :
             {deflate_options{}, deflate_options{.compressors = 9, .window_bits = 9, .memory_level = 1},
              deflate_options{.compressors = 1, .level = 9, .window_bits = 15, .memory_level = 9}}) {
            // zlib's own memory is malloc's, which is not counted here but by mallinfo.
            const auto before = ::mallinfo2();
            const deflate_pool pool(io.get_executor(), options);
            const auto after = ::mallinfo2();
            const std::size_t took = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
            CHECK(took / options.compressors <= options.compressor_bytes() + 4 * 4096);
            CHECK(took / options.compressors >= options.compressor_bytes() / 2);
        }
    }
    for (const deflate_options& wrong : {deflate_options{.level = 10}, deflate_options{.window_bits = 16},
                                         deflate_options{.window_bits = 8}, deflate_options{.memory_level = 0}})
        CHECK_THROWS_AS(deflate_pool(io.get_executor(), wrong), std::invalid_argument);
}

namespace {

/// What a borrow came to.
struct outcome {
    bool completed = false;
    error_code error;
    compressor lent;

    auto handler()
    {
        return [this](error_code ec, compressor c) {
            CHECK_FALSE(completed);
            completed = true;
            error = ec;
            lent = std::move(c);
        };
    }
};

} // namespace

TEST_CASE("a request for a compressor is granted in order, and a cancelled one takes none")
{
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 2});
    std::array<outcome, 5> all;
    net::cancellation_signal stop;
    for (std::size_t i = 0; i != all.size(); ++i) {
        if (i == 2)
            pool.async_borrow(net::bind_cancellation_slot(stop.slot(), all[i].handler()));
        else
            pool.async_borrow(all[i].handler());
    }
    CHECK_FALSE(all[0].completed); // never inside
    io.poll();
    CHECK((all[0].lent && all[1].lent));
    CHECK(pool.available() == 0);
    CHECK(pool.waiting() == 3);
    CHECK_FALSE(pool.try_borrow());
    stop.emit(
        GENERATE(net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total));
    io.restart();
    io.poll();
    CHECK(all[2].completed);
    CHECK(all[2].error == net::error::operation_aborted);
    CHECK_FALSE(all[2].lent);
    all[0].lent.release();
    io.restart();
    io.poll();
    CHECK(all[3].lent);
    CHECK_FALSE(all[4].completed);
    all[1].lent = std::move(all[3].lent); // what it had goes back
    io.restart();
    io.poll();
    CHECK(all[4].lent);
    CHECK(pool.waiting() == 0);
    for (outcome& each : all)
        each.lent.release();
    CHECK(pool.available() == 2);
}

TEST_CASE("the end of a pool fails pending requests, and leaves a lent compressor to its borrower")
{
    net::io_context io;
    std::optional<deflate_pool> pool(std::in_place, io.get_executor(), deflate_options{.compressors = 1});
    const compressor lent = pool->try_borrow();
    outcome waiting;
    pool->async_borrow(waiting.handler());
    io.poll();
    pool.reset();
    io.restart();
    io.poll();
    CHECK(waiting.completed);
    CHECK(waiting.error == error_code(errc::semaphore_closed));
    const inflated got(in_chunks(rows{"still"}, 100, deflated{lent, ndjson{}}), deflate_container::gzip);
    CHECK(got.text == "\"still\"\n");
}

TEST_CASE("a pool and its context may end while a completion is queued elsewhere")
{
    net::io_context later;
    outcome got;
    const bool waits = GENERATE(false, true);
    {
        net::io_context io;
        deflate_pool pool(io.get_executor(), {.compressors = 1});
        compressor before = waits ? pool.try_borrow() : compressor();
        pool.async_borrow(net::bind_executor(later, got.handler()));
        before = {};
        io.poll();
    }
    later.run();
    CHECK(got.completed);
    CHECK(!got.error);
    CHECK(bool(got.lent));
}

TEST_CASE("a write that is cancelled gives its compressor back, and the stream has no end")
{
    net::io_context io;
    deflate_pool pool(io.get_executor(), {.compressors = 1, .level = 1});
    auto [server, client] = tests::socket_pair(io);
    net::cancellation_signal stop;
    error_code result;
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    // What does not compress, and without end: it fills the socket.
    auto noise = std::views::iota(0u, 1'000'000'000u) |
                 std::views::transform([random = std::mt19937_64(seed)](unsigned) mutable { return random(); });
    const auto write = [&]() -> net::awaitable<void> {
        const compressor lent = co_await pool.async_borrow(net::use_awaitable);
        co_await holdfast::async_write_streamed(
            server, holdfast::formatted(std::ref(noise), deflated{lent, ndjson{}}),
            net::bind_cancellation_slot(stop.slot(), net::redirect_error(net::use_awaitable, result)));
        server.close();
    };
    net::co_spawn(io, write(), net::detached);
    while (io.poll() != 0) {
    }
    CHECK(pool.available() == 0); // it waits for the socket, with the compressor
    stop.emit(net::cancellation_type::terminal);
    tests::run(io);
    CHECK(result == net::error::operation_aborted);
    CHECK(pool.available() == 1);
    const auto received = tests::read_to_end(client);
    CHECK(received.end == net::error::connection_reset);
    const inflated got(received.bytes, deflate_container::gzip);
    CHECK_FALSE(got.ended);
    CHECK_FALSE(got.broken);
}
