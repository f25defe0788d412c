// holdfast: how many connections each remote address has, in a table that is itself bounded.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_ADDRESS_TABLE_HPP
#define HOLDFAST_DETAIL_CONNECTION_ADDRESS_TABLE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/linkage.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace holdfast::detail {

/// An IPv4 address that is mapped to IPv6 as the IPv4 address, any other as it is.
HOLDFAST_DECL net::ip::address unmapped(const net::ip::address& address);

/// A remote address cut to its prefix. A v4 address stands as the v6 address that it is mapped to.
struct address_key {
    std::uint64_t high = 0;
    std::uint64_t low = 0;

    bool operator==(const address_key&) const = default;

    HOLDFAST_DECL static address_key of(net::ip::address address, unsigned ipv4_prefix, unsigned ipv6_prefix);

private:
    /// The first `bits` of 64, which lie in the upper half for up to 32 of them.
    static constexpr std::uint64_t mask(unsigned bits) noexcept
    {
        return bits == 0 ? 0 : ~std::uint64_t{0} << (64 - bits);
    }
};

/// Counts connections by address. Only addresses with a live connection have an entry, so their number is
/// bounded by that of the connections, however many addresses an attacker has. Thread-safe, O(1); hashed with
/// a seed that is drawn for each table.
class address_table {
public:
    using index = std::uint32_t;
    static constexpr index nowhere = ~index(0);

    /// `expected` addresses at most get buckets of their own; memory is taken only where there is a limit.
    HOLDFAST_DECL address_table(std::size_t limit, std::size_t expected);

    /// Counts a connection; `nowhere` where its address has as many as allowed. Allocates as the table grows;
    /// strong guarantee.
    HOLDFAST_DECL index enter(const address_key& key);

    HOLDFAST_DECL void leave(index place) noexcept;

    /// How many addresses have a connection.
    std::size_t size() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return used_;
    }

    /// How many entries there is memory for: the most that were ever in use at once.
    std::size_t capacity() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return entries_.size();
    }

private:
    struct entry {
        address_key key;
        index count = 0;
        index next = nowhere;
    };

    HOLDFAST_DECL std::size_t hash(const address_key& key) const noexcept;

    const std::size_t limit_;
    std::uint64_t seed_ = 0;
    mutable std::mutex mutex_;
    std::vector<index> buckets_;
    std::vector<entry> entries_;
    index free_ = nowhere;
    std::size_t used_ = 0;
};

/// What the filter and the limit of an acceptor say about an address.
struct address_verdict {
    enum class what : unsigned char { allowed, full, refused };

    what verdict = what::allowed;
    address_table::index place = address_table::nowhere; // its entry, where it is counted
};

/// An entry that is given back, unless a connection takes it over. The table must outlive it.
class address_place {
public:
    address_place() noexcept = default;
    address_place(address_table& table, address_table::index place) noexcept : table_(&table), place_(place) {}
    address_place(address_place&& other) noexcept : table_(std::exchange(other.table_, nullptr)), place_(other.place_)
    {
    }
    address_place& operator=(address_place&& other) noexcept
    {
        if (this != &other) {
            release();
            table_ = std::exchange(other.table_, nullptr);
            place_ = other.place_;
        }
        return *this;
    }
    ~address_place() { release(); }

    /// Whose it is from now on gives it back; `address_table::nowhere` where there is none.
    [[nodiscard]] address_table::index take_over() noexcept
    {
        return std::exchange(table_, nullptr) != nullptr ? place_ : address_table::nowhere;
    }

private:
    void release() noexcept
    {
        if (table_ != nullptr) std::exchange(table_, nullptr)->leave(place_);
    }

    address_table* table_ = nullptr;
    address_table::index place_ = 0;
};

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/connection/impl/address_table.ipp>
#endif

#endif
