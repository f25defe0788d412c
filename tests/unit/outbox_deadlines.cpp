// holdfast: tests of the options of an outbox, and of the deadlines of its flush and close.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/held_stream.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/serialize/json.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using holdfast::close_reason;
using holdfast::errc;
using holdfast::error_code;
using holdfast::outbox;
using holdfast::outbox_options;
using holdfast::overflow_policy;
using holdfast::payload;
using tests::held_stream;
using tests::tcp;
namespace net = holdfast::net;
using duration = std::chrono::steady_clock::duration;

namespace {

template <class T>
std::vector<T> extremes()
{
    using limits = std::numeric_limits<T>;
    return {T{0}, T{1}, static_cast<T>(limits::max() - 1), limits::max(), static_cast<T>(-1)};
}

struct ended {
    int times = 0;
    error_code error;
    auto handler()
    {
        return [this](error_code ec) {
            ++times;
            error = ec;
        };
    }
};

struct note_end {
    std::vector<holdfast::connection_end>* to;
    std::function<void()>* then = nullptr;
    void operator()(const holdfast::connection_end& end) const noexcept
    {
        to->push_back(end);
        if (then != nullptr) (*then)();
    }
};

/// Pushes a message, sends it, and returns whether that worked.
bool works(const outbox_options& options)
{
    net::io_context io;
    held_stream stream(io);
    outbox outbox{stream, options};
    if (outbox.push(payload("message"))) return false;
    outbox.tick();
    outbox.push_streamed(1);
    for (io.poll(); stream.in_flight(); io.poll()) {
        stream.take();
        io.restart();
    }
    return outbox.queued() == 0;
}

void close(net::io_context& io, tcp::socket& socket)
{
    socket.close();
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("every option of an outbox either works at its extremes or is refused with its name")
{
    for (const auto n : extremes<std::size_t>()) {
        INFO(n);
        CHECK(works({.high_watermark = n, .on_overflow = overflow_policy::wait}) == (n > 23));
        CHECK(works({.low_watermark = n}));
        CHECK(works({.soft_limit_ticks = 60'000, .soft_watermark = n}));
        const std::size_t most = holdfast::worst_case_bytes({.high_watermark = n});
        CHECK(most >= n); // it does not wrap
        CHECK(holdfast::worst_case_bytes({}, n) > 65536);
    }
    CHECK(works({.high_watermark = std::numeric_limits<std::size_t>::max(),
                 .low_watermark = std::numeric_limits<std::size_t>::max(),
                 .reserve_bytes = std::numeric_limits<std::uint32_t>::max()}));
    for (const auto n : extremes<std::uint32_t>()) {
        INFO(n);
        CHECK(works({.reserve_bytes = n}));
        if (n != 1) CHECK_THROWS_WITH(works({.chunk_bytes = n}), tests::contains("chunk_bytes"));
        CHECK(holdfast::worst_case_bytes({.reserve_bytes = n, .chunk_bytes = n}) > n);
    }
    CHECK(works({.chunk_bytes = 1}));
    for (const auto n : extremes<std::uint16_t>())
        CHECK(works({.soft_limit_ticks = n, .soft_watermark = 1 << 20}));
    for (const auto n : extremes<int>()) {
        INFO(n);
        if (n < 0)
            CHECK_THROWS_WITH(works({.notsent_lowat_bytes = n}), tests::contains("notsent_lowat_bytes"));
        else
            CHECK(works({.notsent_lowat_bytes = n}));
    }
    using std::chrono::milliseconds;
    constexpr milliseconds zero{0}, one{1}, longest{60'000};
    for (const milliseconds time : {milliseconds::min(), -one, zero, one, longest, longest + one,
                                    milliseconds::max() - one, milliseconds::max()}) {
        INFO(time.count());
        if (time < zero || time > longest)
            CHECK_THROWS_WITH(works({.write_delay = time}), tests::contains("write_delay"));
        else
            CHECK(works({.write_delay = time}));
    }
    CHECK_THROWS_WITH(works({.on_overflow = static_cast<overflow_policy>(3)}), tests::contains("on_overflow"));
}

TEST_CASE("every deadline works at its extremes, and is refused when it is negative")
{
    for (const auto deadline : {duration(0), duration(1), duration::max() - duration(1), duration::max()}) {
        net::io_context io;
        held_stream stream(io);
        outbox outbox{stream};
        CHECK_FALSE(outbox.push(payload("message")));
        ended flushed, closed;
        const bool at_once = deadline <= duration(1);
        outbox.async_flush({.deadline = deadline}, flushed.handler());
        CHECK(flushed.times == 0);
        tests::run_until(io, [&] { return at_once ? flushed.times == 1 : stream.in_flight(); });
        CHECK(flushed.times == (at_once ? 1 : 0));
        CHECK(outbox.queued() == 1); // a flush drops nothing
        outbox.async_close({.deadline = deadline}, closed.handler());
        tests::run_until(io, [&] { return at_once ? closed.times == 1 : stream.in_flight(); });
        if (stream.in_flight()) stream.take();
        io.restart();
        io.poll();
        CHECK(flushed.times == 1);
        CHECK(flushed.error == (at_once ? error_code(net::error::timed_out) : error_code()));
        CHECK(closed.times == 1);
        CHECK(closed.error == (at_once ? error_code(errc::close_incomplete) : error_code()));
    }
    net::io_context io;
    held_stream stream(io);
    outbox outbox{stream};
    for (const auto deadline : {duration(-1), duration::min()}) {
        CHECK_THROWS_AS(outbox.async_flush({.deadline = deadline}, net::detached), std::invalid_argument);
        CHECK_THROWS_AS(outbox.async_close({.deadline = deadline}, net::detached), std::invalid_argument);
    }
    CHECK(outbox.is_open());
}

TEST_CASE("a close whose peer does not read ends at its deadline, by a reset")
{
    net::io_context io;
    std::vector<holdfast::connection_end> ends;
    auto [server, client] = tests::socket_pair(io);
    holdfast::connection_guard<tcp::socket, note_end> peer(std::move(server), note_end{&ends});
    outbox outbox{peer, {.high_watermark = 64u << 20}};
    CHECK_FALSE(outbox.push(payload(std::string(30'000'000, 'x'))));
    ended closed, waits;
    outbox.async_flush(waits.handler());
    outbox.async_close({.deadline = std::chrono::milliseconds(50)}, closed.handler());
    tests::run(io);
    CHECK(closed.times == 1);
    CHECK(closed.error == errc::close_incomplete);
    CHECK(waits.times == 1);
    CHECK(waits.error == errc::close_incomplete);
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].reason == close_reason::local);
    CHECK(ends[0].error == errc::close_incomplete);
    CHECK(tests::read_to_end(client).end == net::error::connection_reset);
    close(io, client);
}

TEST_CASE("the finalizer may destroy the outbox at the deadline of its close")
{
    net::io_context io;
    std::vector<holdfast::connection_end> ends;
    auto [server, client] = tests::socket_pair(io);
    struct session {
        session(tcp::socket socket, const note_end& end) : peer(std::move(socket), end) {}
        holdfast::connection_guard<tcp::socket, note_end> peer;
        outbox<tcp::socket> box{peer, {.high_watermark = 64u << 20}};
    };
    std::unique_ptr<session> live;
    std::function<void()> destroy = [&] { live.reset(); };
    live = std::make_unique<session>(std::move(server), note_end{&ends, &destroy});
    CHECK_FALSE(live->box.push(payload(std::string(30'000'000, 'x'))));
    ended closed, flushed;
    live->box.async_close({.deadline = duration(0)}, closed.handler());
    live->box.async_flush({.deadline = std::chrono::hours(1)}, flushed.handler());
    tests::run(io);
    CHECK_FALSE(live);
    CHECK(closed.times == 1);
    CHECK(closed.error == errc::close_incomplete);
    CHECK(flushed.times == 1);
    CHECK(flushed.error == errc::close_incomplete);
    CHECK(ends.size() == 1);
}

TEST_CASE("a cancelled close drops nothing: what is queued is still sent")
{
    net::io_context io;
    held_stream stream(io);
    outbox outbox{stream};
    CHECK_FALSE(outbox.push(payload("message")));
    net::cancellation_signal cancel;
    ended closed;
    outbox.async_close({.deadline = std::chrono::hours(1)},
                       net::bind_cancellation_slot(cancel.slot(), closed.handler()));
    io.poll();
    cancel.emit(net::cancellation_type::total);
    io.restart();
    io.poll();
    CHECK(closed.times == 1);
    CHECK(closed.error == net::error::operation_aborted);
    stream.take();
    io.restart();
    io.poll();
    CHECK(stream.taken == "message");
}
