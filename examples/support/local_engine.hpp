// holdfast: the engine of a node that is alone: what it publishes comes back at once.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LOCAL_ENGINE_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LOCAL_ENGINE_HPP

#include "message_engine.hpp"

#include <holdfast/replay_ring.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// Gives consecutive ids: the epoch of a ring, a hyphen, and a number. It keeps nothing: the node's ring does.
class local_engine final : public message_engine {
public:
    /// Continues after `last`, the last message of the node's ring.
    explicit local_engine(const holdfast::replay_position& last) : message_engine(true, {}), newest_(last) {}

    void subscribe(std::string, engine_events events) override
    {
        events_ = std::move(events);
        report_caught_up();
    }

    void publish(std::string_view text, std::function<void(std::string_view)> done) override
    {
        ++newest_.id;
        const std::string id = to_string(newest_);
        if (events_.on_message) events_.on_message(id, text);
        if (done) done(id);
    }

private:
    holdfast::replay_position newest_;
};

} // namespace examples

#endif
