// holdfast: the heap of a benchmark's process, counted in bytes. For one translation unit of a program: it
// replaces operator new and delete.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_HEAP_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_HEAP_HPP

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace benchmarks {

/// Bytes on the heap, now and at the peak since `reset_peak`.
class heap {
public:
    static std::size_t now() noexcept { return now_.load(std::memory_order_relaxed); }
    static std::size_t peak() noexcept { return peak_.load(std::memory_order_relaxed); }
    static void reset_peak() noexcept { peak_.store(now(), std::memory_order_relaxed); }

    static void* allocate(std::size_t size) noexcept { return reallocate(nullptr, size); }

    static void* reallocate(void* p, std::size_t size) noexcept
    {
        const std::size_t before = malloc_usable_size(p);
        void* const q = std::realloc(p, size != 0 ? size : 1);
        if (q == nullptr) return nullptr;
        const std::size_t after = malloc_usable_size(q);
        const std::size_t total = now_.fetch_add(after - before, std::memory_order_relaxed) + after - before;
        if (total > peak()) peak_.store(total, std::memory_order_relaxed);
        return q;
    }

    static void release(void* p) noexcept
    {
        now_.fetch_sub(malloc_usable_size(p), std::memory_order_relaxed);
        std::free(p);
    }

private:
    static inline std::atomic<std::size_t> now_{0};
    static inline std::atomic<std::size_t> peak_{0};
};

} // namespace benchmarks

// Not inlined, or g++ takes the free() for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size)
{
    void* p = benchmarks::heap::allocate(size);
    if (p == nullptr) throw std::bad_alloc();
    return p;
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept
{
    return benchmarks::heap::allocate(size);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { benchmarks::heap::release(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

#endif
