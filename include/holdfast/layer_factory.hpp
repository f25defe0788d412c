// holdfast: layer_factory, by which an acceptor puts a layer such as TLS on top of each connection before its session.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_LAYER_FACTORY_HPP
#define HOLDFAST_LAYER_FACTORY_HPP

#include <holdfast/asio.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <utility>

namespace holdfast {

/// Limits of the handshakes of new connections. A handshake costs about a thousand times the CPU time of a message, and
/// with OpenSSL some 45 KB of memory, so their number needs a limit for the case that many clients connect at once.
///
/// Their steps alternate with other handlers, also those of several acceptors in one execution context: a thread of the
/// context performs one step, then the handlers that have become ready meanwhile, then the next step. Existing sessions
/// are delayed by one step of 0.1 to 0.5 ms (a server's signature), whatever the number of handshakes.
struct handshake_options {
    /// Maximum number of handshakes under way at a time. At least 1. SIZE_MAX: unlimited. Further connections wait,
    /// admitted and with their permit, in the order in which their first messages came; each holds its socket and a
    /// block of about 1 KB meanwhile, and ends when its client leaves.
    ///
    /// Where the client begins, as in TLS, a handshake is under way from when the client's first message (TLS: the
    /// ClientHello) has arrived to its last byte until the handshake has succeeded or failed. A client that sends
    /// nothing, or a part of that message, does not count, except where the part fills the socket's receive buffer, and
    /// on a local socket. For other layers a handshake is under way from the admission.
    ///
    /// The wait for the client's answer counts, since the layer's memory is in use. For each `max_handshakes` clients
    /// that send their first message and then nothing, the others wait `contended_timeout` longer;
    /// `acceptor_options::max_per_address` limits the number of such clients. A higher maximum costs memory, but does
    /// not delay sessions.
    std::size_t max_handshakes = 32;
    /// The time that a client has to send its first message, and then once more for the handshake; the wait between
    /// the two is not limited. Must be positive. The maximum: unlimited.
    std::chrono::steady_clock::duration handshake_timeout = std::chrono::seconds(5);
    /// The time that a handshake under way has while other connections wait because of `max_handshakes`: one that takes
    /// longer ends with `handshake_timeout`, unless the client has answered and the server is late. It is checked each
    /// time that this much has passed. It should exceed the few round trips of a handshake with the slowest client.
    /// Must be positive. A value of at least `handshake_timeout`, such as the maximum, has no effect.
    std::chrono::steady_clock::duration contended_timeout = std::chrono::seconds(1);
};

/// Makes the layer of each new connection for `bounded_acceptor::async_serve`, as `tls()` does. A factory has
/// - `make(socket)`: takes the connected socket by value, and returns the stream above it: a layer as
///   `connection_guard` describes. It may throw; that connection ends then.
/// - `async_handshake(stream, token)`: void(error_code). Starts the handshake of a stream that `make` has returned. Its
///   intermediate handlers should use the executor that is associated with the token's handler, as those of Asio's and
///   of this library's streams do: it is what makes handshakes take turns.
/// - `options()`: the `handshake_options`. Called once.
/// - optionally `static constexpr bool client_begins = true`, where the client is the first to send, as in TLS: `make`
///   is then called when its first message has arrived, so that silent clients cost no more than a socket;
/// - with that, optionally `first_message_size(begun)`: takes the bytes that have arrived, a `std::span<const
///   std::byte>` of at least one, and returns the size of the first message as far as they show it: more than their
///   number while it is incomplete. It is at most 16389 bytes (one TLS record); a client whose message is longer fails
///   with `message_size`. Without this function the message counts as complete when its first byte has arrived.
/// - optionally `peer_name(stream)`, which returns what the handshake has found out about the peer, as a string: it is
///   given to `admitted_connection::set_name`.
///
/// Thread safety: the functions but `options` are called on the connection's executor, concurrently
/// where connections have different ones.
///
///     struct asio_tls {
///         net::ssl::context& context;
///         auto make(tcp::socket socket) { return net::ssl::stream<tcp::socket>(std::move(socket), context); }
///         template <class Token>
///         auto async_handshake(net::ssl::stream<tcp::socket>& stream, Token&& token)
///         {
///             return stream.async_handshake(net::ssl::stream_base::server, std::forward<Token>(token));
///         }
///         holdfast::handshake_options options() const { return {}; }
///     };
template <class Factory, class Socket>
concept layer_factory = std::move_constructible<Factory> && requires(Factory& factory, Socket socket) {
    { factory.options() } -> std::convertible_to<handshake_options>;
    factory.make(std::move(socket));
} && requires(Factory& factory, decltype(std::declval<Factory&>().make(std::declval<Socket>()))& stream) {
    factory.async_handshake(stream, net::detached);
};

} // namespace holdfast

#endif
