// holdfast: what an event and its waiting operations share.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_EVENT_CORE_HPP
#define HOLDFAST_DETAIL_ASYNC_EVENT_CORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/at_once.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/waiter.hpp>

#include <cstddef>
#include <mutex>
#include <tuple>
#include <utility>

namespace holdfast::detail {

template <class Sharing>
class event_core;

/// A pending wait for an event.
template <class Sharing>
class event_waiter : public waiter<Sharing> {
public:
    event_waiter(const net::any_io_executor& executor, const counted_ptr<event_core<Sharing>>& core)
        : waiter<Sharing>(executor), core_(core)
    {
    }

    void leave() noexcept { core_->leave(*this); }

    std::tuple<error_code> results() noexcept
    {
        return {std::exchange(signalled_, false) ? error_code() : error_code(net::error::operation_aborted)};
    }

protected:
    ~event_waiter()
    {
        leave();
        if (signalled_) core_->pass_on(); // its handler was destroyed uncalled
    }

private:
    friend class event_core<Sharing>;

    const counted_ptr<event_core<Sharing>> core_;
    bool signalled_ = false; // under the lock until it is out of the list
};

/// It knows no executor, and may outlive the execution context.
template <class Sharing>
class event_core {
public:
    using waiter_type = event_waiter<Sharing>;

    event_core(bool automatic, bool set) noexcept : automatic_(automatic), set_(set) {}

    typename Sharing::count owners;
    void destroy() noexcept { delete this; }

    void set() noexcept
    {
        const std::lock_guard lock(mutex_);
        if (automatic_ && !waiting_.empty())
            signal(waiting_.front());
        else
            set_ = true;
        if (!automatic_) signal_all();
    }

    void reset() noexcept
    {
        const std::lock_guard lock(mutex_);
        set_ = false;
    }

    void notify_all() noexcept
    {
        const std::lock_guard lock(mutex_);
        signal_all();
    }

    bool is_set() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return set_;
    }

    std::size_t waiting() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return count_;
    }

    /// Whether a wait completes at once; consumes the signal of an automatic event.
    bool try_pass(error_code& ec) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (closed_) ec = net::error::operation_aborted;
        if (closed_ || !set_) return closed_;
        if (automatic_) set_ = false;
        return true;
    }

    void enqueue(waiter_type& w) noexcept
    {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(w);
        ++count_;
        if (closed_) {
            remove(w);
            w.wake();
        } else if (set_) {
            if (automatic_) set_ = false;
            signal(w);
        }
    }

    void leave(waiter_type& w) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (w.linked()) remove(w);
    }

    /// The signal of an automatic event that no handler has received is for the next wait.
    void pass_on() noexcept
    {
        if (automatic_) set();
    }

    /// Ends all waits, also later ones.
    void close() noexcept
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        waiting_.for_each([this](waiter_type& w) {
            remove(w);
            w.wake();
        });
    }

private:
    void remove(waiter_type& w) noexcept
    {
        w.unlink();
        --count_;
    }

    void signal(waiter_type& w) noexcept
    {
        remove(w);
        w.signalled_ = true;
        w.wake();
    }

    void signal_all() noexcept
    {
        while (!waiting_.empty())
            signal(waiting_.front());
    }

    mutable typename Sharing::mutex mutex_;
    const bool automatic_;
    bool set_;
    bool closed_ = false;
    std::size_t count_ = 0;
    intrusive_list<waiter_type> waiting_;
};

/// The signal of an event that a queued completion holds: passed on where its handler is destroyed uncalled.
template <class Sharing>
class held_signal {
public:
    explicit held_signal(counted_ptr<event_core<Sharing>> core) noexcept : core_(std::move(core)) {}
    held_signal(held_signal&&) noexcept = default;
    ~held_signal()
    {
        if (core_) core_->pass_on();
    }

    void received() noexcept { core_ = {}; }

private:
    counted_ptr<event_core<Sharing>> core_;
};

/// A wait that completes at once.
template <class Sharing, class Handler>
class passed_wait : public settled_completion<Handler, error_code> {
public:
    passed_wait(Handler&& handler, const net::any_io_executor& fallback, error_code ec,
                counted_ptr<event_core<Sharing>> signalled_by)
        : settled_completion<Handler, error_code>(std::move(handler), fallback, std::move(ec)),
          signal_(std::move(signalled_by))
    {
    }

    void operator()()
    {
        signal_.received();
        settled_completion<Handler, error_code>::operator()();
    }

private:
    held_signal<Sharing> signal_;
};

/// As `start_wait`, for a caller that expects to wait: what has been signalled goes through the list as well.
template <class Sharing, class Handler>
void queue_wait(const counted_ptr<event_core<Sharing>>& core, const net::any_io_executor& executor, Handler handler)
{
    const auto keep = core; // NOLINT(performance-unnecessary-copy-initialization): the handler may own what `core` is
    const auto waiting = begin_wait<event_waiter<Sharing>>(executor, std::move(handler), keep);
    keep->enqueue(*waiting);
}

/// Waits for a handler `void(error_code)`. The event object may be destroyed meanwhile.
template <class Sharing, class Handler>
void start_wait(const counted_ptr<event_core<Sharing>>& core, const net::any_io_executor& executor, Handler handler)
{
    if (error_code ec; core->try_pass(ec)) {
        const at_once how(handler, executor);
        auto signalled_by = ec ? counted_ptr<event_core<Sharing>>() : core;
        how.complete(passed_wait<Sharing, Handler>(std::move(handler), executor, ec, std::move(signalled_by)));
        return;
    }
    queue_wait(core, executor, std::move(handler));
}

#if defined(HOLDFAST_SEPARATE_COMPILATION)
extern template class event_waiter<synchronized>;
extern template class event_core<synchronized>;
#endif

} // namespace holdfast::detail

#endif
