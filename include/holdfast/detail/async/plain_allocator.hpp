// holdfast: the heap, as it is: for operations that may be pending for hours.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_PLAIN_ALLOCATOR_HPP
#define HOLDFAST_DETAIL_ASYNC_PLAIN_ALLOCATOR_HPP

#include <cstddef>
#include <new>

namespace holdfast::detail {

/// Allocates by operator new. Where a handler has no allocator, Asio recycles the memory of operations, and
/// may give a small one the block of a larger that has ended: a connection that waits for hours would keep
/// that.
template <class T>
struct plain_allocator {
    using value_type = T;

    plain_allocator() noexcept = default;
    template <class U>
    plain_allocator(const plain_allocator<U>&) noexcept
    {
    }

    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T))); }
    void deallocate(T* memory, std::size_t) noexcept { ::operator delete(memory); }

    template <class U>
    bool operator==(const plain_allocator<U>&) const noexcept
    {
        return true;
    }
};

} // namespace holdfast::detail

#endif
