// holdfast: callback_server, a session in completion handlers, without coroutines. It needs the library alone.
// SPDX-License-Identifier: BSL-1.0
//
// A message is preceded by its length in four bytes, in both directions. Each one that a client sends is answered by
// {"number":N,"text":"..."}. An idle connection takes less than half of the memory that it takes with a coroutine. Try
// it with:
//
//     callback_server [PORT]
//     printf '\0\0\0\5hello' | nc -q 1 127.0.0.1 7777
#include <holdfast/holdfast.hpp>
#include <holdfast/server/drain_at_signal.hpp>
#include <holdfast/server/line_log.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace net = holdfast::net;
using net::ip::tcp;
using namespace std::chrono_literals;

namespace {

holdfast::line_log server_log; // drops lines where the log's reader does not read, instead of blocking

struct log_end {
    void operator()(const holdfast::connection_end& end) const noexcept { server_log(end); }
};
using acceptor = holdfast::bounded_acceptor<tcp, log_end>;
using connection = acceptor::connection_type;
using framing = holdfast::framing::u32_length<>;

struct reply {
    std::uint64_t number;
    std::string_view text;
};

/// One client. The pending operation owns the session. Where a handler begins no other one, the session is destroyed,
/// which closes the connection; the connection knows the error of the operation that failed, and the log has it.
class session : public std::enable_shared_from_this<session> {
public:
    session(connection peer, holdfast::heartbeat_timer<>& heartbeats)
        : peer_(std::move(peer)),
          heartbeat_(heartbeats.watch(peer_)),
          messages_(peer_, {.max_frame_bytes = 4096, .progress = heartbeat_})
    {
    }

    void read()
    {
        messages_.async_next([self = shared_from_this()](holdfast::error_code error, auto message) {
            if (error) return;
            if (!message) return self->close();
            self->answer(*message);
        });
    }

private:
    /// The next message is read when this one has been answered, so that a client that does not read makes no queue.
    void answer(std::string_view message)
    {
        // The view is valid until the next read.
        const holdfast::framed json{framing{}, holdfast::json{}};
        holdfast::async_write_streamed(peer_, holdfast::formatted(reply{++number_, message}, json),
                                       {.progress = heartbeat_},
                                       [self = shared_from_this()](holdfast::error_code error, std::size_t) {
                                           if (!error) self->read();
                                       });
    }

    /// At the end of the client's stream, or at a drain: all that was written arrives.
    void close() { peer_.async_close(net::detached); }

    connection peer_; // first, since the others refer to it
    holdfast::heartbeat heartbeat_;
    holdfast::frame_reader<connection, framing> messages_;
    std::uint64_t number_ = 0;
};

void run(std::uint16_t port)
{
    net::io_context io(1);
    holdfast::heartbeat_timer<> heartbeats{io, {.timeout = 30s}};
    acceptor clients{io, {tcp::v4(), port}, {.max_connections = 1000}};
    const holdfast::drain_at_signal stop{clients, {.drain = {.deadline = 10s}}};
    clients.async_serve([&](connection peer) { std::make_shared<session>(std::move(peer), heartbeats)->read(); },
                        [](holdfast::error_code error) {
                            if (error) server_log("callback_server: the listener has failed: ", error.message());
                        });
    server_log("callback_server: listening on ", clients.local_endpoint());
    io.run(); // returns when the drain is over
}

} // namespace

int main(int argc, char** argv)
try {
    std::uint16_t port = 7777;
    const std::string_view text = argc > 1 ? argv[1] : "7777";
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size())
        return (text == "--help" ? std::cout : std::cerr) << "usage: callback_server [PORT]\n",
               text == "--help" ? 0 : 2;
    run(port);
} catch (const std::exception& error) {
    return std::cerr << "callback_server: " << error.what() << '\n', 1;
}
