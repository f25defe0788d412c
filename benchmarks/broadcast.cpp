// holdfast: what it costs to send the same messages to ten thousand subscribers, and what the slow ones among
// them cost the others.
// SPDX-License-Identifier: BSL-1.0
#include "support/results.hpp"

#include <holdfast/outbox_group.hpp>
#include <holdfast/process/memory.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(HOLDFAST_BENCHMARKS_LIBUV)
#include <uv.h>
#endif

// Server and clients run in a process of their own each, on one thread. What counts is how many messages a
// second of the server's processor time sends: on few cores the clients cost as much as the server.

namespace {

namespace net = holdfast::net;
using net::ip::tcp;
using std::chrono::steady_clock;

constexpr std::size_t message_bytes = 64; // the first eight are the time of its making

int checked(int result, const char* what)
{
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

double processor_seconds()
{
    ::timespec now{};
    checked(::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), "clock_gettime");
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

double seconds_since(steady_clock::time_point start)
{
    return std::chrono::duration<double>(steady_clock::now() - start).count();
}

std::string make_message()
{
    std::string text(message_bytes, '.');
    const auto now = steady_clock::now().time_since_epoch().count();
    std::memcpy(text.data(), &now, sizeof now);
    text.back() = '\n';
    return text;
}

// The servers: each takes sockets, queues a message to all, and sends until all is sent or the time has come.

using socket_type = net::basic_stream_socket<tcp, net::io_context::executor_type>;

class asio_loop {
public:
    void send_all()
    {
        run([&] { io_.run(); });
    }
    void send_until(steady_clock::time_point when)
    {
        run([&] { io_.run_until(when); });
        std::this_thread::sleep_until(when); // where nothing was left to be sent
    }

protected:
    template <class F>
    void run(F f)
    {
        io_.restart();
        f();
    }

    net::io_context io_{1};
};

class holdfast_server : public asio_loop {
public:
    void add(int descriptor) { receivers_.emplace_back(io_, descriptor, all_); }
    void push(std::string_view text) { all_.push(holdfast::payload(text, holdfast::payload_sharing::one_thread)); }

private:
    struct receiver {
        receiver(net::io_context& io, int descriptor, holdfast::outbox_group& group)
            : socket(io, tcp::v4(), descriptor),
              box(socket, {.high_watermark = 16 * 1024, .on_overflow = holdfast::overflow_policy::drop_oldest}),
              here(group, box)
        {
        }
        socket_type socket;
        holdfast::outbox<socket_type> box;
        holdfast::outbox_group::member here;
    };

    holdfast::outbox_group all_;
    std::deque<receiver> receivers_;
};

/// As it is usually written: a queue of shared strings for each socket, one async_write at a time.
class asio_server : public asio_loop {
public:
    void add(int descriptor) { receivers_.emplace_back(io_, descriptor); }
    void push(std::string_view text)
    {
        const auto message = std::make_shared<const std::string>(text);
        for (receiver& each : receivers_)
            each.push(message);
    }

private:
    struct receiver {
        receiver(net::io_context& io, int descriptor) : socket(io, tcp::v4(), descriptor) {}

        void push(const std::shared_ptr<const std::string>& message)
        {
            queue.push_back(message);
            if (queue.size() == 1) write();
        }
        void write()
        {
            net::async_write(socket, net::buffer(*queue.front()), [this](holdfast::error_code ec, std::size_t) {
                if (ec) return;
                queue.pop_front();
                if (!queue.empty()) write();
            });
        }

        socket_type socket;
        std::deque<std::shared_ptr<const std::string>> queue;
    };

    std::deque<receiver> receivers_;
};

/// The same, but a write takes all that was queued during the last one, 64 messages at most.
class asio_gather_server : public asio_loop {
public:
    void add(int descriptor) { receivers_.emplace_back(io_, descriptor); }
    void push(std::string_view text)
    {
        const auto message = std::make_shared<const std::string>(text);
        for (receiver& each : receivers_)
            each.push(message);
    }

private:
    struct receiver {
        receiver(net::io_context& io, int descriptor) : socket(io, tcp::v4(), descriptor) {}

        void push(const std::shared_ptr<const std::string>& message)
        {
            queue.push_back(message);
            if (writing == 0) write();
        }
        void write()
        {
            writing = std::min<std::size_t>(queue.size(), 64);
            buffers.clear(); // its memory stays
            for (std::size_t i = 0; i != writing; ++i)
                buffers.emplace_back(net::buffer(*queue[i]));
            net::async_write(socket, std::span(buffers), [this](holdfast::error_code ec, std::size_t) {
                if (ec) return;
                queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(std::exchange(writing, 0)));
                if (!queue.empty()) write();
            });
        }

        socket_type socket;
        std::deque<std::shared_ptr<const std::string>> queue;
        std::vector<net::const_buffer> buffers;
        std::size_t writing = 0;
    };

    std::deque<receiver> receivers_;
};

#if defined(HOLDFAST_BENCHMARKS_LIBUV)
/// libuv has a queue of its own for each socket; it writes at once where that is empty.
class libuv_server {
public:
    libuv_server() { ::uv_loop_init(&loop_); }

    void add(int descriptor)
    {
        ::uv_tcp_t& socket = sockets_.emplace_back();
        ::uv_tcp_init(&loop_, &socket);
        ::uv_tcp_open(&socket, descriptor);
    }
    void push(std::string_view text)
    {
        const auto message = std::make_shared<std::string>(text);
        for (::uv_tcp_t& each : sockets_) {
            auto* const request = new write{{}, message};
            const ::uv_buf_t buffer = ::uv_buf_init(message->data(), static_cast<unsigned int>(message->size()));
            request->request.data = request;
            ::uv_write(&request->request, reinterpret_cast<::uv_stream_t*>(&each), &buffer, 1,
                       [](::uv_write_t* done, int) { delete static_cast<write*>(done->data); });
        }
    }
    void send_all() { ::uv_run(&loop_, UV_RUN_DEFAULT); }

private:
    struct write {
        ::uv_write_t request;
        std::shared_ptr<std::string> message;
    };

    ::uv_loop_t loop_{};
    std::deque<::uv_tcp_t> sockets_;
};
#endif

// What the processes share.

struct figures {
    double processor = 0; ///< the server's, in seconds
    double wall = 0;
    double messages = 0;     ///< delivered
    double p50_delivery = 0; ///< in seconds, of those who read
    double p99_delivery = 0;
    std::uint64_t rss_before = 0; ///< RssAnon of the server, all connected
    std::uint64_t rss_peak = 0;
};

struct load {
    std::uint32_t subscribers = 10'000;
    std::uint32_t mute = 0; ///< as many more never read
    std::uint32_t burst = 16;
    std::uint32_t bursts = 2;              ///< one after the other
    std::chrono::milliseconds every{0};    ///< or at that pace
    std::chrono::milliseconds duration{0}; ///< for so long
};

// The clients.

/// A client of the server, from an address that five thousand others share.
int connect_client(const ::sockaddr_in& server, std::uint32_t number, int receive_buffer)
{
    const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    if (receive_buffer != 0) ::setsockopt(client, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int later = 1; // the port: at connect, so that one address has them all
    ::setsockopt(client, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &later, sizeof later);
    ::sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / 5000);
    checked(::bind(client, reinterpret_cast<::sockaddr*>(&from), sizeof from), "bind");
    checked(::connect(client, reinterpret_cast<const ::sockaddr*>(&server), sizeof server), "connect");
    return client;
}

/// Reads all that comes, notes how old each message is, and tells the server of each burst that is complete.
void read_all(const ::sockaddr_in& server, const load& what, int told, figures& result)
{
    const int poll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct reader {
        int socket;
        std::uint64_t got = 0;
    };
    std::deque<reader> readers;
    for (std::uint32_t i = 0; i != what.subscribers + what.mute; ++i) {
        const bool reads = i < what.subscribers;
        const int socket = connect_client(server, i, reads ? 0 : 2048);
        if (!reads) continue;
        ::epoll_event event{EPOLLIN, {.ptr = &readers.emplace_back(reader{socket})}};
        checked(::epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event), "epoll_ctl");
    }
    std::vector<float> ages;
    std::uint64_t messages = 0;
    std::uint64_t next = std::uint64_t{what.subscribers} * what.burst * message_bytes;
    std::uint64_t got = 0;
    std::array<char, 65536> chunk;
    std::array<::epoll_event, 512> events;
    for (std::size_t open = readers.size(); open != 0;) {
        const int n = ::epoll_wait(poll, events.data(), events.size(), -1);
        for (int i = 0; i < n; ++i) {
            reader& each = *static_cast<reader*>(events[static_cast<std::size_t>(i)].data.ptr);
            const ::ssize_t size = ::recv(each.socket, chunk.data(), chunk.size(), 0);
            if (size <= 0) {
                ::close(each.socket);
                --open;
                continue;
            }
            const auto now = steady_clock::now();
            const auto bytes = static_cast<std::size_t>(size);
            for (std::size_t at = (message_bytes - each.got % message_bytes) % message_bytes;
                 at + sizeof(std::int64_t) <= bytes; at += message_bytes) {
                std::int64_t made = 0;
                std::memcpy(&made, chunk.data() + at, sizeof made);
                ages.push_back(static_cast<float>(
                    std::chrono::duration<double>(now - steady_clock::time_point(steady_clock::duration(made)))
                        .count()));
                ++messages;
            }
            each.got += bytes;
            got += bytes;
            if (got == next) {
                next += std::uint64_t{what.subscribers} * what.burst * message_bytes;
                if (::write(told, "x", 1) != 1) return;
            }
        }
    }
    if (ages.empty()) return;
    const auto at = [&](double part) {
        const auto nth = ages.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(ages.size() - 1));
        std::nth_element(ages.begin(), nth, ages.end());
        return static_cast<double>(*nth);
    };
    result.messages = static_cast<double>(messages);
    result.p50_delivery = at(0.5);
    result.p99_delivery = at(0.99);
}

// One server's round.

std::uint64_t rss_anon()
{
    std::error_code ec;
    return holdfast::read_process_memory(::getpid(), ec).rss_anon;
}

template <class Server>
void serve(int listener, const load& what, int acknowledged, figures& result)
{
    Server server;
    for (std::uint32_t i = 0; i != what.subscribers + what.mute; ++i) {
        const int socket = checked(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC), "accept");
        const int on = 1;
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        server.add(socket);
    }
    result.rss_before = result.rss_peak = rss_anon();
    const auto start = steady_clock::now();
    const double processor = processor_seconds();
    const auto burst = [&] {
        for (std::uint32_t i = 0; i != what.burst; ++i)
            server.push(make_message());
    };
    if (what.every.count() != 0) {
        if constexpr (requires { server.send_until(start); })
            for (auto next = start; next < start + what.duration;) {
                burst();
                server.send_until(next += what.every);
                result.rss_peak = std::max(result.rss_peak, rss_anon());
            }
    } else {
        for (std::uint32_t i = 0; i != what.bursts; ++i) {
            burst();
            result.rss_peak = std::max(result.rss_peak, rss_anon());
            server.send_all();
            char answer = 0;
            if (::read(acknowledged, &answer, 1) != 1) throw std::runtime_error("the clients have ended");
        }
    }
    result.processor = processor_seconds() - processor;
    result.wall = seconds_since(start);
}

class child {
public:
    explicit child(const std::function<void()>& f) : pid_(checked(::fork(), "fork"))
    {
        if (pid_ != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        try {
            f();
            ::_exit(0);
        } catch (const std::exception& error) {
            std::cerr << "broadcast: " << error.what() << std::endl;
            ::_exit(1);
        }
    }
    child(const child&) = delete;
    ~child()
    {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    void wait()
    {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        if (status != 0) throw std::runtime_error("a process of the benchmark failed");
    }

private:
    ::pid_t pid_;
};

template <class Server>
figures measure(const load& what)
{
    const int listener = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    const int send_buffer = 8 * 1024; // the kernel doubles it; the connections inherit it
    ::setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    checked(::bind(listener, reinterpret_cast<::sockaddr*>(&address), size), "bind");
    checked(::listen(listener, 4096), "listen");
    checked(::getsockname(listener, reinterpret_cast<::sockaddr*>(&address), &size), "getsockname");
    int pipe[2];
    checked(::pipe(pipe), "pipe");
    void* const memory = ::mmap(nullptr, sizeof(figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    figures* const shared = ::new (memory) figures;
    {
        child server([&] { serve<Server>(listener, what, pipe[0], *shared); });
        ::close(listener);
        child clients([&] {
            ::close(pipe[0]);
            read_all(address, what, pipe[1], *shared);
        });
        server.wait();
        clients.wait();
    }
    ::close(pipe[0]);
    ::close(pipe[1]);
    const figures result = *shared;
    ::munmap(memory, sizeof(figures));
    return result;
}

struct subject {
    const char* name;
    figures (*measure)(const load&);
    std::vector<figures> rounds{};

    [[nodiscard]] double middle(double (*of)(const figures&)) const
    {
        std::vector<double> values;
        for (const figures& each : rounds)
            values.push_back(of(each));
        return benchmarks::median(values);
    }
};

void compare_bursts(benchmarks::results& results, const load& what, const std::string& name, std::uint32_t rounds)
{
    std::vector<subject> subjects{{"holdfast", measure<holdfast_server>},
                                  {"asio", measure<asio_server>},
                                  {"asio_gather", measure<asio_gather_server>}};
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
    subjects.push_back({"libuv", measure<libuv_server>});
#else
    std::cerr << "broadcast: libuv is left out (Debian: libuv1-dev)\n";
#endif
    for (std::uint32_t round = 0; round != rounds; ++round)
        for (subject& each : subjects)
            each.rounds.push_back(each.measure(what));
    for (const subject& each : subjects) {
        results.add(each.name, name, "messages_per_second",
                    each.middle([](const figures& f) { return f.messages / f.processor; }), "1/cpu_s");
        results.add(each.name, name, "wall_messages_per_second",
                    each.middle([](const figures& f) { return f.messages / f.wall; }), "1/s");
        results.add(each.name, name, "rss_anon_growth",
                    each.middle([](const figures& f) { return static_cast<double>(f.rss_peak - f.rss_before); }), "B");
    }
}

/// The same subscribers without and with some more who never read.
void compare_slow(benchmarks::results& results, load what, std::uint32_t mute)
{
    const figures none = measure<holdfast_server>(what);
    what.mute = mute;
    const figures some = measure<holdfast_server>(what);
    results.add("holdfast", "slow_readers", "p99_without", none.p99_delivery * 1e3, "ms");
    results.add("holdfast", "slow_readers", "p99_with", some.p99_delivery * 1e3, "ms");
    results.add("holdfast", "slow_readers", "p99_ratio", some.p99_delivery / none.p99_delivery, "1");
    const auto growth = [](const figures& f) { return static_cast<double>(f.rss_peak - f.rss_before); };
    results.add("holdfast", "slow_readers", "rss_growth_without", growth(none), "B");
    results.add("holdfast", "slow_readers", "rss_growth_with", growth(some), "B");
    results.add("holdfast", "slow_readers", "deliveries_per_second", some.messages / some.wall, "1/s");
    results.add("holdfast", "slow_readers", "processor_seconds", some.processor, "s");
}

int run(int argc, char** argv)
{
    std::string only;
    load what;
    std::uint32_t rounds = 3;
    std::uint32_t seconds = 20;
    benchmarks::results results{"broadcast"};
    benchmarks::command_line cli{"broadcast", "The same messages to many subscribers."};
    results.add_options(cli);
    cli.add("case", only, "NAME",
            "burst (named by the number of subscribers), burst_1 and burst_4 (that many messages of 64 bytes at once), "
            "slow_readers; empty: all");
    cli.add("subscribers", what.subscribers, "N", "subscribers that read");
    cli.add("burst", what.burst, "N", "messages of 64 bytes queued to each before any is sent");
    cli.add("bursts", what.bursts, "N", "bursts of a round of the first case");
    cli.add("rounds", rounds, "N", "rounds of the first case, in turns; the middle one counts");
    cli.add("seconds", seconds, "N", "of slow_readers: 50 messages a second, ten at once, first without the slow ones");
    if (!cli.parse(argc, argv)) return 0;
    const bool all = only.empty();
    const std::string number = std::to_string(what.subscribers);
    const bool burst = all || only == "burst" || only == number;
    const bool small_bursts =
        only == "burst_1" || only == "burst_4" || only == number + "_burst_1" || only == number + "_burst_4";
    if (!burst && !small_bursts && only != "slow_readers")
        benchmarks::command_line::fail("case",
                                       "must be burst, the number of subscribers, burst_1, burst_4 or slow_readers");
    if (what.subscribers == 0 || what.subscribers > 19'000 || what.burst == 0 || what.bursts == 0 || rounds == 0 ||
        seconds == 0)
        throw benchmarks::usage_error("there must be 1 to 19000 subscribers, and something to do");
    results.open();
    ::rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (burst) compare_bursts(results, what, number, rounds);
    for (const std::uint32_t few : {1U, 4U}) {
        const std::string suffix = "_burst_" + std::to_string(few);
        if (!all && !only.ends_with(suffix.substr(1))) continue;
        load small = what;
        small.burst = few;
        small.bursts = what.bursts * 16 / few; // as many messages
        compare_bursts(results, small, number + suffix, rounds);
    }
    if (all || only == "slow_readers") {
        what.burst = 10;
        what.every = std::chrono::milliseconds(200);
        what.duration = std::chrono::seconds(seconds);
        compare_slow(results, what, std::max(what.subscribers / 100, 1U));
    }
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
