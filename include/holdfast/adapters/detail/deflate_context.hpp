// holdfast: zlib's compressor and the bytes that wait for it, and those of a pool that are not lent.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_DEFLATE_CONTEXT_HPP
#define HOLDFAST_ADAPTERS_DETAIL_DEFLATE_CONTEXT_HPP

#include <holdfast/adapters/deflate_options.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace holdfast::detail {

class deflate_context {
public:
    deflate_context(deflate_container container, int level, int window_bits, int memory_level)
    {
        if (window_bits < 9 || window_bits > 15)
            throw std::invalid_argument("deflate_options::window_bits must be 9 to 15");
        if (level < 0 || level > 9) throw std::invalid_argument("deflate_options::level must be 0 to 9");
        const int bits = container == deflate_container::raw    ? -window_bits
                         : container == deflate_container::zlib ? window_bits
                                                                : window_bits + 16;
        switch (::deflateInit2(&zlib_, level, Z_DEFLATED, bits, memory_level, Z_DEFAULT_STRATEGY)) {
        case Z_OK:
            return;
        case Z_MEM_ERROR:
            throw std::bad_alloc();
        default:
            throw std::invalid_argument("deflate_options::memory_level must be 1 to 9");
        }
    }
    deflate_context(const deflate_context&) = delete;
    ~deflate_context() { ::deflateEnd(&zlib_); }

    // A message begins: it goes on with the stream, if the one before ended with a flush.
    void begin() noexcept
    {
        if (!goes_on_) ::deflateReset(&zlib_);
        goes_on_ = false;
        zlib_.avail_in = 0; // what a message left that failed
    }

    // Forgets the stream: the next borrower's is another.
    void end_stream() noexcept { goes_on_ = false; }

    bool hungry() const noexcept { return zlib_.avail_in == 0; }
    std::span<char> input() noexcept { return input_; }

    void feed(std::size_t n) noexcept
    {
        zlib_.next_in = reinterpret_cast<Bytef*>(input_.data());
        zlib_.avail_in = static_cast<uInt>(n);
    }

    // The same with bytes that stay where they are until it is hungry; at most 2^31 - 1.
    void feed(std::string_view bytes) noexcept
    {
        zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
        zlib_.avail_in = static_cast<uInt>(bytes.size());
    }

    // Compresses into the bytes up to `end` and returns the end of what was made; `last` says that no more
    // input will come, and `ended` becomes true when all is out.
    char* deflate(char* p, const char* end, bool last, deflate_end ending, bool& ended) noexcept
    {
        const int flush = !last ? Z_NO_FLUSH : ending == deflate_end::finish ? Z_FINISH : Z_SYNC_FLUSH;
        const auto room = std::min<std::size_t>(static_cast<std::size_t>(end - p), std::numeric_limits<int>::max());
        zlib_.next_out = reinterpret_cast<Bytef*>(p);
        zlib_.avail_out = static_cast<uInt>(room);
        const int result = ::deflate(&zlib_, flush);
        ended = flush == Z_FINISH ? result == Z_STREAM_END : flush == Z_SYNC_FLUSH && zlib_.avail_out != 0;
        goes_on_ = ended && flush == Z_SYNC_FLUSH;
        return p + (room - zlib_.avail_out);
    }

private:
    ::z_stream zlib_{};
    bool goes_on_ = false;
    std::array<char, 8192> input_;
};

// All compressors of a pool. It outlives the pool for as long as one is lent.
class deflate_core {
public:
    synchronized::count owners;
    void destroy() noexcept { delete this; }

    template <class... Args>
    void make(std::size_t count, Args... args)
    {
        if (count > free_.max_size()) throw std::bad_alloc();
        free_.reserve(count);
        for (std::size_t i = 0; i != count; ++i)
            free_.push_back(all_.emplace_back(std::make_unique<deflate_context>(args...)).get());
    }

    // Precondition: one is free, as a permit says.
    deflate_context& take() noexcept
    {
        const std::lock_guard lock(mutex_);
        deflate_context& taken = *free_.back(); // the most recently returned one: its memory is warm
        free_.pop_back();
        return taken;
    }

    // Null if none is free.
    deflate_context* try_take() noexcept
    {
        const std::lock_guard lock(mutex_);
        if (free_.empty()) return nullptr;
        deflate_context* const taken = free_.back();
        free_.pop_back();
        return taken;
    }

    void give_back(deflate_context& context) noexcept
    {
        context.end_stream();
        const std::lock_guard lock(mutex_);
        free_.push_back(&context); // within the capacity that make() reserved
    }

private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<deflate_context>> all_;
    std::vector<deflate_context*> free_;
};

} // namespace holdfast::detail

#endif
