// holdfast: tests that an outbox which sends at once leaves the thread to others, and survives a want of memory.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/outbox.hpp>
#include <holdfast/serialize/json.hpp>

#include <cstddef>
#include <functional>
#include <new>
#include <string>
#include <vector>

using holdfast::error_code;
using holdfast::outbox;
using holdfast::payload;
using tests::tcp;
namespace net = holdfast::net;

namespace {

/// How many turns others have until nothing is queued any more. The kernel takes all at once.
template <class Push>
std::size_t turns_of_others(Push push)
{
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    server.set_option(net::socket_base::send_buffer_size(400'000));
    client.set_option(net::socket_base::receive_buffer_size(400'000));
    outbox box{server, {.chunk_bytes = 1024}};
    push(box);
    std::size_t turns = 0;
    std::function<void()> other = [&] {
        if (++turns < 1000 && box.queued() != 0) net::post(io, std::ref(other));
    };
    net::post(io, std::ref(other));
    io.run();
    CHECK(box.queued() == 0);
    return turns;
}

} // namespace

TEST_CASE("a long message leaves the thread to others after four writes, and so do many short ones")
{
    const std::vector<int> numbers(10'000, 1'234'567); // 80 chunks
    CHECK(turns_of_others([&](auto& box) { CHECK_FALSE(box.push_streamed(std::cref(numbers))); }) >= 15);
    CHECK(turns_of_others([&](auto& box) {
              for (int i = 0; i != 80; ++i)
                  CHECK_FALSE(box.push_streamed(i));
          }) >= 15);
    CHECK(turns_of_others([&](auto& box) {
              CHECK_FALSE(box.push(payload("first")));
              CHECK_FALSE(box.push_streamed(std::cref(numbers)));
          }) >= 15);
}

TEST_CASE("an outbox on a strand survives a push without memory, wherever the memory ends")
{
    if (!tests::counts_bytes) return; // a sanitizer has its own operator new
    for (long nth = 0; nth != 8; ++nth) {
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        using strand = net::strand<net::io_context::executor_type>;
        net::basic_stream_socket<tcp, strand> stream(strand(io.get_executor()), tcp::v4(), server.release());
        const payload message("x");
        {
            outbox box{stream};
            tests::until_failure = nth;
            const error_code ec = box.push(message);
            tests::until_failure = -1;
            CHECK((!ec || ec == net::error::no_memory));
            if (ec) CHECK(box.queued() == 0);
            io.run();
        }
        CHECK(message.use_count() == 1);
    }
}

TEST_CASE("an async_push that fails for want of memory holds no reference to its message, and nothing in its slot")
{
    if (!tests::counts_bytes) return;
    for (long nth = 0; nth != 8; ++nth) {
        const payload message(std::string(60, 'x'));
        net::cancellation_signal signal;
        {
            net::io_context io;
            auto [server, client] = tests::socket_pair(io);
            outbox box{server, {.high_watermark = 100, .on_overflow = holdfast::overflow_policy::wait}};
            CHECK_FALSE(box.push(message));
            tests::until_failure = nth;
            try {
                box.async_push(message, net::bind_cancellation_slot(signal.slot(), [](error_code) {}));
            } catch (const std::bad_alloc&) {
            }
            tests::until_failure = -1;
            signal.emit(net::cancellation_type::terminal);
            io.run();
        }
        CHECK(message.use_count() == 1);
    }
}
