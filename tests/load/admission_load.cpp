// holdfast: the acceptor's limits under load: thousands of clients, in processes of their own.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/process/memory.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <new>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::acceptor_options;
using holdfast::admission_limit;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp>;
using connection = acceptor_type::connection_type;
using clock_type = std::chrono::steady_clock;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

/// What a server in a process of its own shows to the one that started it.
struct observations {
    std::atomic<std::uint64_t> accepts = 0; ///< calls of accept4()
    std::atomic<std::uint64_t> wakeups = 0; ///< returns of epoll_wait()
    std::atomic<std::uint64_t> shortages = 0;
    std::atomic<bool> timers_stopped = false; ///< no timer that is set from now on expires
    std::atomic<int> failures = 0;            ///< so many calls of accept4() fail next,
    std::atomic<int> error = 0;               ///< with this
    std::atomic<bool> steals = false;         ///< the descriptor that the next call of accept4() would get goes
    std::atomic<int> stolen = -1;             ///< to this
};

observations& observed()
{
    static void* const memory =
        ::mmap(nullptr, sizeof(observations), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static observations& all = *::new (memory) observations;
    return all;
}

template <class F>
F* system_function(const char* name)
{
    return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

} // namespace

extern "C" {

int accept4(int listener, sockaddr* address, socklen_t* size, int flags)
{
    static auto* const real = system_function<decltype(::accept4)>("accept4");
    ++observed().accepts;
    if (observed().failures > 0) {
        --observed().failures;
        return errno = observed().error, -1;
    }
    if (observed().steals) { // once there is one to be stolen
        const int taken = ::dup(listener);
        if (taken >= 0) {
            observed().stolen = taken;
            observed().steals = false;
        }
    }
    return real(listener, address, size, flags);
}

int epoll_wait(int poll, epoll_event* events, int size, int timeout)
{
    static auto* const real = system_function<decltype(::epoll_wait)>("epoll_wait");
    const int count = real(poll, events, size, timeout);
    ++observed().wakeups;
    return count;
}

int timerfd_settime(int timer, int flags, const itimerspec* when, itimerspec* before) noexcept
{
    static auto* const real = system_function<decltype(::timerfd_settime)>("timerfd_settime");
    const itimerspec never{};
    return real(timer, flags, observed().timers_stopped ? &never : when, before);
}

} // extern "C"

namespace {

void limit(decltype(RLIMIT_NOFILE) what, rlim_t most)
{
    const rlimit both{most, most};
    if (::setrlimit(what, &both) != 0) throw std::runtime_error("setrlimit");
}

/// As many descriptors as this process may have at all.
void raise_descriptor_limit()
{
    rlimit both{};
    ::getrlimit(RLIMIT_NOFILE, &both);
    both.rlim_cur = both.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &both);
}

/// Opens a client with the source address 127.1.0.1 plus `address`.
void open_from(tcp::socket& client, unsigned address)
{
    client.open(tcp::v4());
    // The port is chosen by the whole four-tuple when it connects, so that there are enough.
    const int late = 1;
    ::setsockopt(client.native_handle(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    client.bind({net::ip::address_v4{0x7f010001U + address}, 0});
}

/// Lets the server run until `done()`; throws after three minutes.
template <class Done>
void serve_until(net::io_context& io, Done done)
{
    const auto deadline = clock_type::now() + 3min;
    while (!done()) {
        if (clock_type::now() > deadline) throw std::runtime_error("it was not done within three minutes");
        io.run_one_for(20ms);
        io.restart();
    }
}

bool any_runs(std::deque<tests::process>& children)
{
    return std::any_of(children.begin(), children.end(), [](tests::process& each) { return each.running(); });
}

/// Clients that all come at once and try again until they are served.
class crowd {
public:
    crowd(const tcp::endpoint& server, unsigned first, unsigned count) : server_(server), random_(first)
    {
        for (unsigned i = 0; i != count; ++i)
            net::co_spawn(io_, client((first + i) % 1000), net::detached);
    }

    /// Says how many were served, and how often they tried.
    void run()
    {
        io_.run();
        std::cout << served_ << ' ' << attempts_ << std::endl;
    }

private:
    net::awaitable<void> client(unsigned address)
    {
        for (int attempt = 1; !co_await is_served(address, attempt * 5s); ++attempt) {
            net::steady_timer pause(io_, std::chrono::milliseconds(100 + random_() % 400));
            co_await pause.async_wait(net::use_awaitable);
        }
        ++served_;
    }

    /// One attempt: asks, and is answered before its time_limit is over.
    net::awaitable<bool> is_served(unsigned address, clock_type::duration time_limit)
    {
        ++attempts_;
        const auto socket = std::make_shared<tcp::socket>(io_);
        open_from(*socket, address);
        net::steady_timer alarm(io_, time_limit);
        alarm.async_wait([socket](error_code cancelled) {
            if (!cancelled) socket->close();
        });
        error_code ec;
        char letter = '?';
        co_await socket->async_connect(server_, net::redirect_error(net::use_awaitable, ec));
        if (!ec) co_await socket->async_send(net::buffer(&letter, 1), net::redirect_error(net::use_awaitable, ec));
        if (!ec) co_await socket->async_receive(net::buffer(&letter, 1), net::redirect_error(net::use_awaitable, ec));
        alarm.cancel();
        error_code gone;
        socket->close(gone); // no reset: under such a load the loopback device loses some, and they are not repeated
        co_return !ec && letter == '!';
    }

    net::io_context io_{1};
    tcp::endpoint server_;
    std::minstd_rand random_;
    unsigned served_ = 0;
    unsigned attempts_ = 0;
};

} // namespace

TEST_CASE("20,000 clients at once: never more than 500 are inside, all are served, and memory stays small")
{
    constexpr unsigned limit = 500;
    constexpr unsigned processes = 5;
    constexpr unsigned clients_each = 4'000;
    net::io_context io{1};
    net::steady_timer full(io, clock_type::time_point::max());
    acceptor_type acceptor{io.get_executor(),
                           any_port,
                           {.max_connections = limit, .backlog = 4096, .on_event = [&](const acceptor_event& event) {
                                if (event.what == acceptor_event::kind::paused) full.expires_at(clock_type::now());
                            }}};
    unsigned inside = 0, most = 0, answered = 0;
    acceptor.async_serve(
        [&](connection peer) -> net::awaitable<void> {
            most = std::max(most, ++inside);
            char letter = 0;
            error_code ec;
            co_await peer.stream().async_read_some(net::buffer(&letter, 1),
                                                   net::redirect_error(net::use_awaitable, ec));
            while (full.expiry() > clock_type::now()) { // no client leaves before the limit was reached
                error_code woken;
                co_await full.async_wait(net::redirect_error(net::use_awaitable, woken));
            }
            if (!ec)
                co_await net::async_write(peer.stream(), net::buffer("!", 1),
                                          net::redirect_error(net::use_awaitable, ec));
            if (!ec) ++answered;
            while (!ec)
                co_await peer.stream().async_read_some(net::buffer(&letter, 1),
                                                       net::redirect_error(net::use_awaitable, ec));
            --inside;
        },
        net::detached);

    const auto memory = [] {
        std::error_code ec;
        return holdfast::read_process_memory(0, ec).rss_anon;
    };
    const std::uint64_t before = memory();
    std::uint64_t highest = before;
    const auto begin = clock_type::now();
    std::deque<tests::process> children;
    for (unsigned i = 0; i != processes; ++i)
        children.emplace_back([&, i] {
            raise_descriptor_limit();
            crowd(acceptor.local_endpoint(), i * clients_each, clients_each).run();
            return 0;
        });
    serve_until(io, [&] {
        highest = std::max(highest, memory());
        return !any_runs(children);
    });
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(clock_type::now() - begin);

    unsigned served = 0, attempts = 0;
    for (tests::process& each : children) {
        std::string text;
        CHECK(each.wait(&text) == 0);
        unsigned its_served = 0, its_attempts = 0;
        std::istringstream(text) >> its_served >> its_attempts;
        served += its_served;
        attempts += its_attempts;
    }
    std::cout << "20,000 clients: " << took.count() << " ms, " << attempts << " attempts, RssAnon +"
              << (highest - before) / 1024 << " KiB\n";
    CHECK(served == processes * clients_each);
    CHECK(most == limit);
    CHECK(acceptor.census().peak() == limit);
    CHECK(highest - before < limit * 16 * 1024);
    tests::run_until(io, [&] { return acceptor.census().live() == 0; });
    CHECK(answered >= served); // a client may have its answer before the session goes on
    acceptor.close();
    tests::run(io);
}

namespace {

/// Each of `count` addresses opens so many connections, and keeps those it gets until all are judged and `gate` is at
/// its end; exit status 0 where each got exactly `allowed` and the others were reset.
int ask_too_much(const tcp::endpoint& server, unsigned first, unsigned count, unsigned each, unsigned allowed, int gate)
{
    net::io_context io;
    raise_descriptor_limit();
    std::vector<tcp::socket> clients;
    for (unsigned i = 0; i != each; ++i)
        for (unsigned address = 0; address != count; ++address) {
            open_from(clients.emplace_back(io), first + address);
            clients.back().connect(server);
        }
    std::vector<unsigned> got(count);
    bool reset = true;
    for (std::size_t i = 0; i != clients.size(); ++i) {
        tests::await_readable(clients[i]);
        char letter = 0;
        error_code ec;
        if (clients[i].read_some(net::buffer(&letter, 1), ec) == 1)
            ++got[i % count];
        else
            reset = reset && ec == net::error::connection_reset;
    }
    char none = 0;
    reset = reset && ::read(gate, &none, 1) == 0;
    return reset && std::all_of(got.begin(), got.end(), [&](unsigned n) { return n == allowed; }) ? 0 : 1;
}

} // namespace

TEST_CASE("each of 200 addresses has as many connections as it may, those beyond are reset, again and again")
{
    constexpr unsigned addresses = 200, each = 5, allowed = 3, rounds = 3;
    net::io_context io{1};
    acceptor_type acceptor{io.get_executor(), any_port, {.max_per_address = allowed, .backlog = 4096}};
    std::size_t most_addresses = 0;
    acceptor.async_serve(
        [&](connection peer) -> net::awaitable<void> {
            most_addresses = std::max(most_addresses, acceptor.addresses());
            co_await net::async_write(peer.stream(), net::buffer("+", 1), net::use_awaitable);
            char letter = 0;
            co_await peer.stream().async_read_some(net::buffer(&letter, 1), net::use_awaitable);
        },
        net::detached);
    for (unsigned round = 1; round <= rounds; ++round) {
        std::array<int, 2> gate{}; // no client leaves before the last one has come
        REQUIRE(::pipe2(gate.data(), O_CLOEXEC) == 0);
        std::deque<tests::process> children;
        for (const unsigned first : {0U, addresses / 2})
            children.emplace_back([&, first] {
                ::close(gate[1]);
                return ask_too_much(acceptor.local_endpoint(), first, addresses / 2, each, allowed, gate[0]);
            });
        ::close(gate[0]);
        serve_until(io, [&] { return acceptor.census().live() == addresses * allowed; });
        ::close(gate[1]);
        serve_until(io, [&] { return !any_runs(children) && acceptor.census().live() == 0; });
        for (tests::process& child : children)
            CHECK(child.wait() == 0);
        CHECK(acceptor.rejected() == round * addresses * (each - allowed));
        CHECK(acceptor.census().ended() == round * addresses * allowed);
        CHECK(acceptor.addresses() == 0);
    }
    CHECK(most_addresses == addresses);
    CHECK(acceptor.census().peak() == addresses * allowed);
    acceptor.close();
    tests::run(io);
}

namespace {

/// Greets each client, and sends back what it sends.
net::awaitable<void> greet_and_echo(connection peer)
{
    char letter = '+';
    for (;;) {
        co_await net::async_write(peer.stream(), net::buffer(&letter, 1), net::use_awaitable);
        co_await peer.stream().async_read_some(net::buffer(&letter, 1), net::use_awaitable);
    }
}

/// Says where it listens, and serves until it is killed.
template <class Session>
int serve_for_ever(acceptor_options options, Session session)
{
    net::io_context io{1};
    acceptor_type acceptor{io.get_executor(), any_port, std::move(options)};
    acceptor.async_serve(std::move(session), net::detached);
    std::cout << acceptor.local_endpoint().port() << std::endl;
    io.run();
    return 0;
}

tcp::endpoint endpoint_of(tests::process& server)
{
    return {net::ip::address_v4::loopback(), static_cast<unsigned short>(std::stoul(server.line()))};
}

/// The clients that can be read, of those that `of` names; waits at most so many milliseconds.
std::vector<std::size_t> readable(std::vector<tcp::socket>& clients, const std::vector<std::size_t>& of, int wait)
{
    std::vector<pollfd> all;
    for (const std::size_t i : of)
        all.push_back({clients[i].native_handle(), POLLIN, 0});
    ::poll(all.data(), all.size(), wait);
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i != of.size(); ++i)
        if (all[i].revents != 0) found.push_back(of[i]);
    return found;
}

/// Moves those that the server has greeted from `waiting` to `inside`.
void let_in(std::vector<tcp::socket>& clients, std::vector<std::size_t>& waiting, std::vector<std::size_t>& inside,
            int wait)
{
    for (const std::size_t i : readable(clients, waiting, wait)) {
        char letter = 0;
        net::read(clients[i], net::buffer(&letter, 1));
        REQUIRE(letter == '+');
        waiting.erase(std::find(waiting.begin(), waiting.end(), i));
        inside.push_back(i);
    }
}

bool echoes(tcp::socket& client)
{
    char letter = 'x';
    net::write(client, net::buffer(&letter, 1));
    tests::await_readable(client);
    return net::read(client, net::buffer(&letter, 1)) == 1 && letter == 'x';
}

} // namespace

TEST_CASE("64 descriptors and 150 clients that stay: it rests, serves the old ones, and lets one in for each "
          "that leaves")
{
    observations& counts = observed();
    tests::process server([&] {
        limit(RLIMIT_NOFILE, 64);
        return serve_for_ever({.on_event =
                                   [&](const acceptor_event& event) {
                                       if (event.what == acceptor_event::kind::starved) counts.shortages += event.count;
                                   }},
                              greet_and_echo);
    });
    net::io_context io;
    auto clients = tests::connect(io, endpoint_of(server), 150);
    std::vector<std::size_t> waiting, inside;
    for (std::size_t i = 0; i != clients.size(); ++i)
        waiting.push_back(i);
    while (counts.shortages == 0)
        let_in(clients, waiting, inside, 100);
    let_in(clients, waiting, inside, 0);
    CHECK(counts.accepts > inside.size());
    CHECK(inside.size() > 40);
    CHECK(inside.size() < 64);

    const std::uint64_t accepts_before = counts.accepts, wakeups_before = counts.wakeups;
    const auto begin = clock_type::now();
    while (clock_type::now() < begin + 2s)
        CHECK(readable(clients, waiting, 100).empty());
    const double seconds = std::chrono::duration<double>(clock_type::now() - begin).count();
    const auto accepts = static_cast<double>(counts.accepts - accepts_before);
    const auto wakeups = static_cast<double>(counts.wakeups - wakeups_before);
    std::cout << "64 descriptors: " << accepts / seconds << " accept calls and " << wakeups / seconds
              << " wake-ups a second\n";
    CHECK(accepts < 20 * seconds);
    CHECK(wakeups < 50 * seconds);
    for (const std::size_t i : inside)
        CHECK(echoes(clients[i]));

    // No timer expires any more, but for one that runs already: only the descriptor that comes back can be
    // the reason why the next one is admitted.
    counts.timers_stopped = true;
    std::vector<clock_type::duration> delays;
    for (int leaving = 0; leaving != 40; ++leaving) {
        const std::size_t one = inside.front();
        inside.erase(inside.begin());
        const auto left = clock_type::now();
        clients[one].close();
        const auto next = readable(clients, waiting, 30'000);
        delays.push_back(clock_type::now() - left);
        REQUIRE(next.size() == 1);
        let_in(clients, waiting, inside, 0);
    }
    std::sort(delays.begin(), delays.end());
    const auto us = [](auto d) { return std::chrono::duration_cast<std::chrono::microseconds>(d).count(); };
    std::cout << "64 descriptors: the next one is in " << us(delays[delays.size() / 2])
              << " us after a leaving, at most " << us(delays.back()) << " us\n";
    for (const std::size_t i : inside)
        CHECK(echoes(clients[i]));
    counts.timers_stopped = false;
}

namespace {

constexpr std::size_t mebibyte = 1024 * 1024;

/// With 256 MiB in all, and killed beyond, as by a cgroup. Each session needs two.
int run_in_256_mebibytes(bool marked)
{
    limit(RLIMIT_AS, 256 * mebibyte);
    std::set_new_handler([] { std::_Exit(137); });
    acceptor_options options;
    if (marked)
        options.memory = {.of = holdfast::memory_limits::memory_source::process,
                          .high_watermark = 160 * mebibyte,
                          .on_memory_pressure = [] { ::malloc_trim(0); }};
    options.on_event = [](const acceptor_event& event) {
        if (event.what == acceptor_event::kind::paused && event.limit == admission_limit::memory)
            std::cout << "paused" << std::endl;
    };
    return serve_for_ever(std::move(options), [](connection peer) -> net::awaitable<void> {
        const std::vector<char> large(2 * mebibyte, 'x');
        co_await greet_and_echo(std::move(peer));
    });
}

} // namespace

TEST_CASE("in 256 MiB under a load that needs 1 GiB a server with a memory mark lives on and serves them all")
{
    constexpr std::size_t count = 512;
    for (const bool marked : {false, true}) {
        tests::process server([marked] { return run_in_256_mebibytes(marked); });
        net::io_context io;
        auto clients = tests::connect(io, endpoint_of(server), count);
        if (!marked) { // what the mark saves from
            CHECK(server.wait() == 137);
            continue;
        }
        std::vector<std::size_t> waiting, inside;
        for (std::size_t i = 0; i != count; ++i)
            waiting.push_back(i);
        CHECK(server.line() == "paused");
        let_in(clients, waiting, inside, 0);
        const std::size_t at_once = inside.size();
        std::error_code ec;
        std::cout << "256 MiB: " << at_once << " sessions of 2 MiB inside, VmRSS "
                  << holdfast::read_process_memory(server.pid(), ec).vm_rss / mebibyte << " MiB\n";
        CHECK(at_once > 20);
        CHECK(at_once < 128);
        std::size_t served = 0;
        while (served != count) { // each that was served leaves
            REQUIRE(server.running());
            for (const std::size_t i : inside) {
                REQUIRE(echoes(clients[i]));
                clients[i].close();
            }
            served += inside.size();
            inside.clear();
            let_in(clients, waiting, inside, 1000);
        }
        CHECK(server.running());
    }
}

TEST_CASE("whatever accept() fails with, and however often, the hook is not flooded and the new client comes in")
{
    for (const int error : {ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, ETIMEDOUT, EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
        const bool shortage = error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
        net::io_context io;
        int reported = 0;
        acceptor_type acceptor{io.get_executor(), any_port, {.on_event = [&](const acceptor_event& event) {
                                   CHECK(event.what ==
                                         (shortage ? acceptor_event::kind::starved : acceptor_event::kind::lost));
                                   CHECK(event.error.value() == error);
                                   ++reported;
                               }}};
        std::vector<connection> kept;
        acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
        io.poll();
        observed().error = error;
        observed().failures = shortage ? 3 : 1000; // a shortage is waited out
        auto clients = tests::connect(io, acceptor.local_endpoint(), 1);
        tests::run_until(io, [&] { return kept.size() == 1; });
        CHECK(observed().failures == 0);
        CHECK(reported >= (shortage ? 3 : 16));
        CHECK(reported < 50);
        acceptor.close();
        kept.clear();
        tests::run(io);
    }
}

TEST_CASE("the descriptor in reserve may be lost to another, and the first that comes back takes its place")
{
    net::io_context io;
    int starved = 0;
    acceptor_type acceptor{
        io.get_executor(),
        any_port,
        {.on_descriptor_limit = holdfast::overload_policy::reset, .on_event = [&](const acceptor_event& event) {
             if (event.what == acceptor_event::kind::starved) ++starved;
         }}};
    std::vector<connection> kept;
    acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    io.poll();
    tcp::socket client(io, tcp::v4()), next(io, tcp::v4());
    {
        const tests::descriptor_limit none(0);
        observed().steals = true;
        client.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return starved == 2; });
        CHECK(acceptor.rejected() == 0);
        REQUIRE(observed().stolen >= 0);
        ::close(observed().stolen);
        tests::run_until(io, [&] { return acceptor.rejected() == 1; });
        CHECK(tests::read_to_end(client).end == net::error::connection_reset);
        next.connect(acceptor.local_endpoint());
        tests::run_until(io, [&] { return acceptor.rejected() == 2; });
    }
    CHECK(kept.empty());
    acceptor.close();
    tests::run(io);
}

TEST_CASE("1,000 peers that do not hear of the drain are aborted at its deadline")
{
    constexpr std::size_t count = 1000;
    raise_descriptor_limit();
    net::io_context io{1};
    acceptor_type acceptor{io.get_executor(), any_port, {.backlog = 4096}};
    std::vector<connection> kept;
    acceptor.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    std::deque<tests::process> children;
    children.emplace_back([&] {
        net::io_context own;
        for (tcp::socket& client : tests::connect(own, acceptor.local_endpoint(), count))
            tests::read_to_end(client); // throws where that never comes
        return 0;
    });
    serve_until(io, [&] { return kept.size() == count; });
    std::size_t aborted = 0;
    acceptor.async_drain({.deadline = 100ms}, [&](error_code ec, std::size_t n) {
        CHECK_FALSE(ec);
        aborted = n;
    });
    tests::run_until(io, [&] { return aborted != 0; });
    CHECK(aborted == count);
    kept.clear();
    CHECK(acceptor.census().ended(holdfast::close_reason::drain_deadline) == count);
    serve_until(io, [&] { return !any_runs(children); });
    CHECK(children.front().wait() == 0);
    tests::run(io);
}
