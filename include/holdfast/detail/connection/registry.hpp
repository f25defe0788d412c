// holdfast: the live connections of one acceptor: who they are, what they hold, how to end them from
// elsewhere, how the others ended.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_REGISTRY_HPP
#define HOLDFAST_DETAIL_CONNECTION_REGISTRY_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/types.h>

namespace holdfast::detail {

/// Thread-safe. It lives for as long as its owner or one of its connections does: while there are any it owns
/// itself, so that each needs but a plain pointer. The units of room that they take are held here, too, as
/// one permit. A connection from elsewhere is ended with ::shutdown(), which touches no state of Asio's and
/// wakes the pending operation. That is safe because a connection leaves (`disarm`) before it closes its
/// descriptor, under the same lock: the number cannot have been given to another file.
class registry : public std::enable_shared_from_this<registry> {
public:
    using clock = std::chrono::steady_clock;

    /// The place of one connection; nodes are named by index, so moving a connection costs nothing.
    using index = std::uint32_t;

    /// The name of one connection for ever: its place, and which of those that were there it is.
    using id = std::uint64_t;

    /// A live connection, as its descriptor's owner in the kernel sees it.
    struct member {
        registry::id id;
        clock::time_point since;
        bool told;
        std::optional<tcp_bytes> bytes;
        ::sockaddr_storage remote;
        ::socklen_t remote_size; // zero: not known, or gone already
        ::pid_t remote_process;  // of a local socket's peer, else zero
    };

    /// The figures of the registry, read at one moment.
    struct totals {
        std::size_t live = 0;
        std::size_t peak = 0;
        std::array<std::uint64_t, close_reason_count> ended{};
        std::optional<clock::time_point> oldest;
    };

    registry(std::size_t expected, std::size_t max_per_address) : addresses(max_per_address, expected)
    {
        nodes_.reserve(std::min<std::size_t>(expected, 1U << 20U)); // address space only, until used
    }

    /// Enters a connection, for which it takes over `room`. Allocates only beyond the expected number; strong
    /// guarantee.
    index enter(int descriptor, permit& room)
    {
        const auto now = clock::now();
        const std::lock_guard lock(mutex_);
        index place = free_;
        if (place == nowhere) {
            place = static_cast<index>(nodes_.size());
            nodes_.emplace_back();
        } else {
            free_ = nodes_[place].next_free;
        }
        node& n = nodes_[place];
        n = node{now, descriptor, nowhere, n.generation + 1, close_reason::none, false, true};
        if (live_ == 0) self_ = shared_from_this();
        room_.merge(room);
        peak_ = std::max(peak_, ++live_);
        return place;
    }

    /// Takes the descriptor out of reach of the others, just before it is closed; returns the first cause of
    /// the end.
    close_reason disarm(index place, close_reason cause) noexcept
    {
        const std::lock_guard lock(mutex_);
        node& n = nodes_[place];
        n.descriptor = -1;
        if (n.cause != close_reason::none)
            cause = n.cause;
        else if (n.told && (cause == close_reason::local || cause == close_reason::abandoned ||
                            cause == close_reason::peer_closed))
            cause = close_reason::drained;
        n.cause = cause;
        return cause;
    }

    /// Strikes a connection off, after its descriptor was closed and its finalizer ran, and gives back what
    /// it held. The registry may be gone afterwards.
    void leave(index place) noexcept
    {
        std::shared_ptr<registry> last; // released outside of the lock, like the unit of room
        permit freed;
        const std::lock_guard lock(mutex_);
        node& n = nodes_[place];
        ++ended_[static_cast<std::size_t>(n.cause)];
        n.live = false;
        n.next_free = std::exchange(free_, place);
        ++departures_;
        ++changes_;
        wake_waits();
        freed = room_.split(1);
        if (--live_ == 0) last = std::move(self_);
    }

    /// Ends reading on up to `limit` connections from `cursor` on, so that their pending or next read finds
    /// the end of the stream; returns where to go on, or nothing when all were told.
    std::optional<std::size_t> tell(std::size_t cursor, std::size_t limit) noexcept
    {
        const std::lock_guard lock(mutex_);
        for (; cursor < nodes_.size() && limit != 0; ++cursor) {
            node& n = nodes_[cursor];
            if (!n.live || n.told) continue;
            n.told = true;
            if (n.descriptor >= 0) ::shutdown(n.descriptor, SHUT_RD);
            --limit;
        }
        return cursor < nodes_.size() ? std::optional(cursor) : std::nullopt;
    }

    /// Ends one connection: its pending or next operation fails, and the close that follows is for `cause`.
    /// False when it is not there any more.
    bool end(id which, close_reason cause) noexcept
    {
        const std::lock_guard lock(mutex_);
        const auto place = static_cast<std::size_t>(which & nowhere);
        if (place >= nodes_.size()) return false;
        node& n = nodes_[place];
        if (!n.live || n.descriptor < 0 || n.generation != which >> 32U) return false;
        if (n.cause == close_reason::none) n.cause = cause;
        ::shutdown(n.descriptor, SHUT_RDWR);
        return true;
    }

    /// Ends all that are left: both directions are shut down, and the close that follows resets. Returns how
    /// many.
    std::size_t abort_all() noexcept
    {
        const std::lock_guard lock(mutex_);
        std::size_t aborted = 0;
        for (node& n : nodes_) {
            if (!n.live || n.descriptor < 0) continue;
            n.told = true;
            if (n.cause == close_reason::none) n.cause = close_reason::drain_deadline;
            const ::linger reset{1, 0};
            ::setsockopt(n.descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::shutdown(n.descriptor, SHUT_RDWR);
            ++aborted;
        }
        return aborted;
    }

    /// Whether a drain has told this connection to end.
    bool told(index place) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return nodes_[place].told;
    }

    /// Fills `page` with live connections from `cursor` on; returns how many, and moves the cursor behind
    /// them.
    std::size_t list(std::size_t& cursor, std::span<member> page) const noexcept
    {
        const std::lock_guard lock(mutex_);
        std::size_t listed = 0;
        for (; cursor < nodes_.size() && listed != page.size(); ++cursor) {
            const node& n = nodes_[cursor];
            if (n.live && n.descriptor >= 0) page[listed++] = describe(cursor, n);
        }
        return listed;
    }

    totals read() const noexcept
    {
        const std::lock_guard lock(mutex_);
        totals sums{live_, peak_, ended_, std::nullopt};
        for (const node& n : nodes_)
            if (n.live && (!sums.oldest || n.since < *sums.oldest)) sums.oldest = n.since;
        return sums;
    }

    std::size_t live() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return live_;
    }

    /// How many have left so far.
    std::uint64_t departures() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return departures_;
    }

    /// Counts departures and calls of `wake()`: read before the reason for waiting arises, to lose none.
    std::uint64_t changes() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return changes_;
    }

    /// Ends all waits for departures, as a departure does.
    void wake() noexcept
    {
        const std::lock_guard lock(mutex_);
        ++changes_;
        wake_waits();
    }

    /// Waits for departures, on behalf of one who owns it: several may wait at once, each until its own time.
    /// It belongs to one thread or strand, but for what a departure does to it.
    class departure_wait {
    public:
        departure_wait(registry& members, const net::any_io_executor& executor)
            : members_(members), timer_(executor)
        {
            const std::lock_guard lock(members_.mutex_);
            next_ = members_.waits_;
            if (next_ != nullptr) next_->previous_ = this;
            members_.waits_ = this;
        }

        departure_wait(const departure_wait&) = delete;

        ~departure_wait()
        {
            const std::lock_guard lock(members_.mutex_);
            (previous_ != nullptr ? previous_->next_ : members_.waits_) = next_;
            if (next_ != nullptr) next_->previous_ = previous_;
        }

        /// Waits until a connection leaves (`operation_aborted`, like a cancelled timer) or `until` has come
        /// (success). A departure since `seen` was read ends the wait at once.
        template <class Token>
        auto async_wait(std::uint64_t seen, clock::time_point until, Token&& token)
        {
            return net::async_initiate<Token, void(error_code)>(
                [this, seen, until](auto handler) {
                    const std::lock_guard lock(
                        members_.mutex_); // no departure slips in between look and wait
                    timer_.expires_at(members_.changes_ == seen ? until : clock::time_point::min());
                    timer_.async_wait(std::move(handler));
                },
                token);
        }

        /// Ends the wait.
        void cancel() noexcept
        {
            const std::lock_guard lock(members_.mutex_);
            timer_.cancel();
        }

    private:
        friend class registry;

        registry& members_;
        net::steady_timer timer_;
        departure_wait* next_ = nullptr;
        departure_wait* previous_ = nullptr;
    };

    /// How many connections each address has.
    address_table addresses;

private:
    static constexpr index nowhere = ~index(0);

    struct node {
        clock::time_point since;
        int descriptor = -1;
        index next_free = nowhere;
        std::uint32_t generation = 0; // counts those who have had this place
        close_reason cause = close_reason::none;
        bool told = false;
        bool live = false;
    };

    void wake_waits() noexcept
    {
        for (departure_wait* each = waits_; each != nullptr; each = each->next_)
            each->timer_.cancel();
    }

    static member describe(std::size_t place, const node& n) noexcept
    {
        member m{id(n.generation) << 32U | place, n.since, n.told, bytes_of(n.descriptor), {}, 0, 0};
        m.remote_size = sizeof m.remote;
        if (::getpeername(n.descriptor, reinterpret_cast<::sockaddr*>(&m.remote), &m.remote_size) != 0)
            m.remote_size = 0;
        else if (m.remote.ss_family == AF_UNIX) {
            ::ucred peer{};
            ::socklen_t size = sizeof peer;
            if (::getsockopt(n.descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
                m.remote_process = peer.pid;
        }
        return m;
    }

    mutable std::mutex mutex_;
    std::shared_ptr<registry> self_; // while there are connections
    permit room_;                    // a unit for each of them
    std::vector<node> nodes_;
    index free_ = nowhere;
    std::size_t live_ = 0;
    std::size_t peak_ = 0;
    std::uint64_t departures_ = 0;
    std::uint64_t changes_ = 0;
    std::array<std::uint64_t, close_reason_count> ended_{};
    departure_wait* waits_ = nullptr;
};

} // namespace holdfast::detail

#endif
