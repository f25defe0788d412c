// holdfast: the queues between the publishers of a shard_topic and its shards.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SHARDS_TOPIC_CORE_HPP
#define HOLDFAST_DETAIL_SHARDS_TOPIC_CORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/shards/shard_link.hpp>
#include <holdfast/error.hpp>
#include <holdfast/outbox_options.hpp>
#include <holdfast/payload.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace holdfast::detail {

/// A published message, in the list of each shard that has not taken it yet. One allocation: a link for each shard
/// follows it.
class topic_message {
public:
    using ptr = std::unique_ptr<topic_message, void (*)(topic_message*)>;

    static ptr make(payload message, std::optional<conflate> key, std::size_t shards)
    {
        if (message.sharing() == payload_sharing::one_thread) message = payload(message.text());
        void* const memory = ::operator new(sizeof(topic_message) + shards * sizeof(topic_message*));
        return {::new (memory) topic_message(std::move(message), key, shards), [](topic_message* m) { m->destroy(); }};
    }

    topic_message(const topic_message&) = delete;

    topic_message*& next(std::size_t shard) noexcept { return reinterpret_cast<topic_message**>(this + 1)[shard]; }

    /// By each shard that has taken it, or lets it go. The last one gives its space back.
    void drop() noexcept
    {
        if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
    }

    [[nodiscard]] bool has_key(const conflate& other) const noexcept { return key && key->key == other.key; }

    const payload message;
    const std::optional<conflate> key;
    basic_permit<synchronized> space; // of overflow_policy::wait

private:
    topic_message(payload m, std::optional<conflate> k, std::size_t shards) noexcept
        : message(std::move(m)), key(k), owners_(static_cast<std::uint32_t>(shards))
    {
    }
    ~topic_message() = default;

    void destroy() noexcept
    {
        const auto kept = std::move(space); // its return may complete an operation: after the memory is free
        this->~topic_message();
        ::operator delete(this);
    }

    std::atomic<std::uint32_t> owners_;
};
static_assert(alignof(topic_message) >= alignof(topic_message*) &&
              sizeof(topic_message) % alignof(topic_message*) == 0);

/// What a queue of a topic has done, and holds.
struct topic_counts {
    std::uint64_t delivered = 0;
    std::uint64_t dropped = 0;
    std::uint64_t conflated = 0;
    std::size_t queued = 0;
    std::size_t queued_bytes = 0;
};

/// Shared by the topic, its pending operations, and the deliveries that are posted to the shards' contexts.
class topic_core : public std::enable_shared_from_this<topic_core> {
public:
    using receiver = std::function<void(std::size_t, const payload&, const std::optional<conflate>&)>;
    using semaphore = semaphore_core<synchronized>;

    /// Bytes of a message beside its own.
    static constexpr std::size_t overhead = 64;
    static constexpr std::size_t messages_a_turn = 64;

    topic_core(std::span<const std::shared_ptr<shard_link>> links, std::size_t max_bytes, bool waits,
               std::size_t copied_bytes, receiver receive)
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

    ~topic_core() { close(); }

    [[nodiscard]] static std::size_t cost_of(const payload& message) noexcept { return message.size() + overhead; }
    [[nodiscard]] std::size_t shards() const noexcept { return shards_; }
    [[nodiscard]] bool waits() const noexcept { return waits_; }

    /// Without waiting.
    error_code publish(topic_message::ptr message) noexcept
    {
        const std::size_t cost = cost_of(message->message);
        if (cost > max_bytes_) return errc::exceeds_limit;
        if (waits_) {
            message->space = space->try_take(cost);
            if (!message->space) return open() ? errc::outbox_full : errc::outbox_closed;
        }
        return enqueue(std::move(message));
    }

    /// Puts the message into every queue. Where the policy waits, there is space.
    error_code enqueue(topic_message::ptr owned) noexcept
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

    /// No message is delivered from now on; pending operations fail.
    void close() noexcept
    {
        for (std::size_t i = 0; i != shards_; ++i)
            close(i);
        space->close(errc::outbox_closed);
    }

    template <class Counts>
    [[nodiscard]] Counts counts(std::size_t shard) const noexcept
    {
        const std::lock_guard lock(queues_[shard].mutex);
        const topic_counts& now = queues_[shard].counts;
        return {now.delivered, now.dropped, now.conflated, now.queued, now.queued_bytes};
    }

    const counted_ptr<semaphore> space; // bytes that no shard has to take any more

private:
    struct alignas(64) queue { // no cache line in common with another shard's
        mutable std::mutex mutex;
        topic_message* first = nullptr;
        topic_message* last = nullptr;
        topic_counts counts;
        bool posted = false;
        bool closed = false;
        std::shared_ptr<shard_link> link;
        op_storage_of<192> storage; // of the posted delivery, of which there is one at most
    };

    /// Takes the messages of a shard's queue, in its context.
    class delivery {
    public:
        using allocator_type = op_allocator<std::byte, op_storage_of<192>>;

        delivery(std::shared_ptr<topic_core> core, std::size_t shard) noexcept : core_(std::move(core)), shard_(shard)
        {
        }
        delivery(delivery&&) noexcept = default;
        delivery(const delivery&) = delete;
        ~delivery()
        {
            if (core_) core_->close(shard_); // the context has ended
        }

        allocator_type get_allocator() const noexcept { return allocator_type(core_->queues_[shard_].storage); }

        void operator()()
        {
            const auto core = std::move(core_);
            core->deliver(shard_);
        }

    private:
        std::shared_ptr<topic_core> core_;
        std::size_t shard_;
    };

    [[nodiscard]] bool open() const noexcept
    {
        for (std::size_t i = 0; i != shards_; ++i) {
            const std::lock_guard lock(queues_[i].mutex);
            if (!queues_[i].closed && !queues_[i].link->ended()) return true;
        }
        return false;
    }

    bool append(queue& to, std::size_t shard, topic_message& message, bool& wake) noexcept
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

    /// Puts the message at the place of one of the same key, which it returns.
    static topic_message* replace(queue& in, std::size_t shard, topic_message& message) noexcept
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

    static void push_back(queue& to, std::size_t shard, topic_message& message) noexcept
    {
        message.next(shard) = nullptr;
        (to.last != nullptr ? to.last->next(shard) : to.first) = &message;
        to.last = &message;
        ++to.counts.queued;
        to.counts.queued_bytes += cost_of(message.message);
    }

    /// Under the lock; the queue is not empty.
    static topic_message* take_first(queue& from, std::size_t shard) noexcept
    {
        topic_message* const first = from.first;
        from.first = first->next(shard);
        if (from.first == nullptr) from.last = nullptr;
        --from.counts.queued;
        from.counts.queued_bytes -= cost_of(first->message);
        return first;
    }

    static void drop_all(topic_message* first, std::size_t shard) noexcept
    {
        while (first != nullptr) {
            topic_message* const next = first->next(shard);
            first->drop();
            first = next;
        }
    }

    /// Returns false where the shard has ended; its queue is closed then.
    bool post(std::size_t shard) noexcept
    {
        try {
            if (queues_[shard].link->post(delivery(shared_from_this(), shard))) return true;
        } catch (...) { // the storage suffices: only where an Asio of the future needs more, and there is no memory
        }
        close(shard);
        return false;
    }

    void close(std::size_t shard) noexcept
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

    void deliver(std::size_t shard)
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

    /// The payload for the receivers of one shard: without an atomic for each of them.
    [[nodiscard]] payload local(const payload& message) const noexcept
    {
        if (message.size() > copied_bytes_) return message;
        try {
            return payload(message.text(), payload_sharing::one_thread);
        } catch (const std::bad_alloc&) {
            return message;
        }
    }

    const std::unique_ptr<queue[]> queues_;
    const std::size_t shards_;
    const std::size_t max_bytes_;
    const bool waits_;
    const std::size_t copied_bytes_;
    const receiver receive_;
};

/// The completion of the wait for space: queues the message, and calls the handler.
template <class Handler>
class publish_completion {
public:
    using executor_type = net::associated_executor_t<Handler, net::any_io_executor>;
    using allocator_type = net::associated_allocator_t<Handler>;
    using cancellation_slot_type = net::associated_cancellation_slot_t<Handler>;

    publish_completion(Handler&& handler, const net::any_io_executor& fallback, std::shared_ptr<topic_core> core,
                       topic_message::ptr message)
        : handler_(std::move(handler)), fallback_(fallback), core_(std::move(core)), message_(std::move(message))
    {
    }

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_, fallback_); }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return net::get_associated_cancellation_slot(handler_);
    }

    void operator()(error_code ec, basic_permit<synchronized> space)
    {
        if (!ec) {
            message_->space = std::move(space);
            ec = core_->enqueue(std::move(message_));
        }
        message_.reset();
        core_.reset();
        std::move(handler_)(ec);
    }

private:
    Handler handler_;
    net::any_io_executor fallback_;
    std::shared_ptr<topic_core> core_;
    topic_message::ptr message_;
};

} // namespace holdfast::detail

#endif
