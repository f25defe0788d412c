// holdfast: which handlers must not compile with async_serve; the build compiles it by REFUSED, and reads why.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/bounded_acceptor.hpp>

namespace net = holdfast::net;
using acceptor = holdfast::bounded_acceptor<net::ip::tcp>;
using connection = acceptor::connection_type;

#if REFUSED == 1
void serve(acceptor& clients)
{
    clients.async_serve([](connection&) {}, net::detached); // whose would the connection be?
}
#elif REFUSED == 2
void serve(acceptor& clients)
{
    clients.async_serve([](net::ip::tcp::socket) {}, net::detached);
}
#elif REFUSED == 3
void serve(acceptor& clients)
{
    clients.async_serve([](connection) { return 0; }, net::detached); // what would be done with it?
}
#else
net::awaitable<void> session(connection) { co_return; }

void serve(acceptor& clients)
{
    clients.async_serve([](connection) {}, net::detached);
    clients.async_serve([](auto, std::size_t) {}, net::detached);
    clients.async_serve(session, net::detached);
}
#endif
