// holdfast: the streams over which the conformance matrix runs operations: connected pairs of each layer.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_CONFORMANCE_LAYERS_HPP
#define HOLDFAST_TESTS_CONFORMANCE_LAYERS_HPP

#include <holdfast/asio.hpp>

#if defined(CONFORMANCE_TLS)
#include "support/tls.hpp"
#endif

#include <cstddef>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

namespace conformance {

namespace net = holdfast::net;

/// The other end of a stream, with blocking operations, in a context of its own.
template <class Protocol>
struct peer_socket {
    net::io_context io;
    typename Protocol::socket socket{io};

    void write(std::string_view bytes) { net::write(socket, net::buffer(bytes)); }
    void close() { socket.close(); }
};

// Each layer has a `stream<Executor>` and makes `connected`: the stream under test, and its peer.

/// TCP itself.
struct tcp_layer {
    template <class Executor>
    using stream = net::basic_stream_socket<net::ip::tcp, Executor>;

    template <class Executor>
    struct connected {
        explicit connected(const Executor& executor)
        {
            net::ip::tcp::acceptor listener(peer.io, {net::ip::address_v4::loopback(), 0});
            peer.socket.connect(listener.local_endpoint());
            auto accepted = listener.accept();
            const int descriptor = accepted.release();
            stream = std::make_unique<tcp_layer::stream<Executor>>(executor, net::ip::tcp::v4(), descriptor);
        }

        peer_socket<net::ip::tcp> peer;
        std::unique_ptr<tcp_layer::stream<Executor>> stream;
    };
};

/// A local socket.
struct local_layer {
    using protocol = net::local::stream_protocol;

    template <class Executor>
    using stream = net::basic_stream_socket<protocol, Executor>;

    template <class Executor>
    struct connected {
        explicit connected(const Executor& executor) : stream(std::make_unique<local_layer::stream<Executor>>(executor))
        {
            net::local::connect_pair(peer.socket, *stream);
        }

        peer_socket<protocol> peer;
        std::unique_ptr<local_layer::stream<Executor>> stream;
    };
};

/// A user's layer: it reads and writes through another stream, and has neither a descriptor nor readiness.
template <class Next>
class user_stream {
public:
    using executor_type = typename Next::executor_type;
    using next_layer_type = Next;
    using lowest_layer_type = typename Next::lowest_layer_type;

    explicit user_stream(Next next) : next_(std::move(next)) {}

    executor_type get_executor() { return next_.get_executor(); }
    next_layer_type& next_layer() { return next_; }
    lowest_layer_type& lowest_layer() { return next_.lowest_layer(); }

    template <class Buffers, class Token>
    auto async_read_some(const Buffers& buffers, Token&& token)
    {
        return next_.async_read_some(buffers, std::forward<Token>(token));
    }
    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token)
    {
        return next_.async_write_some(buffers, std::forward<Token>(token));
    }

private:
    Next next_;
};

struct user_layer {
    template <class Executor>
    using stream = user_stream<tcp_layer::stream<Executor>>;

    template <class Executor>
    struct connected {
        explicit connected(const Executor& executor)
        {
            tcp_layer::connected<Executor> below(executor);
            net::ip::tcp::endpoint const local = below.peer.socket.local_endpoint();
            peer.socket.assign(local.protocol(), below.peer.socket.release());
            stream = std::make_unique<user_layer::stream<Executor>>(std::move(*below.stream));
        }

        peer_socket<net::ip::tcp> peer;
        std::unique_ptr<user_layer::stream<Executor>> stream;
    };
};

#if defined(CONFORMANCE_TLS)
/// TLS by Asio's `ssl::stream`. (Define CONFORMANCE_TLS, and link OpenSSL.)
struct tls_layer {
    template <class Executor>
    using stream = net::ssl::stream<tcp_layer::stream<Executor>>;

    struct tls_peer {
        tests::anonymous_context context;
        net::io_context io;
        net::ssl::stream<net::ip::tcp::socket> socket{io, context};

        void write(std::string_view bytes) { net::write(socket, net::buffer(bytes)); }
        void close() { socket.next_layer().close(); }
    };

    template <class Executor>
    struct connected {
        explicit connected(const Executor& executor)
        {
            tcp_layer::connected<Executor> below(executor);
            net::ip::tcp::endpoint const local = below.peer.socket.local_endpoint();
            peer.socket.next_layer().assign(local.protocol(), below.peer.socket.release());
            stream = std::make_unique<tls_layer::stream<Executor>>(std::move(*below.stream), peer.context);
            std::thread other_end([this] { peer.socket.handshake(net::ssl::stream_base::client); });
            stream->handshake(net::ssl::stream_base::server);
            other_end.join();
        }

        tls_peer peer;
        std::unique_ptr<tls_layer::stream<Executor>> stream;
    };
};
#endif

} // namespace conformance

#endif
