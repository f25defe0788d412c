// holdfast: sockets of ended connections that stay open until their peers have acknowledged the last bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_LINGERING_SOCKETS_HPP
#define HOLDFAST_DETAIL_CONNECTION_LINGERING_SOCKETS_HPP

#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>

#include <chrono>
#include <cstddef>
#include <deque>
#include <mutex>
#include <new>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace holdfast::detail {

/// A closed socket belongs to the kernel, which keeps its unacknowledged bytes for as long as the peer acknowledges
/// one now and then. An open one can be counted and reset. Oldest first. Not thread-safe.
class lingering_sockets {
public:
    using clock = std::chrono::steady_clock;

    lingering_sockets() = default;
    lingering_sockets(const lingering_sockets&) = delete;

    /// What is left is the kernel's from now on, for `orphan_timeout_ms` without an acknowledgement.
    ~lingering_sockets()
    {
        for (const entry& each : sockets_)
            if (each.descriptor >= 0) ::close(each.descriptor);
    }

    /// Keeps the socket of a descriptor that is about to be closed, and ends its sending side. False where there is no
    /// descriptor or no memory for it. (Asio removes a descriptor from epoll before it closes it, where the descriptor
    /// was assigned, as an acceptor's are: a copy may stay open.)
    bool keep(int descriptor, clock::time_point now) noexcept
    {
        const int copy = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
        if (copy < 0) return false;
        try {
            sockets_.push_back({copy, now});
        } catch (const std::bad_alloc&) {
            ::close(copy);
            return false;
        }
        ++open_;
        ::shutdown(copy, SHUT_WR);
        return true;
    }

    /// Closes what is acknowledged or has had its time: of the oldest all, of the others one in each call.
    void prune(clock::time_point now) noexcept
    {
        while (!sockets_.empty() && has_ended(sockets_.front(), now)) {
            end(sockets_.front());
            sockets_.pop_front();
        }
        if (sockets_.empty()) return;
        next_ = next_ + 1 < sockets_.size() ? next_ + 1 : 0;
        if (has_ended(sockets_[next_], now)) end(sockets_[next_]);
    }

    /// Ends the oldest one, by a reset where the peer has not acknowledged everything. False where there is none.
    bool drop_oldest() noexcept
    {
        while (!sockets_.empty()) {
            const bool dropped = end(sockets_.front());
            sockets_.pop_front();
            if (dropped) return true;
        }
        return false;
    }

    /// The number of open ones.
    [[nodiscard]] std::size_t size() const noexcept { return open_; }

private:
    struct entry {
        int descriptor; // -1: closed
        clock::time_point since;
    };

    static bool has_ended(const entry& e, clock::time_point now) noexcept
    {
        return e.descriptor < 0 || now - e.since >= std::chrono::milliseconds(orphan_timeout_ms) ||
               all_acknowledged(e.descriptor);
    }

    bool end(entry& e) noexcept
    {
        if (e.descriptor < 0) return false;
        if (!all_acknowledged(e.descriptor)) reset_at_close(e.descriptor);
        ::close(e.descriptor);
        e.descriptor = -1;
        --open_;
        return true;
    }

    std::deque<entry> sockets_;
    std::size_t open_ = 0;
    std::size_t next_ = 0;
};

/// The connections of all acceptors that share a semaphore, and the lingering sockets of those that have ended: together
/// they are at most as many as the semaphore has units. Thread-safe.
class socket_bound {
public:
    using clock = lingering_sockets::clock;

    /// Counts a connection, which takes the place of the oldest lingering socket where both together exceed `limit`.
    void enter(std::size_t limit, clock::time_point now) noexcept
    {
        const std::lock_guard lock(mutex_);
        ++live_;
        lingering_.prune(now);
        while (lingering_.size() != 0 && (live_ > limit || lingering_.size() > limit - live_))
            lingering_.drop_oldest();
    }

    /// A connection has ended; its socket lingers or is closed.
    void leave() noexcept
    {
        const std::lock_guard lock(mutex_);
        --live_;
        if (lingering_.size() != 0) lingering_.prune(clock::now());
    }

    /// See `lingering_sockets::keep`.
    bool keep(int descriptor) noexcept
    {
        const std::lock_guard lock(mutex_);
        return lingering_.keep(descriptor, clock::now());
    }

    /// See `lingering_sockets::drop_oldest`.
    bool drop_oldest() noexcept
    {
        const std::lock_guard lock(mutex_);
        return lingering_.drop_oldest();
    }

private:
    std::mutex mutex_;
    std::size_t live_ = 0;
    lingering_sockets lingering_;
};

} // namespace holdfast::detail

#endif
