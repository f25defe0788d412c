// holdfast: payload, an immutable message that is made once and queued to any number of receivers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PAYLOAD_HPP
#define HOLDFAST_PAYLOAD_HPP

#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast {

/// Which threads may hold references to a payload.
enum class payload_sharing : std::uint8_t {
    /// Any: its references are counted with atomics.
    any_thread,
    /// One thread or strand: copying a reference is an increment, which matters where one message goes to
    /// ten thousand receivers.
    one_thread,
};

namespace detail {

class outbox_item;

/// A payload's count, and behind it, in the same allocation, its bytes.
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

/// A reference to immutable bytes: one pointer, counted in the bytes' own block. Copying it copies no bytes
/// and allocates nothing; the last reference frees them. An empty or moved-from payload has no bytes.
///
/// Thread safety: distinct references to one payload may be used by different threads, unless it was made
/// for `payload_sharing::one_thread`. At most 2^32 - 1 references.
///
///     const holdfast::payload quote{"{\"bid\":1.25}\n"};
///     for (auto& each : receivers)
///         each.push(quote); // 16 bytes in each queue
class payload {
public:
    /// No bytes.
    payload() noexcept = default;

    /// Copies the text. One allocation of its size and 16 bytes. Throws std::bad_alloc.
    explicit payload(std::string_view text, payload_sharing sharing = payload_sharing::any_thread)
    {
        if (text.empty()) return;
        void* const memory = ::operator new(sizeof(detail::payload_block) + text.size());
        block_ = ::new (memory) detail::payload_block{{1}, sharing, text.size()};
        std::memcpy(block_->bytes(), text.data(), text.size());
    }

    /// The same of bytes.
    explicit payload(std::span<const std::byte> bytes, payload_sharing sharing = payload_sharing::any_thread)
        : payload(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), sharing)
    {
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

    /// The bytes; they stay where they are until the last reference goes.
    [[nodiscard]] std::string_view text() const noexcept
    {
        return block_ != nullptr ? std::string_view(block_->bytes(), block_->size) : std::string_view();
    }
    [[nodiscard]] std::size_t size() const noexcept { return block_ != nullptr ? block_->size : 0; }
    [[nodiscard]] bool empty() const noexcept { return block_ == nullptr; }

    /// How many references there are, this one included; 0 for an empty payload. Out of date at once where
    /// other threads have some.
    [[nodiscard]] std::size_t use_count() const noexcept
    {
        return block_ != nullptr ? block_->owners.load(std::memory_order_relaxed) : 0;
    }

private:
    friend class detail::outbox_item;
    detail::payload_block* block_ = nullptr;
};

/// Serializes `source` once, into a payload: `serialize_to_payload<ndjson>(quote)`. An lvalue is only read.
///
/// `ec` is cleared on success; else it is what `streaming_serializer::next` reports, and the payload is
/// empty. Exceptions: what the source throws; std::bad_alloc. Cost: up to 4 KiB one allocation, the payload's
/// own; beyond that a string that grows, and one copy of it.
template <class Format = json, class Source>
payload serialize_to_payload(Source&& source, std::error_code& ec, Format format = {},
                             payload_sharing sharing = payload_sharing::any_thread)
{
    detail::serializer_of<Format, Source> text(std::forward<Source>(source), format);
    char chunk[4096];
    auto part = text.next(chunk, ec);
    if (!ec && text.done()) return payload(std::string_view(part.data(), part.size()), sharing);
    std::string whole;
    while (!ec && !part.empty()) {
        whole.append(part.data(), part.size());
        part = text.next(chunk, ec);
    }
    return ec ? payload() : payload(whole, sharing);
}

/// The same. Exceptions: `std::system_error` too, instead of an error code.
template <class Format = json, class Source>
payload serialize_to_payload(Source&& source, Format format = {},
                             payload_sharing sharing = payload_sharing::any_thread)
{
    std::error_code ec;
    payload made = serialize_to_payload<Format>(std::forward<Source>(source), ec, format, sharing);
    if (ec) throw std::system_error(ec, "serialize_to_payload");
    return made;
}

} // namespace holdfast

#endif
