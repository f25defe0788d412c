// holdfast: naive_feed, the "before" picture: market_feed's job as Asio tutorials do it.
// SPDX-License-Identifier: BSL-1.0
//
// Nothing here is made worse than usual. Every piece is found in tutorials, and in services that work well
// until they have many clients, slow clients, or long-lived connections. Where memory grows, a comment names
// the part of holdfast that bounds it. It runs under a memory limit (RLIMIT_DATA) and ends with the status 3 when it
// reaches it.

#include "support/feed_options.hpp"

#include <holdfast/asio.hpp> // for the namespace alias `net`, and for nothing else

#ifdef HOLDFAST_USE_BOOST_ASIO
#include <boost/asio/ssl.hpp>
#else
#include <asio/ssl.hpp>
#endif

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace net = holdfast::net;
using holdfast::error_code;
using net::ip::tcp;

namespace {

using tls_stream = net::ssl::stream<tcp::socket>;

constexpr int out_of_memory_status = 3;

/// A number of its own, so that it can be read when there is no memory left.
std::size_t connections = 0;

std::string to_json_line(const examples::quote& q)
{
    std::array<char, 256> line;
    const int size = std::snprintf(line.data(), line.size(),
                                   "{\"id\":%ju,\"symbol\":\"%.*s\",\"bid\":%.2f,\"ask\":%.2f,\"bid_size\":%ju,"
                                   "\"ask_size\":%ju,\"time\":%ju,\"open\":%s}\n",
                                   std::uintmax_t{q.id}, static_cast<int>(q.symbol.size()), q.symbol.data(), q.bid,
                                   q.ask, std::uintmax_t{q.bid_size}, std::uintmax_t{q.ask_size},
                                   std::uintmax_t{q.time}, q.open ? "true" : "false");
    return {line.data(), static_cast<std::size_t>(size)};
}

/// A client, over TCP or TLS.
class client {
public:
    virtual ~client() = default;
    virtual void deliver(std::string message) = 0;
    virtual std::size_t queued_bytes() const = 0;
};
using client_set = std::set<std::shared_ptr<client>>;

/// It lives as long as a handler or the feed holds a pointer to it: so one forgotten reference keeps the socket, the
/// queue and the buffer. Cure: connection_guard, one owner, closed on every path.
template <class Stream>
class session : public client, public std::enable_shared_from_this<session<Stream>> {
    using std::enable_shared_from_this<session>::shared_from_this;

public:
    session(Stream stream, const examples::feed_options& options, client_set& sessions)
        : stream_(std::move(stream)), timer_(stream_.get_executor()), options_(options), sessions_(sessions)
    {
    }

    /// Of TLS: no time-out, and no limit to how many are under way. Cure: an acceptor's limits of handshakes.
    void start_after_handshake(std::string snapshot)
    {
        stream_.async_handshake(net::ssl::stream_base::server,
                                [self = shared_from_this(), text = std::move(snapshot)](error_code error) mutable {
                                    if (!error) self->start(std::move(text));
                                });
    }

    void start(std::string snapshot)
    {
        sessions_.insert(shared_from_this());
        ++connections;
        read();
        heard();
        deliver(std::move(snapshot));
    }

    /// Queues a message. For a client that reads more slowly than messages come, the queue has no end.
    /// Cure: the session pulls what changed since its last version when the socket has room (market_feed), or
    /// an outbox.
    void deliver(std::string message) override
    {
        const bool idle = queue_.empty();
        queue_.push_back(std::move(message));
        if (idle) write();
    }

    std::size_t queued_bytes() const override
    {
        std::size_t bytes = 0;
        for (const std::string& each : queue_)
            bytes += each.size();
        return bytes;
    }

private:
    void read()
    {
        // A buffer for each client, though most of them say nothing most of the time.
        // Cure: frame_reader, which has no buffer while it waits.
        stream_.async_read_some(net::buffer(input_), [self = shared_from_this()](error_code error, std::size_t) {
            if (error == net::error::eof) return; // it may have ended its sending side only, and still listen
            if (error) return self->leave();
            self->heard();
            self->read();
        });
    }

    /// Writes the first message as a whole: it stays in memory until its last byte is in the socket.
    void write()
    {
        net::async_write(stream_, net::buffer(queue_.front()),
                         [self = shared_from_this()](error_code error, std::size_t) {
                             if (error) return self->leave();
                             self->queue_.pop_front();
                             if (!self->queue_.empty()) self->write();
                         });
    }

    /// A sign of life: the timer starts anew. That is a timer in each connection and, for each message, a
    /// clock call, an aborted wait, a removal from the timer queue and an insertion. Cure: heartbeat_timer,
    /// where all this is one store.
    void heard()
    {
        wait(options_.ping_after, [this] {
            deliver("{\"ping\":" + std::to_string(++pings_) + "}\n");
            // The pending read fails, and its handler calls leave(). But where the client has ended its side,
            // no read is pending any more: unless a write fails, the session stays. Cure: heartbeat_timer and
            // connection_guard.
            wait(options_.timeout - options_.ping_after, [this] {
                error_code ignored;
                stream_.lowest_layer().cancel(ignored);
            });
        });
    }

    void wait(std::chrono::milliseconds time, std::function<void()> then)
    {
        timer_.expires_after(time);
        timer_.async_wait([self = shared_from_this(), then = std::move(then)](error_code error) {
            if (!error) then();
        });
    }

    void leave()
    {
        if (sessions_.erase(shared_from_this()) == 0) return; // both the reader and the writer may fail
        --connections;
        error_code ignored;
        stream_.lowest_layer().close(ignored);
        timer_.cancel();
    }

    Stream stream_;
    net::steady_timer timer_;
    const examples::feed_options& options_;
    client_set& sessions_;
    std::deque<std::string> queue_;
    std::array<char, 4096> input_;
    std::uint64_t pings_ = 0;
};

/// The listener, the market, and all connected clients.
class server {
public:
    server(net::io_context& io, const examples::feed_options& options, net::ssl::context* tls)
        : options_(options),
          tls_(tls),
          market_(options.instruments),
          acceptor_(io),
          tick_timer_(io),
          signals_(io, SIGINT, SIGTERM, SIGUSR1)
    {
        if (!options.document.empty()) document_ = examples::load_document(options.document);
        const tcp::endpoint endpoint = examples::listen_endpoint(options.address, options.port);
        try {
            acceptor_.open(endpoint.protocol());
            acceptor_.set_option(tcp::acceptor::reuse_address(true));
            acceptor_.bind(endpoint);
            acceptor_.listen();
        } catch (const holdfast::system_error& error) {
            throw examples::usage_error("cannot listen on --address and --port: " + error.code().message());
        }
        std::cout << "naive_feed: listening on " << acceptor_.local_endpoint() << ", pid " << ::getpid() << std::endl;
        accept();
        wait_for_tick();
        wait_for_signal(io);
    }

private:
    /// Accepts every client; --max-connections limits nothing here. When the descriptors have run out, each
    /// attempt fails at once and the loop burns a core. Cure: bounded_acceptor.
    void accept()
    {
        acceptor_.async_accept([this](error_code error, tcp::socket socket) {
            if (!error) {
                error_code ignored;
                socket.set_option(net::socket_base::send_buffer_size(static_cast<int>(options_.send_buffer.value)),
                                  ignored);
                ++accepted_;
                if (tls_ != nullptr)
                    std::make_shared<session<tls_stream>>(tls_stream(std::move(socket), *tls_), options_, sessions_)
                        ->start_after_handshake(snapshot());
                else
                    std::make_shared<session<tcp::socket>>(std::move(socket), options_, sessions_)->start(snapshot());
            }
            accept();
        });
    }

    /// The whole message, built anew for each client. Cure: streaming_serializer and async_write_streamed,
    /// which make it while it is sent and hold one chunk.
    std::string snapshot() const
    {
        if (document_) return simdjson::minify(document_->root) + '\n';
        std::string text;
        for (const examples::quote each : market_.snapshot())
            text += to_json_line(each);
        return text;
    }

    void wait_for_tick()
    {
        tick_timer_.expires_after(examples::tick_period);
        tick_timer_.async_wait([this](error_code error) {
            if (error) return;
            const std::uint64_t before = market_.version();
            market_.tick(options_.rate * examples::tick_period.count());
            std::string lines;
            for (const examples::quote each : market_.changed_since(before))
                lines += to_json_line(each);
            // A copy of the same lines for each client, whether it reads or not.
            if (!lines.empty())
                for (const auto& each : sessions_)
                    each->deliver(lines);
            wait_for_tick();
        });
    }

    void wait_for_signal(net::io_context& io)
    {
        signals_.async_wait([this, &io](error_code error, int signal) {
            if (error) return;
            if (signal != SIGUSR1) return io.stop();
            std::size_t queued = 0;
            for (const auto& each : sessions_)
                queued += each->queued_bytes();
            std::cout << "naive_feed: " << connections << " connections, " << accepted_ << " accepted since the start, "
                      << queued << " bytes queued" << std::endl;
            wait_for_signal(io);
        });
    }

    const examples::feed_options& options_;
    net::ssl::context* tls_; // null: plain TCP
    examples::market market_;
    std::optional<examples::json_document> document_;
    client_set sessions_;
    std::uint64_t accepted_ = 0;
    tcp::acceptor acceptor_;
    net::steady_timer tick_timer_;
    net::signal_set signals_;
};

/// A quarter of the memory that the machine has available, in whole MiB.
examples::byte_count quarter_of_available_memory()
{
    std::ifstream file{"/proc/meminfo"};
    std::string name, line;
    std::uint64_t kib = 0;
    while (file >> name && name != "MemAvailable:")
        std::getline(file, line);
    if (!(file >> kib)) throw std::runtime_error("cannot read MemAvailable from /proc/meminfo");
    return {std::max<std::uint64_t>(kib / 4 / 1024, 1) << 20};
}

void limit_memory(std::uint64_t bytes)
{
    const rlimit limit{.rlim_cur = bytes, .rlim_max = bytes};
    if (::setrlimit(RLIMIT_DATA, &limit) != 0)
        throw std::system_error(errno, std::system_category(), "setrlimit(RLIMIT_DATA)");
}

/// Says how far it came, and ends the process without touching memory.
[[noreturn]] void out_of_memory()
{
    std::printf("naive_feed: out of memory at %zu connections: reached its --memory-limit\n", connections);
    std::fflush(stdout);
    std::_Exit(out_of_memory_status);
}

int run(int argc, char** argv)
{
    examples::feed_options options;
    const examples::byte_count most_memory = quarter_of_available_memory();
    examples::byte_count memory_limit = most_memory;
    examples::command_line cli{
        "naive_feed", "market_feed's job as Asio tutorials do it: what its memory does is the \"before\" picture."};
    examples::add_options(cli, options);
    cli.add("memory-limit", memory_limit, "BYTES",
            "the memory at which it ends; at most a quarter of the available memory");
    std::string tls_files;
    cli.add("tls", tls_files, "CERT,KEY", "serve TLS by these PEM files; empty: plain TCP");
    if (!cli.parse(argc, argv)) return 0;
    examples::check(options);
    std::optional<net::ssl::context> tls;
    if (!tls_files.empty()) {
        const std::size_t comma = tls_files.find(',');
        if (comma == tls_files.npos) examples::command_line::fail("tls", "takes two files, CERT,KEY");
        tls.emplace(net::ssl::context::tls_server);
        tls->use_certificate_chain_file(tls_files.substr(0, comma));
        tls->use_private_key_file(tls_files.substr(comma + 1), net::ssl::context::pem);
    }
    examples::require_descriptors(options.max_connections + examples::spare_descriptors);
    limit_memory(std::min(memory_limit.value, most_memory.value));

    // At the limit, wherever it is hit: operator new asks this handler; what Asio allocates by other means
    // throws.
    std::set_new_handler(out_of_memory);
    try {
        net::io_context io;
        server feed{io, options, tls ? &*tls : nullptr};
        io.run();
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
