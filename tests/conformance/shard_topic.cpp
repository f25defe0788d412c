// holdfast: shard_topic's async_publish in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/shard_topic.hpp>

#include <string>

namespace {

namespace net = holdfast::net;

/// Two shards, whose queues are full at first.
struct publish : conformance::operation {
    static constexpr bool any_thread = true;

    struct shard {};

    template <class Executor>
    struct object {
        explicit object(const Executor& executor)
            : shards(2, [](net::io_context&, std::size_t) { return shard(); }),
              topic(executor, shards, [](shard&, const holdfast::payload&) {},
                    {.max_queued_bytes = 1000, .on_overflow = holdfast::overflow_policy::wait})
        {
            if (topic.publish(holdfast::payload(std::string(936, 'x')))) std::abort();
        }

        template <class Token>
        auto start(Token&& token)
        {
            return topic.async_publish(holdfast::payload("y"), std::forward<Token>(token));
        }
        void complete()
        {
            shards.context(0).poll();
            shards.context(1).poll();
        }

        holdfast::shards<shard> shards;
        holdfast::shard_topic<shard> topic;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(publish);
