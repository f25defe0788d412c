// holdfast: the places of an outbox's queue, 16 bytes each: payloads, and sources that are still to be read.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_RING_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_RING_HPP

#include <holdfast/payload.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast::detail {

/// A queued message that is made when its turn comes, whatever its type, in one allocation.
class streamed_source {
public:
    streamed_source(std::size_t bytes, bool interleaves, bool interleaves_control = false) noexcept
        : bytes_(bytes), interleaves_(interleaves), interleaves_control_(interleaves || interleaves_control)
    {
    }
    streamed_source(const streamed_source&) = delete;
    virtual ~streamed_source() = default;

    /// As streaming_serializer's.
    virtual std::span<char> next(std::span<char> chunk, std::error_code& ec) = 0;
    [[nodiscard]] virtual bool done() const noexcept = 0;

    /// What it takes itself.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] bool interleaves() const noexcept { return interleaves_; }
    [[nodiscard]] bool interleaves_control() const noexcept { return interleaves_control_; }

    bool begun = false;

private:
    const std::size_t bytes_;
    const bool interleaves_;
    const bool interleaves_control_;
};

/// What lies in a place of the queue. It is copied freely; what takes it out of the queue calls
/// `release()`.
class outbox_item {
public:
    outbox_item() noexcept {} // of a place that is not in use

    /// One more reference to the payload, which is not empty.
    explicit outbox_item(const payload& p) noexcept : what_(reinterpret_cast<std::uintptr_t>(p.block_)), key_(0)
    {
        p.block_->add();
    }
    outbox_item(const payload& p, std::uint64_t key) noexcept : outbox_item(p)
    {
        what_ |= keyed_bit;
        key_ = key;
    }
    /// Takes the source over.
    explicit outbox_item(std::unique_ptr<streamed_source> source) noexcept
        : what_(reinterpret_cast<std::uintptr_t>(source.release()) | streamed_bit), key_(0)
    {
    }

    void release() noexcept
    {
        if (is_streamed())
            delete &source();
        else
            block().drop();
    }

    /// Of those, the ones that go next lie in front.
    void make_control(bool next) noexcept
    {
        what_ |= control_bit;
        key_ = next;
    }
    void make_control(bool next, std::uint64_t key) noexcept
    {
        what_ |= control_bit | keyed_bit;
        key_ = key << 1U | (next ? 1U : 0U);
    }

    [[nodiscard]] bool is_streamed() const noexcept { return (what_ & streamed_bit) != 0; }
    [[nodiscard]] bool is_control() const noexcept { return (what_ & control_bit) != 0; }
    [[nodiscard]] bool goes_next() const noexcept { return is_control() && (key_ & 1U) != 0; }
    [[nodiscard]] bool is_keyed() const noexcept { return (what_ & keyed_bit) != 0; }
    [[nodiscard]] bool has_key(std::uint64_t key) const noexcept { return key_ == key && is_keyed() && !is_control(); }
    /// Whether both are control messages of one key, in places of one kind.
    [[nodiscard]] bool same_control(const outbox_item& other) const noexcept
    {
        return is_control() && is_keyed() && other.is_control() && other.is_keyed() && key_ == other.key_;
    }
    [[nodiscard]] std::uint64_t key() const noexcept { return key_; }

    [[nodiscard]] streamed_source& source() const noexcept
    {
        return *reinterpret_cast<streamed_source*>(what_ & ~all_bits);
    }
    [[nodiscard]] std::string_view text() const noexcept { return {block().bytes(), block().size}; }

    /// What it counts: its bytes, and its place.
    [[nodiscard]] std::size_t cost() const noexcept
    {
        return (is_streamed() ? source().bytes() : block().size) + sizeof(outbox_item);
    }

private:
    // In the lowest bits of the pointer.
    static constexpr std::uintptr_t streamed_bit = 1, control_bit = 2, keyed_bit = 4, all_bits = 7;
    static_assert(alignof(payload_block) > all_bits && alignof(streamed_source) > all_bits);

    [[nodiscard]] payload_block& block() const noexcept { return *reinterpret_cast<payload_block*>(what_ & ~all_bits); }

    std::uintptr_t what_;
    std::uint64_t key_;
};
static_assert(sizeof(outbox_item) == 16);

/// A ring of items. Those in front can be pinned while a write refers to them: they then stay at their
/// address, since another thread may read them, whatever happens after them; the ring must outlive that write.
///
/// The first places are in the ring itself: most outboxes have few messages at a time, and need no memory for them.
class outbox_ring {
public:
    outbox_ring() noexcept = default;
    outbox_ring(const outbox_ring&) = delete;
    ~outbox_ring() { truncate(0); }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// Places in memory of their own.
    [[nodiscard]] std::size_t allocated() const noexcept { return places_ ? capacity_ : 0; }
    [[nodiscard]] std::size_t pinned() const noexcept { return pinned_; }

    outbox_item& operator[](std::size_t i) noexcept { return places()[(head_ + i) & (capacity_ - 1)]; }
    const outbox_item& operator[](std::size_t i) const noexcept
    {
        return const_cast<outbox_ring&>(*this).places()[(head_ + i) & (capacity_ - 1)];
    }

    /// Room for one more; false where there is no memory.
    [[nodiscard]] bool reserve_one() noexcept { return size_ != capacity_ || resize(2 * std::size_t{capacity_}); }

    /// Inserts in front of the i-th, which is not pinned. Precondition: `reserve_one()`.
    void insert(std::size_t i, const outbox_item& item) noexcept
    {
        ++size_;
        for (std::size_t j = size_ - 1; j != i; --j)
            (*this)[j] = (*this)[j - 1];
        (*this)[i] = item;
    }

    /// Takes out the first, which is not pinned.
    outbox_item pop_front() noexcept
    {
        const outbox_item first = (*this)[0];
        head_ = (head_ + 1) & static_cast<std::uint32_t>(capacity_ - 1);
        --size_;
        return first;
    }

    /// The first, which is not pinned, becomes the last.
    void move_first_behind() noexcept { move_first_behind(size_ - 1); }

    /// The first, which is not pinned, goes after the next `count`.
    void move_first_behind(std::size_t count) noexcept
    {
        const outbox_item first = pop_front();
        insert(count, first);
    }

    /// Releases those from the i-th on.
    void truncate(std::size_t i) noexcept
    {
        while (size_ > i)
            (*this)[--size_].release();
    }

    /// Releases the items from the i-th on for which `goes(item)`. They are not pinned.
    template <class Predicate>
    void remove_if(std::size_t i, Predicate goes) noexcept
    {
        std::size_t to = i;
        for (; i != size_; ++i) {
            outbox_item item = (*this)[i];
            if (goes(item))
                item.release();
            else
                (*this)[to++] = item;
        }
        size_ = static_cast<std::uint32_t>(to);
    }

    /// Where the first items are for as long as they are pinned.
    struct pins {
        const outbox_item* places;
        std::uint32_t mask, head, count;

        const outbox_item& operator[](std::size_t i) const noexcept { return places[(head + i) & mask]; }
    };
    pins pin(std::size_t count) noexcept
    {
        pinned_ = static_cast<std::uint32_t>(count);
        return {places(), static_cast<std::uint32_t>(capacity_ - 1), head_, pinned_};
    }
    void unpin() noexcept
    {
        pinned_ = 0;
        pinned_places_.reset();
    }

    /// Gives back memory that is not needed, all of it where the ring is empty. Nothing is pinned.
    void shrink() noexcept
    {
        if (!places_) return;
        if (size_ <= first_capacity / 2)
            use_first_places();
        else if (size_ <= capacity_ / 4)
            (void)resize(std::bit_ceil(2 * std::size_t{size_}));
    }

private:
    static constexpr std::uint32_t first_capacity = 8;

    outbox_item* places() noexcept { return places_ ? places_.get() : first_; }

    void use_first_places() noexcept
    {
        for (std::size_t i = 0; i != size_; ++i)
            first_[i] = (*this)[i];
        places_.reset();
        capacity_ = first_capacity;
        head_ = 0;
    }

    bool resize(std::size_t capacity) noexcept
    {
        std::unique_ptr<outbox_item[]> places(new (std::nothrow) outbox_item[capacity]);
        if (!places) return false;
        for (std::size_t i = 0; i != size_; ++i)
            places[i] = (*this)[i];
        if (pinned_ != 0 && !pinned_places_) pinned_places_ = std::move(places_);
        places_ = std::move(places);
        capacity_ = static_cast<std::uint32_t>(capacity);
        head_ = 0;
        return true;
    }

    outbox_item first_[first_capacity]; // while `places_` is null
    std::unique_ptr<outbox_item[]> places_;
    std::unique_ptr<outbox_item[]> pinned_places_; // where the ring grew while some were pinned
    std::uint32_t capacity_ = first_capacity;      // a power of two
    std::uint32_t head_ = 0;
    std::uint32_t size_ = 0;
    std::uint32_t pinned_ = 0;
};

} // namespace holdfast::detail

#endif
