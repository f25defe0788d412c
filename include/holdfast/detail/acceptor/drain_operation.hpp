// holdfast: notifies an acceptor's connections and waits for their end.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_DRAIN_OPERATION_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_DRAIN_OPERATION_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/accept_queue.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/async/waiter.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/linkage.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>

namespace holdfast::detail {

class drain_waiter;

/// Notifies all connections of an acceptor, some at a time; waits until the last has ended, and resets
/// those that are left at the deadline. It has one wait pending at a time.
class drain_state : public std::enable_shared_from_this<drain_state> {
public:
    using clock = std::chrono::steady_clock;

    HOLDFAST_DECL drain_state(std::shared_ptr<accept_queue> core, const drain_options& options);

    HOLDFAST_DECL void begin(drain_waiter& waiter) noexcept;

    /// The operation has ended: it was completed, cancelled or destroyed.
    HOLDFAST_DECL void detach() noexcept;

    std::tuple<error_code, std::size_t> results() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return {result_, aborted_};
    }

private:
    static constexpr std::size_t batch_size = 64; // connections notified without letting other handlers run

    struct io_objects {
        explicit io_objects(accept_queue& core) : pause(core.executor), departure(*core.members, core.executor) {}

        net::steady_timer pause;
        registry::departure_wait departure;
    };

    /// The handler of the wait.
    struct resumption {
        using allocator_type = op_allocator<std::byte>;

        explicit resumption(std::shared_ptr<drain_state> s) noexcept : self(std::move(s)), storage(&self->storage_) {}

        allocator_type get_allocator() const noexcept { return allocator_type(*storage); }
        void operator()(const error_code&) { self->proceed(); }

        std::shared_ptr<drain_state> self;
        op_storage* storage; // apart, since Asio asks for the allocator when it has moved it, too
    };

    HOLDFAST_DECL void proceed() noexcept;

    HOLDFAST_DECL clock::duration part_of_stagger() noexcept;

    void finish(const error_code& result) noexcept;

    const std::shared_ptr<accept_queue> core_;
    const clock::time_point start_ = clock::now();
    const clock::time_point deadline_;
    const clock::duration stagger_;
    const bool serve_backlog_;
    const bool finish_frames_;
    mutable std::mutex mutex_;
    drain_waiter* waiter_ = nullptr; // until it has been woken
    error_code result_ = net::error::operation_aborted;
    std::size_t aborted_ = 0;
    std::size_t batch_ = 0;
    std::size_t batches_ = 1;
    std::optional<std::size_t> cursor_ = 0;
    op_storage storage_;
    std::optional<io_objects> io_;
};

class drain_waiter : public waiter<synchronized> {
public:
    drain_waiter(const net::any_io_executor& executor, std::shared_ptr<drain_state> state)
        : waiter<synchronized>(executor), state_(std::move(state))
    {
    }

    void leave() noexcept { state_->detach(); }
    auto results() const noexcept { return state_->results(); }

protected:
    ~drain_waiter() { leave(); }

private:
    const std::shared_ptr<drain_state> state_;
};

inline void drain_state::finish(const error_code& result) noexcept
{
    result_ = result;
    std::exchange(waiter_, nullptr)->wake();
}

/// Drains on behalf of a handler `void(error_code, std::size_t)`.
template <class Handler>
void start_drain(const std::shared_ptr<accept_queue>& core, Handler handler, const drain_options& options)
{
    const auto state = std::make_shared<drain_state>(core, options);
    const auto begun = begin_wait<drain_waiter>(core->executor, std::move(handler), state);
    state->begin(*begun);
}

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/drain_operation.ipp>
#endif

#endif
