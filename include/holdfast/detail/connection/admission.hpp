// holdfast: what an admitted connection holds of its acceptor: a place in the registry, and with it a permit.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_ADMISSION_HPP
#define HOLDFAST_DETAIL_CONNECTION_ADMISSION_HPP

#include <holdfast/connection_end.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/error.hpp>

#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// The finalizer of an admitted connection: around the user's own, it leaves the registry, which returns the
/// permit and the address's entry. Two words.
template <connection_finalizer Finalizer>
class admission {
public:
    /// Of a connection that never was.
    explicit admission(Finalizer finalizer) noexcept : finalizer_(std::move(finalizer)) {}

    admission(Finalizer finalizer, registry& members, registry::index place,
              address_table::index address) noexcept
        : registry_(&members), place_(place), address_(address), finalizer_(std::move(finalizer))
    {
    }

    admission(admission&& other) noexcept
        : registry_(std::exchange(other.registry_, nullptr)),
          place_(other.place_),
          address_(other.address_),
          finalizer_(std::move(other.finalizer_))
    {
    }

    /// What it was has ended before.
    admission& operator=(admission&& other) noexcept
        requires std::is_nothrow_move_assignable_v<Finalizer>
    {
        registry_ = std::exchange(other.registry_, nullptr);
        place_ = other.place_;
        address_ = other.address_;
        finalizer_ = std::move(other.finalizer_);
        return *this;
    }

    ~admission() = default;

    close_reason before_close(close_reason reason) noexcept { return registry_->disarm(place_, reason); }

    void operator()(const connection_end& end) noexcept
    {
        finalizer_(end);
        registry& members = *std::exchange(registry_, nullptr);
        if (address_ != address_table::nowhere) members.addresses.leave(address_);
        members.leave(place_);
    }

    [[nodiscard]] bool told() const noexcept { return registry_ != nullptr && registry_->told(place_); }

private:
    registry* registry_ = nullptr; // it stays while this connection is in it
    registry::index place_ = 0;
    address_table::index address_ = address_table::nowhere;
    [[no_unique_address]] Finalizer finalizer_;
};

} // namespace holdfast::detail

#endif
