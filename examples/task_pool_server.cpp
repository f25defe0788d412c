// holdfast: task_pool_server, where each request is split into parts that are computed at the same time, with
// a limit for each client and one for all clients.
// SPDX-License-Identifier: BSL-1.0
//
// A client sends jobs, a line each, "FIRST LAST": how many primes are there from one to the other? The range
// is cut into parts, and the answers come in order, a line each, while later parts are still being computed:
//
//     $ printf '1 25000\nwhat\n' | nc 127.0.0.1 7777
//     {"job":1,"part":1,"parts":3,"primes":1229}
//     {"job":1,"part":2,"parts":3,"primes":1033}
//     {"job":1,"part":3,"parts":3,"primes":500}
//     {"job":2,"error":"give two whole numbers, FIRST LAST, from 1 to 1000000000"}
//
// What keeps it bounded, whatever clients ask for:
//   - bounded_spawner: a client has at most --parts-per-client parts, and nothing is read from it while it has
//     that many; when the connection is reset, or the client does not read an answer, they are cancelled, and
//     its session ends when the last part has ended;
//   - async_semaphore: --at-once parts are computed at a time, on as many threads; the others wait, first in,
//     first out, and cost only an entry in the queue;
//   - heartbeat_timer: a client is watched while the server waits for its input, and not while it waits for answers.
#include "support/capacity.hpp"
#include "support/command_line.hpp"
#include "support/listening.hpp"
#include "support/log.hpp"
#include "support/offload.hpp"
#include "support/tls_option.hpp"

#include <holdfast/holdfast.hpp>
#include <holdfast/server/admin_socket.hpp>
#include <holdfast/server/drain_at_signal.hpp>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <optional>
#include <ostream>
#include <thread>

#include <unistd.h>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t max_line = 64, chunk = 256;

/// What a client asks for.
struct job {
    static constexpr std::uint32_t most = 1'000'000'000;
    std::uint32_t first = 0, last = 0;
};

std::optional<job> parse_job(std::string_view line)
{
    job asked;
    const char* const end = line.data() + line.size();
    const auto [blank, bad_first] = std::from_chars(line.data(), end, asked.first);
    if (bad_first != std::errc{} || blank == end || *blank != ' ') return std::nullopt;
    const auto [rest, bad_last] = std::from_chars(blank + 1, end, asked.last);
    if (bad_last != std::errc{} || rest != end) return std::nullopt;
    if (asked.first == 0 || asked.first > asked.last || asked.last > job::most) return std::nullopt;
    return asked;
}

/// The work, and the one thing here that is slow. It looks now and then whether it is still wanted.
std::uint32_t count_primes(const job& part, const std::stop_token& stop)
{
    const auto is_prime = [](std::uint32_t n) {
        for (std::uint32_t divisor = 2; divisor * divisor <= n; ++divisor)
            if (n % divisor == 0) return false;
        return n > 1;
    };
    std::uint32_t primes = 0;
    for (std::uint32_t n = part.first; n <= part.last && !stop.stop_requested(); ++n)
        primes += is_prime(n) ? 1 : 0;
    return primes;
}

struct answer {
    std::uint64_t job;
    std::uint32_t part, parts, primes = 0;
};

struct refusal {
    std::uint64_t job;
    std::string_view error = "give two whole numbers, FIRST LAST, from 1 to 1000000000";
};

struct log_end {
    void operator()(const holdfast::connection_end& end) const noexcept { examples::log_line(end); }
};
using acceptor = holdfast::bounded_acceptor<tcp, log_end>;

/// What all sessions share. They run on one thread; only the work is on others.
struct task_pool {
    task_pool(net::io_context& io, std::size_t at_once, std::chrono::milliseconds timeout)
        : heartbeats(io.get_executor(), {.tick = timeout / 8, .timeout = timeout}),
          room(io.get_executor(), at_once),
          threads(at_once)
    {
    }

    void report(std::ostream& out, const holdfast::census& members) const
    {
        members.report(out);
        out << "parts: " << begun << " begun, " << finished << " sent, " << room.in_use() << " at work (at most "
            << most_at_work << "), " << room.waiting() << " waiting" << std::endl;
    }

    holdfast::heartbeat_timer<> heartbeats;
    holdfast::async_semaphore room;
    net::thread_pool threads;
    std::size_t most_at_work = 0;
    std::uint64_t begun = 0, finished = 0;
};

/// One client. The parts of its jobs are numbered, through all of them: so much it was promised, and so much
/// it has.
template <class Connection>
struct session {
    session(Connection& client, task_pool& all)
        : peer(client), pool(all), heartbeat(all.heartbeats.watch(client)), turn(client.stream().get_executor())
    {
    }

    /// The number of a part that is about to be spawned. From now on it is the client that waits.
    std::uint64_t promise() noexcept
    {
        heartbeat.release();
        return promised++;
    }

    Connection& peer;
    task_pool& pool;
    holdfast::heartbeat heartbeat;       // while nothing that was promised is left to be sent
    holdfast::unsynchronized_event turn; // notified when an answer was sent
    std::uint64_t promised = 0, sent = 0;
};

/// Sends what part `number` has to say, after all that come before it. It waits in its child's slot: so no
/// more answers are kept than a client may have parts.
template <class Connection, class Message>
net::awaitable<void> send_in_turn(session<Connection>& mine, std::uint64_t number, Message message)
{
    while (mine.sent != number)
        co_await mine.turn.async_wait();
    auto heartbeat = mine.pool.heartbeats.watch(mine.peer); // the socket must take some of it in time
    co_await holdfast::async_write_streamed<holdfast::ndjson>(mine.peer, message,
                                                              {.chunk_bytes = chunk, .progress = heartbeat});
    if (++mine.sent == mine.promised) mine.heartbeat = mine.pool.heartbeats.watch(mine.peer);
    mine.turn.notify_all();
}

template <class Connection>
net::awaitable<void> compute(session<Connection>& mine, std::uint64_t number, job part, answer result)
{
    task_pool& pool = mine.pool;
    ++pool.begun;
    auto place = co_await pool.room.async_acquire(1);
    pool.most_at_work = std::max(pool.most_at_work, pool.room.in_use());
    result.primes = co_await examples::async_offload(
        pool.threads, [part](const std::stop_token& stop) { return count_primes(part, stop); });
    place.release();
    co_await send_in_turn(mine, number, result);
    ++pool.finished;
}

template <class Connection>
net::awaitable<void> serve(Connection peer, task_pool& pool, std::size_t max_parts, std::uint32_t part_size)
{
    session<Connection> mine(peer, pool);
    co_await holdfast::async_with_spawner(
        {.max_children = max_parts}, [&](holdfast::bounded_spawner& children) -> net::awaitable<void> {
            holdfast::frame_reader lines{peer, {.max_frame_bytes = max_line}};
            for (std::uint64_t number = 1; const auto line = co_await lines.async_next(); ++number) {
                const auto asked = parse_job(*line);
                if (!asked) co_await children.async_spawn(send_in_turn(mine, mine.promise(), refusal{number}));
                if (!asked) continue;
                answer next{.job = number, .part = 1, .parts = (asked->last - asked->first) / part_size + 1};
                for (job part = *asked; next.part <= next.parts; ++next.part, part.first += part_size) {
                    part.last = std::min(part.first + part_size - 1, asked->last);
                    co_await children.async_spawn(compute(mine, mine.promise(), part, next));
                }
            }
        });
    co_await peer.async_close();
}

/// What one connection takes at most: its session, and as many parts as a client may have.
constexpr holdfast::connection_cost cost(std::size_t max_parts)
{
    constexpr std::size_t session = 6 * 1024, part = 3 * 1024; // of both mostly the frames of coroutines
    return {.session_bytes = session + max_parts * part,
            .frame_bytes = max_line,
            .chunk_bytes = chunk,
            .send_buffer_bytes = 16 * 1024,
            .receive_buffer_bytes = 4096};
}

int run(int argc, char** argv)
{
    std::string address = "127.0.0.1", admin_path;
    std::uint16_t port = 7777;
    std::uint32_t max_connections = 1000, max_parts = 4, at_once = 0, part_size = 10'000;
    std::chrono::milliseconds timeout = 30s, deadline = 10s;
    examples::command_line cli{"task_pool_server",
                               "Computes what its clients ask for in parts, never too many at once."};
    cli.add("address", address, "IP", "the address to listen on");
    cli.add("port", port, "N", "the port to listen on; 0: one that the kernel chooses");
    cli.add("max-connections", max_connections, "N", "connections served at once");
    cli.add("parts-per-client", max_parts, "N", "parts of one client, running or waiting");
    cli.add("at-once", at_once, "N", "parts of all clients that run at once; 0: one for each CPU");
    cli.add("part", part_size, "N", "numbers in each part");
    cli.add("timeout", timeout, "TIME", "a client that neither sends nor reads for this time is disconnected");
    cli.add("drain", deadline, "TIME", "after SIGTERM, the time that jobs have to end before they are aborted");
    cli.add("admin", admin_path, "PATH", "a local socket that answers with the census, as JSON; empty: none");
    examples::tls_option tls;
    tls.add_to(cli);
    if (!cli.parse(argc, argv)) return 0;
    tls.load();
    if (max_parts == 0) examples::command_line::fail("parts-per-client", "must be at least 1");
    if (part_size == 0 || part_size > job::most) examples::command_line::fail("part", "must be 1 to 1000000000");
    if (timeout < 8ms || timeout > 12h) examples::command_line::fail("timeout", "must be 8ms to 720m");
    if (at_once > 1024) examples::command_line::fail("at-once", "must be at most 1024");
    if (at_once == 0) at_once = std::max(std::thread::hardware_concurrency(), 1U);
    const tcp::endpoint endpoint = examples::listen_endpoint(address, port);
    const auto capacity = examples::plan_capacity(max_connections, tls.cost(cost(max_parts)), tls.fixed_bytes());

    const examples::log_queue log;
    net::io_context io(1);
    task_pool pool(io, at_once, timeout);
    acceptor clients{io.get_executor(), endpoint,
                     holdfast::acceptor_options{
                         .max_connections = max_connections,
                         .send_buffer_bytes = static_cast<int>(capacity.plan.cost().send_buffer_bytes),
                         .receive_buffer_bytes = static_cast<int>(capacity.plan.cost().receive_buffer_bytes),
                         .on_event = [](const auto& event) { examples::log_line("task_pool_server: ", event); }}};
    std::optional<holdfast::admin_socket> admin;
    if (!admin_path.empty()) admin.emplace(io.get_executor(), admin_path, clients.census(), pool.heartbeats);
    const auto report = [&] { examples::log_text([&](std::ostream& out) { pool.report(out, clients.census()); }); };
    const holdfast::drain_at_signal stop{
        // jobs that have come are finished, up to the deadline
        clients,
        {.drain = {.deadline = deadline},
         .on_drained = [](std::size_t reset) { examples::log_line("task_pool_server: drained, ", reset, " reset"); },
         .on_report = report,
         .on_reload = tls.reloader("task_pool_server")}};
    tls.serve(clients, [&](auto peer) { return serve(std::move(peer), pool, max_parts, part_size); });
    std::cout << "task_pool_server: listening on " << clients.local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("task_pool_server");
    io.run(); // returns when the drain is over and the last session has ended
    report();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
