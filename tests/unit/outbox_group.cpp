// holdfast: tests of outbox_group: one message to all, at the cost of a reference each, while they come and
// go.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/held_stream.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/outbox_group.hpp>
#include <holdfast/process/memory.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <malloc.h>
#include <sys/epoll.h>
#include <sys/resource.h>

using holdfast::conflate;
using holdfast::errc;
using holdfast::outbox;
using holdfast::outbox_group;
using holdfast::payload;
using tests::held_stream;
namespace net = holdfast::net;

namespace {

/// A stream for outboxes that are ended by `abort`, of which the test can make anything.
struct ending_stream : held_stream {
    using held_stream::held_stream;
    held_stream& stream() noexcept { return *this; }
    void abort(holdfast::close_reason, const holdfast::error_code&) noexcept
    {
        if (at_end) std::exchange(at_end, nullptr)();
    }
    std::function<void()> at_end;
};

/// A receiver that is full after one message of 84 bytes.
struct receiver {
    receiver(net::io_context& io, outbox_group& group) : stream(io), here(group, box) {}
    ending_stream stream;
    outbox<held_stream> box{stream, {.high_watermark = 100}};
    outbox_group::member here;
};

void settle(net::io_context& io)
{
    io.restart();
    io.poll();
}

/// As many descriptors as this process may have at all.
std::size_t raise_descriptor_limit()
{
    ::rlimit both{};
    ::getrlimit(RLIMIT_NOFILE, &both);
    both.rlim_cur = both.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &both);
    return both.rlim_max;
}

std::uint64_t rss_anon()
{
    std::error_code ec;
    return holdfast::read_process_memory(::getpid(), ec).rss_anon;
}

/// The subscribers, in a process of their own, of whom the first `mute` never read; the others must get just
/// the bytes of `all`. Whenever each of them has another `burst` bytes the first connection tells so.
int subscribe(const tests::tcp::endpoint& server, std::size_t subscribers, std::size_t mute, std::string_view all,
              std::size_t burst)
{
    net::io_context io;
    tests::tcp::socket tell(io);
    tell.connect(server);
    struct reader {
        explicit reader(net::io_context& context) : socket(context, tests::tcp::v4()) {}
        tests::tcp::socket socket;
        std::size_t got = 0;
    };
    std::deque<reader> readers;
    const int poll = ::epoll_create1(EPOLL_CLOEXEC);
    for (std::size_t i = 0; i != subscribers; ++i) {
        reader& each = readers.emplace_back(io);
        if (i < mute) each.socket.set_option(net::socket_base::receive_buffer_size(2048));
        each.socket.connect(server);
        ::epoll_event event{EPOLLIN, {.ptr = &each}};
        if (i >= mute && ::epoll_ctl(poll, EPOLL_CTL_ADD, each.socket.native_handle(), &event) != 0) return 2;
    }
    std::array<::epoll_event, 512> events;
    std::string got(65536, '\0');
    std::size_t total = 0;
    for (std::size_t due = burst; due <= all.size(); due += burst) {
        while (total != due * (subscribers - mute)) {
            const int n = ::epoll_wait(poll, events.data(), events.size(), 30'000);
            if (n <= 0) return 3;
            for (int i = 0; i != n; ++i) {
                auto& each = *static_cast<reader*>(events[static_cast<std::size_t>(i)].data.ptr);
                const std::size_t size = each.socket.read_some(net::buffer(got));
                if (all.substr(each.got, size) != std::string_view(got).substr(0, size)) return 4;
                each.got += size;
                total += size;
            }
        }
        net::write(tell, net::buffer("x", 1));
    }
    char end = 0;
    holdfast::error_code ec;
    tell.read_some(net::buffer(&end, 1), ec); // until the server has looked at those who did not read
    return 0;
}

} // namespace

TEST_CASE("a message to a thousand receivers costs no allocation and no copy for each")
{
    net::io_context io;
    outbox_group group;
    std::deque<receiver> receivers;
    for (int i = 0; i != 1000; ++i)
        receivers.emplace_back(io, group);
    CHECK(group.size() == 1000);
    CHECK(group.push(payload("1")) == 1000); // what is held while busy
    CHECK(group.push(payload("2")) == 1000); // the places
    const payload message(std::string(40, 'x'));
    std::size_t taken = 0;
    CHECK(tests::allocations_in([&] { taken = group.push(message); }) == 0);
    CHECK(taken == 1000);
    CHECK(message.use_count() == 1001);
    CHECK(group.push(message, conflate{1}) == 0); // full
    settle(io);
    CHECK(group.size() == 0);
    for (auto& each : receivers)
        CHECK(each.box.queued_bytes() == 0); // disconnected
}

TEST_CASE("members leave, move and join again, the group is destroyed before or after them")
{
    net::io_context io;
    std::optional<outbox_group> group(std::in_place);
    receiver one(io, *group), two(io, *group), three(io, *group);
    outbox_group::member moved(std::move(two.here));
    CHECK_FALSE(two.here);
    CHECK(group->size() == 3);
    CHECK(group->push(payload("x")) == 3);
    moved.leave();
    moved.leave();
    CHECK(group->push(payload("x")) == 2);
    CHECK(two.box.queued() == 1);
    one.here = std::move(three.here); // three's place, of three's outbox
    CHECK(group->push(payload("x")) == 1);
    CHECK(three.box.queued() == 3);
    CHECK(one.box.queued() == 2);
    outbox_group second;
    outbox_group::member also(second, one.box);
    moved = outbox_group::member(second, two.box);
    CHECK(second.size() == 2);
    group.reset();
    CHECK_FALSE(one.here);
    settle(io);
}

TEST_CASE("receivers join and leave during a push: by their own end, their neighbours', or the group's")
{
    net::io_context io;
    auto group = std::make_unique<outbox_group>();
    std::vector<std::unique_ptr<receiver>> all;
    for (int i = 0; i != 5; ++i)
        all.push_back(std::make_unique<receiver>(io, *group));
    const payload large(std::string(84, 'x'));
    CHECK_FALSE(all[2]->box.push(large)); // it is full: the next push ends it
    std::unique_ptr<receiver> new_client;
    std::size_t expected = 4;
    const auto at_end = GENERATE(0, 1, 2, 3, 4, 5, 6, 7);
    INFO("what happens: " << at_end);
    all[2]->stream.at_end = [&] { // a round goes from the newest to the oldest: 4, 3, 2, 1, 0
        switch (at_end) {
        case 0:
            break;
        case 1: // itself
            all[2].reset();
            break;
        case 2: // the next
            all[1].reset();
            expected = 3;
            break;
        case 3: // the one before
            all[3].reset();
            break;
        case 4: // all
            all.clear();
            expected = 2;
            break;
        case 5: // the group
            group.reset();
            expected = 2;
            break;
        case 6: // somebody comes: not for this message
            new_client = std::make_unique<receiver>(io, *group);
            break;
        case 7:           // another message, within this one
            expected = 2; // those behind took it already, and this one does not fit any more
            group->push(payload(std::string(50, 'y')));
            break;
        }
    };
    const payload message(std::string(at_end == 7 ? 50 : 84, 'm'));
    const std::size_t taken = group->push(message); // may change what is expected
    CHECK(taken == expected);
    if (new_client) CHECK(new_client->box.queued() == 0);
    settle(io);
}

TEST_CASE("an outbox that refuses a message has missed it, and is in the group no more, until it joins again")
{
    net::io_context io;
    outbox_group group;
    held_stream stream(io);
    outbox box{stream, {.high_watermark = 100, .on_overflow = holdfast::overflow_policy::wait}};
    outbox_group::member here(group, box);
    receiver other(io, group);
    const payload large(std::string(84, 'x'));
    CHECK(group.push(large) == 2);
    settle(io);
    other.stream.take();
    settle(io);
    CHECK(group.push(payload("missed")) == 1);
    CHECK_FALSE(here);
    CHECK(box.is_open());
    stream.take();
    settle(io);
    here = outbox_group::member(group, box);
    CHECK(group.push(payload("seen")) == 2);
    settle(io);
}

TEST_CASE("of a thousand subscribers ten never read: the others get every message, and memory stays below "
          "ten marks")
{
    constexpr std::size_t subscribers = tests::sanitized ? 200 : 1000;
    constexpr std::size_t mute = subscribers / 100;
    constexpr std::size_t high = 8192;
    net::io_context io;
    outbox_group group;
    struct subscriber {
        subscriber(net::io_context& context, outbox_group& to)
            : sockets(tests::socket_pair(context)),
              box(sockets.first, {.high_watermark = high, .on_overflow = holdfast::overflow_policy::drop_oldest}),
              here(to, box)
        {
            sockets.first.set_option(net::socket_base::send_buffer_size(4096));
            sockets.second.set_option(net::socket_base::receive_buffer_size(2048));
            sockets.second.non_blocking(true);
        }
        std::pair<tests::tcp::socket, tests::tcp::socket> sockets;
        outbox<tests::tcp::socket> box;
        outbox_group::member here;
        std::size_t got = 0;
    };
    std::deque<subscriber> all;
    for (std::size_t i = 0; i != subscribers; ++i)
        all.emplace_back(io, group);
    std::string waste(65536, '\0');
    const auto read = [&] {
        for (std::size_t i = mute; i != subscribers; ++i) {
            holdfast::error_code ec;
            for (std::size_t n = 1; n != 0; all[i].got += n)
                n = all[i].sockets.second.read_some(net::buffer(waste), ec);
        }
    };
    const std::size_t before = tests::bytes_in_use;
    tests::peak_bytes = before;
    constexpr std::size_t bursts = 60;
    for (std::size_t burst = 0; burst != bursts; ++burst) {
        for (int i = 0; i != 10; ++i)
            CHECK(group.push(payload(std::string(100, 'm'))) == subscribers);
        settle(io);
        read();
    }
    tests::run_until(io, [&] {
        read();
        for (std::size_t i = mute; i != subscribers; ++i)
            if (all[i].got != bursts * 10 * 100) return false;
        return true;
    });
    settle(io);
    for (std::size_t i = 0; i != subscribers; ++i) {
        CHECK((all[i].box.dropped() != 0) == (i < mute));
        CHECK((all[i].box.queue_memory() != 0) == (i < mute));
        CHECK(all[i].box.queued_bytes() <= (i < mute ? high : 0));
    }
    const std::size_t busy = 1024; // what an outbox holds while it writes, and its first places
    CHECK(tests::peak_bytes - before <= mute * (high + busy) + subscribers * busy + 4096);
    CHECK(tests::bytes_in_use - before <= mute * (high + busy));
}

TEST_CASE("ten thousand subscribers in another process, of which a hundred never read: the others get it all, and "
          "RssAnon stays below what the marks say")
{
    const std::size_t subscribers =
        std::min<std::size_t>(tests::sanitized ? 500 : 10'000, raise_descriptor_limit() - 100);
    const std::size_t mute = subscribers / 100;
    constexpr std::size_t messages = 10, bursts = 15, size = 200; // three seconds of fifty a second
    static constexpr holdfast::outbox_options options{.high_watermark = 4096,
                                                      .on_overflow = holdfast::overflow_policy::drop_oldest};
    INFO(subscribers << " subscribers");
    std::string all;
    for (std::size_t i = 0; i != messages * bursts; ++i)
        all += std::string(size, static_cast<char>('!' + i % 90));
    net::io_context io;
    tests::tcp::acceptor acceptor(io, {net::ip::address_v4::loopback(), 0});
    acceptor.set_option(net::socket_base::send_buffer_size(4096)); // the connections inherit it
    tests::process clients(
        [&] { return subscribe(acceptor.local_endpoint(), subscribers, mute, all, messages * size); });
    tests::tcp::socket told = acceptor.accept();
    struct subscriber {
        subscriber(tests::tcp::socket accepted, outbox_group& to)
            : socket(std::move(accepted)), box(socket, options), here(to, box)
        {
        }
        tests::tcp::socket socket;
        outbox<tests::tcp::socket> box;
        outbox_group::member here;
    };
    outbox_group group;
    std::deque<subscriber> boxes;
    while (boxes.size() != subscribers)
        boxes.emplace_back(acceptor.accept(), group);
    const std::uint64_t before = rss_anon();
    std::uint64_t peak = before;
    for (std::size_t burst = 0; burst != bursts; ++burst) {
        for (std::size_t i = 0; i != messages; ++i)
            CHECK(group.push(payload(all.substr((burst * messages + i) * size, size))) == subscribers);
        peak = std::max(peak, rss_anon());
        char all_read = 0;
        told.async_read_some(net::buffer(&all_read, 1), [&](holdfast::error_code, std::size_t) { io.stop(); });
        io.restart();
        io.run_for(std::chrono::seconds(30));
        REQUIRE(all_read == 'x'); // else see what the clients' process says
        peak = std::max(peak, rss_anon());
    }
    std::size_t dropped = 0, late = 0;
    bool bounded = true;
    for (std::size_t i = 0; i != subscribers; ++i) {
        dropped += boxes[i].box.dropped() != 0;
        late += boxes[i].box.queued() != 0;
        bounded = bounded && boxes[i].box.queued_bytes() <= (i < mute ? options.high_watermark : 0);
    }
    CHECK(bounded);
    CHECK(dropped == mute);
    CHECK(late == mute);
    if constexpr (!tests::sanitized) { // whose process's memory is mostly theirs
        const std::size_t marks = mute * worst_case_bytes(options, size, true);
        const std::size_t busy = 1280; // as above, and what malloc takes for it
        CHECK(peak - before <= marks + subscribers * busy + (1 << 20));
        ::malloc_trim(0);
        CHECK(rss_anon() <= before + marks + (1 << 20)); // it may be less than before
    }
    told.close();
    CHECK(clients.wait() == 0);
}

TEST_CASE("for_each reaches every member")
{
    net::io_context io;
    outbox_group group;
    receiver one(io, group), two(io, group);
    int count = 0;
    group.for_each([&](holdfast::outbox_base& box) {
        ++count;
        box.close();
    });
    CHECK(count == 2);
    CHECK(group.push(payload("x")) == 0);
    CHECK(group.size() == 0);
}
