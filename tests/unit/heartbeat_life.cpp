// holdfast: what is life to a heartbeat, and what is not, with real sockets: downloads slow and stuck, reads
// not asked for, and a server that was stopped for longer than the time-out.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/heartbeats.hpp"
#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/write_streamed.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <ranges>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::async_write_streamed;
using holdfast::close_reason;
using holdfast::error_code;
using holdfast::heartbeat;
using tests::tcp;
using tests::timer;
using tests::world;
namespace net = holdfast::net;

namespace {

/// Ten bytes a row, made while it is sent.
auto rows(std::int64_t bytes)
{
    return std::views::iota(std::int64_t{0}, bytes / 10) |
           std::views::transform([](std::int64_t i) { return 100'000'000 + i % 100'000'000; });
}

/// A child process that runs `body`, which is given the end of a pipe to write to. Killed and reaped at the
/// end of its scope.
class forked {
public:
    explicit forked(const std::function<void(int output)>& body)
    {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            try {
                body(ends[1]);
            } catch (...) {
                ::_exit(1);
            }
            ::_exit(0);
        }
        ::close(ends[1]);
        output_ = ends[0];
        if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    }
    forked(const forked&) = delete;

    ~forked()
    {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        ::close(output_);
    }

    void signal(int number) const { ::kill(pid_, number); }

    /// Waits until it has stopped.
    void await_stop() const { ::waitpid(pid_, nullptr, WUNTRACED); }

    /// The next number that it writes; -1 where none comes within `timeout`.
    int number(std::chrono::milliseconds timeout = 30s) const
    {
        ::pollfd readable{output_, POLLIN, 0};
        int value = -1;
        if (::poll(&readable, 1, static_cast<int>(timeout.count())) != 1) return -1;
        return ::read(output_, &value, sizeof value) == sizeof value ? value : -1;
    }

private:
    ::pid_t pid_ = -1;
    int output_ = -1;
};

void tell(int output, int value)
{
    if (::write(output, &value, sizeof value) != sizeof value) ::_exit(2);
}

/// Watches connections that say something now and then: each byte is a sign of life.
template <class Heart>
class server {
public:
    explicit server(Heart& heartbeats) : heart_(heartbeats) {}

    void adopt(tcp::socket socket)
    {
        auto& s = *sessions_.emplace_back(std::make_unique<session>(std::move(socket), *this));
        s.heartbeat = heart_.watch(s);
        listen(s);
    }

    std::function<void()> on_death = [] {};

private:
    struct session {
        session(tcp::socket socket, server& s) : guard(std::move(socket)), owner(s) {}

        void abort(close_reason why)
        {
            guard.abort(why);
            owner.on_death();
        }

        holdfast::connection_guard<> guard;
        server& owner;
        holdfast::heartbeat heartbeat;
        std::array<char, 64> bytes{};
    };

    void listen(session& s)
    {
        s.guard.stream().async_read_some(net::buffer(s.bytes), [this, &s](error_code ec, std::size_t) {
            if (ec) return;
            s.heartbeat.touch();
            listen(s);
        });
    }

    Heart& heart_;
    std::vector<std::unique_ptr<session>> sessions_;
};

} // namespace

TEST_CASE("64 MB to a reader of 50 KB a second never time out, once it reads no more, the time-out comes")
{
    constexpr std::int64_t bytes = 64'000'000 / tests::slowness;
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    auto [socket, client] = tests::socket_pair(w.io);
    socket.set_option(net::socket_base::send_buffer_size(128 * 1024));
    client.set_option(net::socket_base::receive_buffer_size(64 * 1024));
    holdfast::connection_guard<> guard(std::move(socket));
    auto heartbeat = heartbeats.watch(guard);
    error_code ended;
    int completed = 0;
    // Ten percent more than are read: it is not done when the reader stops.
    async_write_streamed<holdfast::ndjson>(guard.stream(), rows(bytes / 10 * 11), {.progress = heartbeat},
                                           [&](error_code ec, std::size_t) {
                                               ended = ec;
                                               ++completed;
                                           });
    std::array<char, 50'000> second;
    int seconds = 0, oldest = 0;
    for (std::int64_t read = 0; read < bytes; ++seconds) {
        for (std::size_t n = 0; n != second.size();) {
            w.settle();
            tests::await_readable(client);
            n += client.read_some(net::buffer(second.data() + n, second.size() - n));
        }
        read += static_cast<std::int64_t>(second.size());
        w.advance(1s);
        oldest = std::max<int>(oldest, heartbeat.age());
        REQUIRE(guard.is_open());
    }
    CHECK(seconds == (bytes + 49'999) / 50'000);
    INFO("the longest silence was " << oldest << " s");
    CHECK(completed == 0);
    int more = 0;
    for (; guard.is_open() && more != 1000; ++more)
        w.advance(1s);
    CHECK(guard.reason() == close_reason::heartbeat_timeout);
    CHECK(more <= 31 + 1); // a last few bytes may have gone into the socket's buffer
    w.settle();
    CHECK(completed == 1);
    CHECK(ended == net::error::operation_aborted);
}

TEST_CASE("a message that waits in the server, because its socket is full, is no sign of life, nor are bytes that are "
          "not read")
{
    const bool full = GENERATE(true, false);
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 1s, .timeout = 30s});
    auto [socket, client] = tests::socket_pair(w.io);
    holdfast::connection_guard<> guard(std::move(socket));
    auto heartbeat = heartbeats.watch(guard);
    if (full) { // the peer never reads: what the socket took once is all that counts
        async_write_streamed(guard.stream(), rows(100'000'000), {.progress = heartbeat},
                             [](error_code, std::size_t) {});
        for (int i = 0; i != 1000; ++i)
            w.settle();
    }
    for (int i = 0; i != 30; ++i) {
        w.advance(1s);
        if (!full) client.send(net::buffer("alive", 5)); // the session has paused reading: it touches nothing
    }
    CHECK(guard.is_open());
    w.advance(1s);
    CHECK(guard.reason() == close_reason::heartbeat_timeout);
}

TEST_CASE("before a late tick ends any connection, the loop reads what arrived meanwhile, from hundreds of them")
{
    world w;
    timer heartbeats(w.io.get_executor(), {.tick = 10ns, .timeout = 20ns});
    server<timer> s(heartbeats);
    int deaths = 0;
    s.on_death = [&] { ++deaths; };
    std::vector<tcp::socket> clients;
    for (int i = 0; i != 500; ++i) { // Asio asks epoll for 128 at a time
        auto [socket, client] = tests::socket_pair(w.io);
        clients.push_back(std::move(client));
        s.adopt(std::move(socket));
    }
    w.settle();
    for (int stall = 0; stall != 10; ++stall) {
        w.advance(10ns);
        CHECK(deaths == 0);
        for (tcp::socket& each : clients)
            each.send(net::buffer("!", 1));
        w.advance(100'000ns); // most of these are not forgiven any more
    }
    CHECK(deaths == 0);
    CHECK(heartbeats.counters().credited < heartbeats.counters().missed);
    w.advance(10ns);
    for (std::size_t i = 0; i + 1 < clients.size(); ++i)
        clients[i].send(net::buffer("!", 1));
    w.advance(100'000ns);
    CHECK(deaths == 1); // the silent one
}

TEST_CASE("a server that was stopped for three time-outs ends none of 1,000 connections whose clients ping in time, "
          "and a silent one on time")
{
    constexpr auto timeout = 600ms * (tests::slowness > 1 ? 3 : 1);
    constexpr int ticks = 20;
    constexpr int count = 1000;
    enum : int { ready, died, stalled }; // what the server tells
    // The test is the clients. If the machine itself lets them down, it says nothing about the server.
    for (int attempt = 0;; ++attempt) {
        net::io_context io;
        tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
        const auto where = listener.local_endpoint();
        const forked child([&](int output) {
            net::io_context own;
            tcp::acceptor acceptor(own, tcp::v4(), listener.release());
            std::uint64_t missed = 0;
            const auto tell_stalls = [&](const holdfast::heartbeat_counters& c) {
                if (std::exchange(missed, c.missed) + 2 * ticks < c.missed) tell(output, stalled);
            };
            holdfast::heartbeat_timer<> heartbeats(
                own.get_executor(), {.tick = timeout / ticks, .timeout = timeout, .on_tick = tell_stalls});
            server<holdfast::heartbeat_timer<>> s(heartbeats);
            s.on_death = [output] { tell(output, died); };
            for (int i = 0; i != count; ++i)
                s.adopt(acceptor.accept());
            tell(output, ready);
            own.run();
        });
        using clock = std::chrono::steady_clock;
        std::vector<tcp::socket> clients;
        for (int i = 0; i != count; ++i) {
            clients.emplace_back(io);
            clients.back().connect(where);
        }
        REQUIRE(child.number() == 0);
        auto last = clock::now();
        auto longest_pause = clock::duration::zero();
        int deaths = 0, stalls = 0;
        /// Pings, in time, for as long, and counts those that die meanwhile. It waits first, so that the tick
        /// which comes while the server is stopped comes before the first ping.
        const auto ping_for = [&](clock::duration time, std::size_t silent = 0) {
            const auto end = clock::now() + time;
            do {
                const int told = child.number(timeout / 6);
                deaths += told == died ? 1 : 0;
                stalls += told == stalled ? 1 : 0;
                for (std::size_t i = silent; i != clients.size(); ++i) {
                    error_code ignored;
                    clients[i].send(net::buffer("!", 1), 0, ignored);
                }
                longest_pause = std::max(longest_pause, clock::now() - last);
                last = clock::now();
            } while (clock::now() < end);
        };
        ping_for(timeout);
        child.signal(SIGSTOP);
        child.await_stop();
        ping_for(3 * timeout);
        child.signal(SIGCONT);
        ping_for(2 * timeout);
        const int false_deaths = deaths;
        const auto begin = clock::now();
        while (deaths == false_deaths && clock::now() < begin + 10 * timeout)
            ping_for(timeout / 6, 1);
        const auto took = clock::now() - begin;
        if (longest_pause > timeout / 2 && attempt < 4) continue; // not in time
        INFO("longest pause between two pings: " << longest_pause / 1ms << " ms");
        CHECK(stalls == 1);
        CHECK(false_deaths == 0);
        CHECK(deaths == 1);
        CHECK(took >= timeout - timeout / 6 - timeout / 10);
        break;
    }
}

TEST_CASE("a server of 10,000 idle connections wakes up once a tick")
{
    constexpr int count = 10'000 / tests::slowness;
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    const auto where = listener.local_endpoint();
    // The other ends, so that no process needs more than its 20,000 descriptors.
    const forked clients([&](int output) {
        net::io_context own;
        std::vector<tcp::socket> all;
        for (int i = 0; i != count; ++i) {
            all.emplace_back(own);
            all.back().connect(where);
        }
        tell(output, 0);
        ::pause();
    });
    holdfast::heartbeat_timer<net::io_context::executor_type> heartbeats(io.get_executor(),
                                                                         {.tick = 10ms, .timeout = 60s});
    server<decltype(heartbeats)> s(heartbeats);
    for (int i = 0; i != count; ++i)
        s.adopt(listener.accept());
    REQUIRE(clients.number() == 0);
    io.poll(); // all reads are pending
    const auto before = heartbeats.counters();
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    const long sleeps_before = usage.ru_nvcsw;
    std::size_t handlers = 0;
    while (heartbeats.counters().sweeps - before.sweeps < 50)
        handlers += io.run_one();
    ::getrusage(RUSAGE_THREAD, &usage);
    CHECK(handlers == 50);
    INFO(usage.ru_nvcsw - sleeps_before << " sleeps in 50 ticks");
    CHECK(usage.ru_nvcsw - sleeps_before <= 51);
    CHECK(heartbeats.counters().timeouts == 0);
}
