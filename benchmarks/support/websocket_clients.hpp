// holdfast: the WebSocket clients of the benchmarks.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_WEBSOCKET_CLIENTS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_WEBSOCKET_CLIENTS_HPP

#include "server_process.hpp"

#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace benchmarks {

class websocket_clients {
public:
    /// With `deflate` they negotiate permessage-deflate.
    explicit websocket_clients(const ::sockaddr_in& server, bool deflate = false)
        : server_(server), deflate_(deflate), request_(request)
    {
        if (deflate) request_.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n");
        request_.append("\r\n");
        ::rlimit files{};
        checked(::getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
        files.rlim_cur = files.rlim_max;
        checked(::setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    }
    websocket_clients(const websocket_clients&) = delete;
    ~websocket_clients()
    {
        for (const int each : sockets_) {
            const ::linger reset{1, 0}; // no port stays in TIME_WAIT
            ::setsockopt(each, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(each);
        }
    }

    /// Connects until there are `n`, and calls `connected` with the sockets of each 64 after their handshakes.
    template <class Connected>
    void grow_to(std::size_t n, Connected connected)
    {
        while (sockets_.size() != n) {
            const std::size_t first = sockets_.size();
            const std::size_t last = std::min(n, first + 64);
            while (sockets_.size() != last)
                connect();
            const std::span<const int> added = std::span(sockets_).subspan(first);
            for (const int each : added)
                send(each, request_);
            for (const int each : added) {
                const auto response = receive(each, [](const std::string& got) { return got.ends_with("\r\n\r\n"); });
                if (!response.starts_with("HTTP/1.1 101 ") ||
                    (response.find("permessage-deflate") != response.npos) != deflate_)
                    throw std::runtime_error("a server does not accept the WebSocket");
            }
            connected(added);
        }
    }

    [[nodiscard]] std::span<const int> sockets() const { return sockets_; }

    /// The handshake without its last line end.
    static constexpr std::string_view request =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    /// A text message, as a client sends it. At most 65,535 bytes. The mask is 0.
    static std::string frame(std::string_view text)
    {
        std::string all("\x81");
        if (text.size() < 126) {
            all += static_cast<char>(0x80U | text.size());
        } else {
            all += '\xfe';
            all += static_cast<char>(text.size() >> 8U);
            all += static_cast<char>(text.size() & 0xFFU);
        }
        return all.append(4, '\0').append(text);
    }

    static void send(int socket, std::string_view bytes)
    {
        if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) != std::ssize(bytes)) fail("send");
    }

    /// Receives until `complete(all)`.
    template <class Complete>
    static std::string receive(int socket, Complete complete)
    {
        std::string all;
        while (!complete(all)) {
            std::array<char, 1024> got;
            ::pollfd readable{socket, POLLIN, 0};
            if (::poll(&readable, 1, 10'000) != 1) throw std::runtime_error("the server stopped answering");
            const auto n = ::recv(socket, got.data(), got.size(), 0);
            if (n <= 0) fail("recv");
            all.append(got.data(), static_cast<std::size_t>(n));
        }
        return all;
    }

private:
    void connect()
    {
        sockets_.push_back(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
        if (::connect(sockets_.back(), reinterpret_cast<const ::sockaddr*>(&server_), sizeof server_) != 0)
            fail("connect");
    }

    ::sockaddr_in server_;
    bool deflate_;
    std::string request_;
    std::vector<int> sockets_;
};

} // namespace benchmarks

#endif
