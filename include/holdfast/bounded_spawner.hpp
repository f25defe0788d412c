// holdfast: bounded_spawner, a limited number of child coroutines that end before their operation completes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BOUNDED_SPAWNER_HPP
#define HOLDFAST_BOUNDED_SPAWNER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_event.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/step_handler.hpp>
#include <holdfast/error.hpp>

#include <cstddef>
#include <exception>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of `async_with_spawner`.
struct spawner_options {
    /// Maximum number of children that run at a time; further ones wait for a slot. At least 1.
    std::size_t max_children = 64;
};

namespace detail {
struct spawner_access;
}

/// Starts child coroutines of an `async_with_spawner` operation, which makes the spawner and passes it to its body.
///
/// Lifetime: it exists until the body and all children have ended, and also during the destruction of their frames.
///
/// Thread safety: the spawner, the body, the children and the handlers of the spawner's operations belong to
/// the thread or strand of the spawner's executor.
class bounded_spawner {
    class node;
    class initiate_spawn;
    class start_child;

public:
    using executor_type = net::any_io_executor;

    bounded_spawner(const bounded_spawner&) = delete;
    bounded_spawner& operator=(const bounded_spawner&) = delete;

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

    /// Waits for a free slot, in the order of the calls, and starts `child` on the spawner's executor.
    ///
    /// Completion: void(error_code), never inside this call, when the child has been started. On failure `child` is
    /// destroyed without having run:
    /// - `errc::spawner_closed`: after `cancel()`, or after the body or a child has failed;
    /// - `net::error::no_memory`: the child could not be started.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted` while it waits for a slot.
    ///
    /// Exceptions: std::bad_alloc; the handler and `child` are then destroyed.
    ///
    /// Cost: one allocation for the child, beside those of the coroutine frames and of the wait.
    ///
    ///     co_await spawner.async_spawn(answer(std::move(request)));
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code)>
    auto async_spawn(net::awaitable<void> child, CompletionToken&& token = CompletionToken());

    /// Starts `child` if a slot is free and no operation waits for one. Otherwise, and after `cancel()`, returns false,
    /// and `child` is unchanged.
    ///
    /// Exceptions: std::bad_alloc; `child` may then have been destroyed.
    template <class Executor>
    [[nodiscard]] bool try_spawn(net::awaitable<void, Executor>&& child);

    /// Cancels the body and all children (terminal), and starts no further ones. The operation completes when
    /// all of them have ended.
    ///
    /// While the execution context is being destroyed, a destructor in a child's frame may call it as long as the
    /// objects that the children wait for (timers, sockets) exist: operations that Asio destroys leave their
    /// cancellation handlers in place.
    inline void cancel() noexcept;

    /// The number of running children.
    [[nodiscard]] std::size_t running() const noexcept { return slots_.in_use(); }
    /// The number of operations that wait for a slot.
    [[nodiscard]] std::size_t waiting() const noexcept { return slots_.waiting(); }
    /// The maximum number of running children.
    [[nodiscard]] std::size_t max_children() const noexcept { return slots_.limit(); }

private:
    friend struct detail::spawner_access;
    template <class T>
    friend class detail::counted_ptr;

    bounded_spawner(executor_type executor, const spawner_options& options)
        : executor_(std::move(executor)), slots_(executor_, options.max_children), idle_(executor_)
    {
    }
    virtual ~bounded_spawner() = default;

    void destroy() noexcept { delete this; }

    virtual net::awaitable<void> call_body() = 0;

    template <class Coroutine>
    void start(detail::counted_ptr<node> place, Coroutine coroutine);
    inline void fail(const std::exception_ptr& failure) noexcept;
    template <class Executor>
    static net::awaitable<void, Executor> run(const Executor& executor, detail::counted_ptr<bounded_spawner> spawner);

    detail::synchronized::count owners;
    executor_type executor_;
    unsynchronized_semaphore slots_;
    unsynchronized_event idle_; // notified when the last node goes
    detail::intrusive_list<node> nodes_;
    std::size_t node_count_ = 0;
    std::exception_ptr failure_;
    bool closed_ = false;
};

/// Runs `body(bounded_spawner&)`, which returns `awaitable<void>` and may start children. Completes when the body
/// **and every child** have ended.
///
/// - When the body returns, its children go on to their own ends.
/// - When the body or a child throws, all others are cancelled.
/// - When the operation is cancelled, the body and its children are. The operation still waits for a coroutine that
///   ignores the cancellation.
///
/// `body` is kept until then, so that a lambda may be a coroutine and use its captures. (With g++ 12 a lambda
/// that owns something must have a name: one that is made inside a co_await expression is destroyed twice.)
///
/// Completion: void(std::exception_ptr): the first exception that the body or a child has thrown, usually
/// `operation_aborted` after a cancellation.
///
/// Cancellation: terminal, partial and total; passed on as terminal.
///
/// Thread safety: the body and its children run on `executor`, which must be a strand when several threads run
/// the context. When the context is destroyed first, it destroys all coroutine frames.
///
/// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc.
///
/// Cost: one allocation and three coroutine frames, and those of each child.
///
///     co_await holdfast::async_with_spawner(
///         executor, {.max_children = 8}, [&](holdfast::bounded_spawner& children) -> net::awaitable<void> {
///             while (auto line = co_await lines.async_next())
///                 co_await children.async_spawn(answer(peer, std::string(*line))); // waits while eight are running
///         });
template <class Body, class CompletionToken = default_token_t<net::any_io_executor>>
    requires net::completion_token_for<CompletionToken, void(std::exception_ptr)>
auto async_with_spawner(net::any_io_executor executor, spawner_options options, Body body,
                        CompletionToken&& token = CompletionToken());

/// The same on the handler's own executor: that of a coroutine, or one bound to the handler. (A token that reads
/// the operation's executor, such as `cancel_after`, needs the overload with an executor.)
///
///     co_await holdfast::async_with_spawner({.max_children = 8}, body);
template <class Body, class CompletionToken = default_token_t<net::any_io_executor>>
    requires(!std::is_convertible_v<Body, spawner_options> &&
             net::completion_token_for<CompletionToken, void(std::exception_ptr)>)
auto async_with_spawner(spawner_options options, Body body, CompletionToken&& token = CompletionToken());

/// A child, or the body, or a child that waits for its slot: what the operation waits for. It lives on while its
/// cancellation signal is being emitted.
class bounded_spawner::node : public detail::list_hook {
public:
    static detail::counted_ptr<node> make(bounded_spawner& owner) { return detail::counted_ptr<node>(new node(owner)); }

    void destroy() noexcept { delete this; }

    detail::unsynchronized::count owners;
    const detail::counted_ptr<bounded_spawner> spawner;
    unsynchronized_permit slot;
    net::cancellation_signal cancellation;

private:
    explicit node(bounded_spawner& owner) : spawner(&owner)
    {
        owner.nodes_.push_back(*this);
        ++owner.node_count_;
    }

    ~node()
    {
        unlink();
        slot.release();
        if (--spawner->node_count_ == 0) spawner->idle_.notify_all();
    }
};

/// Starts a child that has its slot.
class bounded_spawner::start_child {
public:
    start_child(detail::counted_ptr<node> place, net::awaitable<void> child)
        : place_(std::move(place)), child_(std::move(child))
    {
    }

    template <class Handler>
    void operator()(Handler&& handler, error_code ec, unsynchronized_permit slot)
    {
        bounded_spawner& spawner = *place_->spawner;
        if (!ec && spawner.closed_) ec = errc::spawner_closed; // closed after the grant
        if (!ec) {
            place_->slot = std::move(slot);
            try {
                spawner.start(std::move(place_), std::move(child_));
            } catch (const std::bad_alloc&) {
                ec = net::error::no_memory;
            }
        }
        auto completion = std::forward<Handler>(handler); // which may own what the child refers to
        place_ = {};
        {
            const net::awaitable<void> unstarted = std::move(child_);
        } // its assignment in Asio 1.22 would leak the frame
        std::move(completion)(ec);
    }

private:
    detail::counted_ptr<node> place_;
    net::awaitable<void> child_;
};

class bounded_spawner::initiate_spawn {
public:
    using executor_type = bounded_spawner::executor_type;

    explicit initiate_spawn(bounded_spawner& spawner) noexcept : spawner_(&spawner) {}

    [[nodiscard]] executor_type get_executor() const noexcept { return spawner_->executor_; }

    template <class Handler>
    void operator()(Handler&& handler, net::awaitable<void> child) const
    {
        using step = detail::step_handler<std::decay_t<Handler>, start_child>;
        detail::start_acquire(
            detail::semaphore_access::core(spawner_->slots_), spawner_->executor_, 1,
            step(std::forward<Handler>(handler), start_child(node::make(*spawner_), std::move(child))));
    }

private:
    bounded_spawner* spawner_;
};

template <class CompletionToken>
    requires net::completion_token_for<CompletionToken, void(error_code)>
auto bounded_spawner::async_spawn(net::awaitable<void> child, CompletionToken&& token)
{
    return net::async_initiate<CompletionToken, void(error_code)>(initiate_spawn(*this), token, std::move(child));
}

template <class Executor>
bool bounded_spawner::try_spawn(net::awaitable<void, Executor>&& child)
{
    auto slot = slots_.try_acquire();
    if (!slot) return false;
    auto place = node::make(*this);
    place->slot = std::move(slot);
    start(std::move(place), std::move(child));
    return true;
}

inline void bounded_spawner::cancel() noexcept
{
    if (std::exchange(closed_, true)) return;
    const detail::counted_ptr<bounded_spawner> keep(this); // a handler that is called may be its last owner
    slots_.close(errc::spawner_closed);
    // A child may end inside the emission, if what it waits for completes there.
    detail::intrusive_list<node> pending;
    pending.splice_back(nodes_);
    while (!pending.empty()) {
        const detail::counted_ptr<node> each(&pending.front());
        each->unlink();
        nodes_.push_back(*each);
        each->cancellation.emit(net::cancellation_type::terminal);
    }
}

// A template, as are all that spawn: a program that spawns nothing does not compile co_spawn.
template <class Coroutine>
void bounded_spawner::start(detail::counted_ptr<node> place, Coroutine coroutine)
{
    const auto slot = place->cancellation.slot();
    net::co_spawn(
        executor_, std::move(coroutine),
        net::bind_cancellation_slot(
            slot, net::bind_executor(executor_, [place = std::move(place)](const std::exception_ptr& failure) mutable {
                if (failure) place->spawner->fail(failure);
                place = {};
            })));
}

inline void bounded_spawner::fail(const std::exception_ptr& failure) noexcept
{
    if (!failure_) failure_ = failure;
    cancel();
}

template <class Executor>
net::awaitable<void, Executor> bounded_spawner::run(const Executor&, detail::counted_ptr<bounded_spawner> spawner)
{
    bounded_spawner& s = *spawner;
    co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
    co_await net::this_coro::throw_if_cancelled(false);
    try {
        s.start(node::make(s), s.call_body());
    } catch (...) { // a body that is no coroutine may have started children before it threw
        s.fail(std::current_exception());
    }
    while (s.node_count_ != 0) {
        const auto state = co_await net::this_coro::cancellation_state;
        if (state.cancelled() != net::cancellation_type::none) {
            s.cancel();
            co_await net::this_coro::reset_cancellation_state(net::disable_cancellation());
            if (s.node_count_ == 0) break;
        }
        error_code woken;
        co_await s.idle_.async_wait(net::redirect_error(net::use_awaitable_t<Executor>(), woken));
    }
    if (s.failure_) std::rethrow_exception(s.failure_);
}

namespace detail {

struct spawner_access {
    using spawner_ptr = counted_ptr<bounded_spawner>;

    /// A spawner that keeps its body.
    template <class Body>
    class with_body final : public bounded_spawner {
    public:
        with_body(const net::any_io_executor& executor, const spawner_options& options, Body&& body)
            : bounded_spawner(executor, options), body_(std::move(body))
        {
        }

    private:
        net::awaitable<void> call_body() override { return body_(static_cast<bounded_spawner&>(*this)); }

        Body body_;
    };

    template <class Body>
    static spawner_ptr make(const net::any_io_executor& executor, const spawner_options& options, Body&& body)
    {
        if (options.max_children == 0) throw std::invalid_argument("spawner_options::max_children must be at least 1");
        return spawner_ptr(new with_body<Body>(executor, options, std::move(body)));
    }

    template <class Handler>
    static void run(const net::any_io_executor& executor, spawner_ptr spawner, Handler&& handler)
    {
        net::co_spawn(executor, bounded_spawner::run(executor, std::move(spawner)),
                      step_handler<Handler, last_step>(std::move(handler), last_step()));
    }
};

class initiate_with_spawner {
public:
    using executor_type = net::any_io_executor;

    explicit initiate_with_spawner(executor_type executor) noexcept : executor_(std::move(executor)) {}

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

    template <class Handler>
    void operator()(Handler&& handler, counted_ptr<bounded_spawner> spawner) const
    {
        spawner_access::run(executor_, std::move(spawner), std::decay_t<Handler>(std::forward<Handler>(handler)));
    }

private:
    executor_type executor_;
};

struct initiate_with_spawner_of_handler {
    template <class Handler, class Body>
    void operator()(Handler&& handler, spawner_options options, Body body) const
    {
        using executor_type = net::associated_executor_t<std::decay_t<Handler>>;
        static_assert(!std::is_same_v<executor_type, net::system_executor>,
                      "async_with_spawner: the handler has no executor of its own; give one as the first "
                      "argument, or with bind_executor");
        const net::any_io_executor executor(net::get_associated_executor(handler));
        spawner_access::run(executor, spawner_access::make(executor, options, std::move(body)),
                            std::decay_t<Handler>(std::forward<Handler>(handler)));
    }
};

} // namespace detail

template <class Body, class CompletionToken>
    requires net::completion_token_for<CompletionToken, void(std::exception_ptr)>
auto async_with_spawner(net::any_io_executor executor, spawner_options options, Body body, CompletionToken&& token)
{
    auto spawner = detail::spawner_access::make(executor, options, std::move(body));
    return net::async_initiate<CompletionToken, void(std::exception_ptr)>(
        detail::initiate_with_spawner(std::move(executor)), token, std::move(spawner));
}

template <class Body, class CompletionToken>
    requires(!std::is_convertible_v<Body, spawner_options> &&
             net::completion_token_for<CompletionToken, void(std::exception_ptr)>)
auto async_with_spawner(spawner_options options, Body body, CompletionToken&& token)
{
    return net::async_initiate<CompletionToken, void(std::exception_ptr)>(detail::initiate_with_spawner_of_handler(),
                                                                          token, options, std::move(body));
}

} // namespace holdfast

#endif
