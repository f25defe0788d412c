// holdfast: key_limits, which limits the connections of a tenant, a device or an account, whatever their addresses.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_KEY_LIMITS_HPP
#define HOLDFAST_KEY_LIMITS_HPP

#include <holdfast/admitted_connection.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/error.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace holdfast {

/// What happens to a connection whose key has as many connections as allowed.
enum class key_policy : std::uint8_t {
    /// It gets no permit.
    refuse,
    /// It gets the permit of the oldest one, which is ended for `close_reason::superseded`: a device that reconnects
    /// need not wait until the server notices that its last connection is dead.
    newest_wins,
};

/// Options of `key_limits`.
struct key_limit_options {
    /// Maximum number of connections of one key. At least 1. SIZE_MAX: unlimited.
    std::size_t max_per_key = 1;
    /// Maximum number of keys that have a connection. At least 1. SIZE_MAX: unlimited. A further key gets no permit.
    std::size_t max_keys = 100'000;
    /// Maximum size of a key in bytes. At least 1. A longer one gets no permit.
    std::size_t max_key_bytes = 256;
    /// What happens to a connection whose key has `max_per_key` connections.
    key_policy on_limit = key_policy::refuse;
};

namespace detail {

struct key_holder;

/// The connections of a key, in the order in which they came.
struct key_entry {
    std::size_t count = 0;
    intrusive_list<key_holder> holders;
};
using key_map = std::map<std::string, key_entry, std::less<>>; // ordered: no choice of keys makes it slow

/// One connection of a key. Its permit owns it.
struct key_holder : list_hook {
    std::weak_ptr<registry> members;
    registry::id id = 0;
    key_map::iterator place;
};

class key_table {
public:
    explicit key_table(const key_limit_options& o) : options(o) {}

    /// Whether the holder has got a place. Throws std::bad_alloc, without an effect.
    HOLDFAST_DECL bool enter(key_holder& newest, std::string_view key);

    HOLDFAST_DECL void leave(key_holder& one) noexcept;

    [[nodiscard]] bool holds(const key_holder& one) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return one.linked();
    }

    [[nodiscard]] std::size_t keys() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return entries_.size();
    }

    [[nodiscard]] HOLDFAST_DECL std::size_t count(std::string_view key) const noexcept;

    const key_limit_options options;

private:
    mutable std::mutex mutex_;
    key_map entries_;
};

} // namespace detail

/// Counts one connection for its key, until it is destroyed. Move-only.
///
/// Lifetime: may outlive the `key_limits` and the connection.
/// Thread safety: distinct objects: safe.
class [[nodiscard]] key_permit {
public:
    /// Makes an empty permit.
    key_permit() noexcept = default;
    key_permit(key_permit&& other) noexcept = default;
    key_permit& operator=(key_permit&& other) noexcept
    {
        if (this != &other) {
            release();
            table_ = std::move(other.table_);
            holder_ = std::move(other.holder_);
        }
        return *this;
    }
    ~key_permit() { release(); }

    /// Whether the connection was admitted: false for an empty permit.
    explicit operator bool() const noexcept { return holder_ != nullptr; }

    /// Whether a newer connection of the key has replaced this one. Thread safety: safe.
    [[nodiscard]] bool superseded() const noexcept { return holder_ && !table_->holds(*holder_); }

    /// Returns the permit: the connection does not count any more.
    void release() noexcept
    {
        if (holder_) table_->leave(*holder_);
        holder_.reset();
        table_.reset();
    }

private:
    friend class key_limits;

    key_permit(std::shared_ptr<detail::key_table> table, std::unique_ptr<detail::key_holder> holder) noexcept
        : table_(std::move(table)), holder_(std::move(holder))
    {
    }

    std::shared_ptr<detail::key_table> table_;
    std::unique_ptr<detail::key_holder> holder_;
};

/// Limits the number of connections of each key. A key is a string of the user's choice: a tenant, a device or an
/// account, known after a login or a handshake. The connections may be those of several acceptors.
///
/// Memory: a key with a connection takes its bytes and about 200 more, each further connection about 100. A key without
/// connections takes none.
/// Thread safety: all members may be called from any thread, also from a finalizer. No callback is called.
/// Cost: O(log keys) under a lock, and up to three allocations for each permit.
///
///     holdfast::key_limits devices{{.on_limit = holdfast::key_policy::newest_wins}};
///     // ... in the session, once the device is known:
///     const auto permit = devices.acquire(device_id, peer);
///     if (!permit) co_return peer.close(holdfast::close_reason::refused);
class key_limits {
public:
    /// Makes limits that no connection counts against yet.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc.
    explicit key_limits(const key_limit_options& options = {}) : table_(std::make_shared<detail::key_table>(options))
    {
        if (options.max_per_key == 0) throw std::invalid_argument("key_limit_options::max_per_key must be at least 1");
        if (options.max_keys == 0) throw std::invalid_argument("key_limit_options::max_keys must be at least 1");
        if (options.max_key_bytes == 0)
            throw std::invalid_argument("key_limit_options::max_key_bytes must be at least 1");
    }

    /// Counts the connection for `key`, as long as the result exists. The result is empty if the connection is refused:
    /// at `max_per_key` with `key_policy::refuse`, for one key more than `max_keys`, and for a key longer than
    /// `max_key_bytes`.
    ///
    /// At `max_per_key` with `key_policy::newest_wins` the oldest connection of the key does not count any more, and is
    /// ended as by `bounded_acceptor::end`: its pending or next operation fails, and its finalizer is called when its
    /// session ends, which may be after this call has returned.
    ///
    /// Exceptions: std::bad_alloc, without an effect.
    template <class Stream, connection_finalizer Finalizer>
    [[nodiscard]] key_permit acquire(std::string_view key, const admitted_connection<Stream, Finalizer>& peer)
    {
        auto holder = std::make_unique<detail::key_holder>();
        std::tie(holder->members, holder->id) = peer.place();
        if (!table_->enter(*holder, key)) return {};
        return {table_, std::move(holder)};
    }

    /// Returns the number of keys that have a connection.
    [[nodiscard]] std::size_t keys() const noexcept { return table_->keys(); }

    /// Returns the number of connections of a key that count.
    [[nodiscard]] std::size_t count(std::string_view key) const noexcept { return table_->count(key); }

private:
    std::shared_ptr<detail::key_table> table_;
};

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/key_limits.ipp>
#endif

#endif
