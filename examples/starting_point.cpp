// holdfast: starting_point, a file to begin a server of your own with. It needs the library alone.
// SPDX-License-Identifier: BSL-1.0
//
// A line "get KEY" is answered by {"key":"KEY","value":...}. Replace `answer` and `serve` by what your server does, and
// the figures of `cost` by what it needs. The program checks before it starts that all connections fit into the memory,
// drains at SIGTERM, logs its census at SIGUSR1, and answers it as JSON on a local socket where one is named:
//
//     starting_point [PORT [ADMIN_SOCKET]]
#include <holdfast/holdfast.hpp>
#include <holdfast/server/admin_socket.hpp>
#include <holdfast/server/drain_at_signal.hpp>
#include <holdfast/server/line_log.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t max_connections = 1000;

/// What one connection takes at most, in the process and in the kernel.
constexpr holdfast::connection_cost cost{.session_bytes = 4096,
                                         .frame_bytes = 4096,
                                         .chunk_bytes = 4096,
                                         .send_buffer_bytes = 16 * 1024,
                                         .receive_buffer_bytes = 16 * 1024};

struct answer {
    std::string_view key;
    std::optional<std::size_t> value;
};

holdfast::line_log server_log; // drops lines where the log's reader does not read, instead of blocking

struct log_end {
    void operator()(const holdfast::connection_end& end) const noexcept { server_log(end); }
};
using acceptor = holdfast::bounded_acceptor<tcp, log_end>;

/// Serves one client. Whichever way this returns or throws, the connection is closed and its permit is free.
net::awaitable<void> serve(acceptor::connection_type peer, holdfast::heartbeat_timer<>& heartbeats)
{
    auto heartbeat = heartbeats.watch(peer); // a silent client is disconnected
    holdfast::frame_reader lines{peer, {.max_frame_bytes = cost.frame_bytes}};
    while (const auto line = co_await lines.async_next()) { // until the client ends its stream, or a drain
        heartbeat.touch();
        const std::string_view key = line->substr(line->starts_with("get ") ? 4 : line->size());
        const answer found{key, key.empty() ? std::nullopt : std::optional(key.size())};
        co_await holdfast::async_write_streamed<holdfast::ndjson>(
            peer, found, {.chunk_bytes = cost.chunk_bytes, .progress = heartbeat});
    }
    co_await peer.async_close(); // all that was written arrives
}

/// Throws where not all connections fit into the memory and the descriptors that there are.
void check_capacity()
{
    std::error_code error;
    holdfast::raise_descriptor_limit(max_connections + 32, error);
    if (error) throw std::system_error(error, "the limit of descriptors is too low: raise it with ulimit -n");
    const std::uint64_t memory = holdfast::read_memory_limit(error);
    if (error) throw std::system_error(error, "the memory limit cannot be read");
    const holdfast::capacity_plan plan{cost, {.memory_bytes = memory}};
    server_log(plan);
    if (plan.max_connections() < max_connections)
        throw std::runtime_error("not all connections fit into the memory: lower max_connections");
}

void run(std::uint16_t port, const std::string& admin_path)
{
    check_capacity();
    net::io_context io(1);
    holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.timeout = 30s}};
    acceptor clients{io.get_executor(),
                     {tcp::v4(), port},
                     {.max_connections = max_connections,
                      .send_buffer_bytes = cost.send_buffer_bytes,
                      .receive_buffer_bytes = cost.receive_buffer_bytes,
                      .on_event = [](const holdfast::acceptor_event& event) { server_log(event); }}};
    std::optional<holdfast::admin_socket> admin;
    if (!admin_path.empty()) admin.emplace(io.get_executor(), admin_path, clients.census(), heartbeats);
    const auto report = [&] {
        std::ostringstream text;
        clients.census().report(text);
        server_log(text.view());
    };
    const holdfast::drain_at_signal stop{clients, {.drain = {.deadline = 10s}, .on_report = report}};
    clients.async_serve([&](auto peer) { return serve(std::move(peer), heartbeats); }, net::detached);
    server_log("starting_point: listening on ", clients.local_endpoint());
    io.run(); // returns when the drain is over
}

} // namespace

int main(int argc, char** argv)
try {
    std::uint16_t port = 7777;
    const std::string_view text = argc > 1 ? argv[1] : "7777";
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size())
        return (text == "--help" ? std::cout : std::cerr) << "usage: starting_point [PORT [ADMIN_SOCKET]]\n",
               text == "--help" ? 0 : 2;
    run(port, argc > 2 ? argv[2] : "");
} catch (const std::exception& error) {
    return std::cerr << "starting_point: " << error.what() << '\n', 1;
}
