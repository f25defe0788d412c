// holdfast: counts this program's heap allocations. Include it in one translation unit of a program only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_ALLOCATIONS_HPP
#define HOLDFAST_TESTS_SUPPORT_ALLOCATIONS_HPP

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

#include <malloc.h>

namespace tests {

inline std::atomic<std::size_t> allocations{0};

/// How many bytes of the heap are in use, and how many were at most since `peak_bytes` was set. (All zero
/// where `counts_bytes` is false.)
inline std::atomic<std::size_t> bytes_in_use{0};
inline std::atomic<std::size_t> peak_bytes{0};

/// How many allocations a call makes. (Counted outside of it, those of the test framework's macros would be
/// among them.)
template <class F>
std::size_t allocations_in(F f)
{
    const std::size_t before = allocations.load();
    f();
    return allocations.load() - before;
}

/// Whether this thread's malloc() is not to be counted, where it would be.
inline thread_local bool aside = false;

/// How many of this thread's allocations are to succeed before one fails, once; negative: all. (Under TSan
/// all succeed.)
inline thread_local long until_failure = -1;

/// Whether all that follow fail too, until `until_failure` is set again.
inline thread_local bool fail_for_good = false;

/// Whether it is this one that fails.
inline bool fails() noexcept
{
    if (until_failure == 0 && fail_for_good) return true;
    return until_failure >= 0 && until_failure-- == 0;
}

/// What a `tracking_allocator` handed out: in all, and not yet returned.
struct tracked {
    std::size_t total = 0;
    std::size_t outstanding = 0;
};

/// An allocator that counts in a `tracked`, and not in `allocations`.
template <class T = std::byte>
struct tracking_allocator {
    using value_type = T;

    explicit tracking_allocator(tracked& t) noexcept : counts(&t) {}
    template <class U>
    tracking_allocator(const tracking_allocator<U>& other) noexcept : counts(other.counts)
    {
    }

    T* allocate(std::size_t n)
    {
        aside = true;
        void* memory = fails() ? nullptr : std::malloc(n * sizeof(T));
        aside = false;
        if (memory == nullptr) throw std::bad_alloc();
        ++counts->total;
        ++counts->outstanding;
        return static_cast<T*>(memory);
    }

    void deallocate(T* memory, std::size_t) noexcept
    {
        --counts->outstanding;
        std::free(memory);
    }

    template <class U>
    bool operator==(const tracking_allocator<U>& other) const noexcept
    {
        return counts == other.counts;
    }

    tracked* counts;
};

/// A completion handler whose associated allocator is a `tracking_allocator`.
template <class F>
struct allocating_from {
    using allocator_type = tracking_allocator<>;

    allocating_from(tracked& t, F f) : counts(&t), function(std::move(f)) {}

    allocator_type get_allocator() const noexcept { return allocator_type(*counts); }

    template <class... Args>
    void operator()(Args&&... args)
    {
        function(std::forward<Args>(args)...);
    }

    tracked* counts;
    F function;
};

} // namespace tests

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HOLDFAST_TESTS_THREAD_SANITIZER
#endif
#endif

#if defined(HOLDFAST_TESTS_THREAD_SANITIZER)
// clang's thread sanitizer does not let a program have an operator new of its own, but calls this. It does
// not call it for aligned memory, so bytes can't be balanced here: only allocations are counted.
namespace tests {
inline constexpr bool counts_bytes = false;
}

extern "C" void __sanitizer_malloc_hook(const volatile void*, std::size_t)
{
    if (!tests::aside) tests::allocations.fetch_add(1, std::memory_order_relaxed);
}
#else
namespace tests {

inline constexpr bool counts_bytes = true;

inline void note_allocation(std::size_t size) noexcept
{
    allocations.fetch_add(1, std::memory_order_relaxed);
    const std::size_t now = bytes_in_use.fetch_add(size, std::memory_order_relaxed) + size;
    std::size_t peak = peak_bytes.load(std::memory_order_relaxed);
    while (peak < now && !peak_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
}

inline void* counted(void* memory)
{
    if (memory == nullptr) throw std::bad_alloc();
    note_allocation(::malloc_usable_size(memory));
    return memory;
}

// Not inline: g++ would take the free() of what operator new returned for an error.
[[gnu::noinline]] inline void give_back(void* memory) noexcept
{
    bytes_in_use.fetch_sub(::malloc_usable_size(memory), std::memory_order_relaxed);
    std::free(memory);
}

} // namespace tests

void* operator new(std::size_t size)
{
    return tests::counted(tests::fails() ? nullptr : std::malloc(size != 0 ? size : 1));
}

void* operator new(std::size_t size, const std::nothrow_t&) noexcept
{
    void* const memory = tests::fails() ? nullptr : std::malloc(size != 0 ? size : 1);
    return memory != nullptr ? tests::counted(memory) : nullptr;
}

void* operator new(std::size_t size, std::align_val_t alignment)
{
    const auto a = static_cast<std::size_t>(alignment);
    return tests::counted(tests::fails() ? nullptr : std::aligned_alloc(a, (size + a - 1) / a * a));
}

void operator delete(void* memory) noexcept { tests::give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { tests::give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { tests::give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { tests::give_back(memory); }

// Sanitizers bring array forms of their own, which would not come here.
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new[](std::size_t size, const std::nothrow_t& no) noexcept { return operator new(size, no); }
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete[](void* memory, std::size_t) noexcept { operator delete(memory); }
#endif

#endif
