// holdfast: how other threads reach the execution context of a shard, until its end.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SHARDS_SHARD_LINK_HPP
#define HOLDFAST_DETAIL_SHARDS_SHARD_LINK_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/execute_later.hpp>

#include <mutex>
#include <utility>

namespace holdfast::detail {

/// Refers to a shard's context, and may outlive it.
class shard_link {
public:
    explicit shard_link(net::io_context& context) noexcept : context_(&context) {}
    shard_link(const shard_link&) = delete;

    /// Calls `function()` in the context, later. Returns false when the context has ended; `function` is then
    /// destroyed. Throws std::bad_alloc.
    template <class Function>
    bool post(Function&& function)
    {
        const std::lock_guard lock(mutex_);
        if (context_ == nullptr) return false;
        execute_later(context_->get_executor(), std::forward<Function>(function));
        return true;
    }

    /// Before the context's shutdown: nothing is posted from now on.
    void end() noexcept
    {
        const std::lock_guard lock(mutex_);
        context_ = nullptr;
    }

    [[nodiscard]] bool ended() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return context_ == nullptr;
    }

private:
    mutable std::mutex mutex_;
    net::io_context* context_;
};

} // namespace holdfast::detail

#endif
