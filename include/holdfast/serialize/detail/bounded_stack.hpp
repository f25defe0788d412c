// holdfast: a stack with room for so many values, and no memory but its own.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_BOUNDED_STACK_HPP
#define HOLDFAST_SERIALIZE_DETAIL_BOUNDED_STACK_HPP

#include <array>
#include <cstddef>
#include <memory>
#include <utility>

namespace holdfast::detail {

/// Values are made in their places, where they stay: they need not be movable.
template <class T, std::size_t Capacity>
class bounded_stack {
    union slot {
        slot() noexcept {}
        ~slot() {}
        T value;
    };

public:
    bounded_stack() noexcept {}
    bounded_stack(const bounded_stack&) = delete;
    bounded_stack& operator=(const bounded_stack&) = delete;
    ~bounded_stack()
    {
        while (size_ != 0)
            pop();
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] bool full() const noexcept { return size_ == Capacity; }
    T& operator[](std::size_t i) noexcept { return slots_[i].value; }
    T& top() noexcept { return slots_[size_ - 1].value; }

    /// Precondition: it is not full.
    template <class... Args>
    void push(Args&&... args)
    {
        std::construct_at(std::addressof(slots_[size_].value), std::forward<Args>(args)...);
        ++size_;
    }

    void pop() noexcept { std::destroy_at(std::addressof(slots_[--size_].value)); }

private:
    std::array<slot, Capacity> slots_;
    std::size_t size_ = 0;
};

} // namespace holdfast::detail

#endif
