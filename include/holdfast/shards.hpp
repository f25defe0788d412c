// holdfast: shards, one io_context for each core, which share nothing on the path of the data.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SHARDS_HPP
#define HOLDFAST_SHARDS_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/detail/shards/shard_link.hpp>
#include <holdfast/detail/shards/shard_loads.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace holdfast {

template <class Shard>
class shards;
template <class Shard>
class shard_topic;

/// The finalizer of a `bounded_acceptor` with `shards::least_connections()`: it counts each connection for its shard,
/// and calls the user's own finalizer. Made by `shards::finalizer()`.
///
/// Thread safety: distinct objects are safe. Cost: 24 bytes for each connection, one atomic at its admission and one at
/// its end.
template <connection_finalizer Finalizer = no_finalizer>
class shard_finalizer {
public:
    /// A copy belongs to no shard, so that one connection counts once.
    shard_finalizer(const shard_finalizer& other) : loads_(other.loads_), finalizer_(other.finalizer_) {}
    shard_finalizer(shard_finalizer&& other) noexcept
        : loads_(std::move(other.loads_)),
          shard_(std::exchange(other.shard_, none)),
          finalizer_(std::move(other.finalizer_))
    {
    }
    shard_finalizer& operator=(shard_finalizer other) noexcept
        requires std::is_nothrow_move_assignable_v<Finalizer>
    {
        leave();
        loads_ = std::move(other.loads_);
        shard_ = std::exchange(other.shard_, none);
        finalizer_ = std::move(other.finalizer_);
        return *this;
    }
    ~shard_finalizer() { leave(); }

    /// Counts the connection for a shard. The acceptor calls it.
    void set_shard(std::size_t shard) noexcept
    {
        leave();
        loads_->add(shard);
        shard_ = shard;
    }

    void operator()(const connection_end& end) noexcept
    {
        leave();
        finalizer_(end);
    }

private:
    template <class Shard>
    friend class shards;

    static constexpr auto none = static_cast<std::size_t>(-1);

    shard_finalizer(std::shared_ptr<detail::shard_loads> loads, Finalizer finalizer)
        : loads_(std::move(loads)), finalizer_(std::move(finalizer))
    {
    }

    void leave() noexcept
    {
        if (const std::size_t shard = std::exchange(shard_, none); shard != none) loads_->drop(shard);
    }

    std::shared_ptr<detail::shard_loads> loads_;
    std::size_t shard_ = none;
    [[no_unique_address]] Finalizer finalizer_;
};

/// Makes `n` execution contexts, and for each what a factory returns: the part of the program that belongs to one
/// thread, such as heartbeats, pools and groups. Each context is run by one thread of the user's. Nothing is shared
/// between them but what the user shares; connections are handed out once, at accept, and messages for all go through
/// a `shard_topic`.
///
/// Its destructor brings all of this to an end in a safe order, although sessions of one shard may refer to another
/// one, timers must not outlive their context, and sessions use their shard's state in their destructors. It stops all
/// contexts, waits until every `run()` has returned, destroys what waits in each context (the sessions, while the state
/// of every shard is still there), then the states in reverse order, and the contexts last.
///
/// Lifetime: acceptors and topics may be destroyed before or after it; connections, and everything else that has an
/// executor of a shard, must be owned by a session or the state of that shard. The executor of an acceptor with
/// `least_connections()` must be that of a shard, or the acceptor must be closed before. The destructor must not be
/// called inside `run()`.
///
/// Declare the threads before the shards, and give each a `runner()`. Then they are joined after the shards have ended,
/// also where `run()` or the start of a thread throws. Threads that are declared after the shards are joined before
/// them: call `stop()` first, or the join never returns.
///
/// Thread safety: all members but the destructor may be called from any thread. A state belongs to the thread that
/// runs its context.
///
///     struct shard {                                        // what one thread has
///         shard(net::io_context& io, std::size_t) : heartbeats(io, {.timeout = 30s}) {}
///         holdfast::heartbeat_timer<> heartbeats;
///     };
///     std::vector<std::jthread> threads;                    // joined after the shards have ended
///     holdfast::shards<shard> shards{4, [](net::io_context& io, std::size_t i) { return shard(io, i); }};
///     holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>> acceptor{ // one for all: its limits hold in total
///         shards.context(0), {tcp::v4(), 7777}, {.next_executor = shards.least_connections()}, shards.finalizer()};
///     acceptor.async_serve([&](auto peer, std::size_t i) { return session(std::move(peer), shards[i]); }, net::detached);
///     for (std::size_t i = 1; i != shards.size(); ++i)
///         threads.emplace_back(shards.runner(i));
///     shards.run(0); // until shards.stop()
template <class Shard>
class shards {
public:
    using value_type = Shard;

    /// Maximum number of shards.
    static constexpr std::size_t max_shards = 256;

    /// Calls `factory(context, index)` for each shard in order, on this thread. Its result is not moved.
    ///
    /// Exceptions: std::invalid_argument unless `n` is 1 to `max_shards`; what the factory throws, after the states
    /// that were made before were destroyed in reverse order; std::bad_alloc; system_error.
    template <class Factory>
        requires std::is_invocable_r_v<Shard, Factory&, net::io_context&, std::size_t>
    shards(std::size_t n, Factory factory)
        : loads_(std::make_shared<detail::shard_loads>(checked(n))),
          running_(std::make_shared<std::atomic<unsigned>>(0))
    {
        contexts_.reserve(n);
        links_.reserve(n);
        for (std::size_t i = 0; i != n; ++i) {
            contexts_.push_back(std::make_unique<context_type>());
            links_.push_back(std::make_shared<detail::shard_link>(contexts_.back()->io));
        }
        states_.reserve(n);
        try {
            for (std::size_t i = 0; i != n; ++i)
                states_.emplace_back(new Shard(factory(context(i), i)));
        } catch (...) {
            end();
            throw;
        }
    }

    shards(const shards&) = delete;
    shards& operator=(const shards&) = delete;

    ~shards() { end(); }

    /// Returns the number of shards.
    [[nodiscard]] std::size_t size() const noexcept { return contexts_.size(); }

    /// Returns the context of a shard. Precondition of all members that take an index: it is less than `size()`.
    [[nodiscard]] net::io_context& context(std::size_t shard) noexcept { return contexts_[shard]->io; }

    /// Returns the state of a shard: what the factory has returned.
    [[nodiscard]] Shard& operator[](std::size_t shard) noexcept { return *states_[shard]; }

    /// The function of a thread, made by `runner()`. It may be called once, and is moved only.
    class run_function;

    /// Returns a function that calls `run(shard)`. The destructor of the shards waits until it was called and has
    /// returned, or was destroyed: a thread that begins after `stop()` finds the shards, too. Do not keep one uncalled
    /// on the thread that destroys the shards.
    [[nodiscard]] run_function runner(std::size_t shard) noexcept { return run_function(*this, shard); }

    /// Runs the context of a shard on this thread, until `stop()`, or after `finish()` until it has no work left. One
    /// thread at a time may run a shard. Returns the number of handlers that were called.
    ///
    /// Lifetime: the call must begin before the destructor of the shards: for another thread than the one that destroys
    /// them there is `runner()`.
    ///
    /// Exceptions: what a handler throws, as `io_context::run()`; it may then be called again.
    std::size_t run(std::size_t shard)
    {
        const running here(running_);
        return context(shard).run();
    }

    /// Lets each `run()` return as soon as its context has no work left.
    void finish() noexcept
    {
        for (const auto& each : contexts_)
            each->release();
    }

    /// Lets each `run()`, also a later one, return after the handler that it is calling.
    void stop() noexcept
    {
        for (const auto& each : contexts_)
            each->io.stop();
    }

    /// Calls `f(state)` on the thread of a shard, later; never, where the shard's state has been destroyed, as in the
    /// destructor of another state.
    ///
    /// Exceptions: std::bad_alloc; what `f` throws leaves that `run()`. Cost: one allocation.
    template <class F>
        requires std::invocable<F&, Shard&>
    void post_to(std::size_t shard, F f)
    {
        if (shard >= states_.size()) return;
        detail::execute_later(context(shard).get_executor(),
                              [&state = *states_[shard], f = std::move(f)]() mutable { f(state); });
    }

    /// Calls a copy of `f` for each shard, as `post_to()` does.
    template <class F>
        requires std::invocable<F&, Shard&> && std::copy_constructible<F>
    void post_to_all(const F& f)
    {
        for (std::size_t i = 0; i != states_.size(); ++i)
            post_to(i, f);
    }

    /// The number of connections of a shard: those of acceptors with `finalizer()`.
    [[nodiscard]] std::size_t connections(std::size_t shard) const noexcept { return (*loads_)[shard]; }

    /// For `acceptor_options::next_executor`: each connection goes to the shard with the fewest connections; among
    /// several such shards, to each in turn. The acceptor must have `finalizer()`. With several acceptors each needs a
    /// function of its own.
    ///
    /// Cost: a load for each shard at each accept.
    [[nodiscard]] std::function<connection_placement()> least_connections()
    {
        return [this, last = size() - 1]() mutable {
            last = loads_->least(last);
            return connection_placement(net::any_io_executor(context(last).get_executor()), last);
        };
    }

    /// For the acceptor's finalizer: counts its connections, and calls `user` at the end of each.
    template <connection_finalizer Finalizer = no_finalizer>
    [[nodiscard]] shard_finalizer<Finalizer> finalizer(Finalizer user = {}) const
    {
        return shard_finalizer<Finalizer>(loads_, std::move(user));
    }

private:
    friend class shard_topic<Shard>;

    struct context_type {
        /// Its services can be shut down while what they refer to is there.
        struct endable : net::io_context {
            using net::io_context::io_context;
            using net::io_context::shutdown;
        };

        void release() noexcept
        {
            if (released.exchange(true)) return;
            work.reset();
        }

        endable io{1};
        net::executor_work_guard<net::io_context::executor_type> work{io.get_executor()};
        std::atomic<bool> released = false;
    };

    /// A `run()` that has begun or will; it may return after the object has gone.
    class running {
    public:
        explicit running(std::shared_ptr<std::atomic<unsigned>> count) noexcept : count_(std::move(count))
        {
            ++*count_;
        }
        running(running&& other) noexcept = default;
        ~running()
        {
            if (!count_) return;
            --*count_;
            count_->notify_all();
        }

    private:
        std::shared_ptr<std::atomic<unsigned>> count_;
    };

    static std::size_t checked(std::size_t n)
    {
        if (n == 0 || n > max_shards) throw std::invalid_argument("shards: the number of shards must be 1 to 256");
        return n;
    }

    void end() noexcept
    {
        stop();
        for (unsigned n = *running_; n != 0; n = *running_)
            running_->wait(n);
        for (const auto& each : links_)
            each->end();
        for (const auto& each : contexts_)
            each->io.shutdown();
        while (!states_.empty())
            states_.pop_back();
        for (const auto& each : contexts_) // what the states have posted may refer to another context
            each->io.shutdown();
        while (!contexts_.empty())
            contexts_.pop_back();
    }

    const std::shared_ptr<detail::shard_loads> loads_;
    const std::shared_ptr<std::atomic<unsigned>> running_;
    std::vector<std::unique_ptr<context_type>> contexts_;
    std::vector<std::shared_ptr<detail::shard_link>> links_;
    std::vector<std::unique_ptr<Shard>> states_;
};

template <class Shard>
class [[nodiscard]] shards<Shard>::run_function {
public:
    std::size_t operator()()
    {
        const running here(std::move(running_)); // ends with this call, not with the thread
        return shards_->context(shard_).run();
    }

private:
    friend class shards;
    run_function(shards& of, std::size_t shard) noexcept : running_(of.running_), shards_(&of), shard_(shard) {}

    running running_;
    shards* shards_;
    std::size_t shard_;
};

template <class Factory>
shards(std::size_t, Factory) -> shards<std::invoke_result_t<Factory&, net::io_context&, std::size_t>>;

} // namespace holdfast

#endif
