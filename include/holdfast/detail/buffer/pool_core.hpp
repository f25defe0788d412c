// holdfast: what a buffer pool and its loans share: blocks by size, and counters.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_BUFFER_POOL_CORE_HPP
#define HOLDFAST_DETAIL_BUFFER_POOL_CORE_HPP

#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/buffer/block_slabs.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace holdfast::detail {

/// A lent block; `which` is the class of its size.
struct pool_block {
    char* data = nullptr;
    unsigned which = 0;

    [[nodiscard]] std::size_t size() const noexcept { return data == nullptr ? 0 : std::size_t{512} << which; }
};

/// Blocks of 512, 1,024, 2,048 bytes and so on. It knows no executor, and may outlive the execution context.
template <class Sharing>
class pool_core {
public:
    explicit pool_core(std::size_t keep_bytes) noexcept : keep_bytes_(keep_bytes) {}

    typename Sharing::count owners;
    void destroy() noexcept { delete this; }

    /// The class of the smallest blocks that hold `size` bytes.
    static unsigned class_of(std::size_t size) noexcept
    {
        return size <= 512 ? 0 : static_cast<unsigned>(std::bit_width(size - 1)) - 9;
    }

    /// The size of a class; of one whose size cannot be expressed, the greatest number.
    static std::size_t bytes_of(unsigned which) noexcept
    {
        return which < classes ? std::size_t{512} << which : std::numeric_limits<std::size_t>::max();
    }

    /// Takes a block; `bytes` is returned when the block is. Throws std::bad_alloc.
    pool_block take(unsigned which, basic_permit<Sharing> bytes = {})
    {
        if (which >= classes) throw std::bad_alloc();
        const std::lock_guard lock(mutex_);
        while (sizes_.size() <= which)
            sizes_.push_back(std::make_unique<block_slabs>(bytes_of(static_cast<unsigned>(sizes_.size()))));
        const pool_block block{sizes_[which]->take(), which};
        permit_.merge(bytes);
        ++lent_;
        lent_bytes_ += block.size();
        peak_bytes_ = std::max(peak_bytes_, lent_bytes_);
        return block;
    }

    void give_back(pool_block block) noexcept
    {
        basic_permit<Sharing> bytes; // returned after the lock: it may wake operations
        const std::lock_guard lock(mutex_);
        sizes_[block.which]->give_back(block.data, keep_bytes_);
        lent_bytes_ -= block.size();
        bytes = permit_.split(block.size());
    }

    void refuse() noexcept
    {
        const std::lock_guard lock(mutex_);
        ++refused_;
    }

    void trim() noexcept
    {
        const std::lock_guard lock(mutex_);
        for (const auto& each : sizes_)
            each->trim();
    }

    template <class Counters>
    Counters counters() const noexcept
    {
        const std::lock_guard lock(mutex_);
        Counters now{lent_, refused_, lent_bytes_, peak_bytes_, 0};
        for (const auto& each : sizes_)
            now.kept_bytes += each->resident_bytes();
        return now;
    }

private:
    static constexpr unsigned classes = std::numeric_limits<std::size_t>::digits - 9;

    mutable typename Sharing::mutex mutex_;
    const std::size_t keep_bytes_;
    std::vector<std::unique_ptr<block_slabs>> sizes_;
    basic_permit<Sharing> permit_; // for all that is lent
    std::uint64_t lent_ = 0;
    std::uint64_t refused_ = 0;
    std::size_t lent_bytes_ = 0;
    std::size_t peak_bytes_ = 0;
};

} // namespace holdfast::detail

#endif
