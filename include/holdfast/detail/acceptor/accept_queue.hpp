// holdfast: the pending operations of an acceptor, its listener, and the one wait of its loop.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_QUEUE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_QUEUE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/acceptor/accept_machine.hpp>
#include <holdfast/detail/acceptor/listening_socket.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/async/shutdown_hook.hpp>
#include <holdfast/detail/async/waiter.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/linkage.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace holdfast::detail {

class accept_queue;

/// A pending async_accept or async_serve. A derived class calls `leave()` first in its destructor.
class pending_accept : public waiter<synchronized> {
public:
    enum class kind : unsigned char { accept, serve };

    pending_accept(const net::any_io_executor& executor, std::shared_ptr<accept_queue> queue, kind k)
        : waiter<synchronized>(executor), what(k), queue_(std::move(queue))
    {
    }

    void leave() noexcept;

    const kind what;
    error_code error = net::error::operation_aborted;

protected:
    ~pending_accept() { leave(); }

    const std::shared_ptr<accept_queue> queue_;
};

/// What other threads change of an acceptor, under one mutex: the operations, the listener, and whether it is closed
/// or drains. Such a change ends the wait that is pending while the loop does not run. No call of the user's is made
/// with the mutex locked.
class accept_queue : public std::enable_shared_from_this<accept_queue>, protected shutdown_hook {
public:
    accept_queue(const accept_queue&) = delete;

    HOLDFAST_DECL void enqueue(pending_accept& operation) noexcept;

    /// Takes a cancelled operation out of the queue.
    HOLDFAST_DECL void leave(pending_accept& operation) noexcept;

    HOLDFAST_DECL void close() noexcept;

    /// Whether no connection is accepted any more; else the backlog is being served.
    [[nodiscard]] HOLDFAST_DECL bool closed() const noexcept;

    /// From now on each connection is notified when it is admitted.
    HOLDFAST_DECL void begin_drain(bool serve_backlog) noexcept;

    net::any_io_executor executor; // empty after the end of its context, which no copy of a strand may outlive
    const std::shared_ptr<registry> members;

protected:
    /// What belongs to the execution context. It is destroyed with that, although this object may live on.
    struct io_objects {
        io_objects(const net::any_io_executor& ex, registry& registry)
            : listener(ex), timer(ex), tick(ex), departure(registry, ex)
        {
        }

        net::posix::stream_descriptor listener; // accepted from by system calls
        net::steady_timer timer;
        net::steady_timer tick; // ends a wait for a permit
        registry::departure_wait departure;
        // Where rejected connections close, since several threads may run the context. Where a policy rejects, it is made
        // with the acceptor: Asio 1.22 reads what it has not set where a strand finds no memory.
        std::optional<net::strand<net::any_io_executor>> rejects;
    };

    using semaphore = semaphore_core<synchronized>;

    /// Each connection takes a unit of `connections`. `expected` is how many there may be.
    HOLDFAST_DECL accept_queue(const net::any_io_executor& ex, counted_ptr<semaphore> connections, std::size_t expected,
                               std::size_t max_per_address);
    virtual ~accept_queue() { unhook(); }

    /// Runs the loop on the executor until it waits again.
    virtual void resume(accept_event event) noexcept = 0;

    /// Delivers a connection that was admitted when no operation was pending. Under the mutex.
    virtual void deliver_late(pending_accept& operation) noexcept = 0;

    /// Closes such a connection. Without the mutex.
    virtual void discard_late() noexcept = 0;

    /// Begins each wait, unless something has changed since the machine decided on it, when `changes_` was `seen`.
    using outcome = std::optional<accept_event>;
    HOLDFAST_DECL outcome wait_for_permit(accept_machine::time_point until, std::uint64_t seen);
    HOLDFAST_DECL outcome wait_for_departure(std::uint64_t departures, accept_machine::time_point until,
                                             std::uint64_t seen);
    HOLDFAST_DECL outcome wait_for_time(accept_machine::time_point until, std::uint64_t seen);
    HOLDFAST_DECL outcome wait_for_connection(std::uint64_t seen);

    /// Stops the loop and returns the permit, unless something has changed.
    HOLDFAST_DECL outcome stop(std::uint64_t seen) noexcept;

    HOLDFAST_DECL void begin_turn() noexcept;
    HOLDFAST_DECL void fail_pending(const error_code& why, bool all) noexcept;

    // Under the mutex:
    HOLDFAST_DECL void close_locked() noexcept;
    HOLDFAST_DECL void remove(pending_accept& operation) noexcept;
    HOLDFAST_DECL void fail(pending_accept& operation, const error_code& why) noexcept;

    HOLDFAST_DECL void context_ends() noexcept override;

    mutable std::mutex mutex_;
    std::optional<io_objects> io_;
    intrusive_list<pending_accept> queue_;
    std::size_t pending_ = 0;   // in the queue
    std::uint64_t changes_ = 0; // reasons to decide again
    bool closed_ = false;
    bool draining_ = false;
    bool until_empty_ = false;
    bool late_ = false; // a connection waits for an operation: all were cancelled while it was admitted
    std::size_t backlog_left_ = 0;
    socket_file file_;

    semaphore_claim<synchronized> claim_;
    permit permit_; // of the next connection; the loop's

private:
    /// What the loop waits for: one thing at a time.
    enum class wait_kind : unsigned char { none, turn, permit, departure, time, connection };

    class resumption;
    class tick_handler;

    template <class Begin>
    outcome wait(wait_kind what, std::uint64_t seen, Begin begin);

    HOLDFAST_DECL void interrupt() noexcept;

    wait_kind wait_ = wait_kind::none;
    bool running_ = false; // the loop
    op_storage storage_;   // of the wait
    op_storage tick_storage_;
};

inline void pending_accept::leave() noexcept { queue_->leave(*this); }

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/accept_queue.ipp>
#endif

#endif
