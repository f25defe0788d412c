// holdfast: the WebSocket server of the benchmarks that is Boost.Beast's.
// SPDX-License-Identifier: BSL-1.0
#include "websocket_servers.hpp"

#include <boost/asio.hpp>
#if defined(HOLDFAST_BENCHMARKS_TLS)
#include <boost/asio/ssl.hpp>
#include <boost/beast/ssl.hpp>
#endif
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/zlib.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace benchmarks {

namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
using net::ip::tcp;

template <class Websocket>
net::awaitable<void> session(Websocket peer, bool deflate)
{
    if constexpr (requires { peer.next_layer().next_layer(); }) { // TLS
        beast::get_lowest_layer(peer).expires_after(std::chrono::seconds(30));
        co_await peer.next_layer().async_handshake(net::ssl::stream_base::server, net::use_awaitable);
        beast::get_lowest_layer(peer).expires_never(); // websocket::stream has its own
    }
    peer.set_option(beast::websocket::stream_base::timeout::suggested(beast::role_type::server));
    if (deflate) {
        beast::websocket::permessage_deflate options;
        options.server_enable = true;
        peer.set_option(options);
    }
    co_await peer.async_accept(net::use_awaitable);
    beast::flat_buffer message;
    for (;;) {
        co_await peer.async_read(message, net::use_awaitable);
        peer.text(peer.got_text());
        co_await peer.async_write(message.data(), net::use_awaitable);
        message.consume(message.size());
        message.shrink_to_fit();
    }
}

using websocket = beast::websocket::stream<beast::tcp_stream>;

/// All clients of a server that sends messages to all.
template <class Client>
struct topic {
    std::unordered_set<Client*> clients;

    const bool deflate = false;

    void push(std::string_view text)
    {
        const auto message = std::make_shared<const std::string>(Client::encode(text));
        for (Client* const each : clients)
            each->push(message);
    }
};

/// A queue of shared messages; one websocket::stream::async_write for each.
class single_client {
public:
    explicit single_client(websocket& to) : peer_(to) { peer_.text(true); }

    static std::string encode(std::string_view text) { return std::string(text); }

    void push(const std::shared_ptr<const std::string>& message)
    {
        queue_.push_back(message);
        if (queue_.size() == 1) write();
    }

private:
    void write()
    {
        peer_.async_write(net::buffer(*queue_.front()), [this](beast::error_code ec, std::size_t) {
            if (ec) return;
            queue_.pop_front();
            if (!queue_.empty()) write();
        });
    }

    websocket& peer_;
    std::deque<std::shared_ptr<const std::string>> queue_;
};

/// A queue of shared frames; a write takes all that were queued during the last one, 64 at most.
class gathering_client {
public:
    explicit gathering_client(websocket& to) : peer_(to) {}

    static std::string encode(std::string_view text) { return frame('\x81', text); }

    static std::string frame(char first, std::string_view text)
    {
        std::string frame(1, first);
        if (text.size() < 126) {
            frame += static_cast<char>(text.size());
        } else {
            frame += '\x7e';
            frame += static_cast<char>(text.size() >> 8U);
            frame += static_cast<char>(text.size() & 0xFFU);
        }
        return frame.append(text);
    }

    void push(const std::shared_ptr<const std::string>& frame)
    {
        queue_.push_back(frame);
        if (writing_ == 0) write();
    }

private:
    void write()
    {
        writing_ = std::min<std::size_t>(queue_.size(), 64);
        buffers_.clear(); // its memory stays
        for (std::size_t i = 0; i != writing_; ++i)
            buffers_.emplace_back(net::buffer(*queue_[i]));
        net::async_write(peer_.next_layer(), std::span(buffers_), [this](beast::error_code ec, std::size_t) {
            if (ec) return;
            queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(std::exchange(writing_, 0)));
            if (!queue_.empty()) write();
        });
    }

    websocket& peer_;
    std::deque<std::shared_ptr<const std::string>> queue_;
    std::vector<net::const_buffer> buffers_;
    std::size_t writing_ = 0;
};

constexpr int level = 6, window_bits = 13, memory_level = 4;

/// The same, and compresses each message for itself.
class compressing_client : public gathering_client {
public:
    using gathering_client::gathering_client;

    static std::string encode(std::string_view text) { return std::string(text); }

    void push(const std::shared_ptr<const std::string>& message)
    {
        gathering_client::push(std::make_shared<const std::string>(frame('\xc1', compressed(*message))));
    }

private:
    static std::string_view compressed(std::string_view text)
    {
        namespace zlib = beast::zlib;
        static zlib::deflate_stream compressor;
        static const bool prepared = (compressor.reset(level, window_bits, memory_level, zlib::Strategy::normal), true);
        static std::array<char, 1024> room;
        (void)prepared;
        compressor.reset();
        zlib::z_params z;
        z.next_in = text.data();
        z.avail_in = text.size();
        z.next_out = room.data();
        z.avail_out = room.size();
        beast::error_code ec;
        compressor.write(z, zlib::Flush::sync, ec);
        return {room.data(), room.size() - z.avail_out - 4}; // without the end of the flush
    }
};

template <class Client>
net::awaitable<void> broadcast_session(websocket peer, topic<Client>& all)
{
    peer.set_option(beast::websocket::stream_base::timeout::suggested(beast::role_type::server));
    if (all.deflate) {
        beast::websocket::permessage_deflate options;
        options.server_enable = true;
        options.server_no_context_takeover = true;
        options.server_max_window_bits = window_bits;
        options.compLevel = level;
        options.memLevel = memory_level;
        peer.set_option(options);
    }
    co_await peer.async_accept(net::use_awaitable);
    Client client(peer);
    all.clients.insert(&client);
    beast::flat_buffer message;
    for (;;) { // the benchmark ends the process before a client
        co_await peer.async_read(message, net::use_awaitable);
        for (auto left = ordered({static_cast<const char*>(message.data().data()), message.size()}); left != 0; --left)
            all.push(all.deflate ? published_json : published_text);
        message.consume(message.size());
        message.shrink_to_fit();
    }
}

/// Calls `session(socket)` for each connection.
template <class Session>
net::awaitable<void> accept(net::io_context& io, int listener, Session session)
{
    tcp::acceptor from(io, tcp::v4(), listener);
    for (;;) {
        tcp::socket peer = co_await from.async_accept(net::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        net::co_spawn(io, session(std::move(peer)), [](const std::exception_ptr&) {});
    }
}

template <class Session>
void serve(int listener, Session session)
{
    net::io_context io(1);
    net::co_spawn(io, accept(io, listener, session), net::detached);
    io.run();
}

template <class Client>
void broadcast(int listener, bool deflate = false)
{
    topic<Client> all{{}, deflate};
    serve(listener, [&](tcp::socket peer) { return broadcast_session<Client>(websocket(std::move(peer)), all); });
}

} // namespace

void serve_beast_websocket(int listener)
{
    serve(listener, [](tcp::socket peer) { return session(websocket(std::move(peer)), false); });
}
void serve_beast_websocket_deflate(int listener)
{
    serve(listener, [](tcp::socket peer) { return session(websocket(std::move(peer)), true); });
}
#if defined(HOLDFAST_BENCHMARKS_TLS)
void serve_beast_websocket_tls(int listener, const tls_files& files)
{
    net::ssl::context context(net::ssl::context::tls_server);
    context.use_certificate_chain_file(files.chain);
    context.use_private_key_file(files.key, net::ssl::context::pem);
    serve(listener, [&](tcp::socket peer) {
        using tls_websocket = beast::websocket::stream<beast::ssl_stream<beast::tcp_stream>>;
        return session(tls_websocket(beast::tcp_stream(std::move(peer)), context), false);
    });
}
#endif
void broadcast_beast_websocket(int listener) { broadcast<gathering_client>(listener); }
void broadcast_beast_websocket_single(int listener) { broadcast<single_client>(listener); }
void broadcast_beast_websocket_deflate(int listener) { broadcast<compressing_client>(listener, true); }
void broadcast_beast_websocket_single_deflate(int listener) { broadcast<single_client>(listener, true); }

} // namespace benchmarks
