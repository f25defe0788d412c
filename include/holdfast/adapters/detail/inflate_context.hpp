// holdfast: zlib's decompressor for the messages of a WebSocket, and a fixed number of them for any number of threads.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_INFLATE_CONTEXT_HPP
#define HOLDFAST_ADAPTERS_DETAIL_INFLATE_CONTEXT_HPP

#include <holdfast/websocket_compression.hpp>

#include <zlib.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string_view>
#include <vector>

namespace holdfast::detail {

class inflate_context {
public:
    explicit inflate_context(unsigned window_bits)
    {
        if (::inflateInit2(&zlib_, -static_cast<int>(window_bits)) != Z_OK) throw std::bad_alloc();
        const Bytef any = 0;
        if (::inflateSetDictionary(&zlib_, &any, 1) != Z_OK) { // allocates the window, which a message else would
            ::inflateEnd(&zlib_);
            throw std::bad_alloc();
        }
    }
    inflate_context(const inflate_context&) = delete;
    inflate_context& operator=(const inflate_context&) = delete;
    ~inflate_context() { ::inflateEnd(&zlib_); }

    /// As `websocket_compression::inflate`.
    bool inflate(std::string_view message, inflate_target& to) noexcept
    {
        if (message.empty()) return true; // no block at all
        ::inflateReset(&zlib_);
        ended_ = false;
        if (!take(message, to)) return false;
        if (full_ || ended_) return true; // by its last block, and nothing follows
        if (!take(std::string_view("\0\0\xff\xff", 4), to)) return false;
        constexpr int at_block = 128; // no block has begun, and no bits of a byte are left
        return full_ || (!ended_ && (zlib_.data_type & ~64) == at_block);
    }

private:
    /// False if the bytes are invalid.
    bool take(std::string_view bytes, inflate_target& to) noexcept
    {
        full_ = false;
        for (bool pending = true; pending || !bytes.empty();) {
            if (ended_) { // a flush by the last block of a stream: the next stream follows
                if (bytes.empty()) return true;
                ::inflateReset(&zlib_);
                ended_ = false;
            }
            const std::span<char> room = to.room();
            full_ = room.empty();
            if (full_) return true;
            const std::size_t in = std::min<std::size_t>(bytes.size(), std::numeric_limits<uInt>::max());
            const std::size_t out = std::min<std::size_t>(room.size(), std::numeric_limits<uInt>::max());
            zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
            zlib_.avail_in = static_cast<uInt>(in);
            zlib_.next_out = reinterpret_cast<Bytef*>(room.data());
            zlib_.avail_out = static_cast<uInt>(out);
            const int result = ::inflate(&zlib_, Z_NO_FLUSH);
            if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return false;
            bytes.remove_prefix(in - zlib_.avail_in);
            full_ = !to.written(out - zlib_.avail_out);
            if (full_) return true;
            ended_ = result == Z_STREAM_END;
            pending = !ended_ && zlib_.avail_out == 0; // it may have more to write
        }
        return true;
    }

    ::z_stream zlib_{};
    bool ended_ = false; // with the last block of a stream
    bool full_ = false;
};

class inflate_pool {
public:
    inflate_pool(std::size_t count, unsigned window_bits)
    {
        if (count > free_.max_size()) throw std::bad_alloc();
        free_.reserve(count);
        for (std::size_t i = 0; i != count; ++i)
            free_.push_back(all_.emplace_back(std::make_unique<inflate_context>(window_bits)).get());
    }

    /// Blocks while others decompress with all of them.
    bool inflate(std::string_view message, inflate_target& to) noexcept
    {
        inflate_context* mine = nullptr;
        {
            std::unique_lock lock(mutex_);
            returned_.wait(lock, [&] { return !free_.empty(); });
            mine = free_.back();
            free_.pop_back();
        }
        const bool valid = mine->inflate(message, to);
        {
            const std::lock_guard lock(mutex_);
            free_.push_back(mine); // within the capacity
        }
        returned_.notify_one();
        return valid;
    }

private:
    std::mutex mutex_;
    std::condition_variable returned_;
    std::vector<std::unique_ptr<inflate_context>> all_;
    std::vector<inflate_context*> free_;
};

} // namespace holdfast::detail

#endif
