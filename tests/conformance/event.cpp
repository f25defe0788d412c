// holdfast: the events' async_wait in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/async_event.hpp>

namespace {

template <class Event, holdfast::event_reset Reset>
struct wait : conformance::operation {
    static constexpr bool any_thread = std::is_same_v<Event, holdfast::async_event>;
    static constexpr bool unsynchronized = !any_thread;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : event(executor, {.reset = Reset}) {}

        template <class Token>
        auto start(Token&& token)
        {
            return event.async_wait(std::forward<Token>(token));
        }
        void complete()
        {
            event.set();
            event.set(); // of an automatic event, for a second wait
            event.set();
        }

        Event event;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(wait<holdfast::async_event, holdfast::event_reset::manual>);
HOLDFAST_CONFORMANCE(wait<holdfast::async_event, holdfast::event_reset::automatic>);
HOLDFAST_CONFORMANCE(wait<holdfast::unsynchronized_event, holdfast::event_reset::manual>);
