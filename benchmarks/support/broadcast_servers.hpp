// holdfast: servers that queue a message to all of their receivers, ours and as they are usually written.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_BROADCAST_SERVERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_BROADCAST_SERVERS_HPP

#include <holdfast/outbox_group.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#if defined(HOLDFAST_BENCHMARKS_LIBUV)
#include <uv.h>
#endif

namespace benchmarks {

namespace net = holdfast::net;
using net::ip::tcp;
using std::chrono::steady_clock;

// The servers: each takes sockets, queues a message to all, and sends until all is sent or the time has come.

using socket_type = net::basic_stream_socket<tcp, net::io_context::executor_type>;

class asio_loop {
public:
    void send_all()
    {
        run([&] { io_.run(); });
    }
    void send_until(steady_clock::time_point when)
    {
        run([&] { io_.run_until(when); });
        std::this_thread::sleep_until(when); // where nothing was left to be sent
    }

protected:
    template <class F>
    void run(F f)
    {
        io_.restart();
        f();
    }

    net::io_context io_{1};
};

/// With a tick each second, as servers with heartbeats have it: an outbox then keeps its block between messages.
/// Without ticks it frees the block whenever it is empty, and the C library may return the memory of all to the system, to
/// ask for it again at the next message.
class holdfast_server : public asio_loop {
public:
    void add(int descriptor) { receivers_.emplace_back(io_, descriptor, all_).box.tick(); }
    void push(std::string_view text)
    {
        if (const auto now = steady_clock::now(); now >= next_tick_) {
            next_tick_ = now + std::chrono::seconds(1);
            for (receiver& each : receivers_)
                each.box.tick();
        }
        all_.push(holdfast::payload(text, holdfast::payload_sharing::one_thread));
    }

private:
    struct receiver {
        receiver(net::io_context& io, int descriptor, holdfast::outbox_group& group)
            : socket(io, tcp::v4(), descriptor),
              box(socket, {.high_watermark = 16 * 1024, .on_overflow = holdfast::overflow_policy::drop_oldest}),
              here(group, box)
        {
        }
        socket_type socket;
        holdfast::outbox<socket_type> box;
        holdfast::outbox_group::member here;
    };

    holdfast::outbox_group all_;
    std::deque<receiver> receivers_;
    steady_clock::time_point next_tick_ = steady_clock::now() + std::chrono::seconds(1);
};

/// As it is usually written: a queue of shared strings for each socket, one async_write at a time.
class asio_server : public asio_loop {
public:
    void add(int descriptor) { receivers_.emplace_back(io_, descriptor); }
    void push(std::string_view text)
    {
        const auto message = std::make_shared<const std::string>(text);
        for (receiver& each : receivers_)
            each.push(message);
    }

private:
    struct receiver {
        receiver(net::io_context& io, int descriptor) : socket(io, tcp::v4(), descriptor) {}

        void push(const std::shared_ptr<const std::string>& message)
        {
            queue.push_back(message);
            if (queue.size() == 1) write();
        }
        void write()
        {
            net::async_write(socket, net::buffer(*queue.front()), [this](holdfast::error_code ec, std::size_t) {
                if (ec) return;
                queue.pop_front();
                if (!queue.empty()) write();
            });
        }

        socket_type socket;
        std::deque<std::shared_ptr<const std::string>> queue;
    };

    std::deque<receiver> receivers_;
};

/// The same, but a write takes all that was queued during the last one, 64 messages at most. Where `Posted`, the first
/// write after a pause is posted too, and takes all that is queued in one turn of the event loop, as holdfast does.
/// Where there is a `Limit`, it drops the oldest message beyond so many that wait, as holdfast does beyond its watermark.
template <bool Posted, std::size_t Limit = 0>
class gathering_server : public asio_loop {
public:
    void add(int descriptor) { receivers_.emplace_back(io_, descriptor); }
    void push(std::string_view text)
    {
        const auto message = std::make_shared<const std::string>(text);
        for (receiver& each : receivers_)
            each.push(message);
    }

private:
    struct receiver {
        receiver(net::io_context& io, int descriptor) : socket(io, tcp::v4(), descriptor) {}

        void push(const std::shared_ptr<const std::string>& message)
        {
            if (Limit != 0 && queue.size() - writing >= Limit)
                queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(writing));
            queue.push_back(message);
            if (busy) return;
            busy = true;
            if constexpr (Posted)
                net::post(socket.get_executor(), [this] { write(); });
            else
                write();
        }
        void write()
        {
            writing = std::min<std::size_t>(queue.size(), 64);
            buffers.clear(); // its memory stays
            for (std::size_t i = 0; i != writing; ++i)
                buffers.emplace_back(net::buffer(*queue[i]));
            net::async_write(socket, std::span(buffers), [this](holdfast::error_code ec, std::size_t) {
                if (ec) return;
                queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(std::exchange(writing, 0)));
                busy = !queue.empty();
                if (busy) write();
            });
        }

        socket_type socket;
        std::deque<std::shared_ptr<const std::string>> queue;
        std::vector<net::const_buffer> buffers;
        std::size_t writing = 0;
        bool busy = false; // a write is pending, or posted
    };

    std::deque<receiver> receivers_;
};

using asio_gather_server = gathering_server<false>;
using asio_gather_posted_server = gathering_server<true>;
using asio_bounded_server = gathering_server<true, 16>; // of messages of 1 KiB holdfast's watermark

#if defined(HOLDFAST_BENCHMARKS_LIBUV)
/// libuv has a queue of its own for each socket; it writes at once where that is empty.
class libuv_server {
public:
    libuv_server() { ::uv_loop_init(&loop_); }

    void add(int descriptor)
    {
        ::uv_tcp_t& socket = sockets_.emplace_back();
        ::uv_tcp_init(&loop_, &socket);
        ::uv_tcp_open(&socket, descriptor);
    }
    void push(std::string_view text)
    {
        const auto message = std::make_shared<std::string>(text);
        for (::uv_tcp_t& each : sockets_) {
            auto* const request = new write{{}, message};
            const ::uv_buf_t buffer = ::uv_buf_init(message->data(), static_cast<unsigned int>(message->size()));
            request->request.data = request;
            ::uv_write(&request->request, reinterpret_cast<::uv_stream_t*>(&each), &buffer, 1,
                       [](::uv_write_t* done, int) { delete static_cast<write*>(done->data); });
        }
    }
    void send_all() { ::uv_run(&loop_, UV_RUN_DEFAULT); }

private:
    struct write {
        ::uv_write_t request;
        std::shared_ptr<std::string> message;
    };

    ::uv_loop_t loop_{};
    std::deque<::uv_tcp_t> sockets_;
};
#endif

} // namespace benchmarks

#endif
