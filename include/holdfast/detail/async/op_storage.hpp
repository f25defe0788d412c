// holdfast: memory for one pending operation of Asio's, inside an object that outlives it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_OP_STORAGE_HPP
#define HOLDFAST_DETAIL_ASYNC_OP_STORAGE_HPP

#include <cstddef>
#include <new>

namespace holdfast::detail {

/// Room for one operation. Asio returns an operation's memory before it calls or destroys the handler, so the
/// same room serves one operation after the other, and the handler may own the object that the room is in.
class op_storage {
public:
    op_storage() noexcept = default;
    op_storage(const op_storage&) = delete;

    void* allocate(std::size_t size)
    {
        if (taken_ || size > sizeof(bytes_)) return ::operator new(size);
        taken_ = true;
        return &bytes_;
    }

    void deallocate(void* memory) noexcept
    {
        if (memory == &bytes_)
            taken_ = false;
        else
            ::operator delete(memory);
    }

private:
    alignas(std::max_align_t) std::byte bytes_[448]; // a write for a coroutine takes about 250 with Asio 1.22
    bool taken_ = false;
};

/// The allocator of an op_storage.
template <class T>
class op_allocator {
public:
    using value_type = T;

    explicit op_allocator(op_storage& storage) noexcept : storage_(&storage) {}
    template <class U>
    op_allocator(const op_allocator<U>& other) noexcept : storage_(other.storage())
    {
    }

    T* allocate(std::size_t n) { return static_cast<T*>(storage_->allocate(n * sizeof(T))); }
    void deallocate(T* memory, std::size_t) noexcept { storage_->deallocate(memory); }

    [[nodiscard]] op_storage* storage() const noexcept { return storage_; }

    template <class U>
    bool operator==(const op_allocator<U>& other) const noexcept
    {
        return storage_ == other.storage();
    }

private:
    op_storage* storage_;
};

} // namespace holdfast::detail

#endif
