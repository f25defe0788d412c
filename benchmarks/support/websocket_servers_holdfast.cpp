// holdfast: the WebSocket servers of the benchmarks that are holdfast's.
// SPDX-License-Identifier: BSL-1.0
#include "websocket_servers.hpp"

#if defined(HOLDFAST_BENCHMARKS_ZLIB)
#include <holdfast/adapters/websocket_deflate.hpp>
#endif
#if defined(HOLDFAST_BENCHMARKS_TLS)
#include <holdfast/adapters/tls_layer.hpp>
#endif
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox_group.hpp>
#include <holdfast/websocket.hpp>
#include <holdfast/websocket_group.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace benchmarks {

namespace {

namespace net = holdfast::net;
using holdfast::error_code;
using net::ip::tcp;
using namespace std::chrono_literals;

using executor = net::io_context::executor_type;
using acceptor = holdfast::bounded_acceptor<tcp, holdfast::no_finalizer, executor>;
using connection = acceptor::connection_type;
template <class Peer>
using reader = holdfast::websocket_reader<Peer, holdfast::buffer_pool>;
template <class Peer>
using line_reader = holdfast::frame_reader<Peer, holdfast::framing::line, holdfast::buffer_pool>;
template <class Peer>
using outbox = holdfast::outbox<typename Peer::stream_type>;
using message = std::optional<holdfast::websocket_message>;
constexpr net::use_awaitable_t<executor> use_awaitable;

constexpr holdfast::frame_options request_options{.max_frame_bytes = 4096};
constexpr holdfast::websocket_options message_options{.max_message_bytes = 4096};

/// A request's head.
class request {
public:
    /// Takes the next line; false if it is the last one.
    bool add(std::string_view line)
    {
        text_.append(line).append("\n");
        return !line.empty();
    }

    [[nodiscard]] std::string_view method() const
    {
        const std::string_view text(text_);
        return text.substr(0, text.find(' '));
    }

    std::string_view operator()(std::string_view name) const
    {
        for (std::string_view rest(text_); !rest.empty();) {
            const std::string_view line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(line.size() + 1);
            if (const auto colon = line.find(':');
                colon == name.size() && holdfast::detail::equal_ignoring_case(line.substr(0, colon), name))
                return line.substr(colon + 1);
        }
        return {};
    }

private:
    std::string text_;
};

/// A coroutine of its own, so that what it needs goes with it.
template <class Peer>
net::awaitable<void, executor> accept(Peer& peer, holdfast::buffer_pool& buffers, outbox<Peer>& out,
                                      std::optional<reader<Peer>>& messages,
                                      holdfast::websocket_compression* by = nullptr)
{
    request head;
    line_reader<Peer> lines{peer, buffers, request_options};
    while (const auto line = co_await lines.async_next(use_awaitable))
        if (!head.add(*line)) break;
    const auto handshake = holdfast::accept_websocket(head.method(), head, {.compression = by});
    out.push(handshake.response);
    auto options = message_options;
    options.compression = handshake.compression;
    if (handshake) messages.emplace(std::move(lines), out, options);
}

template <class Peer>
net::awaitable<void, executor> session(Peer peer, holdfast::heartbeat_timer<executor>& heartbeats,
                                       holdfast::buffer_pool& buffers, holdfast::websocket_compression* by)
{
    auto heartbeat = heartbeats.watch(peer);
    outbox<Peer> out{peer, {.high_watermark = 8192}};
    std::optional<reader<Peer>> messages;
    co_await accept(peer, buffers, out, messages, by);
    if (messages)
        while (const auto m = co_await messages->async_next(use_awaitable)) {
            heartbeat.touch();
            out.push(holdfast::websocket_frame(messages->compression(), m->data, m->kind));
        }
    co_await holdfast::async_close_websocket(peer, out, use_awaitable);
}

/// What is sent to all clients for one message.
holdfast::websocket_frames published(holdfast::websocket_compression* by)
{
    if (by != nullptr) return by->frames(published_json);
    const holdfast::payload plain = holdfast::websocket_frame(published_text);
    return {plain, plain};
}

/// Sends messages to all.
net::awaitable<void, executor> broadcast_session(connection peer, holdfast::heartbeat_timer<executor>& heartbeats,
                                                 holdfast::buffer_pool& buffers, holdfast::websocket_group& all,
                                                 holdfast::websocket_compression* by)
{
    auto heartbeat = heartbeats.watch(peer);
    outbox<connection> out{peer};
    std::optional<reader<connection>> messages;
    co_await accept(peer, buffers, out, messages, by);
    if (messages) {
        const holdfast::outbox_group::member member{all.list(messages->compression()), out};
        while (const auto m = co_await messages->async_next(use_awaitable)) {
            heartbeat.touch();
            for (unsigned long left = ordered(m->data); left != 0; --left)
                all.push(published(by));
        }
    }
    co_await holdfast::async_close_websocket(peer, out, use_awaitable);
}

/// The same as `session` in callbacks. It owns itself.
template <class Peer>
class callback_session {
public:
    callback_session(Peer peer, holdfast::heartbeat_timer<executor>& heartbeats, holdfast::buffer_pool& buffers,
                     holdfast::websocket_compression* by)
        : peer_(std::move(peer)), heartbeat_(heartbeats.watch(peer_)), out_(peer_, {.high_watermark = 8192})
    {
        next_line(std::unique_ptr<handshake>(new handshake{by, {}, {peer_, buffers, request_options}}));
    }

private:
    /// What is needed until the WebSocket is accepted.
    struct handshake {
        holdfast::websocket_compression* compression;
        request head;
        line_reader<Peer> lines;
    };

    void next_line(std::unique_ptr<handshake> begun)
    {
        line_reader<Peer>& lines = begun->lines;
        lines.async_next([this, begun = std::move(begun)](error_code ec, std::optional<std::string_view> line) mutable {
            if (ec || !line) return end();
            if (begun->head.add(*line)) return next_line(std::move(begun));
            const auto accepted =
                holdfast::accept_websocket(begun->head.method(), begun->head, {.compression = begun->compression});
            out_.push(accepted.response);
            if (!accepted) return end();
            auto options = message_options;
            options.compression = accepted.compression;
            messages_.emplace(std::move(begun->lines), out_, options);
            next();
        });
    }

    void next()
    {
        messages_->async_next([this](error_code ec, const message& m) {
            if (ec || !m) return end();
            heartbeat_.touch();
            out_.push(holdfast::websocket_frame(messages_->compression(), m->data, m->kind));
            next();
        });
    }

    void end()
    {
        holdfast::async_close_websocket(peer_, out_, [this](error_code) { delete this; });
    }

    Peer peer_;
    holdfast::heartbeat heartbeat_;
    outbox<Peer> out_;
    std::optional<reader<Peer>> messages_;
};

template <class Session>
void serve(int listener, Session session, std::chrono::seconds timeout = 30s)
{
    net::io_context io(1);
    holdfast::heartbeat_timer<executor> heartbeats{io.get_executor(), {.tick = 1s, .timeout = timeout}};
    holdfast::buffer_pool buffers{io.get_executor()};
    acceptor from{io.get_executor(), tcp::v4(), listener, {.max_connections = 20'000}};
    from.async_serve([&](connection peer) { return session(std::move(peer), heartbeats, buffers); }, net::detached);
    io.run();
}

void serve_coroutine(int listener, holdfast::websocket_compression* by)
{
    serve(listener, [by](connection peer, holdfast::heartbeat_timer<executor>& heartbeats,
                         holdfast::buffer_pool& buffers) { return session(std::move(peer), heartbeats, buffers, by); });
}

void serve_callback(int listener, holdfast::websocket_compression* by)
{
    serve(listener,
          [by](connection peer, holdfast::heartbeat_timer<executor>& heartbeats, holdfast::buffer_pool& buffers) {
              new callback_session<connection>(std::move(peer), heartbeats, buffers, by);
          });
}

#if defined(HOLDFAST_BENCHMARKS_TLS)
using tls_connection = connection::rebind_stream<holdfast::tls_stream<connection::stream_type>>;

/// Calls `session(peer, heartbeats, buffers)` for each connection.
template <class Session>
void serve_tls(int listener, const tls_files& files, bool compact, Session session)
{
    net::io_context io(1);
    holdfast::heartbeat_timer<executor> heartbeats{io.get_executor(), {.tick = 1s, .timeout = 30s}};
    holdfast::buffer_pool buffers{io.get_executor()};
    const auto context = holdfast::tls_context::server(
        {.certificate_chain_file = files.chain, .private_key_file = files.key, .compact_records = compact});
    acceptor from{io.get_executor(), tcp::v4(), listener, {.max_connections = 20'000}};
    from.async_serve(
        holdfast::tls(context), [&](tls_connection peer) { return session(std::move(peer), heartbeats, buffers); },
        net::detached);
    io.run();
}
#endif

void broadcast(int listener, holdfast::websocket_compression* by)
{
    holdfast::websocket_group all;
    serve(
        listener,
        [&all, by](connection peer, holdfast::heartbeat_timer<executor>& heartbeats, holdfast::buffer_pool& buffers) {
            return broadcast_session(std::move(peer), heartbeats, buffers, all, by);
        },
        300s); // clients that only receive are silent
}

} // namespace

void serve_holdfast_websocket(int listener) { serve_coroutine(listener, nullptr); }
void serve_holdfast_websocket_callback(int listener) { serve_callback(listener, nullptr); }

#if defined(HOLDFAST_BENCHMARKS_TLS)
void serve_holdfast_websocket_tls(int listener, const tls_files& files, bool compact)
{
    serve_tls(listener, files, compact,
              [](tls_connection peer, holdfast::heartbeat_timer<executor>& heartbeats, holdfast::buffer_pool& buffers) {
                  return session(std::move(peer), heartbeats, buffers, nullptr);
              });
}

void serve_holdfast_websocket_callback_tls(int listener, const tls_files& files, bool compact)
{
    serve_tls(listener, files, compact,
              [](tls_connection peer, holdfast::heartbeat_timer<executor>& heartbeats, holdfast::buffer_pool& buffers) {
                  new callback_session<tls_connection>(std::move(peer), heartbeats, buffers, nullptr);
              });
}
#endif

#if defined(HOLDFAST_BENCHMARKS_ZLIB)
void serve_holdfast_websocket_deflate(int listener)
{
    holdfast::websocket_deflate deflate;
    serve_coroutine(listener, &deflate);
}

void serve_holdfast_websocket_callback_deflate(int listener)
{
    holdfast::websocket_deflate deflate;
    serve_callback(listener, &deflate);
}

void broadcast_holdfast_websocket_deflate(int listener)
{
    holdfast::websocket_deflate deflate;
    broadcast(listener, &deflate);
}
#endif

void broadcast_holdfast_websocket(int listener) { broadcast(listener, nullptr); }

} // namespace benchmarks
