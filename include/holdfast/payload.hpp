// holdfast: payload, an immutable message that is shared by any number of receivers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PAYLOAD_HPP
#define HOLDFAST_PAYLOAD_HPP

#include <holdfast/version.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string_view>
#include <utility>

namespace holdfast {

/// Which threads may hold references to a payload.
enum class payload_sharing : std::uint8_t {
    /// Any thread: references are counted with atomics.
    any_thread,
    /// One thread or strand: copying a reference is an increment without an atomic, which is faster where one
    /// message goes to ten thousand receivers.
    one_thread,
};

namespace detail {

class outbox_item;

/// The count of a payload; its bytes follow in the same allocation.
struct payload_block {
    std::atomic<std::uint32_t> owners{1};
    payload_sharing sharing;
    std::size_t size;

    char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }

    void add() noexcept
    {
        if (sharing == payload_sharing::any_thread)
            owners.fetch_add(1, std::memory_order_relaxed);
        else
            owners.store(owners.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

    void drop() noexcept
    {
        if (sharing == payload_sharing::any_thread) {
            if (owners.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
        } else {
            const std::uint32_t left = owners.load(std::memory_order_relaxed) - 1;
            owners.store(left, std::memory_order_relaxed);
            if (left != 0) return;
        }
        this->~payload_block();
        ::operator delete(this);
    }
};

} // namespace detail

/// Refers to immutable bytes. A copy refers to the same bytes; the last reference frees them. An empty payload, and
/// one that was moved from, has no bytes. There may be at most 2^32 - 1 references to the same bytes.
///
/// Thread safety: distinct objects are safe, also when they refer to the same bytes, unless these were made for
/// `payload_sharing::one_thread`.
/// Cost: one pointer; a copy allocates nothing. `serialize_to_payload` (serialized_payload.hpp) makes one of a value.
///
///     const holdfast::payload quote{"{\"bid\":1.25}\n"};
///     for (auto& each : receivers)
///         each.push(quote); // 16 bytes in each queue
class payload {
public:
    /// Makes an empty payload.
    payload() noexcept = default;

    /// Copies the text. Exceptions: std::bad_alloc. Cost: one allocation, of the text's size and 16 bytes.
    explicit payload(std::string_view text, payload_sharing sharing = payload_sharing::any_thread)
    {
        if (text.empty()) return;
        void* const memory = ::operator new(sizeof(detail::payload_block) + text.size());
        block_ = ::new (memory) detail::payload_block{{1}, sharing, text.size()};
        std::memcpy(block_->bytes(), text.data(), text.size());
    }

    /// The same for bytes.
    explicit payload(std::span<const std::byte> bytes, payload_sharing sharing = payload_sharing::any_thread)
        : payload(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), sharing)
    {
    }

    /// Copies a message in two parts, such as a frame's header and what it contains. Exceptions and cost: the same.
    payload(std::string_view header, std::string_view text, payload_sharing sharing = payload_sharing::any_thread)
    {
        const std::size_t size = header.size() + text.size();
        if (size == 0) return;
        void* const memory = ::operator new(sizeof(detail::payload_block) + size);
        block_ = ::new (memory) detail::payload_block{{1}, sharing, size};
        if (!header.empty()) std::memcpy(block_->bytes(), header.data(), header.size());
        if (!text.empty()) std::memcpy(block_->bytes() + header.size(), text.data(), text.size());
    }

    payload(const payload& other) noexcept : block_(other.block_)
    {
        if (block_ != nullptr) block_->add();
    }
    payload(payload&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    payload& operator=(payload other) noexcept
    {
        std::swap(block_, other.block_);
        return *this;
    }
    ~payload()
    {
        if (block_ != nullptr) block_->drop();
    }

    /// Returns on which threads references to the bytes may be copied and destroyed.
    [[nodiscard]] payload_sharing sharing() const noexcept
    {
        return block_ != nullptr ? block_->sharing : payload_sharing::any_thread;
    }

    /// Returns the bytes. They stay at their address until the last reference is destroyed.
    [[nodiscard]] std::string_view text() const noexcept
    {
        return block_ != nullptr ? std::string_view(block_->bytes(), block_->size) : std::string_view();
    }
    [[nodiscard]] std::size_t size() const noexcept { return block_ != nullptr ? block_->size : 0; }
    [[nodiscard]] bool empty() const noexcept { return block_ == nullptr; }

    /// Returns the number of references, this one included; 0 for an empty payload. While other threads have
    /// references, it is an estimate. For diagnostics and tests, as `std::shared_ptr::use_count`.
    [[nodiscard]] std::size_t use_count() const noexcept
    {
        return block_ != nullptr ? block_->owners.load(std::memory_order_relaxed) : 0;
    }

private:
    friend class detail::outbox_item;
    detail::payload_block* block_ = nullptr;
};

} // namespace holdfast

#endif
