// holdfast: what is left of compression when it is over: each of many connections has sent a large message,
// compressed, and is quiet since.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: holdfast, whose compressors come from a pool; zlib, with a z_stream for each connection that is
// kept for the next message, as servers do whose streams go on (permessage-deflate with context takeover);
// zlib_freed, which frees it after the message, as servers of HTTP do.
// All make the same text in chunks, compress it at the same level, and write it by Asio. Each runs in a
// process of its own on one thread; the clients are this one, and only read.
//
// Metrics: rss_anon_bytes_per_connection, what is there when all is sent, without what there was before the
// first connection; peak_extra_bytes, the most that there was; text_bytes_per_second of processor time;
// wire_bytes_per_message, what comes of the text.
#include "support/json_rows.hpp"
#include "support/results.hpp"
#include "support/rounds.hpp"
#include "support/server_process.hpp"

#include <holdfast/adapters/deflate.hpp>
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/process/memory.hpp>
#include <holdfast/write_streamed.hpp>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

namespace {

namespace net = holdfast::net;
using benchmarks::checked;
using benchmarks::fail;
using net::ip::tcp;
using quotes = std::vector<benchmarks::quote>;

constexpr int level = 1;
constexpr std::size_t chunk = 16 * 1024;
/// A message repeats them: text that compresses fast, since what is asked is memory.
constexpr std::size_t different_rows = 100;

/// What all servers are to send, and how many messages they have sent, in memory shared with the clients.
struct job {
    quotes rows;
    std::uint32_t compressors = 0;
    std::atomic<std::uint32_t>* sent = nullptr;
};

net::awaitable<void> asked(tcp::socket& peer)
{
    char question = 0;
    co_await net::async_read(peer, net::buffer(&question, 1), net::use_awaitable);
}

// The servers. Each serves the listening socket for ever.

void serve_holdfast(int listener, const job& what)
{
    using acceptor_type = holdfast::bounded_acceptor<tcp>;
    net::io_context io(1);
    holdfast::deflate_pool pool(io.get_executor(), {.compressors = what.compressors, .level = level});
    const holdfast::acceptor_options options{.max_connections = 20'000};
    acceptor_type acceptor{io.get_executor(), tcp::v4(), listener, options};
    acceptor.async_serve(
        [&](acceptor_type::connection_type peer) -> net::awaitable<void> {
            co_await asked(peer.stream());
            {
                const holdfast::compressor gzip = co_await pool.async_borrow(net::use_awaitable);
                co_await holdfast::async_write_streamed(
                    peer, holdfast::formatted(std::cref(what.rows), holdfast::deflated{gzip, holdfast::ndjson{}}),
                    {.chunk_bytes = chunk});
            }
            ++*what.sent;
            co_await asked(peer.stream());
        },
        net::detached);
    io.run();
}

/// A compressor and its output.
class gzip_stream {
public:
    gzip_stream()
    {
        if (::deflateInit2(&zlib_, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
    }
    gzip_stream(const gzip_stream&) = delete;
    ~gzip_stream() { ::deflateEnd(&zlib_); }

    void feed(std::span<char> text)
    {
        zlib_.next_in = reinterpret_cast<Bytef*>(text.data());
        zlib_.avail_in = static_cast<uInt>(text.size());
    }

    /// Fills `room` as far as there is input; all of it is out where that did not fill it.
    std::size_t compress(std::span<char> room, int flush)
    {
        zlib_.next_out = reinterpret_cast<Bytef*>(room.data());
        zlib_.avail_out = static_cast<uInt>(room.size());
        ::deflate(&zlib_, flush);
        return room.size() - zlib_.avail_out;
    }

private:
    ::z_stream zlib_{};
};

/// The buffers are the thread's: what a connection keeps is its compressor.
net::awaitable<void> send_by(gzip_stream& gzip, tcp::socket& peer, const job& what)
{
    auto text_chunk = std::make_unique<std::array<char, chunk>>();
    auto output = std::make_unique<std::array<char, chunk>>();
    holdfast::streaming_serializer<holdfast::ndjson, std::reference_wrapper<const quotes>> text(std::cref(what.rows));
    while (!text.done()) {
        std::error_code ec;
        gzip.feed(text.next(*text_chunk, ec));
        for (std::size_t n = output->size(); n == output->size();) {
            n = gzip.compress(*output, text.done() ? Z_SYNC_FLUSH : Z_NO_FLUSH);
            co_await net::async_write(peer, net::buffer(*output, n), net::use_awaitable);
        }
    }
}

void serve_zlib(int listener, const job& what, bool keep)
{
    net::io_context io(1);
    const auto session = [&](tcp::socket peer) -> net::awaitable<void> {
        co_await asked(peer);
        std::optional<gzip_stream> gzip(std::in_place);
        co_await send_by(*gzip, peer, what);
        if (!keep) gzip.reset();
        ++*what.sent;
        co_await asked(peer);
    };
    net::co_spawn(
        io,
        [&]() -> net::awaitable<void> {
            tcp::acceptor acceptor(io, tcp::v4(), listener);
            for (;;)
                net::co_spawn(io, session(co_await acceptor.async_accept(net::use_awaitable)), net::detached);
        },
        net::detached);
    io.run();
}

// The clients.

class clients {
public:
    clients() : poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}
    clients(const clients&) = delete;
    ~clients()
    {
        for (const int each : sockets_) {
            const ::linger reset{1, 0}; // no port stays in TIME_WAIT
            ::setsockopt(each, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(each);
        }
        ::close(poll_);
    }

    void connect(::sockaddr_in server, std::uint32_t connections)
    {
        for (std::uint32_t i = 0; i != connections; ++i) {
            const int each = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
            sockets_.push_back(each);
            ::sockaddr_in from = server; // several: one is slow to find a free port when it has few left
            from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / 2000);
            from.sin_port = 0;
            const int port_later = 1;
            ::setsockopt(each, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &port_later, sizeof port_later);
            checked(::bind(each, reinterpret_cast<const ::sockaddr*>(&from), sizeof from), "bind");
            checked(::connect(each, reinterpret_cast<const ::sockaddr*>(&server), sizeof server), "connect");
            ::epoll_event event{EPOLLIN, {.fd = each}};
            checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, each, &event), "epoll_ctl");
        }
    }

    void ask_all()
    {
        for (const int each : sockets_)
            if (::send(each, "?", 1, MSG_NOSIGNAL) != 1) fail("send");
    }

    /// Reads and drops what has come; waits for some milliseconds where nothing has. Whether something had.
    bool read_some(int milliseconds)
    {
        std::array<::epoll_event, 128> events;
        const int n = ::epoll_wait(poll_, events.data(), events.size(), milliseconds);
        static std::array<char, 256 * 1024> waste;
        for (int i = 0; i < n; ++i) {
            const ::ssize_t size =
                ::recv(events[static_cast<std::size_t>(i)].data.fd, waste.data(), waste.size(), MSG_DONTWAIT);
            if (size == 0) throw std::runtime_error("the server ended a connection");
            bytes_ += static_cast<std::uint64_t>(std::max<::ssize_t>(size, 0));
        }
        return n > 0;
    }

    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

private:
    std::uint64_t bytes_ = 0;
    const int poll_;
    std::vector<int> sockets_;
};

double now(::clockid_t clock)
{
    ::timespec time{};
    checked(::clock_gettime(clock, &time), "clock_gettime");
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

double rss_of(::pid_t server)
{
    std::error_code ec;
    const auto memory = holdfast::read_process_memory(server, ec);
    if (ec) throw std::system_error(ec, "the server's memory");
    return static_cast<double>(memory.rss_anon);
}

struct figures {
    double kept = 0, peak = 0, text_per_second = 0, wire = 0;
};

figures measure(const std::function<void(int)>& serve, const job& what, std::uint32_t connections)
{
    *what.sent = 0;
    const benchmarks::server_process server(serve);
    clients load;
    load.connect(server.address, 1);
    load.ask_all(); // what a server takes once
    while (*what.sent != 1)
        load.read_some(10);
    const double before = rss_of(server.pid);
    ::clockid_t cpu{};
    if (::clock_getcpuclockid(server.pid, &cpu) != 0) throw std::runtime_error("no clock of the server's process");

    clients all;
    all.connect(server.address, connections);
    const double began = now(cpu);
    all.ask_all();
    double peak = before;
    double last_change = now(CLOCK_MONOTONIC);
    while (*what.sent != connections + 1) {
        bool any = false;
        for (int i = 0; i != 100; ++i)
            any |= all.read_some(1);
        peak = std::max(peak, rss_of(server.pid));
        if (any)
            last_change = now(CLOCK_MONOTONIC);
        else if (now(CLOCK_MONOTONIC) > last_change + 10)
            throw std::runtime_error("the server stopped sending");
    }
    const double seconds = now(cpu) - began;
    while (all.read_some(50)) // what is still on its way
        continue;
    const double after = rss_of(server.pid);
    const auto n = static_cast<double>(connections);
    const auto text = static_cast<double>(holdfast::serialized_size<holdfast::ndjson>(what.rows));
    return {(after - before) / n, std::max(peak, after) - before, n * text / seconds,
            static_cast<double>(all.bytes()) / n};
}

using subject = benchmarks::subject<figures>;

int run(int argc, char** argv)
{
    std::uint32_t connections = 10'000;
    std::uint32_t compressors = 16;
    std::uint32_t rounds = 3;
    examples::byte_count message{256 * 1024};
    benchmarks::results results{"deflate"};
    benchmarks::command_line cli{"deflate", "What connections keep that have sent a compressed message."};
    results.add_options(cli);
    cli.add("connections", connections, "N", "connections, each of which gets a message");
    cli.add("message", message, "BYTES", "how long its text is");
    cli.add("compressors", compressors, "N", "those in holdfast's pool");
    benchmarks::add_rounds(cli, rounds);
    if (!cli.parse(argc, argv)) return 0;
    if (connections == 0 || connections > 19'000) benchmarks::command_line::fail("connections", "must be 1 to 19000");
    if (compressors == 0) benchmarks::command_line::fail("compressors", "must be at least 1");
    if (rounds == 0) benchmarks::command_line::fail("rounds", "must be at least 1");
    results.open();

    job what{benchmarks::make_quotes(different_rows), compressors, nullptr};
    const auto once = holdfast::serialized_size<holdfast::ndjson>(what.rows);
    what.rows.resize(std::max<std::size_t>(1, message.value * different_rows / once));
    for (std::size_t i = different_rows; i < what.rows.size(); ++i)
        what.rows[i] = what.rows[i - different_rows];
    void* const shared = ::mmap(nullptr, sizeof *what.sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) fail("mmap");
    what.sent = ::new (shared) std::atomic<std::uint32_t>(0);
    std::array<subject, 3> subjects{subject{"holdfast", [&](int listener) { serve_holdfast(listener, what); }},
                                    subject{"zlib", [&](int listener) { serve_zlib(listener, what, true); }},
                                    subject{"zlib_freed", [&](int listener) { serve_zlib(listener, what, false); }}};
    benchmarks::run_rounds<figures>(results, subjects, rounds, std::to_string(connections),
                                    [&](const auto& serve) { return measure(serve, what, connections); },
                                    {{"rss_anon_bytes_per_connection", &figures::kept, "B"},
                                     {"peak_extra_bytes", &figures::peak, "B"},
                                     {"text_bytes_per_second", &figures::text_per_second, "B/cpu_s"},
                                     {"wire_bytes_per_message", &figures::wire, "B"}});
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
