// holdfast: instructions of the hot paths, one path at a time, counted by callgrind: benchmarks/run --guard.
// SPDX-License-Identifier: BSL-1.0
//
// Prints the compiler, then "PATH TIMES" for each path. Under callgrind it makes a dump for each, whose trigger is the path's name; it must
// be started with --instr-atstart=no. Counts do not depend on the load of the machine, as times do; they depend on the
// compiler, so the figures that are compared with are those of one compiler.
#include "support/holdfast_sessions.hpp"
#include "support/json_rows.hpp"
#include "support/json_sink.hpp"
#include "support/writers.hpp"

#include <holdfast/adapters/simdjson.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/framing.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/testing/manual_clock.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#if !defined(ASIO_VERSION)
#define ASIO_VERSION BOOST_ASIO_VERSION
#endif

namespace {

using namespace benchmarks;
using executor = net::io_context::executor_type;

/// Counts the instructions of `work`, which does the same thing `times` times, after one call that is not counted.
template <class Work>
void count(const char* path, unsigned times, Work work)
{
    work();
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    work();
    CALLGRIND_DUMP_STATS_AT(path);
    CALLGRIND_STOP_INSTRUMENTATION;
    std::printf("%s %u\n", path, times);
}

/// A heartbeat timer of a clock that stands still, and what it watches.
void heartbeats()
{
    constexpr std::size_t connections = 100'000;
    net::io_context io(1);
    std::size_t timed_out = 0;
    holdfast::heartbeat_timer<executor, holdfast::manual_clock> timer{io.get_executor(), {.tick = 1s, .timeout = 60s}};
    std::vector<holdfast::heartbeat> watched;
    watched.reserve(connections);
    for (std::size_t i = 0; i != connections; ++i)
        watched.push_back(timer.watch([&timed_out]() noexcept { ++timed_out; }));
    io.poll();
    count("heartbeat_touch", connections, [&] {
        for (auto& each : watched)
            each.touch();
    });
    count("heartbeat_tick_of_100k", 1, [&] {
        holdfast::manual_clock::advance(1s);
        io.poll();
    });
    if (timed_out != 0 || watched[0].age() != 2) throw std::logic_error("the ticks did not come");
}

void semaphores()
{
    constexpr unsigned times = 10'000;
    net::io_context io(1);
    holdfast::async_semaphore semaphore{io, 4};
    holdfast::unsynchronized_semaphore unsynchronized{io, 4};
    count("semaphore_try_acquire_release", times, [&] {
        for (unsigned i = 0; i != times; ++i)
            if (!semaphore.try_acquire()) throw std::logic_error("no permit");
    });
    count("unsynchronized_semaphore_try_acquire_release", times, [&] {
        for (unsigned i = 0; i != times; ++i)
            if (!unsynchronized.try_acquire()) throw std::logic_error("no permit");
    });
}

void serializers()
{
    constexpr unsigned rows = 2000;
    sink ring;
    const auto rows_of = [&](const char* path, const auto& source) {
        count(path, rows, [&] { stream<holdfast::json>(source, 16 * 1024, ring); });
    };
    const auto quotes = make_quotes(rows);
    rows_of("json_quote", quotes);
    rows_of("json_quote_five_decimals", make_quotes(rows, prices::five_decimals));
    rows_of("json_quote_any_digits", make_quotes(rows, prices::any_digits));
    const auto logs = make_logs(rows);
    rows_of("json_log", logs);
    rows_of("json_log_escaped", make_logs(rows, true));
    const auto document_of = [&](const char* path, const auto& source) {
        simdjson::dom::parser parser;
        const simdjson::dom::element document = parser.parse(holdfast::serialize_to_string<holdfast::json>(source));
        rows_of(path, document);
    };
    document_of("json_document_log", logs);
    document_of("json_document_quote", quotes);
    count("json_quote_in_64_bytes", rows, [&] { stream<holdfast::json>(quotes, 64, ring); });
}

/// A listening socket of the loopback, and blocking clients of it.
class clients {
public:
    clients() : listener(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"))
    {
        address_.sin_family = AF_INET;
        address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::socklen_t size = sizeof address_;
        checked(::bind(listener, reinterpret_cast<::sockaddr*>(&address_), size), "bind");
        checked(::listen(listener, 64), "listen");
        checked(::getsockname(listener, reinterpret_cast<::sockaddr*>(&address_), &size), "getsockname");
    }

    int connect() const
    {
        const int client = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        checked(::connect(client, reinterpret_cast<const ::sockaddr*>(&address_), sizeof address_), "connect");
        const int on = 1;
        ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        const ::timeval time_limit{10, 0};
        ::setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &time_limit, sizeof time_limit);
        return client;
    }

    static int checked(int result, const char* what)
    {
        if (result < 0) throw std::system_error(errno, std::generic_category(), what);
        return result;
    }

    static void send(int client, std::string_view text)
    {
        if (::send(client, text.data(), text.size(), MSG_NOSIGNAL) != std::ssize(text))
            throw std::system_error(errno, std::generic_category(), "send");
    }

    /// Reads so much, which the server has written.
    static void expect(int client, std::size_t bytes)
    {
        static std::array<char, 65536> buffer;
        if (::recv(client, buffer.data(), bytes, MSG_WAITALL) != static_cast<::ssize_t>(bytes))
            throw std::logic_error("the server has not answered");
    }

    const int listener;

private:
    ::sockaddr_in address_{};
};

/// The server of the benchmark echo, and a client in the same thread: what it sends has arrived when `send` returns.
void connections()
{
    constexpr unsigned times = 1000;
    net::io_context io(1);
    holdfast::heartbeat_timer<executor> heart{io.get_executor(), {.tick = 1s, .timeout = 30s}};
    holdfast::buffer_pool buffers{io.get_executor()};
    clients from;
    acceptor<executor> served{io.get_executor(), tcp::v4(), from.listener, {.max_connections = 100}};
    served.async_serve([&](connection<executor> peer) { return session(std::move(peer), heart, buffers); },
                       net::detached);
    io.poll();

    const int client = from.connect();
    io.poll();
    count("echo", times, [&] {
        for (unsigned i = 0; i != times; ++i) {
            clients::send(client, "hello, this is a line of 32 byte\n");
            io.poll();
            clients::expect(client, 33);
        }
    });
    std::string lines;
    for (int i = 0; i != 100; ++i)
        lines += "hello\n";
    count("echo_of_100_lines_at_once", 100, [&] {
        clients::send(client, lines);
        io.poll();
        clients::expect(client, lines.size());
    });
    count("accept_and_close", 100, [&] {
        for (int i = 0; i != 100; ++i) {
            const int other = from.connect();
            io.poll();
            ::close(other);
            io.poll();
        }
    });
    ::close(client);
    io.poll();
    served.close();
    io.run();
}

void outboxes()
{
    constexpr unsigned times = 1000;
    net::io_context io(1);
    const auto open = net::make_work_guard(io); // poll() never stops it
    clients from;
    const int client = from.connect();
    using socket = net::basic_stream_socket<tcp, executor>;
    socket stream{io, tcp::v4(), clients::checked(::accept4(from.listener, nullptr, nullptr, SOCK_CLOEXEC), "accept")};
    holdfast::outbox<socket> outbox{stream, {.high_watermark = 64 * 1024}};
    const holdfast::payload message{std::string(64, '.'), holdfast::payload_sharing::one_thread};
    for (const unsigned burst : {1U, 16U})
        count(burst == 1 ? "outbox_message" : "outbox_message_of_16", times * burst, [&] {
            for (unsigned i = 0; i != times; ++i) {
                for (unsigned k = 0; k != burst; ++k)
                    if (outbox.push(message)) throw std::logic_error("not queued");
                io.poll();
                clients::expect(client, std::size_t{64} * burst);
            }
        });
    ::close(client);
}

} // namespace

int main()
try {
    std::printf("%s, Asio %d\n", __VERSION__, ASIO_VERSION);
    heartbeats();
    semaphores();
    serializers();
    connections();
    outboxes();
} catch (const std::exception& error) {
    std::fprintf(stderr, "instructions: %s\n", error.what());
    return 1;
}
