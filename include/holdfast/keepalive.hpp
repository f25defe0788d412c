// holdfast: keepalive, which sets the socket options by which TCP itself notices that a peer is gone.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_KEEPALIVE_HPP
#define HOLDFAST_KEEPALIVE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace holdfast {

/// When the kernel gives up a TCP connection whose peer does not answer: a pulled cable, a crashed host, a middlebox
/// that has forgotten the connection. Reads and writes then fail with `net::error::timed_out`.
struct keepalive_options {
    /// Time without any traffic after which the kernel sends the first probe. 1 to 32,767 s; rounded up to whole
    /// seconds.
    std::chrono::milliseconds idle = std::chrono::seconds(60);
    /// Time between two probes. 1 to 32,767 s; rounded up to whole seconds.
    std::chrono::milliseconds interval = std::chrono::seconds(10);
    /// Number of unanswered probes after which the connection is given up. 1 to 127.
    int probes = 3;
    /// Maximum time that sent bytes stay unacknowledged (TCP_USER_TIMEOUT). The kernel does not probe while there are
    /// such bytes, so that without this limit a write to a dead peer would wait for a quarter of an hour. Must not be
    /// negative. 0 means `idle + interval * probes`, the time in which the death of an idle peer is noticed. The kernel
    /// applies the limit to unanswered probes too, and to a peer that acknowledges but does not read.
    std::chrono::milliseconds unacknowledged{0};
};

/// Sets SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT and TCP_USER_TIMEOUT of the TCP socket at the bottom of
/// `stream`. It complements a heartbeat: the kernel notices a dead peer also where the server expects nothing of it.
///
/// Errors: `net::error::invalid_argument` for values that the kernel does not take (more than 32,767 s, more
/// than 127 probes, none, negative), the system's where the socket is not TCP or not open. After an error
/// some of the options may have been set.
///
///     if (const auto ec = holdfast::keepalive(peer.stream(), {.idle = 30s})) std::clog << ec.message();
template <class Stream>
[[nodiscard]] error_code keepalive(Stream& stream, const keepalive_options& options = {}) noexcept
{
    using namespace std::chrono;
    constexpr int longest = std::numeric_limits<int>::max();
    const int descriptor = detail::lowest_layer(stream).native_handle();
    const auto seconds_of = [](milliseconds time) {
        return static_cast<int>(std::clamp<seconds::rep>(ceil<seconds>(time).count(), -1, longest));
    };
    const auto set = [descriptor](int level, int name, int value) {
        return ::setsockopt(descriptor, level, name, &value, sizeof value) == 0;
    };
    if (options.unacknowledged < milliseconds::zero() || options.probes < 1) return net::error::invalid_argument;
    if (set(SOL_SOCKET, SO_KEEPALIVE, 1) && set(IPPROTO_TCP, TCP_KEEPIDLE, seconds_of(options.idle)) &&
        set(IPPROTO_TCP, TCP_KEEPINTVL, seconds_of(options.interval)) &&
        set(IPPROTO_TCP, TCP_KEEPCNT, options.probes)) {
        // Only now: of values that the kernel has taken, the sum cannot overflow.
        const auto user_timeout = options.unacknowledged != milliseconds::zero()
                                      ? options.unacknowledged
                                      : options.idle + options.interval * options.probes;
        if (set(IPPROTO_TCP, TCP_USER_TIMEOUT,
                static_cast<int>(std::clamp<milliseconds::rep>(user_timeout.count(), 1, longest))))
            return {};
    }
    return {errno, net::error::get_system_category()};
}

} // namespace holdfast

#endif
