// holdfast: the chunks that messages are serialized into, apart from the heap, one pool for each
// execution context.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CHUNK_POOL_HPP
#define HOLDFAST_DETAIL_CHUNK_POOL_HPP

#include <holdfast/asio.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include <sys/mman.h>

namespace holdfast::detail {

/// Chunks of one size, mapped in slabs. Among small heap blocks that stay, chunks that come and go would
/// leave holes that are never given back: measured, four fifths of a server's memory after a burst. Here the
/// memory of every free chunk but a few goes back to the system at once, and malloc's heap stays dense.
/// Thread-safe.
class chunk_slabs {
public:
    explicit chunk_slabs(std::size_t chunk_bytes) noexcept : chunk_bytes_(chunk_bytes) {}
    chunk_slabs(const chunk_slabs&) = delete;

    ~chunk_slabs()
    {
        for (char* slab : slabs_)
            ::munmap(slab, slab_bytes());
    }

    [[nodiscard]] std::size_t chunk_bytes() const noexcept { return chunk_bytes_; }

    /// Takes a chunk, the most recently returned one if there is any: its memory is warm. Throws
    /// std::bad_alloc.
    char* take()
    {
        const std::lock_guard lock(mutex_);
        if (resident_.empty() && released_.empty()) grow();
        auto& from = resident_.empty() ? released_ : resident_;
        char* const chunk = from.back();
        from.pop_back();
        return chunk;
    }

    void give_back(char* chunk) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (resident_.size() < max_resident) {
            resident_.push_back(chunk); // within the capacity that grow() reserved
        } else {
            ::madvise(chunk, chunk_bytes_, MADV_DONTNEED);
            released_.push_back(chunk);
        }
    }

private:
    static constexpr std::size_t slab_chunks = 64;
    static constexpr std::size_t max_resident = 64; // free chunks that keep their memory

    [[nodiscard]] std::size_t slab_bytes() const noexcept { return slab_chunks * chunk_bytes_; }

    void grow()
    {
        resident_.reserve(max_resident);
        released_.reserve((slabs_.size() + 1) * slab_chunks);
        slabs_.reserve(slabs_.size() + 1);
        void* const slab =
            ::mmap(nullptr, slab_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (slab == MAP_FAILED) throw std::bad_alloc();
        ::madvise(slab, slab_bytes(),
                  MADV_NOHUGEPAGE); // a huge page would hold what free chunks have given back
        slabs_.push_back(static_cast<char*>(slab));
        for (std::size_t i = slab_chunks; i-- != 0;)
            released_.push_back(slabs_.back() + i * chunk_bytes_);
    }

    const std::size_t chunk_bytes_;
    std::mutex mutex_;
    std::vector<char*> slabs_;
    std::vector<char*> resident_;
    std::vector<char*> released_;
};

/// An object at the beginning of a chunk, the rest of which it is told to use. It keeps the chunk's slabs
/// alive.
template <class T>
struct chunk_delete {
    std::shared_ptr<chunk_slabs> slabs;

    void operator()(T* object) const noexcept
    {
        object->~T();
        slabs->give_back(reinterpret_cast<char*>(object));
    }
};

template <class T>
using chunk_ptr = std::unique_ptr<T, chunk_delete<T>>;

/// Makes T(span, args...) in a chunk of the slabs; the span is what is left of the chunk behind it.
/// Precondition: T is smaller than a chunk, and no more aligned than a page.
template <class T, class... Args>
chunk_ptr<T> make_in_chunk(std::shared_ptr<chunk_slabs> slabs, Args&&... args)
{
    char* const memory = slabs->take();
    const std::span<char> rest(memory + sizeof(T), slabs->chunk_bytes() - sizeof(T));
    try {
        T* const object = ::new (static_cast<void*>(memory)) T(rest, std::forward<Args>(args)...);
        return chunk_ptr<T>(object, {std::move(slabs)});
    } catch (...) {
        slabs->give_back(memory);
        throw;
    }
}

/// The pools of an execution context, one for each size in use, rounded up to whole pages.
class chunk_pool final : public net::execution_context::service {
public:
    using key_type = chunk_pool;
    static inline net::execution_context::id id;

    explicit chunk_pool(net::execution_context& context) : service(context) {}

    /// The slabs for chunks of at least `size` bytes.
    std::shared_ptr<chunk_slabs> slabs(std::size_t size)
    {
        const std::size_t rounded = (std::max<std::size_t>(size, 1) + page - 1) / page * page;
        const std::lock_guard lock(mutex_);
        for (const auto& each : sizes_)
            if (each->chunk_bytes() == rounded) return each;
        return sizes_.emplace_back(std::make_shared<chunk_slabs>(rounded));
    }

private:
    static constexpr std::size_t page = 4096;

    void shutdown() noexcept override {} // loans of destroyed operations come back by themselves

    std::mutex mutex_;
    std::vector<std::shared_ptr<chunk_slabs>> sizes_;
};

/// The slabs of the context that `executor` belongs to.
template <class Executor>
std::shared_ptr<chunk_slabs> chunk_slabs_of(const Executor& executor, std::size_t size)
{
    return net::use_service<chunk_pool>(net::query(executor, net::execution::context)).slabs(size);
}

} // namespace holdfast::detail

#endif
