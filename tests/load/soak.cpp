// holdfast: the soak: 200,000 connections that end in every way there is, after which nothing of them is
// left.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/process/memory.hpp>

#include <array>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <new>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <malloc.h>
#include <netinet/in.h>

using namespace std::chrono_literals;
using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

constexpr std::uint64_t connections = tests::sanitized ? 10'000 : 200'000;
constexpr std::uint64_t warm_up = connections / 10;
constexpr unsigned concurrency = 1'000;
constexpr unsigned waiting = 900;                       // of them; the others are coming or going
constexpr std::uint64_t memory_tolerance = 1024 * 1024; // 5 bytes a connection

constexpr auto time_limit = 20ms; // of clients
constexpr std::string_view endless_line = "0123456789abcdef";

using by_reason = std::array<std::uint64_t, holdfast::close_reason_count>;

struct count_end {
    by_reason* ends;
    void operator()(const holdfast::connection_end& end) const noexcept
    {
        ++(*ends)[static_cast<std::size_t>(end.reason)];
    }
};
using acceptor_type = holdfast::bounded_acceptor<tcp, count_end>;
using connection = acceptor_type::connection_type;

enum class way {
    close,
    async_close,
    close_incomplete,
    peer_fin,
    peer_rst,
    frame_limit,
    abort,
    heartbeat,
    exception,
    out_of_memory,
    cancel,
    by_id,
    abandon,
    replace,
    release,
    move
};

/// One way to end. The session sends its client a `letter` that says what to do, so none races with another: each
/// connection must end for exactly the reason its session meant.
struct plan {
    way how;
    // F: end the stream now; R: reset now; G: end it after the server; L: send a line without an end; K: keep
    // on when the server has ended; else, and after L and K, reset after it.
    char letter;
    close_reason reason;
    double weight;
};
constexpr std::array plans{
    plan{way::close, 'x', close_reason::local, 20},
    plan{way::async_close, 'G', close_reason::local, 10},
    plan{way::close_incomplete, 'K', close_reason::local, 5},
    plan{way::peer_fin, 'F', close_reason::peer_closed, 20},
    plan{way::peer_rst, 'R', close_reason::peer_reset, 10},
    plan{way::frame_limit, 'L', close_reason::frame_limit, 5},
    plan{way::abort, 'x', close_reason::send_queue_overflow, 5},
    plan{way::heartbeat, 'x', close_reason::heartbeat_timeout, 5},
    plan{way::exception, 'x', close_reason::exception, 5},
    plan{way::out_of_memory, 'x', close_reason::out_of_memory, 5},
    plan{way::cancel, 'x', close_reason::cancelled, 5},
    plan{way::by_id, 'x', close_reason::refused, 5},
    plan{way::abandon, 'x', close_reason::abandoned, 5},
    plan{way::replace, 'x', close_reason::replaced, 5},
    plan{way::release, 'x', close_reason::released, 5},
    plan{way::move, 'x', close_reason::max_lifetime, 5},
};

/// Sockets of the server's `port` in `state`, as /proc/net/tcp numbers it.
std::size_t sockets_in(unsigned port, unsigned state)
{
    std::ifstream table("/proc/net/tcp");
    std::string line;
    std::getline(table, line);
    std::size_t found = 0;
    while (std::getline(table, line)) {
        std::istringstream fields(line);
        std::string number, local, remote, code;
        fields >> number >> local >> remote >> code;
        if (std::stoul(local.substr(local.find(':') + 1), nullptr, 16) == port &&
            std::stoul(code, nullptr, 16) == state)
            ++found;
    }
    return found;
}

std::uint64_t memory()
{
    ::malloc_trim(0);
    std::error_code error;
    const auto now = holdfast::read_process_memory(0, error);
    REQUIRE(!error);
    return now.rss_anon;
}

class soak {
public:
    explicit soak(std::uint32_t seed) : random_(seed)
    {
        left_.async_serve([this](connection peer) { return leave(std::move(peer)); }, net::detached);
        caught_.async_serve([this](connection peer) { return own(std::move(peer)); }, net::detached);
        sweep();
    }

    /// Opens `count` connections, `concurrency` at a time, and waits until all have ended.
    void run(std::uint64_t count)
    {
        const std::uint64_t goal = census().ended() + count;
        to_open_ = count;
        for (unsigned i = 0; i != concurrency; ++i) {
            ++clients_;
            net::co_spawn(io_, client(i), [this](std::exception_ptr failure) {
                --clients_;
                if (failure) failure_ = failure;
            });
        }
        std::uint64_t ended = 0; // when something ended last: a busy machine takes long, but goes on
        auto deadline = std::chrono::steady_clock::now() + 1min;
        while (clients_ != 0 || census().ended() != goal) {
            if (failure_) std::rethrow_exception(failure_);
            const std::uint64_t ended_before = std::exchange(ended, census().ended());
            const auto now = std::chrono::steady_clock::now();
            if (ended != ended_before) deadline = now + 1min;
            if (now > deadline) throw std::runtime_error("connections were left after a minute without any end");
            io_.run_for(20ms);
        }
    }

    void close()
    {
        left_.close();
        caught_.close();
        timer_.cancel();
        over_ = true;
        tests::run(io_);
    }

    [[nodiscard]] holdfast::census census() const { return left_.census() + caught_.census(); }
    [[nodiscard]] std::array<unsigned, 2> ports() const
    {
        return {left_.local_endpoint().port(), caught_.local_endpoint().port()};
    }

    net::io_context& context() { return io_; }

    by_reason meant{};
    by_reason ends{};

private:
    /// Ends its connection as drawn; what it leaves to an exception is its owner's to close.
    net::awaitable<void> use(connection& peer, bool caught)
    {
        const plan& drawn = plans[draw_(random_)];
        const bool untold = !caught && (drawn.how == way::out_of_memory || drawn.how == way::cancel);
        ++meant[static_cast<std::size_t>(untold ? close_reason::exception : drawn.reason)];
        char byte = drawn.letter;
        co_await turn();
        co_await net::async_write(peer.stream(), net::buffer(&byte, 1), net::use_awaitable);
        switch (drawn.how) {
        case way::close:
            peer.close();
            break;
        case way::async_close:
            co_await peer.async_close();
            break;
        case way::close_incomplete:
            co_await close_before_client(peer);
            break;
        case way::peer_fin:
        case way::peer_rst:
            co_await read(peer);
            break;
        case way::frame_limit:
            co_await read_line(peer);
            break;
        case way::abort:
            peer.abort(drawn.reason);
            break;
        case way::heartbeat: {
            const auto heartbeat = heart_.watch(peer);
            co_await read(peer);
            break;
        }
        case way::exception:
            throw std::runtime_error("thrown by the session");
        case way::out_of_memory:
            throw std::bad_alloc();
        case way::cancel: {
            net::cancellation_signal stop;
            net::post(io_, [&stop] { stop.emit(net::cancellation_type::terminal); });
            co_await peer.stream().async_read_some(net::buffer(&byte, 1),
                                                   net::bind_cancellation_slot(stop.slot(), net::use_awaitable));
            break;
        }
        case way::by_id: {
            std::ostringstream name;
            name << peer.stream().remote_endpoint();
            condemned_.insert(name.str());
            co_await read(peer);
            break;
        }
        case way::abandon: {
            const connection dropped = std::move(peer);
            break;
        }
        case way::replace:
            replace(peer);
            break;
        case way::release: {
            const tcp::socket taken = peer.release_unbounded();
            break;
        }
        case way::move:
            moved_.push_back(std::move(peer));
            break;
        }
    }

    /// Leaves every exception to the connection's destructor.
    net::awaitable<void> leave(connection peer) { co_await use(peer, false); }

    /// Closes the connection for what the exception says.
    net::awaitable<void> own(connection peer)
    {
        connection mine = std::move(peer);
        std::exception_ptr failure;
        try {
            co_await use(mine, true);
            co_return;
        } catch (const holdfast::system_error&) {
            failure = std::current_exception();
        } catch (const std::bad_alloc&) {
            failure = std::current_exception();
        } // another exception meets the guard's destructor
        const auto end = holdfast::end_by(failure);
        mine.close(end.reason, end.error);
    }

    /// Waits for the session's turn to end: one that arrives where enough are waiting sends off any of them.
    net::awaitable<void> turn()
    {
        net::steady_timer sent_off(io_, net::steady_timer::time_point::max());
        if (waiting_.size() == waiting) {
            std::swap(waiting_[random_() % waiting], waiting_.back());
            waiting_.back()->cancel();
            waiting_.pop_back();
        }
        waiting_.push_back(&sent_off);
        error_code cancelled;
        co_await sent_off.async_wait(net::redirect_error(net::use_awaitable, cancelled));
    }

    static net::awaitable<void> read(connection& peer)
    {
        char byte = 0;
        co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
    }

    static void replace(connection& peer)
    {
        connection taken = std::move(peer);
        taken = std::move(peer); // which has nothing any more
    }

    static net::awaitable<void> read_line(connection& peer)
    {
        holdfast::frame_reader lines{peer, {.max_frame_bytes = endless_line.size() / 2}};
        co_await lines.async_next();
    }

    /// Its client keeps on for longer than this waits.
    static net::awaitable<void> close_before_client(connection& peer)
    {
        error_code error;
        co_await peer.async_close({.deadline = time_limit / 2}, net::redirect_error(net::use_awaitable, error));
        CHECK(error == holdfast::errc::close_incomplete);
    }

    /// From time to time: ends those to be ended by their id, and those that their sessions moved away; once
    /// no client arrives any more, ends those that wait.
    void sweep()
    {
        timer_.expires_after(20ms);
        timer_.async_wait([this](error_code) {
            if (over_) return;
            for (acceptor_type* acceptor : {&left_, &caught_})
                acceptor->census().for_each([&](const holdfast::census_entry& entry) {
                    if (condemned_.erase(std::string(entry.remote)) != 0)
                        acceptor->end(entry.id, close_reason::refused);
                });
            for (connection& each : moved_)
                each.close(close_reason::max_lifetime);
            moved_.clear();
            if (to_open_ == 0)
                for (net::steady_timer* each : std::exchange(waiting_, {}))
                    each->cancel();
            sweep();
        });
    }

    /// Opens one connection after another from an address of its own.
    net::awaitable<void> client(unsigned number)
    {
        const auto server = (number % 2 == 0 ? left_ : caught_).local_endpoint();
        const net::ip::address_v4 address(0x7f010001U + number % 64 * 256);
        while (to_open_ != 0) {
            --to_open_;
            tcp::socket socket(io_, tcp::v4());
            // The port is chosen by the whole four-tuple when it connects, so that there are enough.
            const int late = 1;
            ::setsockopt(socket.native_handle(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
            socket.bind({address, 0});
            co_await socket.async_connect(server, net::use_awaitable);
            char order = 0;
            char byte = 0;
            error_code end;
            co_await socket.async_read_some(net::buffer(&order, 1), net::redirect_error(net::use_awaitable, end));
            if (order == 'L' && !end)
                co_await net::async_write(socket, net::buffer(endless_line),
                                          net::redirect_error(net::use_awaitable, end));
            if (order != 'F' && order != 'R')
                while (!end)
                    co_await socket.async_read_some(net::buffer(&byte, 1),
                                                    net::redirect_error(net::use_awaitable, end));
            if (order == 'K') {
                net::steady_timer soon(io_, time_limit);
                co_await soon.async_wait(net::use_awaitable);
            }
            if (order != 'F' && order != 'G') {
                error_code gone; // a reset leaves nothing in TIME_WAIT
                socket.set_option(net::socket_base::linger(true, 0), gone);
            }
            error_code ignored;
            socket.close(ignored);
        }
    }

    static std::discrete_distribution<std::size_t> weights()
    {
        std::vector<double> all;
        for (const plan& each : plans)
            all.push_back(each.weight);
        return {all.begin(), all.end()};
    }

    net::io_context io_{1};
    acceptor_type left_{io_.get_executor(),
                        {net::ip::address_v4::loopback(), 0},
                        {.max_connections = concurrency / 2},
                        count_end{&ends}};
    acceptor_type caught_{io_.get_executor(),
                          {net::ip::address_v4::loopback(), 0},
                          {.max_connections = concurrency / 2},
                          count_end{&ends}};
    holdfast::heartbeat_timer<> heart_{io_.get_executor(), {.tick = 5ms, .timeout = time_limit}};
    net::steady_timer timer_{io_};
    std::mt19937 random_;
    std::discrete_distribution<std::size_t> draw_ = weights();
    std::unordered_set<std::string> condemned_; // peers of the sessions that wait for their end by id
    std::vector<connection> moved_;
    std::vector<net::steady_timer*> waiting_;
    std::uint64_t to_open_ = 0;
    unsigned clients_ = 0;
    std::exception_ptr failure_;
    bool over_ = false;
};

} // namespace

TEST_CASE("connections that ended in every way leave no descriptor, no socket, no memory, and one finalizer each")
{
    const std::uint32_t seed = std::random_device{}();
    std::cout << "soak: seed " << seed << std::endl;
    soak all(seed);
    all.run(warm_up);
    const std::uint64_t before = memory();
    all.run(connections);
    const std::uint64_t after = memory();
    std::cout << "soak: RssAnon " << before / 1024 << " KiB after the warm-up, " << after / 1024 << " KiB after "
              << connections << " more\n";
    all.census().report(std::cout);

    CHECK(all.census().live() == 0);
    CHECK(all.census().peak() <= concurrency);
    CHECK(all.census().peak() >= waiting);
    std::uint64_t finalized = 0;
    for (std::size_t i = 0; i != all.ends.size(); ++i) {
        INFO(static_cast<close_reason>(i));
        CHECK(all.ends[i] == all.meant[i]);
        CHECK(all.census().ended(static_cast<close_reason>(i)) == all.meant[i]);
        finalized += all.ends[i];
    }
    CHECK(finalized == warm_up + connections);
    if constexpr (!tests::sanitized) CHECK(after <= before + memory_tolerance);
    for (const unsigned port : all.ports())
        tests::run_until(all.context(), [port] {
            constexpr unsigned fin_wait_2 = 5, close_wait = 8;
            return sockets_in(port, close_wait) == 0 && sockets_in(port, fin_wait_2) == 0;
        });
    all.close(); // the listener of all tests looks for descriptors
}
