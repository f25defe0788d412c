// holdfast: tests of ends that race: of several causes at once one wins, and the finalizer runs once.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

using holdfast::close_reason;
using holdfast::error_code;
using tests::tcp;
namespace net = holdfast::net;

namespace {

struct count_end {
    std::array<std::atomic<int>, holdfast::close_reason_count>* by_reason;
    void operator()(const holdfast::connection_end& end) const noexcept
    {
        ++(*by_reason)[static_cast<std::size_t>(end.reason)];
    }
};

/// Runs `io` on several threads until it has no work, for 30 seconds at most.
void run_on_threads(net::io_context& io, int threads)
{
    std::vector<std::thread> pool;
    for (int i = 0; i != threads; ++i)
        pool.emplace_back([&] { io.run_for(std::chrono::seconds(30)); });
    for (auto& each : pool)
        each.join();
    REQUIRE(io.stopped());
}

} // namespace

TEST_CASE("two causes race on one strand that four threads drive: each guard ends once, for the first that ran")
{
    using strand_socket = net::basic_stream_socket<tcp, net::strand<net::io_context::executor_type>>;
    std::array<std::atomic<int>, holdfast::close_reason_count> ends{};
    constexpr int guards = 200;
    struct contested {
        explicit contested(holdfast::connection_guard<strand_socket, count_end> p) : peer(std::move(p)) {}
        holdfast::connection_guard<strand_socket, count_end> peer;
        close_reason first = close_reason::none; // belongs to the strand
    };
    net::io_context io;
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    std::vector<tcp::socket> clients;
    std::vector<std::unique_ptr<contested>> all;
    for (int i = 0; i != guards; ++i) {
        clients.emplace_back(io).connect(listener.local_endpoint());
        strand_socket socket(net::make_strand(io));
        listener.accept(socket);
        all.push_back(std::make_unique<contested>(holdfast::connection_guard(std::move(socket), count_end{&ends})));
    }
    for (auto& each : all) {
        auto* one = each.get();
        for (const auto cause : {close_reason::heartbeat_timeout, close_reason::send_queue_overflow})
            net::post(io, [one, cause] { // from any of the threads to the strand
                net::dispatch(one->peer.get_executor(), [one, cause] {
                    if (one->first == close_reason::none) one->first = cause;
                    one->peer.abort(cause);
                });
            });
    }
    run_on_threads(io, 4);
    int total = 0;
    for (const auto& n : ends)
        total += n;
    CHECK(total == guards);
    for (const auto& each : all)
        CHECK(each->peer.reason() == each->first);
}

TEST_CASE("connections are ended through the registry by one thread while others serve, close and lose them")
{
    std::array<std::atomic<int>, holdfast::close_reason_count> ends{};
    using acceptor_type = holdfast::bounded_acceptor<tcp, count_end>;
    constexpr int connections = 400;
    net::io_context io;
    acceptor_type acceptor{
        io.get_executor(), {net::ip::address_v4::loopback(), 0}, {.max_connections = 50}, count_end{&ends}};
    acceptor.async_serve(
        [](acceptor_type::connection_type peer) -> net::awaitable<void> {
            char byte;
            co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::use_awaitable);
            peer.close(close_reason::local);
        },
        net::detached);
    std::atomic<bool> over = false;
    std::atomic<int> ended_from_elsewhere = 0;
    std::thread elsewhere([&] {
        const auto census = acceptor.census();
        while (!over)
            census.for_each([&](const holdfast::census_entry& entry) {
                if (entry.id % 3 == 0 && acceptor.end(entry.id, close_reason::refused)) ++ended_from_elsewhere;
            });
    });
    std::thread clients([&] {
        net::io_context own;
        std::mt19937 random(7);
        for (int i = 0; i != connections; ++i) {
            tcp::socket client(own);
            client.connect(acceptor.local_endpoint());
            error_code ignored;
            switch (random() % 3) {
            case 0:
                client.write_some(net::buffer("x", 1), ignored);
                break;
            case 1:
                client.set_option(net::socket_base::linger(true, 0), ignored);
                break;
            default:
                break;
            }
        }
        while (acceptor.census().ended() != connections)
            std::this_thread::yield();
        acceptor.close();
        over = true;
    });
    run_on_threads(io, 4);
    clients.join();
    elsewhere.join();
    int total = 0;
    for (const auto& n : ends)
        total += n;
    CHECK(total == connections);
    CHECK(acceptor.census().live() == 0);
    CHECK(ends[static_cast<std::size_t>(close_reason::refused)] <= ended_from_elsewhere);
    for (std::size_t i = 0; i != ends.size(); ++i)
        CHECK(acceptor.census().ended(static_cast<close_reason>(i)) == static_cast<std::uint64_t>(ends[i]));
}
