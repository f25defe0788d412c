// holdfast: async_close of a connection in the conformance matrix, over every layer.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"

#include <holdfast/connection_guard.hpp>

#include <utility>

namespace {

/// Waits for the peer's end of stream.
template <class Layer>
struct close_gracefully : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false; // the operation takes the connection over
    static constexpr bool outlives_context = false;
    static constexpr bool several = false;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor), guard(std::move(*ends.stream)) {}

        template <class Token>
        auto start(Token&& token)
        {
            return guard.async_close({.deadline = std::chrono::hours(1)}, std::forward<Token>(token));
        }
        void step() { ends.peer.write("discarded"); }
        void complete() { rest.end_stream_and_start(ends.peer.descriptor()); }

        typename Layer::template connected<Executor> ends;
        conformance::taker rest;
        holdfast::connection_guard<typename Layer::template stream<Executor>> guard;
    };
};

} // namespace

HOLDFAST_CONFORMANCE_OF_STREAMS(close_gracefully);
