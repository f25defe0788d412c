// holdfast: the clients of the TLS benchmarks, by OpenSSL alone.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_TLS_CLIENTS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_TLS_CLIENTS_HPP

#include "server_process.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace benchmarks {

struct tls_deleter {
    void operator()(SSL* ssl) const noexcept { ::SSL_free(ssl); }
    void operator()(SSL_CTX* context) const noexcept { ::SSL_CTX_free(context); }
};

/// One connection. Its calls wait for the server, ten seconds at most.
class tls_client {
public:
    tls_client(SSL_CTX* context, const ::sockaddr_in& server, std::uint32_t source)
        : descriptor_(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")), ssl_(::SSL_new(context))
    {
        ::sockaddr_in from = server;
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + source);
        from.sin_port = 0;
        const int on = 1;
        ::setsockopt(descriptor_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        checked(::bind(descriptor_, reinterpret_cast<const ::sockaddr*>(&from), sizeof from), "bind");
        checked(::connect(descriptor_, reinterpret_cast<const ::sockaddr*>(&server), sizeof server), "connect");
        checked(::fcntl(descriptor_, F_SETFL, O_NONBLOCK), "fcntl");
        ::SSL_set_fd(ssl_.get(), descriptor_);
        ::SSL_set_connect_state(ssl_.get());
    }
    tls_client(tls_client&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)), ssl_(std::move(other.ssl_))
    {
    }
    tls_client& operator=(tls_client&&) = delete;
    ~tls_client()
    {
        if (descriptor_ < 0) return;
        const ::linger reset{1, 0}; // no port stays in TIME_WAIT
        ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        ::close(descriptor_);
    }

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

    /// Sends the first message of the handshake.
    void begin_handshake() { (void)::SSL_do_handshake(ssl_.get()); }
    void handshake()
    {
        wait_until([this] { return ::SSL_do_handshake(ssl_.get()); });
    }

    void write(std::string_view text)
    {
        wait_until([&] { return ::SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())); });
    }
    void read_all(char* to, std::size_t size)
    {
        while (size != 0) {
            const auto n = static_cast<std::size_t>(
                wait_until([&] { return ::SSL_read(ssl_.get(), to, static_cast<int>(size)); }));
            to += n;
            size -= n;
        }
    }
    /// What has come, without waiting; 0: nothing.
    std::size_t read_some(char* to, std::size_t size)
    {
        const int n = ::SSL_read(ssl_.get(), to, static_cast<int>(size));
        if (n > 0) return static_cast<std::size_t>(n);
        const int error = ::SSL_get_error(ssl_.get(), n);
        if (error != SSL_ERROR_WANT_READ) throw std::runtime_error(failure(error));
        return 0;
    }

private:
    static std::string failure(int error)
    {
        const char* const reason = ::ERR_reason_error_string(::ERR_get_error());
        return "a TLS connection failed: " + std::string(reason != nullptr                ? reason
                                                         : error == SSL_ERROR_ZERO_RETURN ? "closed"
                                                                                          : std::strerror(errno));
    }

    template <class Operation>
    int wait_until(Operation operation)
    {
        for (;;) {
            const int result = operation();
            if (result > 0) return result;
            const int error = ::SSL_get_error(ssl_.get(), result);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) throw std::runtime_error(failure(error));
            ::pollfd ready{descriptor_, static_cast<short>(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
            if (::poll(&ready, 1, 10'000) != 1) throw std::runtime_error("the server stopped answering");
        }
    }

    int descriptor_;
    std::unique_ptr<SSL, tls_deleter> ssl_;
};

/// Connections to one server.
class tls_clients {
public:
    explicit tls_clients(const ::sockaddr_in& server) : server_(server), context_(::SSL_CTX_new(::TLS_client_method()))
    {
        ::SSL_CTX_set_mode(context_.get(), SSL_MODE_RELEASE_BUFFERS);
        ::SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
    }

    /// Connects until there are `n`, with up to `at_once` handshakes at the same time; then calls `greet` for each new
    /// one.
    template <class Greet>
    void grow_to(std::size_t n, std::size_t at_once, Greet greet)
    {
        while (all_.size() < n) {
            const std::size_t first = all_.size(), last = std::min(n, first + at_once);
            while (all_.size() != last) // from several addresses: one is slow to find a free port when few are left
                all_.emplace_back(context_.get(), server_, static_cast<std::uint32_t>(all_.size() / 2000));
            for (std::size_t i = first; i != last; ++i)
                all_[i].begin_handshake();
            for (std::size_t i = first; i != last; ++i)
                all_[i].handshake();
            for (std::size_t i = first; i != last; ++i)
                greet(all_[i]);
        }
    }

    [[nodiscard]] std::vector<tls_client>& all() noexcept { return all_; }

private:
    ::sockaddr_in server_;
    std::unique_ptr<SSL_CTX, tls_deleter> context_;
    std::vector<tls_client> all_;
};

} // namespace benchmarks

#endif
