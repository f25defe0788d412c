// holdfast: admitted_connection, a connection that carries its permit and its place in the acceptor's census.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADMITTED_CONNECTION_HPP
#define HOLDFAST_ADMITTED_CONNECTION_HPP

#include <holdfast/asio.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/connection/admission.hpp>

#include <utility>

namespace holdfast {

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor;

/// A connection that a `bounded_acceptor` let in: a `connection_guard` that carries its permit and its place
/// in the acceptor's census. Both are given back when it ends, whichever way, after the descriptor was closed
/// and the finalizer ran; it may outlive the acceptor.
template <class Protocol, connection_finalizer Finalizer = no_finalizer,
          class Executor = net::any_io_executor>
class admitted_connection
    : public connection_guard<net::basic_stream_socket<Protocol, Executor>, detail::admission<Finalizer>> {
    using guard =
        connection_guard<net::basic_stream_socket<Protocol, Executor>, detail::admission<Finalizer>>;

public:
    /// Whether a drain has told this connection to end: its next read finds the end of the stream, writing
    /// still works. Thread-safe; a short lock.
    [[nodiscard]] bool draining() const noexcept { return this->finalizer().told(); }

private:
    template <class, connection_finalizer, class>
    friend class bounded_acceptor;

    using guard::guard;
    admitted_connection(const Executor& executor, Finalizer finalizer)
        : guard(typename guard::ended_t{}, typename guard::stream_type(executor),
                detail::admission<Finalizer>(std::move(finalizer)))
    {
    }
};

} // namespace holdfast

#endif
