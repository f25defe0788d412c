// holdfast: the bodies of block_slabs.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_BUFFER_IMPL_BLOCK_SLABS_IPP
#define HOLDFAST_DETAIL_BUFFER_IMPL_BLOCK_SLABS_IPP

#include <holdfast/detail/buffer/block_slabs.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <new>

#include <sys/mman.h>

namespace holdfast::detail {

HOLDFAST_DECL block_slabs::~block_slabs()
{
    for (char* slab : slabs_)
        ::munmap(slab, slab_bytes());
}

HOLDFAST_DECL void block_slabs::give_back(char* block, std::size_t keep) noexcept
{
    resident_.push_back(block); // within the capacity that grow() reserved
    if (resident_bytes() <= keep || resident_.size() < trim_threshold_) return;
    release(keep / 2);
    trim_threshold_ = 2 * resident_.size(); // where little could be released, the search must pay for itself
}

HOLDFAST_DECL void block_slabs::trim() noexcept
{
    if (unused_ != 0) release((resident_.size() - unused_) * block_bytes_);
    unused_ = resident_.size();
    trim_threshold_ = 0;
}

HOLDFAST_DECL void block_slabs::warm()
{
    if (released_.empty()) grow();
    const auto from = released_.end() - static_cast<std::ptrdiff_t>(group());
    resident_.insert(resident_.end(), from, released_.end());
    released_.erase(from, released_.end());
}

HOLDFAST_DECL void block_slabs::grow()
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

HOLDFAST_DECL void block_slabs::release(std::size_t keep) noexcept
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

} // namespace holdfast::detail

#endif
