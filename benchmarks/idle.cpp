// holdfast: what an idle connection costs the server: each has sent a line, got it back, and is quiet since.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects: see support/line_servers.hpp; asyncio and go beside them. Each has a time-out of 30 s for each
// connection (but asio_wait and asio_lean), and runs in a process of its own; the clients are this one.
//
// Metrics, for each number of connections; those of a server's first 64 connections do not count:
//   rss_anon_bytes_per_connection  the process's anonymous memory
//   heap_bytes_per_connection      what malloc says is in use, where it can be asked
// The case "slope" is the growth from the first to the last case: without what a server takes once.
//
// At last 10,000 connections (or all, where there are fewer) are in mid-frame at the same time: each has sent 2,048 bytes
// of a line, then the rest of it.
//   rss_anon_extra_bytes_per_connection  more than before: case "mid_frame" while the lines are incomplete, "after_frame"
//                                        when all have come back. The servers that send back what they read, as soon as
//                                        they have read it, hold no incomplete line: those of plain Asio, Beast and epoll
#include "support/holdfast_sessions.hpp"
#include "support/line_servers.hpp"
#include "support/results.hpp"

#include <holdfast/process/memory.hpp>

#include <malloc.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using benchmarks::checked;
using benchmarks::fail;

// What a server reports of its own heap, in memory that it shares with the clients' process.

constexpr std::size_t grain = 16; // of malloc's blocks

struct heap_report {
    std::atomic<std::uint32_t> asked{0}, answered{0};
    std::uint64_t bytes = 0;
    std::array<std::int64_t, 1024> blocks{}; // live ones of operator new, by size / grain
};

std::array<std::int64_t, 1024> live_blocks{};
heap_report* report = nullptr;

void count(void* block, std::int64_t change) noexcept
{
    if (block == nullptr) return;
    const std::size_t size = (::malloc_usable_size(block) + 8) / grain; // with malloc's own word
    live_blocks[std::min(size, live_blocks.size() - 1)] += change;
}

/// The answer to SIGUSR1, which finds the server asleep.
void answer(int)
{
    const auto heap = ::mallinfo2();
    report->bytes = heap.uordblks + heap.hblkhd;
    report->blocks = live_blocks;
    report->answered = report->asked.load();
}

} // namespace

// Not inlined, or g++ takes the free() for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size)
{
    void* const block = std::malloc(size != 0 ? size : 1);
    if (block == nullptr) throw std::bad_alloc();
    count(block, 1);
    return block;
}
[[gnu::noinline]] void operator delete(void* block) noexcept
{
    count(block, -1);
    std::free(block);
}
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept
{
    count(block, -1);
    std::free(block);
}

namespace {

// The clients.

class clients {
public:
    explicit clients(const ::sockaddr_in& server) : server_(server) {}
    clients(const clients&) = delete;
    ~clients()
    {
        for (const int each : sockets_) {
            const ::linger reset{1, 0}; // no port stays in TIME_WAIT
            ::setsockopt(each, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(each);
        }
    }

    /// Connects until there are `n`; each new one sends a line and gets it back.
    void grow_to(std::size_t n)
    {
        while (sockets_.size() != n) {
            const std::size_t first = sockets_.size();
            const std::size_t last = std::min(n, first + 64);
            while (sockets_.size() != last) {
                sockets_.push_back(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
                // From several addresses: one is slow to find a free port when it has few left.
                ::sockaddr_in from = server_;
                from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + static_cast<std::uint32_t>(sockets_.size() / 2000));
                from.sin_port = 0;
                const int port_later = 1;
                ::setsockopt(sockets_.back(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &port_later, sizeof port_later);
                checked(::bind(sockets_.back(), reinterpret_cast<const ::sockaddr*>(&from), sizeof from), "bind");
                if (::connect(sockets_.back(), reinterpret_cast<const ::sockaddr*>(&server_), sizeof server_) != 0)
                    fail("connect");
            }
            for (std::size_t i = first; i != last; ++i)
                if (::send(sockets_[i], line.data(), line.size(), MSG_NOSIGNAL) != std::ssize(line)) fail("send");
            for (std::size_t i = first; i != last; ++i)
                expect(sockets_[i], line.size());
        }
    }

    /// The first `n` send a part of a line.
    void begin_lines(std::size_t n)
    {
        const std::string part(part_bytes, 'x');
        for (std::size_t i = 0; i != n; ++i)
            if (::send(sockets_[i], part.data(), part.size(), MSG_NOSIGNAL) != std::ssize(part)) fail("send");
    }

    /// They send the rest, and get the line back.
    void end_lines(std::size_t n)
    {
        for (std::size_t i = 0; i != n; ++i)
            if (::send(sockets_[i], "\n", 1, MSG_NOSIGNAL) != 1) fail("send");
        for (std::size_t i = 0; i != n; ++i)
            expect(sockets_[i], part_bytes + 1);
    }

    [[nodiscard]] std::size_t size() const noexcept { return sockets_.size(); }

private:
    static constexpr std::size_t part_bytes = 2048;
    static constexpr std::string_view line = "hello, this is a line of 32 bytes\n";

    static void expect(int socket, std::size_t bytes)
    {
        std::array<char, 4096> got;
        for (std::size_t n = 0; n != bytes;) {
            ::pollfd readable{socket, POLLIN, 0};
            if (::poll(&readable, 1, 10'000) != 1) throw std::runtime_error("the server stopped answering");
            const auto more = ::recv(socket, got.data(), got.size(), 0);
            if (more <= 0) fail("recv");
            n += static_cast<std::size_t>(more);
        }
    }

    ::sockaddr_in server_;
    std::vector<int> sockets_;
};

// One server, growing.

struct snapshot {
    double rss = 0;
    std::optional<double> heap{};
    std::array<std::int64_t, 1024> blocks{};
};

void nap(long milliseconds)
{
    const ::timespec time{0, milliseconds * 1'000'000};
    ::nanosleep(&time, nullptr);
}

snapshot look(::pid_t server, bool can_be_asked)
{
    nap(50); // what is still to be done after the last answer
    snapshot now;
    std::error_code ec;
    now.rss = static_cast<double>(holdfast::read_process_memory(server, ec).rss_anon);
    if (ec) throw std::system_error(ec, "the server's memory");
    if (!can_be_asked) return now;
    const std::uint32_t question = ++report->asked;
    ::kill(server, SIGUSR1);
    for (int i = 0; i != 1000 && report->answered != question; ++i)
        nap(1);
    if (report->answered != question) throw std::runtime_error("the server does not report its heap");
    now.heap = static_cast<double>(report->bytes);
    now.blocks = report->blocks;
    return now;
}

struct subject {
    std::string name;
    std::function<void(int)> serve;
    bool can_be_asked = true;
};

constexpr std::size_t warm = 64;

void measure(const subject& s, const std::vector<std::uint32_t>& cases, benchmarks::results& results, bool breakdown)
{
    const benchmarks::server_process server([&](int listener) {
        ::signal(SIGUSR1, answer);
        ::malloc_trim(0); // what the clients' process has freed is not there for the first connections
        s.serve(listener);
    });
    clients load(server.address);
    load.grow_to(warm);
    const snapshot none = look(server.pid, s.can_be_asked);
    std::vector<snapshot> at;
    for (const std::uint32_t n : cases) {
        load.grow_to(n);
        at.push_back(look(server.pid, s.can_be_asked));
    }
    const auto add = [&](const std::string& name, const snapshot& from, const snapshot& to, std::size_t more) {
        const auto n = static_cast<double>(more);
        results.add(s.name, name, "rss_anon_bytes_per_connection", (to.rss - from.rss) / n, "B");
        if (to.heap) results.add(s.name, name, "heap_bytes_per_connection", (*to.heap - *from.heap) / n, "B");
    };
    for (std::size_t i = 0; i != cases.size(); ++i)
        add(std::to_string(cases[i]), none, at[i], cases[i] - warm);
    if (cases.size() > 1) add("slope", at.front(), at.back(), cases.back() - cases.front());
    const std::size_t busy = std::min<std::size_t>(load.size(), 10'000);
    const auto add_extra = [&](const char* name) {
        results.add(s.name, name, "rss_anon_extra_bytes_per_connection",
                    (look(server.pid, false).rss - at.back().rss) / static_cast<double>(busy), "B");
    };
    load.begin_lines(busy);
    nap(500); // until the server has read them
    add_extra("mid_frame");
    load.end_lines(busy);
    add_extra("after_frame");
    if (!breakdown || !s.can_be_asked) return;
    std::printf("%s, on the heap for each connection:\n", s.name.c_str());
    const auto n = static_cast<double>(cases.back() - warm);
    for (std::size_t i = 0; i != none.blocks.size(); ++i) {
        const double each = static_cast<double>(at.back().blocks[i] - none.blocks[i]) / n;
        if (each >= 0.02) std::printf("  %6.2f of %zu B\n", each, i * grain);
    }
}

/// What our own sessions are made of.
void print_sizes()
{
    using executor = benchmarks::net::io_context::executor_type;
    using peer = benchmarks::connection<executor>;
    using peer_any = benchmarks::connection<benchmarks::net::any_io_executor>;
    using tcp = benchmarks::tcp;
    std::printf("holdfast's parts, on a concrete executor (and on any_io_executor):\n");
    const auto print = [](const char* what, std::size_t size, std::size_t any) {
        std::printf("  %4zu B (%zu) %s\n", size, any, what);
    };
    print("the socket", sizeof(benchmarks::net::basic_stream_socket<tcp, executor>), sizeof(tcp::socket));
    print("connection: socket, guard, permit, place in the census", sizeof(peer), sizeof(peer_any));
    print("frame_reader", sizeof(benchmarks::reader<executor>),
          sizeof(benchmarks::reader<benchmarks::net::any_io_executor>));
    print("heartbeat, and 12 B in the timer's table", sizeof(holdfast::heartbeat), sizeof(holdfast::heartbeat));
    print("the session of holdfast_callback, which is all of these", sizeof(benchmarks::callback_session), 0);
    std::printf(
        "  Besides: Asio's state of a descriptor and the pending wait (176 and 96 B below), the registry's "
        "node\n"
        "  (40 B); with a coroutine its frame, that of the operation it awaits and that of co_spawn (with\n"
        "  g++ 12 blocks of 320, 208 and 256 B; with any_io_executor 368, 208 and 448). The second needs 176 B,\n"
        "  and has the block of the write before it: Asio recycles frames.\n"
        "  What would take away more: an operation without a cancellation state where the coroutine's slot is\n"
        "  not connected (16 B, for 8 %% more time to compile a server). Frames from exact slabs instead of\n"
        "  malloc's blocks: 32 B of the three, but Asio's promises choose their own allocator.\n");
}

int run(int argc, char** argv)
{
    std::string only;
    std::string only_subject;
    benchmarks::results results{"idle"};
    benchmarks::command_line cli{"idle", "What an idle connection costs the server, in bytes."};
    results.add_options(cli);
    cli.add("case", only, "N", "how many connections; empty: 1000, 5000, 10000 and 19000");
    cli.add("subject", only_subject, "NAME", "one server only, or all");
    if (!cli.parse(argc, argv)) return 0;
    std::vector<std::uint32_t> cases{1000, 5000, 10'000, 19'000};
    if (!only.empty()) {
        const unsigned long n = std::strtoul(only.c_str(), nullptr, 10);
        if (n < 100 || n > 19'900) benchmarks::command_line::fail("case", "must be 100 to 19900");
        cases = {static_cast<std::uint32_t>(n)};
    }
    results.open();
    void* const shared =
        ::mmap(nullptr, sizeof(heap_report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) fail("mmap");
    report = ::new (shared) heap_report;

    std::vector<subject> subjects{
        {"holdfast", benchmarks::serve_holdfast},
        {"holdfast_any", benchmarks::serve_holdfast_any},
        {"holdfast_lean", benchmarks::serve_holdfast_lean},
        {"holdfast_callback", benchmarks::serve_holdfast_callback},
        {"asio_coroutine", benchmarks::serve_asio_coroutine},
        {"asio_callback", benchmarks::serve_asio_callback},
        {"asio_wait", benchmarks::serve_asio_wait},
        {"asio_lean", benchmarks::serve_asio_lean},
        {"epoll", benchmarks::serve_epoll},
    };
#if defined(HOLDFAST_BENCHMARKS_BEAST)
    subjects.push_back({"beast", benchmarks::serve_beast});
#else
    std::printf("Left out: beast (Debian: libboost-dev)\n");
#endif
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
    subjects.push_back({"libuv", benchmarks::serve_libuv});
#else
    std::printf("Left out: libuv (Debian: libuv1-dev)\n");
#endif
#if defined(HOLDFAST_BENCHMARKS_LIBEVENT)
    subjects.push_back({"libevent", benchmarks::serve_libevent});
#else
    std::printf("Left out: libevent (Debian: libevent-dev)\n");
#endif
    const std::string support = SUPPORT_DIRECTORY;
    if (std::system("python3 -c 'import asyncio' 2>/dev/null") == 0)
        subjects.push_back(
            {"asyncio",
             [=](int listener) { benchmarks::exec_server(listener, "python3", (support + "/line_server.py").c_str()); },
             false});
    else
        std::printf("Left out: asyncio (Debian: python3)\n");
    std::array<char, 32> directory{"/tmp/holdfast-idle-XXXXXX"};
    if (::mkdtemp(directory.data()) == nullptr) fail("mkdtemp");
    const std::string go = std::string(directory.data()) + "/line_server";
    if (std::system(("go build -o " + go + " " + support + "/line_server.go 2>/dev/null").c_str()) == 0)
        subjects.push_back({"go", [=](int listener) { benchmarks::exec_server(listener, go.c_str()); }, false});
    else
        std::printf("Left out: go (Debian: golang-go)\n");

    print_sizes();
    bool found = false;
    for (const subject& each : subjects) {
        if (!only_subject.empty() && each.name != only_subject) continue;
        found = true;
        measure(each, cases, results, each.name.starts_with("holdfast"));
    }
    ::unlink(go.c_str());
    ::rmdir(directory.data());
    if (!found) benchmarks::command_line::fail("subject", "there is no such server");
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
