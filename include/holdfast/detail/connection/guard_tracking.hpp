// holdfast: where and when each live connection_guard was made, for leak_check; in debug builds only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_GUARD_TRACKING_HPP
#define HOLDFAST_DETAIL_CONNECTION_GUARD_TRACKING_HPP

#include <holdfast/version.hpp>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <source_location>

/// Whether guards are tracked: 1 in debug builds, 0 where NDEBUG is defined, unless the build says otherwise.
/// It changes the size of a guard, so all files of a program must agree.
#if !defined(HOLDFAST_TRACK_GUARDS)
#if defined(NDEBUG)
#define HOLDFAST_TRACK_GUARDS 0
#else
#define HOLDFAST_TRACK_GUARDS 1
#endif
#endif

namespace holdfast::detail {

#if HOLDFAST_TRACK_GUARDS

/// A place in the list of all live guards of the process, kept while the guard lives, through its moves.
class guard_tracking {
public:
    explicit guard_tracking(std::source_location where) noexcept
        : where_(where), when_(std::chrono::steady_clock::now())
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        number_ = ++list.born;
        link(list);
    }

    guard_tracking(guard_tracking&& other) noexcept { take(other); }

    guard_tracking& operator=(guard_tracking&& other) noexcept
    {
        leave();
        take(other);
        return *this;
    }

    ~guard_tracking() { leave(); }

    /// The guard has ended: it leaves the list.
    void end() noexcept
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        if (linked_) ++list.ended;
        unlink(list);
    }

    /// How many guards were made so far.
    static std::uint64_t born() noexcept
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        return list.born;
    }

    /// How many of them have ended, each by `end()`: one that is destroyed without is not counted.
    static std::uint64_t ended() noexcept
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        return list.ended;
    }

    /// Calls `f(number, where, when)` for each live guard, the youngest first, under the list's lock.
    template <class F>
    static void for_each(F f)
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        for (const guard_tracking* each = list.youngest; each != nullptr; each = each->older_)
            f(each->number_, each->where_, each->when_);
    }

private:
    struct all {
        std::mutex mutex;
        guard_tracking* youngest = nullptr;
        std::uint64_t born = 0;
        std::uint64_t ended = 0;
    };

    static all& everyone() noexcept
    {
        static all list;
        return list;
    }

    void link(all& list) noexcept
    {
        older_ = list.youngest;
        if (older_ != nullptr) older_->younger_ = this;
        list.youngest = this;
        linked_ = true;
    }

    void unlink(all& list) noexcept
    {
        if (!linked_) return;
        (younger_ != nullptr ? younger_->older_ : list.youngest) = older_;
        if (older_ != nullptr) older_->younger_ = younger_;
        older_ = younger_ = nullptr;
        linked_ = false;
    }

    void leave() noexcept
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        unlink(list);
    }

    void take(guard_tracking& other) noexcept
    {
        all& list = everyone();
        const std::lock_guard lock(list.mutex);
        where_ = other.where_;
        when_ = other.when_;
        number_ = other.number_;
        if (!other.linked_) return;
        other.unlink(list);
        link(list);
    }

    std::source_location where_;
    std::chrono::steady_clock::time_point when_;
    std::uint64_t number_ = 0;
    guard_tracking* older_ = nullptr;
    guard_tracking* younger_ = nullptr;
    bool linked_ = false;
};

#else

/// Nothing: a guard is not tracked.
struct guard_tracking {
    explicit guard_tracking(std::source_location) noexcept {}
    void end() noexcept {}
};

#endif

} // namespace holdfast::detail

#endif
