// holdfast: shard_topic, which passes messages to all shards, each with a bounded queue.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SHARD_TOPIC_HPP
#define HOLDFAST_SHARD_TOPIC_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/shards/topic_core.hpp>
#include <holdfast/error.hpp>
#include <holdfast/outbox_options.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/shards.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Options of a `shard_topic`.
struct shard_topic_options {
    /// Maximum size of a shard's queue in bytes: the messages that the shard has not taken yet, and 64 for each
    /// message. At least 65.
    std::size_t max_queued_bytes = 1024 * 1024;
    /// What happens when a shard falls behind. `overflow_policy::drop_oldest`: its oldest messages are dropped; other
    /// shards get them. `overflow_policy::wait`: `publish()` refuses the message for all shards, and `async_publish()`
    /// waits until the slowest shard has made space. `overflow_policy::disconnect` is refused.
    overflow_policy on_overflow = overflow_policy::drop_oldest;
    /// A message of up to so many bytes is copied once for each shard, whose receivers then count their references
    /// without atomics. Of a larger one the receivers of all shards share the bytes.
    std::size_t max_copied_bytes = 4096;
};

/// What the queue of one shard has done since the topic was made, and what it holds.
struct shard_topic_counts {
    std::uint64_t delivered = 0; ///< Messages that were passed to the receiver.
    std::uint64_t dropped = 0; ///< Messages that `overflow_policy::drop_oldest`, or the end of the shard, has dropped.
    std::uint64_t conflated = 0;  ///< Messages that newer ones of their key have replaced.
    std::size_t queued = 0;       ///< Messages in the queue now.
    std::size_t queued_bytes = 0; ///< What counts against `max_queued_bytes` now.
};

/// Hands each published message to all shards: one message between threads for each shard, however many receivers the
/// shard has.
///
/// Each shard has a bounded queue, whose messages are passed to `receiver` on the shard's thread in the order of their
/// publication; the messages of publishers on several threads may have a different order in each shard. A message with
/// a `conflate` key replaces one of that key that a shard has not taken yet, and takes its place.
///
/// Lifetime: the topic may be destroyed before or after the shards. Destroying it drops what is queued and fails
/// pending operations with `errc::outbox_closed`; a call of the receiver may be under way on another thread then, so
/// the receiver should refer only to what the shard owns. When a shard has ended, the others still get messages. After
/// the context of its executor has ended, `publish()` may be called, `async_publish()` not.
///
/// Thread safety: all members may be called from any thread.
///
///     holdfast::shard_topic<shard> quotes{shards.context(0), shards,
///                                         [](shard& s, const holdfast::payload& quote) { s.subscribers.push(quote); }};
///     (void)quotes.publish(holdfast::payload("{\"bid\":1.25}\n"));
template <class Shard>
class shard_topic {
public:
    using executor_type = net::any_io_executor;

    /// Makes a topic. `receiver` is called as `receiver(Shard&, const payload&)`, or with the message's key as third
    /// argument, a `const std::optional<conflate>&`; one object for all shards, also at the same time. An exception
    /// leaves the shard's `run()`; the message counts as delivered, and later ones are delivered. The executor is that
    /// of `async_publish`.
    ///
    /// Exceptions: std::invalid_argument for an option out of range; std::bad_alloc.
    template <class Receiver>
        requires std::invocable<const Receiver&, Shard&, const payload&> ||
                     std::invocable<const Receiver&, Shard&, const payload&, const std::optional<conflate>&>
    shard_topic(executor_type executor, shards<Shard>& of, Receiver receiver, const shard_topic_options& options = {})
        : executor_(std::move(executor)),
          core_(std::make_shared<detail::topic_core>(
              of.links_, checked(options).max_queued_bytes, options.on_overflow == overflow_policy::wait,
              options.max_copied_bytes, caller<Receiver>{states_of(of), std::move(receiver)}))
    {
    }

    /// The same, on the executor of an execution context.
    template <class ExecutionContext, class Receiver>
        requires std::convertible_to<ExecutionContext&, net::execution_context&>
    shard_topic(ExecutionContext& context, shards<Shard>& of, Receiver receiver,
                const shard_topic_options& options = {})
        : shard_topic(executor_type(context.get_executor()), of, std::move(receiver), options)
    {
    }

    shard_topic(const shard_topic&) = delete;
    shard_topic& operator=(const shard_topic&) = delete;

    ~shard_topic() { core_->close(); }

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

    /// Queues the message for each shard; a payload for `payload_sharing::one_thread` is copied. Fails, for all of
    /// them, with
    /// - `errc::exceeds_limit`: the message is larger than a queue;
    /// - `errc::outbox_full`: the policy is `wait`, and a shard has no space;
    /// - `errc::outbox_closed`: all shards have ended.
    ///
    /// Exceptions: std::bad_alloc. Cost: one allocation, for each shard a short lock, and where its queue was empty one
    /// post to its context, which is a system call where its thread sleeps.
    [[nodiscard]] error_code publish(payload message) { return publish_one(std::move(message), {}); }

    /// The same for the newest value of a key. Cost: a search in the queue of each shard, too.
    [[nodiscard]] error_code publish(payload message, conflate key) { return publish_one(std::move(message), key); }

    /// Queues the message for each shard; where the policy is `wait`, waits for space first. Messages that wait are
    /// queued in the order of their calls.
    ///
    /// Completion: void(error_code), never inside this call; the errors of `publish()`, except `outbox_full`.
    ///
    /// Cancellation: terminal, partial and total; fails with `operation_aborted`, and the message is in no queue.
    ///
    /// Exceptions: std::bad_alloc; the handler is then destroyed.
    ///
    /// Cost: that of `publish()` and of `async_semaphore::async_acquire`.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code)>
    auto async_publish(payload message, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_publish(*this), token,
                                                                      std::move(message), std::optional<conflate>());
    }

    /// The same for the newest value of a key.
    template <class CompletionToken = default_token_t<executor_type>>
        requires net::completion_token_for<CompletionToken, void(error_code)>
    auto async_publish(payload message, conflate key, CompletionToken&& token = CompletionToken())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(initiate_publish(*this), token,
                                                                      std::move(message), std::optional<conflate>(key));
    }

    /// What the queue of a shard has done, and holds. Precondition: `shard` is less than the number of shards. Cost: a
    /// short lock.
    [[nodiscard]] shard_topic_counts counts(std::size_t shard) const noexcept
    {
        return core_->template counts<shard_topic_counts>(shard);
    }

private:
    class initiate_publish {
    public:
        using executor_type = shard_topic::executor_type;

        explicit initiate_publish(const shard_topic& topic) : core_(topic.core_), executor_(topic.executor_) {}

        [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

        template <class Handler>
        void operator()(Handler&& handler, payload message, std::optional<conflate> key) const
        {
            const std::size_t cost = core_->waits() ? detail::topic_core::cost_of(message) : 0;
            detail::topic_message::ptr owned = detail::topic_message::make(std::move(message), key, core_->shards());
            std::decay_t<Handler> taken(std::forward<Handler>(handler));
            if (!core_->waits()) {
                const error_code ec = core_->publish(std::move(owned));
                return detail::complete_at_once(executor_, std::move(taken), ec);
            }
            using completion = detail::publish_completion<std::decay_t<Handler>>;
            detail::start_acquire(core_->space, executor_, cost,
                                  completion(std::move(taken), executor_, core_, std::move(owned)));
        }

    private:
        std::shared_ptr<detail::topic_core> core_; // a deferred operation may be started after the topic has gone
        executor_type executor_;
    };

    /// Calls the receiver with a shard's state. The states stay where they are for as long as their contexts.
    template <class Receiver>
    struct caller {
        std::shared_ptr<const std::vector<Shard*>> states;
        Receiver receiver;

        void operator()(std::size_t shard, const payload& message, const std::optional<conflate>& key) const
        {
            if constexpr (std::invocable<const Receiver&, Shard&, const payload&, const std::optional<conflate>&>)
                receiver(*(*states)[shard], message, key);
            else
                receiver(*(*states)[shard], message);
        }
    };

    static std::shared_ptr<const std::vector<Shard*>> states_of(shards<Shard>& of)
    {
        auto states = std::make_shared<std::vector<Shard*>>();
        for (std::size_t i = 0; i != of.size(); ++i)
            states->push_back(&of[i]);
        return states;
    }

    static const shard_topic_options& checked(const shard_topic_options& o)
    {
        if (o.max_queued_bytes <= detail::topic_core::overhead)
            throw std::invalid_argument("shard_topic_options::max_queued_bytes must be at least 65");
        if (o.on_overflow != overflow_policy::drop_oldest && o.on_overflow != overflow_policy::wait)
            throw std::invalid_argument("shard_topic_options::on_overflow must be drop_oldest or wait");
        return o;
    }

    error_code publish_one(payload message, std::optional<conflate> key)
    {
        return core_->publish(detail::topic_message::make(std::move(message), key, core_->shards()));
    }

    executor_type executor_;
    std::shared_ptr<detail::topic_core> core_;
};

} // namespace holdfast

#endif
