// holdfast: an outbox's queue and its decisions: what fits, what goes, what is written next. No I/O.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_QUEUE_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_QUEUE_HPP

#include <holdfast/detail/outbox/outbox_ring.hpp>
#include <holdfast/outbox_totals.hpp>
#include <holdfast/payload.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

namespace holdfast::detail {

/// Messages on their way to a slow reader. What is not to be written yet can be replaced and dropped; what a
/// write refers to, or is sent in part, is fixed: it lies in front.
///
/// Bytes are counted from the push until the last of the message is sent. Those of control messages count
/// apart.
class outbox_queue {
public:
    /// How many payloads one write takes: as many buffers as Asio hands to the system at once.
    static constexpr std::size_t gather_count = 64;

    struct marks {
        std::size_t high, low;
        std::uint32_t reserve;
    };

    enum class outcome : unsigned char { queued, full, too_large, no_memory };

    explicit outbox_queue(const marks& m) noexcept : high_(m.high), low_(m.low), reserve_(m.reserve) {}

    // Pushing.

    /// Queues it, if it fits below the high mark; of the ones that are not fixed, `drops` lets as many of the
    /// oldest go as is needed, if that is enough. Unless it was queued, `item` is still the caller's.
    outcome push(const outbox_item& item, bool drops) noexcept
    {
        const std::size_t cost = item.cost();
        if (cost > high_) return outcome::too_large;
        const std::size_t older = item.is_keyed() ? find(item.key()) : ring_.size();
        const bool replaces = older != ring_.size();
        const std::size_t replaced = replaces ? ring_[older].cost() : 0;
        if (bytes_ - replaced + cost > high_) {
            if (!drops || replaces) return outcome::full;
            if (!drop(bytes_ + cost - high_)) return outcome::full;
        }
        if (replaces) {
            std::exchange(ring_[older], item).release();
            ++conflated_;
            outbox_tally::own().note_replaced(1);
        } else {
            if (!ring_.reserve_one()) return outcome::no_memory;
            ring_.insert(ring_.size(), item);
        }
        bytes_ += cost - replaced;
        return outcome::queued;
    }

    /// Queues a control message, if it fits into the reserve: after all others, or ahead of all that is not
    /// fixed, and after the earlier ones there. With a key it takes the place of the last ones of that key where there
    /// is no room otherwise.
    outcome push_control(outbox_item item, bool next, const std::uint64_t* key = nullptr) noexcept
    {
        if (key != nullptr)
            item.make_control(next, *key);
        else
            item.make_control(next);
        const std::size_t cost = item.cost();
        if (cost > reserve_) return outcome::too_large;
        if (control_bytes_ + cost > reserve_) return key != nullptr ? replace_control(item) : outcome::full;
        if (!ring_.reserve_one()) return outcome::no_memory;
        std::size_t place = ring_.size();
        if (next)
            for (place = fixed(); place != ring_.size() && ring_[place].goes_next();)
                ++place;
        ring_.insert(place, item);
        control_bytes_ += static_cast<std::uint32_t>(cost);
        return outcome::queued;
    }

    /// Queues a control message after all others, whatever the reserve. Nothing is pushed after it.
    outcome push_final(outbox_item item) noexcept
    {
        item.make_control(false);
        if (!ring_.reserve_one()) return outcome::no_memory;
        ring_.insert(ring_.size(), item);
        control_bytes_ += static_cast<std::uint32_t>(item.cost());
        ends_ = true;
        return outcome::queued;
    }

    /// Whether as much is queued as one write takes.
    [[nodiscard]] bool fills_a_write() const noexcept
    {
        return ring_.size() >= gather_count || bytes_ + control_bytes_ >= high_ / 2;
    }

    /// Whether there is room for so many bytes, without dropping any.
    [[nodiscard]] bool fits(std::size_t cost) const noexcept { return bytes_ + cost <= high_; }

    // Writing: one write at a time, of payloads or of a chunk.

    enum class turn : unsigned char { idle, payloads, chunk, next_chunk };

    /// What to write next. `next_chunk`: the source in front is to make one first.
    [[nodiscard]] turn next_turn() const noexcept
    {
        if (!chunk_.empty()) return turn::chunk;
        if (ring_.empty()) return turn::idle;
        return ring_[0].is_streamed() ? turn::next_chunk : turn::payloads;
    }

    /// The payloads of a write, the first of them from `offset` on.
    struct gathered {
        outbox_ring::pins payloads;
        std::size_t offset;
    };

    /// Begins a write of payloads: as many as one write takes, but no more than half of the mark, so that the
    /// rest can still be dropped and replaced while it lasts. After a write that was not taken as a whole,
    /// the reader is slow: then the rest of that message alone.
    gathered begin_payloads() noexcept
    {
        const std::size_t most = cut_short_ ? 1 : std::min(ring_.size(), gather_count);
        std::size_t count = 0;
        std::size_t cost = 0;
        writing_ = 0;
        writes_messages_ = false;
        do {
            writes_messages_ = writes_messages_ || !ring_[count].is_control();
            cost += ring_[count].cost();
            writing_ += ring_[count].text().size();
            ++count;
        } while (count < most && !ring_[count].is_streamed() && cost < high_ / 2);
        writing_ -= offset_;
        return {ring_.pin(count), offset_};
    }

    /// Makes the next chunk of the source in front. An error, and what it throws, leave nothing to be
    /// written.
    void make_chunk(std::span<char> buffer, std::error_code& ec)
    {
        streamed_source& source = ring_[0].source();
        begun_ += source.begun ? 0 : 1;
        source.begun = true;
        chunk_ = source.next(buffer, ec);
        if (!ec && chunk_.empty()) end_chunk(); // an empty message
    }

    /// What is left of the chunk, to be written.
    std::span<const char> begin_chunk() noexcept
    {
        writing_ = chunk_.size();
        writes_messages_ = true;
        return chunk_;
    }

    /// The write has ended: the first `n` bytes of it are sent.
    void sent(std::size_t n) noexcept
    {
        ring_.unpin();
        cut_short_ = n < writing_;
        if (!chunk_.empty()) {
            chunk_ = chunk_.subspan(n);
            if (chunk_.empty()) end_chunk();
        } else if (!ring_.empty()) {
            n += offset_;
            while (n != 0 && n >= ring_[0].text().size()) {
                n -= ring_[0].text().size();
                pop();
            }
            offset_ = n;
        }
        if (!keeps_memory_ && ring_.allocated() != 0) give_back();
    }

    /// Whether memory is kept until `give_back()` is called, instead of being given back at the low mark.
    void keep_memory(bool keeps) noexcept { keeps_memory_ = keeps; }

    /// Gives back memory that is not needed.
    void give_back() noexcept
    {
        if (bytes_ <= low_ && ring_.pinned() == 0) ring_.shrink();
    }

    /// Whether the last write was not taken as a whole.
    [[nodiscard]] bool cut_short() const noexcept { return cut_short_; }

    // At the end.

    /// Whether a message is sent in part: closed now, the connection must not end as if it were whole. What a
    /// pending write has sent is not known.
    [[nodiscard]] bool sent_in_part() const noexcept { return offset_ != 0 || begun_ != 0; }

    /// Whether a pending write refers to payloads.
    [[nodiscard]] bool writes_payloads() const noexcept { return ring_.pinned() != 0; }

    /// Whether the pending write, or the last one, has others than control messages.
    [[nodiscard]] bool writes_messages() const noexcept { return writes_messages_; }

    /// Drops all but the payloads that a pending write refers to; nothing is pushed any more.
    void clear() noexcept
    {
        ring_.truncate(ring_.pinned());
        if (ring_.pinned() == 0) ring_.shrink();
        chunk_ = {};
        bytes_ = 0;
        control_bytes_ = 0;
        begun_ = 0;
        for (std::size_t i = 0; i != ring_.size(); ++i)
            count(ring_[i]);
    }

    // Figures.

    [[nodiscard]] marks limits() const noexcept { return {high_, low_, reserve_}; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t control_bytes() const noexcept { return control_bytes_; }
    [[nodiscard]] std::size_t size() const noexcept { return ring_.size(); }
    [[nodiscard]] std::size_t allocated() const noexcept { return ring_.allocated(); }
    [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }
    [[nodiscard]] std::uint64_t conflated() const noexcept { return conflated_; }

private:
    static bool begun(const outbox_item& item) noexcept { return item.source().begun; }
    static bool may_drop(const outbox_item& item) noexcept
    {
        return !item.is_control() && !(item.is_streamed() && begun(item));
    }

    /// How many in front must stay in front.
    [[nodiscard]] std::size_t fixed() const noexcept
    {
        if (ring_.pinned() != 0) return ring_.pinned();
        if (ring_.empty()) return 0;
        const bool first = offset_ != 0 || !chunk_.empty() ||
                           (ring_[0].is_streamed() && begun(ring_[0]) && !ring_[0].source().interleaves_control());
        return first ? 1 : 0;
    }

    /// The place of a payload with that key that is not fixed, else that after the last.
    [[nodiscard]] std::size_t find(std::uint64_t key) const noexcept
    {
        for (std::size_t i = ring_.size(), end = fixed(); i != end; --i)
            if (ring_[i - 1].has_key(key)) return i - 1;
        return ring_.size();
    }

    /// Replaces the last control messages of the key that are not fixed, as many as the item needs.
    outcome replace_control(const outbox_item& item) noexcept
    {
        std::size_t freed = 0;
        std::size_t count = 0;
        std::size_t last = 0;
        std::size_t i = ring_.size();
        for (const std::size_t end = fixed(); control_bytes_ - freed + item.cost() > reserve_;) {
            do {
                if (i == end) return outcome::full;
            } while (!ring_[--i].same_control(item));
            if (count++ == 0) last = i;
            freed += ring_[i].cost();
        }
        control_bytes_ = static_cast<std::uint32_t>(control_bytes_ - freed + item.cost());
        conflated_ += count;
        outbox_tally::own().note_replaced(count);
        std::exchange(ring_[last], item).release();
        ring_.remove_if(i,
                        [&](const outbox_item& older) { return count > 1 && older.same_control(item) && count-- > 1; });
        return outcome::queued;
    }

    /// Drops the oldest until so many bytes are free, or nothing at all.
    bool drop(std::size_t needed) noexcept
    {
        std::size_t found = 0;
        std::size_t count = 0;
        for (std::size_t i = fixed(); i != ring_.size() && found < needed; ++i)
            if (may_drop(ring_[i])) {
                found += ring_[i].cost();
                ++count;
            }
        if (found < needed) return false;
        bytes_ -= found;
        dropped_ += count;
        outbox_tally::own().note_dropped(count);
        ring_.remove_if(fixed(), [&](const outbox_item& item) { return count != 0 && may_drop(item) && count-- != 0; });
        return true;
    }

    void count(const outbox_item& item) noexcept
    {
        if (item.is_control())
            control_bytes_ += static_cast<std::uint32_t>(item.cost());
        else
            bytes_ += item.cost();
    }

    void pop() noexcept
    {
        outbox_item first = ring_.pop_front();
        if (first.is_streamed() && begun(first)) --begun_;
        if (first.is_control())
            control_bytes_ -= static_cast<std::uint32_t>(first.cost());
        else
            bytes_ -= first.cost();
        first.release();
    }

    /// The chunk of the source in front is sent.
    void end_chunk() noexcept
    {
        const streamed_source& source = ring_[0].source();
        if (source.done())
            pop();
        else if (source.interleaves() && !ends_)
            ring_.move_first_behind();
        else if (source.interleaves_control())
            let_control_pass();
    }

    /// Control messages that go next were queued after the chunk of the source in front.
    void let_control_pass() noexcept
    {
        std::size_t count = 0;
        while (count + 1 != ring_.size() && ring_[count + 1].goes_next())
            ++count;
        if (count != 0) ring_.move_first_behind(count);
    }

    outbox_ring ring_;
    const std::size_t high_, low_;
    const std::uint32_t reserve_;
    std::uint32_t control_bytes_ = 0;
    std::size_t bytes_ = 0;
    std::uint32_t begun_ = 0; // streamed messages that are sent in part
    bool cut_short_ = false;  // the last write
    bool writes_messages_ = false;
    bool ends_ = false; // with the last message
    bool keeps_memory_ = false;
    std::size_t offset_ = 0;  // so much of the first payload is sent
    std::span<char> chunk_{}; // of the source in front, not sent yet
    std::size_t writing_ = 0; // what the pending write, or the last one, was asked to write
    std::uint64_t dropped_ = 0;
    std::uint64_t conflated_ = 0;
};

} // namespace holdfast::detail

#endif
