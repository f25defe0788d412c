// holdfast: admitted_connection, a connection that carries its permit and its entry in the acceptor's census.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADMITTED_CONNECTION_HPP
#define HOLDFAST_ADMITTED_CONNECTION_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/connection_name.hpp>
#include <holdfast/detail/connection/admission.hpp>

#include <string_view>
#include <utility>

namespace holdfast {

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor;

class key_limits;

namespace detail {
template <class Connection>
class proxied_starter;
} // namespace detail

/// A connection that a `bounded_acceptor` has admitted: a `connection_guard` that carries its permit and its entry in
/// the acceptor's census. When it ends, on every path, the permit is returned and the entry removed, after the
/// descriptor was closed and the finalizer was called. `upgrade()` puts a layer on top of its socket; permit and entry
/// stay with the connection.
///
/// Lifetime: it may outlive the acceptor.
/// Thread safety: as `connection_guard`, except where a member says otherwise.
template <class Stream = net::ip::tcp::socket, connection_finalizer Finalizer = no_finalizer>
class admitted_connection : public connection_guard<Stream, detail::admission<Finalizer>> {
    using guard = connection_guard<Stream, detail::admission<Finalizer>>;

public:
    using finalizer_type = Finalizer;

    /// The same connection with another stream: what `upgrade()` returns.
    template <class Layer>
    using rebind_stream = admitted_connection<Layer, Finalizer>;

    /// The same connection of a stream with another executor.
    template <class Executor>
    struct rebind_executor {
        using other = admitted_connection<typename Stream::template rebind_executor<Executor>::other, Finalizer>;
    };

    /// Returns whether a drain or `bounded_acceptor::shed` has notified this connection: its next read finds the end of
    /// the stream, and writing still works. Thread safety: safe. Cost: a short lock.
    [[nodiscard]] bool draining() const noexcept { return this->finalizer().notified(); }

    /// Names the peer, for the census and `connection_end`: the first 63 bytes of `name`. The name stays with the
    /// connection in `upgrade()`. Has no effect after the end.
    ///
    /// Exceptions: std::bad_alloc.
    void set_name(std::string_view name) { this->finalizer().set_name(connection_name(name)); }

    /// Sets the peer's address, for a session that learns it later, such as from an HTTP header of a proxy. The census,
    /// `connection_end` and the limit per address use this address from now on. (The proxy's own address should be
    /// exempt from the limit: `acceptor_options::address_filter`.)
    ///
    /// Returns false, and changes nothing, if the filter refuses the address or the address has as many connections as
    /// allowed: the session should then end. Has no effect after the end of the connection. The filter is called on the
    /// calling thread.
    ///
    /// Exceptions: std::bad_alloc, without an effect.
    [[nodiscard]] bool set_peer(const net::ip::tcp::endpoint& peer)
    {
        return learn_peer(peer) == detail::address_verdict::what::allowed;
    }

    /// States whether a message of the peer has been read in part: a drain with `drain_options::finish_frames` lets it
    /// finish. A `frame_reader` that was given the connection calls it; a session that reads by itself may call it.
    /// Thread safety: unsafe. Cost: a short lock if the value changes.
    void within_message(bool within) noexcept
    {
        if (this->change_within_message(within)) this->finalizer().within_message(within);
    }

private:
    template <class, connection_finalizer, class>
    friend class bounded_acceptor;
    friend struct detail::upgrade_access;
    template <class>
    friend class detail::proxied_starter;
    friend class key_limits;

    using guard::guard;

    detail::address_verdict::what learn_peer(const net::ip::tcp::endpoint& peer)
    {
        return this->finalizer().learn_peer(peer);
    }

    [[nodiscard]] auto place() const noexcept { return this->finalizer().place(); }

    admitted_connection(const typename guard::executor_type& executor, Finalizer finalizer)
        : guard(typename guard::ended_t{}, Stream(executor), detail::admission<Finalizer>(std::move(finalizer)))
    {
    }
};

} // namespace holdfast

#endif
