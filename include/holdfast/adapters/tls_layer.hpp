// holdfast: tls(), with which an acceptor hands out TLS connections.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_TLS_LAYER_HPP
#define HOLDFAST_ADAPTERS_TLS_LAYER_HPP

#include <holdfast/adapters/detail/client_hello.hpp>
#include <holdfast/adapters/tls_context.hpp>
#include <holdfast/adapters/tls_stream.hpp>
#include <holdfast/layer_factory.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace holdfast {

/// Makes a `tls_stream` of each connection of an acceptor: a `layer_factory`. Made by `tls()`.
class tls_layer {
public:
    /// A TLS client sends its ClientHello first: a connection gets OpenSSL's objects when that has arrived.
    static constexpr bool client_begins = true;

    [[nodiscard]] static std::size_t first_message_size(std::span<const std::byte> begun) noexcept
    {
        return detail::client_hello_size(begun);
    }

    tls_layer(tls_context context, const handshake_options& options) : context_(std::move(context)), options_(options)
    {
    }

    [[nodiscard]] const handshake_options& options() const noexcept { return options_; }

    /// Makes the stream of a connection. Exceptions: std::bad_alloc.
    template <class Socket>
    [[nodiscard]] tls_stream<Socket> make(Socket socket) const
    {
        return {std::move(socket), context_};
    }

    template <class Socket, class CompletionToken>
    auto async_handshake(tls_stream<Socket>& stream, CompletionToken&& token) const
    {
        return stream.async_handshake(tls_role::server, std::forward<CompletionToken>(token));
    }

    /// The name in the client's certificate, where it has shown one.
    template <class Socket>
    [[nodiscard]] std::string peer_name(const tls_stream<Socket>& stream) const
    {
        return stream.peer_name();
    }

private:
    tls_context context_;
    handshake_options options_;
};

/// Has `bounded_acceptor::async_serve` perform TLS handshakes by `context`, whose certificates may be reloaded
/// meanwhile, and hand out connections over `tls_stream`.
///
///     acceptor.async_serve(holdfast::tls(context, {.max_handshakes = 32}),
///                          [](auto peer) { return session(std::move(peer)); }, net::detached);
[[nodiscard]] inline tls_layer tls(tls_context context, const handshake_options& options = {})
{
    return {std::move(context), options};
}

} // namespace holdfast

#endif
