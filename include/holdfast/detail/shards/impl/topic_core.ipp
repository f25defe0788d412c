// holdfast: the bodies of topic_core.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SHARDS_IMPL_TOPIC_CORE_IPP
#define HOLDFAST_DETAIL_SHARDS_IMPL_TOPIC_CORE_IPP

#include <holdfast/detail/shards/topic_core.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL topic_message::ptr topic_message::make(payload message, std::optional<conflate> key, std::size_t shards)
{
    if (message.sharing() == payload_sharing::one_thread) message = payload(message.text());
    void* const memory = ::operator new(sizeof(topic_message) + shards * sizeof(topic_message*));
    return {::new (memory) topic_message(std::move(message), key, shards), [](topic_message* m) { m->destroy(); }};
}

HOLDFAST_DECL void topic_message::drop() noexcept
{
    if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
}

HOLDFAST_DECL void topic_message::destroy() noexcept
{
    const auto kept = std::move(space); // its return may complete an operation: after the memory is free
    this->~topic_message();
    ::operator delete(this);
}

HOLDFAST_DECL topic_core::topic_core(std::span<const std::shared_ptr<shard_link>> links, std::size_t max_bytes,
                                     bool waits, std::size_t copied_bytes, receiver receive)
    : space(new semaphore(max_bytes, SIZE_MAX)),
      queues_(std::make_unique<queue[]>(links.size())),
      shards_(links.size()),
      max_bytes_(max_bytes),
      waits_(waits),
      copied_bytes_(copied_bytes),
      receive_(std::move(receive))
{
    for (std::size_t i = 0; i != shards_; ++i)
        queues_[i].link = links[i];
}

HOLDFAST_DECL error_code topic_core::publish(topic_message::ptr message) noexcept
{
    const std::size_t cost = cost_of(message->message);
    if (cost > max_bytes_) return errc::exceeds_limit;
    if (waits_) {
        message->space = space->try_take(cost);
        if (!message->space) return open() ? errc::outbox_full : errc::outbox_closed;
    }
    return enqueue(std::move(message));
}

HOLDFAST_DECL error_code topic_core::enqueue(topic_message::ptr owned) noexcept
{
    topic_message* const message = owned.release();
    bool any = false;
    for (std::size_t i = 0; i != shards_; ++i) {
        bool wake = false;
        if (!append(queues_[i], i, *message, wake)) {
            message->drop();
            continue;
        }
        if (!wake || post(i)) any = true;
    }
    return any ? error_code() : errc::outbox_closed;
}

HOLDFAST_DECL void topic_core::close() noexcept
{
    for (std::size_t i = 0; i != shards_; ++i)
        close(i);
    space->close(errc::outbox_closed);
}

HOLDFAST_DECL void topic_core::close(std::size_t shard) noexcept
{
    topic_message* rest = nullptr;
    {
        queue& q = queues_[shard];
        const std::lock_guard lock(q.mutex);
        q.closed = true;
        rest = std::exchange(q.first, nullptr);
        q.last = nullptr;
        q.counts.dropped += std::exchange(q.counts.queued, 0);
        q.counts.queued_bytes = 0;
    }
    drop_all(rest, shard);
}

HOLDFAST_DECL bool topic_core::open() const noexcept
{
    for (std::size_t i = 0; i != shards_; ++i) {
        const std::lock_guard lock(queues_[i].mutex);
        if (!queues_[i].closed && !queues_[i].link->ended()) return true;
    }
    return false;
}

HOLDFAST_DECL bool topic_core::append(queue& to, std::size_t shard, topic_message& message, bool& wake) noexcept
{
    topic_message* dropped = nullptr; // destroyed without the lock
    {
        const std::lock_guard lock(to.mutex);
        if (to.closed) return false;
        topic_message* const older = message.key ? replace(to, shard, message) : nullptr;
        if (older != nullptr) {
            older->next(shard) = nullptr;
            dropped = older;
            ++to.counts.conflated;
            to.counts.queued_bytes += cost_of(message.message);
            to.counts.queued_bytes -= cost_of(older->message);
        } else {
            push_back(to, shard, message);
        }
        while (!waits_ && to.counts.queued_bytes > max_bytes_) {
            topic_message* const oldest = take_first(to, shard);
            if (oldest == &message) { // it took an old one's place; alone it fits
                push_back(to, shard, message);
                continue;
            }
            ++to.counts.dropped;
            oldest->next(shard) = dropped;
            dropped = oldest;
        }
        wake = !std::exchange(to.posted, true);
    }
    drop_all(dropped, shard);
    return true;
}

HOLDFAST_DECL topic_message* topic_core::replace(queue& in, std::size_t shard, topic_message& message) noexcept
{
    topic_message* previous = nullptr;
    for (topic_message* each = in.first; each != nullptr; previous = std::exchange(each, each->next(shard))) {
        if (!each->has_key(*message.key)) continue;
        message.next(shard) = each->next(shard);
        (previous != nullptr ? previous->next(shard) : in.first) = &message;
        if (in.last == each) in.last = &message;
        return each;
    }
    return nullptr;
}

HOLDFAST_DECL void topic_core::push_back(queue& to, std::size_t shard, topic_message& message) noexcept
{
    message.next(shard) = nullptr;
    (to.last != nullptr ? to.last->next(shard) : to.first) = &message;
    to.last = &message;
    ++to.counts.queued;
    to.counts.queued_bytes += cost_of(message.message);
}

HOLDFAST_DECL topic_message* topic_core::take_first(queue& from, std::size_t shard) noexcept
{
    topic_message* const first = from.first;
    from.first = first->next(shard);
    if (from.first == nullptr) from.last = nullptr;
    --from.counts.queued;
    from.counts.queued_bytes -= cost_of(first->message);
    return first;
}

HOLDFAST_DECL void topic_core::drop_all(topic_message* first, std::size_t shard) noexcept
{
    while (first != nullptr) {
        topic_message* const next = first->next(shard);
        first->drop();
        first = next;
    }
}

HOLDFAST_DECL bool topic_core::post(std::size_t shard) noexcept
{
    try {
        if (queues_[shard].link->post(delivery(shared_from_this(), shard))) return true;
    } catch (...) { // the storage suffices: only where an Asio of the future needs more, and there is no memory
    }
    close(shard);
    return false;
}

HOLDFAST_DECL void topic_core::deliver(std::size_t shard)
{
    queue& q = queues_[shard];
    struct post_again { // also where the receiver throws
        ~post_again()
        {
            if (rest) (void)core.post(at);
        }
        topic_core& core;
        std::size_t at;
        bool rest = true;
    } again{*this, shard};
    for (std::size_t n = 0; n != messages_a_turn; ++n) {
        topic_message* taken = nullptr;
        {
            const std::lock_guard lock(q.mutex);
            if (q.first == nullptr) {
                again.rest = q.posted = false;
                return;
            }
            taken = take_first(q, shard);
            ++q.counts.delivered;
        }
        const topic_message::ptr message(taken, [](topic_message* m) { m->drop(); });
        receive_(shard, local(message->message), message->key);
    }
}

HOLDFAST_DECL payload topic_core::local(const payload& message) const noexcept
{
    if (message.size() > copied_bytes_) return message;
    try {
        return payload(message.text(), payload_sharing::one_thread);
    } catch (const std::bad_alloc&) {
        return message;
    }
}

} // namespace holdfast::detail

#endif
