// holdfast: tls_stream's operations in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_layer.hpp>
#include <holdfast/bounded_acceptor.hpp>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <poll.h>
#include <sys/socket.h>

namespace {

namespace net = holdfast::net;

using conformance::server_context;
using conformance::tls_pair;

struct read_some : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool several = false;
    static constexpr bool outlives_context = false; // as a socket

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor) {}

        template <class Token>
        auto start(Token&& token)
        {
            return ends.stream->async_read_some(net::buffer(*to), std::forward<Token>(token));
        }
        void step() { ends.client->send(ends.client->seal("text").substr(0, 10)); } // of a record
        void complete() { ends.client->send(ends.client->seal("text")); }

        std::shared_ptr<std::array<char, 100>> to = std::make_shared<std::array<char, 100>>();
        tls_pair<Executor> ends;
    };
};

/// A stream whose socket's buffer is full: a local one, since the kernel moves what TCP has sent on to the receiver's
/// buffer, and makes room, whenever it finds the time.
template <class Executor>
struct full_socket {
    explicit full_socket(const Executor& executor) : ends(executor)
    {
        const int descriptor = ends.stream->next_layer().native_handle();
        const std::string block(65536, 'x'); // not of TLS: the client only takes it away
        while (::send(descriptor, block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
        while (::send(descriptor, block.data(), 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
    }

    void complete()
    {
        char taken[65536];
        const int descriptor = ends.client->socket().native_handle();
        while (::recv(descriptor, taken, sizeof taken, MSG_DONTWAIT) > 0)
            ;
    }

    tls_pair<Executor, conformance::local_layer> ends;
};

struct waits_for_room : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool several = false;
    static constexpr bool outlives_context = false; // as a socket
    static constexpr bool completes_at_once = false;
};

struct write_some : waits_for_room {
    template <class Executor>
    struct object : full_socket<Executor> {
        using full_socket<Executor>::full_socket;

        template <class Token>
        auto start(Token&& token)
        {
            return this->ends.stream->async_write_some(net::buffer("text", 4), std::forward<Token>(token));
        }
    };
};

/// Waits, since close_notify finds no room.
struct shut_down : waits_for_room {
    template <class Executor>
    struct object : full_socket<Executor> {
        using full_socket<Executor>::full_socket;

        template <class Token>
        auto start(Token&& token)
        {
            return this->ends.stream->async_shutdown(std::forward<Token>(token));
        }
    };
};

/// A server's, whose client answers on a thread of its own.
struct handshake : waits_for_room {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor)
        {
            conformance::tcp_layer::connected<Executor> below(executor);
            net::ip::tcp::socket socket(client_io);
            const auto local = below.peer.socket.local_endpoint();
            socket.assign(local.protocol(), below.peer.socket.release());
            client = std::make_unique<tests::tls_peer>(std::move(socket));
            server = std::make_unique<holdfast::tls_stream<conformance::tcp_layer::stream<Executor>>>(
                std::move(*below.stream), server_context());
        }
        ~object()
        {
            server.reset();
            if (answering.joinable()) answering.join();
        }

        template <class Token>
        auto start(Token&& token)
        {
            return server->async_handshake(holdfast::tls_role::server, std::forward<Token>(token));
        }
        void step() { client->handshake(); } // its first message
        void complete()
        {
            answering = std::thread([this] {
                try {
                    ::pollfd readable{client->socket().native_handle(), POLLIN, 0};
                    while (!client->handshake() && ::poll(&readable, 1, 30'000) == 1 && client->receive())
                        ;
                } catch (const std::runtime_error&) { // the server has closed its end
                }
            });
        }

        net::io_context client_io;
        std::unique_ptr<tests::tls_peer> client;
        std::unique_ptr<holdfast::tls_stream<conformance::tcp_layer::stream<Executor>>> server;
        std::thread answering;
    };
};

/// An acceptor's, with handshakes.
struct serve : conformance::operation {
    static constexpr bool any_thread = true;
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false; // it succeeds then

    template <class Executor>
    struct object {
        using acceptor_type = holdfast::bounded_acceptor<net::ip::tcp, holdfast::no_finalizer, Executor>;

        explicit object(const Executor& executor) : acceptor(executor, {net::ip::address_v4::loopback(), 0}) {}

        template <class Token>
        auto start(Token&& token)
        {
            return acceptor.async_serve(
                holdfast::tls(server_context()), [](auto peer) { peer.close(); }, std::forward<Token>(token));
        }
        void complete() { acceptor.close(); }

        acceptor_type acceptor;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(read_some);
HOLDFAST_CONFORMANCE(write_some);
HOLDFAST_CONFORMANCE(shut_down);
HOLDFAST_CONFORMANCE(handshake);
HOLDFAST_CONFORMANCE(serve);
