// holdfast: tests of frame_reader: every line as it was sent, never more memory than one, and none
// while it is quiet.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/next_outcome.hpp"
#include "support/sockets.hpp"

#include <holdfast/frame_reader.hpp>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using holdfast::errc;
using holdfast::error_code;
using holdfast::frame_reader;
using outcome = tests::next_outcome;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// A reader with its peer.
struct line {
    explicit line(std::size_t max_frame_bytes = 64 * 1024) : reader(server, {max_frame_bytes})
    {
        client.set_option(tcp::no_delay(true));
    }

    void send(std::string_view bytes) { net::write(client, net::buffer(bytes.data(), bytes.size())); }

    outcome next()
    {
        outcome o;
        reader.async_next(o.handler());
        CHECK(o.completed == 0); // never inside the initiating call
        io.restart();
        tests::run(io);
        CHECK(o.completed == 1);
        return o;
    }

    /// The next frame; fails unless there is one.
    std::string frame()
    {
        auto o = next();
        INFO(o.error.message());
        REQUIRE(o.frame);
        CHECK_FALSE(o.error);
        return *o.frame;
    }

    void expect_end()
    {
        const auto o = next();
        CHECK_FALSE(o.error);
        CHECK_FALSE(o.frame);
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
    tcp::socket& server = both.first;
    tcp::socket& client = both.second;
    frame_reader<tcp::socket> reader;
};

/// A layer whose socket can be waited for, as ssl::stream's.
struct readable_layer {
    using executor_type = tcp::socket::executor_type;

    executor_type get_executor() { return socket.get_executor(); }
    tcp::socket& lowest_layer() { return socket; }
    static std::size_t pending() { return 0; }
    template <class Buffers, class Token>
    auto async_read_some(const Buffers& buffers, Token&& token)
    {
        return socket.async_read_some(buffers, std::forward<Token>(token));
    }
    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token)
    {
        return socket.async_write_some(buffers, std::forward<Token>(token));
    }

    tcp::socket& socket;
};

const std::array all_cancellations{net::cancellation_type::terminal, net::cancellation_type::partial,
                                   net::cancellation_type::total};

} // namespace

TEST_CASE("lines end with LF or CRLF, may be empty, and may hold any other byte")
{
    line l;
    const std::string binary("\0\xff\r\r\t", 5);
    l.send("one\ntwo\r\n\n\r\n\rthree\r\r\n" + binary + "\nlast\n");
    l.client.shutdown(tcp::socket::shutdown_send);
    CHECK(l.frame() == "one");
    CHECK(l.frame() == "two");
    CHECK(l.frame().empty());
    CHECK(l.frame().empty());
    CHECK(l.frame() == "\rthree\r");
    CHECK(l.frame() == binary);
    CHECK(l.frame() == "last");
    l.expect_end();
    l.expect_end(); // as often as it is asked
}

TEST_CASE("a CR at one read and its LF at the next end one line")
{
    line l;
    outcome o;
    l.reader.async_next(o.handler());
    l.send("line\r");
    tests::await_readable(l.server);
    l.io.poll();
    CHECK(o.completed == 0);
    l.send("\nnext\n");
    tests::run(l.io);
    CHECK(o.frame == "line");
    CHECK(l.frame() == "next");
}

TEST_CASE("any way to cut the bytes into reads gives the same lines")
{
    const std::string text = "alpha\r\n\nb\n\r\ngamma delta\r\n";
    const std::vector<std::string> lines{"alpha", "", "b", "", "gamma delta"};
    for (std::size_t first = 0; first <= text.size(); ++first)
        for (std::size_t second = first; second <= text.size(); ++second) {
            line l(11); // the longest of them exactly
            std::vector<std::string> got;
            net::co_spawn(
                l.io,
                [&]() -> net::awaitable<void> {
                    while (const auto f = co_await l.reader.async_next())
                        got.emplace_back(*f);
                },
                net::detached);
            const std::array cuts{std::size_t(0), first, second, text.size()};
            for (std::size_t i = 0; i + 1 != cuts.size(); ++i) {
                if (cuts[i] == cuts[i + 1]) continue;
                l.send(std::string_view(text).substr(cuts[i], cuts[i + 1] - cuts[i]));
                tests::await_readable(l.server);
                l.io.poll();
            }
            l.client.close();
            tests::run(l.io);
            INFO("cut at " << first << " and " << second);
            REQUIRE(got == lines);
        }
}

TEST_CASE("lines that arrive a byte at a time are whole")
{
    line l;
    std::vector<std::string> got;
    net::co_spawn(
        l.io,
        [&]() -> net::awaitable<void> {
            while (const auto f = co_await l.reader.async_next())
                got.emplace_back(*f);
        },
        net::detached);
    for (const char byte : std::string("first\r\nsecond line\n\nx\n")) {
        l.send({&byte, 1});
        tests::await_readable(l.server);
        l.io.poll();
    }
    l.client.close();
    tests::run(l.io);
    CHECK(got == std::vector<std::string>{"first", "second line", "", "x"});
}

TEST_CASE("a line of the limit is taken and a byte more is frame_too_long, whatever its end and however it arrives")
{
    for (const std::size_t limit : {1U, 4U, 511U, 512U, 600U, 5000U})
        for (const std::string end : {"\n", "\r\n"}) {
            INFO("limit " << limit << ", " << end.size() << " bytes at the end");
            {
                line l(limit);
                l.send(std::string(limit - 1, 'a') + end + std::string(limit, 'b') + end + "c\n");
                CHECK(l.frame() == std::string(limit - 1, 'a'));
                CHECK(l.frame() == std::string(limit, 'b'));
                CHECK(l.frame() == "c");
            }
            {
                line l(limit);
                l.send(std::string(limit + 1, 'a') + end + "next\n");
                l.expect(errc::frame_too_long);
                l.expect(errc::frame_too_long); // the stream is of no more use
            }
            {
                line l(limit); // behind another, so that the buffer begins elsewhere
                l.send("\n" + std::string(limit + 1, 'a') + end);
                CHECK(l.frame().empty());
                l.expect(errc::frame_too_long);
            }
            {
                line l(limit); // without an end in sight
                l.send(std::string(limit + 2, 'a'));
                l.expect(errc::frame_too_long);
            }
            {
                line l(limit); // a CR that turns out to be a part of the line
                l.send(std::string(limit, 'a') + "\rb\n");
                l.expect(errc::frame_too_long);
            }
        }
}

TEST_CASE("an endless line ends with frame_too_long, and its memory stays below the limit and a little")
{
    line l(10'000);
    std::string flood(1'000'000, 'x');
    l.client.non_blocking(true);
    error_code ec;
    while (!ec)
        l.client.write_some(net::buffer(flood), ec);
    l.expect(errc::frame_too_long);
    const auto pool = holdfast::shared_buffer_pool::of(l.io.get_executor()).counters();
    CHECK(pool.lent_bytes == 16'384);
    CHECK(pool.peak_bytes == 16'384 + 8192); // while the buffer grows, the old one and the new
}

TEST_CASE("the end of the stream at a boundary is no error, and within a line it is truncated_frame")
{
    line whole, broken, never, half_end;
    whole.send("bye\n");
    broken.send("by");
    half_end.send("bye\r");
    for (auto* l : {&whole, &broken, &never, &half_end})
        l->client.close();
    CHECK(whole.frame() == "bye");
    whole.expect_end();
    broken.expect(errc::truncated_frame);
    never.expect_end();
    half_end.expect(errc::truncated_frame);
}

TEST_CASE("a reset is an error, not an end")
{
    line l;
    l.send("one\npart");
    CHECK(l.frame() == "one");
    outcome o;
    l.reader.async_next(o.handler());
    l.io.poll();
    CHECK(o.completed == 0);
    tests::reset(l.client);
    tests::run(l.io);
    CHECK(o.error == net::error::connection_reset);
    CHECK_FALSE(o.frame);
}

TEST_CASE("a stream that is closed under the reader ends the wait with operation_aborted")
{
    line l;
    outcome o;
    l.reader.async_next(o.handler());
    l.io.poll();
    l.server.close();
    tests::run(l.io);
    CHECK(o.error == net::error::operation_aborted);
}

TEST_CASE("10,000 pipelined lines are read one by one, in order")
{
    line l(100);
    std::string text;
    for (int i = 0; i != 10'000; ++i)
        text += std::to_string(i) + (i % 2 != 0 ? "\r\n" : "\n");
    int count = 0;
    bool right = true;
    net::co_spawn(
        l.io,
        [&]() -> net::awaitable<void> {
            while (const auto f = co_await l.reader.async_next())
                right = right && *f == std::to_string(count++);
        },
        net::detached);
    net::async_write(l.client, net::buffer(text), [&](error_code, std::size_t) { l.client.close(); });
    tests::run(l.io);
    CHECK(right);
    CHECK(count == 10'000);
}

TEST_CASE("the frame is a view that stays as it is until the next call, whatever arrives meanwhile")
{
    line l;
    std::string_view view;
    l.send("first\nsecond");
    l.reader.async_next([&](error_code, std::optional<std::string_view> f) { view = f.value(); });
    tests::run(l.io);
    CHECK(view == "first");
    l.send(" line\n" + std::string(10'000, 'x') + "\n");
    l.io.poll();
    CHECK(view == "first");
    CHECK(l.frame() == "second line");
    CHECK(l.frame() == std::string(10'000, 'x'));
}

TEST_CASE("cancellation of each type ends the wait and loses no byte")
{
    for (const auto type : all_cancellations) {
        line l;
        l.send("half a li");
        tests::await_readable(l.server);
        net::cancellation_signal stop;
        outcome o;
        l.reader.async_next(net::bind_cancellation_slot(stop.slot(), o.handler()));
        l.io.poll();
        CHECK(o.completed == 0);
        stop.emit(type);
        tests::run(l.io);
        CHECK(o.error == net::error::operation_aborted);
        CHECK_FALSE(o.frame);
        l.send("ne\nnext\n");
        CHECK(l.frame() == "half a line");
        CHECK(l.frame() == "next");
    }
}

TEST_CASE("a cancellation that arrives between two steps is not forgotten, and loses no byte either")
{
    net::io_context later; // runs the operation's steps when the test lets it
    line l;
    net::cancellation_signal stop;
    outcome o;
    l.reader.async_next(net::bind_cancellation_slot(stop.slot(), net::bind_executor(later, o.handler())));
    l.send("half a li");
    tests::await_readable(l.server);
    l.io.poll(); // the wait is over, and its completion is queued
    stop.emit(net::cancellation_type::total);
    later.poll();
    l.io.restart();
    l.io.poll();
    later.restart();
    later.poll();
    REQUIRE(o.completed == 1);
    CHECK(o.error == net::error::operation_aborted);
    l.send("ne\n");
    CHECK(l.frame() == "half a line");
}

TEST_CASE("a cancellation between the wait for bytes and the wait for a buffer ends the operation")
{
    net::io_context later, io;
    auto [server, client] = tests::socket_pair(io);
    holdfast::shared_buffer_pool pool(io.get_executor(), {.max_bytes = 1024});
    auto all = pool.try_borrow(1024);
    REQUIRE(all);
    const auto cancel_between = [&](auto& reader) {
        net::cancellation_signal stop;
        outcome o;
        reader.async_next(net::bind_cancellation_slot(stop.slot(), net::bind_executor(later, o.handler())));
        net::write(client, net::buffer("line\n", 5));
        tests::await_readable(server);
        io.restart();
        io.poll(); // the wait is over, and its completion is queued
        stop.emit(net::cancellation_type::total);
        for (auto* each : {&later, &io, &later}) {
            each->restart();
            each->poll();
        }
        REQUIRE(o.completed == 1);
        CHECK(o.error == net::error::operation_aborted);
        all.release();
        outcome next;
        reader.async_next(next.handler());
        io.restart();
        tests::run(io);
        CHECK(next.frame == "line");
    };
    SECTION("a socket")
    {
        frame_reader reader(server, pool);
        cancel_between(reader);
    }
    SECTION("a layer")
    {
        readable_layer layer{server};
        frame_reader reader(layer, pool);
        cancel_between(reader);
    }
}

TEST_CASE("an idle reader holds no buffer: it borrows none while it waits, and gives the last back when all was "
          "consumed, a message allocates nothing but Asio's wait")
{
    line l;
    tests::tracked asios;
    outcome o;
    auto& pool = holdfast::shared_buffer_pool::of(l.io.get_executor());
    const auto wait = [&] {
        o = {};
        l.reader.async_next(tests::allocating_from(asios, o.handler()));
        l.io.restart();
        l.io.poll();
    };
    wait(); // Asio registers the socket at the first
    CHECK(pool.counters().lent_bytes == 0);
    for (const auto size : {1U, 10U, 5000U, 60'000U}) {
        l.send(std::string(size, 'x') + "\n");
        tests::run_until(l.io, [&] { return o.completed == 1; });
        CHECK(o.frame == std::string(size, 'x'));
        CHECK(pool.counters().lent_bytes >= size);
        wait();
        CHECK(o.completed == 0);
        CHECK(pool.counters().lent_bytes == 0);
    }
    l.server.cancel(); // a wait that ends with nothing to read
    l.io.poll();
    wait();
    CHECK(pool.counters().lent_bytes == 0);
    int completed = 0;
    std::size_t total = asios.total;
    CHECK(tests::allocations_in([&] {
              for (int i = 0; i != 10; ++i) {
                  net::write(l.client, net::buffer("12345\n", 6));
                  tests::await_readable(l.server);
                  l.io.poll();
                  l.reader.async_next(
                      tests::allocating_from(asios, [&](error_code, std::optional<std::string_view>) { ++completed; }));
                  l.io.restart();
                  l.io.poll();
              }
          }) == 0);
    CHECK(completed == 9); // the first line was for the wait before
    CHECK(asios.total - total == 10);
    l.client.close();
    tests::run(l.io);
    CHECK(completed == 10);
    CHECK(asios.outstanding == 0);
}

TEST_CASE("SHUT_RD, by whichever thread, ends the pending or the next read as the end of the stream")
{
    line l;
    SECTION("pending, from another thread")
    {
        outcome o;
        l.reader.async_next(o.handler());
        l.io.poll();
        const int descriptor = l.server.native_handle();
        std::thread elsewhere([descriptor] { ::shutdown(descriptor, SHUT_RD); });
        tests::run(l.io);
        elsewhere.join();
        CHECK(o.completed == 1);
        CHECK_FALSE(o.error);
        CHECK_FALSE(o.frame);
    }
    SECTION("the next, after the lines that had arrived")
    {
        l.send("one\ntwo\n");
        CHECK(l.frame() == "one");
        ::shutdown(l.server.native_handle(), SHUT_RD);
        CHECK(l.frame() == "two");
        l.expect_end();
    }
}

TEST_CASE("nothing completes inside the initiating call, even when the line or the error is there already")
{
    line l(8);
    l.send("one\ntwo\nmuch too long\n");
    CHECK(l.frame() == "one"); // next() and its kin check it, here from outside run()
    bool inside = false;
    int completed = 0;
    net::post(l.io, [&] { // and here from within, where a dispatch would call at once
        inside = true;
        l.reader.async_next([&](error_code, std::optional<std::string_view> f) {
            CHECK_FALSE(inside);
            CHECK(f == "two");
            inside = true;
            l.reader.async_next([&](error_code ec, std::optional<std::string_view>) {
                CHECK_FALSE(inside);
                CHECK(ec == error_code(errc::frame_too_long));
                inside = true;
                l.reader.async_next([&](error_code again, std::optional<std::string_view>) {
                    CHECK_FALSE(inside);
                    CHECK(again == error_code(errc::frame_too_long));
                    ++completed;
                });
                inside = false;
            });
            inside = false;
        });
        inside = false;
    });
    tests::run(l.io);
    CHECK(completed == 1);
}

TEST_CASE("the handler runs on its own executor")
{
    net::io_context handlers;
    line l;
    outcome waited, buffered;
    l.reader.async_next(net::bind_executor(handlers, waited.handler()));
    l.send("one\ntwo\n");
    tests::run_until(handlers, [&] {
        l.io.restart();
        l.io.poll();
        return waited.completed == 1;
    });
    CHECK(waited.frame == "one");
    l.reader.async_next(net::bind_executor(handlers, buffered.handler()));
    l.io.restart();
    l.io.poll();
    CHECK(buffered.completed == 0);
    handlers.restart();
    handlers.poll();
    CHECK(buffered.frame == "two");
}

TEST_CASE("async_next takes use_future, and by default use_awaitable, which throws the errors")
{
    line l(3);
    l.send("one\nlonger\n");
    auto future = l.reader.async_next(net::use_future);
    tests::run(l.io);
    CHECK(future.get() == "one");
    CHECK_THROWS_AS(tests::run(l.io, [&]() -> net::awaitable<void> { co_await l.reader.async_next(); }),
                    holdfast::system_error);
}

TEST_CASE("the context may be destroyed while a reader waits")
{
    bool destroyed = false;
    {
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        net::co_spawn(
            io,
            [&, s = std::move(server)]() mutable -> net::awaitable<void> {
                struct mark {
                    bool& flag;
                    ~mark() { flag = true; }
                } m{destroyed};
                frame_reader lines(s);
                co_await lines.async_next();
                co_await lines.async_next();
            },
            net::detached);
        net::write(client, net::buffer("one\ntw", 6));
        io.poll();
    }
    CHECK(destroyed);
}

TEST_CASE("local sockets are read like any other")
{
    net::io_context io;
    auto [server, client] = tests::local_pair(io);
    frame_reader lines(server, {.max_frame_bytes = 10});
    net::write(client, net::buffer("one\ntwo\r\n", 9));
    client.close();
    std::vector<std::string> got;
    tests::run(io, [&]() -> net::awaitable<void> {
        while (const auto f = co_await lines.async_next())
            got.emplace_back(*f);
    });
    CHECK(got == std::vector<std::string>{"one", "two"});
}

TEST_CASE("a stream without readiness is read in the same way: lines, limit, end, cancellation")
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    tests::layered_stream stream(std::move(server));
    frame_reader lines(stream, {.max_frame_bytes = 10});
    std::vector<std::string> got;
    outcome o;
    SECTION("lines and the end")
    {
        net::write(client, net::buffer("one\ntwo\r\n0123456789\r\n", 21));
        client.close();
        tests::run(io, [&]() -> net::awaitable<void> {
            while (const auto f = co_await lines.async_next())
                got.emplace_back(*f);
        });
        CHECK(got == std::vector<std::string>{"one", "two", "0123456789"});
    }
    SECTION("a line too long, with its end in the same read")
    {
        net::write(client, net::buffer("0123456789a\n", 12));
        lines.async_next(o.handler());
        tests::run(io);
        CHECK(o.error == error_code(errc::frame_too_long));
    }
    SECTION("an end within a line")
    {
        net::write(client, net::buffer("0123", 4));
        client.close();
        lines.async_next(o.handler());
        tests::run(io);
        CHECK(o.error == error_code(errc::truncated_frame));
    }
    SECTION("cancellation")
    {
        net::cancellation_signal stop;
        net::write(client, net::buffer("0123", 4));
        tests::await_readable(stream.next_layer());
        lines.async_next(net::bind_cancellation_slot(stop.slot(), o.handler()));
        io.poll();
        stop.emit(net::cancellation_type::total);
        tests::run(io);
        CHECK(o.error == net::error::operation_aborted);
        net::write(client, net::buffer("45\n", 3));
        lines.async_next(o.handler());
        tests::run(io);
        CHECK(o.frame == "012345");
    }
}
