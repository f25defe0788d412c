// holdfast: the live connections of one acceptor: their peers, how to end them from elsewhere, and how those before
// them ended.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_REGISTRY_HPP
#define HOLDFAST_DETAIL_CONNECTION_REGISTRY_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/connection_name.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/lingering_sockets.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>
#include <holdfast/peer_address.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/socket.h>

namespace holdfast::detail {

/// Thread-safe. It lives as long as its owner or one of its connections: while there are any it owns itself, so
/// that each connection needs a plain pointer only. It also holds the units of the semaphore that the connections
/// take, as one permit.
///
/// A connection is ended from elsewhere by a system call that touches no state of Asio's and wakes the pending
/// operation. That is safe because a connection is disarmed before its descriptor is closed, under the same lock: the
/// number cannot have been given to another file.
class registry : public std::enable_shared_from_this<registry> {
public:
    using clock = std::chrono::steady_clock;

    /// The slot of one connection. Nodes are identified by index, so that moving a connection costs nothing.
    using index = std::uint32_t;

    /// The id of one connection, never used again: its slot and the slot's generation.
    using id = std::uint64_t;

    /// A live connection.
    struct member {
        registry::id id;
        clock::time_point since;
        bool notified;
        std::optional<tcp_bytes> bytes;
        peer_address peer;
        connection_name name;
    };

    /// What the connections do whose handshake, of a layer, is not finished, or was.
    struct handshake_counts {
        std::uint64_t pending = 0, completed = 0, failed = 0;
    };

    HOLDFAST_DECL registry(counted_ptr<semaphore_core<synchronized>> semaphore, std::size_t expected,
                           std::size_t max_per_address);

    /// Enters a connection, and takes over the unit that it holds. It takes the place of the oldest ended connection
    /// whose last bytes are not acknowledged, where both together would exceed the semaphore's limit. Allocates only
    /// beyond the expected number; strong guarantee.
    HOLDFAST_DECL index enter(int descriptor, permit& unit, const peer_address& peer);

    /// The end of a connection: its first cause, its peer, and when it began.
    struct ending {
        clock::time_point since;
        close_reason cause;
        peer_address peer;
        connection_name name;
    };

    /// Takes the descriptor out of reach of the others, just before it is closed.
    HOLDFAST_DECL ending disarm(index place, close_reason cause) noexcept;

    /// Prepares a disarmed descriptor for its close. Sent bytes that the peer has not acknowledged keep the socket open,
    /// in the place of the connection, so that they count.
    HOLDFAST_DECL void prepare_close(int descriptor) noexcept;

    /// Gives up the socket of one ended connection, where there is any: descriptors are exhausted.
    HOLDFAST_DECL bool drop_lingering() noexcept;

    id id_of(index place) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return id(nodes_[place].generation) << 32U | place;
    }

    clock::time_point since(index place) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return nodes_[place].since;
    }

    peer_address peer_of(index place) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return nodes_[place].peer;
    }

    void set_peer(index place, const peer_address& peer) noexcept
    {
        const std::lock_guard lock(mutex_);
        nodes_[place].peer = peer;
    }

    /// Names a connection. Throws std::bad_alloc.
    HOLDFAST_DECL void set_name(index place, const connection_name& name);

    /// Takes the descriptor out of reach while a layer is put upon its socket: what is done to the connection
    /// meanwhile is done by `resume`.
    void suspend(index place) noexcept
    {
        const std::lock_guard lock(mutex_);
        nodes_[place].descriptor = suspended;
    }

    HOLDFAST_DECL void resume(index place, int descriptor) noexcept;

    /// Removes a connection after its descriptor was closed and its finalizer ran, and returns its unit. The registry
    /// may be destroyed afterwards.
    HOLDFAST_DECL void leave(index place) noexcept;

    /// Notifies up to `limit` connections from `cursor` on that they are to end: their pending or next read returns
    /// the end of the stream; where a message is to finish, after that. Returns where to continue, or nothing when all
    /// were notified.
    HOLDFAST_DECL std::optional<std::size_t> notify(std::size_t cursor, std::size_t limit,
                                                    bool finish_frames = false) noexcept;

    /// The same for up to `limit` of all, from where the last call has stopped. Returns how many were notified.
    HOLDFAST_DECL std::size_t shed(std::size_t limit) noexcept;

    /// Ends one connection by a reset: its pending or next operation fails, and it ends for `cause`. False where it
    /// is not live any more.
    HOLDFAST_DECL bool end(id which, close_reason cause) noexcept;

    /// Ends all that are left, alike. Returns their number.
    HOLDFAST_DECL std::size_t abort_all() noexcept;

    /// A connection's message has begun, or has been read to its end.
    HOLDFAST_DECL void within_message(index place, bool within) noexcept;

    /// Whether a drain has notified this connection.
    bool notified(index place) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return nodes_[place].notified;
    }

    /// Fills `page` with live connections from `cursor` on; returns their number, and moves the cursor past them.
    HOLDFAST_DECL std::size_t list(std::size_t& cursor, std::span<member> page) const noexcept;

    /// When the oldest live connection began. O(peak).
    HOLDFAST_DECL std::optional<clock::time_point> oldest() const noexcept;

    std::size_t peak() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return peak_;
    }

    /// How many have ended for a reason.
    std::uint64_t ended(close_reason reason) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return ended_[static_cast<std::size_t>(reason)];
    }

    void begin_handshake() noexcept
    {
        const std::lock_guard lock(mutex_);
        ++handshakes_.pending;
    }
    void end_handshake(bool completed) noexcept
    {
        const std::lock_guard lock(mutex_);
        --handshakes_.pending;
        ++(completed ? handshakes_.completed : handshakes_.failed);
    }
    handshake_counts handshakes() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return handshakes_;
    }

    std::size_t live() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return live_;
    }

    /// How many have ended so far: to be read before the reason for waiting arises, so that no end is missed.
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

    /// Waits for departures, on behalf of its owner: several may wait at once, each until its own time.
    /// It belongs to one thread or strand, but for what a departure does to it.
    class departure_wait {
    public:
        HOLDFAST_DECL departure_wait(registry& members, const net::any_io_executor& executor);

        departure_wait(const departure_wait&) = delete;

        HOLDFAST_DECL ~departure_wait();

        /// Waits until a connection leaves (`operation_aborted`, like a cancelled timer) or `until` has come
        /// (success). A departure since `seen` was read ends the wait at once.
        template <class Token>
        auto async_wait(std::uint64_t seen, clock::time_point until, Token&& token)
        {
            return net::async_initiate<Token, void(error_code)>(
                [this, seen, until](auto handler) {
                    const std::lock_guard lock(members_.mutex_); // or a departure after the comparison would be lost
                    timer_.expires_at(members_.changes_ == seen ? until : clock::time_point::min());
                    timer_.async_wait(std::move(handler));
                },
                token);
        }

        /// Ends the wait.
        HOLDFAST_DECL void cancel() noexcept;

    private:
        friend class registry;

        registry& members_;
        net::steady_timer timer_;
        departure_wait* next_ = nullptr;
        departure_wait* previous_ = nullptr;
    };

    /// How many connections each address has.
    address_table addresses;

    /// Applies the filter and the limit to an address, and counts it. Set before there are connections.
    std::function<address_verdict(const net::ip::address&)> check_address;

private:
    static constexpr index nowhere = ~index(0);
    static constexpr int closed = -1;
    static constexpr int suspended = -2;

    struct node {
        clock::time_point since;
        int descriptor = closed;
        std::uint32_t generation = 0; // how many connections this slot has had
        peer_address peer;
        close_reason cause = close_reason::none;
        bool notified : 1 = false;
        bool live : 1 = false;
        bool within_message : 1 = false;
        bool postponed : 1 = false; // notified, but its reading goes on until the message's end

        // The next free slot of one that is not live, in the place of its time.
        [[nodiscard]] index next_free() const noexcept { return static_cast<index>(since.time_since_epoch().count()); }
        void next_free(index place) noexcept { since = clock::time_point(clock::duration(place)); }
    };
    static_assert(sizeof(node) == 40);

    static void end_reading(const node& n) noexcept
    {
        if (n.descriptor >= 0 && !n.postponed) ::shutdown(n.descriptor, SHUT_RD);
    }

    static bool abort(node& n, close_reason cause) noexcept
    {
        if (n.descriptor == closed) return false;
        if (n.cause == close_reason::none) n.cause = cause;
        if (n.descriptor >= 0) disconnect(n.descriptor);
        return true;
    }

    HOLDFAST_DECL void wake_waits() noexcept;

    HOLDFAST_DECL connection_name name_of(index place) const noexcept;

    HOLDFAST_DECL member describe(std::size_t place, const node& n) const noexcept;

    mutable std::mutex mutex_;
    std::shared_ptr<registry> self_; // while there are connections
    permit units_;                   // one for each of them
    const counted_ptr<semaphore_core<synchronized>> semaphore_;
    const std::shared_ptr<socket_bound> sockets_;
    std::vector<node> nodes_;
    std::unordered_map<index, connection_name> names_; // of those that have one
    index free_ = nowhere;
    std::size_t live_ = 0;
    std::size_t peak_ = 0;
    std::size_t shed_cursor_ = 0;
    std::uint64_t departures_ = 0;
    std::uint64_t changes_ = 0;
    std::array<std::uint64_t, close_reason_count> ended_{};
    handshake_counts handshakes_;
    departure_wait* waits_ = nullptr;
};

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/connection/impl/registry.ipp>
#endif

#endif
