// holdfast: memory for one pending operation of Asio's, inside an object that outlives it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OP_STORAGE_HPP
#define HOLDFAST_DETAIL_OP_STORAGE_HPP

#include <holdfast/asio.hpp>

#include <cstddef>
#include <new>
#include <utility>

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

/// The handler `h` with its executor and its cancellation slot, but an op_storage for its operation.
template <class Handler>
class stored_handler {
public:
    using executor_type = net::associated_executor_t<Handler>;
    using allocator_type = op_allocator<void>;
    using cancellation_slot_type = net::associated_cancellation_slot_t<Handler>;

    stored_handler(Handler&& h, op_storage& storage) : handler_(std::move(h)), storage_(&storage) {}

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_); }
    allocator_type get_allocator() const noexcept { return allocator_type(*storage_); }
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return net::get_associated_cancellation_slot(handler_);
    }

    template <class... Args>
    void operator()(Args&&... args)
    {
        handler_(std::forward<Args>(args)...);
    }

private:
    Handler handler_;
    op_storage* storage_;
};

} // namespace holdfast::detail

#endif
