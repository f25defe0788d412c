// holdfast: the bodies of address_table.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_IMPL_ADDRESS_TABLE_IPP
#define HOLDFAST_DETAIL_CONNECTION_IMPL_ADDRESS_TABLE_IPP

#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/random_seed.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL net::ip::address unmapped(const net::ip::address& address)
{
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return net::ip::make_address_v4(net::ip::v4_mapped, address.to_v6());
    return address;
}

HOLDFAST_DECL address_key address_key::of(net::ip::address address, unsigned ipv4_prefix, unsigned ipv6_prefix)
{
    address = unmapped(address);
    if (address.is_v4())
        return {0, (std::uint64_t{0xffff} << 32U) | (address.to_v4().to_uint() & (mask(ipv4_prefix) >> 32U))};
    const auto bytes = address.to_v6().to_bytes();
    address_key key;
    for (std::size_t i = 0; i != 8; ++i) {
        key.high = key.high << 8U | bytes[i];
        key.low = key.low << 8U | bytes[i + 8];
    }
    key.high &= mask(ipv6_prefix < 64 ? ipv6_prefix : 64);
    key.low &= mask(ipv6_prefix < 64 ? 0 : ipv6_prefix - 64);
    return key;
}

HOLDFAST_DECL address_table::address_table(std::size_t limit, std::size_t expected) : limit_(limit)
{
    if (limit_ == 0) return;
    buckets_.assign(std::bit_ceil(std::clamp(expected, std::size_t{16}, std::size_t{1} << 20U)), nowhere);
    seed_ = random_seed() | 1U;
}

HOLDFAST_DECL address_table::index address_table::enter(const address_key& key)
{
    const std::lock_guard lock(mutex_);
    index& bucket = buckets_[hash(key)];
    for (index i = bucket; i != nowhere; i = entries_[i].next) {
        if (entries_[i].key != key) continue;
        if (entries_[i].count >= limit_) return nowhere;
        ++entries_[i].count;
        return i;
    }
    index place = free_;
    if (place == nowhere) {
        place = static_cast<index>(entries_.size());
        entries_.emplace_back();
    } else {
        free_ = entries_[place].next;
    }
    entries_[place] = entry{key, 1, std::exchange(bucket, place)};
    ++used_;
    return place;
}

HOLDFAST_DECL void address_table::leave(index place) noexcept
{
    const std::lock_guard lock(mutex_);
    if (--entries_[place].count != 0) return;
    index* link = &buckets_[hash(entries_[place].key)];
    while (*link != place)
        link = &entries_[*link].next;
    *link = entries_[place].next;
    entries_[place].next = std::exchange(free_, place);
    --used_;
}

HOLDFAST_DECL std::size_t address_table::hash(const address_key& key) const noexcept
{
    std::uint64_t h = (key.high ^ seed_) * 0x9e3779b97f4a7c15U;
    h = (h ^ (h >> 32U) ^ key.low) * seed_;
    h = (h ^ (h >> 29U)) * 0xbf58476d1ce4e5b9U;
    return static_cast<std::size_t>(h ^ (h >> 32U)) & (buckets_.size() - 1);
}

} // namespace holdfast::detail

#endif
