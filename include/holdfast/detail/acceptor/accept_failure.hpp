// holdfast: what a failed accept(2) stands for.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_FAILURE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_FAILURE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/accept_machine.hpp>

#include <cerrno>

namespace holdfast::detail {

/// By number: Asio's category of system errors does not map them to std::errc in every version. `lost` is what
/// accept(2) on Linux reports of a client's own connection.
inline accept_occurrence classify_accept(const error_code& ec) noexcept
{
    if (!ec) return accept_occurrence::accepted;
    if (ec.category() != net::error::get_system_category()) return accept_occurrence::failed;
    switch (ec.value()) {
    case EWOULDBLOCK:
        return accept_occurrence::would_block;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC: // of epoll(7): as many descriptors are watched as the user may have
        return accept_occurrence::shortage;
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
        return accept_occurrence::lost;
    default:
        return accept_occurrence::failed;
    }
}

} // namespace holdfast::detail

#endif
