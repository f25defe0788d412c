// holdfast: which of the bytes that were sent count as progress.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_ACKNOWLEDGEMENTS_HPP
#define HOLDFAST_DETAIL_OUTBOX_ACKNOWLEDGEMENTS_HPP

#include <array>
#include <cstddef>
#include <cstdint>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace holdfast::detail {

/// Follows the acknowledgements of a connection while a message is in flight (see `progress`). A message that
/// the kernel has sent as a whole at once never is: its acknowledgement is the peer's kernel's, and says
/// nothing of the peer.
class acknowledgements {
public:
    /// Returns the bytes that count since the last call. `taken` is what the stream has taken since then;
    /// `sent_in_part`, whether part of a message is still to be sent.
    std::size_t observe(int descriptor, std::size_t taken, bool sent_in_part) noexcept
    {
        const bool was_in_flight = in_flight_;
        const tcp_bytes now = bytes_of(descriptor);
        in_flight_ = sent_in_part || now.unsent != 0;
        if (!now.known) return was_in_flight ? taken : 0;
        const std::uint32_t acknowledged = now.acknowledged - acknowledged_;
        acknowledged_ = now.acknowledged;
        return was_in_flight ? acknowledged : 0;
    }

    /// Whether a message was in flight at the last call.
    [[nodiscard]] bool in_flight() const noexcept { return in_flight_; }

private:
    struct tcp_bytes {
        bool known;
        std::uint32_t acknowledged; // modulo 2^32
        std::uint32_t unsent;       // in the kernel
    };

    static tcp_bytes bytes_of(int descriptor) noexcept
    {
        // Linux's struct tcp_info (linux/tcp.h) is longer than libc's, and the two headers exclude each other.
        struct longer_tcp_info {
            std::array<std::byte, 120> before;
            std::uint64_t bytes_acked;
            std::uint64_t bytes_received;
            std::uint32_t segs_out, segs_in;
            std::uint32_t notsent_bytes;
            std::uint32_t min_rtt;
        } info{};
        static_assert(sizeof(longer_tcp_info) == 152);
        ::socklen_t size = sizeof info;
        if (descriptor < 0 || ::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || size < sizeof info)
            return {};
        return {true, static_cast<std::uint32_t>(info.bytes_acked), info.notsent_bytes};
    }

    std::uint32_t acknowledged_ = 0; // modulo 2^32: far more than a connection has in flight between two calls
    bool in_flight_ = false;
};

} // namespace holdfast::detail

#endif
