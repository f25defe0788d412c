// holdfast: hands the events of an acceptor and its sessions to the user's hook, not too many of them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_EVENT_REPORTER_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_EVENT_REPORTER_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/detail/acceptor/token_bucket.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

namespace holdfast::detail {

/// Sessions share it with the acceptor, which they may outlive. It holds nothing that is bound to an executor.
class event_reporter {
public:
    explicit event_reporter(std::function<void(const acceptor_event&)> hook) : hook_(std::move(hook)) {}

    /// Calls the hook, or only counts the event: one may come with each connection of an attack.
    void report(acceptor_event event) noexcept
    {
        if (!hook_) return;
        {
            kind& of = kinds_[static_cast<std::size_t>(event.what)];
            const std::lock_guard lock(mutex_);
            ++of.unreported;
            if (!of.allowance.take(std::chrono::steady_clock::now())) return;
            event.count = std::exchange(of.unreported, 0);
        }
        hook_(event);
    }

private:
    struct kind {
        token_bucket allowance{std::chrono::seconds(1), 16};
        std::uint64_t unreported = 0;
    };

    const std::function<void(const acceptor_event&)> hook_;
    std::mutex mutex_;
    std::array<kind, acceptor_event::kind_count> kinds_;
};

} // namespace holdfast::detail

#endif
