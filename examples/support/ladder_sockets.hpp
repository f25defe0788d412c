// holdfast: the kernel memory of one server's sockets, by netlink, as ss -m reads it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_SOCKETS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_SOCKETS_HPP

#include "ladder_clients.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace ladder {

/// Returns the buffer bytes of one socket in a netlink message: unread, unsent and unacknowledged bytes, and memory
/// that is reserved for them.
inline std::uint64_t socket_buffer_bytes(const nlmsghdr& message)
{
    const auto* const socket = static_cast<const inet_diag_msg*>(NLMSG_DATA(&message));
    auto left = static_cast<int>(message.nlmsg_len - NLMSG_LENGTH(sizeof *socket));
    for (const auto* each = reinterpret_cast<const rtattr*>(socket + 1); RTA_OK(each, left);
         each = RTA_NEXT(each, left)) {
        if (each->rta_type != INET_DIAG_SKMEMINFO) continue;
        std::array<std::uint32_t, SK_MEMINFO_VARS> figures{};
        std::memcpy(figures.data(), RTA_DATA(each), std::min(sizeof figures, RTA_PAYLOAD(each)));
        return std::uint64_t{figures[SK_MEMINFO_RMEM_ALLOC]} + figures[SK_MEMINFO_WMEM_QUEUED] +
               figures[SK_MEMINFO_FWD_ALLOC] + figures[SK_MEMINFO_OPTMEM] + figures[SK_MEMINFO_BACKLOG];
    }
    return 0;
}

/// Reads the buffer bytes of all TCP sockets on a local port: of the server's end alone, unlike /proc/net/sockstat.
/// Returns nothing where netlink is not available.
inline std::optional<std::uint64_t> read_port_buffers(std::uint16_t port)
{
    const descriptor kernel{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
    if (!kernel) return std::nullopt;
    std::uint64_t sum = 0;
    for (const int family : {AF_INET, AF_INET6}) {
        struct {
            nlmsghdr header;
            inet_diag_req_v2 body;
        } question{};
        question.header.nlmsg_len = sizeof question;
        question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
        question.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        question.body.sdiag_family = static_cast<std::uint8_t>(family);
        question.body.sdiag_protocol = IPPROTO_TCP;
        question.body.idiag_ext = 1U << (INET_DIAG_SKMEMINFO - 1);
        question.body.idiag_states = UINT32_MAX;
        question.body.id.idiag_sport = htons(port);
        if (::send(kernel.get(), &question, sizeof question, 0) != sizeof question) return std::nullopt;
        alignas(nlmsghdr) std::array<char, 32 * 1024> answer;
        for (bool done = false; !done;) {
            const ::ssize_t got = ::recv(kernel.get(), answer.data(), answer.size(), 0);
            if (got <= 0) return std::nullopt;
            auto left = static_cast<std::size_t>(got);
            for (auto* each = reinterpret_cast<nlmsghdr*>(answer.data()); NLMSG_OK(each, left);
                 each = NLMSG_NEXT(each, left)) {
                if (each->nlmsg_type == NLMSG_ERROR) return std::nullopt;
                done = each->nlmsg_type == NLMSG_DONE;
                if (done) break;
                sum += socket_buffer_bytes(*each);
            }
        }
    }
    return sum;
}

} // namespace ladder

#endif
