// holdfast: what an admitted connection holds of its acceptor: a place in the registry, and with it a permit.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_ADMISSION_HPP
#define HOLDFAST_DETAIL_CONNECTION_ADMISSION_HPP

#include <holdfast/connection_end.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/error.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// The finalizer of an admitted connection: around the user's own, it leaves the registry, which returns the permit
/// and the address's entry. Two words, of which one takes the place of the guard's time of creation.
template <connection_finalizer Finalizer>
class admission {
public:
    /// Of a connection that was never accepted.
    explicit admission(Finalizer finalizer) noexcept : finalizer_(std::move(finalizer)) {}

    admission(Finalizer finalizer, registry& members, registry::index place, address_table::index address) noexcept
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

    /// The connection that this was the finalizer of has ended before.
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

    /// Just before the descriptor is closed: the number is still this connection's own.
    void before_close(connection_end& end) noexcept
    {
        const auto known = registry_->disarm(place_, end.reason);
        end.age = std::chrono::steady_clock::now() - known.since;
        end.reason = known.cause;
        end.peer = known.peer;
        end.name = known.name;
    }

    /// When the connection began; nothing after its end.
    [[nodiscard]] std::optional<registry::clock::time_point> created_at() const noexcept
    {
        if (registry_ == nullptr) return std::nullopt;
        return registry_->since(place_);
    }

    void prepare_close(int descriptor) noexcept { registry_->prepare_close(descriptor); }

    /// Before and after the socket moves into a layer above it.
    void suspend() noexcept
    {
        if (registry_ != nullptr) registry_->suspend(place_);
    }
    void resume(int descriptor) noexcept
    {
        if (registry_ != nullptr) registry_->resume(place_, descriptor);
    }

    void operator()(const connection_end& end) noexcept
    {
        finalizer_(end); // this object is the guard's copy: it survives the connection's owner
        registry& members = *std::exchange(registry_, nullptr);
        if (address_ != address_table::nowhere) members.addresses.leave(address_);
        members.leave(place_);
    }

    /// What the filter and the limit say about the address; where they allow it, it is the connection's.
    address_verdict::what learn_peer(const net::ip::tcp::endpoint& endpoint)
    {
        using verdict = address_verdict::what;
        if (registry_ == nullptr) return verdict::allowed;
        const net::ip::address address = unmapped(endpoint.address());
        const auto known = registry_->peer_of(place_).ip();
        if (address_ == address_table::nowhere || !known || unmapped(*known) != address) {
            const address_verdict checked = registry_->check_address(address);
            if (checked.verdict != verdict::allowed) return checked.verdict;
            const auto before = std::exchange(address_, checked.place);
            if (before != address_table::nowhere) registry_->addresses.leave(before);
        }
        registry_->set_peer(place_, peer_address(endpoint));
        return verdict::allowed;
    }

    /// By which the connection can be ended from elsewhere; of no registry after its end.
    [[nodiscard]] std::pair<std::weak_ptr<registry>, registry::id> place() const noexcept
    {
        if (registry_ == nullptr) return {};
        return {registry_->weak_from_this(), registry_->id_of(place_)};
    }

    void set_name(const connection_name& name)
    {
        if (registry_ != nullptr) registry_->set_name(place_, name);
    }

    void within_message(bool within) const noexcept
    {
        if (registry_ != nullptr) registry_->within_message(place_, within);
    }

    [[nodiscard]] bool notified() const noexcept { return registry_ != nullptr && registry_->notified(place_); }

private:
    registry* registry_ = nullptr; // it stays while this connection is in it
    registry::index place_ = 0;
    address_table::index address_ = address_table::nowhere;
    [[no_unique_address]] Finalizer finalizer_;
};

} // namespace holdfast::detail

#endif
