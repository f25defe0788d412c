// holdfast: blocks of memory of one size, apart from the heap, that give their pages back when they are free.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_BUFFER_BLOCK_SLABS_HPP
#define HOLDFAST_DETAIL_BUFFER_BLOCK_SLABS_HPP

#include <holdfast/detail/linkage.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

    HOLDFAST_DECL ~block_slabs();

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
    HOLDFAST_DECL void give_back(char* block, std::size_t keep) noexcept;

    /// Releases the memory of blocks that were free since the last call.
    HOLDFAST_DECL void trim() noexcept;

private:
    static constexpr std::size_t page = 4096;

    [[nodiscard]] std::size_t slab_bytes() const noexcept
    {
        return std::max(block_bytes_, std::clamp<std::size_t>(64 * block_bytes_, 16 * page, 256 * page));
    }

    /// How many blocks are released together: those of a page.
    [[nodiscard]] std::size_t group() const noexcept { return std::max(page / block_bytes_, std::size_t{1}); }

    /// What shares a page gets memory together, too: else it could not all be released again.
    HOLDFAST_DECL void warm();

    HOLDFAST_DECL void grow();

    /// Gives whole pages of free blocks back, the highest first, until `keep` bytes are left; what lies low
    /// is lent first from now on, so that what is in use moves together.
    HOLDFAST_DECL void release(std::size_t keep) noexcept;

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

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/buffer/impl/block_slabs.ipp>
#endif

#endif
