// holdfast: the sessions of the line servers that are holdfast's: guard, permit, heartbeat, census and
// frame_reader.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_HOLDFAST_SESSIONS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_HOLDFAST_SESSIONS_HPP

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>

#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

namespace benchmarks {

namespace net = holdfast::net;
using holdfast::error_code;
using net::ip::tcp;
using namespace std::chrono_literals;

template <class Executor>
using acceptor = holdfast::bounded_acceptor<tcp, holdfast::no_finalizer, Executor>;
template <class Executor>
using connection = typename acceptor<Executor>::connection_type;
template <class Executor>
using reader =
    holdfast::frame_reader<typename connection<Executor>::stream_type, holdfast::framing::line, holdfast::buffer_pool>;

/// A line with its LF, which still follows it.
inline net::const_buffer with_end(std::string_view line) { return net::buffer(line.data(), line.size() + 1); }

template <class Executor>
net::awaitable<void, Executor> session(connection<Executor> peer, holdfast::heartbeat_timer<Executor>& heartbeats,
                                       holdfast::buffer_pool& buffers)
{
    constexpr net::use_awaitable_t<Executor> use_awaitable;
    auto heartbeat = heartbeats.watch(peer);
    reader<Executor> lines{peer.stream(), buffers, {.max_frame_bytes = 4096}};
    while (auto line = co_await lines.async_next(use_awaitable)) {
        heartbeat.touch();
        co_await net::async_write(peer.stream(), with_end(*line), use_awaitable);
    }
    peer.close(holdfast::close_reason::peer_closed);
}

/// The same as asio_lean writes: at once, since a short line fits into the socket. So the frame of a write, which is
/// larger than that of a read, is not what Asio recycles for the next read.
template <class Executor>
net::awaitable<void, Executor> lean_session(connection<Executor> peer, holdfast::heartbeat_timer<Executor>& heartbeats,
                                            holdfast::buffer_pool& buffers)
{
    auto heartbeat = heartbeats.watch(peer);
    reader<Executor> lines{peer.stream(), buffers, {.max_frame_bytes = 4096}};
    error_code ec;
    peer.stream().non_blocking(true);
    while (auto line = co_await lines.async_next(net::use_awaitable_t<Executor>())) {
        heartbeat.touch();
        peer.stream().write_some(with_end(*line), ec);
        if (ec) co_return;
    }
    peer.close(holdfast::close_reason::peer_closed);
}

/// The same in callbacks. It owns itself.
class callback_session {
    using executor = net::io_context::executor_type;

public:
    callback_session(connection<executor> peer, holdfast::heartbeat_timer<executor>& heartbeats,
                     holdfast::buffer_pool& buffers)
        : peer_(std::move(peer)),
          beat_(heartbeats.watch(peer_)),
          lines_(peer_.stream(), buffers, {.max_frame_bytes = 4096})
    {
    }

    void next()
    {
        lines_.async_next([this](error_code ec, std::optional<std::string_view> line) {
            if (ec || !line) return end(ec);
            beat_.touch();
            net::async_write(peer_.stream(), with_end(*line), [this](error_code failed, std::size_t) {
                if (failed) return end(failed);
                next();
            });
        });
    }

private:
    void end(error_code ec)
    {
        peer_.close(holdfast::reason_of(ec), ec);
        delete this;
    }

    connection<executor> peer_;
    holdfast::heartbeat beat_;
    reader<executor> lines_;
};

} // namespace benchmarks

#endif
