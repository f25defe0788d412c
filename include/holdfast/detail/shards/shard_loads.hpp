// holdfast: how many connections each shard has.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SHARDS_SHARD_LOADS_HPP
#define HOLDFAST_DETAIL_SHARDS_SHARD_LOADS_HPP

#include <atomic>
#include <cstddef>
#include <memory>

namespace holdfast::detail {

/// A counter for each shard, on a cache line of its own. Connections may outlive the shards.
class shard_loads {
public:
    explicit shard_loads(std::size_t shards) : counters_(std::make_unique<counter[]>(shards)), size_(shards) {}

    void add(std::size_t shard) noexcept { counters_[shard].connections.fetch_add(1, std::memory_order_relaxed); }
    void drop(std::size_t shard) noexcept { counters_[shard].connections.fetch_sub(1, std::memory_order_relaxed); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t operator[](std::size_t shard) const noexcept
    {
        return counters_[shard].connections.load(std::memory_order_relaxed);
    }

    /// The shard with the fewest connections; of several, the first after `last`.
    [[nodiscard]] std::size_t least(std::size_t last) const noexcept
    {
        std::size_t best = (last + 1) % size_;
        std::size_t fewest = (*this)[best];
        for (std::size_t i = 2; i <= size_; ++i) {
            const std::size_t each = (last + i) % size_;
            const std::size_t connections = (*this)[each];
            if (connections >= fewest) continue;
            best = each;
            fewest = connections;
        }
        return best;
    }

private:
    struct alignas(64) counter {
        std::atomic<std::size_t> connections = 0;
    };

    const std::unique_ptr<counter[]> counters_;
    const std::size_t size_;
};

} // namespace holdfast::detail

#endif
