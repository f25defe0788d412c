// holdfast: what a failed accept(2) stands for.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_FAILURE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_FAILURE_HPP

#include <holdfast/asio.hpp>

#include <cerrno>

namespace holdfast::detail {

enum class accept_failure : unsigned char {
    none,
    /// Nobody is there.
    nobody,
    /// Descriptors or memory have run out: later it may work.
    shortage,
    /// The newcomer is gone; the next one may be there.
    loss,
    /// The listener itself does not work.
    final,
};

/// By number: Asio's category of system errors does not map them to std::errc in every version. What is taken
/// for a loss is what accept(2) on Linux passes on from a newcomer's own connection.
inline accept_failure classify_accept(const error_code& ec) noexcept
{
    if (!ec) return accept_failure::none;
    if (ec.category() != net::error::get_system_category()) return accept_failure::final;
    switch (ec.value()) {
    case EWOULDBLOCK:
        return accept_failure::nobody;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC: // of epoll(7): as many descriptors are watched as the user may have
        return accept_failure::shortage;
    case ECONNABORTED:
    case EPROTO:
    case EINTR:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ETIMEDOUT:
    case EPERM:
        return accept_failure::loss;
    default:
        return accept_failure::final;
    }
}

} // namespace holdfast::detail

#endif
