// holdfast: a pointer to an object that counts its owners, with atomics or without.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_COUNTED_PTR_HPP
#define HOLDFAST_DETAIL_ASYNC_COUNTED_PTR_HPP

#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>

namespace holdfast::detail {

/// For objects that every thread may use.
struct synchronized {
    using mutex = std::mutex;

    class count {
    public:
        void add() noexcept { owners_.fetch_add(1, std::memory_order_relaxed); }
        /// True for the last owner.
        bool drop() noexcept { return owners_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
        [[nodiscard]] bool sole() const noexcept { return owners_.load(std::memory_order_acquire) == 1; }

    private:
        std::atomic<std::size_t> owners_{0};
    };
};

/// For objects that belong to one thread or strand: no lock and no atomic.
struct unsynchronized {
    struct mutex {
        void lock() noexcept {}
        void unlock() noexcept {}
    };

    class count {
    public:
        void add() noexcept { ++owners_; }
        bool drop() noexcept { return --owners_ == 0; }
        [[nodiscard]] static bool sole() noexcept { return true; } // nothing runs at the same time

    private:
        std::size_t owners_ = 0;
    };
};

/// One of the owners of a T, which has a `count owners` and a `destroy() noexcept` for the last one to call.
/// Unlike std::shared_ptr it is one word, and needs no atomics where T's count has none.
template <class T>
class counted_ptr {
public:
    counted_ptr() noexcept = default;
    explicit counted_ptr(T* object) noexcept : object_(object) { object_->owners.add(); }
    counted_ptr(const counted_ptr& other) noexcept : object_(other.object_)
    {
        if (object_ != nullptr) object_->owners.add();
    }
    counted_ptr(counted_ptr&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    counted_ptr& operator=(counted_ptr other) noexcept
    {
        std::swap(object_, other.object_);
        return *this;
    }
    [[gnu::always_inline]] ~counted_ptr() // most of them are null by then: a moved-from one is destroyed as well
    {
        if (object_ != nullptr) release();
    }

    T* get() const noexcept { return object_; }
    T* operator->() const noexcept { return object_; }
    T& operator*() const noexcept { return *object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }

private:
    void release() noexcept
    {
        if (object_->owners.drop()) object_->destroy();
    }

    T* object_ = nullptr;
};

} // namespace holdfast::detail

#endif
