// holdfast: measure_tls_memory, what TLS adds to a connection's memory, for a capacity_plan.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_TLS_MEMORY_HPP
#define HOLDFAST_ADAPTERS_TLS_MEMORY_HPP

#include <holdfast/adapters/detail/tls_engine.hpp>
#include <holdfast/adapters/tls_context.hpp>
#include <holdfast/asio.hpp>

#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

namespace holdfast {

/// What the TLS engine of one connection takes of the heap, in bytes.
struct tls_memory {
    /// After the handshake and a message each way.
    std::size_t idle_bytes = 0;
    /// The most during the handshake, between two of its steps.
    std::size_t handshake_bytes = 0;
};

namespace detail {

/// The bytes of the heap that are in use; none where the C library does not say.
inline std::optional<std::size_t> heap_in_use() noexcept
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    const auto now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
#else
    return std::nullopt;
#endif
}

/// A server's connection, whose every step is weighed, and OpenSSL's client at the other end of two local sockets.
class weighed_handshake {
public:
    weighed_handshake()
    {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0)
            throw system_error(error_code(errno, net::error::get_system_category()),
                               "a pair of sockets cannot be made");
        server_end_ = ends[0];
        client_end_ = ends[1];
    }
    weighed_handshake(const weighed_handshake&) = delete;
    ~weighed_handshake()
    {
        ::close(server_end_);
        ::close(client_end_);
    }

    /// Leaves the server's side idle. Returns the most that it took meanwhile.
    std::size_t run(const tls_context& context)
    {
        clients_.reset(::SSL_CTX_new(::TLS_client_method()));
        client_.reset(clients_ ? ::SSL_new(clients_.get()) : nullptr);
        SSL* const client = client_.get();
        if (client == nullptr || ::SSL_set_fd(client, client_end_) != 1) throw std::bad_alloc();
        ::SSL_set_connect_state(client);
        std::unique_ptr<tls_engine>& server = server_;
        weigh([&] {
            server = std::make_unique<tls_engine>(ssl_ptr(context.make_session()));
            ::SSL_set_accept_state(server->ssl());
            ::SSL_set_verify(server->ssl(), SSL_VERIFY_NONE, nullptr); // the client has no certificate
            if (context.compact_records()) server->capture_secrets();
        });
        bool client_done = false, server_done = false;
        for (int steps = 0; !client_done || !server_done; ++steps) {
            if (!client_done) client_done = ::SSL_do_handshake(client) == 1;
            tls_step step{.what = tls_step::next::wait_read};
            if (!server_done)
                weigh([&] {
                    server->readable();
                    step = server->handshake(server_end_);
                });
            server_done = server_done || step.what == tls_step::next::done;
            if (step.error || steps == 100)
                throw system_error(step.error ? step.error : error_code(net::error::no_recovery),
                                   "the handshake by which memory is measured failed");
        }
        if (context.compact_records()) weigh([&] { (void)server->make_compact(); });
        std::array<char, 1> byte{};
        ::SSL_write(client, byte.data(), 1);
        weigh([&] {
            server->readable();
            (void)server->read(server_end_, byte);
            const std::span<const char> part(byte);
            (void)server->write(server_end_, {&part, 1});
        });
        ::SSL_read(client, byte.data(), 1);
        ::ERR_clear_error();
        client_.reset();
        clients_.reset();
        return static_cast<std::size_t>(std::max<std::ptrdiff_t>(most_, 0));
    }

private:
    template <class F>
    void weigh(F f)
    {
        const std::size_t before = heap_in_use().value_or(0);
        f();
        weight_ += static_cast<std::ptrdiff_t>(heap_in_use().value_or(0) - before);
        most_ = std::max(most_, weight_);
    }

    int server_end_ = -1, client_end_ = -1;
    std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> clients_{nullptr, &::SSL_CTX_free};
    std::unique_ptr<SSL, decltype(&::SSL_free)> client_{nullptr, &::SSL_free};
    std::unique_ptr<tls_engine> server_;
    std::ptrdiff_t weight_ = 0, most_ = 0;
};

} // namespace detail

/// Measures what the TLS engine takes for a server's connection of `context`: by the handshakes of twenty connections
/// with OpenSSL's client over local sockets. A client's certificate, some 5 to 7 KB where it is kept, is not included.
/// None where the C library or the allocator does not report how much of the heap is in use (other than glibc 2.33 and
/// newer, or under a sanitizer).
///
/// Call it at the start of the program: what other threads allocate meanwhile would be counted.
///
/// Exceptions: std::bad_alloc; system_error where the handshake fails.
/// Cost: some 40 ms.
///
///     const auto tls = holdfast::measure_tls_memory(context).value();
///     const holdfast::capacity_plan plan{{.tls_bytes = tls.idle_bytes, .handshake_bytes = tls.handshake_bytes},
///                                        {.memory_bytes = 2'000'000'000, .handshakes = 32}};
[[nodiscard]] inline std::optional<tls_memory> measure_tls_memory(const tls_context& context)
{
    const auto before = detail::heap_in_use();
    void* const probe = ::operator new(4096); // called by name, so that it is not optimized away
    const auto after = detail::heap_in_use();
    ::operator delete(probe);
    if (!before || *after < *before + 4096) return std::nullopt; // another allocator
    std::array<std::optional<detail::weighed_handshake>, 20> all;
    constexpr std::size_t first = 4; // OpenSSL's own tables are made once
    tls_memory found;
    std::size_t at_first = 0;
    for (std::size_t i = 0; i != all.size(); ++i) {
        if (i == first) at_first = *detail::heap_in_use();
        const std::size_t most = all[i].emplace().run(context);
        if (i >= first) found.handshake_bytes = std::max(found.handshake_bytes, most);
    }
    const std::size_t taken = std::max(*detail::heap_in_use(), at_first) - at_first;
    found.idle_bytes = taken / (all.size() - first); // less what the allocator keeps for the next one, likewise
    found.handshake_bytes = std::max(found.handshake_bytes, found.idle_bytes);
    return found;
}

} // namespace holdfast

#endif
