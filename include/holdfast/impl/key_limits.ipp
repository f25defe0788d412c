// holdfast: the bodies of key_limits.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_KEY_LIMITS_IPP
#define HOLDFAST_IMPL_KEY_LIMITS_IPP

#include <holdfast/key_limits.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace holdfast::detail {

HOLDFAST_DECL bool key_table::enter(key_holder& newest, std::string_view key)
{
    std::weak_ptr<registry> superseded;
    registry::id id = 0;
    {
        const std::lock_guard lock(mutex_);
        auto place = entries_.find(key);
        if (place == entries_.end()) {
            if (entries_.size() >= options.max_keys || key.size() > options.max_key_bytes) return false;
            place = entries_.try_emplace(std::string(key)).first;
        }
        key_entry& entry = place->second;
        if (entry.count >= options.max_per_key) {
            if (options.on_limit == key_policy::refuse) return false;
            key_holder& oldest = entry.holders.front();
            const bool same = oldest.id == newest.id && !oldest.members.owner_before(newest.members) &&
                              !newest.members.owner_before(oldest.members); // it has come a second time
            if (!same) superseded = oldest.members;
            id = oldest.id;
            oldest.unlink();
            --entry.count;
        }
        newest.place = place;
        entry.holders.push_back(newest);
        ++entry.count;
    }
    if (const auto members = superseded.lock()) members->end(id, close_reason::superseded);
    return true;
}

HOLDFAST_DECL void key_table::leave(key_holder& one) noexcept
{
    const std::lock_guard lock(mutex_);
    if (!one.linked()) return; // superseded
    one.unlink();
    if (--one.place->second.count == 0) entries_.erase(one.place);
}

HOLDFAST_DECL std::size_t key_table::count(std::string_view key) const noexcept
{
    const std::lock_guard lock(mutex_);
    const auto place = entries_.find(key);
    return place == entries_.end() ? 0 : place->second.count;
}

} // namespace holdfast::detail

#endif
