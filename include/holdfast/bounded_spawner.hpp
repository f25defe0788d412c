// holdfast: bounded_spawner, child coroutines of one operation, never more than N, none of which outlives it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BOUNDED_SPAWNER_HPP
#define HOLDFAST_BOUNDED_SPAWNER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Limits of `async_with_spawner`.
struct spawner_options {
    /// How many children may run at once; those beyond wait for a slot. At least 1.
    std::size_t max_children = 64;
};

namespace detail {
struct spawner_access;
}

/// Starts children of the operation that made it: see `async_with_spawner`, the only way to get one.
///
/// Lifetime: it is valid until the body and all children have ended, in their destructors too.
/// Concurrency: it belongs to its executor's thread or strand, as body and children, which run there.
class bounded_spawner : public std::enable_shared_from_this<bounded_spawner> {
    class node;

public:
    using executor_type = net::any_io_executor;

    bounded_spawner(const bounded_spawner&) = delete;

    executor_type get_executor() const noexcept { return executor_; }

    /// Waits for a slot, first come, first served, and starts `child` on the spawner's executor.
    ///
    /// Completion: void(error_code), never inside this call, when the child was started. Where it could not
    /// be, `child` is destroyed without having run: `errc::spawner_closed` after `cancel()` or a failure.
    ///
    /// Cancellation: terminal, partial and total end the wait for a slot with `operation_aborted`.
    ///
    /// Cost: one block for the child's node, beside Asio's frames.
    ///
    ///     co_await spawner.async_spawn(answer(std::move(request)));
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_spawn(net::awaitable<void> child, CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code)>(spawn_op(*this, std::move(child)), token,
                                                                     executor_);
    }

    /// Starts `child` if a slot is free and nobody waits for one; else returns false and leaves it alone.
    [[nodiscard]] bool try_spawn(net::awaitable<void>&& child)
    {
        auto slot = slots_.try_acquire();
        if (!slot) return false;
        auto place = std::make_unique<node>(*this);
        place->slot = std::move(slot);
        start(std::move(place), std::move(child));
        return true;
    }

    /// Cancels the body and all children (terminal), and starts no more of them. The operation still
    /// completes only when they all have ended. While the context dies, a destructor in a child's frame may
    /// call it as long as what the children wait for (their timers and sockets) is there: operations that
    /// Asio destroys leave what would cancel them in place.
    inline void cancel() noexcept;

    /// How many children run.
    [[nodiscard]] std::size_t running() const noexcept { return slots_.in_use(); }
    /// How many wait for a slot.
    [[nodiscard]] std::size_t waiting() const noexcept { return slots_.waiting(); }
    /// How many may run at once.
    [[nodiscard]] std::size_t max_children() const noexcept { return slots_.limit(); }

private:
    friend struct detail::spawner_access;

    /// A child, or the body, or a child that waits for its slot: what the operation waits for.
    class node {
    public:
        explicit node(bounded_spawner& owner) : spawner(owner.shared_from_this()), next(owner.nodes_)
        {
            if (next != nullptr) next->previous = this;
            owner.nodes_ = this;
        }
        node(const node&) = delete;

        ~node()
        {
            (previous != nullptr ? previous->next : spawner->nodes_) = next;
            if (next != nullptr) next->previous = previous;
            slot.release();
            if (spawner->nodes_ == nullptr && spawner->idle_ != nullptr) spawner->idle_->cancel();
        }

        std::shared_ptr<bounded_spawner> spawner;
        node* next;
        node* previous = nullptr;
        unsynchronized_permit slot;
        net::cancellation_signal cancellation;
    };

    class spawn_op {
    public:
        spawn_op(bounded_spawner& spawner, net::awaitable<void> child)
            : place_(std::make_unique<node>(spawner)), child_(std::move(child))
        {
        }

        template <class Self>
        void operator()(Self& self)
        {
            self.reset_cancellation_state(net::enable_total_cancellation());
            auto& slots = place_->spawner->slots_;
            slots.async_acquire(1, std::move(self));
        }

        template <class Self>
        void operator()(Self& self, error_code ec, unsynchronized_permit slot)
        {
            auto place = std::move(place_);
            const auto spawner = place->spawner;
            auto child = std::move(child_);
            if (!ec && spawner->closed_) ec = errc::spawner_closed; // it was closed after the grant
            if (!ec) {
                place->slot = std::move(slot);
                spawner->start(std::move(place), std::move(child));
            }
            self.complete(ec);
        }

    private:
        std::unique_ptr<node> place_;
        net::awaitable<void> child_;
    };

    /// The operation: owns what only its context may destroy, and waits for the last node.
    template <class Body>
    static net::awaitable<void> run(std::shared_ptr<bounded_spawner> spawner, Body body)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        co_await net::this_coro::throw_if_cancelled(false);
        net::steady_timer idle(spawner->executor_, std::chrono::steady_clock::time_point::max());
        const idle_timer_in_reach in_reach(*spawner, idle);
        spawner->start(std::make_unique<node>(*spawner), body(*spawner));
        while (spawner->nodes_ != nullptr) {
            const auto state = co_await net::this_coro::cancellation_state;
            if (state.cancelled() != net::cancellation_type::none) {
                spawner->cancel();
                co_await net::this_coro::reset_cancellation_state(net::disable_cancellation());
                if (spawner->nodes_ == nullptr) break;
            }
            error_code woken;
            co_await idle.async_wait(net::redirect_error(net::use_awaitable, woken));
        }
        if (spawner->failure_) std::rethrow_exception(spawner->failure_);
    }

    class idle_timer_in_reach {
    public:
        idle_timer_in_reach(bounded_spawner& spawner, net::steady_timer& idle) noexcept : spawner_(spawner)
        {
            spawner.idle_ = &idle;
        }
        idle_timer_in_reach(const idle_timer_in_reach&) = delete;
        ~idle_timer_in_reach() { spawner_.idle_ = nullptr; }

    private:
        bounded_spawner& spawner_;
    };

    bounded_spawner(executor_type executor, const spawner_options& options)
        : executor_(std::move(executor)), slots_(executor_, options.max_children)
    {
    }

    void start(std::unique_ptr<node> place, net::awaitable<void> coroutine)
    {
        const auto slot = place->cancellation.slot();
        net::co_spawn(executor_, std::move(coroutine),
                      net::bind_cancellation_slot(
                          slot, net::bind_executor(executor_, [place = std::move(place)](
                                                                  const std::exception_ptr& failure) mutable {
                              if (failure) place->spawner->fail(failure);
                              place.reset();
                          })));
    }

    void fail(const std::exception_ptr& failure) noexcept
    {
        if (!failure_) failure_ = failure;
        cancel();
    }

    executor_type executor_;
    unsynchronized_semaphore slots_;
    node* nodes_ = nullptr;             // the newest first
    net::steady_timer* idle_ = nullptr; // cancelled when the last node goes
    std::exception_ptr failure_;
    bool closed_ = false;
};

inline void bounded_spawner::cancel() noexcept
{
    const auto self = shared_from_this(); // what is cancelled may be the last to hold it
    if (std::exchange(closed_, true)) return;
    slots_.close(errc::spawner_closed);
    // An emission may end nodes only after it returns: Asio's operations complete through the executor. A
    // user's handler in a slot may do more, so the list is read anew each time.
    for (node* each = nodes_; each != nullptr; each = each->next)
        each->cancellation.emit(net::cancellation_type::terminal);
}

namespace detail {

/// Lets async_with_spawner alone make spawners.
struct spawner_access {
    template <class Body>
    static net::awaitable<void> run(const net::any_io_executor& executor, const spawner_options& options,
                                    Body body)
    {
        if (options.max_children == 0)
            throw std::invalid_argument("spawner_options.max_children must be at least 1");
        return bounded_spawner::run(std::shared_ptr<bounded_spawner>(new bounded_spawner(executor, options)),
                                    std::move(body));
    }
};

} // namespace detail

/// Runs `body(bounded_spawner&)`, which returns `awaitable<void>` and may start children, and completes when
/// the body **and every child** have ended, whichever way. A failure is never left behind, nor is a task.
///
/// - When the body returns, its children go on to their own ends.
/// - When the body or a child throws, all others are cancelled; the first exception is rethrown.
/// - When the operation is cancelled, body and children are; what the first of them throws is rethrown,
///   usually `operation_aborted`. One that ignores a cancellation is waited for.
///
/// `body` is kept until then, so a lambda may be a coroutine and refer to its captures. (With g++ 12 a lambda
/// that owns something must be named first: made inside a co_await expression it is destroyed twice.)
///
/// Completion: void(std::exception_ptr), on the handler's executor, never inside this call.
///
/// Cancellation: terminal, partial and total; passed on as terminal, which every coroutine heeds by default.
///
/// Concurrency: body and children run on `executor`, which must be a strand where several threads run the
/// context. When the context dies first, all frames are destroyed.
///
/// Cost: one block, three coroutine frames, and what each child takes. Throws std::invalid_argument for
/// a limit of zero.
///
///     co_await holdfast::async_with_spawner(executor, {.max_children = 8},
///                                           [&](holdfast::bounded_spawner& children) -> net::awaitable<void>
///                                           {
///         while (auto line = co_await lines.async_next())
///             co_await children.async_spawn(answer(peer, std::string(*line)));   // waits while eight are at
///             work
///     });
template <class Body, class CompletionToken = default_token_t<net::any_io_executor>>
auto async_with_spawner(net::any_io_executor executor, spawner_options options, Body body,
                        CompletionToken&& token = CompletionToken())
{
    return net::co_spawn(executor, detail::spawner_access::run(executor, options, std::move(body)),
                         std::forward<CompletionToken>(token));
}

/// The same on the handler's own executor, which it must have: a coroutine's, or one bound to it.
///
///     co_await holdfast::async_with_spawner({.max_children = 8}, body);
template <class Body, class CompletionToken = default_token_t<net::any_io_executor>>
    requires(!std::is_convertible_v<Body, spawner_options>)
auto async_with_spawner(spawner_options options, Body body, CompletionToken&& token = CompletionToken())
{
    return net::async_initiate<CompletionToken, void(std::exception_ptr)>(
        [options](auto handler, Body&& b) {
            using executor_type = net::associated_executor_t<decltype(handler)>;
            static_assert(!std::is_same_v<executor_type, net::system_executor>,
                          "async_with_spawner: the handler has no executor of its own; give one as the first "
                          "argument, or with bind_executor");
            executor_type executor = net::get_associated_executor(handler);
            async_with_spawner(net::any_io_executor(executor), options, std::move(b), std::move(handler));
        },
        token, std::move(body));
}

} // namespace holdfast

#endif
