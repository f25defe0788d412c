// holdfast: a snapshot of 100 MB, as JSON, to all clients at once: the memory of the server at its peak, and the time to
// the last byte.
// SPDX-License-Identifier: BSL-1.0
//
// Each server has the rows in memory, sends all of them to each client that connects, and closes. Clients are this
// process; they read as fast as they can. Subjects, each on one thread in a process of its own:
//   holdfast          async_write_streamed: the text is made while it is sent, one chunk of 16 KiB for each client
//   asio_whole        the same serializer, but the whole text first, for each client, then async_write
//   rapidjson         as asio_whole, with RapidJSON's writer
//   rapidjson_shared  the text is made once for all clients that come while it is being sent: the peer at its best, where
//                     all clients get the same rows
//
// Metrics:
//   rss_anon_growth       the most anonymous memory of the server, less that before the first client
//   first_byte            until the last of the clients has its first byte
//   last_byte             until all have their last
//   bytes_per_cpu_second  text sent, for a second of the server's processor time
#include "support/json_rapidjson.hpp"
#include "support/json_rows.hpp"
#include "support/process_time.hpp"
#include "support/results.hpp"
#include "support/rounds.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/write_streamed.hpp>

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using benchmarks::checked;
namespace net = holdfast::net;
using net::ip::tcp;
using std::chrono::steady_clock;
using quotes = std::vector<benchmarks::quote>;

// The servers.

void serve_holdfast(int listener, const quotes& rows)
{
    using acceptor_type = holdfast::bounded_acceptor<tcp>;
    net::io_context io(1);
    acceptor_type acceptor{io.get_executor(), tcp::v4(), listener, {.max_connections = 1000}};
    acceptor.async_serve(
        [&](acceptor_type::connection_type peer) -> net::awaitable<void> {
            co_await holdfast::async_write_streamed<holdfast::json>(peer, std::cref(rows));
            co_await peer.async_close();
        },
        net::detached);
    io.run();
}

/// `text()` makes the text of a client, and has `data()` and `size()` as strings have them.
template <class Text>
net::awaitable<void> send_whole(tcp::socket peer, const Text& text)
{
    const auto whole = text();
    co_await net::async_write(peer, net::buffer(whole->data(), whole->size()), net::use_awaitable);
}

template <class Text>
void serve_whole(int listener, const Text& text)
{
    net::io_context io(1);
    net::co_spawn(
        io,
        [&]() -> net::awaitable<void> {
            tcp::acceptor acceptor(io, tcp::v4(), listener);
            for (;;)
                net::co_spawn(io, send_whole(co_await acceptor.async_accept(net::use_awaitable), text), net::detached);
        },
        net::detached);
    io.run();
}

std::shared_ptr<const std::string> whole_text(const quotes& rows)
{
    holdfast::streaming_serializer<holdfast::json, std::reference_wrapper<const quotes>> source{std::cref(rows)};
    auto text = std::make_shared<std::string>(holdfast::serialized_size<holdfast::json>(rows), '\0');
    std::error_code ec;
    for (std::size_t at = 0; !source.done() && !ec;)
        at += source.next(std::span(*text).subspan(at), ec).size();
    if (ec) throw std::system_error(ec);
    return text;
}

#if HAVE_RAPIDJSON
class rapidjson_whole {
public:
    explicit rapidjson_whole(const quotes& rows)
    {
        benchmarks::rapidjson_writer<benchmarks::rapidjson_text<>> writer(text_);
        benchmarks::rapidjson_put(writer, rows);
    }
    [[nodiscard]] const char* data() const { return text_.GetString(); }
    [[nodiscard]] std::size_t size() const { return text_.GetSize(); }

private:
    mutable benchmarks::rapidjson_text<> text_;
};
#endif

// The clients.

struct figures {
    double growth = 0;
    double first_byte = 0;
    double last_byte = 0;
    double bytes_per_cpu_second = 0;
};

class clients {
public:
    clients(const ::sockaddr_in& server, std::uint32_t n)
        : poll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")), read_(n, 0)
    {
        for (std::uint32_t i = 0; i != n; ++i) {
            sockets_.push_back(benchmarks::connect_client(server, i));
            ::epoll_event event{EPOLLIN, {.u32 = i}};
            checked(::epoll_ctl(poll_, EPOLL_CTL_ADD, sockets_.back(), &event), "epoll_ctl");
        }
    }
    clients(const clients&) = delete;
    ~clients()
    {
        for (const int each : sockets_)
            benchmarks::reset_client(each);
        ::close(poll_);
    }

    /// Reads a part from each client that has some; waits for 10 s at most. Whether any had.
    bool poll()
    {
        std::array<::epoll_event, 64> events;
        const int n = ::epoll_wait(poll_, events.data(), events.size(), 10'000);
        for (int i = 0; i < n; ++i) {
            const std::uint32_t number = events[static_cast<std::size_t>(i)].data.u32;
            const ::ssize_t size = ::recv(sockets_[number], waste_.data(), waste_.size(), MSG_DONTWAIT);
            if (size <= 0) {
                checked(::epoll_ctl(poll_, EPOLL_CTL_DEL, sockets_[number], nullptr), "epoll_ctl");
                ++ended_;
                continue;
            }
            if (read_[number] == 0) ++begun_;
            read_[number] += static_cast<std::uint64_t>(size);
        }
        return n > 0;
    }

    [[nodiscard]] bool all_have_begun() const { return begun_ == sockets_.size(); }
    [[nodiscard]] bool all_have_ended() const { return ended_ == sockets_.size(); }
    [[nodiscard]] const std::vector<std::uint64_t>& bytes() const { return read_; }

private:
    int poll_;
    std::vector<int> sockets_;
    std::vector<std::uint64_t> read_;
    std::size_t begun_ = 0, ended_ = 0;
    std::vector<char> waste_ = std::vector<char>(256 * 1024);
};

figures measure(const std::function<void(int)>& serve, std::uint32_t n, std::uint64_t text_bytes)
{
    const benchmarks::server_process server(serve);
    const double before = benchmarks::rss_anon(server.pid);
    const benchmarks::process_time cpu(server.pid);
    const auto start = steady_clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(steady_clock::now() - start).count(); };
    clients all(server.address, n);
    figures result;
    double most = before;
    for (double sampled = 0; !all.all_have_ended();) {
        if (!all.poll()) throw std::runtime_error("the server stopped sending");
        if (result.first_byte == 0 && all.all_have_begun()) result.first_byte = elapsed();
        if (elapsed() - sampled < 0.002) continue;
        sampled = elapsed();
        most = std::max(most, benchmarks::rss_anon(server.pid));
    }
    result.last_byte = elapsed();
    result.growth = most - before;
    double sum = 0;
    for (const std::uint64_t each : all.bytes()) {
        if (each < text_bytes || each > text_bytes + text_bytes / 50) // RapidJSON writes 1.0 where we write 1
            throw std::runtime_error("a client got a text of another length: " + std::to_string(each) + " bytes");
        sum += static_cast<double>(each);
    }
    result.bytes_per_cpu_second = sum / cpu.seconds();
    return result;
}

using subject = benchmarks::subject<figures>;

int run(int argc, char** argv)
{
    std::uint32_t connections = 8;
    std::uint32_t megabytes = 100;
    std::uint32_t rounds = 3;
    benchmarks::results results{"snapshot"};
    benchmarks::command_line cli{"snapshot",
                                 "A long text to all clients at once: memory, and the time to the last byte."};
    results.add_options(cli);
    cli.add("clients", connections, "N", "clients at the same time; servers that make the text whole take it for each");
    cli.add("megabytes", megabytes, "N", "the length of the text, about");
    benchmarks::add_rounds(cli, rounds);
    if (!cli.parse(argc, argv)) return 0;
    if (connections == 0 || connections > 64 || megabytes == 0 || megabytes > 1000 || rounds == 0)
        throw benchmarks::usage_error("--clients must be 1 to 64, --megabytes 1 to 1000, --rounds at least 1");
    results.open();
    constexpr std::size_t row_bytes = 128; // in the text
    const quotes rows = benchmarks::make_quotes(std::size_t{megabytes} * 1'000'000 / row_bytes);
    std::vector<subject> subjects{
        {"holdfast", [&](int listener) { serve_holdfast(listener, rows); }},
        {"asio_whole", [&](int listener) { serve_whole(listener, [&] { return whole_text(rows); }); }},
#if HAVE_RAPIDJSON
        {"rapidjson",
         [&](int listener) { serve_whole(listener, [&] { return std::make_unique<rapidjson_whole>(rows); }); }},
        {"rapidjson_shared",
         [&](int listener) {
             std::weak_ptr<rapidjson_whole> current;
             serve_whole(listener, [&] {
                 auto text = current.lock();
                 if (!text) current = text = std::make_shared<rapidjson_whole>(rows);
                 return text;
             });
         }},
#endif
    };
    if (!HAVE_RAPIDJSON) std::puts("rapidjson is left out: <rapidjson/writer.h> was not found (apt: rapidjson-dev)");
    const std::uint64_t text_bytes = holdfast::serialized_size<holdfast::json>(rows);
    benchmarks::run_rounds<figures>(results, subjects, rounds, std::to_string(connections),
                                    [&](const auto& serve) { return measure(serve, connections, text_bytes); },
                                    {{"rss_anon_growth", &figures::growth, "B"},
                                     {"first_byte", &figures::first_byte, "s"},
                                     {"last_byte", &figures::last_byte, "s"},
                                     {"bytes_per_cpu_second", &figures::bytes_per_cpu_second, "B/cpu_s"}});
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
