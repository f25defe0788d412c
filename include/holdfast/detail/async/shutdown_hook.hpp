// holdfast: a call at the beginning of an execution context's destruction, while its I/O objects still work.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_SHUTDOWN_HOOK_HPP
#define HOLDFAST_DETAIL_ASYNC_SHUTDOWN_HOOK_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>

#include <memory>
#include <mutex>

namespace holdfast::detail {

class shutdown_hook;

/// The hooks of one execution context. Services are shut down in the reverse order of their creation: this one
/// must be younger than those of the I/O objects that the hooks destroy.
class shutdown_hooks final : public net::execution_context::service {
public:
    using key_type = shutdown_hooks;
    static inline net::execution_context::id id;

    explicit shutdown_hooks(net::execution_context& context) : service(context) {}

private:
    friend class shutdown_hook;

    struct state {                  // hooks may outlive the context
        std::recursive_mutex mutex; // what one hook destroys may have hooks, too
        intrusive_list<shutdown_hook> hooks;
    };

    inline void shutdown() noexcept override; // inline here, too: else each file has the class's table

    const std::shared_ptr<state> state_ = std::make_shared<state>();
};

/// The base of an object that owns I/O objects and may outlive their execution context: it must destroy them when
/// `context_ends()` is called, which is at most once.
class shutdown_hook : public list_hook {
public:
    shutdown_hook(const shutdown_hook&) = delete;

    /// May destroy other hooks, but not this one.
    virtual void context_ends() noexcept = 0;

protected:
    shutdown_hook() noexcept = default;

    ~shutdown_hook() { unhook(); }

    /// After the I/O objects have been made.
    template <class Executor>
    void hook(const Executor& executor)
    {
        net::execution_context& context = net::query(executor, net::execution::context);
        state_ = net::use_service<shutdown_hooks>(context).state_;
        const std::lock_guard lock(state_->mutex);
        state_->hooks.push_back(*this);
    }

    /// Waits for a call of `context_ends()` that is under way. A derived class calls it first in its destructor.
    void unhook() noexcept
    {
        if (!state_) return;
        const std::lock_guard lock(state_->mutex);
        unlink();
    }

private:
    std::shared_ptr<shutdown_hooks::state> state_;
};

inline void shutdown_hooks::shutdown() noexcept
{
    const std::lock_guard lock(state_->mutex);
    while (!state_->hooks.empty()) {
        shutdown_hook& first = state_->hooks.front();
        first.unlink();
        first.context_ends();
    }
}

} // namespace holdfast::detail

#endif
