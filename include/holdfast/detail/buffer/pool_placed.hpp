// holdfast: an object at the beginning of a borrowed buffer, the rest of which it may use.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_BUFFER_POOL_PLACED_HPP
#define HOLDFAST_DETAIL_BUFFER_POOL_PLACED_HPP

#include <holdfast/buffer_pool.hpp>

#include <new>
#include <span>
#include <utility>

namespace holdfast::detail {

/// Owns a T at the beginning of a loan, and the loan.
template <class T>
class pool_placed {
public:
    pool_placed() noexcept = default;
    pool_placed(pool_placed&& other) noexcept : loan_(std::move(other.loan_)) {}
    pool_placed& operator=(pool_placed&& other) noexcept
    {
        if (this != &other) {
            reset();
            loan_ = std::move(other.loan_);
        }
        return *this;
    }
    ~pool_placed() { reset(); }

    /// Makes T(span, args...) in a buffer; the span is what is left of it. Precondition: T is smaller than the
    /// buffer, and no more aligned than 512 bytes.
    template <class... Args>
    static pool_placed make(shared_buffer_loan loan, Args&&... args)
    {
        ::new (static_cast<void*>(loan.data()))
            T(std::span<char>(loan.data() + sizeof(T), loan.size() - sizeof(T)), std::forward<Args>(args)...);
        pool_placed made;
        made.loan_ = std::move(loan);
        return made;
    }

    void reset() noexcept
    {
        if (!loan_) return;
        auto loan = std::move(loan_); // the object may own this
        std::launder(reinterpret_cast<T*>(loan.data()))->~T();
    }

    T* get() const noexcept { return std::launder(reinterpret_cast<T*>(loan_.data())); }
    T* operator->() const noexcept { return get(); }
    T& operator*() const noexcept { return *get(); }

private:
    shared_buffer_loan loan_;
};

} // namespace holdfast::detail

#endif
