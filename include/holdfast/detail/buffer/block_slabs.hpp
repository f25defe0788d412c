// holdfast: blocks of memory of one size, apart from the heap, that give their pages back when they are free.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_BUFFER_BLOCK_SLABS_HPP
#define HOLDFAST_DETAIL_BUFFER_BLOCK_SLABS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <vector>

#include <sys/mman.h>

namespace holdfast::detail {

/// Blocks of one size, mapped in slabs. Among small heap blocks that stay, buffers that come and go would
/// leave holes that are never given back: measured, four fifths of a server's memory after a burst. Here the
/// pages of free blocks go back to the system, and malloc's heap stays dense. Not thread-safe.
class block_slabs {
public:
    explicit block_slabs(std::size_t block_bytes) noexcept : block_bytes_(block_bytes) {}
    block_slabs(const block_slabs&) = delete;

    ~block_slabs()
    {
        for (char* slab : slabs_)
            ::munmap(slab, slab_bytes());
    }

    [[nodiscard]] std::size_t block_bytes() const noexcept { return block_bytes_; }

    /// How many bytes of free blocks keep their memory.
    [[nodiscard]] std::size_t resident_bytes() const noexcept { return resident_.size() * block_bytes_; }

    /// Takes a block, the most recently returned one if there is any: its memory is warm. Throws
    /// std::bad_alloc.
    char* take()
    {
        if (resident_.empty()) warm();
        char* const block = resident_.back();
        resident_.pop_back();
        unused_ = std::min(unused_, resident_.size());
        return block;
    }

    /// Takes a block back. Where more than `keep` bytes of free ones have memory, half of it is released.
    void give_back(char* block, std::size_t keep) noexcept
    {
        resident_.push_back(block); // within the capacity that grow() reserved
        if (resident_bytes() <= keep || resident_.size() < trim_threshold_) return;
        release(keep / 2);
        trim_threshold_ = 2 * resident_.size(); // where little could be released, the search must pay for itself
    }

    /// Releases the memory of blocks that were free since the last call.
    void trim() noexcept
    {
        if (unused_ != 0) release((resident_.size() - unused_) * block_bytes_);
        unused_ = resident_.size();
        trim_threshold_ = 0;
    }

private:
    static constexpr std::size_t page = 4096;

    [[nodiscard]] std::size_t slab_bytes() const noexcept
    {
        return std::max(block_bytes_, std::clamp<std::size_t>(64 * block_bytes_, 16 * page, 256 * page));
    }

    /// How many blocks are released together: those of a page.
    [[nodiscard]] std::size_t group() const noexcept { return std::max(page / block_bytes_, std::size_t{1}); }

    /// What shares a page gets memory together, too: else it could not all be released again.
    void warm()
    {
        if (released_.empty()) grow();
        const auto from = released_.end() - static_cast<std::ptrdiff_t>(group());
        resident_.insert(resident_.end(), from, released_.end());
        released_.erase(from, released_.end());
    }

    void grow()
    {
        const std::size_t count = slab_bytes() / block_bytes_;
        const std::size_t total = (slabs_.size() + 1) * count;
        resident_.reserve(total);
        released_.reserve(total);
        slabs_.reserve(slabs_.size() + 1);
        void* const slab = ::mmap(nullptr, slab_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (slab == MAP_FAILED) throw std::bad_alloc();
        ::madvise(slab, slab_bytes(), MADV_NOHUGEPAGE); // a huge page would hold what free blocks give back
        slabs_.push_back(static_cast<char*>(slab));
        for (std::size_t i = count; i-- != 0;)
            released_.push_back(slabs_.back() + i * block_bytes_);
    }

    /// Gives whole pages of free blocks back, the highest first, until `keep` bytes are left; what lies low
    /// is lent first from now on, so that what is in use moves together.
    void release(std::size_t keep) noexcept
    {
        std::sort(resident_.begin(), resident_.end(), std::greater<>());
        const auto n = static_cast<std::ptrdiff_t>(group());
        std::size_t left = resident_.size();
        auto to = resident_.begin();
        for (auto from = resident_.begin(); from != resident_.end();) {
            if (resident_.end() - from >= n && (left - group()) * block_bytes_ >= keep && is_group(&*from)) {
                ::madvise(from[n - 1], group() * block_bytes_, MADV_DONTNEED);
                released_.insert(released_.end(), from, from + n); // within the capacity, too
                left -= group();
                from += n;
            } else {
                *to++ = *from++;
            }
        }
        resident_.erase(to, resident_.end());
    }

    /// Whether these, in descending order, are all the blocks of a page.
    bool is_group(char* const* blocks) const noexcept
    {
        char* const lowest = blocks[group() - 1];
        return reinterpret_cast<std::uintptr_t>(lowest) % page == 0 &&
               static_cast<std::size_t>(blocks[0] - lowest) == (group() - 1) * block_bytes_;
    }

    const std::size_t block_bytes_; // a power of two
    std::vector<char*> slabs_;
    std::vector<char*> resident_;    // free, with memory
    std::vector<char*> released_;    // free, without
    std::size_t unused_ = 0;         // the least that were free with memory since the last trim
    std::size_t trim_threshold_ = 0; // how many may be free before it is worth a look
};

} // namespace holdfast::detail

#endif
