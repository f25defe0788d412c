// holdfast: the queues between the publishers of a shard_topic and its shards.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_SHARDS_TOPIC_CORE_HPP
#define HOLDFAST_DETAIL_SHARDS_TOPIC_CORE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/linkage.hpp>
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
#include <optional>
#include <span>
#include <utility>

namespace holdfast::detail {

/// A published message, in the list of each shard that has not taken it yet. One allocation: a link for each shard
/// follows it.
class topic_message {
public:
    using ptr = std::unique_ptr<topic_message, void (*)(topic_message*)>;

    HOLDFAST_DECL static ptr make(payload message, std::optional<conflate> key, std::size_t shards);

    topic_message(const topic_message&) = delete;

    topic_message*& next(std::size_t shard) noexcept { return reinterpret_cast<topic_message**>(this + 1)[shard]; }

    /// By each shard that has taken it, or lets it go. The last one gives its space back.
    HOLDFAST_DECL void drop() noexcept;

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

    HOLDFAST_DECL void destroy() noexcept;

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

    HOLDFAST_DECL topic_core(std::span<const std::shared_ptr<shard_link>> links, std::size_t max_bytes, bool waits,
                             std::size_t copied_bytes, receiver receive);

    ~topic_core() { close(); }

    [[nodiscard]] static std::size_t cost_of(const payload& message) noexcept { return message.size() + overhead; }
    [[nodiscard]] std::size_t shards() const noexcept { return shards_; }
    [[nodiscard]] bool waits() const noexcept { return waits_; }

    /// Without waiting.
    HOLDFAST_DECL error_code publish(topic_message::ptr message) noexcept;

    /// Puts the message into every queue. Where the policy waits, there is space.
    HOLDFAST_DECL error_code enqueue(topic_message::ptr owned) noexcept;

    /// No message is delivered from now on; pending operations fail.
    HOLDFAST_DECL void close() noexcept;

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

    [[nodiscard]] HOLDFAST_DECL bool open() const noexcept;

    HOLDFAST_DECL bool append(queue& to, std::size_t shard, topic_message& message, bool& wake) noexcept;

    /// Puts the message at the place of one of the same key, which it returns.
    HOLDFAST_DECL static topic_message* replace(queue& in, std::size_t shard, topic_message& message) noexcept;

    HOLDFAST_DECL static void push_back(queue& to, std::size_t shard, topic_message& message) noexcept;

    /// Under the lock; the queue is not empty.
    HOLDFAST_DECL static topic_message* take_first(queue& from, std::size_t shard) noexcept;

    HOLDFAST_DECL static void drop_all(topic_message* first, std::size_t shard) noexcept;

    /// Returns false where the shard has ended; its queue is closed then.
    HOLDFAST_DECL bool post(std::size_t shard) noexcept;

    HOLDFAST_DECL void close(std::size_t shard) noexcept;

    HOLDFAST_DECL void deliver(std::size_t shard);

    /// The payload for the receivers of one shard: without an atomic for each of them.
    [[nodiscard]] HOLDFAST_DECL payload local(const payload& message) const noexcept;

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

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/shards/impl/topic_core.ipp>
#endif

#endif
