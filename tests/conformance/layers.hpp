// holdfast: the streams over which the conformance matrix runs operations: connected pairs of each layer.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_CONFORMANCE_LAYERS_HPP
#define HOLDFAST_TESTS_CONFORMANCE_LAYERS_HPP

#include "conformance/harness.hpp"

#include <holdfast/asio.hpp>

#if defined(CONFORMANCE_TLS)
#include "support/certificates.hpp"
#include "support/tls.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_stream.hpp>
#endif

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>

#include <poll.h>
#include <sys/socket.h>

namespace conformance {

namespace net = holdfast::net;

/// The other end of a stream, with blocking operations, in a context of its own.
template <class Protocol>
struct peer_socket {
    net::io_context io;
    typename Protocol::socket socket{io};

    void write(std::string_view bytes) { net::write(socket, net::buffer(bytes)); }
    int descriptor() { return socket.native_handle(); }
};

/// Takes away what comes to a peer, on a thread of its own, until the stream ends; it must end before this does.
class taker {
public:
    taker() = default;
    taker(const taker&) = delete;
    ~taker()
    {
        if (thread_.joinable()) thread_.join();
    }

    void start(int descriptor)
    {
        thread_ = std::thread([descriptor] {
            char taken[65536];
            for (::pollfd readable{descriptor, POLLIN, 0}; ::poll(&readable, 1, 30'000) == 1;) {
                const auto n = ::recv(descriptor, taken, sizeof taken, MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return;
            }
        });
    }

    /// Ends the peer's own stream first.
    void end_stream_and_start(int descriptor)
    {
        ::shutdown(descriptor, SHUT_WR);
        start(descriptor);
    }

private:
    std::thread thread_;
};

// Each layer has a `stream<Executor>` and makes `connected`: the stream under test, and its peer.

/// TCP itself.
struct tcp_layer {
    static constexpr const char* name = "tcp_layer";

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
    static constexpr const char* name = "local_layer";

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
    static constexpr const char* name = "user_layer";

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
    static constexpr const char* name = "tls_layer";

    template <class Executor>
    using stream = net::ssl::stream<tcp_layer::stream<Executor>>;

    struct tls_peer {
        tests::anonymous_context context;
        net::io_context io;
        net::ssl::stream<net::ip::tcp::socket> socket{io, context};

        void write(std::string_view bytes) { net::write(socket, net::buffer(bytes)); }
        int descriptor() { return socket.next_layer().native_handle(); }
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

/// The context of each server's `tls_stream`.
inline const holdfast::tls_context& server_context()
{
    static const tests::certificate files;
    static const auto made = holdfast::tls_context::server(
        {.certificate_chain_file = files.chain_file(), .private_key_file = files.key_file()});
    return made;
}

/// A server's `tls_stream` and the client at its other end, after their handshake.
template <class Executor, class Below = tcp_layer>
struct tls_pair {
    using stream_type = holdfast::tls_stream<typename Below::template stream<Executor>>;

    explicit tls_pair(const Executor& executor)
    {
        typename Below::template connected<Executor> below(executor);
        net::ip::tcp::socket socket(client_io); // which reads and writes any descriptor
        socket.assign(net::ip::tcp::v4(), below.peer.socket.release());
        client = std::make_unique<tests::tls_peer>(std::move(socket));
        SSL* const session = server_context().make_session();
        ::SSL_set_fd(session, below.stream->native_handle()); // nothing runs the executor yet
        ::SSL_set_accept_state(session);
        below.stream->native_non_blocking(true);
        for (bool done = false, client_done = false; !done || !client_done;) {
            client_done = client->handshake() || client_done;
            done = ::SSL_do_handshake(session) == 1;
        }
        ::ERR_clear_error();
        stream = std::make_unique<stream_type>(std::move(*below.stream), session);
    }

    net::io_context client_io;
    std::unique_ptr<tests::tls_peer> client;
    std::unique_ptr<stream_type> stream;
};

/// TLS by the library's `tls_stream`.
struct tls_stream_layer {
    static constexpr const char* name = "tls_stream_layer";

    template <class Executor>
    using stream = holdfast::tls_stream<tcp_layer::stream<Executor>>;

    struct client_end {
        void write(std::string_view bytes) { session->send(session->seal(bytes)); }
        int descriptor() { return session->socket().native_handle(); }

        tests::tls_peer* session;
    };

    template <class Executor>
    struct connected : tls_pair<Executor> {
        explicit connected(const Executor& executor) : tls_pair<Executor>(executor), peer{this->client.get()} {}

        client_end peer;
    };
};
#endif

using all_layers = std::tuple<tcp_layer, local_layer, user_layer
#if defined(CONFORMANCE_TLS)
                              ,
                              tls_layer, tls_stream_layer
#endif
                              >;

/// A string literal as a template argument.
template <std::size_t Size>
struct literal {
    consteval literal(const char (&from)[Size]) { std::copy(from, from + Size, text); } // NOLINT: implicit
    char text[Size];
};

/// An operation of streams, over each layer.
template <template <class> class Operation, literal Name>
class joined_over_layers {
public:
    joined_over_layers() { join(static_cast<all_layers*>(nullptr)); }

private:
    template <class... Layers>
    static void join(std::tuple<Layers...>*)
    {
        ((void)joined<Operation<Layers>, extent_over<Layers>()>(Name.text, " over ", Layers::name), ...);
    }

    template <class Layer>
    static consteval extent extent_over()
    {
        constexpr bool first = std::is_same_v<Layer, tcp_layer>;
        if (!is_chosen(Name.text, Layer::name) || (compiled_extent == extent::few && !first)) return extent::none;
        return compiled_extent == extent::sample && !first ? extent::few : compiled_extent;
    }
};

} // namespace conformance

/// Joins the matrix over each layer; the argument is the name of a struct with a layer as its template argument.
#define HOLDFAST_CONFORMANCE_OF_STREAMS(operation)                                                                     \
    static const conformance::joined_over_layers<operation, #operation> HOLDFAST_CONFORMANCE_NAME(__LINE__)

#endif
