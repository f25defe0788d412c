// holdfast: tests of async_write_streamed: the whole message arrives, one chunk of it exists, and half
// never looks whole.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/write_outcome.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/write_streamed.hpp>

#include <array>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

using holdfast::async_write_streamed;
using holdfast::errc;
using holdfast::error_code;
using holdfast::json;
using holdfast::ndjson;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// A document with escapes, numbers, empty things and nesting.
std::map<std::string, std::vector<std::string>> document()
{
    return {{"empty", {}},
            {"escapes \"\\\n", {"\x01\x02", "tab\t", "quote\"", std::string(300, '\n')}},
            {"utf8", {"h\xc3\xa9llo", "\xf0\x9f\x8c\x8a"}},
            {"long", {std::string(5000, 'x'), ""}}};
}

/// Ten bytes a row, made while it is sent.
auto rows(int count)
{
    return std::views::iota(0, count) | std::views::transform([](int i) { return 100'000'000 + i; });
}

/// Reads and counts all that comes, without allocating.
class counting_reader {
public:
    explicit counting_reader(tcp::socket& socket) : socket_(socket) { socket_.non_blocking(true); }

    /// Takes what is there; false at the end.
    bool take()
    {
        for (std::size_t n = 0; (n = socket_.read_some(net::buffer(chunk_), end)) != 0;)
            bytes += n;
        return end == net::error::would_block;
    }

    std::size_t bytes = 0;
    error_code end;

private:
    tcp::socket& socket_;
    std::array<char, 65536> chunk_;
};

/// Throws when row k is made.
auto fails_at(int k)
{
    return std::views::iota(0, k + 10) | std::views::transform([k](int i) {
               if (i == k) throw std::runtime_error("no such row");
               return i;
           });
}

static_assert(std::is_trivially_destructible_v<holdfast::write_streamed_options>);
static_assert(std::is_convertible_v<holdfast::heartbeat&, holdfast::progress>);

} // namespace

TEST_CASE("the whole message arrives, whatever the size of the chunks")
{
    const auto source = document();
    const auto expected = holdfast::serialize_to_string<json>(source);
    for (const std::size_t chunk : {1U, 2U, 3U, 7U, 64U, 1000U, 16384U}) {
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        tests::write_outcome o;
        async_write_streamed(server, std::ref(source), {.chunk_bytes = chunk, .double_buffered = chunk % 3 == 1},
                             o.handler());
        CHECK(o.completed == 0);
        tests::run(io);
        server.close();
        INFO("chunks of " << chunk);
        REQUIRE_FALSE(o.error);
        CHECK(o.completed == 1);
        CHECK(o.written == expected.size());
        CHECK(tests::read_to_end(client).bytes == expected);
    }
}

TEST_CASE("a chunk size out of its range is refused before anything is written, its limits are not")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const std::size_t limit = std::size_t{1} << 30;
    for (const std::size_t chunk : {std::size_t{0}, limit + 1, std::numeric_limits<std::size_t>::max() - 1,
                                    std::numeric_limits<std::size_t>::max()})
        CHECK_THROWS_AS(async_write_streamed(server, 1, {.chunk_bytes = chunk}, net::detached), std::invalid_argument);
    for (const std::size_t chunk : {std::size_t{1}, limit}) {
        tests::write_outcome o;
        async_write_streamed(server, 12345, {.chunk_bytes = chunk}, o.handler());
        tests::run(io);
        CHECK_FALSE(o.error);
    }
    server.close();
    CHECK(tests::read_to_end(client).bytes == "1234512345");
}

TEST_CASE("without memory for a chunk it completes with no_memory, and the source is destroyed")
{
    if (!tests::counts_bytes) return; // under TSan nothing fails
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const auto life = std::make_shared<int>(0);
    auto source = std::views::iota(0, 10) |
                  std::views::transform([held = std::shared_ptr<int>(life)](int i) { return i + *held; });
    tests::write_outcome o;
    auto handler = o.handler();
    tests::until_failure = 0;
    async_write_streamed(server, std::move(source), std::move(handler));
    tests::until_failure = -1;
    tests::run(io);
    CHECK(o.completed == 1);
    CHECK(o.error == net::error::no_memory);
    CHECK(life.use_count() == 1);
}

TEST_CASE("sources are moved in, copied, referred to, or views, and in coroutines too, in the forms that are "
          "safe with g++ 12")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    std::string expected;
    tests::run(io, [&]() -> net::awaitable<void> {
        const auto whole = document();
        expected = holdfast::serialize_to_string<ndjson>(whole);
        auto moved = document(); // named first, then moved
        co_await async_write_streamed<ndjson>(server, std::move(moved));
        co_await async_write_streamed<ndjson>(server, whole); // copied
        co_await async_write_streamed<ndjson>(server, std::ref(whole));
        co_await async_write_streamed<ndjson>(server, std::cref(whole), {.chunk_bytes = 100}, net::use_awaitable);
        co_await async_write_streamed<ndjson>(server, std::views::all(whole) | std::views::values);
        co_await async_write_streamed<ndjson>(server,
                                              document()); // a class with constructors is safe as a temporary
        std::string prefix(100, 'p');                      // an owning closure is named first
        auto made = [prefix](int i) { return prefix + std::to_string(i); };
        auto lines = std::views::iota(0, 2) | std::views::transform(std::move(made));
        co_await async_write_streamed<ndjson>(server, std::move(lines));
        holdfast::write_streamed_options options{.chunk_bytes = 10};
        co_await async_write_streamed<ndjson>(server, std::string_view("view"), options);
    });
    server.close();
    const auto source = document();
    auto values = holdfast::serialize_to_string<ndjson>(std::views::all(source) | std::views::values);
    const std::string p(100, 'p');
    CHECK(tests::read_to_end(client).bytes ==
          expected + expected + expected + expected + values + expected + '"' + p + "0\"\n\"" + p + "1\"\n\"view\"\n");
}

TEST_CASE("a source that is moved in lives until the operation completes, and is destroyed once")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const auto life = std::make_shared<int>(0);
    const auto source = [&] {
        return std::views::iota(0, 1'000'000) | std::views::transform([life](int i) { return i + *life; });
    };
    SECTION("completed")
    {
        tests::write_outcome o;
        counting_reader reader(client);
        async_write_streamed(server, source(), {}, [&, h = o.handler()](error_code ec, std::size_t n) mutable {
            CHECK(life.use_count() == 1); // before the handler is called
            h(ec, n);
        });
        CHECK(life.use_count() > 1);
        tests::run_until(io, [&] { return reader.take() && o.completed != 0; });
        CHECK_FALSE(o.error);
    }
    SECTION("in a coroutine, named and moved")
    {
        counting_reader reader(client);
        bool done = false;
        net::co_spawn(
            io,
            [&]() -> net::awaitable<void> {
                auto s = source();
                co_await async_write_streamed(server, std::move(s));
                done = true;
            },
            net::detached);
        tests::run_until(io, [&] { return reader.take() && done; });
    }
    SECTION("the context dies in the middle of it")
    {
        auto dies = std::make_optional<net::io_context>();
        auto [other, other_peer] = tests::socket_pair(*dies, io);
        net::co_spawn(
            *dies,
            [](tcp::socket s, auto rows_of) -> net::awaitable<void> {
                co_await async_write_streamed(s, std::move(rows_of));
            }(std::move(other), source()),
            net::detached);
        for (int i = 0; i != 100; ++i)
            dies->poll();
        CHECK(life.use_count() > 1);
        dies.reset();
    }
    CHECK(life.use_count() == 1);
}

TEST_CASE("a slow reader costs one chunk: a message of 10 MB takes no more memory, and no more allocations, "
          "than one of 10 kB")
{
    const bool ahead = GENERATE(false, true);
    std::size_t allocations_of_small = 0;
    for (const int count : {1000, 1'000'000}) {
        net::io_context io;
        auto [any, client] = tests::socket_pair(io);
        // A concrete executor: any_io_executor allocates now and then, for the handlers of every operation.
        net::basic_stream_socket<tcp, net::io_context::executor_type> server(io, tcp::v4(), any.release());
        counting_reader reader(client);
        tests::tracked memory;
        tests::write_outcome o;
        const auto allocations = tests::allocations.load();
        const auto bytes = tests::bytes_in_use.load();
        tests::peak_bytes = bytes;
        async_write_streamed(server, rows(count), {.chunk_bytes = 16384, .double_buffered = ahead},
                             tests::allocating_from(memory, o.handler()));
        for (int i = 0; i != 100; ++i) // nobody reads: the buffers fill
            io.poll();
        tests::run_until(io, [&] { return reader.take() && o.completed != 0; });
        const auto peak = tests::peak_bytes - bytes;
        const auto allocated = tests::allocations - allocations;
        REQUIRE_FALSE(o.error);
        CHECK(peak <= 16384 + 4096);
        if (count == 1000)
            allocations_of_small = allocated;
        else
            CHECK(allocated == allocations_of_small);
        CHECK(memory.outstanding == 0);
        server.close();
        tests::run_until(io, [&] { return !reader.take(); });
        CHECK(o.written == static_cast<std::size_t>(count) * 10 + 1);
        CHECK(reader.bytes == o.written);
    }
}

TEST_CASE("progress is notified of what the peer acknowledges of a message in flight, as a callable or by touch()")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    counting_reader reader(client);
    tests::write_outcome o;
    SECTION("a callable")
    {
        std::size_t acknowledged = 0;
        int times = 0;
        auto progress = [&](std::size_t n) noexcept {
            acknowledged += n;
            ++times;
        };
        async_write_streamed(server, rows(500'000), {.chunk_bytes = 1000, .progress = progress}, o.handler());
        tests::run_until(io, [&] { return reader.take() && o.completed != 0; });
        CHECK(acknowledged <= o.written);
        CHECK(acknowledged > o.written / 10);
        CHECK(times > 100);
    }
    SECTION("a heartbeat")
    {
        struct toucher {
            int touches = 0;
            void touch() noexcept { ++touches; }
        } heartbeat;
        async_write_streamed(server, rows(500'000), {.chunk_bytes = 1000, .progress = heartbeat}, o.handler());
        tests::run_until(io, [&] { return reader.take() && o.completed != 0; });
        CHECK(heartbeat.touches > 100);
    }
    CHECK_FALSE(o.error);
    CHECK(o.written == 5'000'001);
}

TEST_CASE("a message that the kernel takes as a whole is no progress, although the peer's kernel acknowledges it")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    std::size_t acknowledged = 0;
    auto progress = [&](std::size_t n) noexcept { acknowledged += n; };
    for (int i = 0; i != 100; ++i) {
        tests::write_outcome o;
        async_write_streamed(server, 12345, {.progress = progress}, o.handler());
        tests::run(io);
        CHECK(o.written == 5);
    }
    CHECK(acknowledged == 0);
}

TEST_CASE("progress ends when the peer's kernel takes no more, and there is none for a peer that has vanished")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const bool vanished = GENERATE(false, true);
    if (vanished) tests::drop_incoming(client);
    tests::write_outcome o;
    std::size_t acknowledged = 0;
    auto progress = [&](std::size_t n) noexcept { acknowledged += n; };
    async_write_streamed(server, rows(10'000'000), {.progress = progress}, o.handler());
    for (int i = 0; i != 1000; ++i)
        io.poll();
    CHECK(o.completed == 0);
    CHECK((acknowledged == 0) == vanished);
    const auto stuck_at = acknowledged;
    for (int i = 0; i != 100; ++i)
        io.poll();
    CHECK(acknowledged == stuck_at);
    server.close();
    tests::run(io);
    CHECK(o.error == net::error::operation_aborted);
    CHECK(o.written > acknowledged); // the kernel has taken more
}

TEST_CASE("a peer that resets in the middle ends the operation with an error")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    tests::write_outcome o;
    async_write_streamed(server, rows(10'000'000), {}, o.handler());
    for (int i = 0; i != 100; ++i)
        io.poll();
    CHECK(o.completed == 0);
    tests::reset(client);
    tests::run(io);
    CHECK(o.completed == 1);
    CHECK((o.error == net::error::connection_reset || o.error == net::error::broken_pipe));
    CHECK(o.written < 100'000'000);
}

TEST_CASE("terminal cancellation ends it in the middle of a stuck chunk, with operation_aborted and the "
          "bytes that were taken")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    net::cancellation_signal stop;
    tests::write_outcome o;
    async_write_streamed(server, rows(10'000'000), {}, net::bind_cancellation_slot(stop.slot(), o.handler()));
    for (int i = 0; i != 100; ++i)
        io.poll();
    stop.emit(net::cancellation_type::terminal);
    tests::run(io);
    CHECK(o.error == net::error::operation_aborted);
    CHECK(o.written > 0);
    server.close();
    const auto got = tests::read_to_end(client);
    CHECK(got.bytes.size() <= o.written);
    CHECK(got.end == net::error::connection_reset); // half a message never looks whole
}

TEST_CASE("a cancellation that arrives between two chunks is not forgotten")
{
    net::io_context later; // runs the operation's steps when the test lets it
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    net::cancellation_signal stop;
    tests::write_outcome o;
    async_write_streamed(server, rows(1000), {.chunk_bytes = 100},
                         net::bind_cancellation_slot(stop.slot(), net::bind_executor(later, o.handler())));
    io.poll(); // the first chunk was taken, and its completion is queued
    SECTION("with more to come")
    {
        stop.emit(net::cancellation_type::terminal);
        later.poll();
        CHECK(o.error == net::error::operation_aborted);
        CHECK(o.written == 100);
    }
    CHECK(o.completed <= 1);
    tests::run_until(io, [&] {
        later.restart();
        later.poll();
        return o.completed == 1;
    });
}

TEST_CASE("a source that throws ends it with source_failed, and the close that follows resets, so that half "
          "never looks whole")
{
    for (const int k : {0, 1, 1000, 100'000})
        for (const auto* way : {"closed", "destroyed", "guarded and closed", "guarded and destroyed", "async_close"}) {
            INFO("row " << k << ", " << way);
            net::io_context io;
            auto [server, client] = tests::socket_pair(io);
            holdfast::connection_guard<> guard(std::move(server));
            counting_reader reader(client);
            tests::write_outcome o;
            async_write_streamed<ndjson>(guard.stream(), fails_at(k), {.chunk_bytes = 512}, o.handler());
            CHECK(o.completed == 0);
            tests::run_until(io, [&] { return reader.take() && o.completed != 0 && reader.bytes == o.written; });
            CHECK(o.error == error_code(errc::source_failed));
            const std::string how = way;
            if (how == "closed")
                guard.release_unbounded().close();
            else if (how == "destroyed")
                static_cast<void>(guard.release_unbounded());
            else if (how == "guarded and closed")
                guard.close();
            else if (how == "guarded and destroyed")
                holdfast::connection_guard<>(std::move(guard));
            else
                guard.async_close({}, net::detached);
            tests::run(io);
            CHECK_FALSE(reader.take());
            CHECK(reader.end == net::error::connection_reset);
        }
}

TEST_CASE("what JSON cannot express ends it with that error, unless the format says otherwise")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const std::vector<double> numbers{1.5, std::numeric_limits<double>::quiet_NaN()};
    std::string path = "nowhere";
    tests::write_outcome o;
    SECTION("not a number")
    {
        async_write_streamed(server, std::ref(numbers), {.chunk_bytes = 2, .error_path = &path}, o.handler());
        tests::run(io);
        CHECK(o.error == error_code(errc::not_finite));
        CHECK(path == "/1");
    }
    SECTION("not UTF-8")
    {
        async_write_streamed(server, std::string("\xff"), {}, o.handler());
        tests::run(io);
        CHECK(o.error == error_code(errc::invalid_utf8));
    }
    SECTION("written as null")
    {
        async_write_streamed(server,
                             holdfast::formatted(std::ref(numbers), json{.non_finite = holdfast::non_finite::null}),
                             {.error_path = &path}, o.handler());
        tests::run(io);
        CHECK_FALSE(o.error);
        CHECK(path == "nowhere");
        server.close();
        CHECK(tests::read_to_end(client).bytes == "[1.5,null]");
    }
}

TEST_CASE("an empty range is a message too, and what has no bytes at all completes as well, outside the "
          "initiating call")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    const std::vector<int> none;
    tests::write_outcome as_json, as_ndjson;
    async_write_streamed(server, std::ref(none), {}, as_json.handler());
    tests::run(io);
    CHECK(as_json.written == 2);
    net::post(io, [&] {
        async_write_streamed<ndjson>(server, std::ref(none), {}, as_ndjson.handler());
        CHECK(as_ndjson.completed == 0);
    });
    tests::run(io);
    CHECK(as_ndjson.completed == 1);
    CHECK_FALSE(as_ndjson.error);
    CHECK(as_ndjson.written == 0);
    server.close();
    CHECK(tests::read_to_end(client).bytes == "[]");
}

TEST_CASE("it never completes inside the initiating call, not even for a source that fails at once")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    tests::write_outcome o;
    net::post(io, [&] {
        async_write_streamed(server, fails_at(0), {.chunk_bytes = 1}, o.handler());
        CHECK(o.completed == 0);
    });
    tests::run(io);
    CHECK(o.completed == 1);
    CHECK(o.error == error_code(errc::source_failed));
}

TEST_CASE("the handler runs on its own executor, and nothing of its memory was needed")
{
    net::io_context handlers, io;
    auto [server, client] = tests::socket_pair(io);
    tests::tracked memory;
    tests::write_outcome written, nothing, bound;
    async_write_streamed(server, document(), {.chunk_bytes = 100}, tests::allocating_from(memory, written.handler()));
    tests::run(io);
    async_write_streamed<ndjson>(server, std::vector<int>(), {}, tests::allocating_from(memory, nothing.handler()));
    tests::run(io);
    CHECK((written.completed == 1 && nothing.completed == 1));
    CHECK(memory.total == 0);
    async_write_streamed(server, document(), {}, net::bind_executor(handlers, bound.handler()));
    io.poll();
    CHECK(bound.completed == 0);
    tests::run_until(handlers, [&] {
        io.restart();
        io.poll();
        return bound.completed == 1;
    });
    CHECK_FALSE(bound.error);
}

TEST_CASE("it takes use_future, and by default use_awaitable, which throws the errors")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    auto future = async_write_streamed(server, 12345, {}, net::use_future);
    tests::run(io);
    CHECK(future.get() == 5);
    std::size_t written = 0;
    tests::run(io, [&]() -> net::awaitable<void> { written = co_await async_write_streamed(server, 678); });
    CHECK(written == 3);
    CHECK_THROWS_AS(tests::run(io,
                               [&]() -> net::awaitable<void> {
                                   auto source = fails_at(3);
                                   co_await async_write_streamed(server, std::move(source));
                               }),
                    holdfast::system_error);
}

TEST_CASE("it writes through a user's layered stream, and a failure resets its socket")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    tests::write_outcome o;
    tests::layered_stream stream(std::move(server));
    SECTION("whole")
    {
        async_write_streamed(stream, document(), {.chunk_bytes = 64}, o.handler());
        tests::run(io);
        CHECK_FALSE(o.error);
        stream.next_layer().close();
        CHECK(tests::read_to_end(client).bytes == holdfast::serialize_to_string<json>(document()));
    }
    SECTION("failed")
    {
        async_write_streamed(stream, fails_at(100), {.chunk_bytes = 64}, o.handler());
        tests::run(io);
        CHECK(o.error == error_code(errc::source_failed));
        stream.next_layer().close();
        CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    }
}

TEST_CASE("it writes through local sockets")
{
    net::io_context io;
    auto [server, client] = tests::local_pair(io);
    tests::write_outcome o;
    async_write_streamed(server, document(), {}, o.handler());
    tests::run(io);
    server.close();
    CHECK(tests::read_to_end(client).bytes == holdfast::serialize_to_string<json>(document()));
}
