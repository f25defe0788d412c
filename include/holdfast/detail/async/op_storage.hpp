// holdfast: memory for one pending operation of Asio's, inside an object that outlives it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_OP_STORAGE_HPP
#define HOLDFAST_DETAIL_ASYNC_OP_STORAGE_HPP

#include <cstddef>
#include <new>

namespace holdfast::detail {

/// Room for one operation. Asio returns an operation's memory before it calls or destroys the handler, so the
/// same room serves one operation after the other, and the handler may own the object that the room is in. What does
/// not fit is allocated.
template <std::size_t Bytes>
class op_storage_of {
public:
    op_storage_of() noexcept = default;
    op_storage_of(const op_storage_of&) = delete;

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
    alignas(std::max_align_t) std::byte bytes_[Bytes];
    bool taken_ = false;
};

using op_storage = op_storage_of<448>; // a write for a coroutine takes about 250 with Asio 1.22

/// The allocator of an op_storage.
template <class T, class Storage = op_storage>
class op_allocator {
public:
    using value_type = T;
    template <class U>
    struct rebind {
        using other = op_allocator<U, Storage>;
    };

    explicit op_allocator(Storage& storage) noexcept : storage_(&storage) {}
    template <class U>
    op_allocator(const op_allocator<U, Storage>& other) noexcept : storage_(other.storage())
    {
    }

    T* allocate(std::size_t n) { return static_cast<T*>(storage_->allocate(n * sizeof(T))); }
    void deallocate(T* memory, std::size_t) noexcept { storage_->deallocate(memory); }

    [[nodiscard]] Storage* storage() const noexcept { return storage_; }

    template <class U>
    bool operator==(const op_allocator<U, Storage>& other) const noexcept
    {
        return storage_ == other.storage();
    }

private:
    Storage* storage_;
};

} // namespace holdfast::detail

#endif
